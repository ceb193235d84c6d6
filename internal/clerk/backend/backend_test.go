package backend

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// clerk answers one request after the other; the last answer again and again.
func clerk(t *testing.T, answers ...http.HandlerFunc) *Client {
	t.Helper()
	n := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		answers[min(n, len(answers))-1](w, r)
	}))
	t.Cleanup(s.Close)
	return New(Options{URL: s.URL + "/", SecretKey: "sk_test_1", Rate: 1000, GiveUp: time.Second})
}

func says(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body)) // the client's loss
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	date := time.Date(2026, 5, 12, 1, 2, 3, 0, time.UTC)
	c := clerk(t,
		says(429, `{}`, "Retry-After", "1"), says(500, `oops`), says(200, `{"data":[{"id":"a"},{"id":`), says(200, `[]`, "Date", ""), says(200, `{"data":1}`),
		func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer sk_test_1" || r.Header.Get("Clerk-API-Version") != Version || r.URL.String() != "/v1/roles?limit=2" {
				t.Errorf("%s %v", r.URL, r.Header)
			}
			time.Sleep(50 * time.Millisecond) // what the request takes is no part of Clerk's clock
			says(200, ` {"data":[{"id":"a","n":1e400},{"id":"b"}],"total_count":7}`, "Date", date.Format(http.TimeFormat))(w, r)
		})
	c.o.GiveUp = time.Minute
	p, err := c.List(t.Context(), "/roles", map[string][]string{"limit": {"2"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Rows) != 2 || string(p.Rows[0]) != `{"id":"a","n":1e400}` || p.Total != 7 || p.At.After(date.Add(-50*time.Millisecond)) || p.At.Before(date.Add(-10*time.Second)) {
		t.Errorf("%s %d %s", p.Rows, p.Total, p.At)
	}
	if got := c.Counts(); got.Requests != 6 || got.Limited != 1 || got.Failed != 4 {
		t.Errorf("%+v", got)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	if _, err := clerk(t, says(401, `{}`)).List(t.Context(), "/users", nil); !errors.Is(err, ErrSecretKey) {
		t.Errorf("401: %v", err)
	}
	var refused *RefusedError
	_, err := clerk(t, says(403, `{"errors":[{"code":"organization_not_enabled_in_instance","message":"no"}]}`)).List(t.Context(), "/organizations", nil)
	if !errors.As(err, &refused) || refused.Code != "organization_not_enabled_in_instance" {
		t.Errorf("403: %v", err)
	}
	if _, err := clerk(t, says(302, ``, "Location", "http://127.0.0.1:1/")).List(t.Context(), "/users", nil); !errors.As(err, &refused) {
		t.Errorf("302: %v", err)
	}
	if _, err := clerk(t, says(503, ``)).List(t.Context(), "/users", nil); err == nil || !strings.Contains(err.Error(), "has failed for") {
		t.Errorf("503 for ever: %v", err)
	}
}

// Only Clerk's own word that it has no such object counts.
func TestGone(t *testing.T) {
	t.Parallel()
	const none = `{"errors":[{"code":"resource_not_found","message":"not found"}]}`
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		gone   bool
		failed bool
	}{
		"there":         {says(200, `{"id":"user_1"}`), false, false},
		"gone":          {says(404, none), true, false},
		"a proxy's 404": {says(404, `<html>`), false, true},
		"no clock":      {says(404, none, "Date", ""), false, true},
		"wrong key":     {says(401, `{}`), false, true},
	} {
		gone, at, err := clerk(t, c.answer).Gone(t.Context(), "/users/user_1")
		if gone != c.gone || (err != nil) != c.failed || gone && time.Since(at).Abs() > time.Minute {
			t.Errorf("%s: %v %s %v", name, gone, at, err)
		}
	}
}

// Half a refusal is none.
func TestGoneBrokenOff(t *testing.T) {
	t.Parallel()
	c := clerk(t, says(404, `{"errors":[`, "Content-Length", "80"), says(404, `{"errors":[{"code":"resource_not_found","message":"not found"}]}`))
	if gone, _, err := c.Gone(t.Context(), "/users/user_1"); !gone || err != nil || c.Counts().Failed != 1 {
		t.Errorf("%v %v %+v", gone, err, c.Counts())
	}
}

func TestNote(t *testing.T) {
	t.Parallel()
	c := clerk(t, says(500, ``), func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // compared below
		if r.Method != http.MethodPatch || r.URL.Path != "/v1/users/user_1/metadata" || string(body) != `{"private_metadata":{"canary":"x"}}` {
			t.Errorf("%s %s %s", r.Method, r.URL, body)
		}
		says(200, `{}`)(w, r)
	})
	if err := c.Note(t.Context(), "user_1", "canary", "x"); err != nil {
		t.Error(err)
	}
}

// Requests are spaced; a 429 shuts the way for as long as Clerk says, halves the
// rate once, however many are told, and the rate comes back.
func TestPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, began := newPace(100), time.Now()
		in := func(n int) time.Duration {
			from := time.Now()
			for range n {
				if err := p.wait(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			return time.Since(from)
		}
		if d := in(1001); d < 10*time.Second || d > 11*time.Second {
			t.Errorf("1001 requests in %s: more than the limit's 1000 in 10 s, or far less", d)
		}
		p.limited(3 * time.Second)
		p.limited(3 * time.Second)
		if d := in(1); d < 3*time.Second {
			t.Errorf("a request %s after a 429", d)
		}
		if r := p.now(); r < 45 || r > 55 {
			t.Errorf("%g requests a second after one 429", r)
		}
		time.Sleep(10 * time.Second)
		in(1)
		if r := p.now(); r < 96 {
			t.Errorf("%g requests a second, long after; %s", r, time.Since(began))
		}
	})
}
