package projection

import (
	"cmp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// tuple is a version as it is defined.
type tuple struct {
	class         Class
	terminal      bool
	updatedAt, at int64
	rank          byte
	eventID       string
}

func (v tuple) version() Version {
	return NewVersion(v.class, v.terminal, v.updatedAt, v.at, v.rank, v.eventID)
}

func compareTuples(a, b tuple) int {
	bit := func(v bool) int {
		if v {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(bit(a.terminal), bit(b.terminal)), cmp.Compare(a.updatedAt, b.updatedAt),
		cmp.Compare(a.at, b.at), cmp.Compare(a.rank, b.rank), strings.Compare(a.eventID, b.eventID))
}

// drawTuple draws from few values where equality matters, and from all.
func drawTuple(t *rapid.T, name string) tuple {
	at := rapid.OneOf(rapid.Int64Range(-2, 2), rapid.Int64Range(1_700_000_000_000, 1_700_000_000_002), rapid.Int64())
	return tuple{
		class: rapid.SampledFrom([]Class{ClassStub, ClassEmbedded, ClassOwn}).Draw(t, name+" class"), terminal: rapid.Bool().Draw(t, name+" terminal"),
		updatedAt: at.Draw(t, name+" updated_at"), at: at.Draw(t, name+" timestamp"), rank: rapid.ByteRange(0, 2).Draw(t, name+" rank"),
		eventID: rapid.OneOf(rapid.SampledFrom([]string{"", "m", "ma", "m\x00", "m\xff", "é"}), rapid.String()).Draw(t, name+" event"),
	}
}

func TestVersionsCompareAsTuples(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawTuple(t, "a"), drawTuple(t, "b")
		// Often only the tail differs.
		switch rapid.IntRange(0, 4).Draw(t, "same") {
		case 4:
			b.rank = a.rank
			fallthrough
		case 3:
			b.at = a.at
			fallthrough
		case 2:
			b.updatedAt = a.updatedAt
			fallthrough
		case 1:
			b.class, b.terminal = a.class, a.terminal
		}
		if got, want := cmp.Compare(a.version(), b.version()), compareTuples(a, b); got != want {
			t.Fatalf("%+v and %+v compare as %d, want %d", a, b, got, want)
		}
		if a.version() <= "" {
			t.Fatalf("%+v is not above the version of a row without content", a)
		}
	})
}

// The order of events by what their bodies say, lowest first.
func TestVersionsOfEvents(t *testing.T) {
	t.Parallel()
	var last Version
	for _, body := range []string{
		`{"type":"user.created","data":{"id":"u"}}`,
		`{"type":"user.created","timestamp":1,"data":{"id":"u"}}`,
		`{"type":"user.updated","timestamp":1,"data":{"id":"u","updated_at":null}}`,
		`{"type":"user.pending","timestamp":1700000000,"data":{"id":"u"}}`,
		`{"type":"user.created","timestamp":1700000000000,"data":{"id":"u"}}`,
		`{"type":"user.updated","timestamp":1700000000,"data":{"id":"u"}}`,
		`{"type":"user.created","timestamp":1700000001,"data":{"id":"u"}}`,
		`{"type":"user.created","timestamp":1,"data":{"id":"u","updated_at":1}}`, // however late an event without updated_at is
		`{"type":"user.created","data":{"id":"u","updated_at":1700000000000}}`,
		`{"type":"user.snapshot","timestamp":1,"data":{"id":"u","updated_at":1700000000000}}`,
	} {
		c, err := decode(t, body)
		if err != nil {
			t.Fatal(err)
		}
		if c.Version <= last {
			t.Errorf("%s is not newer than the one before", body)
		}
		last = c.Version
	}
}
