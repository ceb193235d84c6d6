package identity_test

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/identity"
)

// What deploy/docs/auth.md gives to people who write for Node.
func TestDocumentedNode(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("node"); err != nil {
		if os.Getenv("ROLLCALL_TEST_NODE") != "" {
			t.Fatal(err)
		}
		t.Skip("NOT TESTED: there is no node here")
	}
	page, err := os.ReadFile("../../deploy/docs/auth.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```js\n")
	code, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("the page has no JavaScript")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "identity.mjs"), []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	issuer, err := identity.New(seed, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := identity.New([]byte(strings.Repeat("x", identity.MinSeed)), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(issuer)
	t.Cleanup(server.Close)
	good, err := issuer.Sign(ada, "orders")
	if err != nil {
		t.Fatal(err)
	}
	bad, err := stranger.Sign(ada, "orders")
	if err != nil {
		t.Fatal(err)
	}
	const script = `import { identity } from './identity.mjs';
const [url, good, bad] = process.argv.slice(1);
const claims = await identity(good, url, 'orders');
console.log(claims.sub, claims.org_id, claims.org_permissions.join());
const [h, p, s] = good.split('.');
for (const [token, audience] of [[good, 'billing'], [bad, 'orders'], [h + '.' + p + '.' + s.slice(0, -6) + 'AAAAAA', 'orders']]) {
  console.log(await identity(token, url, audience).then(() => 'accepted', e => e.message));
}`
	node := exec.CommandContext(t.Context(), "node", "--input-type=module", "-e", script, server.URL, good, bad)
	node.Dir = dir
	out, err := node.CombinedOutput()
	if want := "user_1 org_1 org:invoices:read\nexpired, or for another service\nnot signed by the gateway\nnot signed by the gateway\n"; err != nil || string(out) != want {
		t.Errorf("%v\n%s", err, out)
	}
}
