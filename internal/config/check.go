package config

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/internal/projection"
	"github.com/rollcall-dev/rollcall/streams"
)

const maxBody = 64 << 20 // NATS takes no larger message

// check holds every value against its rule, whichever place it came from.
func (l *loader) check(c *Config) {
	for i := range c.Instances {
		l.checkInstance(&c.Instances[i])
	}
	l.checkNATS(&c.NATS)
	l.checkStores(c)
	l.checkAudit(&c.Audit)
	l.checkInvalidate(c)
	l.checkGateway(c)

	l.address("ingest.addr", c.Ingest.Addr)
	l.address("health.addr", c.Health.Addr)
	l.oneOf("ingest.codes", c.Ingest.Codes, "redact", "drop", "keep")
	switch in := c.Ingest; {
	case in.MaxBody < 1 || in.MaxBody > maxBody:
		l.bad("ingest.max_body", "is %s; it must be from 1 to %s", formatSize(in.MaxBody), formatSize(maxBody))
	case in.MaxMemory < in.MaxBody:
		l.bad("ingest.max_memory", "(%s) is less than ingest.max_body (%s), so such a body would never be taken; raise it", formatSize(in.MaxMemory), formatSize(in.MaxBody))
	}
	if c.Ingest.ReadTimeout <= 0 {
		l.bad("ingest.read_timeout", "must be more than 0; the default is 10s")
	}
	l.ttl("log.session_ttl", c.Log.SessionTTL)
	l.ttl("log.message_ttl", c.Log.MessageTTL)
}

// bad notes a mistake about the setting at path. The sentence goes on after
// the path.
func (l *loader) bad(path, format string, args ...any) {
	l.mistake(l.where(path), "%s "+format, append([]any{path}, args...)...)
}

func (l *loader) checkInstance(in *Instance) {
	path := in.path()
	l.prefixed(path+".id", in.ID, "ins_")
	l.prefixed(path+".publishable_key", in.PublishableKey, "pk_live_", "pk_test_")
	l.prefixed(path+".secret_key", in.SecretKey, "sk_live_", "sk_test_")
	l.url(path+".issuer", in.Issuer, "https", "http")
	l.url(path+".api_url", in.APIURL, "https", "http")
	if strings.HasSuffix(strings.TrimRight(in.APIURL, "/"), "/v1") {
		l.bad(path+".api_url", "ends in /v1; leave that out")
	}
	var secrets []string // without doubles: the same one in both variables is one
	for i, s := range in.WebhookSecrets {
		if problem := secretProblem(s); problem != "" {
			l.mistake(l.where(fmt.Sprintf("%s.webhook_secrets[%d]", path, i)),
				"%s.webhook_secrets[%d] %s; copy the signing secret (whsec_…) from the endpoint's page in Clerk's dashboard", path, i, problem)
		}
		if !slices.Contains(secrets, s) {
			secrets = append(secrets, s)
		}
	}
	in.WebhookSecrets = secrets
	if in.JWTKey != "" {
		key, err := pemText(in.JWTKey)
		if err != nil {
			l.bad(path+".jwt_key", "%v", err)
		}
		in.JWTKey = key
	}
}

// path is where the instance's settings stand.
func (in Instance) path() string {
	if in.Name == "" {
		return "instance"
	}
	return "instances." + in.Name
}

// secretProblem says what is wrong with a signing secret, without showing it.
func secretProblem(s string) string {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s, "whsec_"))
	switch {
	case err != nil:
		return "isn't whsec_ and base64"
	case len(key) == 0:
		return "is empty" // anyone could sign with an empty key
	default:
		return ""
	}
}

func (l *loader) checkNATS(n *NATS) {
	for _, server := range split(n.URL) {
		l.url("nats.url", withScheme(server), "nats", "tls", "ws", "wss")
	}
	l.url("nats.monitor_url", n.MonitorURL, "http", "https")
	if (streams.Names{Prefix: n.Prefix}).Validate() != nil {
		l.bad("nats.prefix", "is %q; it may have a to z, 0 to 9, _ and -, and isn't clerk", n.Prefix)
	}
	if strings.ContainsAny(n.Domain, ".*> \t\r\n") {
		l.bad("nats.domain", "is %q; a JetStream domain has no dots, wildcards or spaces", n.Domain)
	}
	if n.Replicas < 1 || n.Replicas > 5 {
		l.bad("nats.replicas", "is %d; it must be from 1 to 5", n.Replicas)
	}
	l.oneOf("nats.durability", n.Durability, "fsync", "majority", "unknown")
	if n.DedupeWindow < time.Second {
		l.bad("nats.dedupe_window", "is %s; it must be 1s or more", n.DedupeWindow)
	}
}

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

