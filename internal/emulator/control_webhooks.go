package emulator

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/internal/emulator/delivery"
	"github.com/rollcall-dev/rollcall/internal/emulator/state"
	"github.com/rollcall-dev/rollcall/internal/emulator/traffic"
)

func getChaos(c *call) (any, error) {
	return c.instance.sender.Chaos(), nil
}

func setChaos(merge bool) func(*call) (any, error) {
	return func(c *call) (any, error) {
		body, err := io.ReadAll(io.LimitReader(c.Body, maxControlBody))
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "request_body_invalid", err.Error())
		}
		for _, i := range c.each {
			var old delivery.Chaos
			if merge {
				old = i.sender.Chaos()
			}
			next, err := old.Merge(body)
			if err != nil {
				return nil, err
			}
			if err := i.setChaos(next); err != nil {
				return nil, err
			}
		}
		return c.each[0].sender.Chaos(), nil
	}
}

type trafficRate struct {
	Rate float64 `json:"rate"`
}

func getTraffic(c *call) (any, error) {
	return trafficRate{c.instance.traffic.Rate()}, nil
}

const maxRate = 100_000

func setTraffic(c *call) (any, error) {
	p, err := decode[trafficRate](c)
	if err != nil {
		return nil, err
	}
	if !(p.Rate >= 0 && p.Rate <= maxRate) {
		return nil, invalid("rate", "from 0 to %d events a second", maxRate)
	}
	for _, i := range c.each {
		i.traffic.SetRate(p.Rate)
	}
	return p, nil
}

const maxChanges = 1_000_000

