package backendapi

import (
	"sync"
	"time"
)

// A RateLimit is how many requests an instance may make in a window of time.
// Requests 0 means as many as it likes.
type RateLimit struct {
	Requests int
	Window   time.Duration
}

// DefaultRateLimit is that of a production instance; a development instance
// has 100 in 10 s.
var DefaultRateLimit = RateLimit{Requests: 1000, Window: 10 * time.Second}

// A limiter counts the requests of each instance in windows that begin with
// the first request after the last window's end.
type limiter struct {
	limit RateLimit

	mu      sync.Mutex
	windows map[string]*window // by instance id
}

type window struct {
	start time.Time
	count int
}

func newLimiter(limit RateLimit) *limiter {
	return &limiter{limit: limit, windows: map[string]*window{}}
}

// take counts a request; if it is one too many it answers how long to wait.
func (l *limiter) take(instanceID string, now time.Time) (wait time.Duration, ok bool) {
	if l.limit.Requests <= 0 {
		return 0, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.windows[instanceID]
	// A clock that was set back begins a window too, lest it be shut for hours.
	if w == nil || now.Sub(w.start) >= l.limit.Window || now.Before(w.start) {
		w = &window{start: now}
		l.windows[instanceID] = w
	}
	if w.count >= l.limit.Requests {
		return w.start.Add(l.limit.Window).Sub(now), false
	}
	w.count++
	return 0, true
}
