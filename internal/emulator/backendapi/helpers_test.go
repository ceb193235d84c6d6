package backendapi_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rollcall-dev/rollcall/internal/emulator/backendapi"
	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fixture is the API over a state with one instance, and a client of it.
type fixture struct {
	testing.TB
	in     *state.Instance
	url    string       // ends in /v1
	client *http.Client // of its own: a connection of another test's server could be taken for this one's
}

// start serves an instance without users; options may be changed first.
func start(t testing.TB, configure ...func(*backendapi.Options)) *fixture {
	t.Helper()
	s := state.New(state.Options{Seed: 7})
	in := s.AddInstance(state.InstanceOptions{})
	o := backendapi.Options{
		Instance:  s.InstanceBySecretKey,
		RateLimit: &backendapi.RateLimit{},
		JWKS: func(*state.Instance) ([]byte, error) {
			return []byte(`{"keys":[{"use":"sig","kty":"RSA","kid":"` + in.ID + `","alg":"RS256","n":"AQAB","e":"AQAB"}]}`), nil
		},
		Token: func(_ *state.Instance, r backendapi.TokenRequest) (string, error) {
			if r.Template != "" && r.Template != "hasura" {
				return "", backendapi.ErrNoTemplate
			}
			return "jwt." + r.Session.ID + "." + r.Template + r.Life.String(), nil
		},
	}
	for _, f := range configure {
		f(&o)
	}
	server := httptest.NewServer(backendapi.New(o))
	t.Cleanup(server.Close)
	return &fixture{TB: t, in: in, url: server.URL + "/v1", client: server.Client()}
}

// An answer is a response, read to its end.
type answer struct {
	*http.Response
	body []byte
}

// do sends a request with the instance's key, unless header says otherwise
// ("Name: value").
func (f *fixture) do(method, path, body string, header ...string) answer {
	f.Helper()
	req, err := http.NewRequestWithContext(f.Context(), method, f.url+path, strings.NewReader(body))
	if err != nil {
		f.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+f.in.SecretKey)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		f.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		f.Fatal(err)
	}
	return answer{resp, data}
}

// get decodes a 200 into T.
func get[T any](f *fixture, path string) (v T) {
	f.Helper()
	a := f.do("GET", path, "")
	if a.StatusCode != http.StatusOK {
		f.Fatalf("GET %s: %d %s", path, a.StatusCode, a.body)
	}
	if err := json.Unmarshal(a.body, &v); err != nil {
		f.Fatalf("GET %s: %v in %s", path, err, a.body)
	}
	return v
}

// object is any resource's identity.
type object struct {
	ID string `json:"id"`
}

type list struct {
	Data       []object `json:"data"`
	TotalCount int      `json:"total_count"`
}

// ids are those of a list, whether it is a bare array or has a total_count;
// the total of a bare array is its length.
func ids(f *fixture, path string) (ids []string, total int) {
	f.Helper()
	l := list{}
	raw := get[json.RawMessage](f, path)
	if bytes.HasPrefix(raw, []byte("[")) {
		_ = json.Unmarshal(raw, &l.Data)
		l.TotalCount = len(l.Data)
	} else if err := json.Unmarshal(raw, &l); err != nil {
		f.Fatal(err)
	}
	for _, o := range l.Data {
		ids = append(ids, o.ID)
	}
	return ids, l.TotalCount
}

// must is for what a test sets up.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// ms is a time as Clerk has it.
func ms(t time.Time) int64 { return t.UnixMilli() }
