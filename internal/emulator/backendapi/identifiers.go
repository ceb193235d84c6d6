package backendapi

import "github.com/rollcall-dev/rollcall/internal/emulator/state"

// An identifier is what a user can have several of and sign in with: e-mail
// addresses and phone numbers, which the API treats alike.
type identifier struct {
	name    string // of the object, and of the parameter with its text
	of      func(*state.User) []identified
	primary func(id string) state.UserUpdate

	add    func(in *state.Instance, req state.Request, userID, text string, verified bool) (*state.User, string, error)
	verify func(in *state.Instance, req state.Request, userID, id string) (*state.User, error)
	remove func(in *state.Instance, req state.Request, userID, id string) (*state.User, error)
}

// identified is one of a user's identifiers.
type identified struct {
	id       string
	resource any
}

var emailAddresses = identifier{
	name: "email_address",
	of: func(u *state.User) []identified {
		all := make([]identified, len(u.EmailAddresses))
		for i := range u.EmailAddresses {
			all[i] = identified{u.EmailAddresses[i].ID, &u.EmailAddresses[i]}
		}
		return all
	},
	primary: func(id string) state.UserUpdate { return state.UserUpdate{PrimaryEmailAddressID: &id} },
	add:     (*state.Instance).AddEmail, verify: (*state.Instance).VerifyEmail, remove: (*state.Instance).RemoveEmail,
}

var phoneNumbers = identifier{
	name: "phone_number",
	of: func(u *state.User) []identified {
		all := make([]identified, len(u.PhoneNumbers))
		for i := range u.PhoneNumbers {
			all[i] = identified{u.PhoneNumbers[i].ID, &u.PhoneNumbers[i]}
		}
		return all
	},
	primary: func(id string) state.UserUpdate { return state.UserUpdate{PrimaryPhoneNumberID: &id} },
	add:     (*state.Instance).AddPhone, verify: (*state.Instance).VerifyPhone, remove: (*state.Instance).RemovePhone,
}

// one returns the user's identifier of this id; it fails if there is none.
func (k identifier) one(u *state.User, id string) (any, error) {
	for _, i := range k.of(u) {
		if i.id == id {
			return i.resource, nil
		}
	}
	return nil, errNotFound
}

// find returns whose the one of the path is. State finds users, so it looks at
// them all.
func (k identifier) find(r *request) (owner *state.User, id string, err error) {
	id = r.PathValue(k.name + "_id")
	for _, u := range r.inst.Users() {
		if _, err := k.one(u, id); err == nil {
			return u, id, nil
		}
	}
	return nil, "", errNotFound
}

func (k identifier) get(r *request) (any, error) {
	u, id, err := k.find(r)
	if err != nil {
		return nil, err
	}
	return k.one(u, id)
}

// wish is what a request asks of an identifier. Second factors aren't emulated.
type wish struct{ verified, primary bool }

func readWish(b *body) wish {
	b.ignore("notify_primary_email_address_changed", "reserved_for_second_factor")
	return wish{verified: b.boolean("verified").value, primary: b.boolean("primary").value}
}

func (k identifier) create(r *request) (any, error) {
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	userID, text, w := b.required("user_id"), b.required(k.name), readWish(b)
	if err := b.err(); err != nil {
		return nil, err
	}
	u, id, err := k.add(r.inst, r.change(), userID, text, w.verified)
	if err == nil && w.primary {
		u, err = r.inst.UpdateUser(r.change(), userID, k.primary(id))
	}
	if err != nil {
		return nil, err
	}
	return k.one(u, id)
}

func (k identifier) update(r *request) (any, error) {
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	w := readWish(b)
	if err := b.err(); err != nil {
		return nil, err
	}
	u, id, err := k.find(r)
	if err == nil && w.verified {
		u, err = k.verify(r.inst, r.change(), u.ID, id)
	}
	if err == nil && w.primary {
		u, err = r.inst.UpdateUser(r.change(), u.ID, k.primary(id))
	}
	if err != nil {
		return nil, err
	}
	return k.one(u, id)
}

func (k identifier) delete(r *request) (any, error) {
	u, id, err := k.find(r)
	if err != nil {
		return nil, err
	}
	if _, err := k.remove(r.inst, r.change(), u.ID, id); err != nil {
		return nil, err
	}
	return deleted{Object: k.name, ID: id, Deleted: true}, nil
}

// replace makes a new one the only one. State changes one at a time, so more
// than one user.updated is emitted.
func (k identifier) replace(r *request) (any, error) {
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	text := b.required(k.name)
	status := b.oneOf("identification_status", "verified", "reserved", "unverified").or("verified")
	b.ignore("notify_primary_email_address_changed")
	if err := b.err(); err != nil {
		return nil, err
	}
	old, err := r.user()
	if err != nil {
		return nil, err
	}
	u, id, err := k.add(r.inst, r.change(), old.ID, text, status == "verified")
	if err != nil {
		return nil, err
	}
	if u, err = r.inst.UpdateUser(r.change(), u.ID, k.primary(id)); err != nil {
		return nil, err
	}
	for _, other := range k.of(old) {
		if u, err = k.remove(r.inst, r.change(), u.ID, other.id); err != nil {
			return nil, err
		}
	}
	return k.one(u, id)
}
