package projection

import (
	"fmt"
	"strings"
	"unsafe"

	"github.com/rollcall-dev/rollcall/internal/rawjson"
)

// Value is one column of one row. Which field holds it depends on the column's
// type: Text for Text, ID, JSON (the JSON text) and TextArray (a Postgres
// array literal), Int for Bool (0, 1), Integer and Timestamp (microseconds
// since 1970).
type Value struct {
	Text  string
	Int   int64
	Valid bool // false is null
	// Replaced counts characters that Postgres can't store and that became U+FFFD.
	Replaced int32
}

// places are the members that somebody reads, by the length of their names:
// few share one, so that finding a member costs a comparison or two.
type places [][]place

type place struct {
	name string
	at   int // in Fields
}

func newPlaces(members []string) (p places, n int) {
	for _, m := range members {
		for len(p) <= len(m) {
			p = append(p, nil)
		}
		if p.of(m) < 0 {
			p[len(m)] = append(p[len(m)], place{m, n})
			n++
		}
	}
	return p, n
}

// of is a member's place, -1 where nobody reads it.
func (p places) of(name string) int {
	if len(name) < len(p) {
		for _, candidate := range p[len(name)] {
			if candidate.name == name {
				return candidate.at
			}
		}
	}
	return -1
}

// Fields are those members of an object that somebody reads.
type Fields struct {
	places places
	values [][]byte // by place; nil where there is none
	// The element that primary found last, and of which list.
	list    string
	element []byte
}

// clear forgets the object.
func (f *Fields) clear() {
	clear(f.values)
	f.list, f.element = "", nil
}

// set takes a member. Of two with one name the last counts.
func (f *Fields) set(key, value []byte) {
	if at := f.places.of(view(key)); at >= 0 {
		f.values[at] = value
	}
}

// Get is the value of a member, nil where there is none. Columns may only ask
// for what they say they read.
func (f *Fields) Get(name string) []byte {
	at := f.places.of(name)
	if at < 0 {
		panic("projection: Reads lacks " + name)
	}
	return f.values[at]
}

// follow goes on into a value, along names with dots between.
func follow(value []byte, rest string) []byte {
	for rest != "" && value != nil {
		var name string
		name, rest, _ = strings.Cut(rest, ".")
		value = rawjson.Member(value, name)
	}
	return value
}

// source is where a column's value stands.
type source struct {
	at   int    // of the member in Fields
	rest string // names within it, with dots between
}

// read makes a column's value. Missing and null are null; a value of another
// type than the column's is an error, unless nothing is lost by reading it as
// that type.
func (c *Column) read(f *Fields, from source) (Value, error) {
	if c.Made != nil {
		return c.Made(f)
	}
	raw := f.values[from.at] // begins with the value, without white space
	if from.rest != "" {
		raw = follow(raw, from.rest)
	}
	if len(raw) == 0 || raw[0] == 'n' {
		return Value{}, nil
	}
	v, err := c.parse(raw)
	if err != nil {
		return v, fmt.Errorf("data.%s is %s, which is no %s", c.Path, kindName(raw), c.Type)
	}
	return v, nil
}

var errType = fmt.Errorf("another type")

func (c *Column) parse(raw []byte) (Value, error) {
	switch c.Type {
	case Text, ID:
		v, err := textOf(raw)
		if c.Type == ID && v.Text == "" {
			v.Valid = false
		}
		return v, err
	case Bool:
		if k := rawjson.Kind(raw); k == 't' || k == 'f' {
			return boolValue(k == 't'), nil
		}
	case Integer:
		if n, ok := rawjson.Int(raw); ok {
			return Value{Valid: true, Int: n}, nil
		}
	case Timestamp:
		if ms, ok := rawjson.Int(raw); ok && storableMillis(ms) {
			return Value{Valid: true, Int: ms * 1000}, nil
		}
	case JSON:
		clean, n := rawjson.Storable(raw)
		return Value{Valid: true, Text: view(clean), Replaced: int32(n)}, nil
	case TextArray:
		if rawjson.Kind(raw) == '[' {
			return textArray(raw)
		}
	}
	return Value{}, errType
}

// view is a string over bytes of a message, which nobody changes. A row is read
// from its message and gone soon after it; copies of every text were a third of
// what reading one allocated.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// storableMillis: years 1 to 9999, which Postgres and every client can show.
func storableMillis(ms int64) bool { return ms > -62135596800000 && ms < 253402300800000 }

// textOf reads a string; a number or a boolean is read as it is written.
func textOf(raw []byte) (Value, error) {
	switch rawjson.Kind(raw) {
	case 0, 'n':
		return Value{}, nil
	case '"':
		b, _ := rawjson.TextBytes(raw)
		clean, n := rawjson.StorableText(view(b))
		return Value{Valid: true, Text: clean, Replaced: int32(n)}, nil
	case '-', 't', 'f':
		return Value{Valid: true, Text: view(raw)}, nil
	}
	return Value{}, errType
}

func boolValue(b bool) Value {
	if b {
		return Value{Valid: true, Int: 1}
	}
	return Value{Valid: true}
}

// textArray makes a Postgres array literal.
func textArray(raw []byte) (Value, error) {
	var b strings.Builder
	v := Value{Valid: true}
	var failed error
	b.WriteByte('{')
	rawjson.Elements(raw, func(element []byte) {
		e, err := textOf(element)
		if err != nil {
			failed = err
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		v.Replaced += e.Replaced
		if !e.Valid {
			b.WriteString("NULL")
			return
		}
		b.WriteByte('"')
		b.WriteString(arrayEscapes.Replace(e.Text))
		b.WriteByte('"')
	})
	b.WriteByte('}')
	v.Text = b.String()
	return v, failed
}

var arrayEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

func kindName(raw []byte) string {
	switch rawjson.Kind(raw) {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	}
	return "a number"
}

// String is the Postgres type.
func (t Type) String() string {
	switch t {
	case Text, ID:
		return "text"
	case Bool:
		return "boolean"
	case Integer:
		return "bigint"
	case Timestamp:
		return "timestamptz"
	case JSON:
		return "jsonb"
	case TextArray:
		return "text[]"
	}
	return "?"
}
