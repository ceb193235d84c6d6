package invalidate

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rollcall-dev/rollcall/internal/projection"
	"github.com/rollcall-dev/rollcall/streams"
)

// rule is what a change of one table's row makes stale.
type rule struct {
	resource  *projection.Resource // with no more columns than the templates and the parents need
	templates []projection.Template
	parents   []parent
	// byID are templates that the id alone fills; what they make needs no memory,
	// unless the row has to be found when its parent goes.
	byID []projection.Template
	// rest are the others.
	rest []projection.Template
}

// parent is a table whose row's deletion deletes rows of the rule's.
type parent struct {
	table  string
	column string // of the rule's table, with the parent's id
	// direct are templates that the parent's id alone fills: known without the row.
	direct []projection.Template
	// indexed: some key is known only from the row, so rows are found by parent.
	indexed bool
}

// rules are those of all tables with keys.
type rules struct {
	byTable map[string]*rule
	decoder *projection.Decoder
	objects []string // of the resources that are read, in Clerk's names
	// fingerprint changes with the templates whose keys are remembered.
	fingerprint string
}

func newRules(names streams.Names, keys map[string][]string) (*rules, error) {
	all := &rules{byTable: map[string]*rule{}}
	var kept []*projection.Resource
	digest := sha256.New()
	for _, table := range slices.Sorted(maps.Keys(keys)) {
		r, err := newRule(table, keys[table])
		if err != nil {
			return nil, err
		}
		all.byTable[table], kept = r, append(kept, r.resource)
		for _, t := range r.remembered() {
			fmt.Fprintf(digest, "%s %s\n", table, t)
		}
		all.objects = append(all.objects, r.resource.Object)
	}
	for _, r := range projection.Concerned(kept) {
		all.objects = append(all.objects, r.Object)
	}
	all.decoder = projection.NewDecoder(names, kept)
	all.decoder.ReadLast()
	all.fingerprint = hex.EncodeToString(digest.Sum(nil)[:8])
	return all, nil
}

func newRule(table string, templates []string) (*rule, error) {
	full := projection.ByTable(table)
	if full == nil {
		return nil, fmt.Errorf("keys: there is no table %q", table)
	}
	r := &rule{}
	for _, text := range templates {
		t, err := projection.ParseTemplate(full, text)
		if err != nil {
			return nil, fmt.Errorf("keys of %s: %q %w", table, text, err)
		}
		r.templates = append(r.templates, t)
		if t.NeedsOnly("id") {
			r.byID = append(r.byID, t)
		} else {
			r.rest = append(r.rest, t)
		}
	}
	for _, p := range full.Parents {
		r.parents = append(r.parents, r.under(p))
	}
	r.resource = r.reduced(full)
	return r, nil
}

// under says how the rule's keys are known when a parent goes.
func (r *rule) under(p projection.Parent) parent {
	under := parent{table: p.Table, column: p.Column}
	for _, t := range r.templates {
		if t.NeedsOnly(p.Column) {
			under.direct = append(under.direct, t)
		} else {
			under.indexed = true
		}
	}
	return under
}

// reduced is the resource with no other columns than those that are needed: an
// event isn't refused for what nobody reads.
func (r *rule) reduced(full *projection.Resource) *projection.Resource {
	needed := []string{"id"}
	for _, t := range r.templates {
		needed = append(needed, t.Fields()...)
	}
	for _, p := range r.parents {
		needed = append(needed, p.column)
	}
	resource := *full
	resource.Columns = slices.DeleteFunc(slices.Clone(full.Columns), func(c projection.Column) bool { return !slices.Contains(needed, c.Name) })
	return &resource
}

// remembered are the templates whose keys later events may not be able to say.
func (r *rule) remembered() []projection.Template {
	if r.indexed() {
		return r.templates
	}
	return r.rest
}

func (r *rule) indexed() bool {
	return slices.ContainsFunc(r.parents, func(p parent) bool { return p.indexed })
}

