package config

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Print writes what is in force as YAML, with the keys of rollcall.yaml and
// secrets masked. A line that isn't a default says where its value came from.
func (c *Config) Print(w io.Writer) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	if len(c.Instances) == 1 && c.Instances[0].Name == "" {
		put(root, "instance", c.section("instance", c.Instances[0]))
	} else {
		instances := put(root, "instances", &yaml.Node{Kind: yaml.MappingNode})
		for _, in := range c.Instances {
			put(instances, in.Name, c.section(in.path(), in))
		}
	}
	put(root, "nats", c.section("nats", c.NATS))
	if len(c.Stores) > 0 {
		stores := put(root, "stores", &yaml.Node{Kind: yaml.MappingNode})
		for _, s := range c.Stores {
			put(stores, s.Name, c.section("stores."+s.Name, s))
		}
	}
	put(root, "audit", c.section("audit", c.Audit))
	put(root, invalidatePath, c.invalidateNode())
	put(root, "revoke", c.section("revoke", c.Revoke))
	put(root, gatewayPath, c.gatewayNode())
	put(root, "identity", c.section("identity", c.Identity))
	put(root, "ingest", c.section("ingest", c.Ingest))
	put(root, "log", c.section("log", c.Log))
	put(root, "health", c.section("health", c.Health))

	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return fmt.Errorf("print configuration: %w", err)
	}
	_, err := w.Write(out.Bytes())
	return err
}

func put(mapping *yaml.Node, key string, value *yaml.Node) *yaml.Node {
	var k yaml.Node
	k.SetString(key) // quotes a name such as "on"
	mapping.Content = append(mapping.Content, &k, value)
	return value
}

func (c *Config) invalidateNode() *yaml.Node {
	n := c.section(invalidatePath, c.Invalidate)
	put(n, "redis", c.section("invalidate.redis", c.Invalidate.Redis))
	http := put(n, "http", &yaml.Node{Kind: yaml.SequenceNode})
	for i, p := range c.Invalidate.HTTP {
		http.Content = append(http.Content, c.section(purge(i), p))
	}
	keys := put(n, "keys", &yaml.Node{Kind: yaml.MappingNode})
	for _, table := range slices.Sorted(maps.Keys(c.Invalidate.Keys)) {
		list := node(reflect.ValueOf(c.Invalidate.Keys[table]), "")
		if from := c.Origin(join(keysPath, table)); from != "" {
			list.LineComment = "# " + from
		}
		put(keys, table, list)
	}
	return n
}

func (c *Config) gatewayNode() *yaml.Node {
	n := c.section(gatewayPath, c.Gateway)
	put(n, "revocation", c.section("gateway.revocation", c.Gateway.Revocation))
	put(n, "freshness", c.section("gateway.freshness", c.Gateway.Freshness))
	routes := put(n, "routes", &yaml.Node{Kind: yaml.SequenceNode})
	for i, r := range c.Gateway.Routes {
		entry := c.section(routePath(i), r)
		put(entry, "require", c.section(routePath(i)+".require", r.Require))
		routes.Content = append(routes.Content, entry)
	}
	return n
}

// section is a struct of settings as a mapping.
func (c *Config) section(path string, settings any) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	v := reflect.ValueOf(settings)
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key := f.Tag.Get("yaml")
		if key == "" {
			continue
		}
		value := node(v.Field(i), f.Tag.Get("mask"))
		if from := c.Origin(join(path, key)); from != "" {
			value.LineComment = "# " + from
		}
		put(n, key, value)
	}
	return n
}

// node is one value as YAML.
func node(v reflect.Value, rule string) *yaml.Node {
	switch v := v.Interface().(type) {
	case []string:
		n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, s := range v {
			n.Content = append(n.Content, text(mask(rule, s)))
		}
		return n
	case map[string][]string:
		n := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			put(n, name, node(reflect.ValueOf(v[name]), rule))
		}
		return n
	}
	if v.Kind() == reflect.String {
		return text(mask(rule, v.String()))
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Value: format(v)}
}

func text(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(strings.ReplaceAll(s, "${", "$${"))
	if s == "" || strings.ContainsAny(s, "\r\n") {
		n.Style = yaml.DoubleQuotedStyle // one line, so that its comment stays beside it
	}
	return n
}

// format is a value as assign reads it.
func format(v reflect.Value) string {
	switch v := v.Interface().(type) {
	case time.Duration:
		return formatDuration(v)
	case int64:
		return formatSize(v)
	case int:
		return strconv.Itoa(v)
	default:
		return fmt.Sprint(v)
	}
}
