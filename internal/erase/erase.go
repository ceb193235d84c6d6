// Package erase forgets a person: in the log, the dead letters and their mirrors,
// in the stores, the audit log and what invalidation remembers.
//
//	ids into CLERK_ERASED ─▶ scan ─▶ bodyless deletes ─▶ audit, keys, stores ─▶ overwrite: by address, cut, own, user's
//
// It may be ended at any moment and started again. A person's addresses, by
// which events that don't name the user are found, are read from the user's
// events: so those are overwritten last.
package erase

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-dev/rollcall/internal/erased"
	"github.com/rollcall-dev/rollcall/streams"
)

const (
	defaultSettle  = 5 * time.Second
	defaultPatient = 2 * time.Minute
	answerWait     = 30 * time.Second
	lookEvery      = 100 * time.Millisecond
	atOnce         = 8 // messages that are overwritten at one time
)

// Store is one that may have the person.
type Store interface {
	Name() string
	Prepare([]streams.Message) (work any, rejected map[int]error)
	Apply(ctx context.Context, work any) error
	// Vacuum takes old versions of rows out of the tables, and values out of the
	// planner's statistics.
	Vacuum(context.Context) error
}

// Audit is the audit log.
type Audit interface {
	Position(context.Context) (streams.Position, error)
	// Count is how many rows Redact would redact.
	Count(ctx context.Context, userID string, texts []string) (int64, error)
	// Redact takes what is personal out of the person's rows.
	Redact(ctx context.Context, userID string, texts []string) (rows int64, err error)
}

// Keys are what invalidation remembers.
type Keys interface {
	// Wait returns when all targets are past a position of the log.
	Wait(context.Context, streams.Position) error
	Erase(ctx context.Context, userID string, words []string) (erased int, err error)
}

// Options of an erasure.
type Options struct {
	JetStream  jetstream.JetStream
	Names      streams.Names
	UserID     string
	InstanceID string // where the log doesn't know the user; may be ""
	Stores     []Store
	Audit      Audit // nil: none
	Keys       Keys  // nil: none
	DryRun     bool  // changes nothing
	// Settle is how long ingests have to learn an id; 0 is 5 s.
	Settle time.Duration
	// Patience is how long the audit log and invalidation have to catch up; 0 is 2 minutes.
	Patience time.Duration
	// Progress is told what is being done; of is 0 where the end isn't known.
	Progress func(what string, done, of int)
}

// Stream is what was found in one.
type Stream struct {
	Stream    string `json:"stream"`
	Own       int    `json:"own"`        // of the person, overwritten
	ByAddress int    `json:"by_address"` // of no user, to an address of the person, overwritten
	Cut       int    `json:"cut"`        // of others, which embed the person: published again without, and overwritten
	// Shared are other users' own with an address of the person. They stay as they are.
	Shared int `json:"shared"`
}

// Report is to be kept. It has ids, and nothing else of the person.
type Report struct {
	UserID     string    `json:"user_id"`
	DryRun     bool      `json:"dry_run"`
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
	Finished   bool      `json:"finished"` // false: run it again
	Streams    []Stream  `json:"streams"`
	Entities   []string  `json:"entities"` // ids of what was found by address, or was the person's alone
	Stores     []string  `json:"stores"`
	AuditRows  int64     `json:"audit_rows"`
	Keys       int       `json:"keys"` // entries that invalidation remembered
	OutOfReach []string  `json:"out_of_reach"`
}

// outOfReach is what no command can overwrite.
var outOfReach = []string{
	"write-ahead log files of Postgres, until they are recycled, and its replicas' and archives'",
	"free space in Postgres's files, until it is used again: VACUUM FULL frees it",
	"backups of Postgres and of NATS",
	"Raft logs of a NATS cluster, until they are compacted",
	"earlier revisions of keys in NATS key-value buckets, until NATS compacts their files",
	"mirrors of the streams in other accounts or NATS domains",
	"caches, logs and copies of your own services, and Clerk itself",
}

