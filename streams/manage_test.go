package streams_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rollcall-dev/rollcall/streams"
)

// startNATS runs a nats-server of this build in the process.
func startNATS(t testing.TB) jetstream.JetStream {
	t.Helper()
	return connect(t, startServer(t))
}

func startServer(t testing.TB, users ...*server.User) (url string) {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: t.TempDir(), Users: users,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("nats-server is not ready")
	}
	return s.ClientURL()
}

func connect(t testing.TB, url string, options ...nats.Option) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// startBinary runs a nats-server binary that takes unknown fields for errors.
func startBinary(t *testing.T, path string) jetstream.JetStream {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "nats.conf")
	text := fmt.Sprintf("listen: \"127.0.0.1:-1\"\nports_file_dir: %q\njetstream { store_dir: %q, strict: true }\n", dir, dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-c", config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	// The server writes the file when it listens.
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		ports, _ := filepath.Glob(filepath.Join(dir, "*.ports"))
		if len(ports) == 1 {
			if _, url, ok := strings.Cut(string(readFile(t, ports[0])), "nats://"); ok && strings.Contains(url, `"`) {
				url, _, _ = strings.Cut(url, `"`)
				return connect(t, "nats://"+url)
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen", path)
		}
	}
}

func apply(t *testing.T, js jetstream.JetStream, d streams.Definitions) []streams.Difference {
	t.Helper()
	differences, err := streams.Apply(t.Context(), js, d)
	if err != nil {
		t.Fatal(err)
	}
	return differences
}

func planned(t *testing.T, js jetstream.JetStream, d streams.Definitions) string {
	t.Helper()
	differences, err := streams.Plan(t.Context(), js, d)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, d := range differences {
		lines = append(lines, d.String())
	}
	return strings.Join(lines, "\n")
}

func streamConfig(t *testing.T, js jetstream.JetStream, name string) jetstream.StreamConfig {
	t.Helper()
	s, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().Config
}

func TestApplyMakesWhatIsMissing(t *testing.T) {
	t.Parallel()
	js := startNATS(t)
	d := streams.Names{Prefix: "staging"}.Definitions(streams.Options{MaxBytes: 1 << 20})
	want := `create stream STAGING_CLERK: staging.clerk.>, file storage, 1 replica, 1048576 bytes
create stream STAGING_CLERK_DEAD: staging.rollcall.dead.>, file storage, 1 replica, no size limit
create stream STAGING_CLERK_ANCHORS: staging.rollcall.anchor, file storage, 1 replica, no size limit
create bucket STAGING_CLERK_STATE: $KV.STAGING_CLERK_STATE.>, file storage, 1 replica, no size limit
create bucket STAGING_CLERK_REVOCATIONS: $KV.STAGING_CLERK_REVOCATIONS.>, file storage, 1 replica, no size limit
create bucket STAGING_CLERK_ERASED: $KV.STAGING_CLERK_ERASED.>, file storage, 1 replica, no size limit`
	for range 2 { // a plan changes nothing
		if diff := cmp.Diff(want, planned(t, js, d)); diff != "" {
			t.Fatal(diff)
		}
	}
	if made := apply(t, js, d); len(made) != 6 {
		t.Errorf("made %v", made)
	}
	if left := apply(t, js, d); len(left) != 0 {
		t.Errorf("the second time: %v", left)
	}
	if !streamConfig(t, js, "STAGING_CLERK").AllowAtomicPublish {
		t.Error("no atomic batches")
	}
	kv, err := js.KeyValue(t.Context(), "STAGING_CLERK_STATE")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Create(t.Context(), "lease."+streams.Key("store-é.=x"), nil, jetstream.KeyTTL(time.Minute)); err != nil {
		t.Errorf("a lease that ends by itself: %v", err)
	}
	if _, err := js.Publish(t.Context(), "staging."+"clerk.ins.user.created.user_1", []byte("{}")); err != nil {
		t.Error(err)
	}
}

