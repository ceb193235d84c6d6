package store

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/stack/stacktest"
)

// role, member and user are events of the next sequence.
func (f *fixture) event(eventType string, at int64, data string) {
	f.t.Helper()
	f.next++
	m := event(f.next, fmt.Sprint("msg_", f.next), eventType, t0+at, nil)
	m.Data = fmt.Appendf(nil, `{"type":%q,"timestamp":%d,"data":%s}`, eventType, t0+at, data)
	f.apply(m)
}

const permissionsOfAll = `select membership_id, permission, system, source from clerk.member_permissions order by 1, 2`

// A role's change reaches its members at once, and takes away.
func TestMemberPermissions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	member := func(id, user, role string) {
		f.event("organizationMembership.created", 0, fmt.Sprintf(`{"id":%q,"role":%q,"permissions":["org:own:list","org:sys_memberships:read"],"organization":{"id":"org_1"},"public_user_data":{"user_id":%q}}`, id, role, user))
	}
	member("m1", "user_1", "org:admin")
	member("m2", "user_2", "admin")
	member("m3", "user_3", "basic_member")
	f.want("m1|org:own:list|false|membership\nm1|org:sys_memberships:read|true|membership", `select membership_id, permission, system, source from clerk.member_permissions where user_id = 'user_1' order by 2`)

	f.event("role.created", 1, `{"id":"r1","key":"org:admin","updated_at":1,"permissions":[{"id":"p1","key":"org:a:read"},{"id":"p2","key":"org:sys_memberships:manage"}]}`)
	f.event("role.created", 1, `{"id":"r2","key":"org:member","updated_at":1,"permissions":[]}`)
	f.want("m1|org:a:read|false|role\nm1|org:sys_memberships:manage|true|role\nm2|org:a:read|false|role\nm2|org:sys_memberships:manage|true|role", permissionsOfAll)
	// It loses one; another is renamed, and a third is deleted.
	f.event("role.updated", 2, `{"id":"r1","key":"org:admin","updated_at":2,"permissions":[{"id":"p1","key":"org:a:read"},{"id":"p3","key":"org:c"}]}`)
	f.event("permission.updated", 3, `{"id":"p1","key":"org:a:view","updated_at":3}`)
	f.want("m1|org:a:view|false|role\nm1|org:c|false|role\nm2|org:a:view|false|role\nm2|org:c|false|role", permissionsOfAll)
	f.event("permission.deleted", 4, `{"id":"p3","deleted":true}`)
	f.event("user.deleted", 4, `{"id":"user_2","deleted":true}`)
	f.want("m1|org:a:view|false|role", permissionsOfAll)
	f.want("p1|org:a:view", `select permission_id, permission_key from clerk.role_permissions_live`)
	// Its key passes to another role.
	f.event("role.updated", 5, `{"id":"r1","key":"org:owner","updated_at":5,"permissions":[{"id":"p1"}]}`)
	f.want("m1|org:own:list|false|membership\nm1|org:sys_memberships:read|true|membership", permissionsOfAll)
	f.event("role.updated", 6, `{"id":"r2","key":"org:admin","updated_at":6,"permissions":[{"id":"p2","key":"org:new"}]}`)
	f.want("m1|org:new|false|role\nm3|org:own:list|false|membership\nm3|org:sys_memberships:read|true|membership", permissionsOfAll)
	f.event("organization.deleted", 7, `{"id":"org_1","deleted":true}`)
	f.want("", permissionsOfAll)
}

// A role of another instance gives nothing.
func TestMemberPermissionsOfAnotherInstance(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.event("role.created", 0, `{"id":"r1","key":"org:admin","permissions":[{"id":"p1","key":"org:a:read"}]}`)
	f.event("organizationMembership.created", 0, `{"id":"m1","role":"org:admin","permissions":["org:own"],"organization":{"id":"org_1"}}`)
	execute(t, f.db, `update clerk.roles set instance_id = 'ins_2'`)
	f.want("m1|org:own|false|membership", permissionsOfAll)
}

