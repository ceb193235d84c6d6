package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/config"
	"github.com/rollcall-dev/rollcall/streams"
)

func newDLQ(o *options) *cobra.Command {
	return cli.Group("dlq", "Look at the dead letters: events that a sink could not apply", newDLQList(o), newDLQShow(o))
}

// letter is a dead letter as commands print it.
type letter struct {
	ID       string      `json:"id"` // its message id: the sink, and where the event stands in the log
	Time     time.Time   `json:"time"`
	Sink     string      `json:"sink"`
	Type     string      `json:"type"`
	EntityID string      `json:"entity_id"`
	Attempts string      `json:"attempts"`
	Reason   string      `json:"reason"`
	Header   nats.Header `json:"headers,omitempty"`
	Body     string      `json:"body,omitempty"` // as stored, which need not be JSON
}

func newDLQList(o *options) *cobra.Command {
	var sink string
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "List the dead letters, oldest first", Args: cli.NoArgs,
		Example: "  rollcall dlq list\n  rollcall dlq list --sink store-app --json",
		RunE: func(c *cobra.Command, _ []string) error {
			return o.withJetStream(c.Context(), func(ctx context.Context, cfg *config.Config, js jetstream.JetStream) error {
				var letters []letter
				err := readLetters(ctx, js, streams.Names{Prefix: cfg.NATS.Prefix}, sink, true, func(l letter) bool {
					l.Header = nil
					letters = append(letters, l)
					return true
				})
				if err != nil {
					return err
				}
				return printLetters(c.OutOrStdout(), letters, asJSON)
			})
		},
	}
	c.Flags().StringVar(&sink, "sink", "", "only of this sink: ingest, store-NAME")
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return c
}

func printLetters(w io.Writer, letters []letter, asJSON bool) error {
	if asJSON {
		if letters == nil {
			letters = []letter{}
		}
		return json.NewEncoder(w).Encode(letters)
	}
	if len(letters) == 0 {
		_, err := fmt.Fprintln(w, "no dead letters")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tTIME\tTYPE\tENTITY\tREASON")
	for _, l := range letters {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", l.ID, l.Time.Local().Format(time.DateTime), l.Type, l.EntityID, l.Reason)
	}
	return t.Flush()
}

func newDLQShow(o *options) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "show ID", Short: "Show one dead letter whole: reason, sink, attempts, headers, body", Args: cli.Exactly(1, "the ID of a letter, as dlq list prints it"),
		Example: "  rollcall dlq show store-app:1795449600000000000:42:1",
		RunE: func(c *cobra.Command, args []string) error {
			return o.withJetStream(c.Context(), func(ctx context.Context, cfg *config.Config, js jetstream.JetStream) error {
				var found *letter
				err := readLetters(ctx, js, streams.Names{Prefix: cfg.NATS.Prefix}, "", false, func(l letter) bool {
					if l.ID == args[0] {
						found = &l
					}
					return found == nil
				})
				if err != nil {
					return err
				}
				if found == nil {
					return fmt.Errorf("there is no dead letter %s; rollcall dlq list shows those there are", args[0])
				}
				return printLetter(c.OutOrStdout(), found, asJSON)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return c
}

func printLetter(w io.Writer, l *letter, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(l)
	}
	fmt.Fprintf(w, "reason    %s\nsink      %s\nattempts  %s\ntime      %s\ntype      %s\nentity    %s\n\n", l.Reason, l.Sink, l.Attempts, l.Time.Format(time.RFC3339), l.Type, l.EntityID)
	keys := make([]string, 0, len(l.Header))
	for k := range l.Header {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		fmt.Fprintf(w, "%s: %s\n", k, strings.Join(l.Header[k], ", "))
	}
	_, err := fmt.Fprintf(w, "\n%s\n", l.Body)
	return err
}

// readLetters reads the dead letters, oldest first, until more says no.
func readLetters(ctx context.Context, js jetstream.JetStream, names streams.Names, sink string, headersOnly bool, more func(letter) bool) error {
	stream, err := js.Stream(ctx, names.DeadStream())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("there is no stream %s yet: rollcall streams apply makes it", names.DeadStream())
	}
	if err != nil {
		return fmt.Errorf("dead letters: %w", err)
	}
	subjects := names.DeadSubjects()
	if sink != "" {
		subjects = strings.TrimSuffix(subjects, ">") + streams.Token(sink) + ".>"
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{FilterSubjects: []string{subjects}, HeadersOnly: headersOnly})
	if err != nil {
		return fmt.Errorf("dead letters: %w", err)
	}
	info, err := consumer.Info(ctx)
	if err != nil || info.NumPending == 0 {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("dead letters: %w", err)
	}
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("dead letters: %w", err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("dead letters: %w", err)
		}
		if !more(newLetter(m, meta)) || meta.NumPending == 0 {
			return nil
		}
	}
}

func newLetter(m jetstream.Msg, meta *jetstream.MsgMetadata) letter {
	h := m.Headers()
	l := letter{
		ID: h.Get(streams.HeaderMsgID), Time: meta.Timestamp, Sink: h.Get(streams.HeaderSink), Attempts: h.Get(streams.HeaderAttempts),
		Reason: h.Get(streams.HeaderReason), Header: h, Body: string(m.Data()),
	}
	// …rollcall.dead.<sink>.<resource>.<action>.<entity_id>
	if parts := strings.Split(m.Subject(), "."); len(parts) >= 3 {
		parts = parts[len(parts)-3:]
		for i := range parts {
			parts[i], _ = streams.ParseToken(parts[i])
		}
		l.Type, l.EntityID = strings.Trim(parts[0]+"."+parts[1], "."), parts[2]
	}
	return l
}
