package store

import (
	"slices"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
	"github.com/rollcall-dev/rollcall/streams"
)

// Two services follow one log, each with what it needs and no more.
func TestStoresOfDifferentColumns(t *testing.T) {
	t.Parallel()
	orders := newFixture(t, func(o *Options) {
		o.Resources = []string{"users", "organization_memberships"}
		o.Include = map[string][]string{"users": {"private_metadata"}}
		o.Exclude = map[string][]string{"users": {"phone", "phone_numbers", "first_name", "last_name", "email_addresses", "enterprise_accounts"}}
	})
	mail := newFixture(t, func(o *Options) {
		o.Resources = []string{"users"}
		o.Exclude = map[string][]string{"users": {"name", "email_verified", "public_metadata"}}
	})
	log := []streams.Message{
		event(1, "msg_1", "user.created", t0, map[string]any{
			"id": "user_1", "first_name": "Ada", "last_name": "Lovelace", "updated_at": t0,
			"primary_email_address_id": "idn_1", "email_addresses": []map[string]any{{"id": "idn_1", "email_address": "ada@example.org", "verification": map[string]any{"status": "verified"}}},
			"primary_phone_number_id": "idn_2", "phone_numbers": []map[string]any{{"id": "idn_2", "phone_number": "+44"}},
			"private_metadata": map[string]any{"plan": "pro"}, "public_metadata": map[string]any{"a": 1},
		}),
		event(2, "msg_2", "organizationMembership.created", t0, map[string]any{
			"id": "orgmem_1", "role": "org:admin", "updated_at": t0, "organization": map[string]any{"id": "org_1"}, "public_user_data": map[string]any{"user_id": "user_1"},
		}),
		event(3, "msg_3", "organization.created", t0, map[string]any{"id": "org_1", "updated_at": t0}),
	}
	for _, f := range []*fixture{orders, mail} {
		f.apply(log...)
		f.want("[]", `select incomplete from clerk.sync_status`)
	}
	// Made columns are right though what they are made of isn't kept, and the other way round.
	orders.want(`Ada Lovelace|ada@example.org|true|map[plan:pro]`, `select name, email, email_verified, private_metadata from clerk.users_live`)
	orders.want("orgmem_1", `select id from clerk.organization_memberships_live`)
	orders.want("<nil>|<nil>|<nil>", `select to_regclass('clerk.organizations'), to_regclass('clerk.member_permissions'), to_regclass('clerk.user_enterprise_accounts')`)
	mail.want("Ada|ada@example.org|+44", `select first_name, email, phone from clerk.users_live`)
	mail.want("true|false", `select to_regclass('clerk.organization_memberships') is null, to_regclass('clerk.user_enterprise_accounts') is null`)
	for column, want := range map[string][2]bool{"private_metadata": {true, false}, "phone": {false, true}, "email_addresses": {false, true}, "name": {true, false}} {
		for i, f := range []*fixture{orders, mail} {
			if got := f.one(`select exists (select from pg_attribute where attrelid = 'clerk.users_live'::regclass and attname = $1)`, column) == "true"; got != want[i] {
				t.Errorf("store %d has %s: %t", i, column, got)
			}
		}
	}
	if s := orders.Subjects(); len(s) != 3 || !slices.Contains(s, "clerk.*.organization.*.*") {
		t.Errorf("subjects %v", s)
	}
	// What is personal goes, whatever is kept.
	for _, f := range []*fixture{orders, mail} {
		f.apply(event(4, "msg_4", "user.deleted", t0+1, map[string]any{"id": "user_1"}))
	}
	orders.want("<nil>|<nil>|<nil>", `select name, email, private_metadata from clerk.users`)
	orders.want("true", `select deleted_at is not null from clerk.organization_memberships`)
	mail.want("<nil>|<nil>|<nil>", `select first_name, email, phone from clerk.users`)
}

func TestNewRefusesColumns(t *testing.T) {
	t.Parallel()
	d := stacktest.Database(t)
	_, err := New(Options{Name: "app", DatabaseURL: d.URL, Schema: "clerk", Exclude: map[string][]string{"users": {"id"}}})
	refused(t, err, "store app", "exclude.users[0] is id")
}