type run struct {
	Options
	ids       *erased.IDs
	texts     []string // addresses, in lower case
	instances []string
	report    *Report
}

// Run erases a person. What it did so far is in the report also where there is
// an error; run it again then.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Settle == 0 {
		o.Settle = defaultSettle
	}
	if o.Patience == 0 {
		o.Patience = defaultPatient
	}
	if o.Progress == nil {
		o.Progress = func(string, int, int) {}
	}
	if o.UserID == "" || len(streams.Token(o.UserID)) > streams.MaxToken {
		return nil, errors.New("erase: that is no user's id")
	}
	r := &run{Options: o, ids: erased.NewIDs(o.UserID)}
	r.report = &Report{UserID: o.UserID, DryRun: o.DryRun, StartedAt: time.Now().UTC(), Entities: []string{}, Stores: []string{}, OutOfReach: outOfReach}
	err := r.run(ctx)
	r.report.FinishedAt, r.report.Finished = time.Now().UTC(), err == nil
	return r.report, err
}

func (r *run) run(ctx context.Context) error {
	if err := r.knownIDs(ctx); err != nil {
		return err
	}
	if r.DryRun {
		return r.look(ctx)
	}
	if err := r.publishIDs(ctx, r.UserID); err != nil {
		return err
	}
	found, err := r.settle(ctx)
	if err != nil {
		return err
	}
	messages, end, err := r.bury(ctx, found)
	if err != nil {
		return err
	}
	if err := r.caughtUp(ctx, end); err != nil {
		return err
	}
	if err := r.redact(ctx, found); err != nil {
		return err
	}
	// A store that can't be reached keeps nobody's data in the log.
	failed := r.stores(ctx, messages)
	return errors.Join(failed, r.overwrite(ctx, found))
}

// look is a dry run.
func (r *run) look(ctx context.Context) error {
	found, err := r.settle(ctx)
	if err != nil {
		return err
	}
	for _, s := range r.Options.Stores {
		r.report.Stores = append(r.report.Stores, s.Name())
	}
	if r.Audit != nil {
		r.report.AuditRows, err = r.Audit.Count(ctx, r.UserID, r.auditTexts(found))
	}
	return err
}

// settle scans until ingests know all ids that are found: what came in between
// may have been published whole.
func (r *run) settle(ctx context.Context) (*findings, error) {
	for {
		found, err := r.scan(ctx)
		if err != nil {
			return nil, err
		}
		var unknown []string
		for _, e := range found.entities {
			if (e.byAddress || addressed[e.resource] != nil) && !r.ids.Has(e.id) {
				unknown = append(unknown, e.id)
			}
		}
		if len(unknown) == 0 {
			r.tell(found)
			return found, nil
		}
		if err := r.publishIDs(ctx, unknown...); err != nil {
			return nil, err
		}
	}
}

func (r *run) tell(found *findings) {
	r.report.Streams = found.counts()
	for _, e := range found.entities {
		r.report.Entities = append(r.report.Entities, e.id)
	}
	slices.Sort(r.report.Entities)
}

// of is what CLERK_ERASED keeps with an id: whose it was.
type of struct {
	UserID string `json:"user_id"`
}

func (r *run) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	name := r.Names.ErasedBucket()
	kv, err := r.JetStream.KeyValue(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w; rollcall streams apply makes it", name, err)
	}
	return kv, nil
}

// knownIDs are those that an earlier run found: the events that it found them by
// may be gone.
func (r *run) knownIDs(ctx context.Context) error {
	kv, err := r.bucket(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	keys, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return fmt.Errorf("read %s: %w", r.Names.ErasedBucket(), err)
	}
	defer keys.Stop() //nolint:errcheck // a connection that is gone has no subscriptions
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("read %s: %w", r.Names.ErasedBucket(), ctx.Err())
		case k, open := <-keys.Updates():
			if k == nil || !open {
				return nil
			}
			var value of
			if id, err := streams.ParseKey(k.Key()); err == nil && json.Unmarshal(k.Value(), &value) == nil && value.UserID == r.UserID {
				r.ids.Add(id)
			}
		}
	}
}

