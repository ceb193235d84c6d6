// Package deploy_test holds what deploy/ and docker-compose.yml promise.
package deploy_test

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.yaml.in/yaml/v3"

	"github.com/rollcall-dev/rollcall/internal/audit"
	"github.com/rollcall-dev/rollcall/internal/broker"
	"github.com/rollcall-dev/rollcall/internal/config"
	"github.com/rollcall-dev/rollcall/internal/consume"
	"github.com/rollcall-dev/rollcall/internal/gateway"
	"github.com/rollcall-dev/rollcall/internal/ingest"
	"github.com/rollcall-dev/rollcall/internal/invalidate"
	"github.com/rollcall-dev/rollcall/internal/publish"
	"github.com/rollcall-dev/rollcall/internal/reconcile"
	"github.com/rollcall-dev/rollcall/internal/revocation"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/telemetry"
)

// metrics are the names of all that a process exports.
var metrics = func() []string {
	r := &describer{}
	letters := consume.NewDeadLetters(r)
	ingest.NewMetrics(r, letters)
	(&ingest.Handler{}).HeldBytes(r)
	publish.NewMetrics(r)
	consume.NewMetrics(r, letters)
	store.NewMetrics(r)
	audit.NewMetrics(r)
	invalidate.NewMetrics(r)
	gateway.NewMetrics(r)
	reconcile.NewMetrics(r)
	(&reconcile.Listener{}).Register(r)
	r.MustRegister(&revocation.List{})
	broker.NewMetrics(r)
	r.MustRegister(telemetry.NewHealth(zap.NewNop()))
	return append(r.names, "rollcall_build_info") // telemetry.NewRegistry's own
}()

// describer is a registry that only notes names.
type describer struct{ names []string }

func (d *describer) Register(c prometheus.Collector) error { d.MustRegister(c); return nil }
func (d *describer) Unregister(prometheus.Collector) bool  { return false }

func (d *describer) MustRegister(collectors ...prometheus.Collector) {
	for _, c := range collectors {
		out := make(chan *prometheus.Desc, 100)
		c.Describe(out)
		close(out)
		for desc := range out {
			d.names = append(d.names, fqName.FindStringSubmatch(desc.String())[1])
		}
	}
}

var fqName = regexp.MustCompile(`fqName: "([^"]+)"`)

var metricName = regexp.MustCompile(`\brollcall_[a-z_]+[a-z]`)

func TestAlertsUseExportedMetrics(t *testing.T) {
	for _, rule := range alerts(t) {
		for _, name := range metricName.FindAllString(rule.Expr, -1) {
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				name = strings.TrimSuffix(name, suffix)
			}
			if !slices.Contains(metrics, name) {
				t.Errorf("alert %s asks for %s, which nothing exports", rule.Alert, name)
			}
		}
	}
}

func TestAlertsHaveARunbook(t *testing.T) {
	const readme = "https://github.com/rollcall-dev/rollcall/blob/main/deploy/README.md#"
	headings := headings(read(t, "README.md"))
	for _, rule := range alerts(t) {
		for _, key := range []string{"summary", "description", "runbook_url"} {
			if rule.Annotations[key] == "" {
				t.Errorf("alert %s has no %s", rule.Alert, key)
			}
		}
		anchor, ok := strings.CutPrefix(rule.Annotations["runbook_url"], readme)
		if !ok || !slices.Contains(headings, anchor) {
			t.Errorf("alert %s: no heading of README.md is its runbook %s", rule.Alert, rule.Annotations["runbook_url"])
		}
		if s := rule.Labels["severity"]; s != "page" && s != "ticket" {
			t.Errorf("alert %s has the severity %q", rule.Alert, s)
		}
	}
}

func TestReadmeListsTheMetrics(t *testing.T) {
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(rollcall_[a-z_]+)").FindAllStringSubmatch(read(t, "README.md"), -1) {
		listed = append(listed, m[1])
	}
	for _, name := range metrics {
		if !slices.Contains(listed, name) {
			t.Errorf("README.md's table lacks %s", name)
		}
	}
	for _, name := range listed {
		if !slices.Contains(metrics, name) {
			t.Errorf("README.md lists %s, which nothing exports", name)
		}
	}
}

// Each alert fires where it must and stays silent where it must not.
func TestAlerts(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed; make lint and make test install it")
	}
	for _, args := range [][]string{
		{"check", "rules", "prometheus/rules.yml"},
		{"test", "rules", "prometheus/rules_test.yml"},
	} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	tests := read(t, "prometheus/rules_test.yml")
	for _, rule := range alerts(t) {
		if !strings.Contains(tests, `alertname="`+rule.Alert+`"`) || !strings.Contains(tests, "alertname: "+rule.Alert+"}") {
			t.Errorf("rules_test.yml doesn't see alert %s both fire and stay silent", rule.Alert)
		}
	}
}

