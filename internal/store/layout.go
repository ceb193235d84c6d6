package store

import (
	"context"
	"errors"
	"slices"

	"github.com/rollcall-dev/rollcall/internal/projection"
)

// layout is what a store keeps, and how that is read and written. A store has
// the one that its configuration asks for, and beside it what the schema still
// holds of an earlier configuration: as long as nobody has agreed to its removal
// it is written too, so that no value in it is stale, deletes take what is
// personal, and a configuration that is taken back has lost nothing.
type layout struct {
	resources []*projection.Resource
	decoder   *projection.Decoder
	sql       statements
	writers   []*writer
	columns   []string // as table.column, sorted
	key       int64    // of columns
}

func (s *Store) layout() *layout { return s.laid.Load() }

// lay makes the layout for resources, unless it is the present one.
func (s *Store) lay(resources []*projection.Resource) {
	s.looked.Store(s.layout() != nil)
	if now := s.layout(); now != nil && slices.EqualFunc(now.resources, resources, sameColumns) {
		return
	}
	l := &layout{
		resources: resources,
		decoder:   projection.NewDecoder(s.o.Names, resources),
		sql:       statements{s.schema, resources, s.o.OnDelete == OnDeleteKeep},
	}
	for _, r := range append(projection.Concerned(resources), resources...) {
		l.writers = append(l.writers, l.sql.writer(r))
	}
	l.columns, l.key = columnsOf(resources)
	s.laid.Store(l)
}

func sameColumns(a, b *projection.Resource) bool {
	return a.Table == b.Table && slices.EqualFunc(a.Columns, b.Columns, func(x, y projection.Column) bool { return x.Name == y.Name })
}

// look finds out once what is left over, where Migrate hasn't.
func (s *Store) look(ctx context.Context) error {
	if s.looked.Load() {
		return nil
	}
	c, err := s.relationsThere(ctx)
	if err != nil {
		return err
	}
	s.lay(s.present(c))
	return nil
}

// laidAnew looks at the schema again where work met a table or a column that
// isn't there: what was left over may have been dropped. Work for another layout
// has to be prepared again.
func (s *Store) laidAnew(ctx context.Context, w *Work, err error) error {
	if w == nil || !missing(err) {
		return err
	}
	if err := errors.Join(err, s.Migrate(ctx)); w.layout == s.layout() {
		return err
	}
	return errMoved{"the schema has been changed"}
}
