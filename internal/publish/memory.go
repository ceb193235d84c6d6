package publish

import "hash/maphash"

// memory knows the ids that were acknowledged lately: Clerk's documented secret
// rotation delivers every event twice, and a duplicate would refuse the batch
// it is in. It keeps 128 bits of a keyed hash an id, in two generations, so
// it holds between 128k and 256k ids in at most about 12 MB and never needs
// sweeping. Its knowledge ends with the connection: a broker that comes back
// may have lost what it had. It ends too when sequences fall back, since then the
// stream was made anew or restored.
type memory struct {
	young, old map[[2]uint64]struct{}
	seeds      [2]maphash.Seed
	connection uint64
	top, floor uint64 // greatest sequence so far, and when the round began
}

const memoryHalf = 1 << 17

func newMemory() memory {
	return memory{
		young: map[[2]uint64]struct{}{},
		seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
	}
}

func (m *memory) key(id string) [2]uint64 {
	return [2]uint64{maphash.String(m.seeds[0], id), maphash.String(m.seeds[1], id)}
}

func (m *memory) has(connection uint64, id string) bool {
	if m.connection != connection {
		m.forget()
		m.connection = connection
	}
	k := m.key(id)
	if _, ok := m.young[k]; ok {
		return true
	}
	_, ok := m.old[k]
	return ok
}

// add notes an id acknowledged over that connection, unless it is gone.
func (m *memory) add(connection uint64, id string) {
	if m.connection != connection {
		return
	}
	if len(m.young) >= memoryHalf {
		m.old, m.young = m.young, make(map[[2]uint64]struct{}, memoryHalf/4)
	}
	m.young[m.key(id)] = struct{}{}
}

// mark begins a round: what it stores lies behind all that was stored before.
func (m *memory) mark() { m.floor = m.top }

// stored notes a message's sequence; 0 is none.
func (m *memory) stored(sequence uint64) {
	switch {
	case sequence > m.floor:
		m.top = max(m.top, sequence)
	case sequence > 0:
		m.forget()
		m.top, m.floor = sequence, 0
	}
}

func (m *memory) forget() {
	m.old = nil
	clear(m.young)
}
