package auth_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/gateway"
	"github.com/rollcall-dev/rollcall/internal/identity"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

// newEdge is a gateway in front of a service, as `rollcall run gateway` serves it. ask
// returns whom the service is told of, or why the request didn't reach it.
func newEdge(t *testing.T, v *auth.Verifier) (ask func(request) verdict) {
	t.Helper()
	reached := 0 // by one request after the other
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached++
		_ = json.NewEncoder(w).Encode(verdict{UserID: r.Header.Get(auth.HeaderUserID), OrgID: r.Header.Get(auth.HeaderOrgID)})
	}))
	t.Cleanup(service.Close)
	issuer := must[*identity.Issuer](t)(identity.New(bytes.Repeat([]byte("s"), identity.MinSeed), time.Now))
	g := must[*gateway.Gateway](t)(gateway.New(gateway.Options{
		Verifier: v, Signer: issuer, Log: zap.NewNop(), Metrics: gateway.NewMetrics(prometheus.NewRegistry()),
		Routes: []gateway.Route{{Path: "/", Upstream: must[*url.URL](t)(url.Parse(service.URL)), Timeout: 10 * time.Second}},
	}))
	ln := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	ended := make(chan error, 1)
	go func() { ended <- gateway.Serve(t.Context(), ln, g, zap.NewNop()) }()
	t.Cleanup(func() {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	return func(c request) (out verdict) {
		t.Helper()
		r := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+ln.Addr().String()+"/orders", nil))
		for name, value := range c.Headers {
			r.Header.Set(name, value)
		}
		before := reached
		resp := must[*http.Response](t)(client.Do(r))
		defer func() { _ = resp.Body.Close() }()
		body := must[[]byte](t)(io.ReadAll(resp.Body))
		var refused struct{ Errors []struct{ Code string } }
		switch err := json.Unmarshal(body, &refused); {
		case resp.StatusCode == http.StatusOK:
			if err := json.Unmarshal(body, &out); err != nil || out.UserID == "" {
				t.Errorf("%s: the service was told of nobody: %s, %v", c.Name, body, err)
			}
		case err != nil || len(refused.Errors) != 1:
			t.Errorf("%s: answered %d %s", c.Name, resp.StatusCode, body)
		default:
			out.Reason = refused.Errors[0].Code
			if reached != before {
				t.Errorf("%s: refused (%s), and the service saw it", c.Name, out.Reason)
			}
		}
		return out
	}
}
