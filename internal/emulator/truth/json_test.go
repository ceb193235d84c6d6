package truth

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// drawJSON draws JSON as outsiders may write it: in any spacing, with escapes
// that needn't be, with a name twice, with numbers in any form.
func drawJSON(t *rapid.T, depth int) string {
	space := rapid.SampledFrom([]string{"", "", " ", "\n\t"}).Draw(t, "space")
	drawText := rapid.Custom(func(t *rapid.T) string {
		parts := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "é", `\u00e9`, `\ud83d\ude00`, "😀", `\/`, "/", `\\`, `\"`, `\n`, `\u000a`, `\u001f`, "{", "]", ","}), 0, 3)
		return `"` + strings.Join(parts.Draw(t, "parts"), "") + `"`
	})
	var list []string
	switch rapid.IntRange(0, 6-min(depth, 2)).Draw(t, "kind") {
	case 0, 1:
		return rapid.StringMatching(`-?(0|[1-9][0-9]{0,2}|9007199254740993[0-9]{0,9})(\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?`).Draw(t, "number") + space
	case 2, 3:
		return space + drawText.Draw(t, "text")
	case 4:
		return space + rapid.SampledFrom([]string{"null", "true", "false", "0", "-0", "10", "1e1", "10.0"}).Draw(t, "literal")
	case 5:
		for range rapid.IntRange(0, 3).Draw(t, "length") {
			list = append(list, drawJSON(t, depth+1)+space)
		}
		return "[" + space + strings.Join(list, ",") + "]"
	}
	for range rapid.IntRange(0, 4).Draw(t, "length") {
		list = append(list, space+drawText.Draw(t, "name")+space+":"+space+drawJSON(t, depth+1))
	}
	return "{" + strings.Join(list, ",") + space + "}" + space
}

// Two documents have one canonical form exactly if Postgres takes them for
// equal, and a document keeps its form on its way through the database.
func TestCanonicalIsEqualityOfJSONB(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), stacktest.Database(t).OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // nothing is written
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawJSON(t, 0), drawJSON(t, 0)
		var stored string
		var equal bool
		if err := conn.QueryRow(t.Context(), "select $1::jsonb::text, $1::jsonb = $2::jsonb", a, b).Scan(&stored, &equal); err != nil {
			t.Fatalf("%s: %v", a, err)
		}
		form := func(s string) string { return string(appendCanonical(nil, []byte(strings.TrimSpace(s)))) }
		if got := form(a) == form(b); got != equal {
			t.Fatalf("%s and %s: equal %t, in Postgres %t", a, b, got, equal)
		}
		if form(a) != form(stored) {
			t.Fatalf("%s is %s, and from Postgres %s", a, form(a), form(stored))
		}
		if !json.Valid([]byte(form(a))) {
			t.Fatalf("%s becomes %s", a, form(a))
		}
	})
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`"\u0000|\ud800|\ude00x|` + "\xff" + `"`: `"�|�|�x|�"`,
		`{"\u0000":1,"\ud800":2,"b":[ ]}`:        `{"b":[],"�":2}`,
		`-0.0e7`:                                 `0`,
		`123456789012345678901234567890.10`:      `123456789012345678901234567890.1`,
		`-12.5e-3`:                               `-0.0125`,
		`1e1000`:                                 `1e1000`,
		`10e999`:                                 `1e1000`,
		`1e99999999999999999999`:                 `1e99999999999999999999`,
	} {
		if got := string(appendCanonical(nil, []byte(raw))); got != want {
			t.Errorf("%s is %s, want %s", raw, got, want)
		}
	}
}
