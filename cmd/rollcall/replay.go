package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/config"
	"github.com/rollcall-dev/rollcall/internal/consume"
	"github.com/rollcall-dev/rollcall/internal/replay"
	"github.com/rollcall-dev/rollcall/streams"
)

type replayOptions struct {
	*options
	from, to                   string
	resource, typ              string
	user, organization         string
	toStore, toSubject, toFile string
	dryRun, json               bool
}

func newReplay(o *options) *cobra.Command {
	r := &replayOptions{options: o}
	c := &cobra.Command{
		Use: "replay", Short: "Read a range of the log once more: into a store, a subject or a file", Args: cli.NoArgs,
		Long: `Read events of the log once more, all or those selected, and hand them to a store,
a NATS subject or a file of JSON Lines. The log stays as it is, and so does every
sink's position; live traffic goes on.

Into a store, an event that has been overtaken changes nothing. To make a store
right again as a whole there is rollcall rebuild, which also says what was wrong.

A subject gets plain messages, with Rollcall-Subject, Rollcall-Epoch and
Rollcall-Sequence saying where each comes from; with a name that ends in ".>" the
event's own subject takes the place of the ">".

What interrupts it says the sequence to go on from (--from).`,
		Example: `  rollcall replay --dry-run --from 7d                    # how many events of which type
  rollcall replay --to-store orders --resource organization_memberships --org org_2ab
  rollcall replay --to-file events.jsonl --user user_2ab
  rollcall replay --to-file - --type session.created --from 2026-11-23 | jq .body
  rollcall replay --to-subject 'replayed.>' --from 120000 --to 130000`,
		RunE: func(c *cobra.Command, _ []string) error { return r.run(c.Context(), c.OutOrStdout()) },
	}
	f := c.Flags()
	f.StringVar(&r.from, "from", "", "first event: a sequence, how long ago (90m, 36h, 7d) or when (2026-11-23, RFC 3339); default: the log's first")
	f.StringVar(&r.to, "to", "", "last event, likewise; default: the log's last now")
	f.StringVar(&r.resource, "resource", "", "about this table's resource, as organization_memberships")
	f.StringVar(&r.typ, "type", "", "of this type, as user.updated")
	f.StringVar(&r.user, "user", "", "about this user: itself, and what names it")
	f.StringVar(&r.organization, "org", "", "about this organization: itself, and what names it")
	f.StringVar(&r.toStore, "to-store", "", "apply them to the store of this name")
	f.StringVar(&r.toSubject, "to-subject", "", "publish them on this subject")
	f.StringVar(&r.toFile, "to-file", "", "write them to this file, a JSON object a line; - is standard output")
	f.BoolVar(&r.dryRun, "dry-run", false, "only count, by type")
	f.BoolVar(&r.json, "json", false, "print a JSON object")
	return c
}

func (r *replayOptions) run(ctx context.Context, w io.Writer) error {
	selection, err := r.selection()
	if err != nil {
		return err
	}
	switch {
	case given(r.toStore, r.toSubject, r.toFile) > 1:
		return cli.Usagef("--to-store, --to-subject and --to-file: give one of them")
	case r.toStore+r.toSubject+r.toFile == "" && !r.dryRun:
		return cli.Usagef("say where to: --to-store NAME, --to-subject SUBJECT or --to-file FILE, or --dry-run to count; see rollcall replay --help")
	case strings.HasPrefix(r.toSubject, "$") || strings.HasSuffix(r.toSubject, ".") || strings.ContainsAny(strings.TrimSuffix(r.toSubject, ".>"), "*> \t\r\n"):
		return cli.Usagef("--to-subject %q: give a subject without wildcards, such as replayed.users, or with .> at its end", r.toSubject)
	}
	return r.withBroker(ctx, func(ctx context.Context, cfg *config.Config, conn *broker.Conn) error {
		js, err := conn.JetStream()
		if err != nil {
			return err
		}
		names := streams.Names{Prefix: cfg.NATS.Prefix}
		bar := newBar(-1, "replaying", "events")
		defer bar.Finish()                         //nolint:errcheck // the terminal's own trouble
		report := io.Writer(os.Stderr)             // where events go to standard output
		if r.toFile != "-" || r.dryRun || r.json { // --json with - is refused
			report = w
		}
		target := &replayTarget{}
		if !r.dryRun {
			if err := r.open(target, cfg, conn, names, &selection, bar, w); err != nil {
				return err
			}
		}
		o := replay.Options{JetStream: js, Names: names, Selection: selection, Progress: progressOf(bar)}
		if target.Target != nil {
			o.Target = target
		}
		result, err := replay.Run(ctx, o)
		_ = bar.Finish()
		err = errors.Join(err, target.close())
		if ctx.Err() != nil {
			err = fmt.Errorf("interrupted; go on with --from %d", result.Next)
		}
		if len(target.failed) > 0 && err == nil {
			err = fmt.Errorf("%s can't be applied to the store", counted(target.failures, "event"))
		}
		return errors.Join(r.print(report, result, target), err)
	})
}

func given(flags ...string) (n int) {
	for _, f := range flags {
		if f != "" {
			n++
		}
	}
	return n
}

