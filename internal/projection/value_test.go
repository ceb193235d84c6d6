package projection

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/rawjson"
)

// Each case is a member of data; want is the column's value as Postgres would
// be given it, "null", or "error".
func TestReadColumn(t *testing.T) {
	t.Parallel()
	columns := map[string]Column{
		"text": {Type: Text, Path: "v"}, "id": {Type: ID, Path: "v"}, "bool": {Type: Bool, Path: "v"},
		"integer": {Type: Integer, Path: "v"}, "timestamp": {Type: Timestamp, Path: "v"},
		"json": {Type: JSON, Path: "v"}, "array": {Type: TextArray, Path: "v"}, "nested": {Type: Text, Path: "a.b.v"},
	}
	for _, c := range []struct{ column, data, want string }{
		{"text", `{}`, "null"},
		{"text", `{"v":null}`, "null"},
		{"text", `{"v":""}`, ""},
		{"text", `{"v":" \u00e9\ud83d\ude00\n"}`, " é😀\n"},
		{"text", `{"v":12.50}`, "12.50"}, // nothing is lost
		{"text", `{"v":true}`, "true"},
		{"text", `{"v":"a\u0000b\ud800c"}`, "a\uFFFDb\uFFFDc"},
		{"text", "{\"v\":\"a\xffb\"}", "a\uFFFDb"},
		{"text", `{"v":{}}`, "error"},
		{"text", `{"v":["a"]}`, "error"},
		{"text", `{"v":"first","v":"last"}`, "last"},
		{"text", `{"V":"other case"}`, "null"},
		{"text", `{"v":"x","V":"other case"}`, "x"},
		{"text", `{"\u0076":"escaped key"}`, "escaped key"},
		{"text", `{"w":{"v":"inner"}}`, "null"},
		{"text", `{"w":"\"v\":\"quoted\"","v" : "x" }`, "x"},
		{"id", `{"v":""}`, "null"},
		{"id", `{"v":"x"}`, "x"},
		{"bool", `{"v":true}`, "1"},
		{"bool", `{"v":false}`, "0"},
		{"bool", `{"v":null}`, "null"},
		{"bool", `{"v":"true"}`, "error"},
		{"bool", `{"v":1}`, "error"},
		{"integer", `{"v":0}`, "0"},
		{"integer", `{"v":-3}`, "-3"},
		{"integer", `{"v":1e3}`, "1000"},
		{"integer", `{"v":5.0}`, "5"},
		{"integer", `{"v":9007199254740993}`, "9007199254740993"},
		{"integer", `{"v":9223372036854775807}`, "9223372036854775807"},
		{"integer", `{"v":9223372036854775808}`, "error"},
		{"integer", `{"v":1.5}`, "error"},
		{"integer", `{"v":1e400}`, "error"},
		{"integer", `{"v":"5"}`, "error"},
		{"timestamp", `{"v":1700000000123}`, "1700000000123000"},
		{"timestamp", `{"v":0}`, "0"},
		{"timestamp", `{"v":-1000}`, "-1000000"},
		{"timestamp", `{"v":253402300799999}`, "253402300799999000"}, // the last of the year 9999
		{"timestamp", `{"v":253402300800000}`, "error"},
		{"timestamp", `{"v":-62135596800001}`, "error"},
		{"timestamp", `{"v":9223372036854775807}`, "error"},
		{"timestamp", `{"v":"2024-01-01T00:00:00Z"}`, "error"},
		{"json", `{"v":{"b":9007199254740993,"a":"\u0000"}}`, `{"b":9007199254740993,"a":"` + "\uFFFD" + `"}`},
		{"json", `{"v":"\\u0000"}`, `"\\u0000"`}, // a backslash, then text
		{"json", `{"v":null}`, "null"},
		{"json", `{"v":[]}`, `[]`},
		{"array", `{"v":[]}`, `{}`},
		{"array", `{"v":["a","b c"]}`, `{"a","b c"}`},
		{"array", `{"v":["q\"u\\o","{,}","NULL","",null,1,true]}`, `{"q\"u\\o","{,}","NULL","",NULL,"1","true"}`},
		{"array", `{"v":[null,null]}`, `{NULL,NULL}`},
		{"array", `{"v":["\u0000"]}`, `{"` + "\uFFFD" + `"}`},
		{"array", `{"v":[["a"]]}`, "error"},
		{"array", `{"v":"a"}`, "error"},
		{"array", `{"v":{"0":"a"}}`, "error"},
		{"nested", `{"a":{"b":{"v":"x"}}}`, "x"},
		{"nested", `{"a":{"b":null}}`, "null"},
		{"nested", `{"a":null}`, "null"},
		{"nested", `{"a":{"b":"v"}}`, "null"},
		{"nested", `{"a":[{"b":{"v":"x"}}]}`, "null"},
		{"nested", `{"a":{"b":{"v":"old"}},"a":{"b":{"w":1,"v":"new"}}}`, "new"},
	} {
		column := columns[c.column]
		r := &Resource{Columns: []Column{column}}
		reader := newReader(r, r.members()...)
		fields := reader.get()
		rawjson.Members([]byte(c.data), fields.set)
		v, err := column.read(fields, reader.sources[0])
		if got := show(&column, v, err); got != c.want {
			t.Errorf("%s of %s is %s (%v), want %s", c.column, c.data, got, err, c.want)
		}
		if want := strings.Count(c.data, `\u0000`) - strings.Count(c.data, `\\u0000`); err == nil && int(v.Replaced) < want {
			t.Errorf("%s of %s: %d characters replaced, want %d at least", c.column, c.data, v.Replaced, want)
		}
	}
}

