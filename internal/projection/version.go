package projection

import "encoding/binary"

// Version orders the contents of an entity: the greater wins, whatever the
// order in which they arrive. It is (class, terminal status, data.updated_at,
// envelope timestamp, rank, event id), encoded so that comparing bytes compares
// versions, in Go and in Postgres alike. The empty version, of a row that has
// no content, is the lowest.
type Version string

// Class is how an event knows of the entity.
type Class byte

// The classes, lowest first.
const (
	ClassStub     Class = 0 // made to hold a foreign key
	ClassEmbedded Class = 1 // part of another entity's event
	ClassOwn      Class = 2 // the entity's own event
)

// NewVersion encodes a version. Times are milliseconds since 1970, 0 where the
// event has none.
func NewVersion(class Class, terminal bool, updatedAt, timestamp int64, rank byte, eventID string) Version {
	b := make([]byte, 0, 19+len(eventID))
	b = append(b, byte(class), 0)
	if terminal {
		b[1] = 1
	}
	b = binary.BigEndian.AppendUint64(b, ordered(updatedAt))
	b = binary.BigEndian.AppendUint64(b, ordered(timestamp))
	b = append(b, rank)
	return Version(append(b, eventID...))
}

// ordered maps integers to unsigned ones in the same order.
func ordered(n int64) uint64 { return uint64(n) ^ 1<<63 }

// rank orders events of one entity that share both times: a state that leads
// to another comes before it.
func rank(action string) byte {
	switch action {
	case "pending":
		return 0
	case "created":
		return 1
	}
	return 2
}

// UpdatedAt is the data.updated_at in a version, in milliseconds since 1970;
// false for one without contents: the empty one, and a stub's.
func (v Version) UpdatedAt() (ms int64, ok bool) {
	if len(v) < 10 || Class(v[0]) == ClassStub {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64([]byte(v[2:10])) ^ 1<<63), true
}

// Timestamp is the envelope's timestamp in a version, in milliseconds since 1970:
// when Clerk said so. False for the empty one, and a stub's.
func (v Version) Timestamp() (ms int64, ok bool) {
	if len(v) < 18 || Class(v[0]) == ClassStub {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64([]byte(v[10:18])) ^ 1<<63), true
}
