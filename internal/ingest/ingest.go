// Package ingest takes Clerk's webhooks: verify, read the head, redact,
// publish, answer. A 2xx means that the event is stored; an authentic event
// that can't be routed is stored as a dead letter; everything else is refused
// and changes nothing.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/clerk"
	"github.com/rollcall-dev/rollcall/internal/publish"
	"github.com/rollcall-dev/rollcall/streams"
)

// Path of the webhook endpoint; a slash and an instance's name may follow.
const Path = "/webhooks/clerk"

// What happens to the one-time codes of email.created and sms.created.
const (
	CodesRedact = "redact" // nulled before publishing
	CodesDrop   = "drop"   // the event is answered with 204 and not stored
	CodesKeep   = "keep"
)

// lateAfter is when a delivery is likely to be a retry: Svix's first comes 5
// seconds after the attempt before.
const lateAfter = 4 * time.Second

// knownWait is how long a delivery waits for the list of erased people, which
// is read anew when a connection was lost.
const knownWait = 2 * time.Second

// Instance is one Clerk instance whose webhooks are taken.
type Instance struct {
	Name    string // of /webhooks/clerk/{name}; "" for the only one
	ID      string // "ins_…"; "" takes any under a valid signature
	Secrets []string
}

// headerRoom is the most that JetStream takes as a message's headers, in bytes.
const headerRoom = 64 << 10

// CheckPayload reports a broker whose max_payload, in bytes, leaves no room for
// the largest body and its headers: such an event could never be stored.
func CheckPayload(maxPayload, maxBody int64) error {
	if maxPayload >= maxBody+headerRoom {
		return nil
	}
	return fmt.Errorf("the broker's max_payload of %d bytes leaves no room for a body of %d (ingest.max_body) and its headers: raise max_payload to %d, or lower ingest.max_body to %d or less",
		maxPayload, maxBody, maxBody+headerRoom, max(maxPayload-headerRoom, 0))
}

// Publisher stores a message; publish.Publisher is one.
type Publisher interface {
	Publish(publish.Message) (duplicate bool, err error)
}

// Erased is who was erased; erased.List is one.
type Erased interface {
	// Wait returns once all of them are known.
	Wait(context.Context) error
	// Cut is what may be published of a body, and what was taken from it.
	Cut(body []byte) (cut []byte, paths []string)
}

// Options of a Handler.
type Options struct {
	Instances  []Instance
	Names      streams.Names
	MaxBody    int64         // bytes; a longer body is answered with 413
	MaxMemory  int64         // bytes held for requests at one time; beyond, 503
	Codes      string        // CodesRedact, CodesDrop or CodesKeep
	SessionTTL time.Duration // how long the log keeps session events; 0: for ever
	MessageTTL time.Duration // the same for emails and sms
	Publisher  Publisher
	Erased     Erased // nil: nobody
	Log        *zap.Logger
	Metrics    *Metrics
	// Shedding is told when requests begin to be shed, and when that is over.
	Shedding func(bool)
}

// Handler serves POST /webhooks/clerk and /webhooks/clerk/{instance}.
type Handler struct {
	o         Options
	endpoints map[string]*endpoint // by instance name
	memory    *budget
}

type endpoint struct {
	Instance
	verifier *clerk.Verifier
}

// New checks the secrets and makes a handler.
func New(o Options) (*Handler, error) {
	h := &Handler{o: o, endpoints: map[string]*endpoint{}, memory: newBudget(o.MaxMemory, o.Shedding)}
	for _, i := range o.Instances {
		v, err := clerk.NewVerifier(i.Secrets)
		if err != nil {
			return nil, fmt.Errorf("instance %q: %w; set CLERK_WEBHOOK_SIGNING_SECRET (or webhook_secrets) to the endpoint's secret from Clerk's dashboard", i.Name, err)
		}
		e := &endpoint{i, v}
		h.endpoints[i.Name] = e
		if len(o.Instances) == 1 {
			h.endpoints[""] = e
		}
	}
	return h, nil
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	e := h.endpoint(r.URL.Path)
	if e == nil {
		(&answer{status: http.StatusNotFound, code: "not_found", message: "webhooks are taken at " + Path + ", or " + Path + "/{instance} where several instances are configured"}).write(w)
		return
	}
	a := h.take(e, w, r, start)
	h.o.Metrics.answered(e.Name, a, time.Since(start))
	a.write(w)
}

// endpoint of a path; nil where it has none.
func (h *Handler) endpoint(path string) *endpoint {
	if path == Path {
		return h.endpoints[""]
	}
	if name, ok := strings.CutPrefix(path, Path+"/"); ok {
		return h.endpoints[name]
	}
	return nil
}

func (h *Handler) take(e *endpoint, w http.ResponseWriter, r *http.Request, received time.Time) *answer {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return refuse(http.StatusMethodNotAllowed, "method_not_allowed", "webhooks are sent with POST")
	}
	held, ok := h.memory.reserve(perRequest)
	if !ok {
		return busy("overloaded", "too much is being received at once")
	}
	defer held.release()
	body, failed := h.read(w, r, held)
	if failed != nil {
		return failed
	}
	delivery, err := e.verifier.Verify(r.Header, body)
	if err != nil {
		return refuseDelivery(err)
	}
	return h.store(r.Context(), e, delivery, r.Header.Get(streams.HeaderTraceparent), body, received)
}

