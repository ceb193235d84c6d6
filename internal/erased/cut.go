package erased

import (
	"bytes"
	"slices"
	"strings"

	"github.com/rollcall-dev/rollcall/internal/rawjson"
	"github.com/rollcall-dev/rollcall/streams"
)

// maxDepth is how deeply a body may be nested to be read.
const maxDepth = 1000

// IDs are those of erased people and of what was theirs alone, as an invitation.
type IDs struct {
	plain map[string]bool // made of letters, digits, _ and -
	other []string
}

// NewIDs makes a set.
func NewIDs(ids ...string) *IDs {
	s := &IDs{plain: map[string]bool{}}
	for _, id := range ids {
		s.Add(id)
	}
	return s
}

// Add adds an id.
func (s *IDs) Add(id string) {
	switch {
	case id == "" || s.Has(id):
	case strings.ContainsFunc(id, func(c rune) bool { return c > 0x7f || !plain(byte(c)) }):
		s.other = append(s.other, id)
	default:
		s.plain[id] = true
	}
}

func (s *IDs) remove(id string) {
	delete(s.plain, id)
	s.other = slices.DeleteFunc(s.other, func(o string) bool { return o == id })
}

// Has reports whether an id is in the set.
func (s *IDs) Has(id string) bool { return s.plain[id] || slices.Contains(s.other, id) }

// Named reports whether a text has one of the ids in it, as a word of its own.
func (s *IDs) Named(text []byte) bool {
	if len(s.plain)+len(s.other) == 0 {
		return false
	}
	for at := 0; at < len(text); at++ {
		from := at
		for at < len(text) && plain(text[at]) {
			at++
		}
		if at > from && s.plain[string(text[from:at])] {
			return true
		}
	}
	return slices.ContainsFunc(s.other, func(id string) bool { return bytes.Contains(text, []byte(id)) })
}

