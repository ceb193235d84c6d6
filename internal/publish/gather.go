package publish

import "time"

// gather is for senders that wait for an answer before they send again, as
// Svix's workers do. Without it they part into two halves that take turns, and
// each pays the whole price of a batch. So after a batch the next round is held
// back for a moment, until most of those just answered are back; where they
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

// gatherAfter waits, after a round of that many, for the senders to come back.
func (p *Publisher) gatherAfter(round int) {
	if round < p.line.at() || !p.gather.worthwhile() {
		return
	}
	p.mu.Lock()
	senders := min(round+len(p.waiting), maxBatch)
	wanted := senders - senders/8 // some take their time
	if len(p.waiting) >= wanted {
		p.mu.Unlock()
		return
	}
	p.wanted = wanted
	p.mu.Unlock()

	timer := time.NewTimer(p.line.patience())
	defer timer.Stop()
	select {
	case <-p.gathered:
		p.gather.learn(true)
	case <-timer.C:
		p.mu.Lock()
		came := p.wanted == 0 // just now; the signal is not for the next time
		p.wanted = 0
		p.mu.Unlock()
		if came {
			<-p.gathered
		}
		p.gather.learn(came)
	}
}
