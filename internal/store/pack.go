package store

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rollcall-dev/rollcall/internal/projection"
)

// Work is a batch ready to be written: for each table the statements'
// parameters, as Postgres's binary arrays, so that one statement writes all
// rows of a table and nothing is encoded while the writer lock is held.
type Work struct {
	layout    *layout // it was prepared for
	contents  []tableWork
	deletions []tableWork
	erased    []tableWork // what is personal goes, whatever becomes of deleted rows
	replaced  int         // characters that Postgres can't store
	touched   []string    // tables in which rows may be deleted
	epoch     int64       // of the messages
	again     bool        // what has these versions already is written too
	notes     [][]byte    // for listeners
}

// empty reports whether there is nothing to write.
func (w *Work) empty() bool { return w == nil || len(w.contents)+len(w.deletions) == 0 }

// tableWork is what one writer has to write.
type tableWork struct {
	writer *writer
	rows   int
	params []param
	arrays *arrays
}

// param is one parameter of a statement.
type param struct {
	oid   uint32
	value []byte
}

// size is about how many bytes the statements take on the wire.
func (w *Work) size() int {
	n := 4 << 10 // the statements' texts
	if w == nil {
		return n
	}
	for _, t := range w.contents {
		n += t.size()
	}
	for _, t := range w.deletions { // tombstones, the rows, rows below
		n += (2 + len(t.writer.cascades)) * t.size()
	}
	return n
}

func (t *tableWork) size() (n int) {
	for _, p := range t.params {
		n += len(p.value) + 8
	}
	return n + len(t.writer.contents)
}

func (s *Store) pack(l *layout, f projection.Folded) *Work {
	w := &Work{layout: l}
	for _, writer := range l.writers {
		if list := f.Contents[writer.resource]; len(list) > 0 {
			w.contents = append(w.contents, packContents(writer, list))
			for _, c := range list {
				for i := range c.Values {
					w.replaced += int(c.Values[i].Replaced)
				}
			}
		}
		if list := f.Deletions[writer.resource]; len(list) > 0 {
			w.deletions = append(w.deletions, packDeletions(writer, list))
		}
		if list := f.Erased[writer.resource]; len(list) > 0 {
			w.erased = append(w.erased, packErased(writer, list))
		}
	}
	if s.o.OnDelete == OnDeleteHard {
		w.touched = touched(w)
	}
	if s.o.Notify {
		w.notes = notes(l, f)
	}
	return w
}

func touched(w *Work) []string {
	tables := map[string]bool{}
	for _, t := range w.contents { // of what is deleted already, or below it
		tables[t.writer.resource.Table] = true
	}
	for _, t := range w.deletions {
		if t.writer.remove != "" {
			tables[t.writer.resource.Table] = true
		}
		for _, c := range t.writer.cascades {
			tables[c.table] = true
		}
	}
	return slices.Sorted(maps.Keys(tables))
}

// done gives back what a written batch was packed into.
func (w *Work) done() {
	for _, t := range w.contents {
		t.arrays.used = 0
		t.writer.spare.Put(t.arrays)
	}
	w.contents, w.deletions, w.erased = nil, nil, nil
}

func packContents(w *writer, list []*projection.Change) tableWork {
	arrays, ok := w.spare.Get().(*arrays)
	if !ok {
		arrays = newArrays()
	}
	params := make([]param, 0, len(w.resource.Columns)+4)
	for i, column := range w.resource.Columns {
		a := arrays.of(column.Type, len(list))
		if slices.ContainsFunc(list, func(c *projection.Change) bool { return c.Values[i].Valid }) { // few batches have all columns
			for _, c := range list {
				a.add(c.Values[i])
			}
		}
		params = append(params, a.param())
	}
	version := arrays.next(pgtype.ByteaOID, pgtype.ByteaArrayOID, len(list))
	for _, c := range list {
		version.text(string(c.Version))
	}
	return tableWork{w, len(list), append(append(params, version.param()), packOrigin(arrays, list)...), arrays}
}

func packDeletions(w *writer, list []*projection.Change) tableWork {
	arrays := newArrays()
	ids := arrays.of(projection.Text, len(list))
	at := arrays.of(projection.Timestamp, len(list))
	for _, c := range list {
		ids.text(c.ID)
		at.add(projection.Value{Valid: true, Int: c.DeletedAt})
	}
	return tableWork{w, len(list), append([]param{ids.param(), at.param()}, packOrigin(arrays, list)...), arrays}
}

