package store

import (
	"encoding/binary"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rollcall-dev/rollcall/internal/projection"
)

// Work is a batch ready to be written: for each table the statements'
// parameters, as Postgres's binary arrays, so that one statement writes all
// rows of a table and nothing is encoded while the writer lock is held.
type Work struct {
	contents  []tableWork
	deletions []tableWork
	replaced  int // characters that Postgres can't store
}

// tableWork is what one writer has to write.
type tableWork struct {
	writer *writer
	rows   int
	params []param
}

// param is one parameter of a statement.
type param struct {
	oid   uint32
	value []byte
}

func (s *Store) pack(f projection.Folded) *Work {
	w := &Work{}
	for _, writer := range s.writers {
		if list := f.Contents[writer.resource]; len(list) > 0 {
			w.contents = append(w.contents, tableWork{writer, len(list), packContents(writer.resource, list)})
			for _, c := range list {
				for i := range c.Values {
					w.replaced += c.Values[i].Replaced
				}
			}
		}
		if list := f.Deletions[writer.resource]; len(list) > 0 {
			w.deletions = append(w.deletions, tableWork{writer, len(list), packDeletions(list)})
		}
	}
	return w
}

func packContents(r *projection.Resource, list []*projection.Change) []param {
	params := make([]param, 0, len(r.Columns)+4)
	for i, column := range r.Columns {
		a := newArray(column.Type, len(list))
		for _, c := range list {
			a.add(c.Values[i])
		}
		params = append(params, a.param())
	}
	version := newArrayOf(pgtype.ByteaOID, pgtype.ByteaArrayOID, len(list))
	for _, c := range list {
		version.text(string(c.Version))
	}
	return append(append(params, version.param()), packOrigin(list)...)
}

func packDeletions(list []*projection.Change) []param {
	ids := newArray(projection.Text, len(list))
	at := newArray(projection.Timestamp, len(list))
	for _, c := range list {
		ids.text(c.ID)
		at.add(projection.Value{Valid: true, Int: c.DeletedAt})
	}
	return append([]param{ids.param(), at.param()}, packOrigin(list)...)
}

// packOrigin is where the rows come from: instance_id, source, stream_seq.
func packOrigin(list []*projection.Change) []param {
	instance, source := newArray(projection.Text, len(list)), newArray(projection.Text, len(list))
	seq := newArray(projection.Integer, len(list))
	for _, c := range list {
		instance.text(c.InstanceID)
		source.text(string(c.Source))
		seq.add(projection.Value{Valid: true, Int: int64(c.Sequence)})
	}
	return []param{instance.param(), source.param(), seq.param()}
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

func newArray(t projection.Type, rows int) *array {
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
	a := newArrayOf(element, arrayOID, rows)
	a.kind = t
	return a
}

func newArrayOf(element, arrayOID uint32, rows int) *array {
	a := &array{b: make([]byte, 20, 20+rows*24), element: element, array: arrayOID}
	binary.BigEndian.PutUint32(a.b[0:], 1) // dimensions
	binary.BigEndian.PutUint32(a.b[8:], element)
	binary.BigEndian.PutUint32(a.b[16:], 1) // lower bound
	return a
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

func fromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }
