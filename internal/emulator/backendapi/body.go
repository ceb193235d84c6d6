package backendapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"time"
	"unicode/utf8"
)

const maxText = 256 // characters of a name or identifier

// A body reads the fields of a request's JSON object and collects what is
// wrong with them. Each reading makes a field known; err is asked once, at the
// end, and rejects those that nobody read.
type body struct {
	fields map[string]json.RawMessage
	known  map[string]bool
	items  []errorItem
}

// A field is what a body has under a name: nothing, null or a value.
type field[T any] struct {
	given, null bool
	value       T
}

func (f field[T]) or(otherwise T) T {
	if !f.given || f.null {
		return otherwise
	}
	return f.value
}

// has reports whether there is a value.
func (f field[T]) has() bool { return f.given && !f.null }

// pointer is the value, nil if there is none.
func (f field[T]) pointer() *T {
	if !f.has() {
		return nil
	}
	return &f.value
}

// orEmpty is the value, with null read as the empty one: it clears.
func (f field[T]) orEmpty() *T {
	if !f.given {
		return nil
	}
	return &f.value
}

func newBody(fields map[string]json.RawMessage) *body {
	return &body{fields: fields, known: map[string]bool{}}
}

// readObject reads a request's body; an empty one, or null as some SDKs send
// it, is an object without fields.
func readObject(r *http.Request) (*body, error) {
	var fields map[string]json.RawMessage
	if err := readJSON(r, &fields); err != nil {
		return nil, err
	}
	return newBody(fields), nil
}

// readArray reads a body that is an array of objects, with the most it may have.
func readArray(r *http.Request, most int) ([]*body, error) {
	var objects []map[string]json.RawMessage
	if err := readJSON(r, &objects); err != nil {
		return nil, err
	}
	if len(objects) == 0 {
		return nil, errBodyInvalid
	}
	if len(objects) > most {
		return nil, errBulkSize(most)
	}
	bodies := make([]*body, len(objects))
	for i, fields := range objects {
		bodies[i] = newBody(fields)
	}
	return bodies, nil
}

func readJSON(r *http.Request, into any) error {
	data, err := io.ReadAll(r.Body)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return errBodyTooLarge
	}
	if err != nil {
		return errBodyInvalid
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil
	}
	if given := r.Header.Get("Content-Type"); given != "" {
		if media, _, err := mime.ParseMediaType(given); err != nil || media != "application/json" {
			return errContentType(given)
		}
	}
	if err := json.Unmarshal(data, into); err != nil {
		return errBodyInvalid
	}
	return nil
}

func (b *body) has(name string) bool { return b.fields[name] != nil }

func (b *body) reject(item errorItem) { b.items = append(b.items, item) }

func (b *body) err() error {
	for _, name := range slices.Sorted(maps.Keys(b.fields)) {
		if !b.known[name] {
			b.reject(formUnknown(name))
		}
	}
	if len(b.items) == 0 {
		return nil
	}
	return form(b.items...)
}

// ignore makes fields known that the emulator accepts and has no use for.
func (b *body) ignore(names ...string) {
	for _, name := range names {
		b.known[name] = true
	}
}

func read[T any](b *body, name, kind string) field[T] {
	b.known[name] = true
	raw, given := b.fields[name]
	f := field[T]{given: given, null: string(raw) == "null"}
	if f.has() {
		if err := json.Unmarshal(raw, &f.value); err != nil {
			b.reject(formType(name, kind))
			return field[T]{}
		}
	}
	return f
}

func (b *body) boolean(name string) field[bool]  { return read[bool](b, name, "boolean") }
func (b *body) integer(name string) field[int64] { return read[int64](b, name, "integer") }

// text reads a string of at most maxText characters.
func (b *body) text(name string) field[string] {
	f := read[string](b, name, "string")
	if utf8.RuneCountInString(f.value) > maxText {
		b.reject(formTooLong(name, maxText))
	}
	return f
}

// required reads a string that must be there and not be empty.
func (b *body) required(name string) string {
	f := b.text(name)
	switch {
	case f.given && f.null:
		b.reject(formNil(name))
	case f.value == "":
		b.reject(formMissing(name))
	}
	return f.value
}

func (b *body) list(name string) field[[]string] {
	f := read[[]string](b, name, "array of strings")
	if len(f.value) > maxValues {
		b.reject(formTooMany(name, maxValues))
	}
	return f
}

func (b *body) oneOf(name string, allowed ...string) field[string] {
	f := b.text(name)
	if f.has() && !slices.Contains(allowed, f.value) {
		b.reject(formValue(name, f.value, allowed...))
	}
	return f
}

// metadata reads an object; nil if it isn't there or null. State says whether
// it is too large.
func (b *body) metadata(name string) json.RawMessage {
	f := read[json.RawMessage](b, name, "object")
	if !f.has() {
		return nil
	}
	if f.value[0] != '{' {
		b.reject(formItem(name, "form_param_value_invalid", "is invalid", name+" must be a valid key-value object"))
	}
	return f.value
}

// instant reads an RFC 3339 time and answers Unix milliseconds.
func (b *body) instant(name string) field[int64] {
	f := b.text(name)
	at := field[int64]{given: f.given, null: f.null}
	if f.has() {
		t, err := time.Parse(time.RFC3339Nano, f.value)
		if err != nil {
			b.reject(formTime(name))
			return field[int64]{}
		}
		at.value = t.UnixMilli()
	}
	return at
}

// url reads an absolute URL; "" if it isn't there.
func (b *body) url(name string) string {
	f := b.text(name)
	if u, err := url.Parse(f.value); f.value != "" && (err != nil || !u.IsAbs()) {
		b.reject(formFormat(name, name+" must be a valid url."))
	}
	return f.value
}

// days reads how long an invitation lives; 0 if it isn't there.
func (b *body) days(name string) int {
	f := b.integer(name)
	if f.has() && (f.value < 1 || f.value > 365) {
		b.reject(formFormat(name, name+" must be between 1 and 365."))
	}
	return int(f.value)
}
