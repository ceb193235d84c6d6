package streams

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// compare says in what a stream differs from what is wanted, and how it is to
// be configured; nil where nothing is to be changed. The update starts from
// what is there, so that what an operator set beside our fields stays.
func compare(object string, have, want jetstream.StreamConfig) ([]Difference, *jetstream.StreamConfig) {
	c := comparison{object: object, update: have}
	c.fixed(have, want)
	if have.Sealed || have.Mirror != nil {
		return c.differences, nil // takes no subjects, or no change at all
	}
	c.subjects(have.Subjects, want.Subjects)
	c.retention(have.Retention, want.Retention)
	c.discard(have, want)
	c.limits(have, want)
	c.features(have, want)
	if !c.changed {
		return c.differences, nil
	}
	return c.differences, &c.update
}

type comparison struct {
	object      string
	differences []Difference
	update      jetstream.StreamConfig
	changed     bool
}

func (c *comparison) add(action Action, field string, have, want any) {
	c.changed = c.changed || action == Change
	c.differences = append(c.differences, Difference{
		Action: action, Object: c.object, Field: field, Have: fmt.Sprint(have), Want: fmt.Sprint(want),
	})
}

// fixed is about what no update can change, or what makes a stream something
// else than a log.
func (c *comparison) fixed(have, want jetstream.StreamConfig) {
	if have.Storage != want.Storage {
		c.add(Refuse, "storage", apiValue(have.Storage), apiValue(want.Storage))
	}
	if have.PersistMode != want.PersistMode {
		// Acknowledges before it writes, and takes no atomic batches.
		c.add(Refuse, "persist_mode", apiValue(have.PersistMode), apiValue(want.PersistMode))
	}
	if have.Mirror != nil {
		c.add(Refuse, "mirror", have.Mirror.Name, "none")
	}
	if have.SubjectTransform != nil {
		c.add(Refuse, "subject_transform", have.SubjectTransform.Destination, "none")
	}
	for _, f := range []struct {
		field      string
		have, want bool
	}{
		{"sealed", have.Sealed, want.Sealed},
		{"deny_purge", have.DenyPurge, want.DenyPurge},
		{"allow_msg_counter", have.AllowMsgCounter, want.AllowMsgCounter},
	} {
		if f.have && !f.want {
			c.add(Refuse, f.field, f.have, f.want)
		}
	}
}

// subjects adds what no subject of the stream covers yet. What an added one
// covers goes, since JetStream refuses overlapping subjects in a stream.
func (c *comparison) subjects(have, want []string) {
	union := slices.Clone(have)
	for _, w := range want {
		if slices.ContainsFunc(union, func(h string) bool { return covers(h, w) }) {
			continue
		}
		union = slices.DeleteFunc(union, func(h string) bool { return covers(w, h) })
		union = append(union, w)
	}
	switch {
	case !slices.Equal(union, have):
		c.update.Subjects = union
		c.add(Change, "subjects", formatSubjects(have), formatSubjects(union))
	case slices.ContainsFunc(have, func(h string) bool { return !slices.Contains(want, h) }):
		c.add(Keep, "subjects", formatSubjects(have), formatSubjects(want))
	}
}

// covers reports whether every subject that narrow matches is matched by wide.
func covers(wide, narrow string) bool {
	w, n := strings.Split(wide, "."), strings.Split(narrow, ".")
	for i, token := range w {
		switch {
		case i >= len(n):
			return false
		case token == ">":
			return true
		case n[i] == ">", token != "*" && token != n[i]:
			return false
		}
	}
	return len(w) == len(n)
}

// retention turns interest to limits, which keeps more. JetStream cannot turn
// a work queue into anything else.
func (c *comparison) retention(have, want jetstream.RetentionPolicy) {
	switch have {
	case want:
	case jetstream.WorkQueuePolicy:
		c.add(Refuse, "retention", apiValue(have), apiValue(want))
	default:
		c.update.Retention = want
		c.add(Change, "retention", apiValue(have), apiValue(want))
	}
}

// discard makes a full stream refuse messages rather than forget old ones.
func (c *comparison) discard(have, want jetstream.StreamConfig) {
	if have.Discard != want.Discard {
		c.update.Discard = want.Discard
		c.add(Change, "discard", apiValue(have.Discard), apiValue(want.Discard))
	}
	if have.DiscardNewPerSubject && !want.DiscardNewPerSubject {
		c.update.DiscardNewPerSubject = false
		c.add(Change, "discard_new_per_subject", true, false)
	}
}

