package revocation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/rollcall-dev/rollcall/internal/bucket"
	"github.com/rollcall-dev/rollcall/streams"
)

// Denier writes and lifts entries by hand.
type Denier struct {
	Broker     bucket.Broker
	Names      streams.Names
	Life       time.Duration // of a token, at most
	InstanceID string        // for the log; may be ""
	By         string        // user@host of the operating system
}

// Listed is an entry with its key.
type Listed struct {
	Key string `json:"key"`
	Entry
}

const maxConflicts = 20

// Deny refuses all tokens of a user, a session or an organization until then. The
// log says so before it takes effect.
func (d *Denier) Deny(ctx context.Context, kind Kind, id string, until time.Time, reason string) error {
	eventID, err := d.note(ctx, streams.ActionRevoked, kind, id, until, reason)
	if err != nil {
		return err
	}
	_, err = d.change(ctx, Key(kind, id), func(e *Entry) bool {
		e.DenyUntil, e.DenyReason, e.DeniedBy = until.UnixMilli(), reason, d.By
		if e.NotBefore == 0 {
			e.Reason, e.EventID = "operator", eventID
		}
		return true
	})
	return err
}

// Lift ends a denial. A cut-off that the log made stays. It reports whether there
// was a denial.
func (d *Denier) Lift(ctx context.Context, kind Kind, id, reason string) (lifted bool, err error) {
	denied := func(e *Entry) bool { return e.DenyUntil > 0 }
	there, err := d.look(ctx, Key(kind, id))
	if err != nil || !denied(&there) {
		return false, err
	}
	if _, err := d.note(ctx, streams.ActionRevocationLifted, kind, id, time.Time{}, reason); err != nil {
		return false, err
	}
	return d.change(ctx, Key(kind, id), func(e *Entry) bool {
		was := denied(e)
		e.DenyUntil, e.DenyReason, e.DeniedBy = 0, "", ""
		return was
	})
}

// List is all entries that refuse anyone now, by key; of those made by hand only
// where asked.
func (d *Denier) List(ctx context.Context, byHand bool) (list []Listed, err error) {
	js, err := d.Broker.JetStream()
	if err != nil {
		return nil, err
	}
	kv, err := js.KeyValue(ctx, d.Names.RevocationBucket())
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w; `rollcall streams apply` makes it", d.Names.RevocationBucket(), err)
	}
	w, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.Names.RevocationBucket(), err)
	}
	defer w.Stop() //nolint:errcheck // the command ends
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case u := <-w.Updates():
			if u == nil {
				return list, nil
			}
			if u.Key() == WatermarkKey {
				continue
			}
			e, err := Parse(u.Value())
			if err != nil {
				return nil, fmt.Errorf("%s: %w", u.Key(), err)
			}
			if (!byHand || e.DenyUntil > time.Now().UnixMilli()) && e.Ends(d.Life).After(time.Now()) {
				list = append(list, Listed{u.Key(), e})
			}
		}
	}
}

func (d *Denier) note(ctx context.Context, action string, kind Kind, id string, until time.Time, reason string) (eventID string, err error) {
	act, name := nuid.Next(), string(kind)
	if kind == Organization {
		name = "organization"
	}
	m, err := d.Names.Act(d.InstanceID, action, act, time.Now(), streams.Revocation{
		ID: act, Kind: name, EntityID: id, Until: streams.Millis{Time: until}, Reason: reason, By: d.By,
	})
	if err != nil {
		return "", err
	}
	js, err := d.Broker.JetStream()
	if err != nil {
		return "", err
	}
	if _, err := js.PublishMsg(ctx, m); err != nil {
		return "", fmt.Errorf("note it in the log (rollcall.%s), nothing is changed: %w", action, err)
	}
	return m.Header.Get(streams.HeaderMsgID), nil
}

func (d *Denier) bucket() *bucket.Bucket {
	return &bucket.Bucket{Broker: d.Broker, Name: d.Names.RevocationBucket()}
}

func (d *Denier) look(ctx context.Context, key string) (Entry, error) {
	found, err := d.bucket().Get(ctx, []string{key})
	if err != nil || found[key].Value == nil {
		return Entry{}, err
	}
	return Parse(found[key].Value)
}

// change writes an entry as it is to be, compare and set.
func (d *Denier) change(ctx context.Context, key string, to func(*Entry) bool) (changed bool, err error) {
	b := d.bucket()
	for attempt := 1; ; attempt++ {
		found, err := b.Get(ctx, []string{key})
		if err != nil {
			return false, err
		}
		var e Entry
		if value := found[key].Value; value != nil {
			if e, err = Parse(value); err != nil {
				return false, err
			}
		}
		if !to(&e) {
			return false, nil
		}
		put := bucket.Put{Key: key, Over: found[key].Revision, TTL: e.TTL(time.Now(), d.Life)}
		if e.Ends(d.Life).Before(time.Now()) {
			put.Deleted, put.TTL = true, time.Minute.String()
		} else if put.Value, err = json.Marshal(e); err != nil {
			return false, err
		}
		_, err = b.Write(ctx, []bucket.Put{put})
		if !errors.Is(err, bucket.ErrConflict) || attempt == maxConflicts {
			return err == nil, err
		}
	}
}

// KindOf is the kind that a command's word names.
func KindOf(word string) (Kind, error) {
	switch word {
	case "user":
		return User, nil
	case "session":
		return Session, nil
	case "organization":
		return Organization, nil
	}
	return "", fmt.Errorf("%q can't be revoked; user, session and organization can", strings.TrimSpace(word))
}
