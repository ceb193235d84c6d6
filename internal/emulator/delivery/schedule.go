package delivery

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Svix's times, before they are scaled.
const (
	rotatedFor   = 24 * time.Hour     // a rotated-out secret goes on signing
	disableAfter = 5 * 24 * time.Hour // of nothing but failures
	failuresPart = 24 * time.Hour     // failures further apart than this aren't one row
	jitter       = 0.2                // of a wait, either way
)

// schedule is what Svix waits after each failure; after the last it gives up.
var schedule = [...]time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute,
	2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 10 * time.Hour,
}

func scaled(d time.Duration, by float64) time.Duration { return time.Duration(float64(d) * by) }

// retryIn is how long a job waits after a failure, and whether it is tried again
// at all. The receiver may ask for more than the schedule's wait by Retry-After,
// up to twice as much.
func (s *Sender) retryIn(j *job, retryAfter string) (time.Duration, bool) {
	if j.try >= len(schedule) {
		return 0, false
	}
	wait := schedule[j.try]
	if asked, ok := parseRetryAfter(retryAfter, s.cfg.Clock()); ok {
		wait = min(max(asked, wait), 2*wait)
	} else if s.cfg.Jitter {
		r := rand.New(rand.NewPCG(s.seed, mix(j.d.m.sequence)+uint64(j.try)))
		wait = scaled(wait, 1-jitter+2*jitter*r.Float64())
	}
	return scaled(wait, s.cfg.RetryScale), true
}

// parseRetryAfter reads seconds or an HTTP date.
func parseRetryAfter(v string, now time.Time) (time.Duration, bool) {
	v = strings.TrimSpace(v)
	if seconds, err := strconv.ParseUint(v, 10, 32); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	if at, err := http.ParseTime(v); err == nil {
		return at.Sub(now), true
	}
	return 0, false
}
