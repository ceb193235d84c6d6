package revoke

import (
	"fmt"
	"maps"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/streams"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

// told is an event of a history, and what the rules make of it: whose tokens made
// at or before it are refused, surely or perhaps.
type told struct {
	at              int // seconds of the history
	kind, id        string
	data            map[string]any
	surely, perhaps string // a key of the model; "" nobody's
}

// history draws what happens to two users and their sessions, two organizations and
// two roles, in order. Ids end in one of its own.
type history struct {
	*rapid.T
	own     string
	events  []told
	members map[string]*seat // by user and organization
	roles   map[string]string
}

// seat is a membership as it is now.
type seat struct {
	id, role, permissions string
	n                     int
}

func (h *history) of(kind string) string {
	return rapid.SampledFrom([]string{kind + "_1" + h.own, kind + "_2" + h.own}).Draw(h.T, kind)
}

func (h *history) add(kind, id, surely, perhaps string, data map[string]any) {
	h.events = append(h.events, told{len(h.events) + 1, kind, id, data, surely, perhaps})
}

func (h *history) step() {
	switch rapid.IntRange(0, 9).Draw(h.T, "what") {
	case 0:
		user := h.of("user")
		out := rapid.SampledFrom([]string{"banned", "deprovisioned", ""}).Draw(h.T, "out")
		if out == "" {
			h.add("user.updated", user, "", "", map[string]any{"banned": false, "locked": true})
			return
		}
		h.add("user.updated", user, user, user, map[string]any{out: true})
	case 1:
		user := h.of("user")
		h.add("user.deleted", user, user, user, nil)
	case 2:
		session := h.of("sess")
		ended := rapid.SampledFrom([]string{"ended", "removed", "revoked"}).Draw(h.T, "ended")
		h.add("session."+ended, session, session, session, map[string]any{"status": ended})
	case 3:
		org := h.of("org")
		h.add("organization.deleted", org, org, org, nil)
	case 4, 5:
		h.role()
	default:
		h.member()
	}
}

func (h *history) permissions() string {
	return rapid.SampledFrom([]string{"org:x:read", "org:x:write"}).Draw(h.T, "permission")
}

func (h *history) role() {
	role, permission := h.of("org:role"), h.permissions()
	data := map[string]any{"key": role, "permissions": []any{map[string]any{"id": "perm_1", "key": permission}}}
	switch before := h.roles[role]; {
	case before == "":
		h.add("role.created", "role_"+role, "", "", data)
	case before == permission:
		h.add("role.updated", "role_"+role, "", role, data)
	default:
		h.add("role.updated", "role_"+role, role, role, data)
	}
	h.roles[role] = permission
}

func (h *history) member() {
	user, org := h.of("user"), h.of("org")
	key := user + " " + org
	m := h.members[key]
	if m == nil {
		m = &seat{}
		h.members[key] = m
	}
	add := func(action, surely, perhaps string) {
		h.add("organizationMembership."+action, m.id, surely, perhaps, map[string]any{
			"role": m.role, "permissions": []string{m.permissions},
			"organization": map[string]any{"id": org}, "public_user_data": map[string]any{"user_id": user},
		})
	}
	before := *m
	switch {
	case m.id == "":
		m.n++
		m.id, m.role, m.permissions = fmt.Sprintf("mem_%s%s%d", user, org, m.n), h.of("org:role"), h.permissions()
		add("created", "", "")
	case rapid.IntRange(0, 3).Draw(h.T, "leaves") == 0:
		add("deleted", key, key)
		m.id = ""
	default:
		m.role, m.permissions = h.of("org:role"), h.permissions()
		if *m == before {
			add("updated", "", key)
		} else {
			add("updated", key, key)
		}
	}
}

// cuts are the last second of each key that surely, or perhaps, is cut off.
func (h *history) cuts() (surely, perhaps map[string]int) {
	surely, perhaps = map[string]int{}, map[string]int{}
	for _, e := range h.events {
		surely[e.surely], perhaps[e.perhaps] = e.at, e.at
	}
	delete(surely, "")
	delete(perhaps, "")
	return surely, perhaps
}

// keys of the model that a token has to pass.
func keys(c *auth.Claims) []string {
	all := []string{c.UserID, c.SessionID}
	if o := c.Organization; o.ID != "" {
		all = append(all, o.ID, c.UserID+" "+o.ID, o.Role)
	}
	return all
}

// Whatever happens, the list refuses the tokens that the rules refuse. In order it
// refuses no other; out of order and twice, none that is later than what happened.
func TestHistories(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	conn := r.dial()
	t.Cleanup(conn.Close)
	s := New(Options{Broker: conn, Life: life})
	base, n := time.Now().Add(-3*time.Minute).Truncate(time.Second), 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		h := &history{T: t, own: fmt.Sprintf("x%d", n), members: map[string]*seat{}, roles: map[string]string{}}
		for range rapid.IntRange(1, 25).Draw(t, "length") {
			h.step()
		}
		order := make([]int, len(h.events))
		for i := range order {
			order[i] = i
		}
		surely, perhaps := h.cuts()
		if rapid.Bool().Draw(t, "reordered") {
			again := rapid.SliceOfN(rapid.SampledFrom(order), 0, 10).Draw(t, "again")
			order = rapid.Permutation(append(order, again...)).Draw(t, "order")
		} else {
			perhaps = surely
		}
		r.apply(t, s, base, h, order)
		r.settled(t, s, fmt.Sprintf("user_end%d", n))
		for _, c := range h.tokens() {
			lower, upper := math.MinInt, math.MinInt
			for _, key := range keys(c) {
				if at, ok := surely[key]; ok {
					lower = max(lower, at)
				}
				if at, ok := perhaps[key]; ok {
					upper = max(upper, at)
				}
			}
			for made := range len(h.events) + 2 {
				c.IssuedAt = base.Add(time.Duration(made) * time.Second)
				reason, refused := r.list.Refuse(c)
				if made <= lower && !refused || made > upper && refused {
					t.Fatalf("a token of %v made at %d: refused %t (%s); the rules refuse until %d, perhaps until %d", keys(c), made, refused, reason, lower, upper)
				}
			}
		}
	})
}

