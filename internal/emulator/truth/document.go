package truth

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

const stateVersion = 1

// handler takes a saved state as it comes. Raw elements are valid until the call
// returns.
type handler interface {
	begin(instanceID string)
	// builtIn are roles and permissions that no event has told of: a store may lack
	// them until a backfill.
	builtIn(ids []string)
	// section says that a member of the instance with this name follows, and
	// whether its elements are wanted.
	section(name string) (wanted bool, err error)
	element(name string, raw []byte) error
	sectionEnd(name string) error
	// end comes with the deleted: by resource, id to milliseconds.
	end(deleted map[string]map[string]int64) error
}

// readState streams a saved state.
func readState(r io.Reader, h handler) error {
	d := &decoder{json.NewDecoder(r), h}
	version := 0
	err := d.object(func(name string) error {
		switch name {
		case "version":
			return d.Decode(&version)
		case "instances":
			_, err := d.array(d.instance)
			return err
		}
		return d.skip()
	})
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the state ends in the middle, after %d bytes", d.InputOffset())
	case err != nil:
		return err
	case version != stateVersion:
		return fmt.Errorf("the state has version %d, this clerkemu knows %d", version, stateVersion)
	}
	return nil
}

type decoder struct {
	*json.Decoder
	h handler
}

func (d *decoder) instance() error {
	id := ""
	var deleted map[string]map[string]int64
	err := d.object(func(name string) error {
		switch name {
		case "id":
			if err := d.Decode(&id); err != nil {
				return err
			}
			d.h.begin(id)
			return nil
		case "built_in":
			var ids []string
			if err := d.Decode(&ids); err != nil {
				return err
			}
			if id != "" {
				d.h.builtIn(ids)
			}
			return nil
		case "deleted":
			return d.Decode(&deleted)
		}
		wanted, err := d.h.section(name)
		if err != nil {
			return err
		}
		if !wanted {
			return d.skip()
		}
		if id == "" {
			return fmt.Errorf("an instance's id has to stand before its %s", name)
		}
		return d.resource(name)
	})
	if err != nil {
		return err
	}
	if id == "" {
		return errors.New("the state holds an instance without an id")
	}
	return d.h.end(deleted)
}

func (d *decoder) resource(name string) error {
	var raw json.RawMessage
	n, err := d.array(func() error {
		if err := d.Decode(&raw); err != nil {
			return err
		}
		return d.h.element(name, raw)
	})
	if err != nil {
		return fmt.Errorf("%s, element %d: %w", name, n, err)
	}
	return d.h.sectionEnd(name)
}

// object calls each with the name of every member; each reads the value.
func (d *decoder) object(each func(name string) error) error {
	if open, err := d.open('{'); err != nil || !open {
		return err
	}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		if err := each(name); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// array calls each for every element; each reads it. n is how many it has read.
func (d *decoder) array(each func() error) (n int, err error) {
	if open, err := d.open('['); err != nil || !open {
		return 0, err
	}
	for d.More() {
		if err := each(); err != nil {
			return n, err
		}
		n++
	}
	_, err = d.Token()
	return n, err
}

// open reads the beginning of an object or an array; null is an empty one.
func (d *decoder) open(want json.Delim) (bool, error) {
	token, err := d.Token()
	if err != nil {
		return false, err
	}
	if token == nil {
		return false, nil
	}
	if token != want {
		return false, fmt.Errorf("no saved state of clerkemu: byte %d should be %s", d.InputOffset(), strings.TrimSpace(want.String()))
	}
	return true, nil
}

func (d *decoder) skip() error {
	var raw json.RawMessage
	return d.Decode(&raw)
}
