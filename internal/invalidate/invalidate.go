// Package invalidate tells caches which of their keys a change made stale. Each
// target, such as a Redis, is a sink of the log with a position of its own in
// CLERK_STATE, so that one in trouble holds up no other:
//
//	read ─▶ rules: keys of the event ─▶ wait for the stores ─▶ recall keys of before ─▶ send ─▶ remember, move the position
//
// A key goes at least once for each change, in the order of the log, and never
// before the stores named as prerequisites have the change. The keys that
// an entity had are remembered, since a later event doesn't say them: its e-mail
// has changed, or it is deleted and only its id is left. They are remembered
// after they were sent; a crash in between sends them again.
package invalidate

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/bucket"
	"github.com/rollcall-dev/rollcall/streams"
)

// Broker is the connection to NATS.
type Broker interface {
	JetStream() (jetstream.JetStream, error)
}

// Target is told of stale keys.
type Target interface {
	// Name is unique among the targets and stays the same: the position is kept
	// under it.
	Name() string
	// Send returns once the target has dealt with the keys. It may be called with
	// the same again, after an error.
	Send(context.Context, []streams.Invalidation) error
	Close() error
}

// Options of an Invalidator.
type Options struct {
	Broker  Broker
	Names   streams.Names
	Keys    map[string][]string // templates by table
	After   []Prerequisite
	Targets []Target
	Log     *zap.Logger
	Metrics *Metrics
}

// Invalidator is what the targets of a process have in common. It is also the
// one through which dead letters go again, to all targets.
type Invalidator struct {
	rules  *rules
	memory *memory
	gate   *gate
	sinks  []*Sink
}

const (
	answerWait = 5 * time.Second
	writeWait  = 30 * time.Second
	// Entities that are recalled, sent and remembered at a time.
	maxAtOnce = 4096
	// How often another process's writing makes a batch begin again.
	maxConflicts = 10
)

// New makes one; templates that can't be are an error.
func New(o Options) (*Invalidator, error) {
	rules, err := newRules(o.Names, o.Keys)
	if err != nil {
		return nil, fmt.Errorf("invalidate: %w", err)
	}
	s := &bucket.Bucket{Broker: o.Broker, Name: o.Names.StateBucket()}
	v := &Invalidator{rules: rules, memory: newMemory(s), gate: &gate{s, o.After}}
	for _, t := range o.Targets {
		sink := &Sink{v: v, target: t, names: o.Names, lock: lock{key: positionPrefix + streams.Key(t.Name())}, metrics: o.Metrics.of(t.Name())}
		sink.log = o.Log.With(zap.String("sink", sink.Name()))
		v.sinks, v.memory.targets = append(v.sinks, sink), append(v.memory.targets, sink.lock.key)
	}
	return v, nil
}

// Sinks is one a target.
func (v *Invalidator) Sinks() []*Sink { return v.sinks }

// Name is the name of the dead letters of all targets.
func (v *Invalidator) Name() string { return streams.SinkInvalidate }

// work is what Prepare makes of messages.
type work struct {
	changes []change
	oldest  time.Time // when the first of them was stored
}

// Prepare reads messages. What it can't read could be no row either.
func (v *Invalidator) Prepare(messages []streams.Message) (any, map[int]error) {
	w := &work{}
	var rejected map[int]error
	for i, m := range messages {
		changes, err := v.rules.read(m)
		if err != nil {
			if rejected == nil {
				rejected = map[int]error{}
			}
			rejected[i] = err
			continue
		}
		if len(w.changes) == 0 {
			w.oldest = m.Time
		}
		w.changes = append(w.changes, changes...)
	}
	return w, rejected
}

// Apply sends prepared work to all targets and leaves their positions where
// they are. Errors are the targets', and worth another try.
func (v *Invalidator) Apply(ctx context.Context, prepared any) error {
	w, _ := prepared.(*work)
	if w == nil {
		return nil
	}
	var failed error
	for _, s := range v.sinks {
		// The process may be working for the target too.
		beside := &Sink{v: v, target: s.target, lock: lock{key: s.lock.key, shared: true}, metrics: s.metrics}
		if err := beside.invalidate(ctx, w.changes, nil, streams.Position{}); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.target.Name(), err))
		}
	}
	return failed
}

// Sink applies the log to one target.
type Sink struct {
	v       *Invalidator
	target  Target
	names   streams.Names
	lock    lock
	at      streams.Position
	log     *zap.Logger
	metrics targetMetrics
}

// Name of the sink: "invalidate-redis".
func (s *Sink) Name() string { return streams.SinkInvalidate + "-" + s.target.Name() }

// LetterName is the name of its dead letters: what one target can't read no
// target can, and a letter goes to all again.
func (s *Sink) LetterName() string { return streams.SinkInvalidate }

// Prepare reads messages.
func (s *Sink) Prepare(messages []streams.Message) (any, map[int]error) { return s.v.Prepare(messages) }

// Subjects of the log that it wants.
func (s *Sink) Subjects() (subjects []string) {
	for _, object := range s.v.rules.objects {
		subjects = append(subjects, s.names.ResourceSubjects("", object))
	}
	return subjects
}

// position is how a position is kept.
type position struct {
	Epoch    int64     `json:"epoch"`
	Sequence uint64    `json:"sequence"`
	Time     time.Time `json:"time"`
	// Keys is the fingerprint of the templates: with others the log has to be
	// read again for keys that were not remembered.
	Keys string `json:"keys"`
}

