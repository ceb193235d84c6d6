package freshness_test

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/freshness"
	"github.com/rollcall-dev/rollcall/internal/projection"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

func TestMain(m *testing.M) { stacktest.MainNoLeaks(m) }

// fixture is a store's schema, with rows as the test says.
type fixture struct {
	t      *testing.T
	db     *pgx.Conn
	fresh  *freshness.Store
	mu     sync.Mutex
	status []string
}

func newFixture(t *testing.T, schema string) *fixture {
	t.Helper()
	db := stacktest.Database(t)
	s, err := store.New(store.Options{
		Name: "app", DatabaseURL: db.URL, MigrateDatabaseURL: db.OwnerURL, Migrate: store.MigrateAuto, Schema: "clerk",
		Log: zap.NewNop(), Metrics: store.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Migrate(t.Context())
	s.Close()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t}
	if f.db, err = pgx.Connect(t.Context(), db.OwnerURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.db.Close(t.Context()) })
	f.fresh, err = freshness.New(freshness.Options{DatabaseURL: db.URL, Schema: schema, Status: func(err error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if err == nil {
			f.status = append(f.status, "ok")
		} else {
			f.status = append(f.status, "degraded")
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.fresh.Close)
	return f
}

func (f *fixture) exec(text string, args ...any) {
	f.t.Helper()
	if _, err := f.db.Exec(f.t.Context(), text, args...); err != nil {
		f.t.Fatal(err)
	}
}

func version(at time.Time) []byte {
	return []byte(projection.NewVersion(projection.ClassOwn, false, at.UnixMilli(), at.UnixMilli(), 2, "msg"))
}

// membership is of a user of their own, so that nothing is remembered of them.
func (f *fixture) membership(user, role string, at time.Time, deleted any) {
	f.t.Helper()
	f.exec(`insert into clerk.organization_memberships (id, organization_id, user_id, role, permissions, instance_id, synced_at, stream_epoch, stream_seq, source, version, deleted_at)
		values ('orgmem_' || $1, 'org_1', $1, $2, '{org:own:list}', 'ins_1', now(), 1, 1, 'webhook', $3, $4)`, user, role, version(at), deleted)
}

func (f *fixture) freshened(c *auth.Claims) *auth.Claims {
	f.t.Helper()
	got, err := f.fresh.Freshen(httptest.NewRequest(http.MethodGet, "/", nil), c)
	if err != nil {
		f.t.Fatal(err)
	}
	return got
}

func TestFreshen(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "clerk")
	iat := time.Now().Truncate(time.Second)
	before, after := iat.Add(-time.Minute), iat.Add(2*time.Second)
	// The role accountant was changed after the token was made, clerk before.
	for key, at := range map[string]time.Time{"org:accountant": after, "org:clerk": before} {
		f.exec(`insert into clerk.roles (id, key, instance_id, synced_at, stream_epoch, stream_seq, source, version, permissions)
			values ('role_' || $1, $1, 'ins_1', now(), 1, 1, 'webhook', $2, '[{"id":"perm_1","key":"org:books:read"},{"id":"perm_2","key":"org:sys_profile:manage"}]')`, key, version(at))
	}
	token := auth.Organization{ID: "org_1", Slug: "acme", Role: "org:clerk", Permissions: []string{"org:token:said"}}
	as := func(role string, permissions ...string) auth.Organization {
		o := token
		o.Role, o.Permissions = role, permissions
		return o
	}
	for _, c := range []struct {
		user, role string
		at         time.Time
		deleted    any
		token      auth.Organization
		want       auth.Organization
	}{
		{"user_none", "", time.Time{}, nil, token, token},
		{"user_older", "org:accountant", before, nil, token, token},
		{"user_newer", "org:clerk", after, nil, as("org:admin", "org:all:things"), as("org:clerk", "org:books:read")},
		{"user_old_key", "clerk", after, nil, as("org:admin"), as("org:clerk", "org:books:read")},
		{"user_no_role", "org:unheard", after, nil, token, as("org:unheard", "org:own:list")},
		{"user_role_newer", "org:accountant", before, nil, as("org:accountant", "org:all:things"), as("org:accountant", "org:books:read")},
		{"user_role_older", "org:clerk", before, nil, token, token},
		{"user_other_role", "org:accountant", before, nil, as("org:admin", "org:all:things"), as("org:admin", "org:all:things")},
		{"user_removed", "org:clerk", before, after, token, auth.Organization{}},
		{"user_rejoined", "org:clerk", before, before, token, token},
	} {
		if c.role != "" {
			f.membership(c.user, c.role, c.at, c.deleted)
		}
		claims := &auth.Claims{UserID: c.user, IssuedAt: iat, Organization: c.token}
		got := f.freshened(claims)
		if diff := cmp.Diff(c.want, got.Organization); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.user, diff)
		}
		if same := cmp.Equal(c.want, c.token); (got == claims) != same || got != f.freshened(claims) {
			t.Errorf("%s: the claims are other ones", c.user)
		}
		if got.UserID != c.user || !cmp.Equal(claims.Organization, c.token) {
			t.Errorf("%s: the token's own claims are changed", c.user)
		}
	}
	if nobody := (&auth.Claims{UserID: "user_newer", IssuedAt: iat}); f.freshened(nobody) != nobody {
		t.Error("without an organization there is something to say")
	}
}

// A change is asserted within a second or so.
func TestChanges(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "clerk")
	iat := time.Now().Add(-10 * time.Second)
	f.membership("user_1", "org:member", iat.Add(-time.Second), nil)
	claims := &auth.Claims{UserID: "user_1", IssuedAt: iat, Organization: auth.Organization{ID: "org_1", Role: "org:member"}}
	if got := f.freshened(claims); got != claims {
		t.Fatalf("before: %+v", got.Organization)
	}
	f.exec(`update clerk.organization_memberships set role = 'org:admin', version = $1`, version(time.Now()))
	began := time.Now()
	for f.freshened(claims).Organization.Role != "org:admin" {
		if time.Since(began) > 10*time.Second {
			t.Fatal("the change isn't seen")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A store that can't be asked leaves the token's word, and says so once.
func TestStoreInTrouble(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "not_there")
	claims := &auth.Claims{UserID: "user_1", IssuedAt: time.Now(), Organization: auth.Organization{ID: "org_1", Role: "org:member"}}
	for range 3 {
		if f.freshened(claims) != claims {
			t.Error("claims out of nowhere")
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if diff := cmp.Diff([]string{"degraded"}, f.status); diff != "" {
		t.Error(diff)
	}
}
