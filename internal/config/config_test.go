package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"

	"github.com/rollcall-dev/rollcall/internal/projection"
)

// environment is an Env of the variables given.
func environment(vars map[string]string) Env {
	return func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	}
}

func load(t *testing.T, text string, vars map[string]string) *Config {
	t.Helper()
	c, err := parse(DefaultFile, []byte(text), environment(vars))
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	return c
}

// mistakes are the lines of the error that must come out.
func mistakes(t *testing.T, text string, vars map[string]string) []string {
	t.Helper()
	_, err := parse(DefaultFile, []byte(text), environment(vars))
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("parse gave %v; want an *Error", err)
	}
	return strings.Split(e.Error(), "\n")
}

// TestBadFiles holds each file of testdata/bad against the messages in its own
// "# want:" lines: all of them, with their places, and no other.
func TestBadFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(data)) {
				if w, ok := strings.CutPrefix(line, "# want: "); ok {
					want = append(want, DefaultFile+strings.TrimSuffix(w, "\n"))
				}
			}
			got := mistakes(t, string(data), nil)
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("messages (-want +got):\n%s", d)
			}
			for _, line := range got {
				if strings.Contains(line, "top") {
					t.Errorf("a message shows a secret: %s", line)
				}
			}
		})
	}
}

func TestBadEnvironment(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	for name, c := range map[string]struct {
		vars map[string]string
		want []string
	}{
		"empty secret": {
			map[string]string{"CLERK_WEBHOOK_SIGNING_SECRET": ""},
			[]string{"CLERK_WEBHOOK_SIGNING_SECRET: is empty; give instance.webhook_secrets a value, or unset the variable"},
		},
		"malformed secret": {
			map[string]string{"ROLLCALL_WEBHOOK_SIGNING_SECRETS": "whsec_c2VjcmV0,whsec_?"},
			[]string{"ROLLCALL_WEBHOOK_SIGNING_SECRETS: instance.webhook_secrets[1] isn't whsec_ and base64; copy the signing secret (whsec_…) from the endpoint's page in Clerk's dashboard"},
		},
		"not a number": {
			map[string]string{"ROLLCALL_NATS_REPLICAS": "many"},
			[]string{`ROLLCALL_NATS_REPLICAS: nats.replicas must be a whole number, not "many"`},
		},
		"half a password in the path": {
			map[string]string{"NATS_URL": "nats://a,nats://u:12/topsecret@h"},
			[]string{"NATS_URL: nats.url has an @ after the host; percent-encode what is special in the password (/ as %2F, ? as %3F)"},
		},
		"columns without their table": {
			map[string]string{"DATABASE_URL": "postgres://h/db", "ROLLCALL_STORES_APP_EXCLUDE": "users.phone,name"},
			[]string{`ROLLCALL_STORES_APP_EXCLUDE: stores.app.exclude must be a list of table.column, not "name"`},
		},
		"an unknown column": {
			map[string]string{"DATABASE_URL": "postgres://h/db", "ROLLCALL_STORES_APP_EXCLUDE": "users.phone,users.nane"},
			[]string{`ROLLCALL_STORES_APP_EXCLUDE: stores.app.exclude.users[1] is "nane", which users doesn't have; did you mean name?`},
		},
		"both forms": {
			map[string]string{"NATS_URL": "nats://a", "NATS_URL_FILE": secret},
			[]string{"NATS_URL_FILE: NATS_URL is set too; unset one of them"},
		},
		"no such file": {
			map[string]string{"DATABASE_URL_FILE": secret},
			[]string{"DATABASE_URL_FILE: can't read " + secret + ": no such file or directory"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(c.want, mistakes(t, "", c.vars)); d != "" {
				t.Errorf("messages (-want +got):\n%s", d)
			}
		})
	}
	t.Run("one name for two settings", func(t *testing.T) {
		t.Parallel()
		got := mistakes(t, "stores: {a-b: {}, a_b: {schema: x}}", map[string]string{"ROLLCALL_STORES_A_B_SCHEMA": "y"})
		want := []string{"ROLLCALL_STORES_A_B_SCHEMA: could mean stores.a-b.schema or stores.a_b.schema; rename one of them"}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("messages (-want +got):\n%s", d)
		}
	})
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	want := &Config{
		Instances:  []Instance{{APIURL: "https://api.clerk.com"}},
		NATS:       NATS{Create: true, Replicas: 1, Durability: "fsync", DedupeWindow: 28 * time.Hour},
		Audit:      Audit{Migrate: "auto"},
		Invalidate: Invalidate{NATS: true, Redis: Redis{Channel: "rollcall.invalidate"}, Keys: defaultKeys()},
		Gateway:    Gateway{Addr: ":8082", MaxTokenLife: 10 * time.Minute, Revocation: GatewayRevocation{OnStale: "closed"}},
		Ingest:     Ingest{Addr: ":8080", MaxBody: 1 << 20, Codes: "redact", MaxMemory: 32 << 20, ReadTimeout: 10 * time.Second},
		Log:        Log{SessionTTL: 90 * 24 * time.Hour, MessageTTL: 7 * 24 * time.Hour},
		Health:     Health{Addr: ":8089"},
	}
	// Empty values leave defaults, so that a file may show every key.
	for _, text := range []string{"", "# nothing", "ingest: {addr: , codes: \"\"}\nnats:\ninstance: {webhook_secrets: []}"} {
		if d := cmp.Diff(want, load(t, text, nil), cmpopts.IgnoreUnexported(Config{}, Invalidate{}, Gateway{})); d != "" {
			t.Errorf("%q (-want +got):\n%s", text, d)
		}
	}
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	const file = "nats: {url: nats://file}"
	vars := map[string]string{"NATS_URL": "nats://ecosystem"}
	for _, c := range []struct{ name, file, want, origin string }{
		{"variable of the ecosystem fills", "", "nats://ecosystem", "NATS_URL"},
		{"also what the file leaves empty", `nats: {url: ""}`, "nats://ecosystem", "NATS_URL"},
		{"file wins over it", file, "nats://file", "rollcall.yaml:1"},
		{"file may name it", "nats:\n  url: ${NATS_URL}", "nats://ecosystem", "rollcall.yaml:2"},
	} {
		got := load(t, c.file, vars)
		if got.NATS.URL != c.want || got.Origin("nats.url") != c.origin {
			t.Errorf("%s: %s from %s; want %s from %s", c.name, got.NATS.URL, got.Origin("nats.url"), c.want, c.origin)
		}
	}
	vars["ROLLCALL_NATS_URL"] = "nats://override"
	if got := load(t, file, vars).NATS.URL; got != "nats://override" {
		t.Errorf("ROLLCALL_NATS_URL gave way to %s", got)
	}
	// An override saves a file that can't be expanded here.
	if got := load(t, "nats: {url: \"${UNSET}\"}", vars).NATS.URL; got != "nats://override" {
		t.Errorf("ROLLCALL_NATS_URL gave way to %s", got)
	}
}

