package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/internal/clerk/backend"
	"github.com/rollcall-dev/rollcall/internal/projection"
	"github.com/rollcall-dev/rollcall/internal/rawjson"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/streams"
)

const (
	scanned      = 5_000 // rows of a store at one time
	mostUnlisted = 100_000
	mostAsked    = 10_000 // rows that Clerk is asked about one by one, unless somebody insists
	mostAlive    = 10     // rows that Clerk has though its list didn't show them: a list that can't be relied on
	askers       = 8      // requests at one time
	// passesApart is how far apart two passes are that confirm a deletion where Clerk
	// can't be asked about one row.
	passesApart = 10 * time.Minute
)

// extra is a row that lives in some stores, and that no list showed.
type extra struct {
	store.Row
	stores []*store.Store
	at     time.Time // Clerk's clock, when it said that it has none
}

// extras finds the rows of a table that Clerk no longer has.
func (r *run) extras(ctx context.Context, table string, listed func(id string) bool) error {
	unlisted, err := r.unlisted(ctx, table, listed)
	if err != nil {
		return err
	}
	if err := r.remember(ctx, table, unlisted); err != nil {
		return err
	}
	if len(unlisted) == 0 {
		return nil
	}
	b, err := r.bound(ctx, table)
	if err != nil {
		return err
	}
	gone, err := r.ask(ctx, table, unlisted, b)
	if err != nil || len(gone) == 0 {
		return err
	}
	// The delete's webhook may be on its way.
	if err := r.pause(ctx, r.Grace); err != nil {
		return err
	}
	if err := r.caughtUp(ctx); err != nil {
		return err
	}
	drifts, err := r.stillThere(ctx, table, gone)
	if err != nil || !r.Repair || len(drifts) == 0 {
		return err
	}
	return r.remove(ctx, table, drifts, b)
}

// unlisted are the rows that no list showed, and of which Clerk has said nothing
// since before the pass.
func (r *run) unlisted(ctx context.Context, table string, listed func(id string) bool) (map[string]*extra, error) {
	all := map[string]*extra{}
	for _, s := range r.holding(table) {
		for behind := ""; ; {
			rows, err := s.Untouched(ctx, table, r.instanceID, r.started, behind, scanned)
			if err != nil {
				return nil, err
			}
			for _, row := range rows {
				if behind = row.ID; listed(row.ID) || len(all) == mostUnlisted {
					continue
				}
				if all[row.ID] == nil {
					all[row.ID] = &extra{Row: row}
				}
				all[row.ID].stores = append(all[row.ID].stores, s)
			}
			if len(rows) < scanned {
				break
			}
		}
	}
	return all, nil
}

