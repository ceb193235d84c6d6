package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/audit"
	"github.com/rollcall-dev/rollcall/internal/clerk"
	"github.com/rollcall-dev/rollcall/internal/cli"
	"github.com/rollcall-dev/rollcall/internal/config"
	"github.com/rollcall-dev/rollcall/streams"
)

func newAudit(o *options) *cobra.Command {
	return cli.Group("audit", "Verify, search, export and prune the audit log", newAuditVerify(o), newAuditSearch(o), newAuditExport(o), newAuditPrune(o))
}

// openAudit opens the audit log for a command.
func (o *options) openAudit() (*config.Config, *audit.Log, error) {
	cfg, err := o.load()
	if err != nil {
		return nil, nil, err
	}
	if err := o.findAudit(cfg); err != nil {
		return nil, nil, err
	}
	l, err := newAuditLog(cfg)
	return cfg, l, err
}

// findAudit completes the configuration: a dev stack has the audit log beside
// its store.
func (o *options) findAudit(cfg *config.Config) error {
	if cfg.Audit.DatabaseURL != "" {
		return nil
	}
	dev, err := o.devEnv()
	if err != nil {
		return err
	}
	cfg.Audit.DatabaseURL = dev["DATABASE_URL"]
	return nil
}

func newAuditLog(cfg *config.Config) (*audit.Log, error) {
	if err := cfg.RequireAudit(); err != nil {
		return nil, err
	}
	l, err := audit.New(audit.Options{
		DatabaseURL: cfg.Audit.DatabaseURL, MigrateDatabaseURL: cfg.Audit.MigrateDatabaseURL, Migrate: audit.MigrateOff,
		Names: streams.Names{Prefix: cfg.NATS.Prefix}, Log: zap.NewNop(), Metrics: audit.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		return nil, cli.Usage(err)
	}
	return l, nil
}

type verifyOptions struct {
	*options
	from      int64
	chainOnly bool
	secrets   string
	json      bool
}

func newAuditVerify(o *options) *cobra.Command {
	v := &verifyOptions{options: o}
	c := &cobra.Command{
		Use: "verify", Short: "Look for rows that were changed, inserted, swapped, cut off or rewritten", Args: cli.NoArgs,
		Long: `Walk the audit log in order: each row's hash and digests, its link to the row
before, and the anchors in CLERK_ANCHORS, which find what was rewritten as a whole.
Bodies are checked against Svix's signatures again, with the signing secrets of
the configuration. Exit 0 if all fits, 3 with the first place that doesn't.`,
		Example: `  rollcall audit verify
  rollcall audit verify --from 1200000 --json
  rollcall audit verify --secrets old-signing-secrets.txt`,
		RunE: func(c *cobra.Command, _ []string) error { return v.run(c.Context(), c.OutOrStdout()) },
	}
	c.Flags().Int64Var(&v.from, "from", 0, "begin with this row; those before count as right")
	c.Flags().BoolVar(&v.chainOnly, "chain-only", false, "leave NATS and its anchors out: a log that was rewritten as a whole passes")
	c.Flags().StringVar(&v.secrets, "secrets", "", "file of further signing secrets, one a line: those rotated since")
	c.Flags().BoolVar(&v.json, "json", false, "print JSON")
	return c
}

func (v *verifyOptions) run(ctx context.Context, w io.Writer) error {
	cfg, l, err := v.openAudit()
	if err != nil {
		return err
	}
	defer l.Close()
	bar := newBar(-1, "verifying", "rows")
	o := audit.VerifyOptions{From: v.from, Progress: func(done, of int64) {
		bar.ChangeMax64(of)
		_ = bar.Set64(done) // the terminal's own trouble
	}}
	if o.Verifier, err = v.verifier(cfg); err != nil {
		return err
	}
	if !v.chainOnly {
		conn, err := connectNATS(ctx, cfg)
		if err != nil {
			return fmt.Errorf("the anchors: %w; --chain-only goes without", err)
		}
		defer conn.Close()
		o.Anchors = conn
	}
	report, err := l.Verify(ctx, o)
	_ = bar.Finish() // the terminal's own trouble
	if err != nil {
		return err
	}
	return v.print(w, report)
}

// verifier knows every signing secret there is; nil without one.
func (v *verifyOptions) verifier(cfg *config.Config) (*clerk.Verifier, error) {
	var secrets []string
	for _, in := range cfg.Instances {
		secrets = append(secrets, in.WebhookSecrets...)
	}
	if v.secrets != "" {
		text, err := os.ReadFile(v.secrets)
		if err != nil {
			return nil, cli.Usagef("--secrets: %w", err)
		}
		secrets = append(secrets, strings.Fields(string(text))...)
	}
	if len(secrets) == 0 {
		return nil, nil
	}
	verifier, err := clerk.NewVerifier(secrets)
	if err != nil {
		return nil, cli.Usage(err)
	}
	return verifier, nil
}

func (v *verifyOptions) print(w io.Writer, r audit.Report) error {
	if v.json {
		if err := json.NewEncoder(w).Encode(r); err != nil {
			return err
		}
	}
	if r.Broken != nil {
		return found{errors.New(r.Broken.What)}
	}
	if v.json {
		return nil
	}
	anchors := fmt.Sprintf("%d anchors fit", r.Anchors)
	if v.chainOnly {
		anchors = "anchors left out"
	}
	s := r.Signatures
	_, err := fmt.Fprintf(w, "%d rows from %d to %d: the chain is whole, %s\nsignatures: %d hold; not checked: %d redacted, %d signed with a secret not known here, %d without one\n",
		r.Rows, r.First, r.Last, anchors, s.Checked, s.Redacted, s.UnknownSecret, s.None)
	if err == nil && r.Redacted > 0 {
		_, err = fmt.Fprintf(w, "%d rows have something redacted\n", r.Redacted)
	}
	return err
}

// filterFlags are those of search and export.
type filterFlags struct {
	audit.Filter
	since, until string
}

func (f *filterFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.User, "user", "", "about this user, what is the user's (sessions, memberships), or done by the user")
	c.Flags().StringVar(&f.Organization, "organization", "", "about this organization")
	c.Flags().StringVar(&f.Type, "type", "", "of this type: user.updated, or user.* for all of users")
	c.Flags().StringVar(&f.Actor, "actor", "", "done by this user, where the event says so")
	c.Flags().StringVar(&f.IP, "ip", "", "from this address")
	c.Flags().StringVar(&f.since, "since", "", "received since: 2026-11-01, 2026-11-01T08:00:00Z, or 36h for so long ago")
	c.Flags().StringVar(&f.until, "until", "", "received before")
}