func TestFileVariables(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("postgres://u:p@h/db\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ variable, file string }{
		{"DATABASE_URL_FILE", ""},
		{"ROLLCALL_STORES_APP_DATABASE_URL_FILE", ""},
		{"ORDERS_URL_FILE", "stores: {app: {database_url: \"${ORDERS_URL}\"}}"},
	} {
		got := load(t, c.file, map[string]string{c.variable: file})
		if s, _ := got.Store("app"); s.DatabaseURL != "postgres://u:p@h/db" {
			t.Errorf("%s: database_url is %q", c.variable, s.DatabaseURL)
		}
	}
}

func TestInvalidate(t *testing.T) {
	t.Parallel()
	vars := map[string]string{
		"DATABASE_URL":                      "postgres://h/db",
		"ROLLCALL_INVALIDATE_HTTP_0_SECRET": "whsec_b25l",
		"ROLLCALL_INVALIDATE_HTTP_1_URL":    "https://b.example",
		"ROLLCALL_INVALIDATE_HTTP_1_SECRET": "whsec_dHdv",
		"ROLLCALL_INVALIDATE_KEYS_ROLES":    "role:{key}, roles",
		"ROLLCALL_INVALIDATE_REDIS_URL":     "redis://a",
		"REDIS_URL":                         "redis://b",
	}
	got := load(t, "invalidate: {http: [{url: https://a.example}], keys: {users: [\"{id}\"]}}", vars).Invalidate
	want := Invalidate{
		After: []string{"app"}, NATS: true, Redis: Redis{URL: "redis://a", Channel: "rollcall.invalidate"},
		HTTP: []Purge{{"https://a.example", "whsec_b25l"}, {"https://b.example", "whsec_dHdv"}},
		Keys: map[string][]string{"users": {"{id}"}, "roles": {"role:{key}", "roles"}},
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Invalidate{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	none := "rollcall.yaml:1:20: invalidate has nobody to tell; set REDIS_URL, name a URL under invalidate.http, or leave invalidate.nats on"
	if err := load(t, "invalidate: {nats: false}", nil).RequireInvalidate(); err == nil || err.Error() != none {
		t.Errorf("without targets: %v", err)
	}
	for _, c := range []struct {
		file       string
		vars       map[string]string
		configured bool
		after      int
	}{
		{"", nil, false, 0},
		{"", map[string]string{"REDIS_URL": "redis://a", "DATABASE_URL": "postgres://h/db"}, true, 1},
		{"invalidate: {after: []}", map[string]string{"DATABASE_URL": "postgres://h/db"}, true, 0},
		{"invalidate: {}", nil, true, 0},
		{"", map[string]string{"ROLLCALL_INVALIDATE_KEYS_USERS": "{id}"}, true, 0},
	} {
		if got := load(t, c.file, c.vars).Invalidate; got.Configured() != c.configured || len(got.After) != c.after {
			t.Errorf("%q, %v: configured %t, after %v", c.file, c.vars, got.Configured(), got.After)
		}
	}
}

func TestInstances(t *testing.T) {
	t.Parallel()
	vars := map[string]string{
		"CLERK_WEBHOOK_SIGNING_SECRET":            "whsec_b25l",
		"ROLLCALL_WEBHOOK_SIGNING_SECRETS":        "whsec_dHdv, whsec_b25l",
		"CLERK_JWT_KEY":                           `-----BEGIN PUBLIC KEY-----\nMA==\n-----END PUBLIC KEY-----`,
		"ROLLCALL_INSTANCES_US_2_WEBHOOK_SECRETS": "whsec_dXM=",
	}
	one := load(t, "", vars).Instances[0]
	if d := cmp.Diff([]string{"whsec_b25l", "whsec_dHdv"}, one.WebhookSecrets); d != "" {
		t.Errorf("secrets of the only instance (-want +got):\n%s", d)
	}
	if !strings.Contains(one.JWTKey, "\nMA==\n") {
		t.Errorf("jwt_key is %q; want line breaks", one.JWTKey)
	}
	named := load(t, "instances: {eu: }\nstores: {app: }", vars)
	if in := named.Instances[0]; in.Name != "eu" || len(in.WebhookSecrets) != 2 || named.Stores[0].Instance != "eu" {
		t.Errorf("a single named instance is %+v, and its store follows %q", in, named.Stores[0].Instance)
	}
	for _, text := range []string{"instances: {us-2: {id: ins_2}, eu: {id: ins_1}}", "instances: [{name: us-2, id: ins_2}, {id: ins_1, name: eu}]"} {
		want := []Instance{
			{Name: "eu", ID: "ins_1", APIURL: "https://api.clerk.com"},
			{Name: "us-2", ID: "ins_2", APIURL: "https://api.clerk.com", WebhookSecrets: []string{"whsec_dXM="}},
		}
		c := load(t, text, vars)
		if d := cmp.Diff(want, c.Instances); d != "" {
			t.Errorf("%s (-want +got):\n%s", text, d)
		}
		err := c.RequireIngest()
		if err == nil || !strings.Contains(err.Error(), "set ROLLCALL_INSTANCES_EU_WEBHOOK_SECRETS") {
			t.Errorf("RequireIngest: %v; want the variable to set", err)
		}
	}
}

func TestStores(t *testing.T) {
	t.Parallel()
	vars := map[string]string{"DATABASE_URL": "postgres://h/app", "ROLLCALL_STORES_BIG_ONE_SCHEMA": "wide"}
	c := load(t, "stores: {small: {on_delete: hard, migrate_database_url: \"postgres://owner@h/app\"}, big-one: {migrate: off}}", vars)
	want := []Store{
		{Name: "big-one", DatabaseURL: "postgres://h/app", MigrateDatabaseURL: "postgres://h/app", Migrate: "off", Schema: "wide", OnDelete: "tombstone"},
		{Name: "small", DatabaseURL: "postgres://h/app", MigrateDatabaseURL: "postgres://owner@h/app", Migrate: "auto", Schema: "clerk", OnDelete: "hard"},
	}
	if d := cmp.Diff(want, c.Stores); d != "" {
		t.Errorf("stores (-want +got):\n%s", d)
	}
	if err := c.RequireStore("small"); err != nil {
		t.Errorf("RequireStore: %v", err)
	}
	if err := c.RequireStore("huge"); err == nil || !strings.Contains(err.Error(), "known: big-one, small") {
		t.Errorf("RequireStore of an unknown store: %v", err)
	}
	narrow := load(t, `stores: {app: {resources: [users], include: {users: [private_metadata]}, exclude: {users: [phone]}}}`,
		map[string]string{"DATABASE_URL": "postgres://h/app", "ROLLCALL_STORES_APP_RESOURCES": "users,roles", "ROLLCALL_STORES_APP_EXCLUDE": "users.email,users.name, roles.description"}).Stores[0]
	wantSelection := projection.Selection{
		Tables: []string{"users", "roles"}, Include: map[string][]string{"users": {"private_metadata"}},
		Exclude: map[string][]string{"users": {"email", "name"}, "roles": {"description"}},
	}
	if d := cmp.Diff(wantSelection, narrow.Selection()); d != "" {
		t.Errorf("selection (-want +got):\n%s", d)
	}
	lone := load(t, "stores:\n  app: {schema: x}", nil)
	wantErr := "rollcall.yaml:2:3: stores.app.database_url isn't set; set DATABASE_URL, or stores.app.database_url in rollcall.yaml"
	if err := lone.RequireStore("app"); err == nil || err.Error() != wantErr {
		t.Errorf("RequireStore without a database:\n%v\nwant\n%s", err, wantErr)
	}
	several := load(t, "", map[string]string{"DATABASE_URL": "postgres://u:p@h1:5432,h2:5433/db?target_session_attrs=read-write"})
	if got := several.Stores[0]; got.Name != DefaultStore || got.Schema != "clerk" {
		t.Errorf("store of DATABASE_URL alone: %+v", got)
	}
}

func TestRequireNATS(t *testing.T) {
	t.Parallel()
	if err := load(t, "", nil).RequireNATS(); err == nil || !strings.Contains(err.Error(), "set NATS_URL") {
		t.Errorf("without an address: %v", err)
	}
	c := load(t, "nats: {url: localhost, creds: /nowhere/x.creds}", nil)
	want := "rollcall.yaml:1:31: nats.creds names a file that can't be read: /nowhere/x.creds: no such file or directory"
	if err := c.RequireNATS(); err == nil || err.Error() != want {
		t.Errorf("creds:\n%v\nwant\n%s", err, want)
	}
	if err := load(t, "nats: {url: localhost}", nil).RequireNATS(); err != nil {
		t.Errorf("with an address: %v", err)
	}
}

func TestLoadFile(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if _, err := Load("", environment(nil)); err != nil {
		t.Errorf("without a file: %v", err)
	}
	want := "missing.yaml: can't be read: no such file or directory; name another file with --config"
	if _, err := Load("missing.yaml", environment(nil)); err == nil || err.Error() != want {
		t.Errorf("missing file: %v; want %s", err, want)
	}
	if err := os.WriteFile(DefaultFile, []byte("health: {addr: \":1\"}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Load("", environment(nil)); err != nil || c.Health.Addr != ":1" {
		t.Errorf("default file: %+v, %v", c, err)
	}
}

func TestPrint(t *testing.T) {
	t.Parallel()
	vars := map[string]string{
		"CLERK_WEBHOOK_SIGNING_SECRET": "whsec_dG9wc2VjcmV0",
		"CLERK_SECRET_KEY":             "sk_live_topsecret",
		"NATS_URL":                     "nats://u:topsecret@a:4222,nats://topsecret@b,v:topsecret@c:4222",
		"NATS_CREDS":                   "-----BEGIN NATS USER JWT-----\ntopsecret",
		"DATABASE_URL":                 "postgres://u:top%20secret@h:1,h:2/db?sslmode=verify-full&sslpassword=topsecret",
		"ROLLCALL_INGEST_MAX_BODY":     "2MiB",
		"ROLLCALL_STORES_APP_INCLUDE":  "users.private_metadata, organizations.private_metadata",
		"REDIS_URL":                    "rediss://:topsecret@r:6380/1",
	}
	c := load(t, `log:
  session_ttl: 36h
nats: {monitor_url: "http://u:topsecret@h:8222"}
stores:
  app:
    resources: [users, organizations]
    exclude: {users: [phone, phone_numbers]}
    migrate_database_url: user=o password='top \'secret' host=h
  "on": {schema: "x", database_url: postgres://me@h/db}
invalidate:
  after: [app]
  keys: {users: ["user:{id}", "u:{email}"]}
  http: [{url: https://u:topsecret@edge.example/purge, secret: whsec_dG9wc2VjcmV0}]
`, vars)
	var out bytes.Buffer
	if err := c.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"topsecret", "dG9wc2VjcmV0", "top", "secret'"} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("shows the secret %q", secret)
		}
	}
	golden(t, "print.yaml", out.Bytes())
}

