package streams

// Invalidation is the body of a message on [Names.InvalidateSubject]: what
// caches hold under these keys may be stale. It comes at least once, and after
// the change is in the stores that the operator named.
type Invalidation struct {
	Keys     []string `json:"keys"`     // as the operator's templates make them, of the new values and the old ones
	Resource string   `json:"resource"` // table: "users"
	ID       string   `json:"id"`       // of the entity
	Action   string   `json:"action"`   // of the event: "updated"; "deleted" too where a parent's deletion took the entity with it
	Version  string   `json:"version"`  // of the content, in hexadecimal: of two, the newer sorts after; "" where it was deleted
	EventID  string   `json:"event_id"` // Svix-Id, or Nats-Msg-Id where that is absent
}
