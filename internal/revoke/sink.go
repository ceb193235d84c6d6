// Package revoke writes whose session tokens are refused: it reads the log, and
// keeps the entries of CLERK_REVOCATIONS (package revocation).
//
//	read ─▶ what the event says ─▶ recall roles ─▶ entries, greatest cut-off wins ─▶ remember roles, move the position
//
// A crash in between does it again, and to the same end. Each second it writes a
// watermark, if it has come to where the log ended a second before: as long as
// watermarks arrive, a gateway knows that its list is complete.
package revoke

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-dev/rollcall/internal/bucket"
	"github.com/rollcall-dev/rollcall/internal/revocation"
	"github.com/rollcall-dev/rollcall/streams"
)

// WatermarkEvery is how often Tidy is to be called.
const WatermarkEvery = time.Second

// Options of a Sink.
type Options struct {
	Broker bucket.Broker
	Names  streams.Names
	Life   time.Duration // of a token, at most
	OnLock bool          // a lock cuts off too
	Clock  func() time.Time
}

// Sink applies the log to the bucket.
type Sink struct {
	Options
	entries, state *bucket.Bucket

	mu       sync.Mutex
	at       streams.Position
	revision uint64           // of the position's key
	end      streams.Position // of the log, as Tidy read it last
}

const (
	positionKey  = "revoke.position"
	memoryPrefix = "revoke.of." // then member.<id> or role.<id>
	answerWait   = 5 * time.Second
	// How often another's writing makes a batch begin again.
	maxConflicts = 20
)

// New makes one.
func New(o Options) *Sink {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return &Sink{
		Options: o,
		entries: &bucket.Bucket{Broker: o.Broker, Name: o.Names.RevocationBucket()},
		state:   &bucket.Bucket{Broker: o.Broker, Name: o.Names.StateBucket()},
	}
}

func (s *Sink) now() time.Time { return s.Clock() }

// Name of the sink.
func (s *Sink) Name() string { return streams.SinkRevoke }

// Subjects of the log that it wants.
func (s *Sink) Subjects() (subjects []string) {
	for _, object := range objects() {
		subjects = append(subjects, s.Names.ResourceSubjects("", object))
	}
	return subjects
}

// position is how the position is kept.
type position struct {
	Epoch    int64     `json:"epoch"`
	Sequence uint64    `json:"sequence"`
	Time     time.Time `json:"time"`
}