// golden compares with a file of testdata; UPDATE=1 writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got); UPDATE=1 writes it:\n%s", file, d)
	}
}

// TestTable: every setting is documented, and its path, default and variable
// do what the table says.
func TestTable(t *testing.T) {
	t.Parallel()
	var sections []string
	seen := map[string]bool{}
	for _, s := range Table() {
		path := strings.NewReplacer("NAME", "app", "http.0", "http", "TABLE", "users").Replace(s.Path)
		if s.Doc == "" || s.Env == "" || seen[s.Env] {
			t.Errorf("%s: documentation or variable is missing or there twice: %+v", s.Path, s)
		}
		seen[s.Env] = true
		if s.Default != "" {
			name := strings.ReplaceAll(s.Env, "NAME", "APP")
			c := load(t, "", map[string]string{"DATABASE_URL": "postgres://h/db", "ROLLCALL_GATEWAY_ROUTES_0_PATH": "/", name: s.Default})
			if c.Origin(path) != name {
				t.Errorf("%s: %s sets nothing", s.Path, name)
			}
		}
		if strings.HasPrefix(path, purgePath) {
			path = purgePath // there is none by default
		}
		if strings.HasPrefix(path, "gateway.routes") {
			path = "gateway.routes"
		}
		sections = append(sections, path)
	}
	sections = slices.Compact(sections)
	var out bytes.Buffer
	vars := map[string]string{"DATABASE_URL": "postgres://h/db", "ROLLCALL_INVALIDATE_KEYS_USERS": "user:{id}"}
	if err := load(t, "", vars).Print(&out); err != nil {
		t.Fatal(err)
	}
	var printed yaml.Node
	if err := yaml.Unmarshal(out.Bytes(), &printed); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(sections, leaves("", printed.Content[0])); d != "" {
		t.Errorf("Table and Print differ (-table +print):\n%s", d)
	}
}

