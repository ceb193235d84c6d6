package publish

import (
	"testing"
	"time"
)

// The line goes where batches begin to pay: high where a batch is dear before
// its first message (one replica), low where it costs as much as a single (three).
func TestLineIsLearned(t *testing.T) {
	t.Parallel()
	l := newLine()
	if l.at() != startLine {
		t.Errorf("it starts at %d, want %d", l.at(), startLine)
	}
	learn := func(single, batch time.Duration) int {
		for range 200 {
			l.published(1, single)
			l.batched(batch)
		}
		return l.at()
	}
	const ms = time.Millisecond
	if n := learn(ms/3, 4*ms); n < 10 || n > 14 {
		t.Errorf("one replica: %d", n)
	}
	if n := learn(ms, ms); n != 2 {
		t.Errorf("three replicas: %d", n)
	}
	if n := learn(ms/10, 100*ms); n != 4*startLine {
		t.Errorf("batches dear: %d, want the bound", n)
	}
	// What made batches look dear fades while many go singly, so that they are
	// tried again.
	for range 500 {
		l.published(2*startLine, 2*startLine*ms/10)
	}
	if n := l.at(); n > 2*startLine {
		t.Errorf("batches are never tried again: the line stays at %d", n)
	}
}

func TestMemoryEnds(t *testing.T) {
	t.Parallel()
	m := newMemory()
	known := func() bool { return m.has(m.connection, "a") }
	add := func(sequence uint64) {
		m.mark()
		m.stored(sequence)
		m.add(m.connection, "a")
	}
	add(7)
	m.mark()
	m.stored(9) // of one round, in any order
	m.stored(8)
	if !known() {
		t.Error("forgotten without a reason")
	}
	m.mark()
	m.stored(0) // a duplicate: no sequence of this round
	if !known() {
		t.Error("forgotten for a duplicate")
	}
	m.mark()
	m.stored(3)
	if known() {
		t.Error("known, although the sequences fell back")
	}
	add(4)
	if !known() || m.has(m.connection+1, "a") {
		t.Error("it should last as long as the connection, and no longer")
	}
}