// tokens are one of each user and session, without organization and with each and
// each role.
func (h *history) tokens() (all []*auth.Claims) {
	for _, user := range []string{"user_1", "user_2"} {
		for _, session := range []string{"sess_1", "sess_2"} {
			all = append(all, &auth.Claims{UserID: user + h.own, SessionID: session + h.own})
			for _, org := range []string{"org_1", "org_2"} {
				for _, role := range []string{"org:role_1", "org:role_2"} {
					all = append(all, &auth.Claims{UserID: user + h.own, SessionID: session + h.own, Organization: auth.Organization{ID: org + h.own, Role: role + h.own}})
				}
			}
		}
	}
	return all
}

// apply gives events to the sink in an order, in batches.
func (r *rig) apply(t *rapid.T, s *Sink, base time.Time, h *history, order []int) {
	for len(order) > 0 {
		batch := order[:rapid.IntRange(1, len(order)).Draw(t, "batch")]
		order = order[len(batch):]
		var messages []streams.Message
		for _, i := range batch {
			e := h.events[i]
			m := r.message(e.kind, e.id, fmt.Sprintf("msg_%s_%d", h.own, e.at), base.Add(time.Duration(e.at)*time.Second), maps.Clone(e.data))
			messages = append(messages, streams.Message{Subject: m.Subject, Header: m.Header, Data: m.Data})
		}
		work, rejected := s.Prepare(messages)
		if len(rejected) > 0 {
			t.Fatalf("rejected: %v", rejected)
		}
		if err := s.Apply(r.t.Context(), work); err != nil {
			t.Fatal(err)
		}
	}
}

// settled waits until the list has all that was applied: the watch is in order.
func (r *rig) settled(t *rapid.T, s *Sink, user string) {
	m := r.message("user.deleted", user, "msg_"+user, time.Now(), nil)
	work, _ := s.Prepare([]streams.Message{{Subject: m.Subject, Header: m.Header, Data: m.Data}})
	if err := s.Apply(r.t.Context(), work); err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if r.refused(&auth.Claims{UserID: user, IssuedAt: time.Now().Add(-time.Second)}) {
			return
		}
		if time.Now().After(until) {
			t.Fatal("the list lacks what was written")
		}
	}
}
