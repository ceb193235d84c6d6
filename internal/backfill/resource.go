package backfill

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/rollcall-dev/rollcall/internal/projection"
	"github.com/rollcall-dev/rollcall/internal/rawjson"
)

// resource is one that Clerk lists for the whole instance.
type resource struct {
	table string
	path  string
	query url.Values // asks for what Clerk gives only to who asks
	// byCreation: the list can be narrowed to a range of creation times, and its
	// total is at count.
	byCreation bool
	count      string
	// yields: rows of this status say less than the event that led to it, so that
	// event is to win where there is one. Unsaid is the column that they lack.
	yields, unsaid string
}

// listed are they, parents first. Out of reach are sessions, subscriptions and
// payment attempts, which Clerk lists of one user or payer only, and subscription
// items, whose list leaves out what they belong to: a snapshot would take that
// from the row.
var listed = []resource{
	{table: "permissions", path: "/organization_permissions"},
	{table: "roles", path: "/organization_roles"},
	{table: "users", path: "/users", byCreation: true, count: "/users/count"},
	{table: "organizations", path: "/organizations", query: url.Values{
		"include_members_count": {"true"}, "include_missing_member_with_elevated_permissions": {"true"},
	}},
	{table: "organization_memberships", path: "/organization_memberships"},
	{table: "organization_invitations", path: "/organization_invitations", yields: "accepted", unsaid: "user_id"}, // only the event says by whom
	{table: "organization_domains", path: "/organization_domains"},
	{table: "waitlist_entries", path: "/waitlist_entries"},
}

// Resources are the tables that a backfill can fill, parents first.
func Resources() []string {
	names := make([]string, len(listed))
	for i, r := range listed {
		names[i] = r.table
	}
	return names
}

func resourceOf(table string) *resource {
	i := slices.IndexFunc(listed, func(r resource) bool { return r.table == table })
	return &listed[i]
}

// object is Clerk's name of it in event types.
func (r *resource) object() string { return projection.ByTable(r.table).Object }

// asOf is how old a row's snapshot counts as: as the request that read it, or,
// where it yields, as a moment before its last change.
func (r *resource) asOf(o Row, at time.Time) time.Time {
	if !r.yieldsTo(o) {
		return at
	}
	if changed := time.UnixMilli(o.updated() - 1); changed.Before(at) {
		return changed
	}
	return at
}

// yieldsTo reports whether the row says less than the event that led to it.
func (r *resource) yieldsTo(o Row) bool {
	status, _ := rawjson.Text(rawjson.Member(o.Data, "status"))
	return r.yields != "" && status == r.yields
}

// parameters ask for rows of the list, oldest first: what is made meanwhile
// comes at the end. From and to bound the creation, in milliseconds; 0 is open.
func (r *resource) parameters(from, to int64, offset, limit int) url.Values {
	q := url.Values{"order_by": {"+created_at"}, "limit": {strconv.Itoa(limit)}}
	for name, values := range r.query {
		q[name] = values
	}
	if offset > 0 {
		q.Set("offset", strconv.Itoa(offset))
	}
	// Whether Clerk's bounds are in the range or not, nothing is between these.
	if from > 0 {
		q.Set("created_at_after", strconv.FormatInt(from-1, 10))
	}
	if to > 0 {
		q.Set("created_at_before", strconv.FormatInt(to, 10))
	}
	return q
}

// sorted are tables in the order of listed, each once; all of them for none.
func sorted(tables []string) []string {
	if len(tables) == 0 {
		return Resources()
	}
	tables = slices.Clone(tables)
	order := Resources()
	slices.SortFunc(tables, func(a, b string) int { return cmp.Compare(slices.Index(order, a), slices.Index(order, b)) })
	return slices.Compact(tables)
}
