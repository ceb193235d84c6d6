// Package config turns rollcall.yaml and the environment into one checked
// struct, and reports every mistake in them with the place where it stands.
//
// A setting is one field: its yaml tag is the key, default and doc tags are
// what [Table] and [Config.Print] show, an env tag names the variable of the
// ecosystem that fills it. Where several places set it, the first wins:
//
//	ROLLCALL_<PATH> > rollcall.yaml > the variable of the ecosystem > default
//
// Every variable may instead be given as <NAME>_FILE, the path of a file that
// holds the value. An empty variable counts as unset.
package config

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/internal/projection"
)

// DefaultFile is read from the working directory when no file is named.
const DefaultFile = "rollcall.yaml"

// Config is what is in force. [Load] makes it; who changes it afterwards
// answers for its being valid.
type Config struct {
	Instances  []Instance // at least one; the only one of an `instance:` section has no name
	NATS       NATS       `yaml:"nats"`
	Stores     []Store    // sorted by name
	Audit      Audit      `yaml:"audit"`
	Invalidate Invalidate
	Revoke     Revoke `yaml:"revoke"`
	Gateway    Gateway
	Identity   Identity `yaml:"identity"`
	Ingest     Ingest   `yaml:"ingest"`
	Log        Log      `yaml:"log"`
	Health     Health   `yaml:"health"`

	file string            // as errors name it; "" without one
	from map[string]origin // by path: what is not a default
}

// Instance is one Clerk instance.
type Instance struct {
	Name              string   // as in /webhooks/clerk/{name}; "" for the only one
	ID                string   `yaml:"id" doc:"Clerk's id of the instance (ins_…); unset: any under a valid signature"`
	PublishableKey    string   `yaml:"publishable_key" env:"CLERK_PUBLISHABLE_KEY" doc:"publishable key (pk_live_…, pk_test_…)"`
	Issuer            string   `yaml:"issuer" doc:"issuer of session tokens, a URL; unset: from the publishable key"`
	AuthorizedParties []string `yaml:"authorized_parties" doc:"origins whose session tokens are accepted; unset: all"`
	WebhookSecrets    []string `yaml:"webhook_secrets" env:"CLERK_WEBHOOK_SIGNING_SECRET" more:"ROLLCALL_WEBHOOK_SIGNING_SECRETS" mask:"all" doc:"signing secrets of the webhook endpoints (whsec_…); any that matches is accepted"`
	SecretKey         string   `yaml:"secret_key" env:"CLERK_SECRET_KEY" mask:"all" doc:"secret key of the Backend API (sk_live_…, sk_test_…)"`
	JWTKey            string   `yaml:"jwt_key" env:"CLERK_JWT_KEY" doc:"public key of session tokens, PEM; \\n may stand for a line break"`
	APIURL            string   `yaml:"api_url" env:"CLERK_API_URL" default:"https://api.clerk.com" doc:"Backend API, without /v1"`
}

// NATS is the broker, and what an operator decides about its streams.
type NATS struct {
	URL          string        `yaml:"url" env:"NATS_URL" mask:"nats" doc:"servers, comma-separated (nats://…, tls://…, ws://…, wss://…)"`
	Creds        string        `yaml:"creds" env:"NATS_CREDS" mask:"pem" doc:"credentials: path of a .creds file, or its content"`
	TLSCA        string        `yaml:"tls_ca" doc:"path of a PEM file with the authorities that sign the server's certificate; unset: the system's"`
	Domain       string        `yaml:"domain" doc:"JetStream domain"`
	Prefix       string        `yaml:"prefix" doc:"staging makes streams STAGING_… and subjects staging.…"`
	Create       bool          `yaml:"create" default:"true" doc:"make and change streams and buckets; false: only check them"`
	Replicas     int           `yaml:"replicas" default:"1" doc:"copies of each stream, 1 to 5"`
	Durability   string        `yaml:"durability" default:"fsync" doc:"what an acknowledgement means on that server: fsync, majority or unknown"`
	MonitorURL   string        `yaml:"monitor_url" mask:"url" doc:"the server's monitoring address, where durability is checked"`
	MaxBytes     int64         `yaml:"max_bytes" default:"0" doc:"size limit of the log; 0: half of what the account may store"`
	DedupeWindow time.Duration `yaml:"dedupe_window" default:"28h" doc:"how long the server remembers message ids"`
}

