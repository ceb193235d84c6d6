package main

import (
	"encoding/json"
	"errors"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/internal/store"
)

// A service's database before and after: what doctor says to run is run, until
// it finds nothing as the service's role.
func TestDoctorTenancy(t *testing.T) {
	t.Parallel()
	other := stacktest.Database(t)
	d := stacktest.Database(t)
	s, err := store.New(store.Options{Name: "app", DatabaseURL: d.OwnerURL, Migrate: store.MigrateAuto, Schema: "clerk", Tenancy: true, Log: zap.NewNop(), Metrics: store.NewMetrics(prometheus.NewRegistry())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	service, err := url.Parse(other.OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	owner, err := url.Parse(d.OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	service.Path = owner.Path
	db, err := pgx.Connect(t.Context(), d.OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(t.Context())
	run := func(sql string) {
		t.Helper()
		if _, err := db.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	run(`create table orders (organization_id text); create view all_orders as select * from orders; grant truncate on orders to ` + service.User.Username())

	told := regexp.MustCompile(`(?m)^    ((?:select|alter|revoke|drop) .*;)$`)
	for range 3 { // what is found on a table once it is isolated comes the second time
		said, err := runDoctor(t, "--tenancy", "--database-url", service.String())
		if err == nil {
			break
		}
		if !errors.As(err, &found{}) {
			t.Fatal(err)
		}
		for _, statement := range told.FindAllStringSubmatch(said, -1) {
			run(statement[1])
		}
	}
	said, err := runDoctor(t, "--tenancy", "--database-url", service.String())
	if err != nil || !strings.HasSuffix(said, "\ntenancy: nothing found\n") || !strings.Contains(said, "note: postgres is a superuser: no policy binds it") {
		t.Errorf("%v: %s", err, said)
	}
	text, err := runDoctor(t, "--tenancy", "--database-url", d.OwnerURL, "--json")
	var all []store.Finding
	if !errors.As(err, &found{}) || json.Unmarshal([]byte(text), &all) != nil || len(all) < 2 {
		t.Errorf("as the owner: %v: %s", err, text)
	}
}

func runDoctor(t *testing.T, args ...string) (said string, err error) {
	t.Helper()
	c := newDoctor(&options{})
	var out strings.Builder
	c.SetArgs(args)
	c.SetOut(&out)
	c.SilenceErrors, c.SilenceUsage = true, true
	err = c.ExecuteContext(t.Context())
	return out.String(), err
}
