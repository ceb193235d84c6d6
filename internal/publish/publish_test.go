package publish_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/publish"
	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

func TestMain(m *testing.M) { stacktest.MainNoLeaks(m) }

// rig is a publisher on a real server, and another connection to see what it did.
type rig struct {
	*publish.Publisher
	t        testing.TB
	conn     *broker.Conn
	js       jetstream.JetStream
	registry *prometheus.Registry
	noStream atomic.Int64 // calls
	react    func()       // to them
	stop     context.CancelFunc
	stopped  chan struct{} // Run has returned
}

func newRig(t testing.TB, url string, o streams.Options) *rig {
	t.Helper()
	conn, err := broker.Dial(broker.Options{URL: url, Log: zap.NewNop()})
	must(t, err)
	observer, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	must(t, err)
	r := &rig{t: t, conn: conn, registry: prometheus.NewRegistry(), stopped: make(chan struct{}), react: func() {}}
	r.Publisher = publish.New(conn, zap.NewNop(), publish.NewMetrics(r.registry), func() {
		r.noStream.Add(1)
		r.react()
	})
	r.js, err = jetstream.New(observer)
	must(t, err)
	r.makeStreams(o)
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() {
		defer close(r.stopped)
		if err := r.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	t.Cleanup(func() {
		stop()
		<-r.stopped
		conn.Close()
		observer.Close()
	})
	return r
}

func (r *rig) makeStreams(o streams.Options) {
	r.t.Helper()
	stacktest.Eventually(r.t, 20*time.Second, func() error {
		_, err := streams.Apply(context.Background(), r.js, streams.Names{}.Definitions(o))
		return err
	})
}

func message(id string) publish.Message {
	return publish.Message{Msg: &nats.Msg{
		Subject: "clerk.ins_1.user.updated." + id,
		Header:  nats.Header{streams.HeaderMsgID: {id}, streams.HeaderSvixID: {id}},
		Data:    []byte("body of " + id),
	}}
}

// stored is how often each id stands in the log; it checks the bodies.
func (r *rig) stored() map[string]int {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var s jetstream.Stream
	stacktest.Eventually(r.t, 20*time.Second, func() (err error) {
		s, err = r.js.Stream(ctx, "CLERK")
		return err
	})
	found := map[string]int{}
	left := s.CachedInfo().State.Msgs
	if left == 0 {
		return found
	}
	c, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	must(r.t, err)
	messages, err := c.Messages()
	must(r.t, err)
	defer messages.Stop()
	for ; left > 0; left-- {
		m, err := messages.Next(jetstream.NextContext(ctx))
		must(r.t, err)
		id := m.Headers().Get(streams.HeaderSvixID)
		if string(m.Data()) != "body of "+id || m.Subject() != "clerk.ins_1.user.updated."+id {
			r.t.Errorf("%s: subject %s, body %q", id, m.Subject(), m.Data())
		}
		found[id]++
	}
	return found
}

// once checks that just these are stored, each once.
func (r *rig) once(want []string) {
	r.t.Helper()
	found := r.stored()
	for _, id := range want {
		if found[id] != 1 {
			r.t.Errorf("%s is stored %d times", id, found[id])
		}
	}
	if len(found) != len(want) {
		r.t.Errorf("%d ids are stored, want %d", len(found), len(want))
	}
}

// counted is a metric's value, all labels together; of a histogram its number
// of observations above le.
func (r *rig) counted(name string, le float64) float64 {
	r.t.Helper()
	families, err := r.registry.Gather()
	must(r.t, err)
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue()
			if h := m.GetHistogram(); h != nil {
				below := uint64(0)
				for _, b := range h.GetBucket() {
					if b.GetUpperBound() <= le {
						below = b.GetCumulativeCount()
					}
				}
				sum += float64(h.GetSampleCount() - below)
			}
		}
	}
	return sum
}

func (r *rig) batches() float64 { return r.counted("rollcall_publish_batch_size", 1) }

// ids makes n, each beginning with prefix.
func ids(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = prefix + strconv.Itoa(i)
	}
	return out
}

// all publishes each, side by side by that many senders, and returns how many
// were duplicates.
func (r *rig) all(senders int, list []string) int {
	r.t.Helper()
	var group sync.WaitGroup
	var next, duplicates atomic.Int64
	for range senders {
		group.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(list); i = next.Add(1) - 1 {
				duplicate, err := r.Publish(message(list[i]))
				if err != nil {
					r.t.Errorf("%s: %v", list[i], err)
				}
				if duplicate {
					duplicates.Add(1)
				}
			}
		})
	}
	group.Wait()
	return int(duplicates.Load())
}

