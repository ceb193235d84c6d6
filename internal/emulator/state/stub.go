package state

import "io"

func (s *State) Save(w io.Writer) error { panic("soon") }

func Load(r io.Reader, o Options) (*State, error) { panic("soon") }

func (in *Instance) Seed(o SeedOptions) { panic("soon") }
func (in *Instance) seedRoles()         {}