// Store is one projection into one schema of one database.
type Store struct {
	Name               string
	DatabaseURL        string              `yaml:"database_url" env:"DATABASE_URL" mask:"url" doc:"Postgres; may be a transaction pooler"`
	MigrateDatabaseURL string              `yaml:"migrate_database_url" mask:"url" doc:"Postgres as a role that may change the schema; unset: database_url"`
	Migrate            string              `yaml:"migrate" default:"auto" doc:"auto: change the schema at start; off: only check it"`
	Schema             string              `yaml:"schema" default:"clerk" doc:"schema of the tables"`
	Resources          []string            `yaml:"resources" doc:"tables; unset: all"`
	Include            map[string][]string `yaml:"include" doc:"by table: columns that are off unless asked for; in the environment users.private_metadata, …"`
	Exclude            map[string][]string `yaml:"exclude" doc:"by table: columns to leave out"`
	OnDelete           string              `yaml:"on_delete" default:"tombstone" doc:"a deleted entity's row: tombstone (stays, without what is personal), hard (goes) or keep (stays whole)"`
	Tenancy            bool                `yaml:"tenancy" default:"false" doc:"row-level security on the store's own tables"`
	Notify             bool                `yaml:"notify" default:"false" doc:"NOTIFY on the channel of the schema's name what changed"`
	Instance           string              `yaml:"instance" doc:"name of the instance it follows; needed with several"`
}

// Audit is the audit log, in schema rollcall_audit of its database.
type Audit struct {
	DatabaseURL        string `yaml:"database_url" mask:"url" doc:"Postgres; may be a transaction pooler; unset: no audit log"`
	MigrateDatabaseURL string `yaml:"migrate_database_url" mask:"url" doc:"Postgres as the role that owns the log; unset: database_url"`
	Migrate            string `yaml:"migrate" default:"auto" doc:"auto: change the schema at start; off: only check it"`
}

// Ingest is the webhook endpoint.
type Ingest struct {
	Addr        string        `yaml:"addr" default:":8080" doc:"listens here: webhooks, health and metrics"`
	MaxBody     int64         `yaml:"max_body" default:"1MiB" doc:"largest body accepted, at most 64MiB"`
	Codes       string        `yaml:"codes" default:"redact" doc:"one-time codes in email.created and sms.created: redact, drop (the event) or keep"`
	MaxMemory   int64         `yaml:"max_memory" default:"32MiB" doc:"bodies held at one time before answering 503"`
	ReadTimeout time.Duration `yaml:"read_timeout" default:"10s" doc:"time for one request to arrive"`
}

// Log is how long events stay that grow without end and heal themselves.
type Log struct {
	SessionTTL time.Duration `yaml:"session_ttl" default:"2160h" doc:"how long session events are kept; 0: for ever"`
	MessageTTL time.Duration `yaml:"message_ttl" default:"168h" doc:"how long email and sms events are kept; 0: for ever"`
}

// Health is the listener of processes without ingest.
type Health struct {
	Addr string `yaml:"addr" default:":8089" doc:"health and metrics of roles other than ingest"`
}

// Selection is what the store keeps.
func (s Store) Selection() projection.Selection {
	return projection.Selection{Tables: s.Resources, Include: s.Include, Exclude: s.Exclude}
}

// Store returns the store of that name.
func (c *Config) Store(name string) (Store, bool) {
	for _, s := range c.Stores {
		if s.Name == name {
			return s, true
		}
	}
	return Store{}, false
}

// File is the file that was read, as errors name it; "" without one.
func (c *Config) File() string { return c.file }

// Origin says what set the setting at a path such as "ingest.addr" or
// "stores.orders.schema": "rollcall.yaml:4" or a variable's name; "" where the
// default holds.
func (c *Config) Origin(path string) string { return c.from[path].short() }

// Env is how [Load] sees the environment: os.LookupEnv, or a wrapper of it.
type Env = func(name string) (value string, ok bool)

// Load reads file and environment. With file "" it is [DefaultFile] if there
// is one, else the environment alone. Any error is an *[Error] with every
// mistake.
func Load(file string, env Env) (*Config, error) {
	name := file
	if name == "" {
		name = DefaultFile
	}
	data, err := os.ReadFile(name)
	switch {
	case err == nil:
	case file == "" && errors.Is(err, fs.ErrNotExist):
		name = ""
	default:
		return nil, &Error{Mistakes: []Mistake{{Where: name, What: "can't be read: " + reason(err) + "; name another file with --config"}}}
	}
	return parse(name, data, env)
}

// reason is a file error without the path, which the message has already.
func reason(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}

// Error is a configuration that can't be used.
type Error struct{ Mistakes []Mistake }

// Mistake is one thing to put right. What is a sentence that names the setting
// and the way out, and never shows a secret.
type Mistake struct {
	Where string // "rollcall.yaml:12:5" or an environment variable; "" if nowhere
	What  string
}

func (m Mistake) String() string {
	if m.Where == "" {
		return m.What
	}
	return m.Where + ": " + m.What
}

// Error has one mistake a line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Mistakes))
	for i, m := range e.Mistakes {
		lines[i] = m.String()
	}
	return strings.Join(lines, "\n")
}

// origin is a place that sets something: a position in a file, or a variable.
type origin struct {
	name         string
	line, column int // from 1; 0 for a variable
}

func (o origin) String() string {
	if o.line == 0 {
		return o.name
	}
	return o.short() + ":" + strconv.Itoa(o.column)
}

func (o origin) short() string {
	if o.line == 0 {
		return o.name
	}
	return o.name + ":" + strconv.Itoa(o.line)
}
