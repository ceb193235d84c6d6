package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/rollcall-dev/rollcall/internal/store"
)

// A service's own schema, and an ordinary role: whoever runs the bench may be
// bound by no policy.
const (
	serviceSchema = schema + "_service"
	tenantRole    = schema + "_tenant"
)

// Each query is asked many times in a transaction, prepared, as a service would.
const (
	queriesOfATurn = 20
	turnsOfARound  = 100
)

// tenantQuery is a query under policies and the same with a WHERE. $1 of where
// is the organization; arg, where there is one, is both queries' last parameter.
type tenantQuery struct {
	what, ours, where string
	arg               func(tenant int) any
	target            float64
}

var tenantQueries = []tenantQuery{
	{
		what: "RLS: 20 rows of an isolated table", target: 1.3,
		ours:  `select id, total from {service}.orders order by created_at desc limit 20`,
		where: `select id, total from {service}.orders where organization_id = $1 order by created_at desc limit 20`,
	},
	{
		what: "RLS: a fellow member by e-mail", target: 1.3,
		arg:  func(tenant int) any { return fmt.Sprintf("%d@example.org", tenant) },
		ours: `select id, name, email from {}.users where email = $1`,
		where: `select id, name, email from {}.users u where email = $2
and exists (select from {}.organization_memberships m where m.user_id = u.id and m.organization_id = $1 and m.deleted_at is null)`,
	},
	{
		what:  "RLS: 50 members with their users", // of which the WHERE needn't ask whether they are fellows
		ours:  `select u.id, u.name, u.email, m.role from {}.organization_memberships_live m join {}.users_live u on u.id = m.user_id limit 50`,
		where: `select u.id, u.name, u.email, m.role from {}.organization_memberships_live m join {}.users_live u on u.id = m.user_id where m.organization_id = $1 limit 50`,
	},
}

// tenantData: each user is a member of two organizations. The owner is admitted
// to all rows of orders, so that both queries read the same table.
const tenantData = `
create schema {service};
create table {service}.orders (id text primary key, organization_id text not null, total bigint, created_at timestamptz);
insert into {service}.orders select format('ord_%1$s_%2$s', o, i), 'org_' || o, i, now() - i * interval '1 minute' from generate_series(1, {rows}) i, generate_series(1, {tenants}) o;
create index on {service}.orders (organization_id, created_at);
select {}.isolate('{service}.orders', 'organization_id');
create policy bench on {service}.orders to current_user using (true);
insert into {}.users (id, name, email, instance_id, synced_at, stream_epoch, stream_seq, source, version)
select 'user_' || i, 'Ada ' || i, i || '@example.org', '', now(), 1, i, '', '' from generate_series(1, {tenants} * {members} / 2) i;
insert into {}.organization_memberships (id, organization_id, user_id, role, instance_id, synced_at, stream_epoch, stream_seq, source, version)
select format('orgmem_%1$s_%2$s', o, i), 'org_' || o, 'user_' || 1 + (o - 1 + i * {tenants}) % ({tenants} * {members} / 2), 'org:member', '', now(), 1, i, '', '' from generate_series(0, {members} - 1) i, generate_series(1, {tenants}) o;
grant usage on schema {}, {service} to {role}; grant select on all tables in schema {}, {service} to {role}`

