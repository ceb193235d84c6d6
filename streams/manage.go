package streams

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Action is what [Apply] does about a [Difference].
type Action string

// The actions, from the least to worry about to the most.
const (
	// Keep: an operator set more than is asked for (a larger limit, a further
	// subject, more replicas); it stays.
	Keep Action = "keep"
	// Create: the stream or bucket is missing and is made.
	Create Action = "create"
	// Change: the field is changed in place, which takes no message away.
	Change Action = "change"
	// Refuse: JetStream cannot change the field in place, or only by losing
	// messages. Apply leaves it as it is; a person has to decide.
	Refuse Action = "refuse"
)

// Difference is one thing in which JetStream does not hold what [Definitions]
// ask for.
type Difference struct {
	Action Action `json:"action"`
	Object string `json:"object"`          // "stream CLERK" or "bucket CLERK_STATE"
	Field  string `json:"field,omitempty"` // as JetStream's API spells it, "max_bytes"; "" where all is missing
	Have   string `json:"have,omitempty"`  // "" where all is missing
	Want   string `json:"want"`
}

// String is one line for people, without a full stop.
func (d Difference) String() string {
	head := fmt.Sprintf("%-6s %s", d.Action, d.Object)
	switch d.Action {
	case Create:
		return head + ": " + d.Want
	case Keep:
		return fmt.Sprintf("%s: %s is %s, asked for is %s", head, d.Field, d.Have, d.Want)
	case Refuse:
		return fmt.Sprintf("%s: %s is %s and has to be %s, which cannot be changed in place", head, d.Field, d.Have, d.Want)
	}
	return fmt.Sprintf("%s: %s from %s to %s", head, d.Field, d.Have, d.Want)
}

// ErrServerTooOld is returned by [Plan] and [Apply] for a nats-server before
// 2.11, which drops what it does not know without a word.
var ErrServerTooOld = errors.New("nats-server is older than 2.11: upgrade it")

// JetStream's API levels by which a server says what it knows.
const (
	levelMsgTTL = 1 // nats-server 2.11
	levelAtomic = 2 // nats-server 2.12
)

// Plan reports in what JetStream differs from the definitions, in their order,
// and changes nothing. On a server that lacks atomic batches they are not asked
// for. It needs leave for STREAM.INFO, and for INFO where a stream is missing
// or lacks a feature.
func Plan(ctx context.Context, js jetstream.JetStream, d Definitions) ([]Difference, error) {
	var all []Difference
	for _, o := range objects(js, d) {
		p, err := o.plan(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, p.differences...)
	}
	return all, nil
}

// Apply makes what is missing and changes what differs, as far as [Plan] says
// Create or Change, and returns the differences that it found. It never makes a
// limit smaller, nor deletes or purges anything. Several processes may apply
// the same definitions at once. On an error the differences returned are those
// dealt with before.
func Apply(ctx context.Context, js jetstream.JetStream, d Definitions) ([]Difference, error) {
	var all []Difference
	for _, o := range objects(js, d) {
		done, err := o.apply(ctx)
		if err != nil {
			return all, err
		}
		all = append(all, done...)
	}
	return all, nil
}

// object is a stream, or the stream beneath a bucket.
type object struct {
	js     jetstream.JetStream
	name   string // "stream CLERK"
	want   jetstream.StreamConfig
	bucket *jetstream.KeyValueConfig // nil for a plain stream
}

func objects(js jetstream.JetStream, d Definitions) []object {
	var all []object
	for _, s := range d.Streams {
		all = append(all, object{js: js, name: "stream " + s.Name, want: s})
	}
	for _, b := range d.Buckets {
		all = append(all, object{js: js, name: "bucket " + b.Bucket, want: bucketStream(b), bucket: &b})
	}
	return all
}

// bucketStream is the stream that the client library makes for a bucket, as
// far as Plan compares it.
func bucketStream(b jetstream.KeyValueConfig) jetstream.StreamConfig {
	s := jetstream.StreamConfig{
		Name:                   "KV_" + b.Bucket,
		Subjects:               []string{"$KV." + b.Bucket + ".>"},
		MaxMsgsPerSubject:      max(int64(b.History), 1),
		MaxBytes:               b.MaxBytes,
		MaxAge:                 b.TTL,
		MaxMsgSize:             b.MaxValueSize,
		Storage:                b.Storage,
		Replicas:               b.Replicas,
		Discard:                jetstream.DiscardNew,
		AllowRollup:            true,
		AllowDirect:            true,
		AllowMsgTTL:            b.LimitMarkerTTL > 0,
		SubjectDeleteMarkerTTL: b.LimitMarkerTTL,
		AllowAtomicPublish:     true, // a position and what belongs to it, in one
	}
	if b.Compression {
		s.Compression = jetstream.S2Compression
	}
	return s
}

