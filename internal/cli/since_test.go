package cli

import (
	"testing"
	"time"
)

func TestSince(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("east", 3600)
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, zone)
	for value, want := range map[string]time.Time{
		"90m": now.Add(-90 * time.Minute), "7d": now.AddDate(0, 0, -7), "0s": now,
		"2026-11-01": time.Date(2026, 11, 1, 0, 0, 0, 0, zone), "2026-11-01 10:20:30": time.Date(2026, 11, 1, 10, 20, 30, 0, zone),
		"2026-11-01T10:20:30Z": time.Date(2026, 11, 1, 10, 20, 30, 0, time.UTC),
	} {
		if got, err := Since(value, now); err != nil || !got.Equal(want) {
			t.Errorf("%s is %s, %v, want %s", value, got, err, want)
		}
	}
	for _, value := range []string{"", "d", "-1h", "7", "yesterday", "2026-13-01"} {
		if got, err := Since(value, now); !IsUsage(err) {
			t.Errorf("%q is %s, %v, want an error of usage", value, got, err)
		}
	}
}
