package streams_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rollcall-dev/rollcall/streams"
	"go.yaml.in/yaml/v3"
)

// asyncapi.yaml is made from the Go types and constants, and holds them.
func TestAsyncAPI(t *testing.T) {
	t.Parallel()
	d := &document{source: parseSource(t), schemas: map[string]*yaml.Node{}}
	var out bytes.Buffer
	out.WriteString("# Made from the Go types of this folder by go test ./streams -update; a test holds the two together.\n")
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(d.root(t)); err != nil {
		t.Fatal(err)
	}
	holds(t, "asyncapi.yaml", out.String())
}

type document struct {
	source
	schemas map[string]*yaml.Node
}

// m is a mapping that keeps its order; of alternating keys and values, those
// with a nil value are left out.
func m(pairs ...any) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != nil && pairs[i+1] != "" {
			n.Content = append(n.Content, node(pairs[i]), node(pairs[i+1]))
		}
	}
	return n
}

func node(v any) *yaml.Node {
	if n, ok := v.(*yaml.Node); ok {
		return n
	}
	n := &yaml.Node{}
	if err := n.Encode(v); err != nil {
		panic(err)
	}
	if n.Kind == yaml.SequenceNode && !slices.ContainsFunc(n.Content, func(c *yaml.Node) bool { return len(c.Value) > 30 || c.Kind != yaml.ScalarNode }) {
		n.Style = yaml.FlowStyle
	}
	return n
}

func ref(path string) *yaml.Node { return m("$ref", "#/"+path) }

func (d *document) root(t *testing.T) *yaml.Node {
	names := payloadTypes(t)
	messages, inChannel := m(), m()
	for _, p := range names {
		messages.Content = append(messages.Content, node(p.name), d.message(p))
		inChannel.Content = append(inChannel.Content, node(p.name), ref("components/messages/"+p.name))
	}
	messages.Content = append(messages.Content, node("DeadLetter"), m(
		"title", "A message that a sink could not apply",
		"summary", "The message as it was, with the headers that say what went wrong. The body may be anything: those of ingest need not be JSON.",
		"headers", ref("components/schemas/DeadLetterHeaders"),
		"payload", m(),
	))
	messages.Content = append(messages.Content, node("Invalidation"), m(
		"title", "Keys of caches that went stale",
		"payload", d.schema(reflect.TypeFor[streams.Invalidation](), ""),
	))
	d.schemas["EventHeaders"] = headers(d.eventHeaders(), d.sources())
	d.schemas["DeadLetterHeaders"] = headers(slices.Concat(d.deadHeaders(), d.eventHeaders()), d.sources())
	d.schemas["Envelope"] = d.envelope()
	n := streams.Names{}
	return m(
		"asyncapi", "3.0.0",
		"info", m(
			"title", "Rollcall streams",
			"version", "1.0.0",
			"description", "Clerk's events in NATS JetStream, as a service reads them. README.md beside this file says how.",
			"license", m("name", "Apache-2.0", "url", "https://www.apache.org/licenses/LICENSE-2.0"),
		),
		"defaultContentType", "application/json",
		"servers", m("nats", m(
			"host", "{host}:{port}",
			"protocol", "nats",
			"description", "NATS server 2.11 or newer with JetStream. With a prefix (nats.prefix: staging) streams and buckets begin with STAGING_ and subjects with staging.",
			"variables", m("host", m("default", "127.0.0.1"), "port", m("default", "4222")),
		)),
		"channels", m(
			"events", m(
				"address", "clerk.{instance_id}.{resource}.{action}.{entity_id}",
				"title", "The log",
				"description", "Stream "+n.Stream()+", subjects "+n.StreamSubjects()+". Every event at least once and in any order; the id is Svix-Id, or Nats-Msg-Id where that is absent.",
				"messages", inChannel,
				"parameters", parameters("instance_id", "resource", "action", "entity_id"),
			),
			"deadLetters", m(
				"address", "rollcall.dead.{sink}.{resource}.{action}.{entity_id}",
				"title", "The dead letters",
				"description", "Stream "+n.DeadStream()+", subjects "+n.DeadSubjects()+".",
				"messages", m("DeadLetter", ref("components/messages/DeadLetter")),
				"parameters", parameters("sink", "resource", "action", "entity_id"),
			),
			"invalidations", m(
				"address", "rollcall.invalidate.{table}.{entity_id}",
				"title", "Stale keys of caches",
				"description", "Subjects "+n.InvalidateSubjects()+", in no stream: who isn't connected misses them.",
				"messages", m("Invalidation", ref("components/messages/Invalidation")),
				"parameters", parameters("table", "entity_id"),
			),
		),
		"operations", m(
			"readEvents", m("action", "receive", "channel", ref("channels/events"),
				"summary", "Read the log with a durable consumer of your own: explicit acknowledgement, no limit of deliveries."),
			"readDeadLetters", m("action", "receive", "channel", ref("channels/deadLetters")),
			"readInvalidations", m("action", "receive", "channel", ref("channels/invalidations")),
		),
		"components", m("messages", messages, "schemas", d.sortedSchemas()),
	)
}

func (d *document) sortedSchemas() *yaml.Node {
	var names []string
	for name := range d.schemas {
		names = append(names, name)
	}
	slices.Sort(names)
	n := m()
	for _, name := range names {
		n.Content = append(n.Content, node(name), d.schemas[name])
	}
	return n
}

// payloadType is a payload with the event types that carry it.
type payloadType struct {
	name  string
	typ   reflect.Type
	types []string
}

