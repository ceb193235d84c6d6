package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// TestProductionLayout runs the processes as docker-compose.yml does: each as
// the NATS user and the Postgres role that deploy/ gives it, and no more.
func TestProductionLayout(t *testing.T) {
	users, err := os.ReadFile("../../deploy/nats/users.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`\$(NATS_(\w+)_PASSWORD)`).FindAllStringSubmatch(string(users), -1) {
		t.Setenv(m[1], "p"+strings.ToLower(m[2]))
	}
	o, err := server.ProcessConfigFile("../../deploy/nats/nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	o.Host, o.Port, o.HTTPHost, o.HTTPPort, o.StoreDir, o.NoSigs, o.NoLog = "127.0.0.1", -1, "127.0.0.1", -1, t.TempDir(), true, true
	ns, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats-server is not ready")
	}
	as := func(user string) string {
		return "NATS_URL=" + strings.Replace(ns.ClientURL(), "nats://", "nats://"+user+":p"+user+"@", 1)
	}

	addr := func() string { return fmt.Sprintf("127.0.0.1:%d", stacktest.FreePort(t)) }
	apply := newProc(t, "", []string{"streams", "apply"}, as("admin")).start()
	if code := apply.exits(patience); code != 0 {
		t.Fatalf("streams apply as admin: exit code %d\n%s", code, apply.tail())
	}

	app, owner := productionRoles(t)
	config := filepath.Join(t.TempDir(), "rollcall.yaml")
	text, err := os.ReadFile("../../deploy/store.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	common := []string{"ROLLCALL_NATS_CREATE=false", "ROLLCALL_NATS_MONITOR_URL=http://" + ns.MonitorAddr().String()}
	ingestAddr, storeAddr := addr(), addr()
	ingest := newProc(t, ingestAddr, []string{"run", "ingest"}, append(common, as("ingest"), "ROLLCALL_INGEST_ADDR="+ingestAddr, "CLERK_WEBHOOK_SIGNING_SECRET="+secret)...).start()
	store := newProc(t, storeAddr, []string{"run", "store", "--config", config}, append(common, as("store"), "ROLLCALL_HEALTH_ADDR="+storeAddr, "DATABASE_URL="+app, "MIGRATE_DATABASE_URL="+owner)...).start()
	gatewayAddr := addr()
	gateway := newProc(t, gatewayAddr, []string{"run", "gateway"}, append(common, as("gateway"), "ROLLCALL_HEALTH_ADDR="+gatewayAddr, "ROLLCALL_GATEWAY_ADDR="+addr(),
		"CLERK_PUBLISHABLE_KEY=pk_live_Y2xlcmsuYXBwLmV4YW1wbGUk", "ROLLCALL_IDENTITY_SEED="+strings.Repeat("s", 32))...).start()
	revokeAddr := addr()
	revoke := newProc(t, revokeAddr, []string{"run", "revoke"}, append(common, as("revoke"), "ROLLCALL_HEALTH_ADDR="+revokeAddr)...).start()
	ingest.is("ok")
	store.is("ok")
	gateway.is("ok")
	auditAddr, auditDB := addr(), []string{"ROLLCALL_AUDIT_DATABASE_URL=" + app, "ROLLCALL_AUDIT_MIGRATE_DATABASE_URL=" + owner}
	audit := newProc(t, auditAddr, []string{"run", "audit"}, append(append(common, auditDB...), as("audit"), "ROLLCALL_HEALTH_ADDR="+auditAddr)...).start()
	audit.is("ok")
	revoke.is("ok")
	if ingest.metric(`rollcall_log_durability{checked="true",declared="fsync"}`) != 1 {
		t.Error("durability isn't shown as checked")
	}

	send := func(args ...string) {
		t.Helper()
		p := newProc(t, "", append([]string{"send"}, args...), "ROLLCALL_WEBHOOK_URL=http://"+ingestAddr+"/webhooks/clerk", "CLERK_WEBHOOK_SIGNING_SECRET="+secret).start()
		if code := p.exits(patience); code != 0 {
			t.Fatalf("send: exit code %d\n%s", code, p.tail())
		}
	}
	send("user.created", "--count", "100")
	send("user.updated", "--set", "data.banned={}") // a letter of the store's
	send("user.updated", "--set", "type=nonsense")  // and one of ingest's
	db, err := pgx.Connect(t.Context(), app)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.Background())
	stacktest.Eventually(t, patience, func() error {
		var rows, letters int
		err := db.QueryRow(t.Context(), `select (select count(*) from clerk.users_live), (select dead_letters from clerk.sync_status)`).Scan(&rows, &letters)
		if err == nil && (rows != 100 || letters != 1) {
			err = fmt.Errorf("%d rows, %d letters", rows, letters)
		}
		return err
	})
	if _, err := db.Exec(t.Context(), `alter table clerk.users add column x int`); err == nil {
		t.Error("the application's role may change the tables")
	}
	stacktest.Eventually(t, patience, func() error {
		var rows int
		err := db.QueryRow(t.Context(), `select count(*) from rollcall_audit.events`).Scan(&rows)
		if err == nil && rows != 101 {
			err = fmt.Errorf("%d rows in the audit log", rows)
		}
		return err
	})
	if _, err := db.Exec(t.Context(), `delete from rollcall_audit.events`); err == nil {
		t.Error("the application's role may delete from the audit log")
	}
	audit.stops() // with an anchor
	verify := newProc(t, "", []string{"audit", "verify", "--json"}, append(auditDB, as("admin"))...).start()
	if code := verify.exits(patience); code != 0 || !strings.Contains(verify.said(), `"rows":101`) {
		t.Errorf("audit verify as admin: exit code %d\n%s", code, verify.tail())
	}
	list := newProc(t, "", []string{"dlq", "list"}, as("admin")).start()
	if code := list.exits(patience); code != 0 || strings.Count(list.said(), "\n") != 3 {
		t.Errorf("dlq list as admin: exit code %d\n%s", code, list.said())
	}
	ingest.stops()
	store.stops()
	gateway.stops()
	revoke.stops()
}

// productionRoles makes the roles of deploy/postgres/roles.sql on a Postgres of
// the test's own.
func productionRoles(t *testing.T) (app, owner string) {
	t.Helper()
	pg := stacktest.Postgres(t)
	psql := exec.Command("psql", "-v", "ON_ERROR_STOP=1", "-f", "../../deploy/postgres/roles.sql", pg.AdminURL())
	psql.Env = append(os.Environ(), "ROLLCALL_OWNER_PASSWORD=powner", "ROLLCALL_APP_PASSWORD=papp")
	if out, err := psql.CombinedOutput(); err != nil {
		t.Fatalf("roles.sql: %v\n%s", err, out)
	}
	as := func(user, password string) string {
		u, err := url.Parse(pg.AdminURL())
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword(user, password)
		return u.String()
	}
	return as("rollcall_app", "papp"), as("rollcall_owner", "powner")
}
