package config

import (
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"net/url"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// assign parses s into a field. The field's Go type says how: int64 is a size
// in bytes. Errors read on after the setting's path, and show s only where it
// can't be a secret.
func assign(field reflect.Value, s string) error {
	switch v := field.Addr().Interface().(type) {
	case *string:
		*v = s
	case *[]string:
		*v = split(s)
	case *map[string][]string:
		*v = map[string][]string{}
		for _, item := range split(s) {
			name, value, ok := strings.Cut(item, ".")
			if !ok || name == "" || value == "" {
				return fmt.Errorf("must be a list of table.column, not %q", item)
			}
			(*v)[name] = append((*v)[name], value)
		}
	case *bool:
		if s != "true" && s != "false" {
			return fmt.Errorf("must be true or false, not %q", s)
		}
		*v = s == "true"
	case *int:
		n, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("must be a whole number, not %q", s)
		}
		*v = n
	case *int64:
		n, err := parseSize(s)
		if err != nil {
			return err
		}
		*v = n
	case *time.Duration:
		d, err := time.ParseDuration(s)
		if err != nil {
			return fmt.Errorf("must be a duration such as 10s, 5m or 28h, not %q", s)
		}
		*v = d
	default:
		return fmt.Errorf("has the unsupported type %s", field.Type())
	}
	return nil
}

// typeName is how people call a field's type.
func typeName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[[]string]():
		return "list"
	case reflect.TypeFor[map[string][]string]():
		return "lists"
	case reflect.TypeFor[time.Duration]():
		return "duration"
	}
	switch t.Kind() {
	case reflect.Int64:
		return "size"
	case reflect.Int:
		return "number"
	default:
		return t.Kind().String()
	}
}

// split takes a comma-separated list apart.
func split(s string) []string {
	var out []string
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}

var sizeForm = regexp.MustCompile(`^([0-9]+) ?(|B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)$`)

func unit(name string) int64 {
	switch name {
	case "KiB":
		return 1 << 10
	case "MiB":
		return 1 << 20
	case "GiB":
		return 1 << 30
	case "TiB":
		return 1 << 40
	case "kB":
		return 1e3
	case "MB":
		return 1e6
	case "GB":
		return 1e9
	case "TB":
		return 1e12
	default:
		return 1
	}
}

// parseSize reads bytes, or a number with a unit: "64GiB", "500MB".
func parseSize(s string) (int64, error) {
	m := sizeForm.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("must be a size in bytes or with a unit, such as 512KiB or 64GiB, not %q", s)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if u := unit(m[2]); err == nil && n <= math.MaxInt64/u {
		return n * u, nil
	}
	return 0, fmt.Errorf("is too large a size: %q", s)
}

func formatSize(n int64) string {
	for _, u := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if size := unit(u); n >= size && n%size == 0 {
			return strconv.FormatInt(n/size, 10) + u
		}
	}
	return strconv.FormatInt(n, 10)
}

// formatDuration is d without the zeros that Go's own form has at its end.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// masked stands for a secret.
const masked = "********"

// mask hides the secret in a value, by the rule of its field's mask tag.
func mask(rule, s string) string {
	switch {
	case s == "" || rule == "":
		return s
	case rule == "pem" && !isPEM(s):
		return s // a path
	case rule == "nats":
		list := strings.Split(s, ",")
		for i, server := range list {
			list[i] = maskURL(withScheme(strings.TrimSpace(server)))
		}
		return strings.Join(list, ",")
	case rule == "url" && strings.Contains(s, "://"):
		return maskURL(s)
	case rule == "url":
		return maskKeywords(s)
	default:
		return masked
	}
}

// withScheme adds what NATS's clients assume.
func withScheme(server string) string {
	if strings.Contains(server, "://") {
		return server
	}
	return "nats://" + server
}

