package audit

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/streams"
)

// However the log is cut into batches, with whatever redelivered: the same rows,
// but for their salts, and a chain that holds.
func TestAnyBatchesGiveTheSameLog(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		if n++; n > 10 {
			return // each makes two schemas, which takes a while
		}
		messages := drawMessages(rt, r)
		var logs [2][]string
		for i := range logs {
			schema := fmt.Sprintf("log_%d_%d", n, i)
			logs[i] = r.rows(rt, schema, messages, func() int {
				if i == 0 {
					return 1
				}
				return rapid.IntRange(1, 12).Draw(rt, "batch")
			})
			if err := r.as(r.db.OwnerURL, "drop schema "+schema+" cascade"); err != nil {
				rt.Fatal(err)
			}
		}
		if diff := cmp.Diff(logs[0], logs[1]); diff != "" {
			rt.Errorf("one by one (-) and in batches (+):\n%s", diff)
		}
	})
}

func drawMessages(rt *rapid.T, r *rig) (messages []streams.Message) {
	for range rapid.IntRange(1, 30).Draw(rt, "messages") {
		if len(messages) > 0 && rapid.IntRange(0, 5).Draw(rt, "again") == 0 {
			old := rapid.SampledFrom(messages).Draw(rt, "old")
			old.Sequence = uint64(len(messages) + 1)
			messages = append(messages, old)
			continue
		}
		action := rapid.SampledFrom([]string{"created", "updated", "updated", "deleted"}).Draw(rt, "action")
		m := r.user(action, rapid.IntRange(1, 3).Draw(rt, "user"), "")
		m.Sequence = uint64(len(messages) + 1)
		// Two ingests' clocks differ; months end.
		at := m.Time.AddDate(0, 0, rapid.IntRange(-20, 20).Draw(rt, "days"))
		m.Header.Set(streams.HeaderReceivedAt, fmt.Sprint(at.UnixMilli()))
		messages = append(messages, m)
	}
	return messages
}

func (r *rig) rows(rt *rapid.T, schema string, messages []streams.Message, size func() int) []string {
	ctx := context.WithoutCancel(r.t.Context())
	l := r.open(Options{DatabaseURL: r.db.URL, MigrateDatabaseURL: r.db.OwnerURL, Schema: schema})
	defer l.Close()
	at, err := l.Position(ctx)
	if err != nil {
		rt.Fatal(err)
	}
	begin := streams.Position{Epoch: epoch}
	if err := l.Commit(ctx, nil, at, begin, 0, 0); err != nil {
		rt.Fatal(err)
	}
	for at = begin; len(messages) > 0; {
		batch := messages[:min(size(), len(messages))]
		messages = messages[len(batch):]
		work, _ := l.Prepare(batch)
		to := streams.Position{Epoch: epoch, Sequence: batch[len(batch)-1].Sequence, Time: batch[len(batch)-1].Time}
		if err := l.Commit(ctx, work, at, to, 0, 0); err != nil {
			rt.Fatal(err)
		}
		at = to
	}
	if report, err := l.Verify(ctx, VerifyOptions{}); err != nil || !report.OK {
		rt.Fatalf("%+v, %v", report.Broken, err)
	}
	rows, err := l.pool.Query(ctx, `select concat_ws(' ', seq, event_id, type, entity_id, received_at, changed::text, stream_seq) from `+schema+`.events order by seq`)
	if err != nil {
		rt.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		rt.Fatal(err)
	}
	return list
}