func TestGroupCommit(t *testing.T) {
	t.Parallel()
	r := newRig(t, stacktest.NATS(t, stacktest.Sync()).URL, streams.Options{})
	list := ids("a", 3000)
	if n := r.all(200, list); n != 0 {
		t.Errorf("%d duplicates", n)
	}
	if r.batches() == 0 {
		t.Error("200 senders at a time, and no batch")
	}
	if n := r.counted("rollcall_publish_batches_refused_total", 0); n != 0 {
		t.Errorf("%v batches were refused", n)
	}
	// A lone message waits for nobody.
	for _, id := range ids("lone", 50) {
		start := time.Now()
		if duplicate, err := r.Publish(message(id)); duplicate || err != nil || time.Since(start) > time.Second {
			t.Errorf("%s: %v, %v, after %s", id, duplicate, err, time.Since(start))
		}
		list = append(list, id)
	}
	r.once(list)
}

// Half of what comes is stored already, which this process can't know: batches
// are refused, and all the same each is stored once.
func TestDuplicatesUnknown(t *testing.T) {
	t.Parallel()
	ns := stacktest.NATS(t, stacktest.Sync())
	before := ids("old", 300)
	newRig(t, ns.URL, streams.Options{}).all(50, before)
	r := newRig(t, ns.URL, streams.Options{})
	var mixed []string
	fresh := ids("new", 900)
	for i, id := range fresh {
		if i%3 == 0 {
			mixed = append(mixed, before[i/3])
		}
		mixed = append(mixed, id)
	}
	if n := r.all(200, mixed); n != len(before) {
		t.Errorf("%d duplicates, want %d", n, len(before))
	}
	if r.counted("rollcall_publish_batches_refused_total", 0) == 0 {
		t.Error("no batch was refused: this shows nothing")
	}
	r.once(append(before, fresh...))
}

// Rotation's second endpoint: each comes twice, at once or a little later.
func TestDuplicatesKnown(t *testing.T) {
	t.Parallel()
	r := newRig(t, stacktest.NATS(t, stacktest.Sync()).URL, streams.Options{})
	list := ids("a", 1000)
	var twice []string
	for _, id := range list {
		twice = append(twice, id, id)
	}
	if n := r.all(200, twice); n != len(list) {
		t.Errorf("%d duplicates, want %d", n, len(list))
	}
	if n := r.all(200, list); n != len(list) {
		t.Errorf("%d duplicates later, want %d", n, len(list))
	}
	if n := r.counted("rollcall_publish_batches_refused_total", 0); n != 0 {
		t.Errorf("%v batches were refused", n)
	}
	r.once(list)
}

