package streams_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rollcall-dev/rollcall/streams"
)

// catalogue is testdata/fields.json: Clerk's event types, the schema of each
// one's data, and the fields of all schemas.
type catalogue struct {
	Events  map[string]string            `json:"events"`
	Schemas map[string]map[string]string `json:"schemas"`
}

func loadCatalogue(t *testing.T) catalogue {
	t.Helper()
	var c catalogue
	if err := json.Unmarshal(readFile(t, "testdata/fields.json"), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parse(t testing.TB, body string) streams.Event {
	t.Helper()
	e, err := streams.ParseEvent(nil, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func payload[T any](t testing.TB, e streams.Event) T {
	t.Helper()
	p, err := e.Payload()
	if err != nil {
		t.Fatal(err)
	}
	typed, ok := p.(T)
	if !ok {
		t.Fatalf("payload of %s is a %T", e.Type, p)
	}
	return typed
}

// Every value of the official examples that a payload type has a field for is
// found in that field.
func TestPayloadOfExamples(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../cmd/rollcall/examples/*.json")
	if err != nil || len(files) != 45 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	for _, file := range files {
		e := parse(t, string(readFile(t, file)))
		t.Run(e.Type, func(t *testing.T) {
			t.Parallel()
			if want := strings.TrimSuffix(filepath.Base(file), ".json"); e.Type != want {
				t.Errorf("type %q in %s", e.Type, file)
			}
			if e.InstanceID == "" || !e.Timestamp.Equal(time.Unix(1716883200, 0)) || e.HTTPRequest.UserAgent == "" {
				t.Errorf("envelope: %+v", e)
			}
			p := payload[any](t, e)
			v := reflect.ValueOf(p).Elem()
			if v.FieldByName("ID").String() == "" {
				t.Error("no ID")
			}
			if raw := v.FieldByName("Raw").Bytes(); string(raw) != string(e.Data) {
				t.Errorf("Raw = %s", raw)
			}
			// What is encoded again is the example, but for null fields and
			// for what the specification does not list.
			encoded, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			subset(t, "data", decodeAny(t, e.Data), decodeAny(t, encoded))
		})
	}
}

func decodeAny(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// unlisted are fields that the examples have and the specification has not.
var unlisted = []string{
	"data.subscription_items.proration_date", "data.subscription_items.plan_period", "data.subscription_items.canceled_at",
	"data.subscription_items.past_due_at", "data.subscription_items.lifetime_paid", "data.subscription_items.next_payment_amount",
	"data.subscription_items.next_payment_date", "data.subscription_items.amount",
	"data.subscription_items.plan.instance_id", "data.subscription_items.plan.product_id", "data.subscription_items.plan.description",
	"data.subscription_items.plan.is_default", "data.subscription_items.plan.is_prorated", "data.subscription_items.plan.period",
	"data.subscription_items.plan.interval", "data.subscription_items.plan.has_base_fee",
	"data.subscription_items.plan.annual_monthly_amount", "data.subscription_items.plan.publicly_visible",
}

func subset(t *testing.T, path string, want, got any) {
	t.Helper()
	switch w := want.(type) {
	case map[string]any:
		g, _ := got.(map[string]any)
		for k, v := range w {
			if p := path + "." + k; !slices.Contains(unlisted, p) {
				subset(t, p, v, g[k])
			}
		}
	case []any:
		g, _ := got.([]any)
		if len(g) != len(w) && len(w) > 0 {
			t.Errorf("%s: %d of %d elements", path, len(g), len(w))
			return
		}
		for i := range w {
			subset(t, path, w[i], g[i])
		}
	case nil:
	default:
		if !reflect.DeepEqual(want, got) {
			t.Errorf("%s = %v, want %v", path, got, want)
		}
	}
}

// Every field of Clerk's specification, at any depth, has a Go field of a kind
// that takes it.
func TestPayloadsAreComplete(t *testing.T) {
	t.Parallel()
	c := loadCatalogue(t)
	var types []string
	for eventType, schema := range c.Events {
		types = append(types, eventType)
		p := payload[any](t, streams.Event{Type: eventType, Data: json.RawMessage("{}")})
		if _, ok := p.(*streams.Unknown); ok {
			t.Errorf("%s is unknown", eventType)
			continue
		}
		c.check(t, eventType, schema, reflect.TypeOf(p).Elem(), map[string]bool{})
	}
	slices.Sort(types)
	if diff := cmp.Diff(types, streams.Types()); diff != "" {
		t.Errorf("Types() differs from the catalogue (-want +got):\n%s", diff)
	}
}

func (c catalogue) check(t *testing.T, path, schema string, typ reflect.Type, seen map[string]bool) {
	t.Helper()
	if seen[schema] {
		return
	}
	seen[schema] = true
	fields, ok := c.Schemas[schema]
	if !ok || typ.Kind() != reflect.Struct {
		t.Errorf("%s: schema %s, Go type %s", path, schema, typ)
		return
	}
	for name, clerkType := range fields {
		field, ok := fieldByTag(typ, name)
		if !ok {
			t.Errorf("%s: %s has no field for %s", path, typ, name)
			continue
		}
		c.checkField(t, path+"."+name, clerkType, field.Type, seen)
	}
}

func (c catalogue) checkField(t *testing.T, path, clerkType string, typ reflect.Type, seen map[string]bool) {
	t.Helper()
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if inner, ok := strings.CutPrefix(clerkType, "array<"); ok {
		if typ.Kind() != reflect.Slice {
			t.Errorf("%s: %s for %s", path, typ, clerkType)
			return
		}
		clerkType, typ = strings.TrimSuffix(inner, ">"), typ.Elem()
	}
	kind, refs, _ := strings.Cut(clerkType, ":")
	kind, _, _ = strings.Cut(kind, "(")
	switch kind {
	case "ref", "oneOf":
		for schema := range strings.SplitSeq(refs, "|") {
			c.check(t, path, schema, typ, seen)
		}
		return
	case "object{public_organization_data}":
		_, ok := fieldByTag(typ, "public_organization_data")
		if !ok {
			t.Errorf("%s: %s", path, typ)
		}
		return
	}
	want := map[string][]reflect.Type{
		"string":  {reflect.TypeFor[string]()},
		"boolean": {reflect.TypeFor[bool]()},
		"integer": {reflect.TypeFor[int64](), reflect.TypeFor[streams.Millis]()},
		"number":  {reflect.TypeFor[float64]()},
		"object":  {reflect.TypeFor[json.RawMessage]()},
	}[kind]
	if !slices.Contains(want, typ) {
		t.Errorf("%s: %s for %s", path, typ, clerkType)
	}
	if strings.HasSuffix(path, "_at") && kind == "integer" && typ != reflect.TypeFor[streams.Millis]() {
		t.Errorf("%s: a time as %s", path, typ)
	}
}

func fieldByTag(typ reflect.Type, name string) (reflect.StructField, bool) {
	for f := range typ.Fields() {
		if f.Tag.Get("json") == name {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// Whatever type a field has in the JSON, neither it nor its neighbours fail.
func TestPayloadTolerates(t *testing.T) {
	t.Parallel()
	odd := []string{`null`, `true`, `"x"`, `-1`, `1.5`, `1e400`, `123456789012345678901234567890`, `[]`, `[1,"x",{},null]`, `{}`, `{"a":{"b":[1]}}`}
	c := loadCatalogue(t)
	for eventType, schema := range c.Events {
		for field := range c.Schemas[schema] {
			if field == "id" {
				continue
			}
			for _, value := range odd {
				data := `{"` + field + `":` + value + `,"new_field":{"x":1},"id":"some_1"}`
				e := streams.Event{Type: eventType, Data: json.RawMessage(data)}
				p, err := e.Payload()
				if err != nil {
					t.Errorf("%s %s: %v", eventType, data, err)
					continue
				}
				if id := reflect.ValueOf(p).Elem().FieldByName("ID").String(); id != "some_1" {
					t.Errorf("%s %s: id %q", eventType, data, id)
				}
			}
		}
	}
}

func TestPayloadRouting(t *testing.T) {
	t.Parallel()
	for eventType, want := range map[string]any{
		"user.snapshot":                  &streams.User{},
		"user.updated":                   &streams.User{},
		"user.deleted":                   &streams.Deleted{},
		"user.frozen":                    &streams.User{},
		"organizationMembership.deleted": &streams.OrganizationMembership{},
		"organizationMembership.created": &streams.OrganizationMembership{},
		"role.deleted":                   &streams.Deleted{},
		"permission.snapshot":            &streams.Permission{},
		"subscriptionItem.expired":       &streams.SubscriptionItem{},
		"invitation.created":             &streams.Invitation{},
		"rollcall.backfill":              &streams.Unknown{},
		"robot.deleted":                  &streams.Unknown{},
		"user":                           &streams.Unknown{},
		"user.a.b":                       &streams.Unknown{},
		"":                               &streams.Unknown{},
	} {
		// data.object says something else throughout.
		p := payload[any](t, streams.Event{Type: eventType, Data: json.RawMessage(`{"object":"email"}`)})
		if got := reflect.TypeOf(p); got != reflect.TypeOf(want) {
			t.Errorf("payload of %q is a %v, want %T", eventType, got, want)
		}
	}
	unknown := payload[*streams.Unknown](t, streams.Event{Type: "robot.created", Data: json.RawMessage(`[1]`)})
	if unknown.Type != "robot.created" || string(unknown.Data) != `[1]` {
		t.Errorf("%+v", unknown)
	}
	for _, data := range []string{"", "null", "[]", `"x"`, "1", "{"} {
		if _, err := (streams.Event{Type: "user.updated", Data: json.RawMessage(data)}).Payload(); err == nil {
			t.Errorf("data %q: no error", data)
		}
	}
}

func TestPayloadValues(t *testing.T) {
	t.Parallel()
	u := payload[*streams.User](t, parse(t, `{"type":"user.updated","data":{
		"id":"user_1","first_name":null,"last_name":"\u0000\ud800","banned":true,
		"last_sign_in_at":1700000000123,"mfa_enabled_at":null,"created_at":"yesterday","updated_at":1e300,
		"lockout_expires_in_seconds":0,"verification_attempts_remaining":null,
		"public_metadata":{"n":12345678901234567890,"id":"not the user's"},
		"email_addresses":[7,{"id":"idn_1","email_address":"ada@example.com","verification":{"status":"verified","attempts":null}}]}}`))
	if want := time.UnixMilli(1700000000123); !u.LastSignInAt.Equal(want) || u.LastSignInAt.Location() != time.UTC {
		t.Errorf("LastSignInAt = %v", u.LastSignInAt)
	}
	if !u.MFAEnabledAt.IsZero() || !u.CreatedAt.IsZero() || !u.UpdatedAt.IsZero() {
		t.Errorf("times %v %v %v, want zero", u.MFAEnabledAt, u.CreatedAt, u.UpdatedAt)
	}
	if u.ID != "user_1" || u.FirstName != "" || u.LastName != "\x00\uFFFD" || !u.Banned {
		t.Errorf("%q %q %q %v", u.ID, u.FirstName, u.LastName, u.Banned)
	}
	if u.LockoutExpiresInSeconds == nil || *u.LockoutExpiresInSeconds != 0 || u.VerificationAttemptsRemaining != nil {
		t.Error("0 and null are not told apart")
	}
	if got := string(u.PublicMetadata); got != `{"n":12345678901234567890,"id":"not the user's"}` {
		t.Errorf("PublicMetadata = %s", got)
	}
	if len(u.EmailAddresses) != 2 || u.EmailAddresses[1].Verification.Status != "verified" {
		t.Errorf("EmailAddresses = %+v", u.EmailAddresses)
	}
	if out, _ := json.Marshal([]streams.Millis{u.LastSignInAt, u.CreatedAt}); string(out) != "[1700000000123,null]" {
		t.Errorf("Millis encode as %s", out)
	}
}
