package streams

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Options are what an operator decides about the streams and buckets.
type Options struct {
	Replicas int           // copies of each stream, 1 to 5; 0 means 1
	MaxBytes int64         // size limit of the log in bytes, uncompressed; 0 or less means none but the server's
	Window   time.Duration // how long JetStream refuses a second message with the same id; 0 means 28 h
}

// DefaultWindow covers Svix's whole retry schedule (27.6 hours).
const DefaultWindow = 28 * time.Hour

// Definitions are the streams and buckets as Rollcall makes them. [Apply] makes
// them, [Plan] compares.
type Definitions struct {
	Streams []jetstream.StreamConfig
	Buckets []jetstream.KeyValueConfig
}

// Definitions of everything the pipeline needs.
func (n Names) Definitions(o Options) Definitions {
	if o.Replicas == 0 {
		o.Replicas = 1
	}
	if o.Window == 0 {
		o.Window = DefaultWindow
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = -1
	}
	return Definitions{
		Streams: []jetstream.StreamConfig{
			{
				Name:               n.Stream(),
				Description:        "Clerk's events, as received",
				Subjects:           []string{n.StreamSubjects()},
				Retention:          jetstream.LimitsPolicy,
				Discard:            jetstream.DiscardNew, // a full log refuses; it never forgets
				MaxBytes:           o.MaxBytes,
				MaxMsgs:            -1,
				MaxMsgSize:         -1,
				Storage:            jetstream.FileStorage,
				Replicas:           o.Replicas,
				Duplicates:         o.Window,
				Compression:        jetstream.S2Compression,
				AllowDirect:        true,
				AllowMsgTTL:        true, // one-time codes and sessions leave by themselves
				AllowAtomicPublish: true, // group commit; Plan and Apply leave it out before nats-server 2.12
			},
			{
				Name:        n.DeadStream(),
				Description: "messages that a sink could not apply, with the reason",
				Subjects:    []string{n.DeadSubjects()},
				Retention:   jetstream.LimitsPolicy,
				Discard:     jetstream.DiscardNew,
				MaxBytes:    -1,
				MaxMsgs:     -1,
				MaxMsgSize:  -1,
				Storage:     jetstream.FileStorage,
				Replicas:    o.Replicas,
				Duplicates:  o.Window,
				Compression: jetstream.S2Compression,
				AllowDirect: true,
			},
			{
				Name:        n.AnchorStream(),
				Description: "how the audit log's chain stood, now and then",
				Subjects:    []string{n.AnchorSubject()},
				Retention:   jetstream.LimitsPolicy,
				Discard:     jetstream.DiscardNew,
				MaxBytes:    -1,
				MaxMsgs:     -1,
				MaxMsgSize:  -1,
				Storage:     jetstream.FileStorage,
				Replicas:    o.Replicas,
				Duplicates:  o.Window,
				Compression: jetstream.S2Compression,
				AllowDirect: true,
			},
		},
		Buckets: []jetstream.KeyValueConfig{
			{
				Bucket:         n.StateBucket(),
				Description:    "positions, leases and checkpoints of the sinks",
				History:        1,
				Storage:        jetstream.FileStorage,
				Replicas:       o.Replicas,
				LimitMarkerTTL: time.Minute, // leases end by themselves
			},
			{
				Bucket:         n.RevocationBucket(),
				Description:    "whose tokens are refused, and from when",
				History:        1,
				Storage:        jetstream.FileStorage,
				Replicas:       o.Replicas,
				LimitMarkerTTL: time.Minute, // an entry ends with the last token that it refuses
			},
			{
				Bucket:      n.ErasedBucket(),
				Description: "who was erased: ids alone, for ever",
				History:     1,
				Storage:     jetstream.FileStorage,
				Replicas:    o.Replicas,
			},
		},
	}
}

// Key makes one token of a key-value key of an id: every byte outside
// [A-Za-z0-9_-] becomes =XX, in hexadecimal, "=" itself too, so that two ids
// never share a key. The key of "" is "", which no bucket takes alone.
func Key(id string) string {
	b := make([]byte, 0, len(id))
	for i := range len(id) {
		c := id[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
			b = append(b, c)
		default:
			b = append(b, '=', upperHex[c>>4], upperHex[c&15])
		}
	}
	return string(b)
}

// ParseKey is the inverse of [Key].
func ParseKey(token string) (string, error) { return unescape(token, '=', "key") }
