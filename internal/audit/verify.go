package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/internal/clerk"
	"github.com/rollcall-dev/rollcall/internal/schema"
	"github.com/rollcall-dev/rollcall/streams"
)

// VerifyOptions say what to compare the log with.
type VerifyOptions struct {
	From     int64                // the first row to look at; 0: where the log begins
	Anchors  Broker               // nil: the chain alone, which a rewriting of all of it passes
	Verifier *clerk.Verifier      // of Svix signatures; nil: none is checked
	Progress func(done, of int64) // rows; nil: nobody looks
}

// Report is what [Log.Verify] found.
type Report struct {
	OK         bool       `json:"ok"`
	Rows       int64      `json:"rows"`
	First      int64      `json:"first"` // the first row looked at; 0 of an empty log
	Last       int64      `json:"last"`
	Pruned     int64      `json:"pruned"` // rows up to this one were pruned
	Anchors    int64      `json:"anchors"`
	Redacted   int64      `json:"redacted"` // rows of which something personal was taken out
	Signatures Signatures `json:"signatures"`
	Broken     *Broken    `json:"broken,omitempty"` // the first place
}

// Signatures of Svix's, counted.
type Signatures struct {
	Checked       int64 `json:"checked"`        // they hold
	Redacted      int64 `json:"redacted"`       // the body isn't what was signed, or isn't there: one-time codes, erased people
	UnknownSecret int64 `json:"unknown_secret"` // signed before the first secret that is known
	None          int64 `json:"none"`           // an event of Rollcall's own, or no secret was given
}

// Broken is a place where the log isn't as it was written.
type Broken struct {
	Kind  string `json:"kind"`  // see the Broken… constants
	Seq   int64  `json:"seq"`   // the row that shows it
	After int64  `json:"after"` // the last row before it that is known to be right
	What  string `json:"what"`  // a sentence
}

// The kinds of breaks.
const (
	BrokenRow       = "row"       // a row was changed
	BrokenValue     = "value"     // a personal value was changed, or taken out by no redaction
	BrokenLink      = "link"      // a row doesn't follow the one before: swapped or inserted
	BrokenMissing   = "missing"   // rows are missing
	BrokenEnd       = "end"       // the end was cut off, or something was put behind it
	BrokenAnchor    = "anchor"    // the chain fits itself, and isn't the one that was anchored: it was rewritten
	BrokenSignature = "signature" // a body isn't the one that Svix signed
	BrokenPrune     = "prune"     // the log's beginning was cut off by no prune that was anchored
)

// verifyRows is how many rows are read at a time: some megabytes.
const verifyRows = 2048

// ErrNotThere says that the database has no audit log.
var ErrNotThere = errors.New("there is no audit log in this database: it is made when `rollcall run audit` or `rollcall dev` starts")

// Verify walks the log in order, with constant memory, and stops at the first
// place that is broken; the error then is nil. It may run beside the writer.
func (l *Log) Verify(ctx context.Context, o VerifyOptions) (Report, error) {
	v := &verification{log: l, options: o, known: map[string]bool{}}
	// In this order: what is anchored is in the log.
	if o.Anchors != nil {
		anchors, err := readAnchors(ctx, o.Anchors, l.o.Names)
		if err != nil {
			return v.report, err
		}
		defer anchors.stop()
		v.anchors = anchors
	}
	if err := v.start(ctx); err != nil {
		return v.report, err
	}
	err := v.walk(ctx)
	if err == nil && v.report.Broken == nil {
		err = v.end(ctx)
	}
	if err == nil && v.report.Broken != nil {
		err = v.unpruned(ctx)
	}
	v.report.OK = err == nil && v.report.Broken == nil
	return v.report, err
}

// verification is one in progress.
type verification struct {
	log     *Log
	options VerifyOptions
	report  Report
	anchors *anchorReader // nil without

	head     Head // the log's, when it began
	next     int64
	prev     hash // of the row before next
	anchored int64
	prune    anchor          // the last, as the table has it
	known    map[string]bool // instances of which a signature held
}

func (v *verification) broken(kind string, seq, after int64, format string, args ...any) {
	if v.report.Broken == nil {
		v.report.Broken = &Broken{Kind: kind, Seq: seq, After: after, What: fmt.Sprintf(format, args...)}
	}
}

