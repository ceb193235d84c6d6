package ingest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

const (
	perRequest = 16 << 10 // bytes a request costs beside its body: goroutine, buffers, headers
	firstRead  = 16 << 10 // bytes of a body that are reserved before any has come
	shedFor    = 2 * time.Second
)

// budget bounds the memory that requests hold at one time, so that the process
// sheds load before it runs out.
type budget struct {
	limit int64
	used  atomic.Int64
	tell  func(bool)
	until atomic.Int64 // nanoseconds since 1970: shedding is over
}

func newBudget(limit int64, tell func(bool)) *budget {
	if tell == nil {
		tell = func(bool) {}
	}
	return &budget{limit: limit, tell: tell}
}

// held is one request's part of the budget.
type held struct {
	b *budget
	n int64
}

func (b *budget) reserve(n int64) (*held, bool) {
	h := &held{b: b}
	return h, h.more(n)
}

// more enlarges a request's part; where the budget is used up it doesn't, and
// the process says for a while that it takes no traffic. Who is alone is always
// served: else a body that needs more than the budget would never be taken.
func (h *held) more(n int64) bool {
	if used := h.b.used.Add(n); used > h.b.limit && used > h.n+n {
		h.b.used.Add(-n)
		h.b.shed()
		return false
	}
	h.n += n
	return true
}

func (h *held) release() { h.b.used.Add(-h.n) }

func (b *budget) shed() {
	now := time.Now()
	if b.until.Swap(now.Add(shedFor).UnixNano()) > now.UnixNano() {
		return // and someone is waiting for it to be over
	}
	b.tell(true)
	b.recoverLater(shedFor)
}

func (b *budget) recoverLater(in time.Duration) {
	time.AfterFunc(in, func() {
		if left := time.Until(time.Unix(0, b.until.Load())); left > 0 {
			b.recoverLater(left)
			return
		}
		b.tell(false)
	})
}

// read takes the body. Memory is reserved as bytes arrive, not as the sender
// announces them: an announcement costs a sender nothing.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, held *held) ([]byte, *answer) {
	if r.ContentLength > h.o.MaxBody {
		w.Header().Set("Connection", "close") // rather than read what won't be used
		return nil, h.tooLarge()
	}
	size := min(max(r.ContentLength, 0)+1, firstRead) // one more: the read that finds the end
	if r.ContentLength < 0 {
		size = firstRead
	}
	if !held.more(size) {
		return nil, busy("overloaded", "too much is being received at once")
	}
	body := make([]byte, 0, size)
	for {
		n, err := r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if int64(len(body)) > h.o.MaxBody {
			w.Header().Set("Connection", "close")
			return nil, h.tooLarge()
		}
		switch {
		case errors.Is(err, io.EOF):
			return body, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, refuse(http.StatusBadRequest, "body_too_slow", "the body did not arrive in time (ingest.read_timeout)")
		case err != nil:
			return nil, refuse(http.StatusBadRequest, "body_incomplete", "the body ended before the length that was announced")
		}
		if len(body) == cap(body) {
			grown := min(2*int64(cap(body)), h.o.MaxBody+1)
			if !held.more(grown) { // the old one is garbage, but still memory
				return nil, busy("overloaded", "too much is being received at once")
			}
			body = append(make([]byte, 0, grown), body...)
		}
	}
}

func (h *Handler) tooLarge() *answer {
	return refuse(http.StatusRequestEntityTooLarge, "body_too_large", fmt.Sprintf("the body is longer than %d bytes (ingest.max_body)", h.o.MaxBody))
}
