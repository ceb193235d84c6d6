package delivery

import (
	"slices"
	"time"
)

// How long chaos parks a message at the most.
const (
	burstSize  = 50 // messages
	burstWait  = time.Second
	reorderMax = 2 * time.Second
)

// job is the way of one delivery to its next attempt. Its fields, like all of
// an endpoint's queues, are guarded by the sender's lock.
type job struct {
	d    *delivery
	kind Kind
	try  int // retries so far

	// What chaos has in store, taken off one by one:
	delay      time.Duration
	passes     int           // messages that are to overtake it
	holdAtMost time.Duration // for the passes
	burst      bool
	forge      []Kind // to precede the proper attempt
}

// queue is where the jobs of an endpoint are.
type queue struct {
	ready   []*job
	workers int                  // running
	parked  map[*job]*time.Timer // of them, …
	behind  []*job               // those that wait to be overtaken
	burst   []*job               // those that gather to go together
}

// dispatch takes a job through what chaos has in store for it and makes it
// ready.
func (s *Sender) dispatch(j *job) {
	e := j.d.e
	switch {
	case s.closed:
		s.ready(j)
	case j.delay > 0:
		wait := j.delay
		j.delay = 0
		s.park(j, wait)
	case j.passes > 0:
		e.behind = append(e.behind, j)
		s.park(j, j.holdAtMost)
	case j.burst:
		e.burst = append(e.burst, j)
		s.park(j, burstWait)
		if len(e.burst) == burstSize {
			s.releaseBurst(e)
		}
	default:
		s.ready(j)
	}
}

func (s *Sender) ready(j *job) {
	e := j.d.e
	e.ready = append(e.ready, j)
	if e.workers < s.cfg.Workers {
		e.workers++
		s.work.Go(func() { s.drain(e) })
	}
}

// drain is a worker: it ends when it finds nothing ready.
func (s *Sender) drain(e *endpoint) {
	for {
		s.mu.Lock()
		if len(e.ready) == 0 {
			e.workers--
			s.mu.Unlock()
			return
		}
		j := e.ready[0]
		e.ready[0] = nil
		e.ready = e.ready[1:]
		s.mu.Unlock()
		s.run(j)
	}
}

// park holds a job for a time. Whoever takes it out of parked owns it.
func (s *Sender) park(j *job, wait time.Duration) {
	e := j.d.e
	e.parked[j] = time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, still := e.parked[j]; still {
			s.unpark(j)
		}
	})
}

// unpark sends a parked job on its way, whatever it waited for.
func (s *Sender) unpark(j *job) {
	e := j.d.e
	e.parked[j].Stop()
	delete(e.parked, j)
	if i := slices.Index(e.behind, j); i >= 0 {
		e.behind = slices.Delete(e.behind, i, i+1)
		j.passes = 0
	}
	if slices.Contains(e.burst, j) {
		s.releaseBurst(e)
		return
	}
	s.dispatch(j)
}

func (s *Sender) releaseBurst(e *endpoint) {
	together := e.burst
	e.burst = nil
	for _, j := range together {
		if t, still := e.parked[j]; still {
			t.Stop()
			delete(e.parked, j)
		}
		j.burst = false
		s.dispatch(j)
	}
}

// passed tells those that wait to be overtaken that a message was attempted.
func (s *Sender) passed(e *endpoint, sequence uint64) {
	var free []*job
	for _, j := range e.behind {
		if sequence > j.d.m.sequence {
			if j.passes--; j.passes == 0 {
				free = append(free, j)
			}
		}
	}
	for _, j := range free {
		s.unpark(j)
	}
}

// flush makes ready what chaos holds back, and gives up what waits for a retry.
func (s *Sender) flush(e *endpoint) {
	e.behind, e.burst = nil, nil
	for j, timer := range e.parked {
		timer.Stop()
		delete(e.parked, j)
		if j.try == 0 {
			s.ready(j)
		} else {
			s.giveUp(j, reasonStopped)
		}
	}
}

// halt gives up all deliveries of an endpoint but those under way.
func (s *Sender) halt(e *endpoint, reason string) {
	jobs := e.ready
	e.ready, e.behind, e.burst = nil, nil, nil
	for j, timer := range e.parked {
		timer.Stop()
		delete(e.parked, j)
		jobs = append(jobs, j)
	}
	for _, j := range jobs {
		s.giveUp(j, reason)
	}
}

func (s *Sender) giveUp(j *job, reason string) {
	if j.kind != Duplicate {
		s.turn(j.d, Failed, reason)
	}
	s.finished(j.d)
}
