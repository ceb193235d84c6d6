package ingest

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/rollcall-dev/rollcall/internal/clerk"
)

// answer is what a delivery is told. Those that are no errors have no body.
type answer struct {
	status        int
	code, message string // code is stable; message is for people
	retry         bool
}

var (
	stored = &answer{status: http.StatusNoContent}
	again  = &answer{status: http.StatusNoContent, code: "duplicate"}
)

func refuse(status int, code, message string) *answer {
	return &answer{status: status, code: code, message: message}
}

// busy asks the sender to come back: Svix is the buffer.
func busy(code, message string) *answer {
	return &answer{status: http.StatusServiceUnavailable, code: code, message: message, retry: true}
}

func refuseDelivery(err error) *answer {
	switch {
	case errors.Is(err, clerk.ErrHeadersMissing):
		return refuse(http.StatusBadRequest, "signature_headers_missing", err.Error())
	case errors.Is(err, clerk.ErrHeadersMalformed):
		return refuse(http.StatusBadRequest, "signature_headers_malformed", err.Error())
	case errors.Is(err, clerk.ErrTooOld):
		return refuse(http.StatusUnauthorized, "signature_too_old", err.Error())
	}
	return refuse(http.StatusUnauthorized, "signature_invalid", err.Error())
}

func (a *answer) write(w http.ResponseWriter) {
	if a.status == http.StatusNoContent {
		w.WriteHeader(a.status)
		return
	}
	if a.retry {
		w.Header().Set("Retry-After", "5")
	}
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.status)
	_ = json.NewEncoder(w).Encode(map[string][]entry{"errors": {{a.code, a.message}}}) // the sender may be gone
}