// start finds where the log begins and ends.
func (v *verification) start(ctx context.Context) error {
	s := v.log.schema
	var last []byte
	err := v.log.pool.QueryRow(ctx, `select seq, hash from `+s+`.sync_status`).Scan(&v.head.Seq, &last)
	switch {
	case schema.Missing(err):
		return ErrNotThere
	case err != nil:
		return fmt.Errorf("read %s.sync_status: %w", v.log.o.Schema, err)
	}
	copy(v.head.Hash[:], last)
	if err := v.pruned(ctx); err != nil {
		return err
	}
	v.next = v.prune.Seq + 1
	v.report.Pruned = v.prune.Seq
	if v.options.From > v.next {
		v.next = v.options.From
		var before []byte
		err := v.log.pool.QueryRow(ctx, `select prev_hash from `+s+`.events where seq = $1`, v.next).Scan(&before)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("there is no row %d to begin with; the log ends with row %d", v.next, v.head.Seq)
		}
		if err != nil {
			return fmt.Errorf("read row %d: %w", v.next, err)
		}
		copy(v.prev[:], before)
	}
	v.anchored = v.next - 1
	if v.head.Seq >= v.next {
		v.report.First = v.next
	}
	return nil
}

// pruned reads where the last prune let the log begin.
func (v *verification) pruned(ctx context.Context) error {
	s := v.log.schema
	var last []byte
	err := v.log.pool.QueryRow(ctx, `select last_seq, last_hash from `+s+`.prunes order by id desc limit 1`).Scan(&v.prune.Seq, &last)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s.prunes: %w", v.log.o.Schema, err)
	}
	copy(v.prev[:], last)
	v.prune.Kind, v.prune.Hash = anchorPrune, hex.EncodeToString(last)
	v.prune.Holes, v.prune.HolesHash, err = v.log.holes(ctx, v.log.pool)
	return err
}

// unpruned is an error where a prune took rows while they were being read.
func (v *verification) unpruned(ctx context.Context) error {
	var last int64
	err := v.log.pool.QueryRow(ctx, `select coalesce((select last_seq from `+v.log.schema+`.prunes order by id desc limit 1), 0)`).Scan(&last)
	if err != nil {
		return fmt.Errorf("read %s.prunes: %w", v.log.o.Schema, err)
	}
	if last != v.prune.Seq {
		return errors.New("rows were pruned meanwhile: verify again")
	}
	return nil
}

// holes sums up the rows that a prune took from between others.
func (l *Log) holes(ctx context.Context, db interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
}) (n int64, sum string, err error) {
	rows, err := db.Query(ctx, `select seq, hash from `+l.schema+`.pruned order by seq`)
	if err != nil {
		return 0, "", fmt.Errorf("read %s.pruned: %w", l.o.Schema, err)
	}
	digest := sha256.New()
	var seq int64
	var of []byte
	_, err = pgx.ForEachRow(rows, []any{&seq, &of}, func() error {
		n++
		digest.Write(binary.BigEndian.AppendUint64(nil, uint64(seq)))
		digest.Write(of)
		return nil
	})
	if err != nil || n == 0 {
		return 0, "", err
	}
	return n, hex.EncodeToString(digest.Sum(nil)), nil
}

// chunk is some rows, read and checked by themselves.
type chunk struct {
	from, to int64 // numbers asked for
	raw      []byte
	holes    map[int64]hash     // rows of these numbers were pruned
	redacted map[int64][]string // columns by row
	rows     []checked
	err      error
	done     chan struct{}
}

// checked is what is left of a row that was looked at alone.
type checked struct {
	seq            int64
	prevHash, hash hash
	kind, what     string // how it is broken; "" where it fits
	redacted       bool
	instance       string
	signature      int
}

const (
	noSignature = iota
	signatureHolds
	signatureRedacted
	signatureUnknown
)

