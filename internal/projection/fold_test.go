package projection

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/rollcall-dev/rollcall/streams"
)

// decode reads an event of one change at most, nil where there is none.
func decode(t testing.TB, body string) (*Change, error) {
	t.Helper()
	return decodeOne(t, NewDecoder(streams.Names{}, Resources()), message(1, body))
}

func decodeOne(t testing.TB, d *Decoder, m streams.Message) (*Change, error) {
	t.Helper()
	changes, _, err := d.Decode(m, nil)
	switch {
	case err != nil || len(changes) == 0:
		return nil, err
	case len(changes) > 1:
		t.Fatalf("%d changes of %s", len(changes), m.Data)
	}
	return changes[0], nil
}

func message(i int, body string) streams.Message {
	return streams.Message{
		Subject: "clerk.ins_1.user.created.user_1", Data: []byte(body), Sequence: uint64(i),
		Header: nats.Header{streams.HeaderSvixID: {fmt.Sprintf("msg_%d", i)}, streams.HeaderReceivedAt: {fmt.Sprint(1_700_000_000_000 + i)}},
	}
}

// FuzzFold reads bodies, one a line: none of them may panic, and whatever order
// they come in and however they are parted, the same ones win.
func FuzzFold(f *testing.F) {
	examples, err := filepath.Glob("../../cmd/rollcall/examples/*.json")
	if err != nil || len(examples) == 0 {
		f.Fatalf("no examples: %v", err)
	}
	for _, file := range examples {
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.ReplaceAll(body, []byte("\n"), []byte(" ")), uint64(1))
	}
	f.Add([]byte(`{"type":"user.created","data":{"id":"a","updated_at":1}}
{"type":"user.updated","timestamp":1,"data":{"id":"a","first_name":"\u0000\ud800","permissions":["`+"\xff"+`"]}}
{"type":"user.deleted","timestamp":9,"data":{"id":"a"}}
{"type":"user.deleted","data":{"id":"a"}}
{"type":"organizationMembership.created","data":{"id":"b","organization":{"id":"o"},"public_user_data":null,"permissions":[null,"\\\""]}}
{"type":"organization.created","data":{"id":"b","members_count":1e3,"name":{}}}
{"type":"subscription.created","data":{"id":"s","payer":{"user_id":""},"items":[{"id":"i","status":"active"},{"id":"i","status":"ended"},null,{"id":"i","seats":{}},{"id":"j","subscription_id":"s"}]}}
{"type":"subscriptionItem.ended","data":{"id":"i"}}
{"type":"role.updated","data":{"id":"r","permissions":[{"id":""}]}}`), uint64(2))
	f.Add([]byte("{\""), uint64(1))
	f.Add([]byte("{\"type\":\"user.created\",\"data\":{\"id\":\"\\u\n\"\n{\"\\\n[[[\n\x00\n{\"type\":\"user.created\",\"data\":{\"id\":\"a\",\"email_addresses\":[\"\\"), uint64(3))
	f.Add([]byte("{\""), uint64(1))

	f.Fuzz(func(t *testing.T, lines []byte, seed uint64) {
		d := NewDecoder(streams.Names{}, Resources())
		var changes []*Change
		batch := d.Begin()
		defer batch.Release()
		for i, body := range bytes.Split(lines, []byte("\n")) {
			next, _, err := d.Decode(message(i, string(body)), changes)
			if _, again := batch.Decode(message(i, string(body))); (err == nil) != (again == nil) {
				t.Fatalf("alone %v, in a batch %v", err, again)
			}
			if err != nil {
				continue
			}
			for _, c := range next[len(changes):] {
				switch {
				case c.ID == "" || strings.Contains(c.ID, "\x00"):
					t.Fatalf("id %q of %q", c.ID, body)
				case !c.Deletion() && len(c.Values) != len(c.Resource.Columns):
					t.Fatalf("%d values of %q", len(c.Values), body)
				}
			}
			changes = next
		}
		want := winners(Fold(changes))
		if diff := cmp.Diff(want, winners(batch.Fold())); diff != "" {
			t.Fatalf("in a batch others win:\n%s", diff)
		}
		r := rand.New(rand.NewPCG(seed, 0))
		r.Shuffle(len(changes), func(i, j int) { changes[i], changes[j] = changes[j], changes[i] })
		if diff := cmp.Diff(want, winners(Fold(changes))); diff != "" {
			t.Fatalf("in another order others win:\n%s", diff)
		}
		var partial []*Change
		for rest := changes; len(rest) > 0; {
			n := 1 + r.IntN(len(rest))
			partial = append(partial, all(Fold(rest[:n]))...)
			rest = rest[n:]
		}
		partial = append(partial, partial...) // twice
		if diff := cmp.Diff(want, winners(Fold(partial))); diff != "" {
			t.Fatalf("the fold of folds has other winners:\n%s", diff)
		}
	})
}

