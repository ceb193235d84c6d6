package projection

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/rollcall-dev/rollcall/internal/rawjson"
)

// reader reads the members of one kind of object. What it reads into is used
// again: for most events it would be most of what is allocated.
type reader struct {
	resource *Resource
	contents bool      // its contents are kept, not only its deletions and what it embeds
	sources  []source  // of the resource's columns
	fields   sync.Pool // of *Fields
	embeds   []embedded
}

// embedded is a list of another resource's entities.
type embedded struct {
	*reader
	Embed
}

func newReader(r *Resource, members ...string) *reader {
	places, n := newPlaces(members)
	d := &reader{resource: r, fields: sync.Pool{New: func() any { return &Fields{places: places, values: make([][]byte, n)} }}}
	if r != nil {
		for _, c := range r.Columns {
			_, rest, _ := strings.Cut(c.Path, ".")
			d.sources = append(d.sources, source{places.of(c.member()), rest})
		}
	}
	return d
}

// embed makes readers of those lists whose resource is kept.
func (r *reader) embed(kept []*Resource) {
	if r.resource == nil {
		return
	}
	for _, e := range r.resource.Embeds {
		if k := keeps(kept, e.Table); k != nil {
			r.embeds = append(r.embeds, embedded{newReader(k, slices.Concat(k.members(), e.Inherits, []string{e.ParentID})...), e})
		}
	}
}

func (r *reader) get() *Fields { return r.fields.Get().(*Fields) }

// done takes fields back, without the event that they point into.
func (r *reader) done(f *Fields) {
	f.clear()
	r.fields.Put(f)
}

// changes appends what an event says of its entity, and of those embedded.
func (r *reader) changes(e *event, id string, data *Fields, into []*Change) ([]*Change, error) {
	updatedAt, _ := rawjson.Int(data.Get("updated_at"))
	if r.contents {
		c := e.change(r.resource, id)
		c.Version = NewVersion(ClassOwn, r.terminal(data, e.action), updatedAt, e.timestamp, rank(e.action), e.id())
		if err := r.fill(c, data, e.room); err != nil {
			return into, err
		}
		into = append(into, c)
	}
	for i := range r.embeds {
		var err error
		if into, err = r.embeds[i].changes(e, data, updatedAt, into); err != nil {
			return into, fmt.Errorf("data.%s: %w", r.embeds[i].Member, err)
		}
	}
	return into, nil
}

// changes appends the elements, with the times and the id of the event. An
// element without an id names no entity; of two with one id the greater
// version counts, or the later.
func (r *embedded) changes(e *event, parent *Fields, updatedAt int64, into []*Change) ([]*Change, error) {
	var failed error
	own := len(into)
	rawjson.Elements(parent.Get(r.Member), func(element []byte) {
		data := r.get()
		defer r.done(data)
		rawjson.Members(element, data.set)
		id, err := entityID(data)
		if err != nil {
			failed = err
		}
		if id == "" {
			return
		}
		data.inherit(parent, r.Embed)
		c := e.change(r.resource, id)
		c.Version = NewVersion(ClassEmbedded, r.terminal(data, ""), updatedAt, e.timestamp, rank(e.action), e.id())
		if err := r.fill(c, data, e.room); err != nil {
			failed = err
			return
		}
		same := slices.IndexFunc(into[own:], func(o *Change) bool { return o.Resource == c.Resource && o.ID == c.ID })
		switch {
		case same < 0:
			into = append(into, c)
		case c.Version >= into[own+same].Version:
			into[own+same] = c
		}
	})
	return into, failed
}

// inherit fills what an embedded object lacks from the event that it stands in.
func (f *Fields) inherit(parent *Fields, e Embed) {
	if id, _ := rawjson.TextBytes(f.Get(e.ParentID)); len(id) == 0 {
		f.values[f.places.of(e.ParentID)] = parent.Get("id")
	}
	for _, member := range e.Inherits {
		if rawjson.IsNull(f.Get(member)) {
			f.values[f.places.of(member)] = parent.Get(member)
		}
	}
}

func (r *reader) terminal(data *Fields, action string) bool {
	if len(r.resource.Terminal) == 0 {
		return false
	}
	status, _ := rawjson.Text(data.Get("status"))
	return r.resource.terminal(status, action)
}

// fill reads the columns.
func (r *reader) fill(c *Change, data *Fields, room *room) error {
	c.Values = room.row(len(r.resource.Columns))
	for i := range r.resource.Columns {
		v, err := r.resource.Columns[i].read(data, r.sources[i])
		if err != nil {
			return fmt.Errorf("%s.%s: %w", r.resource.Table, r.resource.Columns[i].Name, err)
		}
		c.Values[i] = v
	}
	return nil
}

// last reads the columns of a deletion, whose event may hold anything: what
// can't be read is null.
func (r *reader) last(data *Fields) []Value {
	values := make([]Value, len(r.resource.Columns))
	for i := range r.resource.Columns {
		if v, err := r.resource.Columns[i].read(data, r.sources[i]); err == nil {
			values[i] = v
		}
	}
	return values
}
