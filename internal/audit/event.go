package audit

import (
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/rollcall-dev/rollcall/internal/projection"
	"github.com/rollcall-dev/rollcall/internal/rawjson"
	"github.com/rollcall-dev/rollcall/streams"
)

// record is a row to be, with what of its event the log needs beside it.
type record struct {
	row
	userID   string // whose entity it is; "" unknown, or a user's
	contents bool   // the event shows the entity whole: the next is compared with it
	created  bool   // the entity's first, which is compared with none
	before   []byte // the entity's event before, once it is known; nil: nothing to compare with
}

// reader makes records of messages.
type reader struct {
	names  streams.Names
	tables map[string]string // by Clerk's name
}

func newReader(names streams.Names) *reader {
	r := &reader{names: names, tables: map[string]string{}}
	for _, resource := range projection.Resources() {
		r.tables[resource.Object] = resource.Table
	}
	return r
}

// wanted reports whether a message is a row: of a backfill only the run is, not
// each snapshot.
func (r *reader) wanted(m *streams.Message) bool {
	if m.Header.Get(streams.HeaderSource) != string(streams.SourceBackfill) {
		return true
	}
	s, err := r.names.ParseSubject(m.Subject)
	return err != nil || s.Action != "snapshot"
}

// longest is how much of an id or an address is believed: what is indexed must
// stay short, and the payload has all of it.
const longest = 512 // bytes

// read makes a record. It has no error: a body that says nothing is a row too.
func (r *reader) read(m *streams.Message) *record {
	subject, err := r.names.ParseSubject(m.Subject)
	if err != nil {
		subject = streams.Subject{Resource: "unknown", Action: "unknown"}
	}
	header := func(name string) string { return storable(m.Header.Get(name)) }
	rec := &record{row: row{
		eventID: header(streams.HeaderSvixID), instanceID: storable(subject.InstanceID), entityID: storable(subject.EntityID),
		eventType: storable(subject.Type()), resource: r.table(subject.Resource), source: header(streams.HeaderSource),
		svixTimestamp: header(streams.HeaderSvixTimestamp), occurredAt: noTime, receivedAt: m.Time.UnixMicro(), epoch: m.Epoch, streamSeq: int64(m.Sequence),
	}}
	if rec.eventID == "" {
		rec.eventID = header(streams.HeaderMsgID)
	}
	if rec.eventID == "" {
		rec.eventID = strconv.FormatInt(m.Epoch, 10) + ":" + strconv.FormatUint(m.Sequence, 10)
	}
	if header(streams.HeaderRedacted) == "" {
		rec.svixSignature = header(streams.HeaderSvixSignature)
	}
	if ms, err := strconv.ParseInt(m.Header.Get(streams.HeaderReceivedAt), 10, 64); err == nil && ms > 0 && ms < maxMillis {
		rec.receivedAt = ms * 1000
	}
	rec.personal[payload].value = m.Data
	if m.Data == nil {
		rec.personal[payload].value = []byte{} // an empty body isn't null
	}
	rec.envelope(m.Data, subject)
	return rec
}

// maxMillis is the end of the year 9999: Postgres's months go further, ours needn't.
const maxMillis = 253402300800000

// envelope reads what the body says around its data.
func (rec *record) envelope(body []byte, subject streams.Subject) {
	var data []byte
	rawjson.Members(body, func(key, value []byte) {
		switch string(key) {
		case "timestamp":
			if at := streams.ParseTimestamp(string(value)); !at.IsZero() && at.UnixMilli() < maxMillis && at.UnixMilli() > -maxMillis {
				rec.occurredAt = at.UnixMicro()
			}
		case "event_attributes":
			request := rawjson.Member(value, "http_request")
			rec.set(clientIP, short(text(request, "client_ip")))
			rec.set(userAgent, text(request, "user_agent"))
		case "data":
			data = value
		}
	})
	rec.facts(data, subject)
}

func (rec *record) set(column int, value string) {
	if value != "" {
		rec.personal[column].value = []byte(value)
	}
}

// facts reads from the data whose the entity is, which organization's, and who
// acted.
func (rec *record) facts(data []byte, subject streams.Subject) {
	if rawjson.Kind(data) != '{' {
		return
	}
	rec.contents = subject.Action != "deleted" && subject.EntityID != ""
	rec.created = subject.Action == "created"
	f := members(data, "user_id", "organization_id", "last_active_organization_id", "organization", "public_user_data", "payer", "actor", "created_by", "inviter_id")
	rec.userID = first(textOf(f["user_id"]), text(f["public_user_data"], "user_id"), text(f["payer"], "user_id"))
	rec.organizationID = first(textOf(f["organization_id"]), text(f["organization"], "id"), text(f["payer"], "organization_id"), textOf(f["last_active_organization_id"]))
	actor := first(text(f["actor"], "sub"), text(f["actor"], "id"), textOf(f["actor"]))
	switch subject.Resource {
	case streams.ResourceRollcall:
		actor = text(data, "by")
	case "user":
		rec.userID = "" // the entity itself
	case "organization":
		rec.organizationID = rec.entityID
		if subject.Action == "created" {
			actor = first(actor, textOf(f["created_by"]))
		}
	case "organizationInvitation":
		if subject.Action == "created" {
			actor = first(actor, textOf(f["inviter_id"]))
		}
	}
	rec.set(actorID, short(actor))
	rec.userID, rec.organizationID = short(rec.userID), short(rec.organizationID)
}

// table is the resource's name in SQL: organizationMembership is
// organization_memberships; what has no table keeps Clerk's name, as sms.
func (r *reader) table(object string) string {
	if t, ok := r.tables[object]; ok {
		return t
	}
	var b strings.Builder
	for _, c := range storable(object) {
		if unicode.IsUpper(c) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return strings.TrimPrefix(b.String(), "_")
}

// members are some members of an object, by name.
func members(object []byte, names ...string) map[string][]byte {
	found := make(map[string][]byte, len(names))
	rawjson.Members(object, func(key, value []byte) {
		for _, n := range names {
			if string(key) == n {
				found[n] = value
			}
		}
	})
	return found
}

func text(object []byte, name string) string { return textOf(rawjson.Member(object, name)) }

func textOf(value []byte) string {
	s, _ := rawjson.Text(value)
	return storable(s)
}

// storable is a string as Postgres takes it.
func storable(s string) string {
	s, _ = rawjson.StorableText(strings.ToValidUTF8(s, "\uFFFD"))
	return s
}

func short(s string) string {
	if len(s) > longest {
		return ""
	}
	return s
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func micros(us int64) time.Time { return time.UnixMicro(us).UTC() }