// As whoever asks: a role that may not read the tables gets nothing through the views.
func TestViewsInvokeAsTheReader(t *testing.T) {
	t.Parallel()
	other := stacktest.Database(t)
	d := stacktest.Database(t)
	if err := newStore(t, d).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	reader, role := asRole(t, d, other)
	owner := connect(t, d.OwnerURL)
	db := connect(t, reader)
	execute(t, owner, `grant usage on schema clerk to `+role)
	for _, view := range []string{"member_permissions", "role_permissions", "role_permissions_live", "user_enterprise_accounts", "sessions_live"} {
		execute(t, owner, `grant select on clerk.`+view+` to `+role)
		_, err := db.Exec(t.Context(), `select * from clerk.`+view)
		refused(t, err, "42501")
	}
}

func TestUserEnterpriseAccounts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	connection := map[string]any{"id": "entconn_1", "protocol": "oidc", "provider": "oidc_custom", "name": "Acme", "domain": "", "domains": []string{"acme.com", "acme.co.uk"}, "active": true}
	user := map[string]any{
		"id": "user_1", "updated_at": t0, "deprovisioned": true,
		"enterprise_accounts": []any{
			map[string]any{"id": "entacc_1", "protocol": "saml", "provider": "saml_okta", "active": true, "provider_user_id": "00u1", "enterprise_connection_id": "entconn_1", "last_authenticated_at": t0 + 1, "enterprise_connection": connection, "email_address": "a@acme.com"},
			map[string]any{"id": "entacc_2", "active": "yes", "last_authenticated_at": "never", "enterprise_connection": nil},
			nil, 7,
		},
		"saml_accounts": []any{
			map[string]any{"id": "entacc_1", "provider": "the same"},
			map[string]any{"id": "samlacc_3", "provider": "saml_google", "active": false, "saml_connection": map[string]any{"id": "samlconn_3", "domain": "old.example"}, "last_authenticated_at": json.Number("1e400")},
		},
	}
	f.apply(event(1, "msg_1", "user.created", t0, user),
		event(2, "msg_2", "user.created", t0, map[string]any{"id": "user_2", "enterprise_accounts": map[string]any{}, "saml_accounts": "none"}))
	f.want(`entacc_1|saml|saml_okta|entconn_1|Acme|true|00u1|acme.com|[acme.com acme.co.uk]|22:13:20.001|true|enterprise_accounts
entacc_2|<nil>|<nil>|<nil>|<nil>|<nil>|<nil>|<nil>|[<nil>]|<nil>|true|enterprise_accounts
samlacc_3|saml|saml_google|samlconn_3|<nil>|false|<nil>|old.example|[old.example]|<nil>|true|saml_accounts`,
		`select account_id, protocol, provider, connection_id, connection_name, active, provider_user_id, domain, domains, last_authenticated_at, deprovisioned, listed_in from clerk.user_enterprise_accounts order by 1`)
	f.apply(event(3, "msg_3", "user.deleted", t0, map[string]any{"id": "user_1"}))
	f.want("0", `select count(*) from clerk.user_enterprise_accounts`)
}

// A store without the parents' tables deletes their children all the same.
func TestDeletesWithoutTheParentsTable(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) {
		o.Resources = []string{"organization_memberships", "subscription_items"}
		o.InstanceID = "ins_1"
	})
	f.event("organizationMembership.created", 0, `{"id":"m1","organization":{"id":"org_1"},"public_user_data":{"user_id":"user_1"}}`)
	f.event("subscription.created", 0, `{"id":"csub_1","payer":{"user_id":"user_1"},"items":[{"id":"item_1"}]}`)
	f.event("user.updated", 0, `{"id":"user_1","first_name":"nobody asks"}`)
	f.event("user.deleted", 5, `{"id":"user_1"}`)
	f.event("organizationMembership.created", 9, `{"id":"m2","organization":{"id":"org_1"},"public_user_data":{"user_id":"user_1"}}`)
	f.want("m1|22:13:20.005\nm2|22:13:20.005", `select id, deleted_at from clerk.organization_memberships order by 1`)
	f.want("item_1|csub_1|22:13:20.005", `select id, subscription_id, deleted_at from clerk.subscription_items`)
	f.want("users|user_1", `select resource, id from clerk.tombstones`)
	f.want("0", `select count(*) from pg_class where relnamespace = 'clerk'::regnamespace and relname in ('users', 'organizations', 'subscriptions')`)
	if subjects := fmt.Sprint(f.Subjects()); subjects != "[clerk.ins_1.user.*.* clerk.ins_1.organization.*.* clerk.ins_1.subscription.*.* clerk.ins_1.organizationMembership.*.* clerk.ins_1.subscriptionItem.*.*]" {
		t.Error(subjects)
	}
}
