package consume

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/rollcall-dev/rollcall/streams"
)

// hint is the position as other processes may read it, in CLERK_STATE: written
// after the commit, so it is never ahead, and not for every commit.
type hint struct {
	key     string
	mu      sync.Mutex
	at      streams.Position
	written streams.Position
	changed chan struct{}
}

// Somebody may be waiting for each hint; but a server that takes long to write
// one has other things to do, and is left alone for twice as long.
const (
	hintPause = 2
	hintLeast = 5 * time.Millisecond
	hintMost  = 100 * time.Millisecond
)

// PositionKey is the key of a sink's position in CLERK_STATE; its value is
// {"epoch","sequence"}.
func PositionKey(sink string) string { return "position." + streams.Key(sink) }

func newHint(sink string) *hint {
	return &hint{key: PositionKey(sink), changed: make(chan struct{}, 1)}
}

func (h *hint) set(at streams.Position) {
	h.mu.Lock()
	h.at = at
	h.mu.Unlock()
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// write writes the newest position whenever there is one, until the context ends.
func (h *hint) write(ctx context.Context, b Broker, bucket string) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-h.changed:
		}
		began := time.Now()
		h.put(ctx, b, bucket)
		pause := min(max(hintPause*time.Since(began), hintLeast), hintMost)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// flush writes what the last commits changed.
func (h *hint) flush(b Broker, bucket string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	h.put(ctx, b, bucket)
}

// put is best effort: a hint that is late costs its reader time, nothing else.
func (h *hint) put(ctx context.Context, b Broker, bucket string) {
	h.mu.Lock()
	at := h.at
	h.mu.Unlock()
	if at == h.written {
		return
	}
	value, err := json.Marshal(map[string]any{"epoch": at.Epoch, "sequence": at.Sequence})
	if err != nil {
		return
	}
	js, err := b.JetStream()
	if err != nil {
		return
	}
	if _, err := js.Publish(ctx, "$KV."+bucket+"."+h.key, value); err == nil {
		h.written = at
	}
}