// walk reads rows ahead, checks chunks of them in parallel, and joins them in order.
func (v *verification) walk(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	read, ordered := make(chan *chunk), make(chan *chunk, workers)
	end := errors.New("a place is broken: the rest needn't be read")
	g.Go(func() error {
		defer close(read)
		defer close(ordered)
		for from := v.next; from <= v.head.Seq; from += verifyRows {
			c := &chunk{from: from, to: min(from+verifyRows-1, v.head.Seq), done: make(chan struct{})}
			if err := v.log.fetch(ctx, c); err != nil {
				return err
			}
			for _, to := range []chan *chunk{ordered, read} {
				select {
				case to <- c:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		return nil
	})
	for range workers {
		g.Go(func() error {
			for c := range read {
				c.check(v.options.Verifier)
				close(c.done)
			}
			return nil
		})
	}
	g.Go(func() error {
		for c := range ordered {
			select {
			case <-c.done:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := v.join(ctx, c); err != nil {
				return err
			}
			if v.report.Broken != nil {
				return end
			}
			if v.options.Progress != nil {
				v.options.Progress(v.report.Rows, v.head.Seq-v.report.First+1)
			}
		}
		return nil
	})
	if err := g.Wait(); !errors.Is(err, end) {
		return err
	}
	return nil
}

func (l *Log) fetch(ctx context.Context, c *chunk) error {
	conn, err := l.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Release()
	var raw bytes.Buffer
	sql := fmt.Sprintf(`copy (select %s from %s.events where seq between %d and %d order by seq) to stdout (format binary)`, columns, l.schema, c.from, c.to)
	if _, err := conn.Conn().PgConn().CopyTo(ctx, &raw, sql); err != nil {
		return fmt.Errorf("read rows %d to %d: %w", c.from, c.to, err)
	}
	c.raw = raw.Bytes()
	c.holes, c.redacted = map[int64]hash{}, map[int64][]string{}
	rows, err := conn.Query(ctx, `select seq, hash, null::text[] from `+l.schema+`.pruned where seq between $1 and $2
union all select seq, null, columns from `+l.schema+`.redactions where seq between $1 and $2`, c.from, c.to)
	if err != nil {
		return fmt.Errorf("read what was pruned and redacted: %w", err)
	}
	var seq int64
	var of []byte
	var names []string
	_, err = pgx.ForEachRow(rows, []any{&seq, &of, &names}, func() error {
		if of != nil {
			var h hash
			copy(h[:], of)
			c.holes[seq] = h
		}
		c.redacted[seq] = append(c.redacted[seq], names...)
		return nil
	})
	return err
}

// check looks at each row by itself.
func (c *chunk) check(verifier *clerk.Verifier) {
	var r row
	rows := newCopied(c.raw)
	scratch := make([]byte, 0, 1<<10)
	c.rows = make([]checked, 0, c.to-c.from+1)
	for rows.next(&r) {
		k := checked{seq: r.seq, prevHash: r.prevHash, hash: r.hash, instance: r.instanceID}
		scratch = r.canonical(append(scratch[:0], r.prevHash[:]...))
		if sha256.Sum256(scratch) != r.hash {
			k.kind, k.what = BrokenRow, fmt.Sprintf("row %d was changed: its hash isn't that of what it holds", r.seq)
		}
		for i := range r.personal {
			p := &r.personal[i]
			switch {
			case p.value != nil && !bytes.Equal(p.digest, digestOf(p.salt, p.value)):
				k.kind, k.what = BrokenValue, fmt.Sprintf("%s of row %d was changed: its digest isn't that of the value", personalColumns[i], r.seq)
			case p.value == nil && p.digest != nil && !slices.Contains(c.redacted[r.seq], personalColumns[i]):
				k.kind, k.what = BrokenValue, fmt.Sprintf("%s of row %d was taken out, by no redaction", personalColumns[i], r.seq)
			case p.value == nil && p.digest != nil:
				k.redacted = true
			}
		}
		k.signature = r.checkSignature(verifier)
		c.rows = append(c.rows, k)
	}
	c.err, c.raw = rows.err, nil
}

func (r *row) checkSignature(verifier *clerk.Verifier) int {
	body := r.personal[payload].value
	switch {
	case r.source != string(streams.SourceWebhook) || verifier == nil || r.svixTimestamp == "":
		return noSignature
	case r.svixSignature == "" || body == nil:
		return signatureRedacted
	case verifier.Signed(clerk.Delivery{ID: r.eventID, Timestamp: r.svixTimestamp, Signature: r.svixSignature}, body):
		return signatureHolds
	}
	return signatureUnknown
}

// join links checked rows to those before, and to the anchors.
func (v *verification) join(ctx context.Context, c *chunk) error {
	if c.err != nil {
		return fmt.Errorf("read rows %d to %d: %w", c.from, c.to, c.err)
	}
	for i := range c.rows {
		if err := v.link(ctx, &c.rows[i], c.holes); err != nil || v.report.Broken != nil {
			return err
		}
	}
	return v.skip(ctx, c.to+1, c.holes)
}

func (v *verification) link(ctx context.Context, k *checked, holes map[int64]hash) error {
	if k.seq < v.next {
		v.broken(BrokenLink, k.seq, k.seq-1, "row %d is there twice", k.seq)
		return nil
	}
	if err := v.skip(ctx, k.seq, holes); err != nil || v.report.Broken != nil {
		return err
	}
	switch {
	case k.kind != "":
		v.broken(k.kind, k.seq, k.seq-1, "%s", k.what)
	case k.prevHash != v.prev:
		v.broken(BrokenLink, k.seq, k.seq-1, "row %d doesn't follow row %d: it names another hash as the one before", k.seq, k.seq-1)
	}
	v.signature(k)
	if v.report.Broken != nil {
		return nil
	}
	v.report.Rows++
	v.report.Last = k.seq
	if k.redacted {
		v.report.Redacted++
	}
	return v.pass(ctx, k.seq, k.hash)
}

// skip goes over the numbers up to a row that a prune has taken; others are missing.
func (v *verification) skip(ctx context.Context, to int64, holes map[int64]hash) error {
	for v.next < to {
		of, pruned := holes[v.next]
		if !pruned {
			v.broken(BrokenMissing, v.next, v.next-1, "row %d is missing", v.next)
			return nil
		}
		if err := v.pass(ctx, v.next, of); err != nil || v.report.Broken != nil {
			return err
		}
	}
	return nil
}

// pass leaves a row behind: it is the one that was anchored, if it was.
func (v *verification) pass(ctx context.Context, seq int64, of hash) error {
	v.next, v.prev = seq+1, of
	for v.anchors != nil {
		a, err := v.anchors.peek()
		if err != nil || a == nil || a.Kind == anchorHead && a.Seq > seq {
			return err
		}
		v.anchors.drop()
		if a.Kind != anchorHead || a.Seq < v.report.First {
			continue
		}
		want := a.Hash
		have := hex.EncodeToString(of[:])
		if a.Seq < seq { // written late
			if have, err = v.log.hashOf(ctx, a.Seq); err != nil {
				return err
			}
		}
		if have != want {
			v.broken(BrokenAnchor, a.Seq, v.anchored, "row %d isn't the one that was anchored at %s: the log was rewritten behind row %d, which is the last that an anchor confirms",
				a.Seq, a.At.Format(time.RFC3339), v.anchored)
			return nil
		}
		v.report.Anchors++
		v.anchored = max(v.anchored, a.Seq)
	}
	return nil
}

func (l *Log) hashOf(ctx context.Context, seq int64) (string, error) {
	var h []byte
	err := l.pool.QueryRow(ctx, `select hash from `+l.schema+`.events where seq = $1 union all select hash from `+l.schema+`.pruned where seq = $1`, seq).Scan(&h)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("read row %d: %w", seq, err)
	}
	return hex.EncodeToString(h), nil
}

func (v *verification) signature(k *checked) {
	s := &v.report.Signatures
	switch k.signature {
	case signatureHolds:
		s.Checked++
		v.known[k.instance] = true
	case signatureRedacted:
		s.Redacted++
	case noSignature:
		s.None++
	case signatureUnknown:
		if !v.known[k.instance] {
			s.UnknownSecret++
			return
		}
		v.broken(BrokenSignature, k.seq, k.seq-1, "payload of row %d isn't what Svix signed, by any secret that is known here; if it was signed with one that has been rotated since, give that one too", k.seq)
	}
}

// end compares the log's end with where it says that it ends, and with what is
// anchored.
func (v *verification) end(ctx context.Context) error {
	if v.prev != v.head.Hash && v.head.Seq >= v.next-1 {
		v.broken(BrokenEnd, v.head.Seq, v.head.Seq-1, "row %d isn't the last one that was written: sync_status names another hash", v.head.Seq)
		return nil
	}
	var last, head int64
	err := v.log.pool.QueryRow(ctx, `select coalesce((select max(seq) from `+v.log.schema+`.events), 0), seq from `+v.log.schema+`.sync_status`).Scan(&last, &head)
	if err != nil {
		return fmt.Errorf("read the log's end: %w", err)
	}
	if last > head {
		v.broken(BrokenEnd, head+1, head, "row %d stands behind the log's end, which is row %d", head+1, head)
		return nil
	}
	return v.anchorsEnd()
}

// anchorsEnd reads the anchors that are left: none may speak of rows behind the end.
func (v *verification) anchorsEnd() error {
	for v.anchors != nil {
		a, err := v.anchors.peek()
		if err != nil {
			return err
		}
		if a == nil {
			break
		}
		v.anchors.drop()
		if a.Kind == anchorHead && a.Seq > v.head.Seq {
			v.broken(BrokenEnd, v.head.Seq+1, v.head.Seq, "the log ends with row %d, and row %d was anchored at %s: the end was cut off", v.head.Seq, a.Seq, a.At.Format(time.RFC3339))
			return nil
		}
	}
	if v.anchors != nil && v.prune.Kind != "" && !v.anchors.prunes[v.prune.pruneKey()] {
		v.broken(BrokenPrune, v.prune.Seq+1, v.prune.Seq, "the log begins with row %d, and no prune up to there was anchored: its beginning was cut off, or rows from between", v.prune.Seq+1)
	}
	return nil
}