// payloadTypes lists the payloads by name, Unknown last. Snapshots are made of
// what the Backend API lists instance-wide.
func payloadTypes(t *testing.T) []payloadType {
	t.Helper()
	var all []payloadType
	add := func(eventType string) {
		typ := reflect.TypeOf(payload[any](t, streams.Event{Type: eventType, Data: json.RawMessage("{}")})).Elem()
		i := slices.IndexFunc(all, func(p payloadType) bool { return p.typ == typ })
		if i < 0 {
			i, all = len(all), append(all, payloadType{name: typ.Name(), typ: typ})
		}
		if !slices.Contains(all[i].types, eventType) {
			all[i].types = append(all[i].types, eventType)
		}
	}
	for _, eventType := range streams.Types() {
		add(eventType)
	}
	for _, action := range []string{streams.ActionLetterDropped, streams.ActionLettersRedriven, streams.ActionBackfillStarted, streams.ActionBackfillFinished, streams.ActionReconciled, streams.ActionRevoked, streams.ActionRevocationLifted} {
		add(streams.ResourceRollcall + "." + action)
	}
	for _, resource := range []string{"user", "organization", "organizationMembership", "organizationInvitation", "organizationDomain", "role", "permission", "waitlistEntry"} {
		add(resource + ".snapshot")
	}
	slices.SortFunc(all, func(a, b payloadType) int { return strings.Compare(a.name, b.name) })
	return append(all, payloadType{name: "Unknown", typ: reflect.TypeFor[streams.Unknown]()})
}

func (d *document) message(p payloadType) *yaml.Node {
	payload, summary := ref("components/schemas/Envelope"), ""
	if p.name == "Unknown" {
		summary = "An event of a resource that this version does not know: normal, to be acknowledged."
	} else {
		payload = m("allOf", []*yaml.Node{payload, m("properties", m("type", m("enum", p.types), "data", d.schema(p.typ, "")))})
	}
	return m("title", p.name, "summary", summary, "headers", ref("components/schemas/EventHeaders"), "payload", payload)
}

func (d *document) envelope() *yaml.Node {
	request := d.schema(reflect.TypeFor[*streams.HTTPRequest](), "")
	return m(
		"description", "The body as Clerk sent it, but for what Rollcall-Redacted names. Every field may be absent, null, or new.",
		"type", "object",
		"properties", m(
			"type", m("type", "string", "description", "resource.action; one you do not know is normal. It decides what data is, not data.object."),
			"object", m("type", "string", "description", "event"),
			"timestamp", m("type", "number", "description", "Clerk's clock when the event happened: milliseconds since 1970, or seconds where below 1e11."),
			"instance_id", nullable("string", "description", "Clerk's instance; the subject names it where this is absent."),
			"event_attributes", nullable("object", "properties", m("http_request", request)),
			"data", m("description", "The entity."),
		),
	)
}

// nullable is the schema of a JSON type that Clerk may always send as null.
func nullable(typ string, pairs ...any) *yaml.Node {
	return m(append([]any{"type", []string{typ, "null"}}, pairs...)...)
}

// schema describes a Go type, and puts structs among the components.
func (d *document) schema(typ reflect.Type, comment string) *yaml.Node {
	switch typ {
	case reflect.TypeFor[json.RawMessage]():
		return m("description", strings.TrimSpace("Any JSON. "+comment))
	case reflect.TypeFor[streams.Millis]():
		return nullable("integer", "format", "int64", "description", strings.TrimSpace("Milliseconds since 1970. "+comment))
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return d.schema(typ.Elem(), comment)
	case reflect.Slice:
		return nullable("array", "description", comment, "items", d.schema(typ.Elem(), ""))
	case reflect.Struct:
		return d.component(typ)
	case reflect.Bool:
		return nullable("boolean", "description", comment)
	case reflect.Int64:
		return nullable("integer", "format", "int64", "description", comment)
	case reflect.Float64:
		return nullable("number", "description", comment)
	}
	return nullable("string", "description", comment)
}

func (d *document) component(typ reflect.Type) *yaml.Node {
	name := typ.Name()
	if _, ok := d.schemas[name]; !ok {
		properties := m()
		d.schemas[name] = nullable("object", "description", d.comments[name], "properties", properties)
		for field := range typ.Fields() {
			if tag := field.Tag.Get("json"); tag != "-" {
				properties.Content = append(properties.Content, node(tag), d.schema(field.Type, d.comments[name+"."+field.Name]))
			}
		}
	}
	return ref("components/schemas/" + name)
}

func headers(constants, sources []constant) *yaml.Node {
	properties := m()
	for _, c := range constants {
		schema := m("type", "string", "description", c.comment)
		if c.value == streams.HeaderSource {
			var values []string
			for _, s := range sources {
				values = append(values, s.value)
			}
			schema = m("type", "string", "description", c.comment, "enum", values)
		}
		properties.Content = append(properties.Content, node(c.value), schema)
	}
	return m("type", "object", "properties", properties)
}

func parameters(names ...string) *yaml.Node {
	describe := map[string]*yaml.Node{
		"instance_id": m("description", "Clerk's instance, percent-encoded; _ where unknown.", "examples", []string{"ins_2g7"}),
		"resource":    m("description", "Clerk's name of it, percent-encoded.", "examples", []string{"user", "organizationMembership"}),
		"action":      m("description", "What happened to it, percent-encoded.", "examples", []string{"created", "updated"}),
		"entity_id":   m("description", "data.id, percent-encoded; _ where there is none.", "examples", []string{"user_2g7"}),
		"table":       m("description", "The store's table of it, percent-encoded.", "examples", []string{"users", "organization_memberships"}),
		"sink":        m("description", "Who could not apply it: ingest, store-<name>, audit, invalidate, revoke.", "examples", []string{"store-orders"}),
	}
	n := m()
	for _, name := range names {
		n.Content = append(n.Content, node(name), describe[name])
	}
	return n
}
