package store

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall-dev/rollcall/internal/projection"
	"github.com/rollcall-dev/rollcall/streams"
)

// A listener hears once of each batch and table, and finds the rows there.
func TestNotify(t *testing.T) {
	t.Parallel()
	f, d := onDatabase(t, func(o *Options) { o.Notify = true; o.Resources = []string{"users", "organization_memberships"} })
	listener := connect(t, d.OwnerURL)
	execute(t, listener, `listen clerk`)
	hears := func(want ...string) {
		t.Helper()
		for _, w := range want {
			if got := heard(t, listener, 10*time.Second); got != w {
				t.Errorf("heard %s, want %s", got, w)
			}
		}
	}
	f.event("user.created", 0, `{"id":"user_1","first_name":"Ada"}`)
	hears(`{"table":"users","ids":["user_1"]}`)
	if name := scan[string](t, listener, `select name from clerk.users`); name != "Ada" {
		t.Errorf("the listener reads %q", name)
	}
	f.event("organizationMembership.created", 0, `{"id":"m_1","public_user_data":{"user_id":"user_1"},"organization":{"id":"org_1"}}`)
	hears(`{"table":"organization_memberships","ids":["m_1"]}`)
	f.event("user.deleted", 1, `{"id":"user_1"}`)
	hears(`{"table":"organization_memberships","ids":null}`, `{"table":"users","ids":["user_1"]}`)
	f.event("organization.deleted", 1, `{"id":"org_1"}`) // a parent that the store doesn't keep
	hears(`{"table":"organization_memberships","ids":null}`)

	var many []streams.Message
	for i := range maxNoteIDs + 1 {
		many = append(many, event(uint64(100+i), fmt.Sprint("many_", i), "user.created", t0, map[string]any{"id": fmt.Sprint("user_b", i)}))
	}
	f.apply(many...)
	hears(`{"table":"users","ids":null}`)

	silent := f.again(d, func(o *Options) { o.Resources = []string{"users", "organization_memberships"} })
	silent.readAgain()
	silent.next = 300
	silent.event("user.created", 2, `{"id":"user_c"}`)
	if got := heard(t, listener, 100*time.Millisecond); got != "" {
		t.Errorf("heard %s of a store that doesn't tell", got)
	}
}

// heard is the next note, "" for none within that time.
func heard(t *testing.T, listener *pgx.Conn, within time.Duration) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	n, err := listener.WaitForNotification(ctx)
	if err != nil {
		return ""
	}
	return n.Payload
}

// Postgres refuses a note of 8,000 bytes: ids that long are many.
func TestNotesFit(t *testing.T) {
	t.Parallel()
	s := newFixture(t).Store
	var list []*projection.Change
	for i := range maxNoteIDs {
		list = append(list, &projection.Change{ID: fmt.Sprint(i, strings.Repeat("x", 90))})
	}
	for _, w := range s.layout().writers {
		if w.resource.Table == "users" {
			got := notes(s.layout(), projection.Folded{Contents: map[*projection.Resource][]*projection.Change{w.resource: list}})
			if len(got) != 1 || string(got[0]) != `{"table":"users","ids":null}` {
				t.Errorf("%s", got)
			}
		}
	}
}
