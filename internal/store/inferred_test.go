package store

import (
	"fmt"
	"slices"
	"testing"

	"github.com/rollcall-dev/rollcall/streams"
)

func inferred(m streams.Message) streams.Message {
	m.Header.Set(streams.HeaderSource, string(streams.SourceReconcile))
	return m
}

// A deletion that was only inferred holds until Clerk says something newer of the
// entity, in whatever order and parts they come; one that Clerk told holds for ever.
func TestInferredDeletions(t *testing.T) {
	t.Parallel()
	member := map[string]any{"id": "orgmem_1", "organization": map[string]any{"id": "org_1"}, "public_user_data": map[string]any{"user_id": "user_1"}}
	content := func(at int64) streams.Message {
		return event(0, fmt.Sprint("content_", at), "user.updated", t0+at, map[string]any{"id": "user_1", "updated_at": t0, "first_name": fmt.Sprint(at)})
	}
	membership := func(at int64) streams.Message {
		return event(0, fmt.Sprint("member_", at), "organizationMembership.created", t0+at, member)
	}
	deleted := func(at int64) streams.Message {
		return event(0, fmt.Sprint("deleted_", at), "user.deleted", t0+at, map[string]any{"id": "user_1"})
	}
	for name, c := range map[string]struct {
		events []streams.Message
		want   string // users and memberships that live
	}{
		"nothing newer":                {[]streams.Message{content(1), membership(1), inferred(deleted(2))}, "|"},
		"the user is shown alive":      {[]streams.Message{content(1), inferred(deleted(2)), content(3)}, "3|"},
		"and goes again":               {[]streams.Message{content(1), inferred(deleted(2)), content(3), inferred(deleted(4))}, "|"},
		"the membership alone":         {[]streams.Message{content(1), membership(3), inferred(deleted(2))}, "|orgmem_1"},
		"both":                         {[]streams.Message{inferred(deleted(2)), content(3), membership(3)}, "3|orgmem_1"},
		"Clerk told it, before or not": {[]streams.Message{deleted(1), inferred(deleted(2)), content(3), membership(3)}, "|"},
	} {
		for _, onDelete := range []string{OnDeleteTombstone, OnDeleteHard, OnDeleteKeep} {
			t.Run(name+" "+onDelete, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, func(o *Options) { o.OnDelete = onDelete })
				permute(slices.Clone(c.events), 0, func(order []streams.Message) {
					for cut := range order {
						f.parts(order[:cut], order[cut:])
						got := f.one(`select coalesce((select first_name from clerk.users_live), '') || '|' || coalesce((select id from clerk.organization_memberships_live), '')`)
						if got != c.want {
							t.Fatalf("%v: %q live, want %q", subjects(order), got, c.want)
						}
						if err := f.Tidy(t.Context()); err != nil {
							t.Fatal(err)
						}
						if live := c.want[0] != '|'; live == (f.one(`select count(*) from clerk.tombstones where resource = 'users'`) != "0") {
							t.Fatalf("%v: a tombstone of who lives, or none of who doesn't", subjects(order))
						}
						execute(t, f.db, `delete from clerk.users`, `delete from clerk.organization_memberships`, `delete from clerk.tombstones`)
					}
				})
			})
		}
	}
}

// parts applies the two parts of a list, one batch each.
func (f *fixture) parts(parts ...[]streams.Message) {
	for _, part := range parts {
		for i := range part {
			f.next++
			part[i].Sequence = f.next
		}
		if len(part) > 0 {
			f.apply(part...)
		}
	}
}

func subjects(all []streams.Message) (list []string) {
	for _, m := range all {
		list = append(list, m.Header.Get(streams.HeaderSvixID))
	}
	return list
}
