package publish

import "time"

// gather is for senders that wait for an answer before they send again, as
// Svix's workers do. Without it they part into two halves that take turns, and
// each pays the whole price of a batch. So after a batch the next one is held
// open for a moment, until most of those just answered are back; where they
// don't come, that is tried ever more seldom.
type gather struct {
	skip, misses int // rounds to go without; tries in a row that were in vain
}

// maxSkip bounds how seldom.
const maxSkip = 64

// worthwhile says whether to hold the round back that follows a batch.
func (g *gather) worthwhile() bool {
	if g.skip > 0 {
		g.skip--
		return false
	}
	return true
}

func (g *gather) learn(came bool) {
	if came {
		g.misses = 0
		return
	}
	g.misses = min(g.misses+1, 6)
	g.skip = min(1<<g.misses, maxSkip)
}

// patience is no more than what the second batch would cost.
func (l *line) patience() time.Duration {
	return time.Duration(l.batch * float64(time.Second))
}

// gatherAfter waits, after a batch of that many, for the senders to come back,
// and hands on who has come, as they come.
func (p *Publisher) gatherAfter(batch int, comes func([]*entry)) {
	if batch < p.line.at() || !p.gather.worthwhile() {
		return
	}
	timer := time.NewTimer(p.line.patience())
	defer timer.Stop()
	wanted, came := 0, 0
	for {
		arrived := p.take(maxBatch - came)
		if wanted == 0 {
			senders := min(batch+len(arrived), maxBatch)
			wanted = senders - senders/8 // some take their time
		}
		if len(arrived) > 0 {
			came += len(arrived)
			comes(arrived)
		}
		if came >= wanted {
			p.gather.learn(true)
			return
		}
		select {
		case <-p.wake:
		case <-timer.C:
			p.gather.learn(false)
			return
		}
	}
}