var secretParameter = regexp.MustCompile(`(?i)(^|&)([^=&]*(?:pass|secret|token|key)[^=&]*)=[^&]*`)

func maskURL(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return masked
	}
	user := ""
	if u.User != nil {
		// Put in by hand: url would percent-encode the mask.
		name, _, _ := strings.Cut(u.User.String(), ":")
		_, has := u.User.Password()
		switch {
		case has:
			user = name + ":" + masked + "@"
		case u.Scheme == "postgres" || u.Scheme == "postgresql":
			user = name + "@"
		default: // to NATS a user without password is a token
			user = masked + "@"
		}
		u.User = nil
	}
	u.RawQuery = secretParameter.ReplaceAllString(u.RawQuery, "${1}${2}="+masked)
	return strings.Replace(u.String(), "://", "://"+user, 1)
}

// keyword is one setting of a libpq connection string: key = value or 'value'.
var keyword = regexp.MustCompile(`([A-Za-z_]+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)+)(?:\s+|$)`)

// keywords takes a libpq connection string apart; false if it is none.
func keywords(s string) (map[string]string, []string, bool) {
	s = strings.TrimSpace(s)
	values := map[string]string{}
	var order []string
	end := 0
	for _, m := range keyword.FindAllStringSubmatchIndex(s, -1) {
		if m[0] != end {
			return nil, nil, false
		}
		end = m[1]
		key := strings.ToLower(s[m[2]:m[3]])
		values[key] = s[m[4]:m[5]]
		order = append(order, key)
	}
	return values, order, end == len(s) && len(order) > 0
}

func maskKeywords(s string) string {
	values, order, ok := keywords(s)
	if !ok {
		return masked
	}
	for i, key := range order {
		if strings.Contains(key, "pass") {
			order[i] = key + "=" + masked
		} else {
			order[i] = key + "=" + values[key]
		}
	}
	return strings.Join(order, " ")
}

func isPEM(s string) bool { return strings.HasPrefix(strings.TrimSpace(s), "-----BEGIN") }

// pemText is a PEM block whose line breaks may be written \n.
func pemText(s string) (string, error) {
	s = strings.ReplaceAll(s, `\n`, "\n")
	block, _ := pem.Decode([]byte(s))
	if block == nil || !strings.HasSuffix(block.Type, "PUBLIC KEY") {
		return "", errors.New("isn't a public key in PEM; copy it from Clerk's dashboard, -----BEGIN PUBLIC KEY----- included")
	}
	return s, nil
}

// database identifies the database that a connection string leads to.
type database struct{ host, port, name string }

// parseDatabase reads either form of connection string that Postgres knows.
// Its errors never quote the string: it may hold a password.
func parseDatabase(s string) (database, error) {
	if !strings.Contains(s, "://") {
		values, _, ok := keywords(s)
		if !ok {
			return database{}, errors.New("isn't a connection string; write postgres://user:password@host:5432/name")
		}
		return newDatabase(values["host"], values["port"], values["dbname"], values["user"]), nil
	}
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") ||
		strings.Contains(u.Path+u.RawQuery+u.Fragment, "@") || u.Fragment != "" {
		return database{}, errors.New("isn't a Postgres URL; write postgres://user:password@host:5432/name, with what is special in the password percent-encoded (@ as %40, / as %2F)")
	}
	q := u.Query()
	first := func(a, b string) string {
		if a != "" {
			return a
		}
		return b
	}
	return newDatabase(first(q.Get("host"), u.Hostname()), first(q.Get("port"), u.Port()),
		first(q.Get("dbname"), strings.TrimPrefix(u.Path, "/")), u.User.Username()), nil
}

// newDatabase fills in libpq's defaults.
func newDatabase(host, port, name, user string) database {
	if host == "" {
		host = "localhost"
	}
	if port == "" {
		port = "5432"
	}
	if name == "" {
		name = user
	}
	return database{host: strings.ToLower(host), port: port, name: name}
}