func plain(c byte) bool {
	return c == '_' || c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// Cut is what may be published of an event. Of one of an erased person's own, or
// of what was theirs, that is type, ids and times alone; of another's that embeds
// the person it is all but the objects that do. paths are what was taken, nil
// where the body is returned as it is. A body that isn't JSON and names somebody
// is taken away whole.
func (s *IDs) Cut(body []byte) (cut []byte, paths []string) {
	if !s.Named(body) && bytes.IndexByte(body, '\\') < 0 || len(s.plain)+len(s.other) == 0 {
		return body, nil
	}
	e, ok := Read(body)
	switch {
	case !ok && s.Named(body):
		return nil, []string{"$"}
	case !ok:
		return body, nil
	case s.Has(e.EntityID) || s.Has(e.Owner):
		return e.Reduced(), []string{"event_attributes", "data"}
	}
	return e.Without(s, nil)
}

// Event is what is read of an event's body to tell whose it is.
type Event struct {
	Resource, Action, InstanceID, EntityID string
	Owner                                  string // the user whose event it is; "" where it is nobody's, or an organization's

	body, data []byte
}

// Read reads a body; ok is false where it is no JSON object.
func Read(body []byte) (e Event, ok bool) {
	if rawjson.Check(body, maxDepth) != nil || rawjson.Kind(body) != '{' {
		return e, false
	}
	e.body = body
	rawjson.Members(body, func(key, value []byte) {
		switch string(key) {
		case "type":
			text, _ := rawjson.Text(value)
			e.Resource, e.Action, _ = streams.SplitType(text)
		case "instance_id":
			e.InstanceID, _ = rawjson.Text(value)
		case "data":
			e.data = value
		}
	})
	e.EntityID = e.Text("id")
	if e.Resource == "user" {
		e.Owner = e.EntityID
		return e, true
	}
	for _, path := range [][]string{{"user_id"}, {"public_user_data", "user_id"}, {"payer", "user_id"}} {
		if e.Owner = e.Text(path...); e.Owner != "" {
			break
		}
	}
	return e, true
}

// Text is a string of the event's data, "" where there is none.
func (e *Event) Text(path ...string) string {
	value := e.data
	for _, name := range path {
		value = rawjson.Member(value, name)
	}
	text, _ := rawjson.Text(value)
	return text
}

// Strings visits all strings of the event, decoded, with the names of the members
// that they stand in.
func (e *Event) Strings(visit func(name, text string)) { eachString("", e.body, visit) }

func eachString(name string, value []byte, visit func(name, text string)) {
	switch rawjson.Kind(value) {
	case '"':
		text, _ := rawjson.Text(value)
		visit(name, text)
	case '{':
		rawjson.Members(value, func(key, value []byte) { eachString(string(key), value, visit) })
	case '[':
		rawjson.Elements(value, func(value []byte) { eachString(name, value, visit) })
	}
}

// kept are the members that stay of what was a person's: ids and times. An
// external_id or a provider's id names the person elsewhere.
var kept = map[string]bool{
	"type": true, "object": true, "timestamp": true, "instance_id": true, "data": true,
	"id": true, "user_id": true, "organization_id": true, "sub": true, "deleted": true, "created_at": true, "updated_at": true,
	"organization": true, "public_user_data": true, "payer": true,
}

// Reduced is the event with type, ids and times alone.
func (e *Event) Reduced() []byte { return reduced(nil, e.body) }

func reduced(out, object []byte) []byte {
	out = append(out, '{')
	first := true
	rawjson.Members(object, func(key, value []byte) {
		kind := rawjson.Kind(value)
		if !kept[string(key)] || kind == '[' {
			return
		}
		if !first {
			out = append(out, ',')
		}
		first = false
		out = append(append(append(out, '"'), key...), '"', ':')
		if kind == '{' {
			out = reduced(out, value)
			return
		}
		out = append(out, value...)
	})
	return append(out, '}')
}

// Without is another's event without the objects that are an erased person, and
// without the strings that hold one of their texts (nil: none does). paths are
// what was taken; nil where there is nothing, and the body returned as it is.
func (e *Event) Without(s *IDs, holds func(text string) bool) (body []byte, paths []string) {
	c := cutter{body: e.body, ids: s, holds: holds}
	c.value("", e.body)
	if len(c.paths) == 0 {
		return e.body, nil
	}
	return append(c.out, e.body[c.done:]...), c.paths
}

type cutter struct {
	body  []byte
	ids   *IDs
	holds func(string) bool
	out   []byte // the body up to done
	done  int
	paths []string
}

func (c *cutter) value(path string, value []byte) {
	switch rawjson.Kind(value) {
	case '"':
		if c.holds == nil {
			return
		}
		if text, _ := rawjson.Text(value); c.holds(text) {
			c.replace(path, value, []byte("null"))
		}
	case '{':
		if path != "" && path != "data" && c.person(value) {
			if less := reduced(nil, value); len(less) < len(value) {
				c.replace(path, value, less)
			}
			return
		}
		rawjson.Members(value, func(key, value []byte) {
			if path == "" && (string(key) == "type" || string(key) == "instance_id") {
				return
			}
			c.value(strings.TrimPrefix(path+"."+string(key), "."), value)
		})
	case '[':
		rawjson.Elements(value, func(value []byte) { c.value(path+"[]", value) })
	}
}

// person reports whether an object is an erased person: what embeds one names
// them so.
func (c *cutter) person(object []byte) (is bool) {
	rawjson.Members(object, func(key, value []byte) {
		switch string(key) {
		case "id", "user_id", "sub":
			id, _ := rawjson.Text(value)
			is = is || c.ids.Has(id)
		}
	})
	return is
}

func (c *cutter) replace(path string, value, by []byte) {
	at := rawjson.Offset(c.body, value)
	c.out = append(append(c.out, c.body[c.done:at]...), by...)
	c.done = at + len(value)
	c.paths = append(c.paths, path)
}
