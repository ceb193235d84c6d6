// Package tenant runs transactions for a user and an organization, on tables
// that clerk.isolate or a store with tenancy has put under row-level security:
//
//	err := tenant.Tx(ctx, pool, tenant.Identity{UserID: "user_2g7", OrganizationID: "org_2g7"}, func(tx pgx.Tx) error {
//		rows, err := tx.Query(ctx, `select id, total from orders`) // org_2g7's
//		…
//	})
//
// What is said holds for that transaction only, so a pooler in transaction mode
// may stand between. It costs no round trip of its own.
//
// The package imports pgx and the standard library only.
package tenant

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Identity is for whom a transaction acts. Without an OrganizationID no row of
// an isolated table is read or written.
type Identity struct {
	UserID         string   // user_…; "" for none, as in a job
	OrganizationID string   // org_…; "" for none
	Permissions    []string // org:invoices:read, …, as clerk.has_permission is asked for them
}

// ErrNobody is an Identity without user and organization: rather one that was
// forgotten than a transaction that is to see nothing.
var ErrNobody = errors.New("tenant: the identity has neither user nor organization")

// DB is a *pgxpool.Pool or a *pgx.Conn. It isn't a pgx.Tx: within a transaction
// for one, a part can't be for another.
type DB interface {
	BeginTx(context.Context, pgx.TxOptions) (pgx.Tx, error)
}

// Tx runs work in a transaction for id, and commits it if work returns nil, else
// rolls back and returns work's error.
func Tx(ctx context.Context, db DB, id Identity, work func(pgx.Tx) error) error {
	options, err := id.TxOptions(pgx.TxOptions{})
	if err != nil {
		return err
	}
	return pgx.BeginTxFunc(ctx, db, options, work)
}

// TxOptions are options with which a transaction begins for id: for code that
// begins its own, or at another isolation level. What of Clerk's ids and
// permissions can't be is refused.
func (id Identity) TxOptions(o pgx.TxOptions) (pgx.TxOptions, error) {
	if id.UserID == "" && id.OrganizationID == "" {
		return o, ErrNobody
	}
	for _, p := range id.Permissions {
		if strings.Contains(p, ",") {
			return o, fmt.Errorf("tenant: permission %q holds a comma", p)
		}
	}
	var settings []string
	for _, s := range []struct{ name, value string }{{"user_id", id.UserID}, {"organization_id", id.OrganizationID}, {"permissions", strings.Join(id.Permissions, ",")}} {
		for _, c := range []byte(s.value) {
			if c <= ' ' || c > '~' || c == '\'' || c == '\\' {
				return o, fmt.Errorf("tenant: %s %q can't be Clerk's", s.name, s.value)
			}
		}
		settings = append(settings, fmt.Sprintf("set_config('clerk.%s', '%s', true)", s.name, s.value))
	}
	begin := o.BeginQuery
	if begin == "" {
		begin = strings.Join(strings.Fields(fmt.Sprintf("begin %s %s %s", isolation(o.IsoLevel), o.AccessMode, o.DeferrableMode)), " ")
	}
	return pgx.TxOptions{BeginQuery: begin + "; select " + strings.Join(settings, ", "), CommitQuery: o.CommitQuery}, nil
}

func isolation(level pgx.TxIsoLevel) string {
	if level == "" {
		return ""
	}
	return "isolation level " + string(level)
}