func show(c *Column, v Value, err error) string {
	switch {
	case err != nil:
		return "error"
	case !v.Valid:
		return "null"
	case c.Type == Bool, c.Type == Integer, c.Type == Timestamp:
		return fmt.Sprint(v.Int)
	}
	return v.Text
}

func TestMadeColumns(t *testing.T) {
	t.Parallel()
	users := ByTable("users")
	for _, c := range []struct{ data, want string }{ // name, email, email_verified, phone
		{`"x":0`, "null null null null"},
		{`"first_name":"Ada","last_name":"Lovelace"`, "Ada Lovelace null null null"},
		{`"first_name":null,"last_name":"L"`, "L null null null"},
		{`"first_name":"A","last_name":""`, "A null null null"},
		{`"first_name":"","last_name":""`, "null null null null"},
		{`"primary_email_address_id":"i","email_addresses":[]`, "null null null null"},
		{`"primary_email_address_id":null,"email_addresses":[{"id":null,"email_address":"a"}]`, "null null null null"},
		{`"primary_email_address_id":"i","email_addresses":[{"id":"j","email_address":"b"},{"id":"i","email_address":"a","verification":{"status":"verified"}}]`, "null a 1 null"},
		{`"primary_email_address_id":"i","email_addresses":[{"id":"i","email_address":"a","verification":null}]`, "null a 0 null"},
		{`"primary_email_address_id":"i","email_addresses":[{"id":"i","email_address":"a","verification":{"status":"unverified"}}]`, "null a 0 null"},
		{`"primary_email_address_id":"i","email_addresses":[null,5,"i",{"id":"i"}]`, "null null 0 null"},
		{`"primary_email_address_id":"i","email_addresses":{"id":"i"}`, "null null null null"},
		{`"primary_phone_number_id":"i","phone_numbers":[{"id":"i","phone_number":"+1"}]`, "null null null +1"},
	} {
		change, err := decode(t, `{"type":"user.created","data":{"id":"u",`+c.data+`}}`)
		if err != nil {
			t.Errorf("%s: %v", c.data, err)
			continue
		}
		var got []string
		for _, name := range []string{"name", "email", "email_verified", "phone"} {
			i := users.Column(name)
			got = append(got, show(&users.Columns[i], change.Values[i], nil))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", c.data, got, c.want)
		}
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{ // "": not ours
		``:                                     "",
		`null`:                                 "",
		`[]`:                                   "",
		`{}`:                                   "",
		`{"type":"user"}`:                      "",
		`{"type":5,"data":{"id":"u"}}`:         "",
		`{"type":"email.created","data":{}}`:   "",
		`{"type":"session.created","data":{}}`: "error",
		`{"Type":"user.created","data":{"id":"u"}}`:                                  "",
		`{"type":"user.created"}`:                                                    "error",
		`{"type":"user.created","data":null}`:                                        "error",
		`{"type":"user.created","data":{"ID":"u"}}`:                                  "error",
		`{"type":"user.created","data":{"id":""}}`:                                   "error",
		`{"type":"user.created","data":{"id":null}}`:                                 "error",
		`{"type":"user.created","data":{"id":7}}`:                                    "error",
		`{"type":"user.created","data":{"id":"a\u0000"}}`:                            "error",
		`{"type":"user.deleted","data":{"deleted":true}}`:                            "error",
		`{"type":"user.created","data":{"id":"u","banned":"yes"}}`:                   "error",
		`{"type":"user.created","data":{"id":"old"},"data":{"id":"u"}}`:              "users u content",
		`{"type":"user.created","data":{"id":"old"},"data":null}`:                    "error",
		`{"type":"user.created","data":{"id":"old","id":"u"}}`:                       "users u content",
		`{"type":"user.created","data":{"id":"u","ID":"no","Id":5}}`:                 "users u content",
		`{"type":"user.brandNew","data":{"id":"u"}}`:                                 "users u content",
		`{"type":"user.created","data":{"id":"u","object":"organization"}}`:          "users u content",
		`{"type":"user.deleted","data":{"id":"u","banned":"ignored"}}`:               "users u deletion",
		`{"type":"organizationMembership.created","data":{"id":"m"}}`:                "organization_memberships m content",
		`{"type":"organizationMembership.deleted","data":{"id":"m","updated_at":1}}`: "organization_memberships m deletion",
	} {
		c, err := decode(t, body)
		got := ""
		switch {
		case err != nil:
			got = "error"
		case c != nil && c.Deletion():
			got = c.Resource.Table + " " + c.ID + " deletion"
		case c != nil:
			got = c.Resource.Table + " " + c.ID + " content"
		}
		if got != want {
			t.Errorf("%s is %q (%v), want %q", body, got, err, want)
		}
	}
}

// What can't be read is named without what it says.
func TestErrorsNameNoPersonalData(t *testing.T) {
	t.Parallel()
	_, err := decode(t, `{"type":"user.created","data":{"id":"u","banned":"ada@example.org"}}`)
	if err == nil || strings.Contains(err.Error(), "ada") || !strings.Contains(err.Error(), "banned") {
		t.Errorf("%v, want the column and not the value", err)
	}
}

// A delete is of the envelope's time, in seconds or milliseconds; without one,
// of when it reached us.
func TestDeletedAt(t *testing.T) {
	t.Parallel()
	for timestamp, want := range map[string]int64{
		`"timestamp":1700000005,`:         1_700_000_005_000_000,
		`"timestamp":1700000005123,`:      1_700_000_005_123_000,
		`"timestamp":1700000005.9,`:       1_700_000_005_000_000,
		``:                                1_700_000_000_001_000,
		`"timestamp":null,`:               1_700_000_000_001_000,
		`"timestamp":"1700000005",`:       1_700_000_000_001_000,
		`"timestamp":9e18,`:               1_700_000_000_001_000, // beyond the year 9999
		`"timestamp":-99999999999999999,`: 1_700_000_000_001_000,
		`"timestamp":1,"timestamp":2e0,`:  2_000_000,
		`"Timestamp":5,"timestamp":3,`:    3_000_000,
		`"timestamp":253402300799999,`:    253_402_300_799_999_000,
		`"timestamp":253402300800000,`:    1_700_000_000_001_000,
		`"timestamp":{"timestamp":1e10},`: 1_700_000_000_001_000,
		`"timestamp":99999999999,`:        99_999_999_999_000_000, // still seconds
	} {
		c, err := decode(t, `{"type":"user.deleted",`+timestamp+`"data":{"id":"u"}}`)
		if err != nil {
			t.Fatal(err)
		}
		if c.DeletedAt != want {
			t.Errorf("%s deleted at %d, want %d", timestamp, c.DeletedAt, want)
		}
	}
}
