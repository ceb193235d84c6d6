package projection

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rollcall-dev/rollcall/streams"
)

func TestSelection(t *testing.T) {
	t.Parallel()
	s := Selection{
		Tables:  []string{"organization_memberships", "users", "users"},
		Include: map[string][]string{"users": {"private_metadata", "email"}},
		Exclude: map[string][]string{"users": {"phone", "phone_numbers"}, "organization_memberships": {"private_metadata"}},
	}
	if p := s.Problems(); p != nil {
		t.Fatal(p)
	}
	kept := s.Resources()
	if len(kept) != 2 || kept[0].Table != "users" || kept[1].Table != "organization_memberships" {
		t.Fatalf("kept %v", kept)
	}
	for column, want := range map[string]bool{"id": true, "email": true, "private_metadata": true, "phone": false, "phone_numbers": false, "primary_phone_number_id": true} {
		if got := kept[0].Column(column) >= 0; got != want {
			t.Errorf("users.%s is kept: %t", column, got)
		}
	}
	if kept[1].Column("private_metadata") >= 0 || len(kept[1].Parents) != 2 {
		t.Errorf("organization_memberships: %+v", kept[1])
	}
	if d := cmp.Diff(Resources(), Selection{}.Resources(), cmpopts.IgnoreFields(Column{}, "Made")); d != "" {
		t.Errorf("nothing asked for isn't all: %s", d)
	}
}

func TestSelectionProblems(t *testing.T) {
	t.Parallel()
	got := Selection{
		Tables:  []string{"users", "user"},
		Include: map[string][]string{"users": {"private_metadata"}, "roles": {"key"}},
		Exclude: map[string][]string{"users": {"id", "private_metadata", "nose"}, "organisations": nil},
	}.Problems()
	var at []string
	for _, p := range got {
		at = append(at, p.At)
	}
	want := []string{"resources[1]", "include.roles", "exclude.organisations", "exclude.users[0]", "exclude.users[1]", "exclude.users[2]"}
	if d := cmp.Diff(want, at); d != "" {
		t.Errorf("problems (-want +got):\n%s\n%v", d, got)
	}
	if s := got[0].String(); !strings.HasPrefix(s, `resources[1] is "user", which is no resource; known are users, organizations, `) {
		t.Error(s)
	}
}

// A column has the same value whichever others are kept beside it: what made
// ones are made of is read all the same, and nothing else is.
func TestColumnsStandAlone(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../cmd/rollcall/examples/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	all := NewDecoder(streams.Names{}, Declared())
	alone := map[string]*Decoder{} // by column
	for _, r := range Declared() {
		for i, c := range r.Columns {
			only := Pick(func(p *Resource, x *Column) bool { return p == r && (x.Name == "id" || x.Name == c.Name) })
			alone[r.Table+"."+c.Name] = NewDecoder(streams.Names{}, only)
			if members := only[0].members(); c.Made == nil && i > 0 && len(members) > 5+2*len(r.Embeds) {
				t.Errorf("%s.%s alone reads %v", r.Table, c.Name, members)
			}
		}
	}
	compared := 0
	for i, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		whole, _, err := all.Decode(message(i, string(body)), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range whole {
			for at := range w.Values {
				name := w.Resource.Table + "." + w.Resource.Columns[at].Name
				part, _, err := alone[name].Decode(message(i, string(body)), nil)
				own := slices.IndexFunc(part, func(c *Change) bool { return c.Resource.Table == w.Resource.Table && c.ID == w.ID })
				if err != nil || own < 0 {
					t.Fatalf("%s: %s alone: %v", filepath.Base(file), name, err)
				}
				values := part[own].Values
				if got := values[len(values)-1]; got != w.Values[at] || part[own].Version != w.Version {
					t.Errorf("%s: %s alone is %+v, with all %+v", filepath.Base(file), name, got, w.Values[at])
				}
				compared++
			}
		}
	}
	if compared < 500 {
		t.Errorf("only %d values were compared", compared)
	}
}

// What no store can leave out says what for.
func TestNeededColumns(t *testing.T) {
	t.Parallel()
	var needed []string
	for _, r := range Declared() {
		for _, c := range r.Columns {
			if r.needs(&c) != "" {
				needed = append(needed, fmt.Sprint(r.Table, ".", c.Name))
			}
			if c.Optional && r.needs(&c) != "" {
				t.Errorf("%s.%s is needed, and off", r.Table, c.Name)
			}
			if (c.Name == "user_id" || c.Name == "organization_id") && r.needs(&c) == "" {
				t.Errorf("%s.%s can be left out: policies go by it", r.Table, c.Name)
			}
		}
	}
	if len(needed) < 12 {
		t.Errorf("needed: %v", needed)
	}
}
