package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// copied reads rows in COPY's binary format, of columns. Texts share its memory.
type copied struct {
	b   []byte
	err error
}

func newCopied(b []byte) *copied {
	c := &copied{b: b}
	c.take(len(copyHeader))
	return c
}

// next reads a row; false at the end, or where err says why.
func (c *copied) next(r *row) bool {
	n := c.take(2)
	if c.err != nil || binary.BigEndian.Uint16(n) == 0xFFFF {
		return false
	}
	if n := binary.BigEndian.Uint16(n); n != columnCount {
		c.err = fmt.Errorf("%d columns where %d were asked for", n, columnCount)
		return false
	}
	*r = row{}
	r.seq = c.int8()
	for _, s := range []*string{&r.eventID, &r.instanceID, &r.eventType, &r.resource, &r.entityID} {
		*s = string(c.field())
	}
	r.personal[actorID].value = c.field()
	r.organizationID = string(c.field())
	r.occurredAt, r.receivedAt = c.time(), c.time()
	for _, column := range []int{clientIP, userAgent, changed, payload} {
		r.personal[column].value = c.field()
	}
	r.svixTimestamp, r.svixSignature, r.source = string(c.field()), string(c.field()), string(c.field())
	r.epoch, r.streamSeq = c.int8(), c.int8()
	flag := c.field()
	r.redriven = len(flag) == 1 && flag[0] == 1
	c.byteas(func(i int, v []byte) { r.personal[i].salt = v })
	c.byteas(func(i int, v []byte) { r.personal[i].digest = v })
	copy(r.prevHash[:], c.hash())
	copy(r.hash[:], c.hash())
	return c.err == nil
}

var errShort = errors.New("the database's answer ends early")

func (c *copied) take(n int) []byte {
	if c.err == nil && (n < 0 || len(c.b) < n) {
		c.err = errShort
	}
	if c.err != nil {
		return make([]byte, 8)
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}

// field is one value, nil for null.
func (c *copied) field() []byte {
	n := binary.BigEndian.Uint32(c.take(4))
	if n == null || c.err != nil {
		return nil
	}
	return c.take(int(n))
}

func (c *copied) int8() int64 {
	v := c.field()
	if len(v) != 8 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(v))
}

func (c *copied) time() int64 {
	v := c.field()
	if len(v) != 8 {
		return noTime
	}
	return int64(binary.BigEndian.Uint64(v)) + postgresEpoch
}

// hash is a hash column; one of another length fits no row.
func (c *copied) hash() []byte {
	if v := c.field(); len(v) == len(hash{}) {
		return v
	}
	return nil
}

// byteas reads an array of one element for each personal column; of any other
// the elements are null, and the row doesn't fit.
func (c *copied) byteas(set func(i int, v []byte)) {
	v := c.field()
	if len(v) < 20 || binary.BigEndian.Uint32(v) != 1 || binary.BigEndian.Uint32(v[12:]) != personals {
		return
	}
	inner := copied{b: v[20:]}
	for i := range personals {
		set(i, inner.field())
	}
}
