package streams

import (
	"math"
	"strconv"
	"time"
)

// Millis is a time inside data, which Clerk sends in milliseconds since 1970.
// It is the zero time where Clerk sends null, nothing, or something else.
type Millis struct {
	time.Time
}

// UnmarshalJSON reads a JSON number. It never fails, so that a single odd
// field does not cost the whole payload.
func (m *Millis) UnmarshalJSON(data []byte) error {
	m.Time = time.Time{}
	if ms, ok := parseNumber(string(data)); ok {
		m.Time = unixMilli(ms)
	}
	return nil
}

// MarshalJSON writes milliseconds, and null for the zero time.
func (m Millis) MarshalJSON() ([]byte, error) {
	if m.IsZero() {
		return []byte("null"), nil
	}
	return strconv.AppendInt(nil, m.UnixMilli(), 10), nil
}

// lastMilli is the end of the year 9999, beyond which neither RFC 3339 nor
// most databases go.
const lastMilli = 253402300799999

// unixMilli is the zero time for what cannot be a time.
func unixMilli(ms int64) time.Time {
	if ms > lastMilli || ms < -lastMilli {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// parseNumber reads a JSON number as an integer, cutting off a fraction.
func parseNumber(s string) (int64, bool) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || math.Abs(f) > 1<<62 {
		return 0, false
	}
	return int64(f), true
}
