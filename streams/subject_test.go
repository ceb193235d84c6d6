package streams_test

import (
	"strings"
	"testing"

	"github.com/rollcall-dev/rollcall/streams"
)

func TestSubject(t *testing.T) {
	t.Parallel()
	long := strings.Repeat(" ", 2000)
	for _, c := range []struct {
		name    string
		subject streams.Subject
		want    string
	}{
		{"plain", streams.Subject{"ins_2g7", "user", "updated", "user_2g7"}, "clerk.ins_2g7.user.updated.user_2g7"},
		{"absent", streams.Subject{"", "email", "created", ""}, "clerk._.email.created._"},
		{"underscore", streams.Subject{"_", "user", "created", "__"}, "clerk.%5F.user.created.__"},
		{"structure", streams.Subject{"ins", "user", "created", "a.b*c>d%e f\tg"}, "clerk.ins.user.created.a%2Eb%2Ac%3Ed%25e%20f%09g"},
		{"unicode", streams.Subject{"ins", "user", "created", "é\x00\x7f\xff"}, "clerk.ins.user.created.%C3%A9%00%7F%FF"},
		{"others", streams.Subject{"ins", "user", "created", "$a/b\\c:@=+"}, "clerk.ins.user.created.$a/b\\c:@=+"},
		{"long", streams.Subject{"ins", "user", "created", long}, "clerk.ins.user.created." + strings.Repeat("%20", 2000)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, prefix := range []string{"", "staging"} {
				n, want := streams.Names{Prefix: prefix}, c.want
				if prefix != "" {
					want = prefix + "." + want
				}
				subject := n.Subject(c.subject)
				if subject != want {
					t.Errorf("Subject = %s, want %s", subject, want)
				}
				if back, err := n.ParseSubject(subject); err != nil || back != c.subject {
					t.Errorf("ParseSubject = %+v, %v", back, err)
				}
			}
		})
	}
}

func TestParseSubjectRefuses(t *testing.T) {
	t.Parallel()
	staging := streams.Names{Prefix: "staging"}
	for _, c := range []struct {
		names   streams.Names
		subject string
	}{
		{staging, "clerk.ins.user.created.user_1"},
		{streams.Names{}, "staging.clerk.ins.user.created.user_1"},
		{streams.Names{}, ""},
		{streams.Names{}, "clerk.ins.user.created"},
		{streams.Names{}, "clerk.ins.user.created.user.1"},
		{streams.Names{}, "clerk.ins.user.created."},
		{streams.Names{}, "clerk.ins.user.created.%"},
		{streams.Names{}, "clerk.ins.user.created.%2"},
		{streams.Names{}, "clerk.ins.user.created.%2e"},
		{streams.Names{}, "clerk.ins.user.created.%G0"},
	} {
		if s, err := c.names.ParseSubject(c.subject); err == nil {
			t.Errorf("ParseSubject(%q) with prefix %q = %+v", c.subject, c.names.Prefix, s)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	n, none := streams.Names{Prefix: "staging"}, streams.Names{}
	subject := streams.Subject{"ins_1", "user", "updated", "user.1"}
	for _, c := range []struct{ got, want string }{
		{none.Stream(), "CLERK"},
		{n.Stream(), "STAGING_CLERK"},
		{n.DeadStream(), "STAGING_CLERK_DEAD"},
		{n.StateBucket(), "STAGING_CLERK_STATE"},
		{n.StreamSubjects(), "staging.clerk.>"},
		{none.DeadSubjects(), "rollcall.dead.>"},
		{none.DeadSubject(streams.SinkStore("orders"), subject), "rollcall.dead.store-orders.user.updated.user%2E1"},
		{n.DeadSubject(streams.SinkIngest, streams.Subject{}), "staging.rollcall.dead.ingest._._._"},
		{none.InstanceSubjects(""), "clerk.>"},
		{n.InstanceSubjects("ins.1"), "staging.clerk.ins%2E1.>"},
		{none.ResourceSubjects("", "organizationMembership"), "clerk.*.organizationMembership.*.*"},
		{n.ResourceSubjects("ins.1", "user"), "staging.clerk.ins%2E1.user.*.*"},
		{subject.Type(), "user.updated"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
	for _, prefix := range []string{"", "staging", "eu-1_b"} {
		if err := (streams.Names{Prefix: prefix}).Validate(); err != nil {
			t.Error(err)
		}
	}
	for _, prefix := range []string{"a.b", "A", "a b", "*", ">", "é", "clerk"} {
		if (streams.Names{Prefix: prefix}).Validate() == nil {
			t.Errorf("prefix %q passes", prefix)
		}
	}
}

func TestSplitType(t *testing.T) {
	t.Parallel()
	for eventType, want := range map[string]bool{
		"user.updated": true, "a.b": true, "user": false, ".updated": false, "user.": false, "a.b.c": false, "": false, "..": false,
	} {
		resource, action, ok := streams.SplitType(eventType)
		if ok != want || ok && resource+"."+action != eventType {
			t.Errorf("SplitType(%q) = %q, %q, %v", eventType, resource, action, ok)
		}
	}
}

func FuzzToken(f *testing.F) {
	for _, seed := range []string{"", "_", "__", "user_1", "a.b", "*", ">", "%", "%5F", " ", "\x00", "é", "\xff", "\x7f", "%2e"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		token := streams.Token(value)
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(".*>", r) }) {
			t.Fatalf("Token(%q) = %q cannot stand in a subject", value, token)
		}
		if back, err := streams.ParseToken(token); err != nil || back != value {
			t.Fatalf("ParseToken(%q) = %q, %v; want %q", token, back, err, value)
		}
		n, s := streams.Names{Prefix: "staging"}, streams.Subject{value, "user", value, value}
		if back, err := n.ParseSubject(n.Subject(s)); err != nil || back != s {
			t.Fatalf("ParseSubject(%q) = %+v, %v; want %+v", n.Subject(s), back, err, s)
		}
		// What is no token of ours is an error or a value, never a panic.
		if back, err := streams.ParseToken(value); err == nil && value == "" {
			t.Fatalf("ParseToken(%q) = %q", value, back)
		}
	})
}
