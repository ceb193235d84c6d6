package backendapi_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/emulator/nodetest"
)

// Clerk's own library for JavaScript, unchanged but for the address.
func TestClerkBackend(t *testing.T) {
	t.Parallel()
	f := start(t)
	input := must(json.Marshal(map[string]string{"apiUrl": strings.TrimSuffix(f.url, "/v1"), "secretKey": f.in.SecretKey}))
	out := nodetest.Run(t, "requests.mjs", input)
	if held, err := strconv.Atoi(strings.TrimSpace(string(out))); err != nil || held < 40 {
		t.Errorf("requests.mjs printed %q, want the number of its checks", out)
	}
	if len(f.in.Users()) != 2 || len(f.in.Organizations()) != 1 {
		t.Errorf("%d users and %d organizations are left, want 2 and 1", len(f.in.Users()), len(f.in.Organizations()))
	}
}
