package truth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// comparison is the handler of a state.
type comparison struct {
	ctx    context.Context //nolint:containedctx // lives as long as Compare
	tx     pgx.Tx
	o      Options
	tables map[string]*table
	places map[string]int // of the resources in the report
	seed   maphash.Seed
	report Report

	instances []string // of the state; never nil, which SQL would take for unknown
	in        *instance
	fields    object // of the element at hand; its memory is used again
	buf       []byte
}

func newComparison(ctx context.Context, tx pgx.Tx, o Options, asked []*resource, tables map[string]*table) *comparison {
	c := &comparison{ctx: ctx, tx: tx, o: o, tables: tables, places: map[string]int{}, seed: maphash.MakeSeed(), instances: []string{}}
	c.report.Differences = []Difference{} // none are [], not null, in JSON
	for i, r := range asked {
		c.places[r.table] = i
		s := Summary{Resource: r.table}
		if t := tables[r.table]; t != nil {
			s.Kept, s.NotCompared = true, t.notCompared
		}
		c.report.Resources = append(c.report.Resources, s)
	}
	return c
}

// instance is what is known of the instance at hand.
type instance struct {
	id      string
	skip    bool
	live    map[string]map[string]struct{} // users and organizations, by table; nil before they are read
	roles   map[string]int64               // by key: updated_at, milliseconds
	builtIn map[string]bool
	done    map[string]bool     // sections
	held    map[string][][]byte // elements that stood before their parents
	index   map[string]row      // of the section at hand
	suspect []suspect           // of the section at hand
	unsure  []unsure
	extra   []extra
}

// suspect is an entity whose row isn't as it should be; which column is to be
// seen.
type suspect struct {
	id       string
	expected []byte // as table.expect makes it
	role     string
	updated  int64
}

// unsure is a difference that holds if the role is older than the membership.
type unsure struct {
	Difference
	role    string
	updated int64
}

// extra is a live row that no entity of the state asks for.
type extra struct {
	table, id string
	stub      bool
}

func (c *comparison) begin(instanceID string) {
	c.instances = append(c.instances, instanceID)
	c.in = &instance{
		id:   instanceID,
		skip: c.o.InstanceID != "" && c.o.InstanceID != instanceID,
		live: map[string]map[string]struct{}{}, roles: map[string]int64{},
		done: map[string]bool{}, held: map[string][][]byte{},
	}
}

func (c *comparison) builtIn(ids []string) {
	c.in.builtIn = map[string]bool{}
	for _, id := range ids {
		c.in.builtIn[id] = true
	}
}

// section: users, organizations and roles are read even where the store doesn't
// keep them, since others depend on them.
func (c *comparison) section(name string) (bool, error) {
	_, asked := c.tables[name]
	needed := name == "users" || name == "organizations" || name == "roles"
	if c.in == nil { // the id hasn't come yet; who reads complains if it is wanted
		return asked || needed, nil
	}
	if c.in.skip || !asked && !needed {
		return false, nil
	}
	if name == "users" || name == "organizations" {
		c.in.live[name] = map[string]struct{}{}
	}
	return true, c.load(name)
}

func (c *comparison) load(name string) (err error) {
	if t := c.tables[name]; t != nil {
		c.in.index, err = t.load(c.ctx, c.tx.Conn().PgConn(), c.seed, c.in.id)
	}
	return err
}

func (c *comparison) element(name string, raw []byte) error {
	if t := c.tables[name]; t != nil && slices.ContainsFunc(t.parents, func(p parent) bool { return !c.in.done[p.table] }) {
		c.in.held[name] = append(c.in.held[name], bytes.Clone(raw))
		return nil
	}
	return c.compare(name, raw)
}

func (c *comparison) sectionEnd(name string) error {
	c.in.done[name] = true
	if len(c.in.held[name]) > 0 {
		return nil
	}
	return c.settleRows(name)
}

// compare takes one entity that lives in Clerk.
func (c *comparison) compare(name string, raw []byte) error {
	c.fields.read(raw)
	o := c.fields
	id := o.text("id")
	if id == "" {
		return errors.New("an object without an id")
	}
	if live := c.in.live[name]; live != nil {
		live[id] = struct{}{}
	}
	if name == "roles" {
		c.in.roles[o.text("key")] = millis(o.at("updated_at"))
	}
	t := c.tables[name]
	if t == nil {
		return nil
	}
	r, ok := c.in.index[id]
	if r.seen {
		return fmt.Errorf("%s stands twice in the state", id)
	}
	if ok {
		r.seen = true
		c.in.index[id] = r
	}
	if orphan := c.orphan(t, o); orphan != "" {
		switch {
		case !ok || r.deleted:
			return nil
		case !t.lenient:
			c.add(Difference{Resource: name, ID: id, Kind: Extra, Reason: orphan + " doesn't live in Clerk"})
			return nil
		}
	}
	if !ok && c.in.builtIn[id] {
		return nil
	}
	c.report.Resources[c.places[name]].Compared++
	switch {
	case !ok:
		c.add(Difference{Resource: name, ID: id, Kind: Missing, Reason: "no row"})
	case r.deleted:
		c.add(Difference{Resource: name, ID: id, Kind: Missing, Reason: "deleted in the store only"})
	case r.stub:
		c.add(Difference{Resource: name, ID: id, Kind: Missing, Reason: "only a stub"})
	default:
		return c.compareRow(t, id, r, o)
	}
	return nil
}