// Position reads how far the target has come. What is held in memory is as old
// as the last time that this process worked for it, so it is dropped.
func (s *Sink) Position(ctx context.Context) (streams.Position, error) {
	s.v.memory.forget()
	found, err := s.v.memory.state.Get(ctx, []string{s.lock.key})
	if err != nil {
		return streams.Position{}, err
	}
	e := found[s.lock.key]
	var p position
	if e.Value != nil {
		if err := json.Unmarshal(e.Value, &p); err != nil {
			return streams.Position{}, fmt.Errorf("position in %s: %w", s.lock.key, err)
		}
		if p.Keys != s.v.rules.fingerprint {
			s.log.Info("other keys are to be remembered than before: reading the log from its start")
			p = position{}
		}
	}
	s.lock.revision = e.Revision
	s.at = streams.Position{Epoch: p.Epoch, Sequence: p.Sequence, Time: p.Time}
	return s.at, nil
}

// Commit sends the work's keys once the prerequisites have passed it, remembers
// them, and moves the position.
func (s *Sink) Commit(ctx context.Context, prepared any, from, to streams.Position, _ uint64, _ int) error {
	if s.at.Epoch != from.Epoch || s.at.Sequence != from.Sequence {
		return errMoved{"the position is another one by now"}
	}
	value, err := json.Marshal(position{to.Epoch, to.Sequence, to.Time, s.v.rules.fingerprint})
	if err != nil {
		return err
	}
	w, _ := prepared.(*work)
	if w == nil {
		w = &work{}
	}
	if len(w.changes) > 0 {
		s.metrics.waits(w.oldest)
		if err := s.v.gate.wait(ctx, to); err != nil {
			return err
		}
	}
	if err := s.invalidate(ctx, w.changes, &bucket.Put{Key: s.lock.key, Value: value}, to); err != nil {
		return err
	}
	s.at = to
	s.metrics.done()
	return nil
}

// invalidate sends and remembers, and writes the position last, if there is one.
func (s *Sink) invalidate(ctx context.Context, changes []change, position *bucket.Put, to streams.Position) error {
	all := slices.Clip(changes)
	for i := range changes {
		orphans, err := s.v.memory.orphans(ctx, &changes[i])
		if err != nil {
			return err
		}
		all = append(all, orphans...)
	}
	for len(all) > maxAtOnce {
		if err := s.sendPart(ctx, all[:maxAtOnce], nil, to); err != nil {
			return err
		}
		all = all[maxAtOnce:]
	}
	return s.sendPart(ctx, all, position, to)
}

func (s *Sink) sendPart(ctx context.Context, changes []change, position *bucket.Put, to streams.Position) error {
	for attempt := 1; ; attempt++ {
		if position != nil {
			position.Over = s.lock.revision
		}
		err := s.sendOnce(ctx, changes, position, to)
		if !errors.Is(err, bucket.ErrConflict) {
			return err
		}
		// Of the position, it is another replica's now; of an entry, another
		// target's process knows more.
		if moved := s.unmoved(ctx); moved != nil || attempt == maxConflicts {
			return cmp.Or(moved, err)
		}
	}
}

func (s *Sink) sendOnce(ctx context.Context, changes []change, position *bucket.Put, to streams.Position) error {
	entries, err := s.v.memory.recall(ctx, changes, &s.lock)
	if err != nil {
		return err
	}
	if stale := staleKeys(changes, entries); len(stale) > 0 {
		if err := s.target.Send(ctx, stale); err != nil {
			s.metrics.failed()
			return err
		}
		s.metrics.sent(stale)
	}
	return s.v.memory.remember(ctx, changes, &s.lock, position, to)
}

func (s *Sink) unmoved(ctx context.Context) error {
	found, err := s.v.memory.state.Get(ctx, []string{s.lock.key})
	if err == nil && !s.lock.shared && found[s.lock.key].Revision > s.lock.revision {
		err = errMoved{"the position is another replica's by now"}
	}
	return err
}

// staleKeys is what to send: one an entity, with the keys of all its changes and
// those remembered.
func staleKeys(changes []change, entries map[string]held) (list []streams.Invalidation) {
	at := map[[2]string]int{}
	for i := range changes {
		c := &changes[i]
		var keys []string
		if c.remembers() {
			keys = entries[c.entryKey()].Keys
		}
		if len(c.keys)+len(keys) == 0 {
			continue
		}
		place, known := at[[2]string{c.table, c.id}]
		if !known {
			place, list = len(list), append(list, streams.Invalidation{Resource: c.table, ID: c.id, Keys: slices.Clone(keys)})
			at[[2]string{c.table, c.id}] = place
		}
		into := &list[place]
		into.Action, into.EventID = c.action, c.eventID
		if version := fmt.Sprintf("%x", string(c.version)); c.deleted || version > into.Version {
			into.Version = version
		}
		for _, k := range c.keys {
			if !slices.Contains(into.Keys, k) {
				into.Keys = append(into.Keys, k)
			}
		}
	}
	return list
}

// distinct are the keys of all, each once.
func distinct(stale []streams.Invalidation) (keys []string) {
	seen := map[string]bool{}
	for _, i := range stale {
		for _, k := range i.Keys {
			if !seen[k] {
				seen[k], keys = true, append(keys, k)
			}
		}
	}
	return keys
}

// errMoved says that the position has to be read again, and why.
type errMoved struct{ why string }

func (e errMoved) Error() string { return e.why }
func (errMoved) Moved() bool     { return true }
