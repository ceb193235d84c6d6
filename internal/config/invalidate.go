package config

import (
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/rollcall-dev/rollcall/internal/projection"
)

// Invalidate says which keys of caches a change makes stale, and whom to tell.
type Invalidate struct {
	After []string `yaml:"after" doc:"stores that must have a change before its keys go; unset: all that are configured, []: none"`
	NATS  bool     `yaml:"nats" default:"true" doc:"publish the keys on rollcall.invalidate.TABLE.ID"`
	Redis Redis
	HTTP  []Purge
	// Keys are templates by table, with a row's columns between braces.
	Keys map[string][]string

	there bool // in the file or the environment
}

// Redis is a cache whose keys are removed.
type Redis struct {
	URL     string `yaml:"url" env:"REDIS_URL" mask:"url" doc:"Redis (redis://…, rediss://…, unix://…; a cluster's node; ?master_name=… a sentinel) whose keys are removed"`
	TLSCA   string `yaml:"tls_ca" doc:"path of a PEM file with the authorities that sign its certificate; unset: the system's"`
	Channel string `yaml:"channel" default:"rollcall.invalidate" doc:"channel on which the keys are published too"`
}

// Purge is an HTTP endpoint that removes keys.
type Purge struct {
	URL    string `yaml:"url" mask:"url" doc:"takes a POST of the keys"`
	Secret string `yaml:"secret" mask:"all" doc:"signs it, as Svix does (whsec_…)"`
}

// templatesByTable stands for the keys in [Table].
type templatesByTable struct {
	Table []string `yaml:"TABLE" doc:"keys that a row's change makes stale: texts with columns between braces, user:email:{email}; without any: those in deploy/docs/caching.md"`
}

const (
	invalidatePath = "invalidate"
	keysPath       = "invalidate.keys"
	purgePath      = "invalidate.http"
)

// defaultKeys are those of a configuration that names none.
func defaultKeys() map[string][]string {
	return map[string][]string{
		"users":                    {"user:{id}", "user:email:{email}"},
		"organizations":            {"org:{id}"},
		"organization_memberships": {"org:{organization_id}:members", "user:{user_id}:organizations"},
	}
}

// Configured reports whether anything asks for invalidations: the section, a
// variable of its own, or a Redis.
func (v Invalidate) Configured() bool { return v.there || v.Redis.URL != "" }

func (l *loader) invalidate(c *Config, n *yaml.Node) {
	v := &c.Invalidate
	var kids map[string]*yaml.Node
	if n != nil {
		kids = l.children(n, invalidatePath, keys(reflect.TypeFor[Invalidate](), "redis", "http", "keys"))
	}
	v.there = l.from[invalidatePath].name != ""
	l.fillKids(reflect.ValueOf(v).Elem(), invalidatePath, kids, true)
	if after := kids["after"]; after != nil && after.Kind == yaml.SequenceNode && len(after.Content) == 0 && v.After == nil {
		v.After, l.from["invalidate.after"] = []string{}, l.at(after)
	}
	l.fill(reflect.ValueOf(&v.Redis).Elem(), "invalidate.redis", kids["redis"], true)
	l.purges(v, kids["http"])
	l.templates(v, kids["keys"])
}

// purges reads the list; entry 0 can be overridden, or made, by
// ROLLCALL_INVALIDATE_HTTP_0_URL.
func (l *loader) purges(v *Invalidate, n *yaml.Node) {
	var entries []*yaml.Node
	switch {
	case n == nil:
	case n.Kind != yaml.SequenceNode:
		l.mistake(l.at(n), "%s must be a list of {url, secret}, not %s", purgePath, kindOf(n))
	default:
		entries = n.Content
	}
	for i := 0; i < len(entries) || l.isSet(variable(purge(i)+".url")); i++ {
		var entry *yaml.Node
		if i < len(entries) {
			entry = follow(entries[i])
			l.from[purge(i)] = l.at(entries[i])
		}
		var p Purge
		l.fill(reflect.ValueOf(&p).Elem(), purge(i), entry, true)
		v.HTTP, v.there = append(v.HTTP, p), true
	}
}

