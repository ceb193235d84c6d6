package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rollcall-dev/rollcall/streams/auth"
)

func TestGateway(t *testing.T) {
	t.Parallel()
	const file = `
gateway:
  trusted_proxies: [10.0.0.0/8, "::1"]
  routes:
    - {path: /api/invoices, upstream: "http://127.0.0.1:9001", require: {organization: true, permission: "org:invoices:read"}}
    - {host: App.example, path: /api/, upstream: "h2c://127.0.0.1:9000/v1", strip_prefix: /api, audience: orders, timeout: 5s, max_body: 0}
    - {path: /public/, upstream: "http://127.0.0.1:9000", public: true, log_one_in: 0}`
	got := load(t, file, map[string]string{
		"ROLLCALL_GATEWAY_ROUTES_1_REQUIRE_ROLE": "admin", "ROLLCALL_GATEWAY_ROUTES_3_PATH": "/more",
		"ROLLCALL_IDENTITY_SEED": strings.Repeat("s", 32), "CLERK_PUBLISHABLE_KEY": "pk_live_x",
	})
	route := func(change func(*Route)) Route {
		r := Route{Timeout: 30 * time.Second, MaxBody: 10 << 20, LogOneIn: 1}
		change(&r)
		return r
	}
	want := Gateway{
		Addr: ":8082", MaxTokenLife: 10 * time.Minute, TrustedProxies: []string{"10.0.0.0/8", "::1"}, Revocation: GatewayRevocation{OnStale: "closed"},
		Routes: []Route{
			route(func(r *Route) {
				r.Path, r.Upstream, r.Require = "/api/invoices", "http://127.0.0.1:9001", Require{Organization: true, Permission: "org:invoices:read"}
			}),
			route(func(r *Route) {
				r.Host, r.Path, r.Upstream, r.StripPrefix, r.Audience = "app.example", "/api/", "h2c://127.0.0.1:9000/v1", "/api", "orders"
				r.Timeout, r.MaxBody, r.Require.Role = 5*time.Second, 0, "admin"
			}),
			route(func(r *Route) {
				r.Path, r.Upstream, r.Public, r.LogOneIn = "/public/", "http://127.0.0.1:9000", true, 0
			}),
			route(func(r *Route) { r.Path = "/more" }),
		},
	}
	if d := cmp.Diff(want, got.Gateway, cmpopts.IgnoreUnexported(Gateway{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if err := got.RequireGateway(); err != nil || !got.Gateway.Configured() {
		t.Errorf("%v, configured %t", err, got.Gateway.Configured())
	}
	if auth.Requirements(want.Routes[0].Require).Permission != "org:invoices:read" {
		t.Error("the requirements' fields are in another order")
	}
	var printed strings.Builder
	if err := got.Print(&printed); err != nil || strings.Contains(printed.String(), "sss") {
		t.Errorf("%v; the seed is shown:\n%s", err, printed.String())
	}

	bare := load(t, "", nil)
	const lacking = "rollcall.yaml: identity.seed isn't set; set ROLLCALL_IDENTITY_SEED (openssl rand -base64 32), or identity.seed in rollcall.yaml\n" +
		"rollcall.yaml: instance.publishable_key isn't set; set CLERK_PUBLISHABLE_KEY, or instance.publishable_key in rollcall.yaml"
	if err := bare.RequireGateway(); err == nil || err.Error() != lacking || bare.Gateway.Configured() {
		t.Errorf("%v, configured %t", err, bare.Gateway.Configured())
	}
	if !load(t, "gateway:", nil).Gateway.Configured() {
		t.Error("an empty section asks for no gateway")
	}
}
