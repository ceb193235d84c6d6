package clerk

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/rollcall-dev/rollcall/internal/rawjson"
)

// CarriesCode reports whether events of the resource carry one-time codes:
// email.created and sms.created do, in text and in data.
func CarriesCode(resource string) bool { return resource == "email" || resource == "sms" }

// codeLike finds what a subject line shows of a code that isn't named anywhere.
var codeLike = regexp.MustCompile(`\d{4,}`)

// secretName matches members of data.data that let somebody in: codes, tokens,
// tickets, and the links that hold them.
var secretName = regexp.MustCompile(`(?i)otp|code|token|ticket|password|secret|link|url`)

// Redact nulls the one-time codes of an email or sms event: the texts, every
// member of data.data that holds a secret, and any other string of data that
// shows the code. It returns the new body and the JSON paths that were nulled;
// the body given is left as it is. All but those values is kept to the byte.
func Redact(body []byte) (redacted []byte, paths []string) {
	r := redaction{body: body}
	rawjson.Members(body, func(key, value []byte) {
		if string(key) != "data" {
			return
		}
		if extra := rawjson.Member(value, "data"); extra != nil {
			r.code, _ = rawjson.Text(rawjson.Member(extra, "otp_code"))
		}
		r.walk("data", value, false)
	})
	return append(r.out, body[r.kept:]...), r.paths
}

type redaction struct {
	body  []byte
	out   []byte // the body up to kept, redacted
	kept  int
	code  string // the one-time code, where the event names it
	paths []string
}

func (r *redaction) walk(path string, object []byte, inner bool) {
	rawjson.Members(object, func(key, value []byte) {
		at := path + "." + string(key)
		switch {
		case rawjson.IsNull(value):
		case r.secret(string(key), value, inner):
			r.null(at, value)
		case rawjson.Kind(value) == '{':
			r.walk(at, value, inner || string(key) == "data")
		case rawjson.Kind(value) == '[' && r.code != "" && bytes.Contains(value, []byte(r.code)):
			r.null(at, value)
		}
	})
}

func (r *redaction) secret(name string, value []byte, inner bool) bool {
	text, isText := rawjson.Text(value)
	if inner {
		if rawjson.Kind(value) != '{' && secretName.MatchString(name) {
			return true
		}
	} else {
		switch name {
		case "body", "body_plain", "message":
			return true
		case "subject":
			if codeLike.MatchString(text) {
				return true
			}
		}
	}
	return isText && r.code != "" && strings.Contains(text, r.code)
}

func (r *redaction) null(path string, value []byte) {
	from := rawjson.Offset(r.body, value)
	r.out = append(append(r.out, r.body[r.kept:from]...), "null"...)
	r.kept = from + len(value)
	// A header can't hold every name a member may have.
	r.paths = append(r.paths, strings.Map(func(c rune) rune {
		if c <= ' ' || c >= 0x7f || c == ',' {
			return '?'
		}
		return c
	}, path))
}
