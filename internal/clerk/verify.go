// Package clerk is Clerk's side of the wire as ingest meets it: the signature
// of a webhook, the head of its body, and what of it must not be kept.
package clerk

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	svix "github.com/svix/svix-webhooks/go"
)

// Tolerance is how far a delivery's timestamp may lie from our clock, either
// way. The svix library has it built in; here it tells "too old" from "forged".
const Tolerance = 5 * time.Minute

// The ways in which a delivery isn't authentic.
var (
	ErrHeadersMissing   = errors.New("the headers svix-id, svix-timestamp and svix-signature (or webhook-…) are required")
	ErrHeadersMalformed = errors.New("svix-timestamp must be seconds since 1970 and svix-signature a list of v1,<base64>")
	ErrTooOld           = errors.New("the delivery's timestamp is more than 5 minutes away from this server's clock")
	ErrSignature        = errors.New("no signature matches: check that the signing secret is the endpoint's")
)

// Delivery is what the headers of an authentic delivery say.
type Delivery struct {
	ID        string // stable over retries, replays and endpoints
	Timestamp string // seconds since 1970: when this attempt was signed
	Signature string
}

// Verifier checks deliveries against the signing secrets of one instance; any
// match passes, so that secrets can be rotated.
type Verifier struct {
	secrets []*svix.Webhook
}

// NewVerifier takes secrets as the dashboard shows them: whsec_<base64>. An
// empty or malformed one is refused, by its position.
func NewVerifier(secrets []string) (*Verifier, error) {
	if len(secrets) == 0 {
		return nil, errors.New("no signing secret")
	}
	v := &Verifier{}
	for i, s := range secrets {
		w, err := svix.NewWebhook(s)
		if err != nil { // the library's error may quote the secret
			return nil, fmt.Errorf("signing secret %d of %d is empty or not whsec_<base64>", i+1, len(secrets))
		}
		v.secrets = append(v.secrets, w)
	}
	return v, nil
}

// Verify checks a delivery's raw body. The error is one of the four above.
func (v *Verifier) Verify(header http.Header, body []byte) (Delivery, error) {
	d, err := readHeaders(header)
	if err != nil {
		return Delivery{}, err
	}
	for _, s := range v.secrets {
		if s.Verify(body, header) == nil {
			return d, nil
		}
	}
	if seconds, _ := strconv.ParseInt(d.Timestamp, 10, 64); time.Since(time.Unix(seconds, 0)).Abs() > Tolerance {
		return Delivery{}, ErrTooOld
	}
	return Delivery{}, ErrSignature
}

// Signed reports whether a delivery that was stored is as it was signed. How
// long ago doesn't matter.
func (v *Verifier) Signed(d Delivery, body []byte) bool {
	header := http.Header{"Svix-Id": {d.ID}, "Svix-Timestamp": {d.Timestamp}, "Svix-Signature": {d.Signature}}
	for _, s := range v.secrets {
		if s.VerifyIgnoringTimestamp(body, header) == nil {
			return true
		}
	}
	return false
}

// readHeaders picks the family of headers that the svix library would.
func readHeaders(h http.Header) (Delivery, error) {
	d := Delivery{h.Get("Svix-Id"), h.Get("Svix-Timestamp"), h.Get("Svix-Signature")}
	if d.ID == "" || d.Timestamp == "" || d.Signature == "" {
		d = Delivery{h.Get("Webhook-Id"), h.Get("Webhook-Timestamp"), h.Get("Webhook-Signature")}
	}
	if d.ID == "" || d.Timestamp == "" || d.Signature == "" {
		return d, ErrHeadersMissing
	}
	if _, err := strconv.ParseInt(d.Timestamp, 10, 64); err != nil {
		return d, ErrHeadersMalformed
	}
	if !strings.Contains(d.Signature, ",") {
		return d, ErrHeadersMalformed
	}
	return d, nil
}