// ask has Clerk's word on each row. Where its list left out rows that it has, the
// list is not to be relied on, and nothing is gone.
func (r *run) ask(ctx context.Context, table string, unlisted map[string]*extra, b Bound) ([]*extra, error) {
	ids := slices.Sorted(maps.Keys(unlisted))
	if len(ids) > mostAsked {
		b.Wanted = int64(len(ids))
		if !r.confirmed(b) {
			ids = ids[:mostAsked]
			r.left(table, fmt.Sprintf("%d rows are not in Clerk's list; only %d of them were looked up", b.Wanted, mostAsked))
		}
	}
	var mu sync.Mutex
	var gone []*extra
	var alive []string
	g, asking := errgroup.WithContext(ctx)
	g.SetLimit(askers)
	enough := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(alive) > mostAlive
	}
	for _, id := range ids {
		if enough() {
			break
		}
		g.Go(func() error {
			e := unlisted[id]
			is, at, err := r.gone(asking, table, e.Row)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				return err
			case is:
				e.at = at
				gone = append(gone, e)
			case at.IsZero():
				alive = append(alive, id)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if len(alive) > mostAlive {
		r.left(table, fmt.Sprintf("Clerk's list left out %s and others that Clerk has: it is not to be relied on, and no row counts as deleted", strings.Join(alive[:3], ", ")))
		return nil, nil
	}
	slices.SortFunc(gone, func(a, b *extra) int { return strings.Compare(a.ID, b.ID) })
	return gone, nil
}

// gone reports whether Clerk has no such object. A time without it says that
// Clerk can't be asked, and the object may be gone.
func (r *run) gone(ctx context.Context, table string, row store.Row) (bool, time.Time, error) {
	organization := "/organizations/" + url.PathEscape(row.OrganizationID)
	id := "/" + url.PathEscape(row.ID)
	switch table {
	case "users", "organizations":
		return r.Client.Gone(ctx, "/"+table+id)
	case "roles", "permissions":
		return r.Client.Gone(ctx, "/organization_"+table+id)
	}
	switch {
	case table == "waitlist_entries":
		return r.goneTwice(table, row.ID)
	case row.OrganizationID == "":
		return false, r.started, nil
	case table == "organization_invitations":
		return r.Client.Gone(ctx, organization+"/invitations"+id)
	case table == "organization_domains":
		return r.goneFrom(ctx, organization+"/domains", url.Values{}, row.ID)
	}
	return r.goneFrom(ctx, organization+"/memberships", url.Values{"user_id": {row.UserID}}, row.ID)
}

// goneFrom looks an id up in a short list.
func (r *run) goneFrom(ctx context.Context, path string, query url.Values, id string) (bool, time.Time, error) {
	query.Set("limit", strconv.Itoa(backend.MaxPage))
	p, err := r.Client.List(ctx, path, query)
	var refused *backend.RefusedError
	switch {
	case errors.As(err, &refused) && refused.Status == http.StatusNotFound && refused.Code == "resource_not_found" && !refused.At.IsZero():
		return true, refused.At, nil // with its organization
	case err != nil:
		return false, time.Time{}, err
	case slices.ContainsFunc(p.Rows, func(row json.RawMessage) bool {
		found, _ := rawjson.Text(rawjson.Member(row, "id"))
		return found == id
	}):
		return false, time.Time{}, nil
	case int64(len(p.Rows)) < p.Total:
		return false, p.At, nil
	}
	return true, p.At, nil
}

// goneTwice goes by two complete passes.
func (r *run) goneTwice(table, id string) (bool, time.Time, error) {
	first := r.state.Unlisted[table][id]
	return first != 0 && r.started.UnixMilli()-first >= passesApart.Milliseconds(), r.started, nil
}

// remember keeps since when rows have been missing from a list, of tables for which
// that counts.
func (r *run) remember(ctx context.Context, table string, unlisted map[string]*extra) error {
	if table != "waitlist_entries" || len(unlisted)+len(r.state.Unlisted[table]) == 0 {
		return nil
	}
	now := map[string]int64{}
	for id := range unlisted {
		if len(now) == mostAsked {
			break
		}
		now[id] = r.started.UnixMilli()
		if first, before := r.state.Unlisted[table][id]; before {
			now[id] = first
		}
	}
	if r.state.Unlisted == nil {
		r.state.Unlisted = map[string]map[string]int64{}
	}
	r.state.Unlisted[table] = now
	return r.save(ctx)
}

// surplus is a row that Clerk no longer has and a store has still.
type surplus struct {
	*extra
	store *store.Store
	place int // in the report
}

func (r *run) stillThere(ctx context.Context, table string, gone []*extra) (list []surplus, err error) {
	for _, s := range r.holding(table) {
		some := map[string]*extra{}
		for _, e := range gone {
			if slices.Contains(e.stores, s) {
				some[e.ID] = e
			}
		}
		living, err := s.Living(ctx, table, r.started, slices.Sorted(maps.Keys(some)))
		if err != nil {
			return nil, err
		}
		for _, id := range living {
			list = append(list, surplus{some[id], s, r.found(s, table, Extra, id, nil)})
		}
	}
	return list, nil
}

// remove puts deletes into the log, unless the breaker holds them.
func (r *run) remove(ctx context.Context, table string, drifts []surplus, b Bound) error {
	once := map[string]*extra{}
	for _, d := range drifts {
		once[d.ID] = d.extra
	}
	b.Wanted = int64(len(once))
	if b.Wanted > b.Allowed() && !r.confirmed(b) {
		r.left(table, b.String())
		return nil
	}
	if err := r.reserve(ctx, table, b.Wanted); err != nil {
		return err
	}
	var messages []*nats.Msg
	for _, id := range slices.Sorted(maps.Keys(once)) {
		m, err := r.deletion(table, once[id])
		if err != nil {
			return err
		}
		messages = append(messages, m)
	}
	if err := r.publishAll(ctx, messages); err != nil {
		return err
	}
	if err := r.caughtUp(ctx); err != nil {
		return err
	}
	for _, s := range r.holding(table) {
		living, err := s.Living(ctx, table, r.started, slices.Sorted(maps.Keys(once)))
		if err != nil {
			return err
		}
		for _, d := range drifts {
			if d.store == s && !slices.Contains(living, d.ID) {
				r.mended(s, table, Extra, d.place)
			}
		}
	}
	return nil
}

// deletion makes the message: whose it was, and nothing else of it.
func (r *run) deletion(table string, e *extra) (*nats.Msg, error) {
	type id struct {
		ID string `json:"id"`
	}
	data := map[string]any{"id": e.ID, "deleted": true}
	if e.OrganizationID != "" {
		data["organization"], data["organization_id"] = id{e.OrganizationID}, e.OrganizationID
	}
	if e.UserID != "" {
		data["public_user_data"] = map[string]string{"user_id": e.UserID}
	}
	s := streams.Subject{InstanceID: r.instanceID, Resource: projection.ByTable(table).Object, Action: "deleted", EntityID: e.ID}
	return r.event(s, e.at, data, "gone:"+r.report.Run+":"+table+":"+e.ID)
}
