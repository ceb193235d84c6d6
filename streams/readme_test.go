package streams_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rollcall-dev/rollcall/streams"
)

// The tables of README.md that list constants or types, and its example, are
// made from the source.
func TestREADME(t *testing.T) {
	t.Parallel()
	s := parseSource(t)
	text := string(readFile(t, "README.md"))
	stores := constant{value: "store-<name>", comment: "could not become a row of the store of that name"}
	for marker, content := range map[string]string{
		"headers":      table("Header", s.eventHeaders()),
		"dead headers": table("Header", s.deadHeaders()),
		"sources":      table("Source", s.sources()),
		"sinks":        table("Sink", append(s.sinks(), stores)),
		"payloads":     payloadTable(t),
		"example":      "```go\n" + exampleSource(t) + "```\n",
	} {
		before, rest, ok := strings.Cut(text, "<!-- "+marker+" -->\n")
		_, after, closed := strings.Cut(rest, "<!-- end -->")
		if !ok || !closed {
			t.Fatalf("README.md has no place for %q", marker)
		}
		text = before + "<!-- " + marker + " -->\n" + content + "<!-- end -->" + after
	}
	holds(t, "README.md", text)
}

func table(head string, constants []constant) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s | |\n|---|---|\n", head)
	for _, c := range constants {
		fmt.Fprintf(&b, "| `%s` | %s |\n", c.value, c.comment)
	}
	return b.String()
}

func payloadTable(t *testing.T) string {
	var b strings.Builder
	b.WriteString("| Go | Types |\n|---|---|\n")
	for _, p := range payloadTypes(t) {
		types := "`" + strings.Join(p.types, "`, `") + "`"
		if len(p.types) == 0 {
			types = "of any other resource"
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", p.name, types)
	}
	return b.String()
}

// exampleSource is the text of the functions in example_test.go.
func exampleSource(t *testing.T) string {
	t.Helper()
	text := readFile(t, "example_test.go")
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, "example_test.go", text, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, d := range f.Decls {
		if function, ok := d.(*ast.FuncDecl); ok {
			if b.Len() > 0 {
				b.WriteString("\n")
			}
			b.Write(text[files.Position(function.Pos()).Offset:files.Position(function.End()).Offset])
			b.WriteString("\n")
		}
	}
	return b.String()
}

// The permissions that README.md names are enough for a service, and let it
// not publish into the log.
func TestPermissionsOfAService(t *testing.T) {
	t.Parallel()
	allowed := regexp.MustCompile(`(?m)^    (\$JS\.\S+)$`).FindAllStringSubmatch(string(readFile(t, "README.md")), -1)
	var publish []string
	for _, match := range allowed {
		publish = append(publish, match[1])
	}
	url := startServer(t,
		&server.User{Username: "operator", Password: "o"},
		&server.User{Username: "greeter", Password: "g", Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: publish},
			Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
		}})
	operator := connect(t, url, nats.UserInfo("operator", "o"))
	apply(t, operator, streams.Names{}.Definitions(streams.Options{}))
	_, err := operator.CreateConsumer(t.Context(), "CLERK", jetstream.ConsumerConfig{Durable: "greeter", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := operator.Publish(t.Context(), "clerk.ins_1.user.created.user_1", []byte("{}")); err != nil {
		t.Fatal(err)
	}

	denied := make(chan error, 1)
	greeter := connect(t, url, nats.UserInfo("greeter", "g"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		select {
		case denied <- err:
		default:
		}
	}))
	consumer, err := greeter.Consumer(t.Context(), "CLERK", "greeter")
	if err != nil {
		t.Fatal(err)
	}
	message, err := consumer.Next()
	if err != nil {
		t.Fatal(err)
	}
	if err := message.DoubleAck(t.Context()); err != nil {
		t.Errorf("acknowledge: %v", err)
	}
	select {
	case err := <-denied:
		t.Fatalf("not enough: %v", err)
	default:
	}
	if err := greeter.Conn().Publish("clerk.ins_1.user.deleted.user_1", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := <-denied; !strings.Contains(err.Error(), "Permissions Violation") {
		t.Errorf("publish into the log: %v", err)
	}
}
