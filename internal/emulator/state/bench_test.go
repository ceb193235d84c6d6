package state_test

import (
	"io"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

func BenchmarkSave(b *testing.B) {
	s, in := newInstance(b, 7)
	in.Seed(state.SeedOptions{Users: 10_000, Organizations: 200, Memberships: 10_000})
	for b.Loop() {
		if err := s.Save(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSeed(b *testing.B) {
	for b.Loop() {
		_, in := newInstance(b, 7)
		in.Seed(state.SeedOptions{Users: 100_000, Organizations: 5_000, Memberships: 300_000})
	}
}

func BenchmarkUpdateUser(b *testing.B) {
	_, in := newInstance(b, 7)
	in.Seed(state.SeedOptions{Users: 10_000})
	size := 0
	in.OnEvent(func(e state.Event) { size += len(e.Body) })
	users := in.Users()
	name := "Ada"
	for i := 0; b.Loop(); i++ {
		if _, err := in.UpdateUser(state.Request{}, users[i%len(users)].ID, state.UserUpdate{FirstName: &name}); err != nil {
			b.Fatal(err)
		}
	}
}