// publishIDs puts ids where ingests watch for them, and gives them time.
func (r *run) publishIDs(ctx context.Context, ids ...string) error {
	for _, id := range ids {
		r.ids.Add(id)
	}
	if r.DryRun {
		return nil
	}
	name := r.Names.ErasedBucket()
	kv, err := r.bucket(ctx)
	if err != nil {
		return err
	}
	value, err := json.Marshal(of{r.UserID})
	if err != nil {
		return err
	}
	fresh := false
	for _, id := range ids {
		_, err := kv.Create(ctx, streams.Key(id), value)
		if errors.Is(err, jetstream.ErrKeyExists) {
			entry, err := kv.Get(ctx, streams.Key(id))
			if err != nil {
				return fmt.Errorf("read %s: %w", name, err)
			}
			fresh = fresh || time.Since(entry.Created()) < r.Settle
			continue
		}
		if err != nil {
			return fmt.Errorf("put the id into %s: %w", name, err)
		}
		fresh = true
	}
	if !fresh {
		return nil
	}
	r.Progress("waiting until every ingest knows", 0, 0)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(r.Settle):
		return nil
	}
}

// caughtUp waits for those that have to have seen an event before it goes.
func (r *run) caughtUp(ctx context.Context, end streams.Position) error {
	ctx, cancel := context.WithTimeout(ctx, r.Patience)
	defer cancel()
	if r.Keys != nil {
		r.Progress("waiting for invalidate", 0, 0)
		if err := r.Keys.Wait(ctx, end); err != nil {
			return fmt.Errorf("%w; let the role invalidate run, then erase again", err)
		}
	}
	for r.Audit != nil {
		r.Progress("waiting for audit", 0, 0)
		at, err := r.Audit.Position(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil && at.Epoch == end.Epoch && at.Sequence >= end.Sequence {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the audit log is at event %d, before %d: %w; let the role audit run, then erase again", at.Sequence, end.Sequence, ctx.Err())
		case <-time.After(lookEvery):
		}
	}
	return nil
}

// auditTexts find rows: ids, and addresses that nobody else has.
func (r *run) auditTexts(found *findings) (texts []string) {
	for _, e := range found.entities {
		texts = append(texts, e.id)
	}
	for text := range found.spellings {
		if !found.shared[strings.ToLower(text)] {
			texts = append(texts, text)
		}
	}
	slices.Sort(texts)
	return texts
}

func (r *run) redact(ctx context.Context, found *findings) (err error) {
	if r.Audit != nil {
		r.Progress("redacting the audit log", 0, 0)
		if r.report.AuditRows, err = r.Audit.Redact(ctx, r.UserID, r.auditTexts(found)); err != nil {
			return err
		}
	}
	if r.Keys != nil {
		r.report.Keys, err = r.Keys.Erase(ctx, r.UserID, r.auditTexts(found))
	}
	return err
}

// stores applies the deletes to each store, whether it runs or not. One that
// can't be reached holds up no other: it learns from the log.
func (r *run) stores(ctx context.Context, messages []streams.Message) (failed error) {
	for _, s := range r.Options.Stores {
		r.Progress("clearing "+s.Name(), 0, 0)
		work, rejected := s.Prepare(messages)
		for _, err := range rejected {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.Name(), err))
		}
		err := s.Apply(ctx, work)
		if err == nil {
			err = s.Vacuum(ctx)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w; it will learn from the log, or erase again", s.Name(), err))
			continue
		}
		r.report.Stores = append(r.report.Stores, s.Name())
	}
	return failed
}
