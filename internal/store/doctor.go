package store

import (
	"context"
	"embed"
	"fmt"

	"github.com/jackc/pgx/v5"
)

//go:embed sql/doctor/*.sql
var doctorFiles embed.FS

// Finding is something that tenancy doesn't hold against.
type Finding struct {
	Check  string `json:"check"`  // "tables", "roles", …
	Object string `json:"object"` // a table, a role, …
	What   string `json:"what"`   // reads on after Object
	Run    string `json:"run"`    // what to do: SQL, or words
	Note   bool   `json:"note"`   // may well be meant so
}

// TenancyQuestion is what is asked of a database.
type TenancyQuestion struct {
	Schema       string   // of the store
	Application  bool     // the connection is a service's: its role is judged too
	IgnoredRoles []string // no service logs in as these
}

// CheckTenancy looks for tables of the connection's database that nothing
// isolates, and for ways around the policies of those that are. It changes
// nothing, and may run as any role.
func CheckTenancy(ctx context.Context, conn *pgx.Conn, q TenancyQuestion) ([]Finding, error) {
	concerned, err := doctorFiles.ReadFile("sql/doctor/concerned.sql")
	if err != nil {
		return nil, err
	}
	all := []Finding{}
	if q.IgnoredRoles == nil {
		q.IgnoredRoles = []string{}
	}
	for _, check := range []string{"tables", "synced", "policies", "roles", "views", "functions", "privileges", "settings"} {
		text, err := doctorFiles.ReadFile("sql/doctor/" + check + ".sql")
		if err != nil {
			return nil, err
		}
		rows, err := conn.Query(ctx, string(concerned)+string(text), pgx.QueryExecModeExec, q.Schema, q.Application, q.IgnoredRoles)
		if err != nil {
			return nil, fmt.Errorf("look at the %s: %w", check, err)
		}
		found, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (Finding, error) {
			f := Finding{Check: check}
			return f, r.Scan(&f.Object, &f.What, &f.Run, &f.Note)
		})
		if err != nil {
			return nil, fmt.Errorf("look at the %s: %w", check, err)
		}
		all = append(all, found...)
	}
	return all, nil
}
