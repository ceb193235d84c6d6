package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Statement is a step of a plan: one statement of SQL, or several that belong
// together.
type Statement struct {
	SQL string `json:"sql"`
	// Destructive steps take something away with what it holds: they run only
	// where somebody has agreed.
	Destructive bool     `json:"destructive"`
	Drops       []string `json:"drops,omitempty"` // "column users.phone", "table sessions"
}

// Plan is what has to be run, in this order, so that a schema is as the release
// and the configuration need it; empty where it is.
type Plan []Statement

func additive(statements []string) (p Plan) {
	for _, sql := range statements {
		p = append(p, Statement{SQL: sql})
	}
	return p
}

// Split tells what only adds from what is destructive.
func (p Plan) Split() (additive, destructive Plan) {
	for _, st := range p {
		if st.Destructive {
			destructive = append(destructive, st)
		} else {
			additive = append(additive, st)
		}
	}
	return additive, destructive
}

// Drops names all that would go.
func (p Plan) Drops() (names []string) {
	for _, st := range p {
		names = append(names, st.Drops...)
	}
	return names
}

// Script is the plan for psql, in one transaction under the writer lock.
func (s *Store) Script(p Plan) string {
	var b strings.Builder
	fmt.Fprintf(&b, "-- store %s, schema %s\nbegin;\nset local lock_timeout = %d;\nselect pg_advisory_xact_lock(%d); -- one writer at a time\n",
		s.o.Name, s.o.Schema, s.lockTimeout.Milliseconds(), s.lock)
	for _, st := range p {
		if st.Destructive {
			fmt.Fprintf(&b, "-- destructive: drops %s\n", strings.Join(st.Drops, ", "))
		}
		b.WriteString(strings.TrimRight(st.SQL, "; \n") + ";\n")
	}
	return b.String() + "commit;\n"
}

// refusal says what an owner can do about a statement that failed.
func (s *Store) refusal(st Statement, err error) error {
	err = fmt.Errorf("change schema %s (%.60s…): %w", s.o.Schema, oneLine(st.SQL), err)
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	switch pg.Code {
	case "2BP01": // dependent_objects_still_exist
		return fmt.Errorf("%w: %s; Rollcall drops only what is its own: change these first, or keep %s in the configuration of store %s",
			err, strings.ReplaceAll(pg.Detail, "\n", ", "), strings.Join(st.Drops, ", "), s.o.Name)
	case "55P03": // lock_not_available
		return fmt.Errorf("%w: another transaction is using the table; it is tried again, or run it when that has ended", err)
	case "42501": // insufficient_privilege
		return fmt.Errorf("%w; the role needs to own the schema, see migrate_database_url", err)
	}
	return err
}

// owed is the error of a store that may not change its schema.
func (s *Store) owed(p Plan) error {
	sql := make([]string, len(p))
	for i, st := range p {
		sql[i] = strings.TrimRight(st.SQL, "; \n")
	}
	text := strings.Join(sql, "; ")
	if len(text) > maxOwed {
		text = fmt.Sprintf("%s; and so on, %d statements", sql[0], len(p))
	}
	return fmt.Errorf("schema %s lacks what this release and the configuration need, and migrate is off: have its owner run rollcall store apply %s, or the SQL that rollcall store plan %[2]s prints: %s",
		s.o.Schema, s.o.Name, text)
}

// maxOwed is how long a text the reason of a part may be.
const maxOwed = 2000

// PlanSchema is what there is to do. Nothing is changed, and no lock is taken.
func (s *Store) PlanSchema(ctx context.Context) (plan Plan, err error) {
	err = s.asOwner(ctx, false, func(o *owner) error {
		plan, _, err = s.plan(ctx, o.tx, o.writer)
		return err
	})
	return plan, err
}

// ApplySchema does what there is to do, whatever migrate says. What is
// destructive runs only if confirmed, else it is what is left.
func (s *Store) ApplySchema(ctx context.Context, confirmDrop bool) (applied, left Plan, err error) {
	present := s.wanted
	err = s.asOwner(ctx, true, func(o *owner) error {
		plan, all, err := s.plan(ctx, o.tx, o.writer)
		if err != nil {
			return err
		}
		applied = plan
		if !confirmDrop {
			applied, left = plan.Split()
			present = all
		}
		return s.run(ctx, o, applied)
	})
	if err != nil {
		return nil, nil, err
	}
	s.lay(present)
	s.tellLeftover(left.Drops())
	return applied, left, nil
}