func TestStoreConfiguration(t *testing.T) {
	env := map[string]string{
		"NATS_URL":             "nats://store:p1@nats:4222",
		"DATABASE_URL":         "postgres://rollcall_app:p2@postgres/rollcall",
		"MIGRATE_DATABASE_URL": "postgres://rollcall_owner:p3@postgres/rollcall",
	}
	c, err := config.Load("store.yaml", func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Stores) != 1 || c.Stores[0].DatabaseURL != env["DATABASE_URL"] || c.Stores[0].MigrateDatabaseURL != env["MIGRATE_DATABASE_URL"] {
		t.Errorf("store.yaml makes the stores %+v", c.Stores)
	}
}

type service struct {
	Image       string            `yaml:"image"`
	Command     []string          `yaml:"command"`
	Environment map[string]string `yaml:"environment"`
	Ports       []string          `yaml:"ports"`
	ReadOnly    bool              `yaml:"read_only"`
	CapDrop     []string          `yaml:"cap_drop"`
	SecurityOpt []string          `yaml:"security_opt"`
	StopGrace   string            `yaml:"stop_grace_period"`
	Healthcheck *struct {
		Test []string `yaml:"test"`
	} `yaml:"healthcheck"`
}

func TestCompose(t *testing.T) {
	var file struct {
		Services map[string]service `yaml:"services"`
	}
	decode(t, "../docker-compose.yml", &file)
	for _, name := range []string{"nats", "postgres", "streams", "ingest", "store", "clerkemu"} {
		if _, ok := file.Services[name]; !ok {
			t.Errorf("docker-compose.yml has no service %s", name)
		}
	}
	for name, s := range file.Services {
		t.Run(name, func(t *testing.T) { checkService(t, name, s) })
	}
}

func checkService(t *testing.T, name string, s service) {
	// An image of ours is built here; any other is pinned to a patch release.
	if !strings.HasPrefix(s.Image, "rollcall:") && !strings.HasPrefix(s.Image, "clerkemu:") && !regexp.MustCompile(`^[a-z]+:\d+\.\d+`).MatchString(s.Image) {
		t.Errorf("the image %s is not pinned", s.Image)
	}
	for _, port := range s.Ports {
		if name != "ingest" && !strings.HasPrefix(port, "127.0.0.1:") {
			t.Errorf("publishes %v", s.Ports)
		}
	}
	if !s.ReadOnly || !slices.Contains(s.CapDrop, "ALL") || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
		t.Error("is not locked down: read_only, cap_drop, no-new-privileges")
	}
	if s.Healthcheck == nil && name != "streams" { // streams runs once
		t.Error("has no health check")
	}
	if grace, err := time.ParseDuration(s.StopGrace); err != nil || grace <= 10*time.Second {
		t.Errorf("stop_grace_period is %q, not above the 10 s that draining may take", s.StopGrace)
	}
	for key, value := range s.Environment {
		if !regexp.MustCompile(`PASSWORD|SECRET$|_URL$`).MatchString(key) || key == "ROLLCALL_NATS_MONITOR_URL" {
			continue
		}
		if !strings.Contains(value, ":?set it") {
			t.Errorf("%s may be empty or has a default: %q", key, value)
		}
	}
}

// What compose insists on, example.env explains, with no value.
func TestExampleEnv(t *testing.T) {
	example := read(t, "example.env")
	for _, m := range regexp.MustCompile(`\$\{([A-Z_]+):\?`).FindAllStringSubmatch(read(t, "../docker-compose.yml"), -1) {
		if !regexp.MustCompile(`(?m)^` + m[1] + `=$`).MatchString(example) {
			t.Errorf("example.env lacks %s=, or gives it a value", m[1])
		}
	}
}

type alert struct {
	Alert, Expr string
	Labels      map[string]string
	Annotations map[string]string
}

func alerts(t *testing.T) []alert {
	t.Helper()
	var file struct {
		Groups []struct{ Rules []alert }
	}
	decode(t, "prometheus/rules.yml", &file)
	var rules []alert
	for _, g := range file.Groups {
		rules = append(rules, g.Rules...)
	}
	if len(rules) == 0 {
		t.Fatal("prometheus/rules.yml has no alerts")
	}
	return rules
}

// headings are the anchors that GitHub makes of a Markdown file's headings.
func headings(markdown string) []string {
	var anchors []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(markdown, -1) {
		plain := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		anchors = append(anchors, strings.ReplaceAll(plain, " ", "-"))
	}
	return anchors
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func decode(t *testing.T, file string, to any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, file)), to); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}