func (l *loader) checkStores(c *Config) {
	type place struct {
		database database
		schema   string
	}
	taken := map[place]string{}
	for i := range c.Stores {
		s := &c.Stores[i]
		path := "stores." + s.Name
		if s.MigrateDatabaseURL == "" {
			s.MigrateDatabaseURL = s.DatabaseURL
		} else if _, err := parseDatabase(s.MigrateDatabaseURL); err != nil {
			l.bad(path+".migrate_database_url", "%v", err)
		}
		l.oneOf(path+".migrate", s.Migrate, "auto", "off")
		l.oneOf(path+".on_delete", s.OnDelete, "tombstone", "hard", "keep")
		if !schemaName.MatchString(s.Schema) || strings.HasPrefix(s.Schema, "pg_") || s.Schema == "information_schema" {
			l.bad(path+".schema", "is %q; it must be a schema of your own: a to z, 0 to 9 and _, at most 63 characters", s.Schema)
		}
		l.checkFollows(path, s, c.Instances)
		for _, p := range s.Selection().Problems() {
			l.checkSelection(path, p)
		}
		if s.DatabaseURL == "" {
			continue // the store role asks for it
		}
		db, err := parseDatabase(s.DatabaseURL)
		if err != nil {
			l.bad(path+".database_url", "%v", err)
			continue
		}
		at := place{db, s.Schema}
		if other := taken[at]; other != "" {
			l.mistake(l.where(path+".schema"), "stores %s and %s share schema %s of one database; give one of them another schema", other, s.Name, s.Schema)
		}
		taken[at] = s.Name
	}
}

func (l *loader) checkAudit(a *Audit) {
	l.oneOf("audit.migrate", a.Migrate, "auto", "off")
	for path, url := range map[string]string{"audit.database_url": a.DatabaseURL, "audit.migrate_database_url": a.MigrateDatabaseURL} {
		if url == "" {
			continue // the audit role asks for it
		}
		if _, err := parseDatabase(url); err != nil {
			l.bad(path, "%v", err)
		}
	}
	if a.MigrateDatabaseURL == "" {
		a.MigrateDatabaseURL = a.DatabaseURL
	}
}

// checkSelection notes a mistake in what a store asks for.
func (l *loader) checkSelection(path string, p projection.Problem) {
	at := path + "." + p.At
	if p.Known == nil {
		l.bad(at, "%s", p.What)
		return
	}
	l.bad(at, "%s; %s", p.What, suggest(p.Name, p.Known))
}

// checkFollows holds a store's instance against those there are.
func (l *loader) checkFollows(path string, s *Store, instances []Instance) {
	var names []string
	for _, in := range instances {
		if in.Name != "" {
			names = append(names, in.Name)
		}
	}
	switch {
	case s.Instance == "" && len(names) == 1:
		s.Instance = names[0]
	case s.Instance == "" && len(names) > 1:
		l.bad(path+".instance", "is needed, since there are several; set it to one of %s", strings.Join(names, ", "))
	case s.Instance != "" && len(names) == 0:
		l.bad(path+".instance", "is %q, but no instance has a name; leave it out", s.Instance)
	case s.Instance != "":
		l.oneOf(path+".instance", s.Instance, names...)
	}
}

func (l *loader) oneOf(path, value string, known ...string) {
	if !slices.Contains(known, value) {
		l.bad(path, "is %q; it must be one of %s", value, strings.Join(known, ", "))
	}
}

func (l *loader) prefixed(path, value string, prefixes ...string) {
	if value == "" {
		return
	}
	for _, p := range prefixes {
		if len(value) > len(p) && strings.HasPrefix(value, p) {
			return
		}
	}
	l.bad(path, "must begin with %s; copy it from Clerk's dashboard", strings.Join(prefixes, " or "))
}

// url checks a URL, which may hold a password, and so isn't shown.
func (l *loader) url(path, value string, schemes ...string) {
	if value == "" {
		return
	}
	u, err := url.Parse(value)
	if err == nil && strings.Contains(u.Path+u.RawQuery+u.Fragment, "@") {
		// Half a password would pass for a path, and be printed.
		l.bad(path, "has an @ after the host; percent-encode what is special in the password (/ as %%2F, ? as %%3F)")
		return
	}
	if err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme) {
		l.bad(path, "isn't a URL that begins with %s", strings.Join(schemes, ":// or ")+"://")
	}
}

