package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// DefaultStore is the store of a configuration without `stores:`.
const DefaultStore = "app"

// loader fills one Config and gathers mistakes on the way.
type loader struct {
	file     string
	env      Env
	from     map[string]origin // by path; sections and names have theirs too
	names    map[string]string // variable → the path that it overrides
	mistakes []Mistake
}

func parse(file string, data []byte, env Env) (*Config, error) {
	l := &loader{file: file, env: env, from: map[string]origin{}, names: map[string]string{}}
	c := &Config{file: file, from: l.from}
	if root := l.document(data); root != nil {
		l.sections(c, root)
		l.check(c)
	}
	if len(l.mistakes) > 0 {
		return nil, &Error{Mistakes: l.mistakes}
	}
	return c, nil
}

// mistake notes one; a variable that fills several settings is reported once.
func (l *loader) mistake(where fmt.Stringer, format string, args ...any) {
	m := Mistake{Where: where.String(), What: fmt.Sprintf(format, args...)}
	if !slices.Contains(l.mistakes, m) {
		l.mistakes = append(l.mistakes, m)
	}
}

func (l *loader) at(n *yaml.Node) origin {
	return origin{name: l.file, line: max(n.Line, 1), column: max(n.Column, 1)}
}

// where is the place that sets path, or else the section around it.
func (l *loader) where(path string) origin { return nearest(l.from, l.file, path) }

func nearest(from map[string]origin, file, path string) origin {
	for path != "" {
		if o, ok := from[path]; ok {
			return o
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return origin{name: file}
}

var syntaxError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// document is the root of the only document in data; nil after a mistake.
func (l *loader) document(data []byte) *yaml.Node {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return &yaml.Node{Kind: yaml.MappingNode}
	}
	if err == nil {
		if err = dec.Decode(&next); errors.Is(err, io.EOF) {
			err = nil
		} else if err == nil {
			l.mistake(l.at(&next), "a second document begins; keep all settings in one")
		}
	}
	if err != nil {
		where, what := l.file, err.Error()
		if m := syntaxError.FindStringSubmatch(what); m != nil {
			what = m[2]
			if m[1] != "" {
				where += ":" + m[1]
			}
		}
		l.mistake(origin{name: where}, "is no YAML: %s", what)
		return nil
	}
	root := follow(doc.Content[0])
	if isNull(root) {
		return &yaml.Node{Kind: yaml.MappingNode}
	}
	return root
}

func follow(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias // never an alias itself
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func (l *loader) sections(c *Config, root *yaml.Node) {
	kids := l.children(root, "", keys(reflect.TypeFor[Config](), "instance", "instances", "stores", invalidatePath, gatewayPath))
	l.instances(c, kids["instance"], kids["instances"])
	l.stores(c, kids["stores"])
	l.invalidate(c, kids[invalidatePath])
	l.gateway(c, kids[gatewayPath])
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		if key := v.Type().Field(i).Tag.Get("yaml"); key != "" {
			l.fill(v.Field(i), key, kids[key], true)
		}
	}
}

// children are the values of a mapping by key, without the empty ones. With
// known nil the keys are names, and any will do.
func (l *loader) children(n *yaml.Node, path string, known []string) map[string]*yaml.Node {
	if n.Kind != yaml.MappingNode {
		l.mistake(l.at(n), "%s must be a mapping (key: value), not %s", orFile(path), kindOf(n))
		return nil
	}
	kids := map[string]*yaml.Node{}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := follow(n.Content[i]), follow(n.Content[i+1])
		at := l.at(n.Content[i])
		switch {
		case k.Kind != yaml.ScalarNode:
			l.mistake(at, "a key of %s must be a word, not %s", orFile(path), kindOf(k))
		case seen[k.Value] != 0:
			l.mistake(at, "%s is set a second time, first in line %d; keep one", join(path, k.Value), seen[k.Value])
		case known != nil && !slices.Contains(known, k.Value):
			l.mistake(at, "unknown key %s; %s", join(path, k.Value), suggest(k.Value, known))
		default:
			seen[k.Value] = at.line
			l.from[join(path, k.Value)] = at
			switch {
			case !isNull(v):
				kids[k.Value] = v
			case known == nil: // a name without settings is a name all the same
				kids[k.Value] = nil
			}
		}
	}
	return kids
}

