package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-dev/rollcall/streams"
)

// What a list shows is compared column by column, as the writer would read it.
func TestDifferences(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const read = t0 + 60_000 // when the list was
	for i, data := range []string{
		`{"id":"user_same","updated_at":1,"first_name":"Ada","public_metadata":{"a":1,"b":[2]},"last_active_at":5}`,
		`{"id":"user_stale","updated_at":1,"first_name":"Ada"}`,
		`{"id":"user_deleted","updated_at":1}`,
		`{"id":"user_inferred","updated_at":1}`,
	} {
		f.event("user.updated", int64(i), data)
	}
	f.apply(event(100, "msg_100", "user.updated", read+1, map[string]any{"id": "user_since", "first_name": "Eve"}),
		event(101, "msg_101", "user.deleted", t0, map[string]any{"id": "user_deleted"}),
		inferred(event(102, "msg_102", "user.deleted", t0+1000, map[string]any{"id": "user_inferred"})))
	execute(t, f.db, `select clerk.ensure_user('user_stub')`)
	var snapshots []streams.Message
	for i, data := range []map[string]any{
		{"id": "user_same", "updated_at": 1, "first_name": "Ada", "public_metadata": map[string]any{"b": []int{2}, "a": 1.0}, "last_active_at": 9, "passkeys": []int{}, "unsafe_metadata": map[string]any{}},
		{"id": "user_stale", "updated_at": 1, "first_name": "Bob", "banned": true},
		{"id": "user_deleted", "updated_at": 1},
		{"id": "user_inferred", "updated_at": 1},
		{"id": "user_since", "updated_at": 1},
		{"id": "user_stub", "updated_at": 1},
		{"id": "user_new", "updated_at": 1},
	} {
		snapshots = append(snapshots, event(0, fmt.Sprint("snap_", i), "user.snapshot", read, data))
	}
	snapshots = append(snapshots, event(0, "snap_odd", "user.snapshot", read, map[string]any{"id": "user_odd", "banned": "maybe"}))
	got, rejected, err := f.Differences(t.Context(), "users", snapshots, time.UnixMilli(read), nil)
	want := []Difference{{ID: "user_inferred"}, {ID: "user_new"}, {ID: "user_stale", Columns: []string{"first_name", "name", "banned"}}, {ID: "user_stub"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, differences (-want +got):\n%s", err, diff)
	}
	if rejected == nil || !strings.Contains(rejected.Error(), "user_odd") {
		t.Errorf("rejected: %v", rejected)
	}
	if got, _, err = f.Differences(t.Context(), "users", snapshots, time.UnixMilli(read), []string{"first_name", "name", "banned"}); len(got) != 3 || err != nil {
		t.Errorf("without what the list doesn't say: %v, %v", got, err)
	}

	rows, err := f.Untouched(t.Context(), "users", "ins_1", time.UnixMilli(read), "user_a", 10)
	if diff := cmp.Diff([]Row{{ID: "user_same"}, {ID: "user_stale"}}, rows); diff != "" || err != nil { // the stub is too young
		t.Errorf("%v, untouched (-want +got):\n%s", err, diff)
	}
	if n, err := f.CountLiving(t.Context(), "users", "ins_1"); n != 3 || err != nil {
		t.Errorf("%d live, %v", n, err)
	}
	if err := f.SetReconciled(t.Context(), "full", map[string]any{"o'clock": 1}); err != nil {
		t.Error(err)
	}
	f.want("1", `select reconciled->'full'->>'o''clock' from clerk.sync_status`)
}