func (l *loader) address(path, value string) {
	_, port, err := net.SplitHostPort(value)
	if n, perr := strconv.Atoi(port); err != nil || perr != nil || n < 0 || n > 65535 {
		l.bad(path, "is %q; write host:port, or :port for every address", value)
	}
}

func (l *loader) ttl(path string, d time.Duration) {
	if d != 0 && d < time.Second {
		l.bad(path, "is %s; it must be 0 (for ever) or 1s and more", d)
	}
}

// require is the error of a role that lacks the setting at path, set by
// variable or in the file; nil if it is there.
func (c *Config) require(path, variable string, there bool) *Mistake {
	if there {
		return nil
	}
	file := c.file
	if file == "" {
		file = DefaultFile
	}
	return &Mistake{
		Where: nearest(c.from, c.file, path).String(),
		What:  fmt.Sprintf("%s isn't set; set %s, or %s in %s", path, variable, path, file),
	}
}

func needs(list ...*Mistake) error {
	list = slices.DeleteFunc(list, func(m *Mistake) bool { return m == nil })
	if len(list) == 0 {
		return nil
	}
	e := &Error{}
	for _, m := range list {
		e.Mistakes = append(e.Mistakes, *m)
	}
	return e
}

// RequireIngest reports what the ingest role lacks: a signing secret for each
// instance.
func (c *Config) RequireIngest() error {
	var list []*Mistake
	for _, in := range c.Instances {
		env := "CLERK_WEBHOOK_SIGNING_SECRET"
		if len(c.Instances) > 1 {
			env = variable(in.path() + ".webhook_secrets")
		}
		list = append(list, c.require(in.path()+".webhook_secrets", env, len(in.WebhookSecrets) > 0))
	}
	return needs(list...)
}

// RequireNATS reports what is missing to reach NATS.
func (c *Config) RequireNATS() error {
	list := []*Mistake{c.require("nats.url", "NATS_URL", c.NATS.URL != "")}
	files := map[string]string{"nats.tls_ca": c.NATS.TLSCA}
	if !isPEM(c.NATS.Creds) {
		files["nats.creds"] = c.NATS.Creds
	}
	for _, path := range []string{"nats.creds", "nats.tls_ca"} {
		file := files[path]
		if file == "" {
			continue
		}
		if _, err := os.Stat(file); err != nil {
			list = append(list, &Mistake{
				Where: nearest(c.from, c.file, path).String(),
				What:  fmt.Sprintf("%s names a file that can't be read: %s: %s", path, file, reason(err)),
			})
		}
	}
	return needs(list...)
}

// RequireStore reports what the store role of that name lacks.
func (c *Config) RequireStore(name string) error {
	s, ok := c.Store(name)
	if !ok {
		names := make([]string, len(c.Stores))
		for i, s := range c.Stores {
			names[i] = s.Name
		}
		m := &Mistake{Where: nearest(c.from, c.file, "stores").String(), What: fmt.Sprintf("there is no store %q; known: %s", name, strings.Join(names, ", "))}
		if len(names) == 0 {
			m.What = fmt.Sprintf("there is no store %q; set DATABASE_URL for a store %s, or add one under stores:", name, DefaultStore)
		}
		return needs(m)
	}
	path := "stores." + name + ".database_url"
	env := variable(path)
	if len(c.Stores) == 1 {
		env = "DATABASE_URL"
	}
	return needs(c.require(path, env, s.DatabaseURL != ""))
}

// RequireAudit reports what the audit role and its commands lack.
func (c *Config) RequireAudit() error {
	return needs(c.require("audit.database_url", variable("audit.database_url"), c.Audit.DatabaseURL != ""))
}

// RequireBackend is the instance of that name, "" for the only one, or reports
// what is missing to ask its Backend API.
func (c *Config) RequireBackend(name string) (Instance, error) {
	i := slices.IndexFunc(c.Instances, func(in Instance) bool { return in.Name == name })
	if i < 0 {
		names := make([]string, len(c.Instances))
		for i, in := range c.Instances {
			names[i] = in.Name
		}
		m := &Mistake{Where: nearest(c.from, c.file, "instances").String(), What: fmt.Sprintf("there is no instance %q; name one of %s with --instance", name, strings.Join(names, ", "))}
		if len(names) == 1 && names[0] == "" {
			m.What = fmt.Sprintf("there is no instance %q; there is one, without a name: leave --instance out", name)
		}
		return Instance{}, needs(m)
	}
	in := c.Instances[i]
	env := "CLERK_SECRET_KEY"
	if len(c.Instances) > 1 {
		env = variable(in.path() + ".secret_key")
	}
	return in, needs(c.require(in.path()+".secret_key", env, in.SecretKey != ""))
}
