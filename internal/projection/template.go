package projection

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Template makes a text of one row: "user:email:{email}" becomes
// "user:email:ada@example.com". Between braces stand columns of the row's table
// that hold one text, or instance_id, which every table has.
type Template struct {
	literals []string // one more than fields
	fields   []string
}

// InstanceField is the field that isn't a column of the resource's.
const InstanceField = "instance_id"

// ParseTemplate reads a template for rows of r. Errors read on after the
// template.
func ParseTemplate(r *Resource, text string) (Template, error) {
	var t Template
	rest := text
	for {
		literal, after, open := strings.Cut(rest, "{")
		if strings.Contains(literal, "}") {
			return t, errors.New("has a } without a {")
		}
		t.literals = append(t.literals, literal)
		if !open {
			break
		}
		field, after, closed := strings.Cut(after, "}")
		if !closed {
			return t, errors.New("has a { without a }")
		}
		if err := r.textColumn(field); err != nil {
			return t, err
		}
		t.fields = append(t.fields, field)
		rest = after
	}
	if text == "" {
		return t, errors.New("is empty")
	}
	return t, nil
}

// textColumn reports whether a column's value can stand within a text.
func (r *Resource) textColumn(name string) error {
	if name == InstanceField {
		return nil
	}
	at := r.Column(name)
	if at >= 0 && (r.Columns[at].Type == Text || r.Columns[at].Type == ID) {
		return nil
	}
	known := []string{InstanceField}
	for _, c := range r.Columns {
		if c.Type == Text || c.Type == ID {
			known = append(known, c.Name)
		}
	}
	slices.Sort(known)
	if at >= 0 {
		return fmt.Errorf("names {%s}, which is no text; %s has %s", name, r.Table, strings.Join(known, ", "))
	}
	return fmt.Errorf("names {%s}, which %s doesn't have; it has %s", name, r.Table, strings.Join(known, ", "))
}

// Fields are the columns between the braces.
func (t Template) Fields() []string { return t.fields }

// NeedsOnly reports whether one column's value, and the instance's id, are all
// that it takes.
func (t Template) NeedsOnly(column string) bool {
	return !slices.ContainsFunc(t.fields, func(f string) bool { return f != column && f != InstanceField })
}

// String is the template as it was written.
func (t Template) String() string {
	return t.join(func(field string) string { return "{" + field + "}" })
}

// Render puts values in; ok is false where one of them is missing or empty.
func (t Template) Render(value func(field string) string) (text string, ok bool) {
	ok = true
	text = t.join(func(field string) string {
		v := value(field)
		ok = ok && v != ""
		return v
	})
	return text, ok
}

func (t Template) join(value func(field string) string) string {
	if len(t.fields) == 0 {
		return t.literals[0]
	}
	var b strings.Builder
	for i, field := range t.fields {
		b.WriteString(t.literals[i])
		b.WriteString(value(field))
	}
	b.WriteString(t.literals[len(t.fields)])
	return b.String()
}
