package audit

import (
	"encoding/json"
	"strings"

	"github.com/rollcall-dev/rollcall/internal/rawjson"
	"github.com/rollcall-dev/rollcall/streams"
)

// ocsfVersion is that of the schema that events are written in; the test holds
// them against it.
const ocsfVersion = "1.8.0"

// The classes of OCSF's category 3, Identity & Access Management.
const (
	ocsfAccountChange    = 3001
	ocsfAuthentication   = 3002
	ocsfEntityManagement = 3004
	ocsfGroupManagement  = 3006
	ocsfOther            = 99 // an activity that the schema doesn't name
)

type ocsfNamed struct {
	Name string `json:"name,omitempty"`
	UID  string `json:"uid,omitempty"`
	Type string `json:"type,omitempty"`
}

type ocsfUser struct {
	UID      string `json:"uid,omitempty"`
	Name     string `json:"name,omitempty"`
	FullName string `json:"full_name,omitempty"`
}

type ocsfProduct struct {
	Name   string `json:"name"`
	Vendor string `json:"vendor_name"`
}

type ocsfMetadata struct {
	Version   string      `json:"version"`
	Product   ocsfProduct `json:"product"`
	UID       string      `json:"uid"`
	Sequence  int64       `json:"sequence"`
	EventCode string      `json:"event_code"`
	LogName   string      `json:"log_name"`
	TenantUID string      `json:"tenant_uid,omitempty"`
	Logged    int64       `json:"logged_time"` // milliseconds
}

type ocsfActor struct {
	User ocsfUser `json:"user"`
}

type ocsfEndpoint struct {
	IP string `json:"ip"`
}

type ocsfRequest struct {
	UserAgent string `json:"user_agent"`
}

type ocsfSession struct {
	UID string `json:"uid"`
}

// ocsfEvent has the members of all four classes.
type ocsfEvent struct {
	Activity     int            `json:"activity_id"`
	ActivityName string         `json:"activity_name"`
	Category     int            `json:"category_uid"`
	Class        int            `json:"class_uid"`
	Type         int            `json:"type_uid"`
	Severity     int            `json:"severity_id"` // 1: informational
	Status       int            `json:"status_id"`   // 1: it happened
	Time         int64          `json:"time"`        // milliseconds
	Message      string         `json:"message"`
	Metadata     ocsfMetadata   `json:"metadata"`
	Actor        *ocsfActor     `json:"actor,omitempty"`
	Source       *ocsfEndpoint  `json:"src_endpoint,omitempty"`
	Request      *ocsfRequest   `json:"http_request,omitempty"`
	User         *ocsfUser      `json:"user,omitempty"`
	Service      *ocsfNamed     `json:"service,omitempty"`
	Session      *ocsfSession   `json:"session,omitempty"`
	Group        *ocsfNamed     `json:"group,omitempty"`
	Entity       *ocsfNamed     `json:"entity,omitempty"`
	Unmapped     map[string]any `json:"unmapped,omitempty"`
	RawData      string         `json:"raw_data,omitempty"`
}

// ocsf is the row as an event of OCSF's.
func (e *Entry) ocsf() *ocsfEvent {
	o := &ocsfEvent{
		Category: 3, Severity: 1, Status: 1, Time: e.ReceivedAt.UnixMilli(), Message: e.Type + " " + e.EntityID,
		Metadata: ocsfMetadata{
			Version: ocsfVersion, Product: ocsfProduct{"Rollcall", "Rollcall"}, UID: e.EventID, Sequence: e.Seq, EventCode: e.Type,
			LogName: DefaultSchema, TenantUID: e.InstanceID, Logged: e.ReceivedAt.UnixMilli(),
		},
		RawData: string(e.Payload),
	}
	if e.OccurredAt != nil {
		o.Time = e.OccurredAt.UnixMilli()
	}
	if e.ActorID != "" {
		o.Actor = &ocsfActor{ocsfUser{UID: e.ActorID}}
	}
	if e.ClientIP != "" {
		o.Source = &ocsfEndpoint{e.ClientIP}
	}
	if e.UserAgent != "" {
		o.Request = &ocsfRequest{e.UserAgent}
	}
	if len(e.Changed) > 0 {
		o.Unmapped = map[string]any{"changed": e.Changed}
	}
	e.classify(o)
	o.Type = o.Class*100 + o.Activity
	return o
}

