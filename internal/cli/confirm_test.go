package cli

import (
	"context"
	"net"
	"strings"
	"testing"
)

func TestConfirm(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]bool{"y\n": true, "YES\n": true, "yes": true, "n\n": false, "\n": false, "": false, "yess\n": false} {
		var asked strings.Builder
		if err := Confirm(t.Context(), strings.NewReader(answer), &asked, "Delete 2 letters?"); (err == nil) != want || asked.String() != "Delete 2 letters? [y/N] " {
			t.Errorf("%q: %v, asked %q", answer, err, asked.String())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	silent, _ := net.Pipe()
	defer silent.Close()
	if err := Confirm(ctx, silent, &strings.Builder{}, ""); err == nil {
		t.Error("an interrupt is no yes")
	}
}