// limits raises what is below the wanted and keeps what is above.
func (c *comparison) limits(have, want jetstream.StreamConfig) {
	// Without a size asked for the operator's stands: it may be what guards
	// the disk, and with DiscardNew it costs no message.
	if want.MaxBytes <= 0 && have.MaxBytes > 0 {
		c.add(Keep, "max_bytes", formatBytes(have.MaxBytes), formatBytes(want.MaxBytes))
	} else {
		limit(c, "max_bytes", &c.update.MaxBytes, want.MaxBytes, formatBytes)
	}
	limit(c, "max_msgs", &c.update.MaxMsgs, want.MaxMsgs, formatLimit)
	limit(c, "max_msgs_per_subject", &c.update.MaxMsgsPerSubject, want.MaxMsgsPerSubject, formatLimit)
	limit(c, "max_msg_size", &c.update.MaxMsgSize, want.MaxMsgSize, formatLimit)
	limit(c, "max_age", &c.update.MaxAge, want.MaxAge, formatDuration)
	atLeast(c, "num_replicas", &c.update.Replicas, want.Replicas, func(n int) string { return fmt.Sprint(n) })
	atLeast(c, "duplicate_window", &c.update.Duplicates, want.Duplicates, formatDuration)
	atLeast(c, "subject_delete_marker_ttl", &c.update.SubjectDeleteMarkerTTL, want.SubjectDeleteMarkerTTL, formatDuration)
}

// integer is what limits are made of.
type integer interface{ ~int | ~int32 | ~int64 }

// limit raises an upper limit, of which 0 and less mean none. It begins with
// what the stream has and is left as it is to be.
func limit[T integer](c *comparison, field string, value *T, want T, format func(T) string) {
	have := *value
	none := func(n T) bool { return n <= 0 }
	switch {
	case have == want, none(have) && none(want):
	case none(want), !none(have) && have < want:
		*value = want
		c.add(Change, field, format(have), format(want))
	default:
		c.add(Keep, field, format(have), format(want))
	}
}

// atLeast raises a value of which more is better; 0 leaves it to the server.
func atLeast[T integer](c *comparison, field string, value *T, want T, format func(T) string) {
	have := *value
	switch {
	case want == 0, have == want:
	case have < want:
		*value = want
		c.add(Change, field, format(have), format(want))
	default:
		c.add(Keep, field, format(have), format(want))
	}
}

// features switches on what is wanted and keeps what is on beside it, but for
// no_ack, without which a publisher learns nothing.
func (c *comparison) features(have, want jetstream.StreamConfig) {
	if have.Compression != want.Compression {
		action := Keep
		if want.Compression == jetstream.S2Compression {
			c.update.Compression, action = want.Compression, Change
		}
		c.add(action, "compression", apiValue(have.Compression), apiValue(want.Compression))
	}
	if have.NoAck && !want.NoAck {
		c.update.NoAck = false
		c.add(Change, "no_ack", true, false)
	}
	for _, f := range []struct {
		field  string
		update *bool
		want   bool
	}{
		{"allow_direct", &c.update.AllowDirect, want.AllowDirect},
		{"allow_rollup_hdrs", &c.update.AllowRollup, want.AllowRollup},
		{"allow_msg_ttl", &c.update.AllowMsgTTL, want.AllowMsgTTL},
		// A stream that acknowledges before it writes cannot have it.
		{"allow_atomic", &c.update.AllowAtomicPublish, want.AllowAtomicPublish && have.PersistMode == want.PersistMode},
	} {
		switch {
		case f.want && !*f.update:
			*f.update = true
			c.add(Change, f.field, false, true)
		case *f.update && !f.want:
			c.add(Keep, f.field, true, false)
		}
	}
}

func formatSubjects(subjects []string) string {
	if len(subjects) == 0 {
		return "no subjects"
	}
	return strings.Join(subjects, " ")
}

// apiValue is an enumeration's value as JetStream's API and its tools spell it.
func apiValue(v json.Marshaler) string {
	text, err := v.MarshalJSON()
	if err != nil {
		return fmt.Sprint(v)
	}
	return strings.Trim(string(text), `"`)
}

func formatLimit[T int32 | int64](n T) string {
	if n <= 0 {
		return "unlimited"
	}
	return fmt.Sprint(n)
}

func formatBytes(n int64) string {
	if n <= 0 {
		return formatLimit(n)
	}
	return fmt.Sprintf("%d bytes", n)
}