// What an operator set wider stays; what is narrower than asked for is widened.
func TestPlanComparesWithTheOperators(t *testing.T) {
	t.Parallel()
	asked := streams.Options{MaxBytes: 1 << 20, Window: time.Hour}
	for _, c := range []struct {
		name    string
		options streams.Options
		change  func(*jetstream.StreamConfig)
		want    string
		check   func(jetstream.StreamConfig) bool // after Apply
	}{
		{
			"larger size", asked, func(s *jetstream.StreamConfig) { s.MaxBytes = 2 << 20 },
			"keep   stream CLERK: max_bytes is 2097152 bytes, asked for is 1048576 bytes",
			func(s jetstream.StreamConfig) bool { return s.MaxBytes == 2<<20 },
		},
		{
			"no size limit", asked, func(s *jetstream.StreamConfig) { s.MaxBytes = -1 },
			"keep   stream CLERK: max_bytes is unlimited, asked for is 1048576 bytes",
			func(s jetstream.StreamConfig) bool { return s.MaxBytes == -1 },
		},
		{
			"smaller size", asked, func(s *jetstream.StreamConfig) { s.MaxBytes = 1 << 10 },
			"change stream CLERK: max_bytes from 1024 bytes to 1048576 bytes",
			func(s jetstream.StreamConfig) bool { return s.MaxBytes == 1<<20 },
		},
		{
			"size that nobody asked for", streams.Options{Window: time.Hour}, func(s *jetstream.StreamConfig) { s.MaxBytes = 1 << 10 },
			"keep   stream CLERK: max_bytes is 1024 bytes, asked for is unlimited",
			func(s jetstream.StreamConfig) bool { return s.MaxBytes == 1<<10 },
		},
		{
			"forgets", asked, func(s *jetstream.StreamConfig) {
				s.MaxAge, s.MaxMsgsPerSubject, s.Discard = 24*time.Hour, 5, jetstream.DiscardOld
			},
			`change stream CLERK: discard from old to new
change stream CLERK: max_msgs_per_subject from 5 to unlimited
change stream CLERK: max_age from 24h0m0s to none`,
			func(s jetstream.StreamConfig) bool {
				return s.MaxAge == 0 && s.MaxMsgsPerSubject == -1 && s.Discard == jetstream.DiscardNew
			},
		},
		{
			"limits by subject", asked, func(s *jetstream.StreamConfig) {
				s.DiscardNewPerSubject, s.MaxMsgsPerSubject, s.MaxMsgSize, s.MaxMsgs = true, 5, 100, 1000
			},
			`change stream CLERK: discard_new_per_subject from true to false
change stream CLERK: max_msgs from 1000 to unlimited
change stream CLERK: max_msgs_per_subject from 5 to unlimited
change stream CLERK: max_msg_size from 100 to unlimited`,
			func(s jetstream.StreamConfig) bool { return !s.DiscardNewPerSubject && s.MaxMsgsPerSubject == -1 },
		},
		{
			"purges denied", asked, func(s *jetstream.StreamConfig) { s.DenyPurge = true },
			"refuse stream CLERK: deny_purge is true and has to be false, which cannot be changed in place",
			func(s jetstream.StreamConfig) bool { return s.DenyPurge },
		},
		{
			"interest", asked, func(s *jetstream.StreamConfig) { s.Retention = jetstream.InterestPolicy },
			"change stream CLERK: retention from interest to limits",
			func(s jetstream.StreamConfig) bool { return s.Retention == jetstream.LimitsPolicy },
		},
		{
			"work queue in memory", asked, func(s *jetstream.StreamConfig) {
				s.Retention, s.Storage, s.Compression = jetstream.WorkQueuePolicy, jetstream.MemoryStorage, jetstream.NoCompression
			},
			`refuse stream CLERK: storage is memory and has to be file, which cannot be changed in place
refuse stream CLERK: retention is workqueue and has to be limits, which cannot be changed in place
change stream CLERK: compression from none to s2`,
			func(s jetstream.StreamConfig) bool {
				return s.Retention == jetstream.WorkQueuePolicy && s.Storage == jetstream.MemoryStorage
			},
		},
		{
			"further subject", asked, func(s *jetstream.StreamConfig) { s.Subjects = []string{"shop.>", "clerk.>"} },
			"keep   stream CLERK: subjects is shop.> clerk.>, asked for is clerk.>",
			func(s jetstream.StreamConfig) bool { return len(s.Subjects) == 2 },
		},
		{
			"no acknowledgements", asked, func(s *jetstream.StreamConfig) { s.NoAck = true },
			"change stream CLERK: no_ack from true to false",
			func(s jetstream.StreamConfig) bool { return !s.NoAck },
		},
		{
			"narrower subjects", asked, func(s *jetstream.StreamConfig) {
				s.Subjects = []string{"clerk.*.user.>", "shop.>", "clerk.x"}
			},
			"change stream CLERK: subjects from clerk.*.user.> shop.> clerk.x to shop.> clerk.>",
			func(s jetstream.StreamConfig) bool { return cmp.Equal(s.Subjects, []string{"shop.>", "clerk.>"}) },
		},
		{
			"older features", asked, func(s *jetstream.StreamConfig) {
				s.AllowAtomicPublish, s.AllowMsgTTL, s.AllowDirect, s.Duplicates = false, false, false, time.Minute
			},
			`change stream CLERK: duplicate_window from 1m0s to 1h0m0s
change stream CLERK: allow_direct from false to true
change stream CLERK: allow_msg_ttl from false to true
change stream CLERK: allow_atomic from false to true`,
			func(s jetstream.StreamConfig) bool {
				return s.AllowAtomicPublish && s.AllowMsgTTL && s.AllowDirect && s.Duplicates == time.Hour
			},
		},
		{
			"further features", asked, func(s *jetstream.StreamConfig) {
				s.AllowRollup, s.Duplicates, s.Metadata, s.Description = true, 2*time.Hour, map[string]string{"team": "a"}, "ours"
			},
			`keep   stream CLERK: duplicate_window is 2h0m0s, asked for is 1h0m0s
keep   stream CLERK: allow_rollup_hdrs is true, asked for is false`,
			func(s jetstream.StreamConfig) bool { return s.Metadata["team"] == "a" && s.Description == "ours" },
		},
		{
			"mirror", asked, func(s *jetstream.StreamConfig) {
				*s = jetstream.StreamConfig{Name: "CLERK", Mirror: &jetstream.StreamSource{Name: "OTHER"}}
			},
			"refuse stream CLERK: mirror is OTHER and has to be none, which cannot be changed in place",
			func(s jetstream.StreamConfig) bool { return s.Mirror != nil },
		},
		{
			"acknowledged before written", asked, func(s *jetstream.StreamConfig) {
				s.AllowAtomicPublish, s.PersistMode = false, jetstream.AsyncPersistMode
			},
			`refuse stream CLERK: persist_mode is async and has to be default, which cannot be changed in place`,
			func(s jetstream.StreamConfig) bool { return !s.AllowAtomicPublish },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			js := startNATS(t)
			d := streams.Names{}.Definitions(c.options)
			d.Streams, d.Buckets = d.Streams[:1], nil
			operators := d.Streams[0]
			c.change(&operators)
			if _, err := js.CreateStream(t.Context(), operators); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, planned(t, js, d)); diff != "" {
				t.Fatalf("plan (-want +got):\n%s", diff)
			}
			apply(t, js, d)
			if s := streamConfig(t, js, "CLERK"); !c.check(s) {
				t.Errorf("applied: %+v", s)
			}
			if left := planned(t, js, d); strings.Contains("\n"+left, "\nchange") {
				t.Errorf("left after apply:\n%s", left)
			}
		})
	}
}

