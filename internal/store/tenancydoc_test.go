package store

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// The page's SQL runs, in its order, as the owner or as the service; what the
// snippets in other languages send sets all three settings.
func TestTenancyPage(t *testing.T) {
	t.Parallel()
	other := stacktest.Database(t)
	d := stacktest.Database(t)
	if err := newStore(t, d, func(o *Options) { o.Tenancy = true }).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	url, role := asRole(t, d, other)
	owner, app := connect(t, d.OwnerURL), connect(t, url)
	text, err := os.ReadFile("../../deploy/docs/tenancy.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```(\\w+)\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	ran, sent := 0, 0
	for _, b := range blocks {
		switch language, code := b[1], strings.ReplaceAll(b[2], "orders_app", role); language {
		case "sql":
			conn := owner
			if strings.HasPrefix(code, "-- as the service") {
				conn = app
			}
			if _, err := conn.PgConn().Exec(t.Context(), code).ReadAll(); err != nil {
				t.Errorf("%v\n%s", err, code)
			}
			ran++
		case "js", "python":
			sql := regexp.MustCompile(`select set_config\(.*?, true\), set_config\(.*?, true\), set_config\(.*?, true\)`).FindString(code)
			n := 0
			sql = regexp.MustCompile(`\$\d|\$\{[^}]*\}|%s|:\w+`).ReplaceAllStringFunc(sql, func(string) string { n++; return []string{"", "'user_1'", "'org_2g7'", "'org:a'"}[n] })
			execute(t, app, `begin`, sql)
			if got := scan[string](t, app, `select concat_ws(' ', clerk.user_id(), clerk.organization_id(), clerk.has_permission('org:a'), (select count(*) from public.orders))`); got != "user_1 org_2g7 t 1" {
				t.Errorf("%s: %s", sql, got)
			}
			execute(t, app, `commit`)
			sent++
		}
	}
	if ran != 6 || sent != 4 {
		t.Errorf("%d blocks of SQL ran, %d of other languages", ran, sent)
	}
}
