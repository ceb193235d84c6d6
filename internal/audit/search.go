package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rollcall-dev/rollcall/internal/schema"
)

// Entry is a row as people and programs read it. What was redacted is absent.
type Entry struct {
	Seq            int64           `json:"seq"`
	EventID        string          `json:"event_id"`
	InstanceID     string          `json:"instance_id"`
	Type           string          `json:"type"`
	Resource       string          `json:"resource"`
	EntityID       string          `json:"entity_id"`
	ActorID        string          `json:"actor_id,omitempty"`
	OrganizationID string          `json:"organization_id,omitempty"`
	OccurredAt     *time.Time      `json:"occurred_at,omitempty"`
	ReceivedAt     time.Time       `json:"received_at"`
	ClientIP       string          `json:"client_ip,omitempty"`
	UserAgent      string          `json:"user_agent,omitempty"`
	Platform       string          `json:"platform,omitempty"` // of UserAgent
	Changed        json.RawMessage `json:"changed,omitempty"`
	Payload        json.RawMessage `json:"payload,omitempty"`
	PayloadBytes   []byte          `json:"payload_base64,omitempty"` // a payload that is no JSON
	SvixTimestamp  string          `json:"svix_timestamp,omitempty"`
	SvixSignature  string          `json:"svix_signature,omitempty"`
	Source         string          `json:"source"`
	StreamEpoch    int64           `json:"stream_epoch"`
	StreamSeq      int64           `json:"stream_seq"`
	Redriven       bool            `json:"redriven"`
	Hash           string          `json:"hash"` // hexadecimal
}

// Filter says which rows are wanted: those that fit all that is set.
type Filter struct {
	User         string // about the user, what is the user's (sessions, memberships), or done by the user
	Organization string
	Type         string // "user.updated"; "user.*" for all of a resource
	Actor        string
	IP           string
	Since, Until time.Time // of receipt; Until is excluded
}

// where is the filter in SQL.
func (f Filter) where(schema string, args []any) (string, []any) {
	var conditions []string
	add := func(condition string, arg any) {
		args = append(args, arg)
		conditions = append(conditions, strings.ReplaceAll(condition, "?", fmt.Sprintf("$%d", len(args))))
	}
	if f.User != "" {
		add(`(entity_id = any(array(select entity_id from `+schema+`.entities where user_id = ?) || ?::text) or actor_id = ?)`, f.User)
	}
	if f.Organization != "" {
		add(`organization_id = ?`, f.Organization)
	}
	if resource, all := strings.CutSuffix(f.Type, "*"); all {
		add(`type >= ?`, resource)
		add(`type < ?`, resource+"\U0010FFFF")
	} else if f.Type != "" {
		add(`type = ?`, f.Type)
	}
	if f.Actor != "" {
		add(`actor_id = ?`, f.Actor)
	}
	if f.IP != "" {
		add(`client_ip = ?`, f.IP)
	}
	if !f.Since.IsZero() {
		add(`received_at >= ?`, f.Since)
	}
	if !f.Until.IsZero() {
		add(`received_at < ?`, f.Until)
	}
	if len(conditions) == 0 {
		return "true", args
	}
	return strings.Join(conditions, " and "), args
}

// Search is the newest rows that fit, newest first.
func (l *Log) Search(ctx context.Context, f Filter, limit int) ([]Entry, error) {
	where, args := f.where(l.schema, []any{limit})
	return l.entries(ctx, where+` order by seq desc limit $1`, args...)
}

// after are the rows behind a number that fit, oldest first.
func (l *Log) after(ctx context.Context, f Filter, seq int64, limit int) ([]Entry, error) {
	where, args := f.where(l.schema, []any{limit, seq})
	return l.entries(ctx, where+` and seq > $2 order by seq limit $1`, args...)
}

func (l *Log) entries(ctx context.Context, tail string, args ...any) ([]Entry, error) {
	rows, err := l.pool.Query(ctx, `select seq, event_id, instance_id, type, resource, entity_id, coalesce(actor_id, ''), coalesce(organization_id, ''), occurred_at, received_at,
coalesce(client_ip, ''), coalesce(user_agent, ''), coalesce(changed::text, ''), payload, coalesce(svix_timestamp, ''), coalesce(svix_signature, ''), source, stream_epoch, stream_seq, redriven, encode(hash, 'hex')
from `+l.schema+`.events where `+tail, args...)
	if schema.Missing(err) {
		return nil, ErrNotThere
	}
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (e Entry, err error) {
		var changed string
		var body []byte
		err = r.Scan(&e.Seq, &e.EventID, &e.InstanceID, &e.Type, &e.Resource, &e.EntityID, &e.ActorID, &e.OrganizationID, &e.OccurredAt, &e.ReceivedAt,
			&e.ClientIP, &e.UserAgent, &changed, &body, &e.SvixTimestamp, &e.SvixSignature, &e.Source, &e.StreamEpoch, &e.StreamSeq, &e.Redriven, &e.Hash)
		e.complete(changed, body)
		return e, err
	})
	if schema.Missing(err) {
		return nil, ErrNotThere
	}
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	return list, nil
}

func (e *Entry) complete(changed string, body []byte) {
	e.ReceivedAt = e.ReceivedAt.UTC()
	if e.OccurredAt != nil {
		*e.OccurredAt = e.OccurredAt.UTC()
	}
	if changed != "" {
		e.Changed = json.RawMessage(changed)
	}
	if json.Valid(body) {
		e.Payload = body
	} else {
		e.PayloadBytes = body
	}
	e.Platform = platform(e.UserAgent)
}

// ChangedFields are the names of the fields that changed, in order.
func (e *Entry) ChangedFields() []string {
	var names []string
	visitMembers(e.Changed, func(name string, _ []byte) { names = append(names, name) })
	return names
}

// platform is the operating system that a user agent names; "" unknown. The
// order matters: phones also name what they descend from.
func platform(agent string) string {
	for _, p := range []struct{ mark, name string }{
		{"iPhone", "iOS"}, {"iPad", "iOS"}, {"CFNetwork", "iOS"}, {"Android", "Android"}, {"okhttp", "Android"},
		{"CrOS", "ChromeOS"}, {"Windows", "Windows"}, {"Macintosh", "macOS"}, {"Linux", "Linux"},
	} {
		if strings.Contains(agent, p.mark) {
			return p.name
		}
	}
	return ""
}