// store publishes an authentic event.
func (h *Handler) store(ctx context.Context, e *endpoint, d clerk.Delivery, traceparent string, body []byte, received time.Time) *answer {
	if h.o.Erased != nil {
		known, cancel := context.WithTimeout(ctx, knownWait)
		err := h.o.Erased.Wait(known)
		cancel()
		if err != nil {
			return busy("unavailable", "who was erased isn't known just now, and nobody erased may come back")
		}
	}
	head, err := clerk.ParseHead(body)
	if err == nil && e.ID != "" && head.InstanceID != "" && head.InstanceID != e.ID {
		err = &clerk.Unusable{Reason: fmt.Sprintf("the body is of instance %.64q, this endpoint's is %q", head.InstanceID, e.ID)}
	}
	if head.InstanceID == "" {
		head.InstanceID = e.ID
	}
	var redacted []string
	if clerk.CarriesCode(head.Resource) {
		switch h.o.Codes {
		case CodesDrop:
			return stored
		case CodesRedact:
			body, redacted = clerk.Redact(body)
		}
	}
	if h.o.Erased != nil {
		cut, paths := h.o.Erased.Cut(body)
		body, redacted = cut, append(redacted, paths...)
	}
	m := h.message(d, head, traceparent, body, redacted, received)
	var unusable *clerk.Unusable
	if errors.As(err, &unusable) {
		return h.deadLetter(e, m, head, unusable.Reason)
	}
	duplicate, err := h.o.Publisher.Publish(m)
	if err != nil {
		return h.unstored(err)
	}
	if duplicate {
		return again
	}
	return stored
}

func (h *Handler) message(d clerk.Delivery, head clerk.Head, traceparent string, body []byte, redacted []string, received time.Time) publish.Message {
	// One backing array for the values: a header a value would be an allocation each.
	values := [...]string{d.ID, d.Timestamp, d.Signature, string(streams.SourceWebhook), strconv.FormatInt(received.UnixMilli(), 10)}
	header := make(nats.Header, 12)
	header[streams.HeaderMsgID] = values[0:1:1]
	header[streams.HeaderSvixID] = values[0:1:1]
	header[streams.HeaderSvixTimestamp] = values[1:2:2]
	header[streams.HeaderSvixSignature] = values[2:3:3]
	header[streams.HeaderSource] = values[3:4:4]
	header[streams.HeaderReceivedAt] = values[4:5:5]
	if redacted != nil {
		header[streams.HeaderRedacted] = []string{list(redacted)}
	}
	if traceparent != "" && len(traceparent) <= 128 {
		header[streams.HeaderTraceparent] = []string{traceparent}
	}
	if ttl := h.ttl(head.Resource); ttl > 0 {
		header[streams.HeaderTTL] = []string{ttl.String()}
	}
	attempt, _ := strconv.ParseInt(d.Timestamp, 10, 64)
	return publish.Message{
		Msg:  &nats.Msg{Subject: h.o.Names.Subject(head.Subject), Header: header, Data: body},
		Late: !head.Timestamp.IsZero() && time.Unix(attempt, 0).Sub(head.Timestamp) > lateAfter,
	}
}

// list joins the paths that were redacted, as far as they fit: JetStream takes
// no more than 64 KiB of headers, and a body may name any number of paths.
func list(paths []string) string {
	const most = 8 << 10
	size := 0
	for i, p := range paths {
		if size += len(p) + 1; size > most {
			return strings.Join(append(paths[:i:i], "..."), ",")
		}
	}
	return strings.Join(paths, ",")
}

// ttl of what grows without end and heals itself.
func (h *Handler) ttl(resource string) time.Duration {
	switch resource {
	case "session":
		return h.o.SessionTTL
	case "email", "sms":
		return h.o.MessageTTL
	}
	return 0
}

// deadLetter keeps an authentic event that can't be routed.
func (h *Handler) deadLetter(e *endpoint, m publish.Message, head clerk.Head, reason string) *answer {
	subject := head.Subject
	for _, token := range []*string{&subject.Resource, &subject.Action, &subject.EntityID} {
		if len(streams.Token(*token)) > streams.MaxToken {
			*token = ""
		}
	}
	m.Subject = h.o.Names.DeadSubject(streams.SinkIngest, subject)
	m.Single = true // another stream than the log
	m.Header.Del(streams.HeaderTTL)
	// Its own id: the event itself is still free to come under the svix-id.
	m.Header.Set(streams.HeaderMsgID, streams.SinkIngest+":"+m.Header.Get(streams.HeaderSvixID))
	m.Header.Set(streams.HeaderReason, reason)
	m.Header.Set(streams.HeaderSink, streams.SinkIngest)
	m.Header.Set(streams.HeaderAttempts, "1")
	duplicate, err := h.o.Publisher.Publish(m)
	if err != nil {
		return h.unstored(err)
	}
	if !duplicate {
		h.o.Metrics.DeadLetters.Inc()
		h.o.Log.Warn("event kept as a dead letter", zap.String("instance", e.Name), zap.String("reason", reason), zap.String("event_id", m.Header.Get(streams.HeaderSvixID)))
	}
	return &answer{status: http.StatusAccepted, code: "dead_letter", message: "stored as a dead letter: " + reason}
}

func (h *Handler) unstored(err error) *answer {
	if errors.Is(err, publish.ErrFull) {
		return busy("log_full", "the event log has reached its limit; see rollcall_log_limit_bytes")
	}
	if errors.Is(err, publish.ErrTooLarge) {
		return busy("too_large_for_broker", "the broker's max_payload leaves no room for the body and its headers; raise max_payload")
	}
	h.o.Log.Debug("event not stored", zap.Error(err))
	return busy("unavailable", "the event can't be stored just now")
}