func (l *loader) instances(c *Config, one, several *yaml.Node) {
	if several == nil {
		c.Instances = make([]Instance, 1)
		l.fill(reflect.ValueOf(&c.Instances[0]).Elem(), "instance", one, true)
		return
	}
	if one != nil {
		l.mistake(l.where("instances"), "instance and instances are both set; keep one: instances has a name for each")
	}
	named := l.named(several, "instances", instanceName)
	if len(several.Content) == 0 && several.Kind != yaml.ScalarNode {
		l.mistake(l.where("instances"), "instances is empty; name one, or leave it out")
	}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		in := Instance{Name: name}
		// With several, a variable without a name in it can't say which it means.
		l.fill(reflect.ValueOf(&in).Elem(), "instances."+name, named[name], len(named) == 1)
		c.Instances = append(c.Instances, in)
	}
}

func (l *loader) stores(c *Config, n *yaml.Node) {
	var named map[string]*yaml.Node
	if n != nil {
		named = l.named(n, "stores", storeName)
	} else if l.isSet("DATABASE_URL") || l.isSet(variable("stores."+DefaultStore+".database_url")) {
		named = map[string]*yaml.Node{DefaultStore: nil}
	}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		s := Store{Name: name}
		l.fill(reflect.ValueOf(&s).Elem(), "stores."+name, named[name], true)
		c.Stores = append(c.Stores, s)
	}
}

var (
	instanceName = regexp.MustCompile(`^[a-z0-9_-]+$`)
	storeName    = regexp.MustCompile(`^[a-z][a-z0-9_-]*$`)
)

// named reads a mapping of name to settings, or a list of settings with a name.
func (l *loader) named(n *yaml.Node, path string, rule *regexp.Regexp) map[string]*yaml.Node {
	var out map[string]*yaml.Node
	if n.Kind == yaml.SequenceNode {
		out = l.namedList(n, path)
	} else {
		out = l.children(n, path, nil)
	}
	for name := range out {
		if !rule.MatchString(name) {
			l.mistake(l.where(join(path, name)), "%q can't be a name in %s; names match %s", name, path, strings.Trim(rule.String(), "^$"))
		}
	}
	return out
}

func (l *loader) namedList(n *yaml.Node, path string) map[string]*yaml.Node {
	out := map[string]*yaml.Node{}
	for _, item := range n.Content {
		at, item := l.at(item), follow(item)
		name, rest := "", &yaml.Node{Kind: yaml.MappingNode, Line: item.Line, Column: item.Column}
		for i := 0; i+1 < len(item.Content) && item.Kind == yaml.MappingNode; i += 2 {
			if k := item.Content[i]; k.Value == "name" {
				name = follow(item.Content[i+1]).Value
			} else {
				rest.Content = append(rest.Content, k, item.Content[i+1])
			}
		}
		switch _, dup := out[name]; {
		case name == "":
			l.mistake(at, "an entry of %s has no name; add name: …", path)
		case dup:
			l.mistake(at, "%s is set a second time; names must differ", join(path, name))
		default:
			l.from[join(path, name)] = at
			out[name] = rest
		}
	}
	return out
}

// fill sets the fields of the struct v, a section at path, from the first
// place that has each. shared says whether variables that name no section
// (DATABASE_URL) may fill it.
func (l *loader) fill(v reflect.Value, path string, n *yaml.Node, shared bool) {
	var kids map[string]*yaml.Node
	if n != nil {
		kids = l.children(n, path, keys(v.Type()))
	}
	l.fillKids(v, path, kids, shared)
}

