package streams_test

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rollcall-dev/rollcall/streams"
)

// batch is how many messages a service takes into one transaction.
const batch = 100

// A service of yours keeps its own view of Clerk's users: it reads the log with
// a durable consumer of its own, commits what it read to its database, and
// acknowledges after the commit. Events arrive at least once and in any order;
// here the ids applied and the newest version of each user make that harmless.
func Example() {
	js, stop := exampleLog() // in a service: jetstream.New(nc)
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	names := streams.Names{} // the prefix, if your operator set one
	consumer, err := js.CreateOrUpdateConsumer(ctx, names.Stream(), jetstream.ConsumerConfig{
		Durable:        "greeter",
		FilterSubjects: []string{names.ResourceSubjects("", "user")},
		AckPolicy:      jetstream.AckExplicitPolicy,
		AckWait:        time.Minute, // longer than the longest transaction
		MaxDeliver:     -1,          // JetStream drops what reaches a limit
		MaxAckPending:  4 * batch,   // the default, 1000, is less than four large batches
	})
	if err != nil {
		log.Fatal(err)
	}
	users := userTable{applied: map[string]bool{}, rows: map[string]userRow{}}
	for len(users.applied) < 4 { // in a service: for ctx.Err() == nil
		messages, err := consumer.Fetch(batch, jetstream.FetchMaxWait(100*time.Millisecond)) // how long a batch may wait to fill
		if err != nil {
			log.Fatal(err) // in a service: wait, then try again
		}
		var read []jetstream.Msg
		for m := range messages.Messages() {
			event, err := streams.ParseEvent(m.Headers(), m.Data())
			if err != nil {
				log.Fatal(err) // in a service: store it where a person looks, and go on
			}
			if err := users.apply(event); err != nil {
				log.Fatal(err)
			}
			read = append(read, m)
		}
		if err := messages.Error(); err != nil {
			log.Print(err) // what was read is good all the same
		}
		// Commit the transaction here. What is read again after a crash in
		// between is known by its id.
		for _, m := range read {
			if err := m.Ack(); err != nil {
				log.Print(err) // it comes again
			}
		}
	}
	fmt.Println(users.rows["user_1"].name, users.rows["user_2"].name)
	// Output: Ada Lovelace (gone)
}

// userTable stands for a service's two tables: the users, and the ids of the
// events applied.
type userTable struct {
	applied map[string]bool
	rows    map[string]userRow
}

type userRow struct {
	name    string
	version version
	deleted bool
}

// version orders a user's events whichever way they arrive; two of them may
// share updated_at.
type version struct {
	updatedAt, timestamp time.Time
	eventID              string
}

func (v version) newer(than version) bool {
	return cmp.Or(v.updatedAt.Compare(than.updatedAt), v.timestamp.Compare(than.timestamp), cmp.Compare(v.eventID, than.eventID)) > 0
}

// apply is what a service does in its transaction.
func (t userTable) apply(e streams.Event) error {
	if t.applied[e.ID] {
		return nil
	}
	payload, err := e.Payload()
	if err != nil {
		return err
	}
	switch p := payload.(type) {
	case *streams.User:
		// An event that comes late is older than the row; a delete is final.
		v := version{p.UpdatedAt.Time, e.Timestamp, e.ID}
		if row := t.rows[p.ID]; !row.deleted && v.newer(row.version) {
			t.rows[p.ID] = userRow{name: p.FirstName + " " + p.LastName, version: v}
		}
	case *streams.Deleted:
		t.rows[p.ID] = userRow{name: "(gone)", deleted: true}
	}
	t.applied[e.ID] = true
	return nil
}
