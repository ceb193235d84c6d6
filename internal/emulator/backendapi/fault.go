package backendapi

import (
	"net/http"
	"time"
)

// A Fault is what goes wrong with one request. The first that is set happens;
// but for Truncated the request is not carried out.
type Fault struct {
	Limited   bool          // answered 429, to come again in a second
	Error     bool          // answered 500
	Timeout   time.Duration // the connection is cut after so long
	Truncated bool          // half of the answer arrives
}

// fail lets the fault happen. It returns what the answer is to be written to,
// where there is to be one.
func (s *server) fail(w http.ResponseWriter, r *request) (http.ResponseWriter, bool) {
	f := s.Fault(r.inst)
	switch {
	case f.Limited:
		w.Header().Set("Retry-After", "1")
		s.answer(w, nil, errTooManyRequests)
	case f.Error:
		s.answer(w, nil, errUnexpected)
	case f.Timeout > 0:
		select {
		case <-time.After(f.Timeout):
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler) // net/http's way to cut a connection
	case f.Truncated:
		return truncated{w}, true
	default:
		return w, true
	}
	return nil, false
}

// truncated cuts the connection in the middle of the answer.
type truncated struct{ http.ResponseWriter }

func (t truncated) Write(data []byte) (int, error) {
	_, _ = t.ResponseWriter.Write(data[:len(data)/2]) // the client's loss
	_ = http.NewResponseController(t.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}
