package backfill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-dev/rollcall/streams"
)

// saveEvery is how much of a run a crash has done again, at the most.
const saveEvery = 250 * time.Millisecond

// state is a run as CLERK_STATE keeps it. It holds ids, and nothing personal.
type state struct {
	Run        string      `json:"run"`
	Writer     string      `json:"writer"` // the process that wrote this
	InstanceID string      `json:"instance_id"`
	StartedAt  int64       `json:"started_at"` // Clerk's clock, milliseconds since 1970
	Resources  []*progress `json:"resources"`
	Requests   int64       `json:"requests"` // of processes that ended, as far as they were saved
}

// progress is how far one resource is.
type progress struct {
	Table   string `json:"table"`
	Total   int64  `json:"total"` // Clerk's, when the run started
	Left    string `json:"left,omitempty"`
	Planned bool   `json:"planned,omitempty"`
	Walks   []walk `json:"walks,omitempty"`
	// Uncompared: the store couldn't be asked about all rows.
	Uncompared bool `json:"uncompared,omitempty"`
	Counts
}

func (p *progress) done() bool {
	if p.Left != "" {
		return true
	}
	for _, w := range p.Walks {
		if !w.Done {
			return false
		}
	}
	return p.Planned
}

func (s *state) tables() (tables []string) {
	for _, p := range s.Resources {
		tables = append(tables, p.Table)
	}
	return tables
}

// errTaken: another process wrote the checkpoint. Who was frozen for longer than
// its lease lives finds out here.
var errTaken = errors.New("another process goes on with this backfill")

// checkpoint keeps a state. Changes go through change, and are written a little
// later; save writes what is left.
type checkpoint struct {
	kv       jetstream.KeyValue
	key      string
	writer   string       // this process
	requests func() int64 // of this process

	mu      sync.Mutex
	state   *state
	before  int64 // requests of processes before
	changed bool

	writing  sync.Mutex
	revision uint64
}

// checkpointKey is that of an instance's backfill.
func checkpointKey(instanceID string) string { return "backfill." + streams.Key(instanceID) }

// open reads the run that was interrupted; nil where there is none.
func (c *checkpoint) open(ctx context.Context) (*state, error) {
	entry, err := c.kv.Get(ctx, c.key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the checkpoint: %w", err)
	}
	s := &state{}
	if err := json.Unmarshal(entry.Value(), s); err != nil {
		return nil, fmt.Errorf("the checkpoint can't be read: %w; rollcall backfill --restart begins anew", err)
	}
	c.revision = entry.Revision()
	return s, nil
}

// begin makes the state the one that is kept.
func (c *checkpoint) begin(ctx context.Context, s *state) error {
	s.Writer = c.writer
	c.state, c.before, c.changed = s, s.Requests, true
	return c.save(ctx)
}

func (c *checkpoint) change(f func(*state)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c.state)
	c.changed = true
}

// see shows the state to f, which keeps nothing of it.
func (c *checkpoint) see(f func(*state)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c.state)
}

// run writes changes until the context ends. Trouble with NATS passes, or ends
// the publishing beside it; the error is errTaken.
func (c *checkpoint) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(saveEvery):
		}
		if err := c.save(ctx); errors.Is(err, errTaken) {
			return err
		}
	}
}

func (c *checkpoint) save(ctx context.Context) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	changed := c.changed
	c.changed = false
	c.state.Requests = c.before + c.requests()
	value, err := json.Marshal(c.state)
	c.mu.Unlock()
	if err != nil || !changed {
		return err
	}
	revision, err := c.write(ctx, value)
	if err == nil {
		c.revision = revision
		return nil
	}
	c.change(func(*state) {}) // it is still to be written
	if isTaken(err) {
		return c.retake(ctx)
	}
	return fmt.Errorf("write the checkpoint: %w", err)
}

func (c *checkpoint) write(ctx context.Context, value []byte) (uint64, error) {
	if c.revision == 0 {
		return c.kv.Create(ctx, c.key, value)
	}
	return c.kv.Update(ctx, c.key, value, c.revision)
}

func isTaken(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, jetstream.ErrKeyExists) || errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}

// retake tells a write of ours whose acknowledgement was lost from another's.
func (c *checkpoint) retake(ctx context.Context) error {
	entry, err := c.kv.Get(ctx, c.key)
	if err != nil {
		return fmt.Errorf("read the checkpoint: %w", err)
	}
	var kept state
	if json.Unmarshal(entry.Value(), &kept) != nil || kept.Writer != c.writer {
		return errTaken
	}
	c.revision = entry.Revision()
	return nil
}

// remove forgets a run that has ended.
func (c *checkpoint) remove(ctx context.Context) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.kv.Delete(ctx, c.key, jetstream.LastRevision(c.revision)); err != nil {
		return fmt.Errorf("remove the checkpoint of a backfill that has ended: %w", err)
	}
	return nil
}
