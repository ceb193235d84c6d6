package backendapi

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	defaultLimit = 10
	maxLimit     = 500
	maxValues    = 100 // of one array parameter
)

// A query reads the parameters of a list and collects what is wrong with
// them; err is asked once, at the end.
type query struct {
	values url.Values
	items  []errorItem
}

func (q *query) reject(item errorItem) { q.items = append(q.items, item) }

func (q *query) err() error {
	if len(q.items) == 0 {
		return nil
	}
	return form(q.items...)
}

func (q *query) text(name string) string { return q.values.Get(name) }

// list reads name=a&name=b and name[]=a&name[]=b, at most maxValues.
func (q *query) list(name string) []string {
	all := slices.Concat(q.values[name], q.values[name+"[]"])
	all = slices.DeleteFunc(all, func(v string) bool { return v == "" })
	if len(all) > maxValues {
		q.reject(formTooMany(name, maxValues))
	}
	return all
}

// A choice is a list of values of which some are wanted and some are not.
type choice struct {
	include, exclude map[string]bool
}

func (c choice) empty() bool { return len(c.include) == 0 && len(c.exclude) == 0 }

// allows reports whether one of a resource's values is wanted and none unwanted.
func (c choice) allows(values ...string) bool {
	wanted := len(c.include) == 0
	for _, v := range values {
		if c.exclude[v] {
			return false
		}
		wanted = wanted || c.include[v]
	}
	return wanted
}

// set reads a list of values of which none can be excluded.
func (q *query) set(name string) choice {
	c := choice{include: map[string]bool{}}
	for _, v := range q.list(name) {
		c.include[v] = true
	}
	return c
}

// signed reads a list whose values may have a + or - before them. A + that
// wasn't escaped arrives as a space.
func (q *query) signed(name string) choice {
	c := choice{include: map[string]bool{}, exclude: map[string]bool{}}
	for _, v := range q.list(name) {
		switch v[0] {
		case '-':
			c.exclude[v[1:]] = true
		case '+', ' ':
			c.include[v[1:]] = true
		default:
			c.include[v] = true
		}
	}
	return c
}

// oneOf reads a word; "" if it isn't there.
func (q *query) oneOf(name string, allowed ...string) string {
	v := q.text(name)
	if v != "" && !slices.Contains(allowed, v) {
		q.reject(formValue(name, v, allowed...))
	}
	return v
}

// someOf reads words that may be repeated, and joined by commas.
func (q *query) someOf(name string, allowed ...string) choice {
	c := choice{include: map[string]bool{}, exclude: map[string]bool{}}
	for _, v := range q.list(name) {
		for word := range strings.SplitSeq(v, ",") {
			into, bare := c.include, word
			if rest, negated := strings.CutPrefix(word, "-"); negated {
				into, bare = c.exclude, rest
			}
			if !slices.Contains(allowed, bare) {
				q.reject(formValue(name, word, allowed...))
			}
			into[bare] = true
		}
	}
	return c
}

func (q *query) boolean(name string) (value, given bool) {
	switch v := q.text(name); v {
	case "":
		return false, false
	case "true", "1":
		return true, true
	case "false", "0":
		return false, true
	default:
		q.reject(formType(name, "boolean"))
		return false, false
	}
}

func (q *query) integer(name string, otherwise int64) int64 {
	v := q.text(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		q.reject(formFormat(name, name+" must be an integer."))
		return otherwise
	}
	return n
}

// A span is a range of times in Unix milliseconds, both ends excluded; nil is open.
type span struct{ after, before *int64 }

func (s span) empty() bool { return s.after == nil && s.before == nil }

// holds reports whether a time lies in the span; an absent one lies in none.
func (s span) holds(ms int64) bool {
	if s.empty() {
		return true
	}
	return ms != 0 && (s.after == nil || ms > *s.after) && (s.before == nil || ms < *s.before)
}

// span reads name_after and name_before.
func (q *query) span(name string) span {
	return span{after: q.millis(name + "_after"), before: q.millis(name + "_before")}
}

func (q *query) millis(name string) *int64 {
	v := q.text(name)
	if v == "" {
		return nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		q.reject(formItem(name, "form_param_invalid_date",
			"Date values must be given in Unix millisecond timestamp format.",
			"Date values must be given in Unix millisecond timestamp format."))
		return nil
	}
	return &n
}

// A page is a window of a list.
type page struct{ limit, offset int }

// page reads limit and offset. A limit beyond what Clerk allows isn't an
// error there: it silently counts as the default.
func (q *query) page() page {
	p := page{limit: int(q.integer("limit", defaultLimit)), offset: int(q.integer("offset", 0))}
	if p.limit < 1 || p.limit > maxLimit {
		p.limit = defaultLimit
	}
	if p.offset < 0 {
		q.reject(formValue("offset", q.text("offset")))
		p.offset = 0
	}
	return p
}
