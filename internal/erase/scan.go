package erase

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-dev/rollcall/internal/erased"
	"github.com/rollcall-dev/rollcall/streams"
)

// class is what is to become of a message, in the order in which it becomes it.
type class int

const (
	byAddress class = iota // overwritten
	mention                // published again without the person, then overwritten
	own                    // overwritten
	ofUser                 // overwritten; the addresses are read from these
	classes
)

// place is a message.
type place struct {
	stream   string
	sequence uint64
}

// entity is one that was the person's.
type entity struct {
	instanceID, resource, id string
	byAddress                bool // and by no user's id
}

// findings are what a scan finds.
type findings struct {
	places    [classes][]place
	entities  map[string]entity // by id; without the user
	spellings map[string]bool   // addresses, as they were written
	shared    map[string]bool   // addresses, in lower case, that other users have too
	sharing   map[string]int    // other users' messages with one, by stream
	copies    map[string]bool   // streams that only copy another
	names     []string          // of streams
}

func (f *findings) counts() (list []Stream) {
	for _, name := range f.names {
		s := Stream{Stream: name, Shared: f.sharing[name]}
		for c, n := range map[class]*int{byAddress: &s.ByAddress, mention: &s.Cut, own: &s.Own, ofUser: &s.Own} {
			for _, p := range f.places[c] {
				if p.stream == name {
					*n++
				}
			}
		}
		list = append(list, s)
	}
	return list
}

