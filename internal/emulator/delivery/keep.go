package delivery

import "container/list"

// What the log's records count beside bodies and texts, in bytes.
const (
	messageBytes = 400
	attemptBytes = 96
)

// keeper holds the messages for the log and for replays, up to a budget of
// bytes. Beyond it the settled are forgotten, those that were settled first
// going first, and those with something left to recover (failed, aborted,
// dropped) after those that were delivered everywhere. What isn't settled is
// never forgotten, whatever it takes.
type keeper struct {
	budget, bytes int64
	byID          map[string]*message
	all           *list.List // of *message, in the order of Send
	delivered     *list.List // settled, with nothing to recover
	owed          *list.List // settled, with something to recover
	forgotten     int
}

func newKeeper(budget int64) keeper {
	return keeper{budget: budget, byID: map[string]*message{}, all: list.New(), delivered: list.New(), owed: list.New()}
}

func (k *keeper) add(m *message) {
	m.place = k.all.PushBack(m)
	k.byID[m.id] = m
	k.grew(m, messageBytes+len(m.Body))
}

func (k *keeper) grew(m *message, bytes int) {
	m.bytes += int64(bytes)
	k.bytes += int64(bytes)
}

// settled puts a message among those that may be forgotten.
func (k *keeper) settled(m *message) {
	m.among = k.delivered
	for _, d := range m.deliveries {
		if d.state != Delivered {
			m.among = k.owed
		}
	}
	m.rank = m.among.PushBack(m)
	for k.bytes > k.budget {
		if oldest := k.delivered.Front(); oldest != nil {
			k.forget(oldest.Value.(*message))
		} else if oldest := k.owed.Front(); oldest != nil {
			k.forget(oldest.Value.(*message))
		} else {
			return
		}
	}
}

// reopened takes a message back from them.
func (k *keeper) reopened(m *message) {
	if m.among != nil {
		m.among.Remove(m.rank)
		m.among, m.rank = nil, nil
	}
}

func (k *keeper) forget(m *message) {
	k.reopened(m)
	k.all.Remove(m.place)
	delete(k.byID, m.id)
	k.bytes -= m.bytes
	k.forgotten++
}
