package projection

import (
	"errors"
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
	DeletedAt int64
	// Last is what a deletion's event still says of the content, by column, from
	// a decoder that reads it; most say no more than the id.
	Last       []Value
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
	batches  sync.Pool // of *Batch
	last     bool
}

// ReadLast makes the decoder read the contents that deletions still carry.
func (d *Decoder) ReadLast() { d.last = true }

// NewDecoder makes a decoder of the resources that are kept. Of other resources
// it reads what concerns those: deletions of their parents, and lists of events
// that embed them.
func NewDecoder(names streams.Names, kept []*Resource) *Decoder {
	d := &Decoder{names: names, envelope: newReader(nil, "type", "timestamp", "data"), byObject: map[string]*reader{}}
	for _, r := range kept {
		d.byObject[r.Object] = newReader(r, r.members()...)
		d.byObject[r.Object].contents = true
	}
	for _, r := range Concerned(kept) {
		d.byObject[r.Object] = newReader(r, r.outerMembers()...)
	}
	for _, reader := range d.byObject {
		reader.embed(kept)
	}
	return d
}

// Concerned are the resources that aren't kept and whose events change rows of
// those that are: their parents, and those that embed them.
func Concerned(kept []*Resource) (list []*Resource) {
	for _, r := range Resources() {
		concerns := func(k *Resource) bool {
			return k.HasParent(r.Table) || slices.ContainsFunc(r.Embeds, func(e Embed) bool { return e.Table == k.Table })
		}
		if keeps(kept, r.Table) == nil && slices.ContainsFunc(kept, concerns) {
			list = append(list, r)
		}
	}
	return list
}

func keeps(kept []*Resource, table string) *Resource {
	if i := slices.IndexFunc(kept, func(r *Resource) bool { return r.Table == table }); i >= 0 {
		return kept[i]
	}
	return nil
}

// Decode reads a message of the log and appends what it changes, which is
// nothing where the event is of no concern; known tells those from types that
// the decoder doesn't know. An error says why the event can never be applied,
// and names no personal data.
func (d *Decoder) Decode(m streams.Message, into []*Change) (changes []*Change, known bool, err error) {
	return d.decode(m, into, nil)
}

func (d *Decoder) decode(m streams.Message, into []*Change, room *room) (changes []*Change, known bool, err error) {
	subject, subjectErr := d.names.ParseSubject(m.Subject)
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
		return into, object == streams.ResourceRollcall, nil
	}
	if typed != r || !once {
		r, data = typed, typed.get()
		defer r.done(data)
		rawjson.Members(envelope.Get("data"), data.set)
	}
	id, err := entityID(data)
	switch {
	case err != nil:
		return into, true, err
	case id == "":
		return into, true, errors.New("the event has no data.id")
	}
	e := &event{Message: m, action: action, timestamp: timestampOf(envelope), room: room}
	if subjectErr == nil { // a body may lack its instance; the subject has the endpoint's then
		e.instanceID, _ = rawjson.StorableText(subject.InstanceID)
	}
	if action == "deleted" {
		c := e.deletion(r.resource, id)
		if d.last && r.contents {
			c.Last = r.last(data)
		}
		return append(into, c), true, nil
	}
	changes, err = r.changes(e, id, data, into)
	return changes, true, err
}

// entityID is data.id, "" where there is none.
func entityID(data *Fields) (string, error) {
	id, _ := rawjson.Text(data.Get("id"))
	if strings.Contains(id, "\x00") {
		return "", errors.New("data.id holds U+0000")
	}
	return id, nil
}

func timestampOf(envelope *Fields) int64 {
	at := streams.ParseTimestamp(string(envelope.Get("timestamp")))
	if at.IsZero() || !storableMillis(at.UnixMilli()) {
		return 0
	}
	return at.UnixMilli()
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

// event is a message whose envelope has been read.
type event struct {
	streams.Message
	action     string
	timestamp  int64 // of the envelope, milliseconds; 0 where it has none
	instanceID string
	room       *room
}

func (e *event) change(r *Resource, id string) *Change {
	c := e.room.change()
	*c = Change{Resource: r, ID: id, InstanceID: e.instanceID, Source: streams.Source(e.Header.Get(streams.HeaderSource)), Sequence: e.Sequence}
	return c
}

func (e *event) deletion(r *Resource, id string) *Change {
	at := e.timestamp
	if at == 0 { // when it reached us is the next best, and is stored with it
		at, _ = strconv.ParseInt(e.Header.Get(streams.HeaderReceivedAt), 10, 64)
	}
	c := e.change(r, id)
	c.DeletedAt = at * 1000
	return c
}

// id of the event: stable over retries.
func (e *event) id() string {
	if id := e.Header.Get(streams.HeaderSvixID); id != "" {
		return id
	}
	return e.Header.Get(streams.HeaderMsgID)
}

// Folded is a batch of changes, of which only the winners are left: for each
// entity the newest content and the earliest deletion, or the latest of inferred
// ones where there is no other, in order of their ids.
type Folded struct {
	Contents  map[*Resource][]*Change
	Deletions map[*Resource][]*Change
	// Erased are the ids of those whose person was erased: nothing personal of
	// them stays, whatever becomes of deleted rows.
	Erased map[*Resource][]string
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
	f := Folded{Contents: map[*Resource][]*Change{}, Deletions: map[*Resource][]*Change{}}
	for _, c := range changes {
		if c.Deletion() && c.Source == streams.SourceErase {
			f.erase(c)
		}
		k := entity{c.Resource, c.ID, c.Deletion()}
		if w := winners[k]; w == nil || c.beats(w) {
			winners[k] = c
		}
	}
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

func (f *Folded) erase(c *Change) {
	if f.Erased == nil {
		f.Erased = map[*Resource][]string{}
	}
	if !slices.Contains(f.Erased[c.Resource], c.ID) {
		f.Erased[c.Resource] = append(f.Erased[c.Resource], c.ID)
	}
}

// Inferred reports whether nobody was told of the deletion: Clerk no longer has
// the entity. It holds until a content that is newer than it, and another
// deletion stands over it.
func (c *Change) Inferred() bool { return c.Deletion() && c.Source == streams.SourceReconcile }

func (c *Change) beats(other *Change) bool {
	switch {
	case !c.Deletion():
		return c.Version > other.Version
	case c.Inferred() != other.Inferred():
		return other.Inferred()
	case c.Inferred():
		return c.DeletedAt > other.DeletedAt
	}
	return c.DeletedAt < other.DeletedAt
}