func (f *filterFlags) parse() (audit.Filter, error) {
	for _, t := range []struct {
		flag, value string
		into        *time.Time
	}{{"since", f.since, &f.Since}, {"until", f.until, &f.Until}} {
		if t.value == "" {
			continue
		}
		at, err := parseTime(t.value)
		if err != nil {
			return f.Filter, cli.Usagef("--%s: %w", t.flag, err)
		}
		*t.into = at
	}
	return f.Filter, nil
}

// parseTime reads a day, a moment, or how long ago.
func parseTime(s string) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return time.Now().Add(-d), nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, s); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time; write 2026-11-01, 2026-11-01T08:00:00Z, or 36h for so long ago", s)
}

func newAuditSearch(o *options) *cobra.Command {
	var flags filterFlags
	var limit int
	var asJSON bool
	c := &cobra.Command{
		Use: "search", Short: "Find events, newest first", Args: cli.NoArgs,
		Example: `  rollcall audit search --user user_2g7np7Hrk0SN6kj5EDMLDaKNL0S --since 168h
  rollcall audit search --organization org_2g7 --type 'organizationMembership.*'
  rollcall audit search --ip 203.0.113.7 --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			filter, err := flags.parse()
			if err != nil {
				return err
			}
			if limit < 1 {
				return cli.Usagef("--limit must be 1 or more")
			}
			_, l, err := o.openAudit()
			if err != nil {
				return err
			}
			defer l.Close()
			entries, err := l.Search(c.Context(), filter, limit)
			if err != nil {
				return err
			}
			return printEntries(c.OutOrStdout(), entries, asJSON)
		},
	}
	flags.add(c)
	c.Flags().IntVar(&limit, "limit", 50, "rows at the most")
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON array, with payloads")
	return c
}

func printEntries(w io.Writer, entries []audit.Entry, asJSON bool) error {
	if asJSON {
		if entries == nil {
			entries = []audit.Entry{}
		}
		return json.NewEncoder(w).Encode(entries)
	}
	if len(entries) == 0 {
		_, err := fmt.Fprintln(w, "no such events")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SEQ\tRECEIVED\tTYPE\tENTITY\tACTOR\tFROM\tCHANGED")
	for i := range entries {
		e := &entries[i]
		from := strings.TrimSpace(e.ClientIP + " " + e.Platform)
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Seq, e.ReceivedAt.Local().Format(time.DateTime), e.Type, e.EntityID, e.ActorID, oneCell(from), oneCell(strings.Join(e.ChangedFields(), " ")))
	}
	return t.Flush()
}

// oneCell takes out what would break a line or speak to the terminal.
func oneCell(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

type exportOptions struct {
	*options
	flags          filterFlags
	format, output string
	after          int64
}

func newAuditExport(o *options) *cobra.Command {
	e := &exportOptions{options: o}
	c := &cobra.Command{
		Use: "export", Short: "Write events, oldest first, to a file or standard output", Args: cli.NoArgs,
		Long: `Write events, one a line: jsonl (everything), csv (for a spreadsheet; without
payloads), or ocsf (JSON in the Open Cybersecurity Schema Framework, 1.8.0).

The cursor is the last row's number. It is printed on standard error; --after
goes on behind it. An --output FILE that is an export already is gone on with
behind its last row, also one that broke off.`,
		Example: `  rollcall audit export --format csv --since 720h > november.csv
  rollcall audit export --format jsonl --output audit.jsonl     # again later: what came since
  rollcall audit export --format ocsf --after 48213 | your-siem`,
		RunE: func(c *cobra.Command, _ []string) error { return e.run(c.Context(), c.OutOrStdout(), c.ErrOrStderr()) },
	}
	c.Flags().StringVar(&e.format, "format", "jsonl", strings.Join(audit.Formats(), ", "))
	c.Flags().StringVar(&e.output, "output", "", "file to append to (default: standard output)")
	c.Flags().Int64Var(&e.after, "after", 0, "cursor: begin behind this row")
	e.flags.add(c)
	return c
}

func (e *exportOptions) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	if !slices.Contains(audit.Formats(), e.format) {
		return cli.Usagef("--format is %q; use %s", e.format, strings.Join(audit.Formats(), ", "))
	}
	filter, err := e.flags.parse()
	if err != nil {
		return err
	}
	_, l, err := e.openAudit()
	if err != nil {
		return err
	}
	defer l.Close()
	bar := newBar(-1, "exporting", "rows")
	o := audit.ExportOptions{Format: e.format, Filter: filter, After: e.after, Header: e.after == 0, Progress: func(rows int64) { _ = bar.Set64(rows) }}
	out := stdout
	if e.output != "" {
		file, last, begun, err := openExport(e.output, e.format)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		if begun {
			o.After, o.Header = max(o.After, last), false
		}
		out = file
	}
	cursor, err := l.Export(ctx, out, o)
	_ = bar.Finish() // the terminal's own trouble
	fmt.Fprintf(stderr, "cursor: %d (go on with --after %[1]d)\n", cursor)
	return err
}

// openExport opens a file to append to. Of one that has lines already it finds
// the last row, and cuts off what follows the last whole line.
func openExport(path, format string) (file *os.File, last int64, begun bool, err error) {
	file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, false, err
	}
	line, end, err := lastLine(file)
	if err == nil && len(line) > 0 {
		begun = true
		if last, err = audit.LastExported(format, line); err != nil {
			err = cli.Usagef("%s: %w; choose another file", path, err)
		}
	}
	if err == nil && !begun && end == 0 {
		var size int64
		if size, err = file.Seek(0, io.SeekEnd); err == nil && size > 0 {
			// Half a first line, or somebody else's file: not ours to cut.
			err = cli.Usagef("%s: %w; choose another file", path, audit.ErrNotAnExport)
		}
	}
	if err == nil {
		err = file.Truncate(end)
	}
	if err == nil {
		_, err = file.Seek(end, io.SeekStart)
	}
	if err != nil {
		return nil, 0, false, errors.Join(err, file.Close())
	}
	return file, last, begun, nil
}

// lastLine is the last whole line of a file, and where it ends.
func lastLine(file *os.File) (line []byte, end int64, err error) {
	const most = 32 << 20 // longer than any line: a body may be given twice, and its changes
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, 0, err
	}
	from := max(0, size-most)
	text := make([]byte, size-from)
	if _, err := file.ReadAt(text, from); err != nil {
		return nil, 0, err
	}
	n := bytes.LastIndexByte(text, '\n')
	if n < 0 {
		return nil, 0, nil
	}
	begin := bytes.LastIndexByte(text[:n], '\n') + 1
	return text[begin:n], from + int64(n) + 1, nil
}

func newAuditPrune(o *options) *cobra.Command {
	var before string
	var yes, asJSON bool
	c := &cobra.Command{
		Use: "prune", Short: "Drop whole months that ended before a date", Args: cli.NoArgs,
		Long: `Drop the partitions of the months that ended before a date. Where the chain begins
then is noted in the database and in CLERK_ANCHORS, so that verify holds from
there. Needs audit.migrate_database_url and NATS.`,
		Example: `  rollcall audit prune --before 2025-01-01          # shows what would go, and asks
  rollcall audit prune --before 2025-01-01 --yes`,
		RunE: func(c *cobra.Command, _ []string) error {
			if before == "" {
				return cli.Usagef("--before is needed: the day from which on rows are kept")
			}
			at, err := parseTime(before)
			if err != nil {
				return cli.Usagef("--before: %w", err)
			}
			if at.After(time.Now()) {
				return cli.Usagef("--before %s lies in the future", before)
			}
			cfg, l, err := o.openAudit()
			if err != nil {
				return err
			}
			defer l.Close()
			return prune(c, cfg, l, at, yes, asJSON)
		},
	}
	c.Flags().StringVar(&before, "before", "", "the day from which on rows are kept: 2025-01-01")
	c.Flags().BoolVar(&yes, "yes", false, "don't ask")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON; needs --yes")
	return c
}

func prune(c *cobra.Command, cfg *config.Config, l *audit.Log, before time.Time, yes, asJSON bool) error {
	ctx, w := c.Context(), c.OutOrStdout()
	if asJSON && !yes {
		return cli.Usagef("--json needs --yes")
	}
	plan, err := l.PlanPrune(ctx, before)
	if err != nil {
		return err
	}
	if len(plan.Partitions) > 0 {
		if !yes {
			question := fmt.Sprintf("Drop %d rows received before %s (%s)?", plan.Rows, plan.Before.Format(time.DateOnly), strings.Join(plan.Partitions, ", "))
			if err := cli.Confirm(ctx, c.InOrStdin(), c.ErrOrStderr(), question); err != nil {
				return err
			}
		}
		conn, err := connectNATS(ctx, cfg)
		if err != nil {
			return fmt.Errorf("the anchor: %w", err)
		}
		defer conn.Close()
		if plan, err = l.Prune(ctx, before, conn); err != nil {
			return err
		}
	}
	switch {
	case asJSON:
		return json.NewEncoder(w).Encode(plan)
	case len(plan.Partitions) == 0:
		_, err = fmt.Fprintf(w, "no month ended before %s\n", before.Format(time.DateOnly))
	default:
		_, err = fmt.Fprintf(w, "dropped %s: %d rows; the log begins with row %d\n", strings.Join(plan.Partitions, ", "), plan.Rows, plan.LastSeq+1)
	}
	return err
}
