package projection

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/rollcall-dev/rollcall/internal/rawjson"
	"github.com/rollcall-dev/rollcall/streams"
)

// Change is what one event says of one entity: a content or a deletion.
type Change struct {
	Resource *Resource
	ID       string
	Version  Version // of the content
	Values   []Value // the content, by column; nil for a deletion
	// DeletedAt of a deletion, microseconds since 1970.
	DeletedAt  int64
	InstanceID string
	Source     streams.Source
	Sequence   uint64
}

// Deletion reports whether the event deletes its entity.
func (c *Change) Deletion() bool { return c.Values == nil }

// Decoder reads events of the resources that it was made for.
type Decoder struct {
	names    streams.Names
	envelope *reader
	byObject map[string]*reader
}

// reader reads the members of one kind of object. What it reads into is used
// again: for most events it would be most of what is allocated.
type reader struct {
	resource *Resource
	sources  []source  // of the resource's columns
	fields   sync.Pool // of *Fields
}

func newReader(r *Resource, members ...string) *reader {
	places, n := newPlaces(members)
	d := &reader{resource: r, fields: sync.Pool{New: func() any { return &Fields{places: places, values: make([][]byte, n)} }}}
	if r != nil {
		for _, c := range r.Columns {
			first, rest, _ := strings.Cut(c.Path, ".")
			d.sources = append(d.sources, source{places.of(first), rest})
		}
	}
	return d
}

func (r *reader) get() *Fields { return r.fields.Get().(*Fields) }

// done takes fields back, without the event that they point into.
func (r *reader) done(f *Fields) {
	f.clear()
	r.fields.Put(f)
}

// NewDecoder makes a decoder.
func NewDecoder(names streams.Names, resources []*Resource) *Decoder {
	d := &Decoder{names: names, envelope: newReader(nil, "type", "timestamp", "data"), byObject: map[string]*reader{}}
	for _, r := range resources {
		d.byObject[r.Object] = newReader(r, r.members()...)
	}
	return d
}

// Decode reads a message of the log. An event of another resource is nil
// without an error; an error says why the event can never be applied, and
// names no personal data.
func (d *Decoder) Decode(m streams.Message) (*Change, error) {
	subject, err := d.names.ParseSubject(m.Subject)
	envelope := d.envelope.get()
	defer d.envelope.done(envelope)
	// The subject foretells the type, so that one pass reads envelope and data;
	// the type itself, which may stand behind the data, decides.
	r := d.byObject[subject.Resource]
	var data *Fields
	if r != nil {
		data = r.get()
		defer r.done(data)
	}
	once := readEvent(m.Data, envelope, data)
	eventType, _ := rawjson.Text(envelope.Get("type"))
	object, action, ok := streams.SplitType(eventType)
	typed := d.byObject[object]
	if !ok || typed == nil {
		return nil, nil
	}
	if typed != r || !once {
		r, data = typed, typed.get()
		defer r.done(data)
		rawjson.Members(envelope.Get("data"), data.set)
	}
	id, _ := rawjson.Text(data.Get("id"))
	if id == "" {
		return nil, errors.New("the event has no data.id")
	}
	if strings.Contains(id, "\x00") {
		return nil, errors.New("data.id holds U+0000")
	}
	c := &Change{Resource: r.resource, ID: id, Source: streams.Source(m.Header.Get(streams.HeaderSource)), Sequence: m.Sequence}
	if err == nil { // a body may lack its instance; the subject has the endpoint's then
		c.InstanceID, _ = rawjson.StorableText(subject.InstanceID)
	}
	var timestamp int64
	if at := streams.ParseTimestamp(string(envelope.Get("timestamp"))); !at.IsZero() && storableMillis(at.UnixMilli()) {
		timestamp = at.UnixMilli()
	}
	if action == "deleted" {
		return c, c.delete(timestamp, m)
	}
	return c, c.fill(action, timestamp, m, data, r.sources)
}

// readEvent reads an event's members, and those of its data where data is not
// nil; once is false where data holds members of several objects: of two with
// one name the last counts.
func readEvent(event []byte, envelope, data *Fields) (once bool) {
	if data == nil {
		rawjson.Members(event, envelope.set)
		return false
	}
	seen := 0
	rawjson.MembersWithin(event, func(key, value []byte) {
		if string(key) == "data" {
			seen++
		}
		envelope.set(key, value)
	}, "data", data.set)
	return seen <= 1
}

func (c *Change) delete(timestamp int64, m streams.Message) error {
	if timestamp == 0 { // when it reached us is the next best, and is stored with it
		timestamp, _ = strconv.ParseInt(m.Header.Get(streams.HeaderReceivedAt), 10, 64)
	}
	c.DeletedAt = timestamp * 1000
	return nil
}

func (c *Change) fill(action string, timestamp int64, m streams.Message, data *Fields, sources []source) error {
	updatedAt, _ := rawjson.Int(data.Get("updated_at"))
	eventID := m.Header.Get(streams.HeaderSvixID)
	if eventID == "" {
		eventID = m.Header.Get(streams.HeaderMsgID)
	}
	c.Version = NewVersion(ClassOwn, false, updatedAt, timestamp, rank(action), eventID)
	c.Values = make([]Value, len(c.Resource.Columns))
	for i := range c.Resource.Columns {
		v, err := c.Resource.Columns[i].read(data, sources[i])
		if err != nil {
			return fmt.Errorf("%s.%s: %w", c.Resource.Table, c.Resource.Columns[i].Name, err)
		}
		c.Values[i] = v
	}
	return nil
}

// Folded is a batch of changes, of which only the winners are left: for each
// entity the newest content and the earliest deletion, in order of their ids.
type Folded struct {
	Contents  map[*Resource][]*Change
	Deletions map[*Resource][]*Change
}

type entity struct {
	resource *Resource
	id       string
	deletion bool
}

// Fold keeps the winners. Any order of the same changes folds to the same, and
// so do the folds of any parts of them.
func Fold(changes []*Change) Folded {
	winners := make(map[entity]*Change, len(changes))
	for _, c := range changes {
		k := entity{c.Resource, c.ID, c.Deletion()}
		if w := winners[k]; w == nil || c.beats(w) {
			winners[k] = c
		}
	}
	f := Folded{map[*Resource][]*Change{}, map[*Resource][]*Change{}}
	for k, c := range winners {
		if k.deletion {
			f.Deletions[k.resource] = append(f.Deletions[k.resource], c)
		} else {
			f.Contents[k.resource] = append(f.Contents[k.resource], c)
		}
	}
	for _, lists := range []map[*Resource][]*Change{f.Contents, f.Deletions} {
		for _, list := range lists {
			slices.SortFunc(list, func(a, b *Change) int { return strings.Compare(a.ID, b.ID) })
		}
	}
	return f
}

func (c *Change) beats(other *Change) bool {
	if c.Deletion() {
		return c.DeletedAt < other.DeletedAt
	}
	return c.Version > other.Version
}