// plan is what to do about one object.
type plan struct {
	differences    []Difference
	create, update *jetstream.StreamConfig // one of them, or none
}

func (o object) plan(ctx context.Context) (plan, error) {
	have, err := o.js.Stream(ctx, o.want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		want, err := o.supported(ctx, jetstream.StreamConfig{})
		if err != nil {
			return plan{}, err
		}
		return plan{create: &want, differences: []Difference{{Action: Create, Object: o.name, Want: summary(want)}}}, nil
	}
	if err != nil {
		return plan{}, fmt.Errorf("look up %s: %w", o.name, err)
	}
	config := have.CachedInfo().Config
	want, err := o.supported(ctx, config)
	if err != nil {
		return plan{}, err
	}
	differences, update := compare(o.name, config, want)
	return plan{differences: differences, update: update}, nil
}

// supported is what is wanted without what the server does not know: some
// versions take an unknown field for an error. The server is asked only about
// features that the stream does not have yet.
func (o object) supported(ctx context.Context, have jetstream.StreamConfig) (jetstream.StreamConfig, error) {
	want := o.want
	atomic := want.AllowAtomicPublish && !have.AllowAtomicPublish
	ttl := want.AllowMsgTTL && !have.AllowMsgTTL
	if !atomic && !ttl {
		return want, nil
	}
	account, err := o.js.AccountInfo(ctx)
	if err != nil {
		return want, fmt.Errorf("ask NATS what it supports: %w", err)
	}
	if account.API.Level < levelMsgTTL {
		return want, ErrServerTooOld
	}
	want.AllowAtomicPublish = want.AllowAtomicPublish && (!atomic || account.API.Level >= levelAtomic)
	return want, nil
}

// attempts is how often apply looks again after it lost a race to make an
// object; the second look finds what the winner made.
const attempts = 3

func (o object) apply(ctx context.Context) ([]Difference, error) {
	for attempt := 1; ; attempt++ {
		p, err := o.plan(ctx)
		if err != nil {
			return nil, err
		}
		switch {
		case p.create != nil:
			err = o.create(ctx, *p.create)
		case p.update != nil:
			_, err = o.js.UpdateStream(ctx, *p.update)
		}
		lost := errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) || errors.Is(err, jetstream.ErrStreamNotFound)
		switch {
		case err == nil:
			return p.differences, nil
		case lost && attempt < attempts:
			continue
		case p.create != nil:
			return nil, fmt.Errorf("make %s (%s): %w", o.name, summary(o.want), err)
		}
		return nil, fmt.Errorf("change %s: %w", o.name, err)
	}
}

func (o object) create(ctx context.Context, config jetstream.StreamConfig) error {
	if o.bucket == nil {
		_, err := o.js.CreateStream(ctx, config)
		return err
	}
	if _, err := o.js.CreateKeyValue(ctx, *o.bucket); err != nil || !config.AllowAtomicPublish {
		return err
	}
	// A bucket's own configuration can't ask for it.
	s, err := o.js.Stream(ctx, config.Name)
	if err != nil {
		return err
	}
	made := s.CachedInfo().Config
	made.AllowAtomicPublish = true
	_, err = o.js.UpdateStream(ctx, made)
	return err
}

// summary says in a line what will be made.
func summary(c jetstream.StreamConfig) string {
	replicas := "1 replica"
	if c.Replicas > 1 {
		replicas = fmt.Sprintf("%d replicas", c.Replicas)
	}
	size := "no size limit"
	if c.MaxBytes > 0 {
		size = formatBytes(c.MaxBytes)
	}
	return fmt.Sprintf("%s, %s storage, %s, %s", formatSubjects(c.Subjects), apiValue(c.Storage), replicas, size)
}

func formatDuration(d time.Duration) string {
	if d <= 0 {
		return "none"
	}
	return d.String()
}