func makeTraffic(c *call) (any, error) {
	p, err := decode[struct {
		Changes int      `json:"changes"`
		Kinds   []string `json:"kinds"`
	}](c)
	if err != nil {
		return nil, err
	}
	if p.Changes < 1 || p.Changes > maxChanges {
		return nil, invalid("changes", "from 1 to %d", maxChanges)
	}
	known := traffic.DefaultMix()
	for _, kind := range p.Kinds {
		if known[kind] == 0 {
			return nil, invalid("kinds", "of %s", strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
	}
	before := c.instance.sender.Counts().Messages
	made := c.instance.traffic.Steps(c.Context(), p.Changes, p.Kinds...)
	return map[string]int{"changes": made, "events": c.instance.sender.Counts().Messages - before}, nil
}

// sendEvent is for what no change emits: unknown types, odd data, old times.
func sendEvent(c *call) (any, error) {
	p, err := decode[struct {
		Type      string          `json:"type"`
		Data      json.RawMessage `json:"data"`
		Timestamp int64           `json:"timestamp"`
	}](c)
	if err != nil {
		return nil, err
	}
	if p.Type == "" {
		return nil, state.Missing("type")
	}
	if len(p.Data) == 0 {
		return nil, state.Missing("data")
	}
	if p.Timestamp == 0 {
		p.Timestamp = c.server.o.Clock().UnixMilli()
	}
	body, err := json.Marshal(map[string]any{
		"data": p.Data, "object": "event", "type": p.Type, "timestamp": p.Timestamp, "instance_id": c.instance.ID,
		"event_attributes": map[string]any{"http_request": map[string]string{"client_ip": "", "user_agent": c.UserAgent()}},
	})
	if err != nil {
		return nil, err
	}
	var head struct{ ID string }
	_ = json.Unmarshal(p.Data, &head) // for the log only: data may be anything
	id, err := c.instance.sender.Send(delivery.Message{Type: p.Type, EntityID: head.ID, Body: body})
	return map[string]string{"message_id": id}, err
}

const (
	defaultSettled = 30 * time.Second
	maxSettled     = 10 * time.Minute
)

func getSettled(c *call) (any, error) {
	timeout := defaultSettled
	if text := c.URL.Query().Get("timeout"); text != "" {
		var err error
		if timeout, err = time.ParseDuration(text); err != nil || timeout < 0 || timeout > maxSettled {
			return nil, invalid("timeout", "a duration up to %s, such as 30s", maxSettled)
		}
	}
	ctx, cancel := context.WithTimeout(c.Context(), timeout)
	defer cancel()
	settled := true
	for _, i := range c.each {
		settled = i.settled(ctx) == nil && settled
	}
	result := struct {
		Settled bool `json:"settled"`
		delivery.Counts
	}{Settled: settled}
	for _, i := range c.each {
		add(&result.Counts, i.sender.Counts())
	}
	if !settled {
		return answer{http.StatusGatewayTimeout, result}, nil
	}
	return result, nil
}

func add(sum *delivery.Counts, c delivery.Counts) {
	sum.Messages += c.Messages
	sum.Pending += c.Pending
	sum.Delivered += c.Delivered
	sum.Failed += c.Failed
	sum.Aborted += c.Aborted
	sum.Dropped += c.Dropped
	sum.Open += c.Open
	sum.Attempts += c.Attempts
	sum.Forgotten += c.Forgotten
	sum.ForgedAccepted += c.ForgedAccepted
}

func listDeliveries(c *call) (any, error) {
	f, err := filterOf(c.URL.Query())
	if err != nil {
		return nil, err
	}
	page, cursor, err := c.instance.sender.Deliveries(f)
	if err != nil {
		return nil, err
	}
	return map[string]any{"data": page, "next_cursor": cursor}, nil
}

func filterOf(q url.Values) (f delivery.Filter, err error) {
	f = delivery.Filter{
		MessageID: q.Get("message"), EndpointID: q.Get("endpoint"), Type: q.Get("type"), State: delivery.State(q.Get("state")),
		Newest: q.Get("newest") == "true", Cursor: q.Get("cursor"),
	}
	switch f.State {
	case "", delivery.Pending, delivery.Delivered, delivery.Failed, delivery.Aborted, delivery.Dropped:
	default:
		return f, invalid("state", "pending, delivered, failed, aborted or dropped")
	}
	for name, to := range map[string]*int64{"since": &f.Since, "until": &f.Until} {
		if *to, err = millis(q.Get(name)); err != nil {
			return f, invalid(name, "Unix milliseconds or a time such as 2026-08-01T12:00:00Z")
		}
	}
	if text := q.Get("limit"); text != "" {
		if f.Limit, err = strconv.Atoi(text); err != nil || f.Limit < 1 {
			return f, invalid("limit", "a number from 1 to 1000")
		}
	}
	return f, nil
}

// millis reads a time as Unix milliseconds or RFC 3339; "" is 0.
func millis(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	return at.UnixMilli(), err
}

func replay(c *call) (any, error) {
	p, err := decode[struct {
		MessageID    string `json:"message_id"`
		FailedSince  *int64 `json:"failed_since"`
		MissingSince *int64 `json:"missing_since"`
		EndpointID   string `json:"endpoint_id"`
	}](c)
	if err != nil {
		return nil, err
	}
	var ids []string
	switch {
	case p.MessageID != "" && p.FailedSince == nil && p.MissingSince == nil:
		ids, err = []string{p.MessageID}, c.instance.sender.Replay(p.MessageID, p.EndpointID)
	case p.MessageID == "" && p.FailedSince != nil && p.MissingSince == nil:
		ids, err = c.instance.sender.ReplayFailed(p.EndpointID, time.UnixMilli(*p.FailedSince))
	case p.MessageID == "" && p.FailedSince == nil && p.MissingSince != nil:
		ids, err = c.instance.sender.ReplayMissing(p.EndpointID, time.UnixMilli(*p.MissingSince))
	default:
		return nil, refuse(http.StatusUnprocessableEntity, "form_param_missing", "give one of message_id, failed_since and missing_since; 0 is since ever")
	}
	if err != nil {
		return nil, err
	}
	return map[string][]string{"message_ids": ids}, nil
}

func listEndpoints(c *call) (any, error) {
	return map[string]any{"data": c.instance.sender.Endpoints()}, nil
}

func addEndpoint(c *call) (any, error) {
	p, err := decode[struct {
		URL          string   `json:"url"`
		Secret       string   `json:"secret"`
		Events       []string `json:"events"`
		HeaderFamily string   `json:"header_family"`
	}](c)
	if err != nil {
		return nil, err
	}
	e := delivery.Endpoint{URL: p.URL, Events: p.Events, HeaderFamily: p.HeaderFamily}
	if p.Secret != "" {
		e.Secrets = []string{p.Secret}
	}
	added, err := c.instance.addEndpoint(e)
	if err != nil {
		return nil, err
	}
	return added, nil
}

func updateEndpoint(c *call) (any, error) {
	p, err := decode[struct {
		URL          *string   `json:"url"`
		Events       *[]string `json:"events"`
		HeaderFamily *string   `json:"header_family"`
		Disabled     *bool     `json:"disabled"`
	}](c)
	if err != nil {
		return nil, err
	}
	e, err := endpointOf(c.instance, c.PathValue("id"))
	if err != nil {
		return nil, err
	}
	set(&e.URL, p.URL)
	set(&e.Events, p.Events)
	set(&e.HeaderFamily, p.HeaderFamily)
	set(&e.Disabled, p.Disabled)
	if e, err = c.instance.sender.Update(e); err != nil {
		return nil, err
	}
	return e, nil
}

func set[T any](field *T, to *T) {
	if to != nil {
		*field = *to
	}
}

func endpointOf(i *instance, id string) (delivery.Endpoint, error) {
	for _, e := range i.sender.Endpoints() {
		if e.ID == id {
			return e, nil
		}
	}
	return delivery.Endpoint{}, state.NotFound("endpoint", id)
}

func deleteEndpoint(c *call) (any, error) {
	id := c.PathValue("id")
	if err := c.instance.sender.Delete(id); err != nil {
		return nil, err
	}
	return map[string]any{"object": "endpoint", "id": id, "deleted": true}, nil
}

func rotateEndpoint(c *call) (any, error) {
	p, err := decode[struct {
		Secret string `json:"secret"`
	}](c)
	if err != nil {
		return nil, err
	}
	if p.Secret == "" {
		p.Secret = newSecret()
	}
	e, err := c.instance.sender.Rotate(c.PathValue("id"), p.Secret)
	if err != nil {
		return nil, err
	}
	return e, nil
}