func packErased(w *writer, list []string) tableWork {
	arrays := newArrays()
	ids := arrays.of(projection.Text, len(list))
	for _, id := range list {
		ids.text(id)
	}
	return tableWork{w, len(list), []param{ids.param()}, arrays}
}

// packOrigin is where the rows come from: instance_id, source, stream_seq.
func packOrigin(arrays *arrays, list []*projection.Change) []param {
	instance, source := arrays.of(projection.Text, len(list)), arrays.of(projection.Text, len(list))
	seq := arrays.of(projection.Integer, len(list))
	for _, c := range list {
		instance.text(c.InstanceID)
		source.text(string(c.Source))
		seq.add(projection.Value{Valid: true, Int: int64(c.Sequence)})
	}
	return []param{instance.param(), source.param(), seq.param()}
}

// arrays are those of one batch and table. They are used again for another one,
// so that they have grown to the size of their column.
type arrays struct {
	list []*array
	used int
}

func newArrays() *arrays { return &arrays{} }

// of is a fresh array for a column of that type.
func (s *arrays) of(t projection.Type, rows int) *array {
	element, arrayOID := uint32(pgtype.TextOID), uint32(pgtype.TextArrayOID)
	switch t {
	case projection.Bool:
		element, arrayOID = pgtype.BoolOID, pgtype.BoolArrayOID
	case projection.Integer:
		element, arrayOID = pgtype.Int8OID, pgtype.Int8ArrayOID
	case projection.Timestamp:
		element, arrayOID = pgtype.TimestamptzOID, pgtype.TimestamptzArrayOID
	case projection.JSON:
		element, arrayOID = pgtype.JSONBOID, pgtype.JSONBArrayOID
	}
	a := s.next(element, arrayOID, rows)
	a.kind = t
	return a
}

func (s *arrays) next(element, arrayOID uint32, rows int) *array {
	if s.used == len(s.list) {
		s.list = append(s.list, &array{b: make([]byte, 0, 20+rows*24)})
	}
	a := s.list[s.used]
	s.used++
	var header [20]byte
	*a = array{b: append(a.b[:0], header[:]...), element: element, array: arrayOID}
	binary.BigEndian.PutUint32(a.b[0:], 1) // dimensions
	binary.BigEndian.PutUint32(a.b[8:], element)
	binary.BigEndian.PutUint32(a.b[16:], 1) // lower bound
	return a
}

// array builds a one-dimensional array in Postgres's binary format: dimensions,
// whether there are nulls, element type, length, lower bound, then each element
// behind its length.
type array struct {
	b       []byte
	kind    projection.Type
	element uint32
	array   uint32
	n       uint32
	valued  bool // not all are null
}

// jsonbVersion stands before the text of a jsonb value on the wire.
const jsonbVersion = 1

// postgresEpoch is 2000-01-01 in microseconds since 1970.
const postgresEpoch = 946684800000000

func (a *array) add(v projection.Value) {
	if !v.Valid {
		a.null()
		return
	}
	switch a.kind {
	case projection.Bool:
		a.size(1)
		a.b = append(a.b, byte(v.Int))
	case projection.Integer:
		a.size(8)
		a.b = binary.BigEndian.AppendUint64(a.b, uint64(v.Int))
	case projection.Timestamp:
		a.size(8)
		a.b = binary.BigEndian.AppendUint64(a.b, uint64(v.Int-postgresEpoch))
	case projection.JSON:
		a.size(len(v.Text) + 1)
		a.b = append(append(a.b, jsonbVersion), v.Text...)
	default:
		a.text(v.Text)
	}
}

func (a *array) null() {
	binary.BigEndian.PutUint32(a.b[4:], 1)
	a.n++
	a.b = binary.BigEndian.AppendUint32(a.b, 0xFFFFFFFF)
}

func (a *array) text(s string) {
	a.size(len(s))
	a.b = append(a.b, s...)
}

func (a *array) size(n int) {
	a.n++
	a.valued = true
	a.b = binary.BigEndian.AppendUint32(a.b, uint32(n))
}

func (a *array) param() param {
	if !a.valued { // unnest fills up what is shorter with nulls
		b := make([]byte, 12) // no dimensions
		binary.BigEndian.PutUint32(b[8:], a.element)
		return param{a.array, b}
	}
	binary.BigEndian.PutUint32(a.b[12:], a.n)
	return param{a.array, a.b}
}
