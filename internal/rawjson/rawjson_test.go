package rawjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{}`, ` [ ] `, `"a"`, `0`, `-1.5e+10`, `{"a":[1,{"b":null}],"c":"\u00e9\n"}`, "[true,false,null]", "\t{\n}\r",
	} {
		if err := Check([]byte(text), 10); err != nil {
			t.Errorf("Check(%q) = %v, want nil", text, err)
		}
	}
	for _, text := range []string{
		``, ` `, `{`, `}`, `[1,]`, `{"a"}`, `{"a":}`, `{a:1}`, `01`, `1.`, `1e`, `-`, `tru`, `"a`, "\"\n\"", `"\x"`, `"\u12g4"`, `{} {}`, `[1 2]`, `{"a":1]`,
	} {
		if err := Check([]byte(text), 10); !errors.Is(err, ErrSyntax) {
			t.Errorf("Check(%q) = %v, want ErrSyntax", text, err)
		}
	}
}

func TestCheckDepth(t *testing.T) {
	t.Parallel()
	nested := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	if err := Check(nested(1000), 1000); err != nil {
		t.Errorf("1,000 levels: %v", err)
	}
	if err := Check(nested(100_000), 1000); !errors.Is(err, ErrTooDeep) {
		t.Errorf("100,000 levels: %v, want ErrTooDeep", err)
	}
}

func TestMembers(t *testing.T) {
	t.Parallel()
	text := []byte(` { "a" : 1 , "\u0062":"x\"}" ,"c":{"d":[1,"]"]}, "a":2 } `)
	var got []string
	Members(text, func(k, v []byte) {
		if i := Offset(text, v); !bytes.Equal(text[i:i+len(v)], v) {
			t.Errorf("Offset of %s is %d", v, i)
		}
		got = append(got, string(k)+"="+string(v))
	})
	if want := `a=1 b="x\"}" c={"d":[1,"]"]} a=2`; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", strings.Join(got, " "), want)
	}
	if v := Member(text, "a"); string(v) != "2" {
		t.Errorf("Member a = %s, want the last", v)
	}
}

func TestInt(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"0": 0, "-7": -7, "1e3": 1000, "9223372036854775807": 1<<63 - 1, "-9223372036854775808": -1 << 63, "2.0": 2} {
		if n, ok := Int([]byte(text)); !ok || n != want {
			t.Errorf("Int(%s) = %d, %v", text, n, ok)
		}
	}
	for _, text := range []string{"9223372036854775808", "-9223372036854775809", "1.5", "1e19", `"1"`, "null", ""} {
		if n, ok := Int([]byte(text)); ok {
			t.Errorf("Int(%s) = %d, want none", text, n)
		}
	}
}

func TestStorable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in, want string
		n        int
	}{
		{`"a\u0000b"`, "\"a\uFFFDb\"", 1},
		{`"\ud800"`, "\"\uFFFD\"", 1},
		{`"\ud83d\ude00 \\u0000"`, `"\ud83d\ude00 \\u0000"`, 0},
		{`{"\udead\u0000":1}`, "{\"\uFFFD\uFFFD\":1}", 2},
		{"\"\xff\"", "\"\uFFFD\"", 1},
		{`{"n":12345678901234567890123}`, `{"n":12345678901234567890123}`, 0},
	} {
		got, n := Storable([]byte(c.in))
		if string(got) != c.want || n != c.n {
			t.Errorf("Storable(%s) = %s, %d; want %s, %d", c.in, got, n, c.want, c.n)
		}
	}
}

func FuzzAgainstEncodingJSON(f *testing.F) {
	for _, s := range []string{`{"a":"\u0000\ud800","b":[1.5e3,{}]}`, `"\ud83d\ude00"`, `[[[[]]]]`, `{"a":1,"a":2}`, "\"\xff\"", `1e400`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 1<<16 {
			return
		}
		err := Check(text, 10_000)
		if valid := json.Valid(text); valid != (err == nil) {
			t.Fatalf("Check(%q) = %v, encoding/json says valid: %v", text, err, valid)
		}
		if err != nil {
			Members(text, func(_, _ []byte) {}) // must end all the same
			Elements(text, func([]byte) {})
			return
		}
		checkStrings(t, text)
		clean, _ := Storable(text)
		_, again := Storable(clean)
		if Check(clean, 10_000) != nil || !utf8.Valid(clean) || again != 0 {
			t.Fatalf("Storable(%q) = %q", text, clean)
		}
	})
}

// checkStrings holds every key and string of the document against encoding/json.
func checkStrings(t *testing.T, value []byte) {
	switch Kind(value) {
	case '"':
		var want string
		if err := json.Unmarshal(value, &want); err != nil {
			t.Fatal(err)
		}
		if got, ok := Text(value); !ok || got != want {
			t.Fatalf("Text(%q) = %q, want %q", value, got, want)
		}
	case '{':
		want := map[string]json.RawMessage{}
		if err := json.Unmarshal(value, &want); err != nil {
			t.Fatal(err)
		}
		got := map[string][]byte{}
		Members(value, func(k, v []byte) {
			got[strings.ToValidUTF8(string(k), "\uFFFD")] = v
			checkStrings(t, v)
		})
		for k, v := range want {
			if g, ok := got[k]; ok && !bytes.Equal(g, v) {
				t.Fatalf("member %q of %q = %q, want %q", k, value, g, v)
			}
		}
	case '[':
		var want []json.RawMessage
		if err := json.Unmarshal(value, &want); err != nil {
			t.Fatal(err)
		}
		n := 0
		Elements(value, func(v []byte) {
			if !bytes.Equal(v, want[n]) {
				t.Fatalf("element %d of %q = %q", n, value, v)
			}
			n++
			checkStrings(t, v)
		})
		if n != len(want) {
			t.Fatalf("%d elements of %q, want %d", n, value, len(want))
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	text := []byte(`{"data":{"email_addresses":[` + strings.Repeat(`{"id":"idn_29w83yL7CwVlJXylYLxcslromF1","verified":true,"n":1654012591514},`, 18) + `{}]},"type":"user.updated"}`)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Check(text, 1000); err != nil {
			b.Fatal(err)
		}
	}
}
