package backfill

import (
	"errors"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/clerk/clerktest"
	"github.com/rollcall-dev/rollcall/internal/emulator"
	emulated "github.com/rollcall-dev/rollcall/internal/emulator/state"
	"github.com/rollcall-dev/rollcall/streams"
)

// An empty store is as Clerk is after a backfill alone, in all that Clerk lists;
// the log has one note of its beginning and one of its end.
func TestFillsAnEmptyStore(t *testing.T) {
	t.Parallel()
	r := newRig(t, emulator.Options{RateLimit: clerktest.Unlimited(), Population: emulated.SeedOptions{Users: 1_700, Organizations: 600, Memberships: 2_300}})
	report := r.backfill()
	r.equal()
	for _, res := range report.Resources {
		if res.Fetched != res.Total || res.New != res.Total || res.Store != "store-app" {
			t.Errorf("%+v", res)
		}
	}
	if !report.Finished || report.Resumed || report.Process.Failed+report.Process.Limited != 0 {
		t.Errorf("%+v", report)
	}

	again := r.backfill()
	r.equal()
	for _, res := range again.Resources {
		if res.Fetched != res.Total || res.Same != res.Total {
			t.Errorf("again: %+v", res)
		}
	}
	notes := r.Logged("clerk.*.rollcall.>")
	if len(notes) != 4 {
		t.Fatalf("%d notes in the log", len(notes))
	}
	event, err := streams.ParseEvent(notes[1].Headers(), notes[1].Data())
	if err != nil {
		t.Fatal(err)
	}
	payload, err := event.Payload()
	if finished, ok := payload.(*streams.BackfillFinished); err != nil || !ok || finished.ID != report.Run || finished.By != "ada@laptop" ||
		finished.Requests != report.Requests || len(finished.Resources) != len(Resources()) || event.Source != streams.SourceOperator {
		t.Errorf("%s: %+v, %v", event.Type, payload, err)
	}
}

func TestRefusesAnotherInstance(t *testing.T) {
	t.Parallel()
	r := newRig(t, emulator.Options{RateLimit: clerktest.Unlimited()})
	var wrong *WrongInstanceError
	if _, err := Run(t.Context(), r.options(func(o *Options) { o.InstanceID = "ins_other" })); !errors.As(err, &wrong) {
		t.Errorf("configured: %v", err)
	}
	r.backfill()
	r.equal()
	other := newRig(t, emulator.Options{RateLimit: clerktest.Unlimited(), Seed: 7})
	if _, err := Run(t.Context(), r.options(func(o *Options) { o.Client = other.options().Client })); !errors.As(err, &wrong) {
		t.Errorf("the store's: %v", err)
	}
}