// render makes keys of those templates whose values are there.
func render(templates []projection.Template, value func(string) string) (keys []string) {
	for _, t := range templates {
		if key, ok := t.Render(value); ok && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// change is what one event says of one entity.
type change struct {
	rule     *rule  // nil for a parent without keys of its own
	table    string // also without a rule
	id       string
	action   string
	eventID  string
	version  projection.Version // "" of a deletion
	sequence uint64
	deleted  bool
	// inferred: of a deletion that somebody concluded, and a later event may belie.
	inferred bool
	keys     []string          // all that are known from the event
	remember []string          // of those, what has to be remembered
	parents  map[string]string // ids by table, of indexed parents
	orphans  []*rule           // whose rows have to be found, of a deletion
}

// read makes changes of a message, none where it is of no concern.
func (all *rules) read(m streams.Message) ([]change, error) {
	events, known, err := all.decoder.Decode(m, nil)
	if err != nil || !known {
		return nil, err
	}
	head := change{sequence: m.Sequence, eventID: m.Header.Get(streams.HeaderSvixID), action: action(m)}
	if head.eventID == "" {
		head.eventID = m.Header.Get(streams.HeaderMsgID)
	}
	var list []change
	for _, e := range events {
		if c := all.change(head, e); c.rule != nil || len(c.keys) > 0 || len(c.orphans) > 0 {
			list = append(list, c)
		}
	}
	return list, nil
}

// action is the second half of the type. Without names the prefix doesn't matter:
// it is the last but one token.
func action(m streams.Message) string {
	tokens := strings.Split(m.Subject, ".")
	if len(tokens) < 2 {
		return ""
	}
	a, _ := streams.ParseToken(tokens[len(tokens)-2]) // one that can't be read is named by nobody
	return a
}

func (all *rules) change(c change, e *projection.Change) change {
	c.rule, c.table, c.id, c.deleted = all.byTable[e.Resource.Table], e.Resource.Table, strings.Clone(e.ID), e.Deletion()
	values := e.Values
	if c.deleted {
		values, c.inferred = e.Last, e.Source == streams.SourceReconcile
		c.bereave(all, e)
	} else {
		c.version = e.Version
	}
	if c.rule == nil {
		return c
	}
	value := func(field string) string {
		switch at := c.rule.resource.Column(field); {
		case field == "id":
			return c.id
		case field == projection.InstanceField:
			return e.InstanceID
		case at < len(values) && values[at].Valid:
			return values[at].Text
		}
		return ""
	}
	c.keys = append(c.keys, render(c.rule.templates, value)...)
	c.remember = render(c.rule.remembered(), value)
	for _, p := range c.rule.parents {
		if id := value(p.column); p.indexed && id != "" {
			if c.parents == nil {
				c.parents = map[string]string{}
			}
			c.parents[p.table] = strings.Clone(id)
		}
	}
	return c
}

// bereave adds what goes with a parent.
func (c *change) bereave(all *rules, e *projection.Change) {
	for _, table := range slices.Sorted(maps.Keys(all.byTable)) {
		child := all.byTable[table]
		for _, p := range child.parents {
			if p.table != c.table {
				continue
			}
			c.keys = append(c.keys, render(p.direct, func(field string) string {
				if field == projection.InstanceField {
					return e.InstanceID
				}
				return c.id
			})...)
			if p.indexed && !slices.Contains(c.orphans, child) {
				c.orphans = append(c.orphans, child)
			}
		}
	}
}

// orphan is the deletion of a row by its parent's.
func (c *change) orphan(r *rule, id string) change {
	return change{
		rule: r, table: r.resource.Table, id: id, action: "deleted", eventID: c.eventID, sequence: c.sequence, deleted: true, inferred: c.inferred,
		keys: render(r.byID, func(field string) string { // an instance's id is in the keys remembered
			if field == "id" {
				return id
			}
			return ""
		}),
	}
}
