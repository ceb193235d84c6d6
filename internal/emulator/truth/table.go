package truth

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// table is a resource's table as the store has it.
type table struct {
	*resource
	name        string // quoted, with its schema
	columns     []column
	types       []uint32 // of columns
	notCompared []string
}

// row is what is remembered of one: enough to see whether it is as it should be.
type row struct {
	hash    uint64 // over the compared columns
	deleted bool
	stub    bool // made by ensure_user or ensure_organization; its event hasn't come
	seen    bool // the state holds the entity
}

// findTables looks into the catalog for the resources' tables.
func findTables(ctx context.Context, tx pgx.Tx, schema string, all []*resource) (map[string]*table, error) {
	var names []string
	for _, r := range all {
		names = append(names, r.table)
	}
	rows, err := tx.Query(ctx, `select c.relname, a.attname, a.atttypid
		from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid
		where n.nspname = $1 and c.relname = any($2) and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped
		order by a.attnum`, schema, names)
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	found := map[string]map[string]uint32{}
	var name, attribute string
	var oid uint32
	_, err = pgx.ForEachRow(rows, []any{&name, &attribute, &oid}, func() error {
		if found[name] == nil {
			found[name] = map[string]uint32{}
		}
		found[name][attribute] = oid
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("schema %s of the database has none of the tables %s: is it the store's database and schema?", schema, strings.Join(names, ", "))
	}
	tables := map[string]*table{}
	for _, r := range all {
		if have, ok := found[r.table]; ok {
			if tables[r.table], err = newTable(r, schema, have); err != nil {
				return nil, err
			}
		}
	}
	return tables, nil
}

func newTable(r *resource, schema string, have map[string]uint32) (*table, error) {
	t := &table{resource: r, name: pgx.Identifier{schema, r.table}.Sanitize()}
	for _, needed := range []string{"id", "instance_id", "deleted_at", "source"} {
		if _, ok := have[needed]; !ok {
			return nil, fmt.Errorf("table %s has no column %s: a store's table has", t.name, needed)
		}
	}
	for _, c := range r.columns {
		oid, ok := have[c.name]
		if !ok {
			continue // excluded, or of another release
		}
		if !readable(oid) {
			return nil, fmt.Errorf("column %s of table %s has a type that can't be compared (oid %d)", c.name, t.name, oid)
		}
		t.columns = append(t.columns, c)
		t.types = append(t.types, oid)
	}
	for name := range have {
		if !ignored(name) && !slices.ContainsFunc(t.columns, func(c column) bool { return c.name == name }) {
			t.notCompared = append(t.notCompared, name)
		}
	}
	slices.Sort(t.notCompared)
	return t, nil
}

// load reads all rows of an instance, each as a hash: 100,000 take some 15 MB.
func (t *table) load(ctx context.Context, conn *pgconn.PgConn, seed maphash.Seed, instanceID string) (map[string]row, error) {
	index := map[string]row{}
	var buf []byte
	err := t.read(ctx, conn, "instance_id = $1", []string{instanceID}, func(id string, flags row, values [][]byte) error {
		buf = buf[:0]
		for i, v := range values {
			var err error
			if buf, err = appendStored(buf, t.types[i], v); err != nil {
				return fmt.Errorf("read column %s of %s %s: %w", t.columns[i].name, t.table, id, err)
			}
			buf = append(buf, 0)
		}
		flags.hash = maphash.Bytes(seed, buf)
		index[id] = flags
		return nil
	})
	return index, err
}

// expect is what the row of an object should be: the values one after the other,
// as load hashes them.
func (t *table) expect(dst []byte, o object) []byte {
	for i := range t.columns {
		dst = append(t.columns[i].canonical(dst, o), 0)
	}
	return dst
}

// fetch reads rows whole, their values as expect makes them.
func (t *table) fetch(ctx context.Context, conn *pgconn.PgConn, instanceID string, ids []string, each func(id string, values []string) error) error {
	list, err := json.Marshal(ids)
	if err != nil {
		return fmt.Errorf("write the ids: %w", err)
	}
	where := "instance_id = $1 and id in (select jsonb_array_elements_text($2::jsonb))"
	return t.read(ctx, conn, where, []string{instanceID, string(list)}, func(id string, _ row, stored [][]byte) error {
		texts := make([]string, len(stored))
		for i, v := range stored {
			canonical, err := appendStored(nil, t.types[i], v)
			if err != nil {
				return fmt.Errorf("read column %s of %s %s: %w", t.columns[i].name, t.table, id, err)
			}
			texts[i] = string(canonical)
		}
		return each(id, texts)
	})
}

// read streams rows in Postgres' binary format, whatever the connection's mode.
// The values are valid until each returns.
func (t *table) read(ctx context.Context, conn *pgconn.PgConn, where string, args []string, each func(id string, flags row, values [][]byte) error) error {
	list := []string{"id", "deleted_at is not null", "source = 'stub'"}
	for i, c := range t.columns {
		expression := pgx.Identifier{c.name}.Sanitize()
		if t.types[i] == pgtype.TextArrayOID || t.types[i] == pgtype.VarcharArrayOID {
			expression = "to_jsonb(" + expression + ")"
		}
		list = append(list, expression)
	}
	var params [][]byte
	for _, a := range args {
		params = append(params, []byte(a))
	}
	sql := "select " + strings.Join(list, ", ") + " from " + t.name + " where " + where
	result := conn.ExecParams(ctx, sql, params, nil, nil, []int16{pgx.BinaryFormatCode})
	var failed error
	for failed == nil && result.NextRow() {
		v := result.Values()
		failed = each(string(v[0]), row{deleted: v[1][0] == 1, stub: len(v[2]) > 0 && v[2][0] == 1}, v[3:])
	}
	if _, err := result.Close(); err != nil && failed == nil {
		failed = fmt.Errorf("read table %s: %w", t.name, err)
	}
	return failed
}

func readable(oid uint32) bool {
	return slices.Contains([]uint32{
		pgtype.TextOID, pgtype.VarcharOID, pgtype.BoolOID, pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID,
		pgtype.TimestamptzOID, pgtype.JSONBOID, pgtype.JSONOID, pgtype.TextArrayOID, pgtype.VarcharArrayOID,
	}, oid)
}

// appendStored appends the canonical form of a value in binary format.
func appendStored(dst []byte, oid uint32, v []byte) ([]byte, error) {
	if v == nil {
		return append(dst, "null"...), nil
	}
	switch oid {
	case pgtype.TextOID, pgtype.VarcharOID:
		return appendText(dst, string(v)), nil
	case pgtype.BoolOID:
		return strconv.AppendBool(dst, v[0] == 1), nil
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID:
		return strconv.AppendInt(dst, integer(v), 10), nil
	case pgtype.TimestamptzOID:
		return appendTimestamp(dst, integer(v)), nil
	case pgtype.JSONOID:
		return appendCanonical(dst, v[skipSpace(v, 0):]), nil
	case pgtype.JSONBOID, pgtype.TextArrayOID, pgtype.VarcharArrayOID: // arrays come as jsonb
		if v[0] != 1 {
			return nil, fmt.Errorf("jsonb of version %d", v[0])
		}
		return appendCanonical(dst, v[1:]), nil
	}
	return nil, fmt.Errorf("no way to read type %d", oid)
}

func integer(v []byte) int64 {
	switch len(v) {
	case 2:
		return int64(int16(binary.BigEndian.Uint16(v))) //nolint:gosec // two's complement
	case 4:
		return int64(int32(binary.BigEndian.Uint32(v))) //nolint:gosec // two's complement
	}
	return int64(binary.BigEndian.Uint64(v)) //nolint:gosec // two's complement
}

// appendTimestamp takes Postgres' time, microseconds since 2000; its ends are
// infinity.
func appendTimestamp(dst []byte, micros int64) []byte {
	const (
		year2000 = 946_684_800_000_000
		infinity = 1<<63 - 1
	)
	switch micros {
	case infinity:
		return append(dst, `"infinity"`...)
	case -infinity - 1:
		return append(dst, `"-infinity"`...)
	}
	return appendMillis(dst, micros+year2000)
}