// purge is the path of an entry.
func purge(i int) string { return fmt.Sprintf("%s.%d", purgePath, i) }

// templates reads the keys by table, where there are any; else the defaults.
func (l *loader) templates(v *Invalidate, n *yaml.Node) {
	v.Keys = map[string][]string{}
	var kids map[string]*yaml.Node
	if n != nil {
		kids = l.children(n, keysPath, tables())
	}
	field := reflect.StructField{Type: reflect.TypeFor[[]string]()}
	for _, table := range tables() {
		var list []string
		value, at := reflect.ValueOf(&list).Elem(), join(keysPath, table)
		switch {
		case l.fillEnv(value, field, at, l.override(at)):
			v.there = true
		case kids[table] != nil:
			l.fillNode(value, field, at, kids[table])
		}
		if len(list) > 0 {
			v.Keys[table] = list
		}
	}
	if n == nil && len(v.Keys) == 0 {
		v.Keys = defaultKeys()
	}
}

func tables() (list []string) {
	for _, r := range projection.Resources() {
		list = append(list, r.Table)
	}
	return list
}

func (l *loader) checkInvalidate(c *Config) {
	v := &c.Invalidate
	var stores []string
	for _, s := range c.Stores {
		stores = append(stores, s.Name)
	}
	if v.After == nil {
		v.After = stores
	}
	for i, name := range v.After {
		if !slices.Contains(stores, name) {
			l.mistake(l.where(fmt.Sprintf("invalidate.after[%d]", i)), "invalidate.after names the store %q, which isn't configured; known: %s", name, orNone(stores))
		}
	}
	l.redisURL("invalidate.redis.url", v.Redis.URL)
	if v.Redis.Channel == "" || strings.ContainsAny(v.Redis.Channel, " \t\r\n") {
		l.bad("invalidate.redis.channel", "is %q; a channel has a name without spaces", v.Redis.Channel)
	}
	seen := map[string]bool{}
	for i, p := range v.HTTP {
		l.checkPurge(purge(i), p, seen)
	}
	for _, table := range slices.Sorted(maps.Keys(v.Keys)) {
		l.checkTemplates(table, v.Keys[table])
	}
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func (l *loader) checkPurge(path string, p Purge, seen map[string]bool) {
	if p.URL == "" {
		l.bad(path+".url", "isn't set; write where the keys are to be posted")
	}
	l.url(path+".url", p.URL, "https", "http")
	if seen[p.URL] {
		l.bad(path+".url", "is there twice; its progress is kept by it, so keep one")
	}
	seen[p.URL] = true
	switch problem := secretProblem(p.Secret); {
	case p.Secret == "":
		l.bad(path+".secret", "isn't set; make one (echo whsec_$(openssl rand -base64 24)), and give it to the receiver too")
	case problem != "":
		l.bad(path+".secret", "%s; make one: echo whsec_$(openssl rand -base64 24)", problem)
	}
}

func (l *loader) checkTemplates(table string, templates []string) {
	r, path := projection.ByTable(table), join(keysPath, table)
	for i, text := range templates {
		at := fmt.Sprintf("%s[%d]", path, i)
		if _, err := projection.ParseTemplate(r, text); err != nil {
			l.mistake(l.where(at), "%s: %q %v", path, text, err)
		}
	}
}

// redisURL checks a URL that may hold a password, and so isn't shown.
func (l *loader) redisURL(path, value string) {
	if strings.HasPrefix(value, "unix://") {
		if u, err := url.Parse(value); err != nil || u.Path == "" {
			l.bad(path, "isn't unix:// and the path of a socket")
		}
		return
	}
	l.url(path, value, "redis", "rediss", "unix")
}

// RequireInvalidate reports what the invalidate role lacks: somebody to tell.
func (c *Config) RequireInvalidate() error {
	v := c.Invalidate
	if v.NATS || v.Redis.URL != "" || len(v.HTTP) > 0 {
		return nil
	}
	return needs(&Mistake{
		Where: nearest(c.from, c.file, "invalidate.nats").String(),
		What:  "invalidate has nobody to tell; set REDIS_URL, name a URL under invalidate.http, or leave invalidate.nats on",
	})
}