// fillKids is fill of a section that has been read.
func (l *loader) fillKids(v reflect.Value, path string, kids map[string]*yaml.Node, shared bool) {
	for i := range v.NumField() {
		f, field := v.Type().Field(i), v.Field(i)
		key := f.Tag.Get("yaml")
		if key == "" {
			continue
		}
		at := join(path, key)
		if d := f.Tag.Get("default"); d != "" {
			// First, so that a value that can't be read is one mistake, not two.
			if err := assign(field, d); err != nil {
				panic(fmt.Sprintf("config: default of %s %v", at, err)) // no Load would ever have passed
			}
		}
		switch {
		case l.fillEnv(field, f, at, l.override(at)):
		case kids[key] != nil && l.fillNode(field, f, at, kids[key]):
		case shared && l.fillEnv(field, f, at, f.Tag.Get("env")):
		default:
			delete(l.from, at) // an empty key leaves the default
		}
		if shared {
			l.add(field, at, f.Tag.Get("more"))
		}
	}
}

// fillEnv sets field from a variable; false if that is not set.
func (l *loader) fillEnv(field reflect.Value, f reflect.StructField, path, name string) bool {
	if name == "" {
		return false
	}
	value, o, ok := l.lookup(name)
	if ok && value == "" && f.Tag.Get("mask") == "all" {
		l.mistake(o, "is empty; give %s a value, or unset the variable", path)
		return true
	}
	if !ok || value == "" {
		return false
	}
	l.from[path] = o
	if err := assign(field, value); err != nil {
		l.mistake(o, "%s %v", path, err)
	}
	return true
}

// add appends the list in a variable to what field has already.
func (l *loader) add(field reflect.Value, path, name string) {
	if name == "" {
		return
	}
	value, o, ok := l.lookup(name)
	if !ok || value == "" {
		return
	}
	n := field.Len()
	for i, s := range split(value) {
		l.from[fmt.Sprintf("%s[%d]", path, n+i)] = o
		field.Set(reflect.Append(field, reflect.ValueOf(s)))
	}
	if before, ok := l.from[path]; ok {
		for i := range n {
			if at := fmt.Sprintf("%s[%d]", path, i); l.from[at].name == "" {
				l.from[at] = before
			}
		}
		o = origin{name: before.short() + ", " + o.name}
	}
	l.from[path] = o
}

// fillNode sets field from the file; false if the value there is empty.
func (l *loader) fillNode(field reflect.Value, f reflect.StructField, path string, n *yaml.Node) bool {
	l.from[path] = l.at(n)
	isList, isLists := f.Type == reflect.TypeFor[[]string](), f.Type == reflect.TypeFor[map[string][]string]()
	switch {
	case isLists && n.Kind == yaml.MappingNode:
		field.Set(reflect.ValueOf(l.lists(path, n)))
		return len(n.Content) > 0
	case isLists && n.Kind != yaml.ScalarNode:
		l.mistake(l.at(n), "%s must be a mapping of tables to lists of columns, not %s", path, kindOf(n))
	case isList && n.Kind == yaml.SequenceNode:
		field.Set(reflect.ValueOf(l.list(path, n)))
		return len(n.Content) > 0
	case isList && n.Kind != yaml.ScalarNode:
		l.mistake(l.at(n), "%s must be a list, not %s", path, kindOf(n))
	case n.Kind != yaml.ScalarNode:
		l.mistake(l.at(n), "%s must be one value (%s), not %s", path, typeName(f.Type), kindOf(n))
	default:
		s, ok := l.expand(path, n)
		if ok && s == "" {
			return false
		}
		if err := assign(field, s); ok && err != nil {
			l.mistake(l.at(n), "%s %v", path, err)
		}
	}
	return true
}

