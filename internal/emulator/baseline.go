package emulator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// baseline is what a reset returns to: what the seed makes, or a saved state.
type baseline struct {
	o     Options
	saved *os.File // a saved state; nil: made from the seed
	// By instance: what isn't the seed's, but shall be the same after a reset.
	keys      map[string][]state.SigningKey
	endpoints map[string][]state.Endpoint
}

// openBaseline takes the state file where there is one. It stays open: whoever
// replaces the file meanwhile doesn't change what a reset returns to.
func openBaseline(o Options) (*baseline, error) {
	b := &baseline{o: o}
	if o.StateFile == "" {
		return b, nil
	}
	f, err := os.Open(o.StateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load the state: %w", err)
	}
	b.saved = f
	return b, nil
}

// keepBaseline takes a saved state that comes from elsewhere, on disk: it may
// be large. Whether it can be used, world says.
func keepBaseline(o Options, r io.Reader) (*baseline, error) {
	o.Instances = nil // those of the state only
	f, err := unnamedFile()
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(f, r); err != nil {
		return nil, errors.Join(fmt.Errorf("read the state: %w", err), f.Close())
	}
	return &baseline{o: o, saved: f}, nil
}

// unnamedFile lives as long as it is open.
func unnamedFile() (*os.File, error) {
	f, err := os.CreateTemp("", "clerkemu-*")
	if err != nil {
		return nil, fmt.Errorf("make a temporary file: %w", err)
	}
	return f, os.Remove(f.Name())
}

func (b *baseline) close() error {
	if b.saved == nil {
		return nil
	}
	return b.saved.Close()
}

// state makes the state anew.
func (b *baseline) state() (*state.State, error) {
	st := state.New(state.Options{Seed: b.o.Seed, Now: b.o.Clock})
	if b.saved != nil {
		var err error
		if st, err = state.Load(io.NewSectionReader(b.saved, 0, math.MaxInt64), state.Options{Now: b.o.Clock}); err != nil {
			return nil, err
		}
	}
	names := b.o.Instances
	if len(names) == 0 && len(st.Instances()) == 0 {
		names = []string{"app"}
	}
	for _, name := range names {
		if !has(st, name) {
			st.AddInstance(state.InstanceOptions{Name: name, EmitCascade: b.o.EmitCascade}).Seed(b.o.Population)
		}
	}
	return st, nil
}

func has(st *state.State, name string) bool {
	for _, in := range st.Instances() {
		if in.Name == name {
			return true
		}
	}
	return false
}

// world makes the world anew; keys and endpoints are those of the first time.
func (b *baseline) world() (*world, error) {
	st, err := b.state()
	if err != nil {
		return nil, err
	}
	for _, in := range st.Instances() {
		if keys, ok := b.keys[in.ID]; ok {
			in.SetSigningKeys(keys)
			in.SetEndpoints(b.endpoints[in.ID])
		}
	}
	w, err := newWorld(st, b.o)
	if err != nil || b.keys != nil {
		return w, err
	}
	if err := w.record(); err != nil {
		return nil, errors.Join(err, w.close(context.Background()))
	}
	b.keys, b.endpoints = map[string][]state.SigningKey{}, map[string][]state.Endpoint{}
	for _, in := range st.Instances() {
		b.keys[in.ID], b.endpoints[in.ID] = in.SigningKeys(), in.Endpoints()
	}
	return w, nil
}

// reset makes the world anew. Deliveries under way are cut.
func (s *Server) reset(ctx context.Context) error {
	s.swap.Lock()
	defer s.swap.Unlock()
	return s.replace(ctx, s.start)
}

// load replaces the world by that of another baseline, which a reset returns to
// from then on.
func (s *Server) load(ctx context.Context, to *baseline) error {
	s.swap.Lock()
	defer s.swap.Unlock()
	if err := s.replace(ctx, to); err != nil {
		return errors.Join(err, to.close())
	}
	old := s.start
	s.start = to
	return old.close()
}

func (s *Server) replace(ctx context.Context, to *baseline) error {
	w, err := to.world()
	if err != nil {
		return err
	}
	cut, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.world.Load().close(cut); err != nil {
		s.o.Log.Debug("deliveries of before the reset were cut", zap.Error(err))
	}
	s.world.Store(w)
	if s.running {
		w.start()
	}
	return nil
}

// save writes the state with keys and endpoints.
func (s *Server) save(w *world, to io.Writer) error {
	if err := w.record(); err != nil {
		return err
	}
	return w.state.Save(to)
}

// saveNowAndThen bounds what a crash loses. A large state is saved more seldom,
// since nothing changes while it is. As much as saved had been emitted when the
// state was last on disk.
func (s *Server) saveNowAndThen(ctx context.Context, saved int) {
	if s.o.SaveEvery <= 0 || s.o.StateFile == "" {
		return
	}
	pause := s.o.SaveEvery
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		s.swap.Lock()
		w, began := s.world.Load(), time.Now()
		if now := w.emitted(); now != saved {
			if err := s.saveFile(w); err != nil {
				s.o.Log.Warn("the state isn't saved", zap.Error(err))
			} else {
				saved = now
			}
		}
		s.swap.Unlock()
		pause = max(s.o.SaveEvery, 20*time.Since(began))
	}
}

// saveFile saves the state file whole: a reader sees all of it or the old one.
func (s *Server) saveFile(w *world) error {
	path := s.o.StateFile
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) // it holds keys
	if err != nil {
		return fmt.Errorf("save the state: %w", err)
	}
	if err := errors.Join(s.save(w, f), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("save the state: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("save the state: %w", err)
	}
	return nil
}