// selection reads the flags that select.
func (r *replayOptions) selection() (s replay.Selection, err error) {
	if s.From, err = parsePoint("--from", r.from); err != nil {
		return s, err
	}
	if s.To, err = parsePoint("--to", r.to); err != nil {
		return s, err
	}
	if r.resource != "" {
		if s.Resource, err = objectOf(r.resource); err != nil {
			return s, fmt.Errorf("--resource: %w", err)
		}
	}
	if r.typ != "" {
		var ok bool
		if s.Resource, s.Action, ok = streams.SplitType(r.typ); !ok {
			return s, cli.Usagef("--type %q is no event type, such as user.updated", r.typ)
		}
	}
	s.UserID, s.OrganizationID = r.user, r.organization
	if r.resource != "" && r.typ != "" {
		return s, cli.Usagef("--resource and --type: give one of them")
	}
	if r.toFile == "-" && r.json {
		return s, cli.Usagef("--json and --to-file - would both write to standard output: leave one out")
	}
	return s, nil
}

// parsePoint reads a sequence or a time.
func parsePoint(flag, text string) (replay.Point, error) {
	if text == "" {
		return replay.Point{}, nil
	}
	if n, err := strconv.ParseUint(text, 10, 64); err == nil {
		if n == 0 {
			return replay.Point{}, cli.Usagef("%s 0: the log's first sequence is 1", flag)
		}
		return replay.Point{Sequence: n}, nil
	}
	t, err := cli.Since(text, time.Now())
	if err != nil {
		return replay.Point{}, fmt.Errorf("%s: %w", flag, err)
	}
	return replay.Point{Time: t}, nil
}

// replayTarget is where the flags say, and how it is closed.
type replayTarget struct {
	replay.Target
	closes   func() error
	failures int
	failed   []string // the first few
}

func (t *replayTarget) close() error {
	if t.closes == nil {
		return nil
	}
	return t.closes()
}

const failuresShown = 10

func (t *replayTarget) fail(m streams.Message, reason error) {
	if t.failures++; len(t.failed) < failuresShown {
		t.failed = append(t.failed, fmt.Sprintf("sequence %d, %s: %v", m.Sequence, m.Subject, reason))
	}
}

func (r *replayOptions) open(t *replayTarget, cfg *config.Config, conn *broker.Conn, names streams.Names, selection *replay.Selection, bar *progressbar.ProgressBar, w io.Writer) error {
	switch {
	case r.toStore != "":
		s, err := openStore(cfg, r.toStore)
		if err != nil {
			return err
		}
		selection.Subjects = s.Subjects()
		trouble := &troubles{bar: bar, said: map[string]string{}}
		t.Target = replay.Sink{Again: &consume.Again{Sink: s, Failed: t.fail, Trouble: trouble.tell}}
		t.closes = func() error { s.Close(); return nil }
	case r.toSubject != "":
		if err := ownSubject(names, r.toSubject); err != nil {
			return err
		}
		nc, err := conn.NATS()
		if err != nil {
			return err
		}
		t.Target = replay.Subject{NATS: nc, To: r.toSubject}
	case r.toFile == "-":
		t.Target = replay.File{W: w}
	default:
		f, err := os.OpenFile(r.toFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return cli.Usage(err)
		}
		info, err := f.Stat()
		if err == nil && info.Size() > 0 && r.from == "" {
			err = cli.Usagef("%s is there already, and not empty: give another name, or --from to go on with it", r.toFile)
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
		t.Target = replay.File{W: f}
		t.closes = func() error { return errors.Join(f.Sync(), f.Close()) }
	}
	return nil
}

// ownSubject refuses subjects by which events would come into our own streams a
// second time.
func ownSubject(names streams.Names, subject string) error {
	for _, of := range []string{names.StreamSubjects(), names.DeadSubjects(), names.InvalidateSubjects(), names.AnchorSubject()} {
		prefix := strings.TrimSuffix(of, ">")
		if strings.HasPrefix(subject, prefix) || strings.HasPrefix(prefix, strings.TrimSuffix(subject, ">")) && strings.HasSuffix(subject, ">") {
			return cli.Usagef("--to-subject %s is among Rollcall's own (%s): the events would be taken for new ones", subject, of)
		}
	}
	return nil
}

// progressOf moves a bar: at first it isn't known how many events there are.
func progressOf(bar *progressbar.ProgressBar) func(int, uint64) {
	read, total := 0, -1
	return func(n int, left uint64) {
		if total < 0 {
			total = n + int(left)
			bar.ChangeMax(total)
		}
		read += n
		if read%256 == 0 || left == 0 {
			_ = bar.Set(read) // the terminal's own trouble
		}
	}
}

func (r *replayOptions) print(w io.Writer, result *replay.Result, t *replayTarget) error {
	if r.json {
		return json.NewEncoder(w).Encode(struct {
			*replay.Result
			Failed   int      `json:"failed"`
			Failures []string `json:"failures,omitempty"` // the first few
		}{result, t.failures, t.failed})
	}
	types := slices.SortedFunc(maps.Keys(result.Types), func(a, b string) int {
		return cmp.Or(cmp.Compare(result.Types[b], result.Types[a]), strings.Compare(a, b))
	})
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, typ := range types {
		fmt.Fprintf(table, "%d\t %s\n", result.Types[typ], typ)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, line := range t.failed {
		fmt.Fprintln(w, "can't be applied:", line)
	}
	verb := "replayed"
	if r.dryRun {
		verb = "would be replayed"
	}
	if result.Events == 0 {
		_, err := fmt.Fprintf(w, "0 events %s\n", verb)
		return err
	}
	_, err := fmt.Fprintf(w, "%s %s, sequences %d to %d\n", counted(int(result.Events), "event"), verb, result.First, result.Last)
	return err
}
