package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcall-dev/rollcall/internal/cli"
)

// sinceMillis reads a time, or how long ago it is, as Unix milliseconds.
func sinceMillis(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	if ago, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(-ago).UnixMilli(), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, cli.Usagef("--since %q is neither how long ago, such as 10m, nor a time, such as 2026-08-01T12:00:00Z", text)
	}
	return at.UnixMilli(), nil
}

const sinceAbout = "only what happened since: how long ago, such as 10m, or a time, such as 2026-08-01T12:00:00Z"

type deliveryView struct {
	MessageID  string `json:"message_id"`
	EndpointID string `json:"endpoint_id"`
	Type       string `json:"type"`
	EntityID   string `json:"entity_id"`
	At         int64  `json:"at"`
	State      string `json:"state"`
	Reason     string `json:"reason"`
	Attempts   []any  `json:"attempts"`
}

func newDeliveries() *cobra.Command {
	var kind, state, endpoint, since string
	var limit int
	c := remoteCommand(&cobra.Command{
		Use: "deliveries", Short: "List the newest deliveries of webhooks, newest last",
		Example: "  clerkemu deliveries --state failed\n  clerkemu deliveries --type user.created --since 10m --json",
	}, func(r *remote, c *cobra.Command, _ []string) error {
		from, err := sinceMillis(since)
		if err != nil {
			return err
		}
		q := url.Values{"newest": {"true"}, "limit": {fmt.Sprint(limit)}, "since": {fmt.Sprint(from)}}
		for name, value := range map[string]string{"type": kind, "state": state, "endpoint": endpoint} {
			if value != "" {
				q.Set(name, value)
			}
		}
		var answer struct {
			Data []json.RawMessage `json:"data"`
		}
		if err := r.control(c.Context(), http.MethodGet, "/deliveries?"+q.Encode(), nil, &answer); err != nil {
			return err
		}
		slices.Reverse(answer.Data)
		text, err := json.Marshal(answer.Data)
		if err != nil {
			return err
		}
		return r.print(c, text, func(w io.Writer) error { return printDeliveries(w, answer.Data) })
	})
	c.Flags().StringVar(&kind, "type", "", "only of this type, such as user.created")
	c.Flags().StringVar(&state, "state", "", "only those pending, delivered, failed, aborted or dropped")
	c.Flags().StringVar(&endpoint, "endpoint", "", "only to the endpoint of this id")
	c.Flags().StringVar(&since, "since", "", sinceAbout)
	c.Flags().IntVar(&limit, "limit", 50, "how many, at most 1000")
	return c
}

func printDeliveries(w io.Writer, list []json.RawMessage) error {
	rows := []string{}
	for _, text := range list {
		var d deliveryView
		if err := json.Unmarshal(text, &d); err != nil {
			return err
		}
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%d\t%s", time.UnixMilli(d.At).UTC().Format("15:04:05.000"),
			d.State, d.Type, d.EntityID, d.MessageID, len(d.Attempts), d.Reason))
	}
	return table(w, "TIME (UTC)\tSTATE\tTYPE\tENTITY\tMESSAGE\tATTEMPTS\tREASON", rows)
}

func newReplay() *cobra.Command {
	var failed, missing bool
	var since, endpoint string
	c := remoteCommand(&cobra.Command{
		Use: "replay [MESSAGE_ID]", Short: "Deliver again: one message, all that failed, or all that is missing",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 0 && failed == missing || len(args) == 1 && (failed || missing) {
				return cli.Usagef("replay takes the id of a message, --failed or --missing, one of them; see %s --help", c.CommandPath())
			}
			return nil
		},
		Example: "  clerkemu replay --missing\n  clerkemu replay --failed --since 1h\n  clerkemu replay msg_2g7np7Hrk0SN6kj5EDMLDaKNL0S",
	}, func(r *remote, c *cobra.Command, args []string) error {
		from, err := sinceMillis(since)
		if err != nil {
			return err
		}
		p := map[string]any{}
		switch {
		case failed:
			p["failed_since"] = from
		case missing:
			p["missing_since"] = from
		default:
			p["message_id"] = args[0]
		}
		if endpoint != "" {
			p["endpoint_id"] = endpoint
		}
		var answer json.RawMessage
		if err := r.control(c.Context(), http.MethodPost, "/replay", p, &answer); err != nil {
			return err
		}
		return r.print(c, answer, func(w io.Writer) error {
			var made struct {
				IDs []string `json:"message_ids"`
			}
			if err := json.Unmarshal(answer, &made); err != nil {
				return err
			}
			_, err := fmt.Fprintf(w, "replaying %d messages\n", len(made.IDs))
			return err
		})
	})
	c.Flags().BoolVar(&failed, "failed", false, "what was given up or aborted")
	c.Flags().BoolVar(&missing, "missing", false, "what an endpoint has never had: also what chaos dropped, or what was sent before there was the endpoint")
	c.Flags().StringVar(&since, "since", "", sinceAbout)
	c.Flags().StringVar(&endpoint, "endpoint", "", "id of the endpoint (default: all)")
	return c
}

func newSettled() *cobra.Command {
	var timeout time.Duration
	c := remoteCommand(&cobra.Command{
		Use: "settled", Short: "Wait until every delivery is done or given up",
		Long:    "Wait until every delivery is delivered, given up, aborted or dropped. Exit code 1 if they aren't in time.",
		Example: "  clerkemu traffic --changes 1000 && clerkemu settled --timeout 2m",
	}, func(r *remote, c *cobra.Command, _ []string) error {
		var answer json.RawMessage
		err := r.control(c.Context(), http.MethodGet, "/settled?timeout="+timeout.String(), nil, &answer)
		var late *refusedError
		isLate := errors.As(err, &late) && late.status == http.StatusGatewayTimeout
		if isLate {
			answer = late.body
		} else if err != nil {
			return err
		}
		var n struct{ Messages, Pending, Delivered, Failed, Aborted, Dropped, Open int }
		if err := json.Unmarshal(answer, &n); err != nil {
			return err
		}
		err = r.print(c, answer, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "%d messages: %d deliveries done, %d failed, %d aborted, %d dropped, %d pending\n",
				n.Messages, n.Delivered, n.Failed, n.Aborted, n.Dropped, n.Pending)
			return err
		})
		if err == nil && isLate {
			return fmt.Errorf("%d deliveries aren't settled after %s", n.Open, timeout)
		}
		return err
	})
	c.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait, at most 10m")
	return c
}
