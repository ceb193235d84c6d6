package emulator

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// baseline is what a reset returns to: what the seed makes, or a saved state.
type baseline struct {
	o     Options
	saved []byte // gzip of a saved state; nil: made from the seed
	// By instance: what isn't the seed's, but shall be the same after a reset.
	keys      map[string][]state.SigningKey
	endpoints map[string][]state.Endpoint
}

// readFile reads a saved state where there is one.
func (b *baseline) readFile(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("load the state: %w", err)
	}
	defer f.Close()
	if err := b.read(f); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// read keeps a saved state, compressed: it is a tenth of its size so. Whether
// it can be used, world says.
func (b *baseline) read(r io.Reader) error {
	var kept bytes.Buffer
	w, err := gzip.NewWriterLevel(&kept, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, r); err != nil {
		return fmt.Errorf("read the state: %w", err)
	}
	if err := w.Close(); err != nil {
		return err
	}
	b.saved = kept.Bytes()
	return nil
}

// state makes the state anew.
func (b *baseline) state() (*state.State, error) {
	st := state.New(state.Options{Seed: b.o.Seed, Now: b.o.Clock})
	if b.saved != nil {
		r, err := gzip.NewReader(bytes.NewReader(b.saved))
		if err != nil {
			return nil, err
		}
		if st, err = state.Load(r, state.Options{Now: b.o.Clock}); err != nil {
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

// reset replaces the world by that of a baseline, which is the server's from
// then on. Deliveries under way are cut.
func (s *Server) reset(ctx context.Context, to *baseline) error {
	s.swap.Lock()
	defer s.swap.Unlock()
	if to == nil {
		to = s.start
	}
	w, err := to.world()
	if err != nil {
		return err
	}
	cut, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.world.Load().close(cut); err != nil {
		s.o.Log.Debug("deliveries of before the reset were cut", zap.Error(err))
	}
	s.start = to
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
	s.o.Log.Info("state saved", zap.String("file", path))
	return nil
}
