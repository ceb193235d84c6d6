// The notifications service: it reads the log and welcomes each new user, once.
// It trusts the gateway's headers, so only the gateway may reach it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-dev/rollcall/streams"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

// schema: a message is known by the event that caused it, and holds no name and
// no address: who sends it takes these from the store, as they are then.
const schema = `create schema if not exists notifications;
create table if not exists notifications.outbox (
    event_id   text primary key,
    user_id    text not null,
    template   text not null,
    created_at timestamptz not null default now(),
    sent_at    timestamptz
)`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	db, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.Exec(ctx, schema); err != nil {
		return err
	}
	nc, err := nats.Connect(os.Getenv("NATS_URL"), nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	s := &service{db}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/messages", s.messages)
	server := &http.Server{Addr: os.Getenv("NOTIFICATIONS_ADDR"), Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	if server.Addr == "" {
		server.Addr = "127.0.0.1:9003"
	}
	served := make(chan error, 1)
	go func() { served <- server.ListenAndServe() }()
	for err := range repeat(ctx, func() error { return s.follow(ctx, js) }) {
		log.Print(err) // NATS or Postgres: what wasn't acknowledged comes again
	}
	_ = server.Close()
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// repeat does work until ctx ends, a second apart after a failure.
func repeat(ctx context.Context, work func() error) func(func(error) bool) {
	return func(yield func(error) bool) {
		for ctx.Err() == nil {
			if err := work(); err == nil || ctx.Err() != nil {
				continue
			} else if !yield(err) {
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
}

type service struct{ db *pgxpool.Pool }

// follow takes what new users there are, through a durable consumer.
func (s *service) follow(ctx context.Context, js jetstream.JetStream) error {
	consumer, err := js.CreateOrUpdateConsumer(ctx, streams.Names{}.Stream(), jetstream.ConsumerConfig{
		Durable: "notifications", FilterSubject: "clerk.*.user.created.*",
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: 30 * time.Second, MaxDeliver: -1,
	})
	if err != nil {
		return fmt.Errorf("make the consumer: %w", err)
	}
	for ctx.Err() == nil {
		messages, err := consumer.Fetch(100, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			return fmt.Errorf("fetch: %w", err)
		}
		for m := range messages.Messages() {
			if err := s.welcome(ctx, m); err != nil {
				return err
			}
		}
		if err := messages.Error(); err != nil {
			return fmt.Errorf("fetch: %w", err)
		}
	}
	return nil
}

// welcome commits, then acknowledges: what comes again is known by its id.
func (s *service) welcome(ctx context.Context, m jetstream.Msg) error {
	event, err := streams.ParseEvent(m.Headers(), m.Data())
	if err != nil {
		log.Print(err)
		return m.Term() // it would be the same the next time
	}
	payload, err := event.Payload()
	user, ok := payload.(*streams.User)
	if err != nil || !ok {
		log.Printf("event %s: %T, %v", event.ID, payload, err)
		return m.Term()
	}
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `insert into notifications.outbox (event_id, user_id, template) values ($1, $2, 'welcome') on conflict do nothing`, event.ID, user.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("welcome: %w", err)
	}
	return m.Ack()
}

// messages are the user's own.
func (s *service) messages(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	rows, err := s.db.Query(ctx, `select 'Welcome, ' || coalesce(u.name, 'friend') || '!'
		from notifications.outbox o join notifications_clerk.users_live u on u.id = o.user_id where o.user_id = $1 order by o.created_at`, r.Header.Get(auth.HeaderUserID))
	list := []string{}
	if err == nil {
		list, err = pgx.AppendRows(list, rows, pgx.RowTo[string])
	}
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		log.Printf("%s: %v", r.URL.Path, err)
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"errors":[{"code":"unavailable","message":"not just now; try again in a moment"}]}`))
		return
	}
	_ = json.NewEncoder(w).Encode(list) // the client is gone
}