func TestApplyKeepsAWiderSubject(t *testing.T) {
	t.Parallel()
	js := startNATS(t)
	d := streams.Names{Prefix: "eu"}.Definitions(streams.Options{})
	d.Streams, d.Buckets = d.Streams[:1], nil
	operators := d.Streams[0]
	operators.Subjects = []string{"eu.>"}
	if _, err := js.CreateStream(t.Context(), operators); err != nil {
		t.Fatal(err)
	}
	apply(t, js, d)
	if got, want := planned(t, js, d), "keep   stream EU_CLERK: subjects is eu.>, asked for is eu.clerk.>"; got != want {
		t.Errorf("plan: %s\nwant: %s", got, want)
	}
}

func TestApplyKeepsMessages(t *testing.T) {
	t.Parallel()
	js := startNATS(t)
	d := streams.Names{}.Definitions(streams.Options{MaxBytes: 10})
	full := d.Streams[0]
	full.MaxBytes, full.AllowMsgTTL, full.Subjects = -1, false, []string{"clerk.a.>"}
	if _, err := js.CreateStream(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if _, err := js.Publish(t.Context(), fmt.Sprintf("clerk.a.user.created.user_%d", i), []byte(`{"type":"user.created"}`)); err != nil {
			t.Fatal(err)
		}
	}
	apply(t, js, d)
	s, err := js.Stream(t.Context(), "CLERK")
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().State.Msgs; n != 10 {
		t.Errorf("%d of 10 messages are left", n)
	}
}