// Late ones go singly while they turn out to be duplicates, and in batches again
// when they don't.
func TestLate(t *testing.T) {
	t.Parallel()
	ns := stacktest.NATS(t, stacktest.Sync())
	before := ids("old", 600)
	newRig(t, ns.URL, streams.Options{}).all(100, before)
	r := newRig(t, ns.URL, streams.Options{})
	fresh := ids("new", 1200)
	var group sync.WaitGroup
	for s := range 100 {
		group.Go(func() {
			for i := s; i < len(fresh); i += 100 {
				late := message(before[i/2])
				late.Late = true
				for _, m := range []publish.Message{message(fresh[i]), late} {
					if _, err := r.Publish(m); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	group.Wait()
	if n := r.counted("rollcall_publish_batches_refused_total", 0); n != 0 {
		t.Errorf("%v batches were refused for a late one", n)
	}
	r.once(append(before, fresh...))
}

// The server is killed under load, again and again. What was acknowledged is
// stored, and after all has been sent again, each once.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	for name, program := range binaries(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := stacktest.Binary(t, program)
			r := newRig(t, ns.URL, streams.Options{})
			const senders = 40
			var senderGroup sync.WaitGroup
			var acknowledged atomic.Int64
			sent := make([][]string, senders)
			done := make(chan struct{})
			for s := range senders {
				senderGroup.Go(func() {
					for i := 0; ; i++ {
						select {
						case <-done:
							return
						default:
						}
						id := fmt.Sprintf("s%d_%d", s, i)
						for {
							_, err := r.Publish(message(id))
							if err == nil {
								break
							}
							if !errors.Is(err, publish.ErrUnavailable) {
								t.Errorf("%s: %v", id, err)
								return
							}
							time.Sleep(10 * time.Millisecond) // Svix would wait longer
						}
						sent[s] = append(sent[s], id)
						acknowledged.Add(1)
					}
				})
			}
			for range 3 {
				target := acknowledged.Load() + 200
				stacktest.Eventually(t, 30*time.Second, func() error {
					if n := acknowledged.Load(); n < target {
						return fmt.Errorf("%d of %d acknowledged", n, target)
					}
					return nil
				})
				ns.Kill()
				ns.Start()
			}
			close(done)
			senderGroup.Wait()
			all := slices.Concat(sent...)
			// A process that knows nothing sends a part once more.
			newRig(t, ns.URL, streams.Options{}).all(senders, all[:200])
			r.once(all)
			if strings.HasPrefix(name, "2.11.") != (r.batches() == 0) {
				t.Errorf("%v batches on %s", r.batches(), name)
			}
		})
	}
}

// binaries are the nats-server releases to test against, by version.
func binaries(t *testing.T) map[string]string {
	t.Helper()
	dir := os.Getenv("ROLLCALL_TEST_NATS_SERVERS")
	found, _ := filepath.Glob(filepath.Join(dir, "*", "nats-server"))
	if dir == "" || len(found) == 0 {
		t.Skip("ROLLCALL_TEST_NATS_SERVERS names no folder with VERSION/nats-server")
	}
	out := map[string]string{}
	for _, f := range found {
		out[filepath.Base(filepath.Dir(f))] = f
	}
	return out
}

// In a cluster of three the stream's leader goes under load.
func TestLeaderLost(t *testing.T) {
	t.Parallel()
	nodes := stacktest.Cluster(t, 3)
	r := newRig(t, nodes[0].URL+","+nodes[1].URL+","+nodes[2].URL, streams.Options{Replicas: 3})
	const each, senders = 60, 60
	var group sync.WaitGroup
	var acknowledged, failed atomic.Int64
	for s := range senders {
		group.Go(func() {
			for _, id := range ids(fmt.Sprintf("s%d_", s), each) {
				for attempt := 0; ; attempt++ {
					if _, err := r.Publish(message(id)); err == nil {
						break
					} else if attempt == 200 {
						t.Errorf("%s: %v", id, err)
						return
					}
					failed.Add(1)
					time.Sleep(50 * time.Millisecond)
				}
				acknowledged.Add(1)
			}
		})
	}
	stacktest.Eventually(t, 30*time.Second, func() error {
		if n := acknowledged.Load(); n < each*senders/4 {
			return fmt.Errorf("%d acknowledged", n)
		}
		return nil
	})
	s, err := r.js.Stream(context.Background(), "CLERK")
	must(t, err)
	leader := s.CachedInfo().Cluster.Leader
	for _, n := range nodes {
		if n.Server().Name() == leader {
			n.Stop()
		}
	}
	if acknowledged.Load() == each*senders {
		t.Error("all had been acknowledged before: this shows nothing")
	}
	group.Wait()
	var want []string
	for s := range senders {
		want = append(want, ids(fmt.Sprintf("s%d_", s), each)...)
	}
	r.once(want)
}

func TestStreamMissing(t *testing.T) {
	t.Parallel()
	r := newRig(t, stacktest.NATS(t).URL, streams.Options{})
	r.all(1, []string{"a"})
	must(t, r.js.DeleteStream(context.Background(), "CLERK"))
	start := time.Now()
	if _, err := r.Publish(message("b")); !errors.Is(err, publish.ErrUnavailable) || r.noStream.Load() == 0 || time.Since(start) > 10*time.Second {
		t.Errorf("%v after %s; noStream called %d times", err, time.Since(start), r.noStream.Load())
	}
	r.makeStreams(streams.Options{})
	r.all(1, []string{"a", "b"})
	r.once([]string{"a", "b"})
}

// Somebody makes the stream anew before a publish has failed: what the deleted
// one had isn't taken for stored.
func TestStreamMadeAnew(t *testing.T) {
	t.Parallel()
	old, others := ids("a", 30), ids("other", 60)
	for name, others := range map[string][]string{"filled by others": others, "empty": nil} {
		for who, first := range map[string]bool{"by the keeper": false, "unnoticed": true} {
			if first && others != nil {
				continue // only the keeper can notice that; see broker
			}
			r := newRig(t, stacktest.NATS(t).URL, streams.Options{})
			again := func() {
				r.makeStreams(streams.Options{})
				for _, id := range others {
					_, err := r.js.PublishMsg(context.Background(), message(id).Msg)
					must(t, err)
				}
			}
			r.react = sync.OnceFunc(again)
			r.all(10, old)
			must(t, r.js.DeleteStream(context.Background(), "CLERK"))
			if first {
				again()
			}
			r.all(1, []string{"first"})
			if n := r.all(10, old); n != 0 {
				t.Errorf("%s, %s: %d of the deleted stream's events are taken for stored", name, who, n)
			}
			r.once(slices.Concat([]string{"first"}, old, others))
		}
	}
}

// A server comes back with an older copy of its directory, and nothing was
// published meanwhile.
func TestServerRestored(t *testing.T) {
	t.Parallel()
	ns := stacktest.NATS(t)
	r := newRig(t, ns.URL, streams.Options{})
	restart := func(change func()) {
		before := r.conn.Generation()
		ns.Stop()
		change()
		ns.Start()
		stacktest.Eventually(t, 10*time.Second, func() error {
			nc, err := r.conn.NATS()
			if err == nil && (!nc.IsConnected() || r.conn.Generation() < before+2) { // lost and made
				err = errors.New("not back yet")
			}
			return err
		})
	}
	early, late := ids("early", 50), ids("late", 50)
	r.all(10, early)
	backup := t.TempDir()
	restart(func() { must(t, os.CopyFS(backup, os.DirFS(ns.Dir))) })
	r.all(10, late)
	restart(func() {
		must(t, os.RemoveAll(ns.Dir))
		must(t, os.CopyFS(ns.Dir, os.DirFS(backup)))
	})
	if n := r.all(10, late); n != 0 {
		t.Errorf("%d of what the copy lacks are taken for stored", n)
	}
	if n := r.all(10, early); n != len(early) {
		t.Errorf("%d of what the copy has are duplicates, want %d", n, len(early))
	}
	r.once(append(early, late...))
}

func TestFull(t *testing.T) {
	t.Parallel()
	r := newRig(t, stacktest.NATS(t).URL, streams.Options{MaxBytes: 20 << 10})
	var stored []string
	var full atomic.Int64
	var mu sync.Mutex
	var group sync.WaitGroup
	for s := range 50 {
		group.Go(func() {
			for _, id := range ids(fmt.Sprintf("s%d_", s), 10) {
				switch _, err := r.Publish(message(id)); {
				case err == nil:
					mu.Lock()
					stored = append(stored, id)
					mu.Unlock()
				case errors.Is(err, publish.ErrFull):
					full.Add(1)
				default:
					t.Errorf("%s: %v", id, err)
				}
			}
		})
	}
	group.Wait()
	if full.Load() == 0 || len(stored) == 0 {
		t.Errorf("%d stored, %d found it full", len(stored), full.Load())
	}
	r.once(stored)
}

// One that is too large harms none of those it would have left with.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	r := newRig(t, stacktest.NATS(t, stacktest.Configure(func(o *server.Options) { o.MaxPayload = 64 << 10 })).URL, streams.Options{})
	list := ids("a", 2000)
	var group sync.WaitGroup
	for s := range 100 {
		group.Go(func() {
			for i := s; i < len(list); i += 100 {
				if _, err := r.Publish(message(list[i])); err != nil {
					t.Error(err)
				}
				if i%40 != 0 {
					continue
				}
				big := message(list[i] + "_big")
				big.Data = make([]byte, 64<<10)
				if _, err := r.Publish(big); !errors.Is(err, publish.ErrTooLarge) {
					t.Errorf("too large: %v", err)
				}
			}
		})
	}
	group.Wait()
	r.once(list)
}

// When Run ends, however many keep coming, each gets an answer at once.
func TestStop(t *testing.T) {
	t.Parallel()
	r := newRig(t, stacktest.NATS(t, stacktest.Sync()).URL, streams.Options{})
	var group sync.WaitGroup
	var mu sync.Mutex
	var stored []string
	for s := range 100 {
		group.Go(func() {
			for i := range math.MaxInt {
				id := fmt.Sprintf("s%d_%d", s, i)
				if _, err := r.Publish(message(id)); err != nil {
					if !errors.Is(err, publish.ErrStopped) {
						t.Errorf("%s: %v", id, err)
					}
					return
				}
				mu.Lock()
				stored = append(stored, id)
				mu.Unlock()
			}
		})
	}
	stacktest.Eventually(t, 20*time.Second, func() error {
		mu.Lock()
		defer mu.Unlock()
		if len(stored) < 1000 {
			return fmt.Errorf("%d stored", len(stored))
		}
		return nil
	})
	start := time.Now()
	r.stop()
	<-r.stopped
	group.Wait()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	if _, err := r.Publish(message("after")); !errors.Is(err, publish.ErrStopped) {
		t.Errorf("afterwards: %v", err)
	}
	r.once(stored)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
