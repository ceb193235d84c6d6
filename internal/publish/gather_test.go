package publish

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rollcall-dev/rollcall/streams"
)

// gathering is a publisher that is not connected to anything: gatherAfter
// needs no broker but for its generation.
func gathering() *Publisher {
	p := New(noBroker{}, nil, nil, nil)
	p.line = line{single: 0.0003, batch: 0.004}
	return p
}

type noBroker struct{}

func (noBroker) NATS() (*nats.Conn, error) { return nil, ErrUnavailable }
func (noBroker) Generation() uint64        { return 1 }

func (p *Publisher) arrive(n int, prefix string) {
	for i := range n {
		id := prefix + string(rune('a'+i))
		p.enqueue(id, Message{Msg: &nats.Msg{Header: nats.Header{streams.HeaderMsgID: {id}}}})
	}
}

func TestGatherWaitsForThoseWhoComeBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, began := gathering(), time.Now()
		time.AfterFunc(time.Millisecond, func() { p.arrive(20, "x") })
		time.AfterFunc(2*time.Millisecond, func() { p.arrive(15, "y") })
		lots, came := 0, 0
		p.gatherAfter(40, func(arrived []*entry) { lots, came = lots+1, came+len(arrived) })
		if took := time.Since(began); took != 2*time.Millisecond {
			t.Errorf("went on after %s, want 2ms: with the 35th of 40", took)
		}
		if came != 35 || lots < 2 {
			t.Errorf("%d handed on, in %d lots; want 35 as they came", came, lots)
		}
	})
}

func TestGatherLearnsThatNobodyComes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, began := gathering(), time.Now()
		const rounds = 1000
		for range rounds {
			p.gatherAfter(40, func([]*entry) { t.Error("nobody came") })
		}
		if tries := time.Since(began) / p.line.patience(); tries < 2 || tries > rounds/maxSkip+10 {
			t.Errorf("waited %d times in %d rounds", tries, rounds)
		}
	})
}

func TestGatherIsForBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, began := gathering(), time.Now()
		none := func([]*entry) {}
		p.gatherAfter(1, none)
		p.arrive(maxBatch, "as many as fit")
		p.gatherAfter(40, none)
		if took := time.Since(began); took != 0 {
			t.Errorf("a lone message's round, or a full batch's, waited %s", took)
		}
	})
}
