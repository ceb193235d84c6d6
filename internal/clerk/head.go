package clerk

import (
	"errors"
	"fmt"
	"time"

	"github.com/rollcall-dev/rollcall/internal/rawjson"
	"github.com/rollcall-dev/rollcall/streams"
)

// MaxDepth is how deeply a body may be nested; Clerk's are below ten.
const MaxDepth = 1000

// Head is what routing needs of an event's body.
type Head struct {
	streams.Subject           // absent ids are ""
	Timestamp       time.Time // Clerk's clock; zero where the body has none
}

// Unusable is an authentic body that can't be routed. It is kept, as a dead
// letter with this reason.
type Unusable struct{ Reason string }

func (u *Unusable) Error() string { return u.Reason }

// ParseHead checks that the body is JSON and reads its head. The error is an
// *Unusable; the head then has what could be read all the same.
func ParseHead(body []byte) (Head, error) {
	if err := rawjson.Check(body, MaxDepth); err != nil {
		if errors.Is(err, rawjson.ErrTooDeep) {
			return Head{}, &Unusable{fmt.Sprintf("the body is nested more than %d levels deep", MaxDepth)}
		}
		return Head{}, &Unusable{"the body is not JSON"}
	}
	if rawjson.Kind(body) != '{' {
		return Head{}, &Unusable{"the body is JSON, but not an object"}
	}
	h, eventType := readHead(body)
	var ok bool
	if h.Resource, h.Action, ok = streams.SplitType(eventType); !ok {
		h.Resource, h.Action = "", ""
		return h, &Unusable{"the body has no type of the form resource.action"}
	}
	for _, token := range []struct{ what, value string }{
		{"instance_id", h.InstanceID}, {"type", h.Resource}, {"type", h.Action}, {"data.id", h.EntityID},
	} {
		if len(streams.Token(token.value)) > streams.MaxToken {
			return h, &Unusable{fmt.Sprintf("%s is longer than the %d bytes that a subject token may have", token.what, streams.MaxToken)}
		}
	}
	return h, nil
}

func readHead(body []byte) (h Head, eventType string) {
	rawjson.Members(body, func(key, value []byte) {
		switch string(key) {
		case "type":
			eventType, _ = rawjson.Text(value)
		case "instance_id":
			h.InstanceID, _ = rawjson.Text(value)
		case "timestamp":
			if rawjson.Kind(value) == '-' {
				h.Timestamp = streams.ParseTimestamp(string(value))
			}
		case "data":
			h.EntityID, _ = rawjson.Text(rawjson.Member(value, "id"))
		}
	})
	return h, eventType
}