// Position reads how far it has come.
func (s *Sink) Position(ctx context.Context) (streams.Position, error) {
	found, err := s.state.Get(ctx, []string{positionKey})
	if err != nil {
		return streams.Position{}, err
	}
	e := found[positionKey]
	var p position
	if e.Value != nil {
		if err := json.Unmarshal(e.Value, &p); err != nil {
			return streams.Position{}, fmt.Errorf("position in %s: %w", positionKey, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.revision = streams.Position(p), e.Revision
	s.end = streams.Position{} // of another time that it worked
	return s.at, nil
}

// Prepare reads messages.
func (s *Sink) Prepare(messages []streams.Message) (any, map[int]error) {
	var verdicts []verdict
	var rejected map[int]error
	for i, m := range messages {
		v, err := s.read(m)
		if err != nil {
			if rejected == nil {
				rejected = map[int]error{}
			}
			rejected[i] = err
			continue
		}
		if len(v.cutoffs) > 0 || v.fact != nil {
			verdicts = append(verdicts, v)
		}
	}
	return verdicts, rejected
}

// Commit writes what the work comes to, and moves the position.
func (s *Sink) Commit(ctx context.Context, prepared any, from, to streams.Position, _ uint64, _ int) error {
	s.mu.Lock()
	at, revision := s.at, s.revision
	s.mu.Unlock()
	if at.Epoch != from.Epoch || at.Sequence != from.Sequence {
		return errMoved{}
	}
	value, err := json.Marshal(position(to))
	if err != nil {
		return err
	}
	verdicts, _ := prepared.([]verdict)
	written, err := s.apply(ctx, verdicts, revision, &bucket.Put{Key: positionKey, Value: value, Over: revision})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.revision = to, written
	return nil
}

// Apply writes what the work comes to and leaves the position where it is.
func (s *Sink) Apply(ctx context.Context, prepared any) error {
	verdicts, _ := prepared.([]verdict)
	for attempt := 1; ; attempt++ {
		_, err := s.apply(ctx, verdicts, 0, nil)
		if !errors.Is(err, bucket.ErrConflict) || attempt == maxConflicts {
			return err
		}
	}
}

// apply returns the position's new revision, where one is to be written.
func (s *Sink) apply(ctx context.Context, verdicts []verdict, revision uint64, position *bucket.Put) (uint64, error) {
	cutoffs, puts, err := s.recall(ctx, verdicts, revision, position != nil)
	if err != nil {
		return 0, err
	}
	if err := s.cutOff(ctx, cutoffs); err != nil {
		return 0, err
	}
	if position != nil {
		puts = append(puts, *position)
	}
	if len(puts) == 0 {
		return 0, nil
	}
	revisions, err := s.state.Write(ctx, puts)
	if errors.Is(err, bucket.ErrConflict) && position != nil {
		return 0, s.conflict(ctx, revision)
	}
	if err != nil {
		return 0, err
	}
	return revisions[len(revisions)-1], nil
}

// conflict tells a position that another replica has moved from a memory that a
// redrive has written.
func (s *Sink) conflict(ctx context.Context, revision uint64) error {
	found, err := s.state.Get(ctx, []string{positionKey})
	if err == nil && found[positionKey].Revision > revision {
		return errMoved{}
	}
	return cmp.Or(err, bucket.ErrConflict)
}

// recall is what the work cuts off, and what is to be remembered.
func (s *Sink) recall(ctx context.Context, verdicts []verdict, revision uint64, alone bool) (cutoffs []cutoff, puts []bucket.Put, err error) {
	var keys []string
	for _, v := range verdicts {
		cutoffs = append(cutoffs, v.cutoffs...)
		if v.fact != nil && !slices.Contains(keys, v.fact.key) {
			keys = append(keys, v.fact.key)
		}
	}
	if len(keys) == 0 {
		return cutoffs, nil, nil
	}
	found, at, err := s.state.GetSince(ctx, keys, positionKey, revision)
	if err != nil {
		return nil, nil, err
	}
	if alone && at > revision {
		return nil, nil, errMoved{}
	}
	known := map[string]*memory{}
	for _, key := range keys {
		known[key] = &memory{}
		if value := found[key].Value; value != nil {
			if err := json.Unmarshal(value, known[key]); err != nil {
				return nil, nil, fmt.Errorf("what is remembered in %s: %w", key, err)
			}
		}
	}
	changed := map[string]bool{}
	for _, v := range verdicts {
		if v.fact != nil {
			cuts, learned := known[v.fact.key].learn(v.fact)
			cutoffs = append(cutoffs, cuts...)
			changed[v.fact.key] = changed[v.fact.key] || learned
		}
	}
	for _, key := range keys {
		if changed[key] {
			put := bucket.Put{Key: key, Over: found[key].Revision}
			put.Value, _ = json.Marshal(known[key]) // numbers and strings
			if known[key].Deleted {
				put.TTL = lateEvents.String()
			}
			puts = append(puts, put)
		}
	}
	return cutoffs, puts, nil
}

// cutOff writes entries; of several the greatest cut-off wins, also against what is
// there. Those that refuse only tokens that have ended are left out.
func (s *Sink) cutOff(ctx context.Context, cutoffs []cutoff) error {
	greatest := map[string]cutoff{}
	for _, c := range cutoffs {
		live := (revocation.Entry{NotBefore: c.at}).Ends(s.Life).After(s.now())
		if had, ok := greatest[c.key]; live && (!ok || c.at > had.at) {
			greatest[c.key] = c
		}
	}
	if len(greatest) == 0 {
		return nil
	}
	keys := slices.Sorted(maps.Keys(greatest))
	for attempt := 1; ; attempt++ {
		err := s.cutOffOnce(ctx, keys, greatest)
		if !errors.Is(err, bucket.ErrConflict) || attempt == maxConflicts {
			return err
		}
	}
}

func (s *Sink) cutOffOnce(ctx context.Context, keys []string, cutoffs map[string]cutoff) error {
	found, err := s.entries.Get(ctx, keys)
	if err != nil {
		return err
	}
	var puts []bucket.Put
	for _, key := range keys {
		e, c := revocation.Entry{}, cutoffs[key]
		if value := found[key].Value; value != nil {
			// One that can't be read refuses nobody: it is written over.
			e, _ = revocation.Parse(value)
		}
		if e.NotBefore >= c.at {
			continue
		}
		e.NotBefore, e.Reason, e.EventID = c.at, c.reason, c.eventID
		value, err := json.Marshal(e)
		if err != nil {
			return err
		}
		puts = append(puts, bucket.Put{Key: key, Value: value, Over: found[key].Revision, TTL: e.TTL(s.now(), s.Life)})
	}
	if len(puts) == 0 {
		return nil
	}
	_, err = s.entries.Write(ctx, puts)
	return err
}

// Tidy writes a watermark if the position has come to where the log ended when it
// was called before.
func (s *Sink) Tidy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	s.mu.Lock()
	at, end := s.at, s.end
	s.mu.Unlock()
	js, err := s.Broker.JetStream()
	if err != nil {
		return err
	}
	if end.Epoch != 0 && at.Epoch == end.Epoch && at.Sequence >= end.Sequence {
		if err := s.mark(ctx, js, at); err != nil {
			return fmt.Errorf("write the watermark: %w", err)
		}
	}
	stream, err := js.Stream(ctx, s.Names.Stream())
	if err != nil {
		return fmt.Errorf("stream %s: %w", s.Names.Stream(), err)
	}
	info := stream.CachedInfo()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end = streams.Position{Epoch: info.Created.UnixNano(), Sequence: info.State.LastSeq}
	return nil
}

func (s *Sink) mark(ctx context.Context, js jetstream.JetStream, at streams.Position) error {
	value, err := json.Marshal(map[string]any{"at": s.now().UnixMilli(), "epoch": strconv.FormatInt(at.Epoch, 10), "sequence": at.Sequence})
	if err != nil {
		return err
	}
	_, err = js.PublishMsg(ctx, &nats.Msg{Subject: s.entries.Subject(revocation.WatermarkKey), Data: value})
	return err
}

// errMoved says that the position has to be read again.
type errMoved struct{}

func (errMoved) Error() string { return "the position is another replica's by now" }
func (errMoved) Moved() bool   { return true }
