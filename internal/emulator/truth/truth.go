// Package truth compares a Rollcall store with the ground truth, a saved state
// of the emulator. It knows the contract's tables and columns and nothing of
// Rollcall's code, so that one misreading of Clerk can't hide on both sides.
//
// What is right:
//
//   - An entity that lives in Clerk has a live row, equal in every compared
//     column. Compared are the columns that the table has, but book-keeping and
//     what changes in Clerk without an event (counts, last activity).
//   - An entity that Clerk has deleted, or whose user or organization it has, has
//     no row or one with deleted_at.
//   - A stub (source stub) is no row yet: missing where the entity lives, extra
//     where Clerk has deleted it, and no difference where Clerk has never heard of
//     it, for then somebody has made it for an id of his own.
//   - What belongs to a deleted payer (subscriptions, their items, payments) is
//     right either way; Clerk doesn't say.
//   - A membership's role_name and permissions may be older than its role, whose
//     change sends no event of the membership.
//
// All rows are read in one snapshot. Of a row only a hash is kept, and the state
// is streamed: neither the store nor the state need fit in memory. Rows that
// differ are read again, to say in what.
//
// role_permissions isn't compared: the contract names no columns of it.
package truth

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// DB is a *pgx.Conn or a *pgxpool.Pool. It needs select on the store's tables.
type DB interface {
	BeginTx(ctx context.Context, o pgx.TxOptions) (pgx.Tx, error)
}

// Options of a comparison.
type Options struct {
	Schema string // of the store; default clerk
	// InstanceID is the instance to compare, for a store of one of several. Default:
	// all of the state's, against all rows.
	InstanceID string
	// Resources are tables' names; default: all that the store keeps.
	Resources []string
}

// Compare reads a saved state and a store and says in what they differ. A
// difference is no error; errors are a state or a database that can't be read.
func Compare(ctx context.Context, state io.Reader, db DB, o Options) (Report, error) {
	if o.Schema == "" {
		o.Schema = "clerk"
	}
	asked, err := chosen(o.Resources)
	if err != nil {
		return Report{}, err
	}
	tx, err := db.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return Report{}, fmt.Errorf("connect to the store's database: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // it has only read
	tables, err := findTables(ctx, tx, o.Schema, asked)
	if err != nil {
		return Report{}, err
	}
	c := newComparison(ctx, tx, o, asked, tables)
	if err := readState(state, c); err != nil {
		return Report{}, fmt.Errorf("compare the state with the store: %w", err)
	}
	if err := c.foreignInstances(); err != nil {
		return Report{}, err
	}
	c.report.finish()
	return c.report, nil
}

func chosen(names []string) ([]*resource, error) {
	all := resources()
	if len(names) == 0 {
		return all, nil
	}
	var asked []*resource
	for _, r := range all {
		if slices.Contains(names, r.table) {
			asked = append(asked, r)
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(r *resource) bool { return r.table == name }) {
			return nil, fmt.Errorf("no resource is called %q: there are %s", name, strings.Join(tableNames(all), ", "))
		}
	}
	return asked, nil
}

func tableNames(all []*resource) []string {
	var names []string
	for _, r := range all {
		names = append(names, r.table)
	}
	return names
}
