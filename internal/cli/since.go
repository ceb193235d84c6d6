package cli

import (
	"strconv"
	"strings"
	"time"
)

// Since reads when something began: how long before now (90m, 36h, 7d), or a
// time (2026-11-23, "2026-11-23 16:57:41", both local, or RFC 3339).
func Since(value string, now time.Time) (time.Time, error) {
	if days, err := strconv.ParseUint(strings.TrimSuffix(value, "d"), 10, 16); err == nil && strings.HasSuffix(value, "d") {
		return now.AddDate(0, 0, -int(days)), nil
	}
	if d, err := time.ParseDuration(value); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.DateOnly, time.DateTime} {
		if t, err := time.ParseInLocation(layout, value, now.Location()); err == nil {
			return t, nil
		}
	}
	if t, err := time.Parse(time.RFC3339, value); err == nil {
		return t, nil
	}
	return time.Time{}, Usagef("%q is no time: give how long ago (90m, 36h, 7d) or when (2026-11-23, \"2026-11-23 16:57:41\", 2026-11-23T16:57:41Z)", value)
}
