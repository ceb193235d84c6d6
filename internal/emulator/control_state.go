package emulator

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// getState writes the state to a file first: while it is saved nothing can
// change, and a client may be slow to read.
func getState(c *call) (any, error) {
	f, err := unnamedFile()
	if err != nil {
		return nil, c.server.internal("save the state", err)
	}
	if err := c.server.save(c.world, f); err != nil {
		return nil, errors.Join(c.server.internal("save the state", err), f.Close())
	}
	return respond(func(w http.ResponseWriter, r *http.Request) {
		defer f.Close()
		w.Header().Set("Content-Type", "application/json")
		http.ServeContent(w, r, "", time.Time{}, f)
	}), nil
}

// internal logs an error of ours; the client learns that there was one.
func (s *Server) internal(what string, err error) error {
	s.o.Log.Error(what, zap.Error(err))
	return refuse(http.StatusInternalServerError, "internal_error", what+": "+err.Error())
}

func putState(c *call) (any, error) {
	s := c.server
	to, err := keepBaseline(s.o, c.Body)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "request_body_invalid", err.Error())
	}
	if err := s.load(c.Context(), to); err != nil {
		return nil, refuse(http.StatusUnprocessableEntity, "state_invalid", err.Error())
	}
	if err := s.writeEnvFile(); err != nil { // the keys are others
		return nil, s.internal("write the environment file", err)
	}
	return map[string]any{"instances": s.Instances()}, nil
}

func resetState(c *call) (any, error) {
	if err := c.server.reset(c.Context()); err != nil {
		return nil, c.server.internal("reset", err)
	}
	return map[string]any{"instances": c.server.Instances()}, nil
}

// Summary is how much an instance holds.
type Summary struct {
	ID            string `json:"id"`
	Name          string `json:"name"`
	Users         int    `json:"users"`
	Organizations int    `json:"organizations"`
	Memberships   int    `json:"organization_memberships"`
}

func (i *instance) summary() Summary {
	return Summary{i.ID, i.Name, len(i.Users()), len(i.Organizations()), len(i.Memberships())}
}

// Instances are the instances, in order of creation.
func (s *Server) Instances() []Summary {
	all := []Summary{}
	for _, i := range s.world.Load().all() {
		all = append(all, i.summary())
	}
	return all
}

// instanceView is an instance with all that gives access to it.
type instanceView struct {
	Summary
	SecretKey      string            `json:"secret_key"`
	PublishableKey string            `json:"publishable_key"`
	Issuer         string            `json:"issuer"`
	JWKSURL        string            `json:"jwks_url"`
	Environment    map[string]string `json:"environment"`
}

func (s *Server) view(i *instance) (instanceView, error) {
	v := instanceView{
		Summary: i.summary(), SecretKey: i.SecretKey, PublishableKey: i.PublishableKey, Issuer: i.Issuer,
		JWKSURL: s.URL() + "/instances/" + i.ID + "/.well-known/jwks.json", Environment: map[string]string{},
	}
	vars, err := i.environment(s.URL())
	for _, e := range vars {
		v.Environment[e.Name] = e.Value
	}
	return v, err
}

func listInstances(c *call) (any, error) {
	all := []instanceView{}
	for _, i := range c.each {
		v, err := c.server.view(i)
		if err != nil {
			return nil, c.server.internal("list the instances", err)
		}
		all = append(all, v)
	}
	return map[string]any{"data": all}, nil
}

func addInstance(c *call) (any, error) {
	p, err := decode[struct {
		Name          string `json:"name"`
		Users         int    `json:"users"`
		Organizations int    `json:"organizations"`
		Memberships   int    `json:"memberships"`
	}](c)
	if err != nil {
		return nil, err
	}
	if err := checkName(p.Name); err != nil {
		return nil, err
	}
	if p.Users < 0 || p.Organizations < 0 || p.Memberships < 0 {
		return nil, invalid("users, organizations and memberships", "0 or more")
	}
	s := c.server
	s.swap.Lock()
	defer s.swap.Unlock()
	w := s.world.Load()
	if w.named(p.Name) != nil {
		return nil, refuse(http.StatusUnprocessableEntity, "form_identifier_exists", fmt.Sprintf("There is an instance %s already.", p.Name))
	}
	in := w.state.AddInstance(state.InstanceOptions{Name: p.Name, EmitCascade: s.o.EmitCascade})
	in.Seed(state.SeedOptions{Users: p.Users, Organizations: p.Organizations, Memberships: p.Memberships})
	o := s.o
	o.WebhookSecret = "" // the first instance's
	if err := w.add(in, o); err != nil {
		return nil, s.internal("add an instance", err)
	}
	return s.view(w.named(p.Name))
}
