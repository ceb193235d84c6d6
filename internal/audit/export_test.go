package audit

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/streams"
)

// examples are Clerk's own, one of each type, and a deletion and a change of a
// user's.
func examples(t *testing.T, r *rig) {
	t.Helper()
	files, err := filepath.Glob("../../cmd/rollcall/examples/*.json")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	var batch []streams.Message
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var e struct {
			Type string
			Data struct{ ID string }
		}
		if err := json.Unmarshal(body, &e); err != nil {
			t.Fatal(err)
		}
		m := r.event(e.Type, e.Data.ID, "null")
		m.Data = body
		batch = append(batch, m)
	}
	user := func(more string) streams.Message {
		return r.event("user.updated", "user_x", `{"id":"user_x","first_name":"=cmd()"`+more+`}`)
	}
	batch = append(batch, user(`,"banned":false,"locked":false,"two_factor_enabled":false,"password_enabled":false`), user(`,"banned":true`), user(`,"banned":false`), user(`,"banned":false`),
		r.event("user.deleted", "user_x", `null`), r.event("rollcall.backfill", "run_1", `{"id":"run_1"}`), r.event("strange.thing", "", `[]`))
	batch[len(batch)-1].Data = []byte("\xff no JSON")
	r.append(batch...)
}

func export(t *testing.T, r *rig, o ExportOptions) (text string, cursor int64) {
	t.Helper()
	var out bytes.Buffer
	cursor, err := r.log.Export(t.Context(), &out, o)
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), cursor
}

// Each event is what OCSF's schema, a copy of which is in testdata, allows.
func TestOCSF(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	examples(t, r)
	s := readOCSF(t)
	text, _ := export(t, r, ExportOptions{Format: "ocsf"})
	classes, activities := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(text) {
		var e map[string]any
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		if err := d.Decode(&e); err != nil {
			t.Fatal(err)
		}
		class := fmt.Sprint(e["class_uid"])
		classes[class] = true
		activities[fmt.Sprint(e["metadata"].(map[string]any)["event_code"], " ", e["type_uid"])] = true
		if s.Classes[class] == nil {
			t.Fatalf("there is no class %s: %s", class, line)
		}
		if want := class + fmt.Sprintf("%02s", e["activity_id"]); fmt.Sprint(e["type_uid"]) != want || fmt.Sprint(e["category_uid"]) != "3" || e["metadata"].(map[string]any)["version"] != s.Version {
			t.Errorf("type_uid %v, want %s; category %v: %s", e["type_uid"], want, e["category_uid"], line)
		}
		for _, mistake := range s.check(s.Classes[class], e, "") {
			t.Errorf("%v: %s: %s", e["message"], mistake, line)
		}
	}
	if len(classes) != len(s.Classes) {
		t.Errorf("classes %v", classes)
	}
	for _, want := range []string{"user.created 300101", "user.deleted 300106", "user.updated 300105", "user.updated 300102", "user.updated 300199", "session.created 300201", "session.revoked 300202", "session.pending 300299",
		"organization.created 300606", "organization.updated 300699", "organizationMembership.created 300603", "organizationMembership.deleted 300604", "role.updated 300403", "strange.thing 300499"} {
		if !activities[want] {
			t.Errorf("no %s among the events", want)
		}
	}
}

type ocsfSchema struct {
	Version string
	Classes map[string]*ocsfObject
	Objects map[string]*ocsfObject
}

type ocsfObject struct {
	Attributes map[string]struct {
		Type, Requirement string
		Array             bool
		Enum              []string
	}
	Constraints map[string][]string
}

