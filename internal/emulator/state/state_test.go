package state_test

import (
	"bytes"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

func fixedClock() time.Time { return time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC) }

func newInstance(t testing.TB, seed uint64) (*state.State, *state.Instance) {
	t.Helper()
	s := state.New(state.Options{Seed: seed, Now: fixedClock})
	return s, s.AddInstance(state.InstanceOptions{})
}

func saved(t testing.TB, s *state.State) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Save(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func loaded(t testing.TB, text string) *state.State {
	t.Helper()
	s, err := state.Load(strings.NewReader(text), state.Options{Now: fixedClock})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSeedIsDeterministic(t *testing.T) {
	t.Parallel()
	o := state.SeedOptions{Users: 200, Organizations: 20, Memberships: 300}
	one, in := newInstance(t, 7)
	in.Seed(o)
	other, in2 := newInstance(t, 7)
	in2.Seed(o)
	if diff := cmp.Diff(saved(t, one), saved(t, other)); diff != "" {
		t.Errorf("one seed, two states:\n%s", diff)
	}
	if n := len(in.Memberships()); n != o.Memberships {
		t.Errorf("%d memberships, want %d", n, o.Memberships)
	}
	third, in3 := newInstance(t, 8)
	in3.Seed(o)
	if saved(t, one) == saved(t, third) {
		t.Error("two seeds, one state")
	}
}

func TestLoadGivesWhatWasSaved(t *testing.T) {
	t.Parallel()
	s, in := newInstance(t, 7)
	in.Seed(state.SeedOptions{Users: 300, Organizations: 30, Memberships: 500})
	in.SetEndpoints([]state.Endpoint{{ID: "ep_1", URL: "http://127.0.0.1:1", Secrets: []string{"whsec_MQ=="}}})
	in.SetSigningKeys([]state.SigningKey{{KID: in.ID, PEM: "…"}})
	all(t, in)
	before := saved(t, s)
	again := loaded(t, before)
	if diff := cmp.Diff(strings.Split(before, "\n"), strings.Split(saved(t, again), "\n")); diff != "" {
		t.Fatalf("saved, loaded and saved again (-before +after):\n%s", diff)
	}
	p := state.UserParams{EmailAddresses: []string{"next@example.com"}}
	u, err := in.CreateUser(state.Request{}, p)
	if err != nil {
		t.Fatal(err)
	}
	v, err := again.Instances()[0].CreateUser(state.Request{}, p)
	if err != nil {
		t.Fatal(err)
	}
	if u.ID != v.ID {
		t.Errorf("ids do not go on: %s, then %s", u.ID, v.ID)
	}
	if v.UpdatedAt <= int64(0) || v.UpdatedAt < u.UpdatedAt {
		t.Errorf("the clock went back: %d, then %d", u.UpdatedAt, v.UpdatedAt)
	}
}

func TestLoadSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"not JSON":      {`{"version":1,`, "unexpected EOF"},
		"other version": {`{"version":9,"instances":[]}`, "version is 9"},
		"unknown part":  {`{"version":1,"instances":[{"userz":[]}]}`, `"userz" is not a part of an instance`},
		"no id":         {`{"version":1,"instances":[{"users":[{"first_name":"A"}]}]}`, "users: [0]: the id is missing"},
		"orphan":        {`{"version":1,"instances":[{"sessions":[{"id":"sess_1","user_id":"user_1"}]}]}`, "sess_1 is of user"},
		"wrong type":    {`{"version":1,"instances":[{"users":{}}]}`, "there is { where [ should be"},
	} {
		if _, err := state.Load(strings.NewReader(c.text), state.Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestMemory holds the promise of the issue: 100,000 users start in under 5 s
// and leave room for the garbage collector below 300 MB.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	const limit = 170 << 20
	before := heap()
	start := time.Now()
	s, in := newInstance(t, 7)
	in.Seed(state.SeedOptions{Users: 100_000, Organizations: 2_000, Memberships: 100_000})
	took := time.Since(start)
	live := heap() - before
	t.Logf("%d MB live after %v", live>>20, took.Round(time.Millisecond))
	if live > limit {
		t.Errorf("%d MB live, at most %d", live>>20, limit>>20)
	}
	runtime.KeepAlive(s)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