// lists reads a mapping of names to lists.
func (l *loader) lists(path string, n *yaml.Node) map[string][]string {
	all := map[string][]string{}
	kids := l.children(n, path, nil)
	for _, name := range slices.Sorted(maps.Keys(kids)) {
		at, value := join(path, name), kids[name]
		switch {
		case value == nil: // an empty key
		case value.Kind == yaml.SequenceNode:
			all[name] = l.list(at, value)
		case value.Kind == yaml.ScalarNode:
			if s, ok := l.expand(at, value); ok {
				all[name] = split(s)
			}
		default:
			l.mistake(l.at(value), "%s must be a list, not %s", at, kindOf(value))
		}
	}
	return all
}

func (l *loader) list(path string, n *yaml.Node) []string {
	var list []string
	for _, item := range n.Content {
		item = follow(item)
		at := fmt.Sprintf("%s[%d]", path, len(list))
		if item.Kind != yaml.ScalarNode {
			l.mistake(l.at(item), "%s must be one value, not %s", at, kindOf(item))
		} else if s, ok := l.expand(at, item); ok {
			l.from[at] = l.at(item)
			list = append(list, s)
		}
	}
	return list
}

var reference = regexp.MustCompile(`\$?\$\{([^}]*)\}?`)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand replaces each ${NAME} in a value by that variable; $${ stands for ${.
func (l *loader) expand(path string, n *yaml.Node) (string, bool) {
	ok := true
	s := reference.ReplaceAllStringFunc(n.Value, func(ref string) string {
		if strings.HasPrefix(ref, "$$") {
			return ref[1:]
		}
		name := strings.TrimSuffix(ref[2:], "}")
		if !variableName.MatchString(name) || !strings.HasSuffix(ref, "}") {
			l.mistake(l.at(n), "%s has a ${ that no variable's name and } follow; write $${ for a plain ${", path)
			ok = false
			return ""
		}
		before := len(l.mistakes)
		value, _, set := l.lookup(name)
		if !set && len(l.mistakes) == before { // else its file can't be read
			l.mistake(l.at(n), "%s needs the environment variable %s, which isn't set; set it or %s_FILE", path, name, name)
		}
		ok = ok && set
		return value
	})
	return s, ok
}

// lookup reads a variable, or the file that its _FILE twin names.
func (l *loader) lookup(name string) (string, origin, bool) {
	value, ok := l.env(name)
	twin := origin{name: name + "_FILE"}
	file, byFile := l.env(twin.name)
	if !byFile || file == "" {
		return value, origin{name: name}, ok
	}
	if ok && value != "" {
		l.mistake(twin, "%s is set too; unset one of them", name)
		return value, origin{name: name}, true
	}
	data, err := os.ReadFile(file)
	if err != nil {
		l.mistake(twin, "can't read %s: %s", file, reason(err))
		return "", twin, false
	}
	value = strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	return value, twin, true
}

func (l *loader) isSet(name string) bool {
	value, _, _ := l.lookup(name)
	return value != ""
}

// override is the variable that overrides path. One that could mean two paths
// (store "a-b" and store "a_b") is a mistake where it is set.
func (l *loader) override(path string) string {
	name := variable(path)
	if other, taken := l.names[name]; taken && other != path && l.isSet(name) {
		l.mistake(origin{name: name}, "could mean %s or %s; rename one of them", other, path)
	}
	l.names[name] = path
	return name
}

// variable is the name of the variable that overrides the setting at path.
func variable(path string) string {
	return "ROLLCALL_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(path))
}

// keys are the yaml keys of a struct, and more.
func keys(t reflect.Type, more ...string) []string {
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("yaml"); key != "" {
			more = append(more, key)
		}
	}
	return more
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func orFile(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return "a single value"
	}
}

// suggest names the known key nearest to a mistyped one, or else all.
func suggest(key string, known []string) string {
	best, least := "", max(2, len(key)/3)+1
	for _, k := range known {
		if d := distance(key, k); d < least {
			best, least = k, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	return "known here: " + strings.Join(slices.Sorted(slices.Values(known)), ", ")
}

// distance is Levenshtein's, over bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