func all(f Folded) (changes []*Change) {
	for _, lists := range []map[*Resource][]*Change{f.Contents, f.Deletions} {
		for _, list := range lists {
			changes = append(changes, list...)
		}
	}
	return changes
}

// winners names what is left, each list in its order.
func winners(f Folded) map[string][]string {
	w := map[string][]string{}
	for r, list := range f.Contents {
		for _, c := range list {
			w[r.Table] = append(w[r.Table], fmt.Sprintf("%q %x %v", c.ID, c.Version, c.Values))
		}
	}
	for r, list := range f.Deletions {
		for _, c := range list {
			w[r.Table+" deleted"] = append(w[r.Table+" deleted"], fmt.Sprintf("%q %d", c.ID, c.DeletedAt))
		}
	}
	return w
}

// Folding is of entities: resources don't mix, and a deletion and a content of
// one entity both stay.
func TestFoldKeepsOneOfEachKind(t *testing.T) {
	t.Parallel()
	var changes []*Change
	for i, body := range []string{
		`{"type":"user.created","data":{"id":"x","updated_at":5,"username":"old"}}`,
		`{"type":"user.updated","data":{"id":"x","updated_at":6,"username":"new"}}`,
		`{"type":"user.deleted","timestamp":1700000009,"data":{"id":"x"}}`,
		`{"type":"user.deleted","timestamp":1700000008000,"data":{"id":"x"}}`,
		`{"type":"organization.created","data":{"id":"x","updated_at":1}}`,
		`{"type":"user.created","data":{"id":"w"}}`,
	} {
		c, err := decodeOne(t, NewDecoder(streams.Names{}, Resources()), message(i, body))
		if err != nil {
			t.Fatal(err)
		}
		changes = append(changes, c)
	}
	f := Fold(changes)
	users, orgs := ByTable("users"), ByTable("organizations")
	if len(f.Contents[users]) != 2 || len(f.Contents[orgs]) != 1 || len(f.Deletions[users]) != 1 {
		t.Fatalf("%v", winners(f))
	}
	x := f.Contents[users][1]
	if f.Contents[users][0].ID != "w" || x.ID != "x" || x.Values[users.Column("username")].Text != "new" {
		t.Errorf("contents %v, want w, then the newer x", winners(f))
	}
	if at := f.Deletions[users][0].DeletedAt; at != 1700000008000000 {
		t.Errorf("deleted at %d, want the earlier", at)
	}
}

// A batch's memory is used again, without anything of the batch before.
func TestBatchAgain(t *testing.T) {
	t.Parallel()
	d := NewDecoder(streams.Names{}, Resources())
	b := &Batch{decoder: d}
	for round := range 3 {
		for i := range 500 { // more than a block
			body := fmt.Sprintf(`{"type":"user.created","data":{"id":"u%d","username":"%d"}}`, i, i)
			if round == 1 {
				body = fmt.Sprintf(`{"type":"user.created","data":{"id":"u%d"}}`, i)
			}
			if _, err := b.Decode(message(i, body)); err != nil {
				t.Fatal(err)
			}
		}
		users := ByTable("users")
		list := b.Fold().Contents[users]
		if len(list) != 500 {
			t.Fatalf("round %d: %d users", round, len(list))
		}
		for _, c := range list {
			want := Value{Valid: round != 1}
			if want.Valid {
				want.Text = c.ID[1:]
			}
			if got := c.Values[users.Column("username")]; got != want {
				t.Fatalf("round %d, %s: %+v, want %+v", round, c.ID, got, want)
			}
		}
		b.Release()
	}
}