func readOCSF(t *testing.T) (s ocsfSchema) {
	t.Helper()
	text, err := os.ReadFile("testdata/ocsf-1.8.0.json")
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// check lists in what a value isn't an object of the schema's.
func (s *ocsfSchema) check(o *ocsfObject, value map[string]any, at string) (mistakes []string) {
	for name, a := range o.Attributes {
		if _, there := value[name]; a.Requirement == "required" && !there {
			mistakes = append(mistakes, at+name+" is required")
		}
	}
	for kind, names := range o.Constraints {
		if kind == "at_least_one" && !slices.ContainsFunc(names, func(n string) bool { return value[n] != nil }) {
			mistakes = append(mistakes, fmt.Sprintf("%sone of %v is required", at, names))
		}
	}
	for name, v := range value {
		a, known := o.Attributes[name]
		number, isNumber := v.(json.Number)
		text, isText := v.(string)
		inner, isObject := v.(map[string]any)
		switch {
		case !known:
			mistakes = append(mistakes, at+name+" isn't in the schema")
		case a.Type == "string_t" || a.Type == "ip_t":
			if !isText || text == "" {
				mistakes = append(mistakes, at+name+" is no text")
			}
		case a.Type == "integer_t" || a.Type == "long_t" || a.Type == "timestamp_t":
			if !isNumber || len(a.Enum) > 1 && !slices.Contains(a.Enum, number.String()) {
				mistakes = append(mistakes, at+name+" is none of its numbers")
			}
		case s.Objects[a.Type] != nil && isObject:
			mistakes = append(mistakes, s.check(s.Objects[a.Type], inner, at+name+".")...)
		case a.Type != "object" && a.Type != "json_t" && s.Objects[a.Type] == nil && a.Type != "username_t" && a.Type != "resource_uid_t":
			mistakes = append(mistakes, at+name+" has the type "+a.Type+", which this test doesn't know")
		}
	}
	return mistakes
}

// A spreadsheet reads the file, one line an event, and computes nothing.
func TestCSV(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	examples(t, r)
	evil := r.event("user.updated", "=1+1", `{"id":"=1+1","organization_id":"\t@SUM(A1)"}`)
	evil.Data = bytes.Replace(evil.Data, []byte("Mozilla/5.0"), []byte(`-2+3\ncmd|'/c calc'!A0, \"`), 1)
	r.append(evil)
	text, _ := export(t, r, ExportOptions{Format: "csv", Header: true})
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(text, "\n"); lines != r.n+1 || len(rows) != lines || !slices.Equal(rows[0], csvColumns) {
		t.Errorf("%d lines, %d rows of %d events; the first is %v", lines, len(rows), r.n, rows[0])
	}
	for _, row := range rows {
		for i, cell := range row {
			if strings.ContainsAny(cell[:min(1, len(cell))], "=+-@\t\r") {
				t.Errorf("%s: a spreadsheet takes %q for a formula", csvColumns[i], cell)
			}
		}
	}
	if last := rows[len(rows)-1]; last[5] != "'=1+1" || !strings.HasPrefix(last[11], "'-2+3 cmd|") {
		t.Errorf("last row %q", last)
	}
}

// An export goes on behind its cursor, whatever the batches.
func TestExportGoesOn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.fill(2100)
	for _, format := range Formats() {
		whole, _ := export(t, r, ExportOptions{Format: format})
		if n := strings.Count(whole, "\n"); n != 2100 {
			t.Errorf("%s: %d lines", format, n)
		}
		lines := slices.Collect(strings.Lines(whole))
		seq, err := LastExported(format, []byte(strings.TrimSuffix(lines[1200], "\n")))
		if err != nil || seq != 1201 {
			t.Errorf("%s: line 1,201 is row %d, %v", format, seq, err)
		}
		rest, cursor := export(t, r, ExportOptions{Format: format, After: seq})
		if strings.Join(lines[:1201], "")+rest != whole || cursor != 2100 {
			t.Errorf("%s: the rest isn't the rest; cursor %d", format, cursor)
		}
		for _, other := range []string{"", "{}", "a,b", `{"seq":5}`, "null"} {
			if _, err := LastExported(format, []byte(other)); err == nil {
				t.Errorf("%s: %q is taken for an export's line", format, other)
			}
		}
	}
}

func TestSearch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.append(
		r.event("user.created", "user_1", `{"id":"user_1"}`),
		r.event("session.created", "sess_1", `{"id":"sess_1","user_id":"user_1","last_active_organization_id":"org_1"}`),
		r.event("session.ended", "sess_1", `{"id":"sess_1"}`),
		r.event("session.created", "sess_2", `{"id":"sess_2","user_id":"user_2","actor":{"sub":"user_1"}}`),
		r.event("user.updated", "user_2", `{"id":"user_2"}`))
	for name, c := range map[string]struct {
		f    Filter
		want string
	}{
		"all":          {Filter{}, "5 4 3 2 1"},
		"user":         {Filter{User: "user_1"}, "4 3 2 1"},
		"organization": {Filter{Organization: "org_1"}, "2"},
		"actor":        {Filter{Actor: "user_1"}, "4"},
		"type":         {Filter{Type: "session.created"}, "4 2"},
		"types":        {Filter{Type: "session.*"}, "4 3 2"},
		"address":      {Filter{IP: "203.0.113.3"}, "3"},
		"time":         {Filter{Since: start.Add(2 * time.Second), Until: start.Add(4 * time.Second)}, "3 2"},
		"two":          {Filter{User: "user_1", Type: "user.*"}, "1"},
		"none":         {Filter{User: "user_9"}, ""},
	} {
		entries, err := r.log.Search(t.Context(), c.f, 10)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var got []string
		for _, e := range entries {
			got = append(got, fmt.Sprint(e.Seq))
			if e.Platform != "macOS" {
				t.Errorf("platform %q of %s", e.Platform, e.UserAgent)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", name, got, c.want)
		}
	}
	if two, err := r.log.Search(t.Context(), Filter{}, 2); err != nil || len(two) != 2 {
		t.Errorf("%d rows, %v", len(two), err)
	}
}
