package main

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/config"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/internal/store"
)

// block is the first block of a page's code that begins so, without its indent
// and that line itself where it is a command.
func block(t *testing.T, page, begins string) string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), begins)
	body, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatalf("%s has no block that begins with %s", page, begins)
	}
	if !strings.HasPrefix(begins, "$") {
		return begins + body
	}
	lines := strings.Split(body, "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], "   ")
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

// The configurations that the pages show are right, and the plan is the one that
// comes of the first.
func TestStoresPage(t *testing.T) {
	t.Parallel()
	const page = "../../deploy/docs/stores.md"
	app := roleOf(t, stacktest.Database(t)) // first, so that it goes last
	d := stacktest.Database(t)
	var orders config.Store
	for _, page := range []string{"../../README.md", page} {
		orders = configured(t, block(t, page, "stores:\n  orders:"), map[string]string{
			"ORDERS_DATABASE_URL": d.URL, "ORDERS_OWNER_URL": d.OwnerURL, "BILLING_DATABASE_URL": "postgres://127.0.0.1/billing",
		})
	}
	before := orders
	before.Exclude = nil
	if err := aStore(t, before).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	db, err := pgx.Connect(t.Context(), d.OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.WithoutCancel(t.Context()))
	if _, err := db.Exec(t.Context(), `grant select on clerk.users_live to `+app); err != nil {
		t.Fatal(err)
	}
	s := aStore(t, orders)
	plan, err := s.PlanSchema(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := strings.ReplaceAll(strings.TrimSpace(s.Script(plan)), app, "orders_app")
	if want := block(t, page, "$ rollcall store plan orders\n"); got != want {
		t.Errorf("%s: the plan is\n%s\nand the page has\n%s", page, got, want)
	}
}

// configured is the store orders of a configuration.
func configured(t *testing.T, text string, env map[string]string) config.Store {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rollcall.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	orders, _ := cfg.Store("orders")
	return orders
}

func aStore(t *testing.T, c config.Store) *store.Store {
	t.Helper()
	o := storeOptions(&config.Config{}, c)
	o.Log, o.Metrics = zap.NewNop(), store.NewMetrics(prometheus.NewRegistry())
	s, err := store.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func roleOf(t *testing.T, d stacktest.DB) string {
	t.Helper()
	u, err := url.Parse(d.OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	return u.User.Username()
}