// classify gives the event its class, activity and what it is about.
func (e *Entry) classify(o *ocsfEvent) {
	resource, action, _ := streams.SplitType(e.Type)
	data := rawjson.Member(e.Payload, "data")
	o.ActivityName = action
	switch resource {
	case "session":
		o.Class = ocsfAuthentication
		o.Activity = activity(action, map[string]int{"created": 1, "ended": 2, "removed": 2, "revoked": 2, "abandoned": 2, "expired": 2, "replaced": 2})
		o.User = e.user(first(text(data, "user_id"), text(rawjson.Member(data, "user"), "id")))
		o.Service = &ocsfNamed{Name: "Clerk", UID: e.InstanceID}
		o.Session = &ocsfSession{e.EntityID}
	case "user":
		o.Class = ocsfAccountChange
		o.Activity, o.ActivityName = e.accountActivity(action)
		o.User = e.user(e.EntityID)
		o.User.FullName = strings.TrimSpace(text(data, "first_name") + " " + text(data, "last_name"))
	case "organization":
		o.Class = ocsfGroupManagement
		o.Activity = activity(action, map[string]int{"created": 6, "deleted": 5})
		o.Group = &ocsfNamed{Name: text(data, "name"), UID: e.EntityID, Type: resource}
	case "organizationMembership":
		o.Class = ocsfGroupManagement
		o.Activity = activity(action, map[string]int{"created": 3, "deleted": 4})
		o.User = e.user(text(rawjson.Member(data, "public_user_data"), "user_id"))
		o.Group = &ocsfNamed{Name: text(rawjson.Member(data, "organization"), "name"), UID: first(e.OrganizationID, "unknown"), Type: "organization"}
	default:
		o.Class = ocsfEntityManagement
		o.Activity = activity(action, map[string]int{"created": 1, "updated": 3, "deleted": 4})
		o.Entity = &ocsfNamed{Name: text(data, "name"), UID: first(e.EntityID, "unknown"), Type: resource}
	}
}

// user names a user; one who isn't known, or was redacted, says so.
func (e *Entry) user(id string) *ocsfUser { return &ocsfUser{UID: first(id, "unknown")} }

func activity(action string, known map[string]int) int {
	if n, ok := known[action]; ok {
		return n
	}
	return ocsfOther
}

// accountActivity tells by what changed of a user.
func (e *Entry) accountActivity(action string) (int, string) {
	switch action {
	case "created":
		return 1, "Create"
	case "deleted":
		return 6, "Delete"
	}
	changed := map[string]json.RawMessage{}
	visitMembers(e.Changed, func(name string, value []byte) { changed[name] = value })
	for _, c := range []struct {
		field   string
		on, off int
		names   [2]string
	}{
		{"banned", 5, 2, [2]string{"Disable", "Enable"}},
		{"locked", 9, 12, [2]string{"Lock", "Unlock"}},
		{"two_factor_enabled", 10, 11, [2]string{"MFA Factor Enable", "MFA Factor Disable"}},
	} {
		switch string(rawjson.Member(changed[c.field], "after")) {
		case "true":
			return c.on, c.names[0]
		case "false":
			return c.off, c.names[1]
		}
	}
	if changed["password_last_updated_at"] != nil || changed["password_enabled"] != nil {
		return 3, "Password Change"
	}
	return ocsfOther, action
}

func visitMembers(object []byte, visit func(name string, value []byte)) {
	rawjson.Members(object, func(key, value []byte) { visit(string(key), value) })
}