// scan reads the log, the dead letters and their mirrors: first the user's own
// events, for the addresses, then all.
func (r *run) scan(ctx context.Context) (*findings, error) {
	f := &findings{entities: map[string]entity{}, spellings: map[string]bool{}, shared: map[string]bool{}, sharing: map[string]int{}}
	var err error
	if f.names, f.copies, err = r.streams(ctx); err != nil {
		return nil, err
	}
	id := streams.Token(r.UserID)
	for _, name := range f.names {
		of := strings.TrimSuffix(r.Names.StreamSubjects(), ">") + "*.user.*." + id
		if name == r.Names.DeadStream() {
			of = strings.TrimSuffix(r.Names.DeadSubjects(), ">") + "*.user.*." + id
		}
		err := r.read(ctx, name, of, func(m jetstream.Msg, _ uint64) {
			if e, ok := erased.Read(m.Data()); ok {
				r.learn(f, &e)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	for _, name := range f.names {
		r.Progress("reading "+name, 0, 0)
		if err := r.read(ctx, name, "", func(m jetstream.Msg, sequence uint64) { r.classify(f, name, sequence, m) }); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// streams are those that hold events; copies are mirrors of others.
func (r *run) streams(ctx context.Context) (names []string, copies map[string]bool, err error) {
	names, copies = []string{r.Names.Stream(), r.Names.DeadStream()}, map[string]bool{}
	all := r.JetStream.ListStreams(ctx)
	for info := range all.Info() {
		of := info.Config.Sources
		if info.Config.Mirror != nil {
			of = append(of, info.Config.Mirror)
		}
		if slices.ContainsFunc(of, func(s *jetstream.StreamSource) bool {
			return s.External == nil && slices.Contains(names[:2], s.Name)
		}) {
			names, copies[info.Config.Name] = append(names, info.Config.Name), true
		}
	}
	if err := all.Err(); err != nil {
		return nil, nil, fmt.Errorf("look for mirrors of %s: %w", names[0], err)
	}
	return names, copies, nil
}

// shortest is an address that is looked for: a shorter text is in too much.
const shortest = 5

// learn reads the person's addresses from an event of the user.
func (r *run) learn(f *findings, e *erased.Event) {
	e.Strings(func(name, text string) {
		switch name {
		case "email_address", "phone_number":
		default:
			return
		}
		if len(text) < shortest {
			return
		}
		f.spellings[text] = true
		if lower := strings.ToLower(text); !slices.Contains(r.texts, lower) {
			r.texts = append(r.texts, lower)
		}
	})
	if e.InstanceID != "" && !slices.Contains(r.instances, e.InstanceID) {
		r.instances = append(r.instances, e.InstanceID)
	}
}

// addressed are the resources that are a person's by address alone, and the
// members that have it.
var addressed = map[string][]string{
	"email":                  {"to_email_address"},
	"sms":                    {"to_phone_number"},
	"organizationInvitation": {"email_address"},
	"invitation":             {"email_address"},
	"waitlistEntry":          {"email_address"},
}

func (r *run) classify(f *findings, stream string, sequence uint64, m jetstream.Msg) {
	at, body := place{stream, sequence}, m.Data()
	e, ok := erased.Read(body)
	if !ok {
		if last := m.Subject()[strings.LastIndexByte(m.Subject(), '.')+1:]; r.ids.Named(body) || len(body) > 0 && r.ids.Has(last) || r.in(f, string(body)) {
			f.places[own] = append(f.places[own], at)
		}
		return
	}
	switch {
	case e.Resource == streams.ResourceRollcall:
	case e.EntityID == r.UserID && e.Resource == "user":
		if !clean(&e, body) {
			f.places[ofUser] = append(f.places[ofUser], at)
		}
	case e.Owner == "" && r.isAddressed(f, &e):
		r.found(f, &e, true)
		f.places[byAddress] = append(f.places[byAddress], at)
	case e.Owner == r.UserID || r.ids.Has(e.EntityID):
		r.found(f, &e, false)
		if !clean(&e, body) {
			f.places[own] = append(f.places[own], at)
		}
	case e.Owner != "": // another's: by id alone, since an address may be two users'
		if _, paths := e.Without(r.ids, nil); paths != nil {
			f.places[mention] = append(f.places[mention], at)
		}
		shares := false
		e.Strings(func(_, text string) {
			if t := r.find(f, text); t != "" {
				shares, f.shared[t] = true, true
			}
		})
		if shares {
			f.sharing[stream]++
		}
	default:
		if _, paths := e.Without(r.ids, func(text string) bool { return r.in(f, text) }); paths != nil {
			f.places[mention] = append(f.places[mention], at)
		}
	}
}

// clean reports whether there are only type, ids and times.
func clean(e *erased.Event, body []byte) bool { return bytes.Equal(e.Reduced(), bytes.TrimSpace(body)) }

func (r *run) found(f *findings, e *erased.Event, byAddress bool) {
	if e.EntityID == "" || e.EntityID == r.UserID {
		return
	}
	if had, known := f.entities[e.EntityID]; known {
		byAddress = byAddress && had.byAddress
	}
	f.entities[e.EntityID] = entity{e.InstanceID, e.Resource, e.EntityID, byAddress}
}

func (r *run) isAddressed(f *findings, e *erased.Event) bool {
	for _, member := range addressed[e.Resource] {
		if r.in(f, e.Text(member)) {
			return true
		}
	}
	return r.in(f, e.Text("payer", "email"))
}

func (r *run) in(f *findings, text string) bool { return r.find(f, text) != "" }

// find is which of the person's addresses a text holds, as a word of its own; ""
// for none.
func (r *run) find(f *findings, text string) string {
	lower := strings.ToLower(text)
	for _, t := range r.texts {
		for rest, at := lower, 0; ; {
			i := strings.Index(rest, t)
			if i < 0 {
				break
			}
			at += i
			if !joins(lower[:at], true) && !joins(lower[at+len(t):], false) {
				if len(text) == len(t) {
					f.spellings[text] = true
				}
				return t
			}
			at += len(t)
			rest = lower[at:]
		}
	}
	return ""
}

// joins reports whether a neighbour of an address makes it part of a longer one.
func joins(neighbour string, before bool) bool {
	letter := func(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c >= 0x80 }
	switch {
	case neighbour == "":
		return false
	case before:
		c := neighbour[len(neighbour)-1]
		return letter(c) || strings.IndexByte("._%+-", c) >= 0
	}
	return letter(neighbour[0]) || strings.IndexByte(".-", neighbour[0]) >= 0 && len(neighbour) > 1 && letter(neighbour[1])
}

// read visits the messages of a stream that there are now.
func (r *run) read(ctx context.Context, name, subject string, visit func(m jetstream.Msg, sequence uint64)) error {
	err := r.readAll(ctx, name, subject, visit)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

func (r *run) readAll(ctx context.Context, name, subject string, visit func(m jetstream.Msg, sequence uint64)) error {
	stream, err := r.JetStream.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return errors.New("there is no such stream yet: rollcall streams apply makes it")
	}
	if err != nil {
		return err
	}
	config := jetstream.OrderedConsumerConfig{}
	if subject != "" {
		config.FilterSubjects = []string{subject}
	}
	consumer, err := stream.OrderedConsumer(ctx, config)
	if err != nil {
		return err
	}
	defer func() { _ = stream.DeleteConsumer(context.WithoutCancel(ctx), consumer.CachedInfo().Name) }() // else it ends by itself
	if consumer.CachedInfo().NumPending == 0 {
		return nil
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	last := stream.CachedInfo().State.LastSeq
	for {
		m, err := next(ctx, messages)
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if meta.Sequence.Stream > last {
			return nil
		}
		visit(m, meta.Sequence.Stream)
		if meta.NumPending == 0 {
			return nil
		}
	}
}

// next is the next message; one that doesn't come is an error.
func next(ctx context.Context, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerWait, errors.New("NATS doesn't answer"))
	defer cancel()
	m, err := messages.Next(jetstream.NextContext(ctx))
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return m, err
}