// orphan names a parent that doesn't live in Clerk, "" where all do. Of parents
// that the state doesn't list nothing is known.
func (c *comparison) orphan(t *table, o object) string {
	for _, p := range t.parents {
		live := c.in.live[p.table]
		var id string
		if raw := first(o, p.paths, ""); len(raw) > 0 && raw[0] == '"' {
			id = unquote(raw)
		}
		if _, ok := live[id]; !ok && live != nil && id != "" {
			return id
		}
	}
	return ""
}

const suspectsAtOnce = 500

func (c *comparison) compareRow(t *table, id string, r row, o object) error {
	c.buf = t.expect(c.buf[:0], o)
	if maphash.Bytes(c.seed, c.buf) == r.hash {
		return nil
	}
	c.in.suspect = append(c.in.suspect, suspect{id, bytes.Clone(c.buf), o.text("role"), millis(o.at("updated_at"))})
	if len(c.in.suspect) < suspectsAtOnce {
		return nil
	}
	return c.inspect(t)
}

// inspect reads the rows of the suspects and says in what they differ.
func (c *comparison) inspect(t *table) error {
	byID := map[string]suspect{}
	var ids []string
	for _, s := range c.in.suspect {
		byID[s.id] = s
		ids = append(ids, s.id)
	}
	c.in.suspect = nil
	if len(ids) == 0 {
		return nil
	}
	return t.fetch(c.ctx, c.tx.Conn().PgConn(), c.in.id, ids, func(id string, stored []string) error {
		s := byID[id]
		expected := strings.Split(string(s.expected), "\x00")
		for i, column := range t.columns {
			if stored[i] == expected[i] {
				continue
			}
			d := Difference{Resource: t.table, ID: id, Kind: Different, Field: column.name, Clerk: expected[i], Store: stored[i]}
			if column.ofRole {
				c.in.unsure = append(c.in.unsure, unsure{d, s.role, s.updated})
			} else {
				c.add(d)
			}
		}
		return nil
	})
}

// settleRows ends a resource of an instance: what is left in the index is extra.
func (c *comparison) settleRows(name string) error {
	t := c.tables[name]
	if t == nil {
		return nil
	}
	if err := c.inspect(t); err != nil {
		return err
	}
	for id, r := range c.in.index {
		if !r.seen && !r.deleted {
			c.in.extra = append(c.in.extra, extra{name, id, r.stub})
		}
	}
	c.in.index = nil
	return nil
}

// end settles what only the whole instance tells.
func (c *comparison) end(deleted map[string]map[string]int64) error {
	if c.in.skip {
		c.in = nil
		return nil
	}
	for _, s := range c.report.Resources {
		if err := c.late(s.Resource); err != nil {
			return err
		}
	}
	for _, u := range c.in.unsure {
		if c.in.roles[u.role] <= u.updated {
			c.add(u.Difference)
		}
	}
	for _, e := range c.in.extra {
		d := Difference{Resource: e.table, ID: e.id, Kind: Extra, Reason: "Clerk doesn't know it"}
		if at, ok := deleted[e.table][e.id]; ok {
			d.Reason = fmt.Sprintf("deleted in Clerk at %d", at)
		} else if e.stub {
			continue
		}
		c.add(d)
	}
	c.in = nil
	return nil
}

// late compares a resource that stood before its parents, or not at all.
func (c *comparison) late(name string) error {
	held := c.in.held[name]
	if c.tables[name] == nil || c.in.done[name] && len(held) == 0 {
		return nil
	}
	if err := c.load(name); err != nil {
		return err
	}
	for _, raw := range held {
		if err := c.compare(name, raw); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return c.settleRows(name)
}

// foreignInstances finds live rows of instances that the state doesn't have.
func (c *comparison) foreignInstances() error {
	if c.o.InstanceID != "" {
		if !slices.Contains(c.instances, c.o.InstanceID) {
			return fmt.Errorf("the state has no instance %s: it has %s", c.o.InstanceID, strings.Join(c.instances, ", "))
		}
		return nil
	}
	for name, t := range c.tables {
		rows, err := c.tx.Query(c.ctx, "select id, instance_id from "+t.name+" where deleted_at is null and source <> 'stub' and instance_id <> all ($1)", c.instances)
		if err != nil {
			return fmt.Errorf("read table %s: %w", t.name, err)
		}
		var id, instanceID string
		_, err = pgx.ForEachRow(rows, []any{&id, &instanceID}, func() error {
			c.add(Difference{Resource: name, ID: id, Kind: Extra, Reason: fmt.Sprintf("of instance %q, which the state doesn't have", instanceID)})
			return nil
		})
		if err != nil {
			return fmt.Errorf("read table %s: %w", t.name, err)
		}
	}
	return nil
}

func (c *comparison) add(d Difference) { c.report.Differences = append(c.report.Differences, d) }

func millis(raw []byte) int64 {
	var n int64
	for _, digit := range raw {
		if digit < '0' || digit > '9' {
			return 0
		}
		n = n*10 + int64(digit-'0')
	}
	return n
}
