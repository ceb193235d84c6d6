package emulator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/rollcall-dev/rollcall/internal/emulator/delivery"
	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// world is all that a reset replaces.
type world struct {
	state *state.State

	mu        sync.RWMutex
	instances []*instance

	life    context.Context // of the traffic
	end     context.CancelFunc
	running bool
	work    sync.WaitGroup
}

// newWorld equips all instances of a state; the first has the webhook URLs of
// the options.
func newWorld(st *state.State, o Options) (*world, error) {
	w := &world{state: st}
	w.life, w.end = context.WithCancel(context.Background())
	if err := w.equip(o); err != nil {
		return nil, errors.Join(err, w.close(context.Background()))
	}
	return w, nil
}

func (w *world) equip(o Options) error {
	for n, in := range w.state.Instances() {
		if err := w.add(in, o); err != nil {
			return err
		}
		if n == 0 {
			if err := w.instances[0].addMissing(o); err != nil {
				return err
			}
			o.WebhookSecret = "" // the others have their own
		}
	}
	return nil
}

// addMissing adds the endpoints of the options that a saved state doesn't have
// yet. A secret that is asked for is in force, whatever was saved.
func (i *instance) addMissing(o Options) error {
	if o.OnlyWebhookURLs {
		for _, e := range i.sender.Endpoints() {
			if !slices.Contains(o.WebhookURLs, e.URL) {
				if err := i.sender.Delete(e.ID); err != nil {
					return err
				}
			}
		}
	}
	for _, url := range o.WebhookURLs {
		id := ""
		for _, e := range i.sender.Endpoints() {
			if e.URL == url {
				id = e.ID
			}
		}
		e := delivery.Endpoint{URL: url}
		if o.WebhookSecret != "" {
			e.Secrets = []string{o.WebhookSecret}
		}
		var err error
		switch {
		case id == "":
			_, err = i.addEndpoint(e)
		case o.WebhookSecret != "":
			_, err = i.sender.Rotate(id, o.WebhookSecret)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// add equips an instance of the world's state.
func (w *world) add(in *state.Instance, o Options) error {
	i, err := newInstance(in, o)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.instances = append(w.instances, i)
	if w.running {
		w.runTraffic(i)
	}
	return nil
}

// all are the instances in order of creation.
func (w *world) all() []*instance {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.instances[:len(w.instances):len(w.instances)]
}

// emitted is how many events there have been.
func (w *world) emitted() (n int) {
	for _, i := range w.all() {
		c := i.sender.Counts()
		n += c.Messages + c.Forgotten
	}
	return n
}

// find is the instance that is so, nil where there is none.
func (w *world) find(is func(*instance) bool) *instance {
	for _, i := range w.all() {
		if is(i) {
			return i
		}
	}
	return nil
}

// named is the instance of this id or name; the first if it is empty.
func (w *world) named(name string) *instance {
	return w.find(func(i *instance) bool { return name == "" || i.ID == name || i.Name == name })
}

// start starts the traffic.
func (w *world) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = true
	for _, i := range w.instances {
		w.runTraffic(i)
	}
}

func (w *world) runTraffic(i *instance) {
	w.work.Go(func() { _ = i.traffic.Run(w.life) }) // it returns nil
}

// stopTraffic returns once there is none.
func (w *world) stopTraffic() {
	w.end()
	w.work.Wait()
}

// close stops the traffic and delivers what is queued, until ctx ends; the
// error says how much was cut. Nothing of the world runs after it.
func (w *world) close(ctx context.Context) error {
	w.stopTraffic()
	var all sync.WaitGroup
	errs := make([]error, len(w.all()))
	for n, i := range w.all() {
		all.Go(func() { errs[n] = i.sender.Close(ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// record makes the state complete, to be saved.
func (w *world) record() error {
	for _, i := range w.all() {
		if err := i.record(); err != nil {
			return fmt.Errorf("instance %s: %w", i.ID, err)
		}
	}
	return nil
}