func leaves(path string, n *yaml.Node) []string {
	if n.Kind != yaml.MappingNode || n.Style == yaml.FlowStyle {
		return []string{path}
	}
	var out []string
	for i := 0; i < len(n.Content); i += 2 {
		out = append(out, leaves(join(path, n.Content[i].Value), n.Content[i+1])...)
	}
	return out
}

func TestSizesAndDurations(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int64{"0": 0, "1000": 1000, "64GiB": 64 << 30, "500MB": 5e8, "2 KiB": 2048} {
		n, err := parseSize(s)
		if err != nil || n != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", s, n, err, want)
		}
		if again, err := parseSize(formatSize(n)); err != nil || again != n {
			t.Errorf("%q is formatted %q", s, formatSize(n))
		}
	}
	for _, s := range []string{"", "-1", "1.5GiB", "1G", "9000000TiB", "99999999999999999999"} {
		if n, err := parseSize(s); err == nil {
			t.Errorf("parseSize(%q) = %d; want an error", s, n)
		}
	}
	for d, want := range map[time.Duration]string{28 * time.Hour: "28h", 90 * time.Second: "1m30s", time.Minute: "1m", 0: "0s", time.Hour + time.Second: "1h0m1s"} {
		if got := formatDuration(d); got != want {
			t.Errorf("formatDuration(%d) = %s; want %s", d, got, want)
		}
	}
}

// FuzzLoad: any file is either an error with mistakes, or a configuration
// whose printed form has only keys that Load knows.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, "testdata/print.yaml") {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "postgres://h/db")
	}
	f.Fuzz(func(t *testing.T, data []byte, url string) {
		env := environment(map[string]string{"DATABASE_URL": url, "ROLLCALL_NATS_URL": url})
		c, err := parse(DefaultFile, data, env)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || len(e.Mistakes) == 0 {
				t.Fatalf("an error without mistakes: %v", err)
			}
			return
		}
		var out bytes.Buffer
		if err := c.Print(&out); err != nil {
			t.Fatal(err)
		}
		_, err = parse("printed.yaml", out.Bytes(), environment(nil))
		for _, wrong := range []string{"unknown key", "no YAML", "must be", "needs the"} {
			if err != nil && strings.Contains(err.Error(), wrong) {
				t.Fatalf("printed:\n%s\n%v", &out, err)
			}
		}
	})
}
