package audit

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"strconv"
)

// row is one row of the log. Texts that may be null are null where they are "".
type row struct {
	seq            int64
	eventID        string
	instanceID     string
	eventType      string
	resource       string
	entityID       string
	organizationID string // may be null
	occurredAt     int64  // microseconds since 1970; noTime for null
	receivedAt     int64  // microseconds since 1970
	svixTimestamp  string // may be null
	svixSignature  string // may be null
	source         string
	epoch          int64
	streamSeq      int64
	redriven       bool
	personal       [personals]personal
	prevHash, hash hash
}

type hash [sha256.Size]byte

const noTime = -1 << 63

// The personal columns, in the order of salts and digests.
const (
	actorID = iota
	clientIP
	userAgent
	changed
	payload
	personals
)

// personalColumns are their names.
var personalColumns = [personals]string{"actor_id", "client_ip", "user_agent", "changed", "payload"}

// personal is a value that can be redacted: the hash of its row covers only its
// digest. Value and salt are nil where it is null, digest where it always was.
type personal struct{ value, salt, digest []byte }

const saltSize = 16 // bytes

// seal gives values salts and digests; it may be called again for a value set later.
func (r *row) seal(salts []byte) (rest []byte) {
	for i := range r.personal {
		p := &r.personal[i]
		if p.value == nil || p.digest != nil {
			continue
		}
		p.salt, salts = salts[:saltSize:saltSize], salts[saltSize:]
		p.digest = digestOf(p.salt, p.value)
	}
	return salts
}

func digestOf(salt, value []byte) []byte {
	h := sha256.New()
	h.Write(salt)
	h.Write(value)
	return h.Sum(make([]byte, 0, sha256.Size))
}

// newSalts are n random ones.
func newSalts(n int) []byte {
	b := make([]byte, n*saltSize)
	_, _ = rand.Read(b) // never fails: it would end the process
	return b
}

// version begins what is hashed, so that another form can follow some day.
const version = "rollcall audit 1"

// canonical appends what a row's hash covers beside the hash before it: its
// columns in order, each behind its length in four bytes; all ones for null.
// deploy/docs/audit.md specifies it.
func (r *row) canonical(b []byte) []byte {
	b = appendText(b, version)
	b = appendInt(b, r.seq)
	b = appendText(b, r.eventID)
	b = appendText(b, r.instanceID)
	b = appendText(b, r.eventType)
	b = appendText(b, r.resource)
	b = appendText(b, r.entityID)
	b = appendBytes(b, r.personal[actorID].digest)
	b = appendNullable(b, r.organizationID)
	b = appendTime(b, r.occurredAt)
	b = appendTime(b, r.receivedAt)
	b = appendBytes(b, r.personal[clientIP].digest)
	b = appendBytes(b, r.personal[userAgent].digest)
	b = appendBytes(b, r.personal[changed].digest)
	b = appendBytes(b, r.personal[payload].digest)
	b = appendNullable(b, r.svixTimestamp)
	b = appendNullable(b, r.svixSignature)
	b = appendText(b, r.source)
	b = appendInt(b, r.epoch)
	b = appendInt(b, r.streamSeq)
	if r.redriven {
		return appendText(b, "true")
	}
	return appendText(b, "false")
}

// chain numbers the row and hashes it onto the one before.
func (r *row) chain(seq int64, before hash, scratch []byte) []byte {
	r.seq, r.prevHash = seq, before
	scratch = r.canonical(append(scratch[:0], before[:]...))
	r.hash = sha256.Sum256(scratch)
	return scratch
}

const null = 0xFFFFFFFF

func appendBytes(b, value []byte) []byte {
	if value == nil {
		return binary.BigEndian.AppendUint32(b, null)
	}
	return append(binary.BigEndian.AppendUint32(b, uint32(len(value))), value...)
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

func appendNullable(b []byte, s string) []byte {
	if s == "" {
		return binary.BigEndian.AppendUint32(b, null)
	}
	return appendText(b, s)
}

func appendInt(b []byte, n int64) []byte {
	var room [20]byte
	return appendBytes(b, strconv.AppendInt(room[:0], n, 10))
}

func appendTime(b []byte, micros int64) []byte {
	if micros == noTime {
		return binary.BigEndian.AppendUint32(b, null)
	}
	return appendInt(b, micros)
}
