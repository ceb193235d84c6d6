package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Through the command: counted, into a file and onwards, into a store that has
// lost rows, and into no stream of our own.
func TestReplayCommand(t *testing.T) {
	t.Parallel()
	b := newLetterbox(t)
	b.send("user.created", "--count", "30", "--set", "instance_id=ins_1")
	b.send("organization.created", "--count", "12", "--set", "instance_id=ins_1")
	b.send("user.created", "--count", "1", "--set", "data.first_name=Eve", "--set", "instance_id=ins_1")
	b.has("30", `select count(*)::text from clerk.users`)
	b.has("1", `select dead_letters::text from clerk.sync_status`)

	said := b.command(0, []string{"replay", "--dry-run"})
	if want := "  31 user.created\n  12 organization.created\n43 events would be replayed, sequences 1 to 43\n"; strings.Join(strings.Fields(said), " ") != strings.Join(strings.Fields(want), " ") {
		t.Errorf("%s\nwant\n%s", said, want)
	}

	file := filepath.Join(t.TempDir(), "events.jsonl")
	b.command(0, []string{"replay", "--to-file", file, "--resource", "users", "--to", "30"})
	if said := b.command(2, []string{"replay", "--to-file", file}); !strings.Contains(said, "--from") {
		t.Error(said)
	}
	b.command(0, []string{"replay", "--to-file", file, "--from", "31"})
	text, err := os.ReadFile(file)
	if err != nil || strings.Count(string(text), "\n") != 43 {
		t.Errorf("%d lines, %v", strings.Count(string(text), "\n"), err)
	}
	if out := b.command(0, []string{"replay", "--to-file", "-", "--type", "organization.created", "--from", "1h"}); strings.Count(out, `"subject"`) != 12 {
		t.Error(out)
	}

	// Rows that were lost come back; the store that isn't named stays as it is.
	b.exec(`delete from clerk.users; delete from other.users; delete from clerk.organizations`)
	b.watch()
	var result struct {
		Events, Failed int
		Types          map[string]int
	}
	if err := json.NewDecoder(strings.NewReader(b.command(1, []string{"replay", "--to-store", "app", "--json"}))).Decode(&result); err != nil || result.Events != 43 || result.Failed != 1 || result.Types["user.created"] != 31 {
		t.Errorf("%+v, %v", result, err)
	}
	b.has("30 12 0", `select format('%s %s %s', (select count(*) from clerk.users), (select count(*) from clerk.organizations), (select count(*) from other.users))`)
	b.has("1", `select dead_letters::text from clerk.sync_status`) // its letter is there already

	for _, to := range []string{"clerk.ins_1.user.updated.user_1", "rollcall.>", "$KV.x", "a.*"} {
		if said := b.command(2, []string{"replay", "--to-subject", to}); !strings.Contains(said, "rollcall: ") {
			t.Error(said)
		}
	}
	b.running.stops()
}