// rowSecurity measures what policies add to a query.
func (b *bench) rowSecurity(ctx context.Context) (err error) {
	owner, err := pgx.Connect(ctx, b.databaseURL)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer func() { err = errors.Join(err, owner.Close(context.WithoutCancel(ctx))) }()
	drop := fmt.Sprintf(`set client_min_messages = warning; drop schema if exists %s, %s cascade; drop role if exists %s`, schema, serviceSchema, tenantRole)
	if _, err := owner.Exec(ctx, drop+"; create role "+tenantRole+"; grant "+tenantRole+" to current_user", pgx.QueryExecModeSimpleProtocol); err != nil {
		if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) && pg.Code == "42501" {
			fmt.Fprint(os.Stderr, " left out: DATABASE_URL may create no role")
			return nil
		}
		return err
	}
	defer func() {
		_, dropErr := owner.Exec(context.WithoutCancel(ctx), drop, pgx.QueryExecModeSimpleProtocol)
		err = errors.Join(err, dropErr)
	}()
	if err := b.tenants(ctx, owner); err != nil {
		return err
	}
	tenant, err := pgx.Connect(ctx, b.databaseURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tenant.Close(context.WithoutCancel(ctx))) }()
	if _, err := tenant.Exec(ctx, "set role "+tenantRole); err != nil {
		return err
	}
	for _, q := range tenantQueries {
		var rounds []pair
		for range b.rounds {
			b.round()
			p, err := b.tenantRound(ctx, q, tenant, owner)
			if err != nil {
				return fmt.Errorf("%s: %w", q.what, err)
			}
			rounds = append(rounds, p)
		}
		r := compare(q.what, "ms", rounds, "with WHERE", q.target)
		r.AtMost = true
		b.add(r)
	}
	return nil
}

// tenants makes a store with tenancy, and a table of a service's.
func (b *bench) tenants(ctx context.Context, owner *pgx.Conn) error {
	s, err := store.New(store.Options{
		Name: "bench", DatabaseURL: b.databaseURL, Migrate: store.MigrateAuto, Schema: schema, Tenancy: true,
		Log: zap.NewNop(), Metrics: store.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Migrate(ctx); err != nil {
		return err
	}
	number := func(n int) string { return fmt.Sprint(n) }
	data := strings.NewReplacer("{}", schema, "{service}", serviceSchema, "{role}", tenantRole, "{tenants}", number(b.organizations), "{rows}", number(b.rowsOfEach), "{members}", number(max(b.rowsOfEach/5, 2))).Replace(tenantData)
	if _, err := owner.Exec(ctx, data, pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("fill the tables: %w", err)
	}
	_, err = owner.Exec(ctx, "vacuum analyze")
	return err
}

// tenantRound is the mean milliseconds of a query, in turns of both.
func (b *bench) tenantRound(ctx context.Context, q tenantQuery, tenant, owner *pgx.Conn) (p pair, err error) {
	for i := range turnsOfARound + 1 {
		org := 1 + i*7919%b.organizations
		ours, where := []any{}, []any{fmt.Sprintf("org_%d", org)}
		if q.arg != nil {
			ours, where = append(ours, q.arg(org)), append(where, q.arg(org))
		}
		asTenant := func() (float64, int64, error) { return b.turn(ctx, tenant, org, q.ours, ours) }
		byWhere := func() (float64, int64, error) { return b.turn(ctx, owner, org, q.where, where) }
		first, second := asTenant, byWhere
		if i%2 == 0 { // who comes first reads the tenant's pages into the cache
			first, second = byWhere, asTenant
		}
		a, rows, err := first()
		if err != nil {
			return p, err
		}
		z, same, err := second()
		if err != nil {
			return p, err
		}
		if i%2 == 0 {
			a, z = z, a
		}
		if rows != same || rows == 0 {
			return p, fmt.Errorf("%d rows, and %d with WHERE", rows, same)
		}
		if i > 0 { // the first prepares
			p.ours, p.beside = p.ours+a, p.beside+z
		}
	}
	p.ours, p.beside = p.ours/turnsOfARound, p.beside/turnsOfARound
	return p, nil
}

// turn asks one query in one transaction; what says for whom isn't counted.
func (b *bench) turn(ctx context.Context, conn *pgx.Conn, org int, query string, args []any) (ms float64, rows int64, err error) {
	query = strings.NewReplacer("{}", schema, "{service}", serviceSchema).Replace(query)
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `select set_config('clerk.organization_id', $1, true)`, fmt.Sprintf("org_%d", org)); err != nil {
			return err
		}
		began := time.Now()
		for range queriesOfATurn {
			answer, err := tx.Query(ctx, query, args...) // Exec prepares nothing that has no arguments
			if err != nil {
				return err
			}
			answer.Close()
			if err := answer.Err(); err != nil {
				return err
			}
			rows = answer.CommandTag().RowsAffected()
		}
		ms = time.Since(began).Seconds() * 1000 / queriesOfATurn
		return nil
	})
	return ms, rows, err
}
