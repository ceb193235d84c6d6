package projection

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/rollcall-dev/rollcall/streams"
)

// catalogued is what testdata/events.json says of an event type.
type catalogued struct {
	Type       string
	DeleteStub bool `json:"delete_stub"`
	Fields     []struct{ Name string }
}

func catalogue(t *testing.T) (events []catalogued) {
	t.Helper()
	text, err := os.ReadFile("testdata/events.json")
	if err != nil {
		t.Fatal(err)
	}
	file := struct{ Events []catalogued }{}
	if err := json.Unmarshal(text, &file); err != nil || len(file.Events) != len(streams.Types()) {
		t.Fatalf("%d events, %v, want %d", len(file.Events), err, len(streams.Types()))
	}
	return file.Events
}

// Each field of each event is a column, or left out for a reason; and what is
// left out is no column.
func TestColumnsAreComplete(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{} // table.member
	tables := map[string]*Resource{}
	for _, r := range Declared() {
		tables[r.Object] = r
	}
	for _, event := range catalogue(t) {
		object, _, _ := streams.SplitType(event.Type)
		r := tables[object]
		if r == nil {
			if !slices.Contains([]string{"email", "sms", "invitation"}, object) {
				t.Errorf("%s has no table", event.Type)
			}
			continue
		}
		if event.DeleteStub {
			continue // the content is another event's
		}
		for _, f := range event.Fields {
			seen[r.Table+"."+f.Name] = true
			is := slices.ContainsFunc(r.Columns, func(c Column) bool { return c.Made == nil && c.member() == f.Name })
			if reason, omitted := r.Omits[f.Name]; is == omitted || omitted && reason == "" {
				t.Errorf("%s of %s is a column: %t; is left out: %q", f.Name, event.Type, is, reason)
			}
		}
	}
	for _, r := range Declared() {
		for _, c := range r.Columns {
			if c.Made == nil && !seen[r.Table+"."+c.member()] {
				t.Errorf("%s.%s reads data.%s, which no event has", r.Table, c.Name, c.Path)
			}
		}
		for member := range r.Omits {
			if !seen[r.Table+"."+member] {
				t.Errorf("%s leaves out data.%s, which no event has", r.Table, member)
			}
		}
	}
}

// What the DDL, the writer and the parents rest on.
func TestColumnTable(t *testing.T) {
	t.Parallel()
	for _, r := range Declared() {
		if r.Columns[0].Name != "id" || r.Columns[0].Personal || r.Doc == "" {
			t.Errorf("%s begins with %q, doc %q", r.Table, r.Columns[0].Name, r.Doc)
		}
		names := map[string]bool{}
		for _, c := range r.Columns {
			if names[c.Name] || (c.Path == "") == (c.Made == nil) {
				t.Errorf("%s.%s is twice there, or comes from nowhere", r.Table, c.Name)
			}
			names[c.Name] = true
		}
		on := ByTable(r.Table)
		for _, p := range r.Parents {
			at := on.Column(p.Column)
			if ByTable(p.Table) == nil || at < 0 || !on.Columns[at].Index || on.Columns[at].Personal {
				t.Errorf("%s: parent %+v has no indexed column", r.Table, p)
			}
		}
		if on.Column("private_metadata") >= 0 {
			t.Errorf("%s has private metadata without being asked for", r.Table)
		}
	}
	if Declared()[0].Column("private_metadata") < 0 {
		t.Error("private metadata can't be asked for")
	}
}

// A decoder of some resources reads of others what concerns those.
func TestDecoderOfSome(t *testing.T) {
	t.Parallel()
	d := NewDecoder(streams.Names{}, []*Resource{ByTable("organization_memberships"), ByTable("subscription_items")})
	for body, want := range map[string]struct {
		changes int
		known   bool
	}{
		`{"type":"user.deleted","data":{"id":"u"}}`:                                         {1, true},
		`{"type":"user.created","data":{"id":"u","banned":"not looked at"}}`:                {0, true},
		`{"type":"organization.deleted","data":{"id":"o"}}`:                                 {1, true},
		`{"type":"organizationMembership.created","data":{"id":"m"}}`:                       {1, true},
		`{"type":"subscription.created","data":{"id":"s","items":[{"id":"a"},{"id":"b"}]}}`: {2, true},
		`{"type":"role.deleted","data":{"id":"r"}}`:                                         {0, false},
		`{"type":"invitation.created","data":{"id":"i"}}`:                                   {0, false},
		`{"type":"rollcall.letter_dropped","data":{"id":"l"}}`:                              {0, true},
	} {
		changes, known, err := d.Decode(message(1, body), nil)
		if err != nil || len(changes) != want.changes || known != want.known {
			t.Errorf("%s: %d changes, known %t, %v", body, len(changes), known, err)
		}
	}
}

// An embedded object has its event's times and id, and what it lacks itself.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	d := NewDecoder(streams.Names{}, Resources())
	changes, _, err := d.Decode(message(1, `{"type":"subscription.updated","timestamp":1700000000,"data":{"id":"s","updated_at":5,"payer":{"user_id":"u","organization_id":""},
"items":[{"id":"i","status":"ended","updated_at":9,"subscription_id":null},{"id":"j","subscription_id":"other","payer":{"user_id":"","organization_id":"o"}},{"id":""},null,"x"]}}`), nil)
	if err != nil || len(changes) != 3 {
		t.Fatalf("%d changes, %v, want the subscription and two items", len(changes), err)
	}
	items := ByTable("subscription_items")
	text := func(c *Change, column string) string { return c.Values[items.Column(column)].Text }
	i, j := changes[1], changes[2]
	if i.Resource != items || text(i, "subscription_id") != "s" || text(i, "user_id") != "u" || i.Values[items.Column("updated_at")].Int != 9000 {
		t.Errorf("item %+v", i)
	}
	if text(j, "subscription_id") != "other" || text(j, "organization_id") != "o" || j.Values[items.Column("user_id")].Valid {
		t.Errorf("item %+v", j)
	}
	if want := NewVersion(ClassEmbedded, true, 5, 1_700_000_000_000, 2, "msg_1"); i.Version != want {
		t.Errorf("version %x, want %x", i.Version, want)
	}
	if _, _, err := d.Decode(message(1, `{"type":"subscription.updated","data":{"id":"s","items":[{"id":"i","period_start":"soon"}]}}`), nil); err == nil ||
		err.Error() != "data.items: subscription_items.period_start: data.period_start is a string, which is no timestamptz" {
		t.Errorf("%v", err)
	}
}
