package config

import "reflect"

// Setting describes one setting for the documentation.
type Setting struct {
	Path    string // key in rollcall.yaml; NAME stands for a store's name
	Env     string // variable that overrides it
	Also    string // variable of the ecosystem that fills it where nothing else does; "" if none
	Type    string // string, list, lists (by name), bool, number, size (bytes or 64GiB) or duration (28h)
	Default string // "" if unset
	Doc     string
}

// Table lists every setting, in the order of [Config.Print]. Those of an
// instance stand under `instances.NAME` where there are several.
func Table() []Setting {
	var out []Setting
	for _, s := range []struct {
		path     string
		settings reflect.Type
	}{
		{"instance", reflect.TypeFor[Instance]()},
		{"nats", reflect.TypeFor[NATS]()},
		{"stores.NAME", reflect.TypeFor[Store]()},
		{"audit", reflect.TypeFor[Audit]()},
		{"invalidate", reflect.TypeFor[Invalidate]()},
		{"invalidate.redis", reflect.TypeFor[Redis]()},
		{"invalidate.http.0", reflect.TypeFor[Purge]()},
		{keysPath, reflect.TypeFor[templatesByTable]()},
		{"revoke", reflect.TypeFor[Revoke]()},
		{"gateway", reflect.TypeFor[Gateway]()},
		{"gateway.revocation", reflect.TypeFor[GatewayRevocation]()},
		{"gateway.freshness", reflect.TypeFor[GatewayFreshness]()},
		{"gateway.routes.0", reflect.TypeFor[Route]()},
		{"gateway.routes.0.require", reflect.TypeFor[Require]()},
		{"identity", reflect.TypeFor[Identity]()},
		{"ingest", reflect.TypeFor[Ingest]()},
		{"log", reflect.TypeFor[Log]()},
		{"health", reflect.TypeFor[Health]()},
	} {
		for i := range s.settings.NumField() {
			f := s.settings.Field(i)
			key := f.Tag.Get("yaml")
			if key == "" {
				continue
			}
			path := join(s.path, key)
			out = append(out, Setting{
				Path: path, Env: variable(path), Also: also(f), Type: typeName(f.Type),
				Default: f.Tag.Get("default"), Doc: f.Tag.Get("doc"),
			})
		}
	}
	return out
}

func also(f reflect.StructField) string {
	env, more := f.Tag.Get("env"), f.Tag.Get("more")
	if more == "" {
		return env
	}
	return env + ", " + more
}