func TestApplyTheBucket(t *testing.T) {
	t.Parallel()
	js := startNATS(t)
	d := streams.Names{}.Definitions(streams.Options{})
	_, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "CLERK_STATE", TTL: time.Hour, History: 5})
	if err != nil {
		t.Fatal(err)
	}
	d.Streams = nil
	want := `keep   bucket CLERK_STATE: max_msgs_per_subject is 5, asked for is 1
change bucket CLERK_STATE: max_age from 1h0m0s to none
change bucket CLERK_STATE: subject_delete_marker_ttl from none to 1m0s
change bucket CLERK_STATE: allow_msg_ttl from false to true
change bucket CLERK_STATE: allow_atomic from false to true
create bucket CLERK_REVOCATIONS: $KV.CLERK_REVOCATIONS.>, file storage, 1 replica, no size limit
create bucket CLERK_ERASED: $KV.CLERK_ERASED.>, file storage, 1 replica, no size limit`
	if diff := cmp.Diff(want, planned(t, js, d)); diff != "" {
		t.Fatal(diff)
	}
	apply(t, js, d)
	kv, err := js.KeyValue(t.Context(), "CLERK_STATE")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Create(t.Context(), "lease.x", nil, jetstream.KeyTTL(time.Minute)); err != nil {
		t.Errorf("a lease that ends by itself: %v", err)
	}
}

func TestApplyByManyAtOnce(t *testing.T) {
	t.Parallel()
	js := startNATS(t)
	var group sync.WaitGroup
	for i := range 8 {
		d := streams.Names{}.Definitions(streams.Options{MaxBytes: int64(i%2+1) << 20})
		group.Go(func() {
			if _, err := streams.Apply(t.Context(), js, d); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if s := streamConfig(t, js, "CLERK"); s.MaxBytes != 2<<20 {
		t.Errorf("max_bytes is %d, the greatest asked for is %d", s.MaxBytes, 2<<20)
	}
}

func TestApplyOnOtherServers(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("ROLLCALL_TEST_NATS_SERVERS")
	binaries, _ := filepath.Glob(filepath.Join(dir, "*", "nats-server"))
	if dir == "" || len(binaries) == 0 {
		t.Skip("ROLLCALL_TEST_NATS_SERVERS names no folder with VERSION/nats-server")
	}
	for _, binary := range binaries {
		t.Run(filepath.Base(filepath.Dir(binary)), func(t *testing.T) {
			t.Parallel()
			js := startBinary(t, binary)
			d := streams.Names{}.Definitions(streams.Options{})
			version := js.Conn().ConnectedServerVersion()
			apply(t, js, d)
			if left := planned(t, js, d); left != "" {
				t.Errorf("left on %s:\n%s", version, left)
			}
			s := streamConfig(t, js, "CLERK")
			if want := !strings.HasPrefix(version, "2.11."); s.AllowAtomicPublish != want || !s.AllowMsgTTL {
				t.Errorf("on %s: allow_atomic %v, allow_msg_ttl %v", version, s.AllowAtomicPublish, s.AllowMsgTTL)
			}
		})
	}
}

func TestApplyErrors(t *testing.T) {
	t.Parallel()
	js := startNATS(t)
	d := streams.Names{}.Definitions(streams.Options{})
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "THEIRS", Subjects: []string{"clerk.>"}}); err != nil {
		t.Fatal(err)
	}
	_, err := streams.Apply(t.Context(), js, d)
	if err == nil || !strings.Contains(err.Error(), "make stream CLERK (clerk.>") || !strings.Contains(err.Error(), "overlap") {
		t.Errorf("subjects taken: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := streams.Plan(ctx, js, d); err == nil {
		t.Error("a plan that could not look reports no error")
	}
}
