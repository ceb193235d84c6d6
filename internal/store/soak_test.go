//go:build soak

package store

import "testing"

func TestSoakGainsAColumn(t *testing.T) {
	t.Parallel()
	testGainsAColumn(t, 100_000)
}
