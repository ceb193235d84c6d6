package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	svix "github.com/svix/svix-webhooks/go"
)

// null reads the body and answers 204: the ceiling for any ingest under this
// load generator.
func null(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// direct is what most users of Clerk do: verify, then upsert the row inside
// the request.
type direct struct {
	db      *pgxpool.Pool
	webhook *svix.Webhook
}

const directTable = `set client_min_messages = warning; drop schema if exists ` + schema + ` cascade; create schema ` + schema + `;
create table ` + schema + `.direct (id text primary key, email text, name text, image_url text, public_metadata jsonb, updated_at bigint)`

const directUpsert = `insert into ` + schema + `.direct values ($1, $2, $3, $4, $5, $6)
on conflict (id) do update set email = excluded.email, name = excluded.name, image_url = excluded.image_url,
public_metadata = excluded.public_metadata, updated_at = excluded.updated_at where direct.updated_at < excluded.updated_at`

func newDirect(ctx context.Context, databaseURL string) (*direct, error) {
	webhook, err := svix.NewWebhook(secret)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.New(ctx, databaseURL)
	if err != nil {
		return nil, err
	}
	if _, err := pool.Exec(ctx, directTable, pgx.QueryExecModeSimpleProtocol); err != nil {
		pool.Close()
		return nil, fmt.Errorf("make the baseline's table: %w", err)
	}
	return &direct{pool, webhook}, nil
}

func (d *direct) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	switch {
	case err != nil:
		w.WriteHeader(http.StatusBadRequest)
	case d.webhook.Verify(body, r.Header) != nil:
		w.WriteHeader(http.StatusUnauthorized)
	case d.upsert(r.Context(), body) != nil:
		w.WriteHeader(http.StatusServiceUnavailable)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func (d *direct) upsert(ctx context.Context, body []byte) error {
	var event struct {
		Data struct {
			ID             string `json:"id"`
			FirstName      string `json:"first_name"`
			LastName       string `json:"last_name"`
			ImageURL       string `json:"image_url"`
			EmailAddresses []struct {
				EmailAddress string `json:"email_address"`
			} `json:"email_addresses"`
			PublicMetadata json.RawMessage `json:"public_metadata"`
			UpdatedAt      int64           `json:"updated_at"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &event); err != nil {
		return err
	}
	u, email := event.Data, ""
	if len(u.EmailAddresses) > 0 {
		email = u.EmailAddresses[0].EmailAddress
	}
	_, err := d.db.Exec(ctx, directUpsert, u.ID, email, u.FirstName+" "+u.LastName, u.ImageURL, u.PublicMetadata, u.UpdatedAt)
	return err
}

// The columns of the store's own table.
var upsertColumns = []struct{ name, array string }{
	{"id", "text"}, {"external_id", "text"}, {"username", "text"}, {"first_name", "text"}, {"last_name", "text"}, {"name", "text"},
	{"email", "text"}, {"email_verified", "bool"}, {"phone", "text"}, {"image_url", "text"}, {"banned", "bool"}, {"locked", "bool"},
	{"two_factor_enabled", "bool"}, {"password_enabled", "bool"}, {"last_sign_in_at", "timestamptz"}, {"last_active_at", "timestamptz"},
	{"email_addresses", "jsonb"}, {"phone_numbers", "jsonb"}, {"external_accounts", "jsonb"}, {"enterprise_accounts", "jsonb"},
	{"public_metadata", "jsonb"}, {"unsafe_metadata", "jsonb"}, {"created_at", "timestamptz"}, {"updated_at", "timestamptz"},
	{"primary_email_address_id", "text"}, {"web3_wallets", "jsonb"},
	{"has_image", "bool"}, {"deprovisioned", "bool"}, {"totp_enabled", "bool"}, {"backup_code_enabled", "bool"},
	{"delete_self_enabled", "bool"}, {"create_organization_enabled", "bool"}, {"bypass_client_trust", "bool"},
	{"mfa_enabled_at", "timestamptz"}, {"mfa_disabled_at", "timestamptz"}, {"password_last_updated_at", "timestamptz"}, {"legal_accepted_at", "timestamptz"},
	{"create_organizations_limit", "bigint"}, {"lockout_expires_in_seconds", "bigint"}, {"verification_attempts_remaining", "bigint"},
	{"locale", "text"}, {"primary_phone_number_id", "text"}, {"primary_web3_wallet_id", "text"},
	{"passkeys", "jsonb"}, {"saml_accounts", "jsonb"}, {"scim", "jsonb"},
	{"version", "bytea"}, {"instance_id", "text"}, {"source", "text"}, {"stream_seq", "bigint"},
}

// upsertSQL is what somebody would write by hand to fill the store's table from
// arrays: the same columns, the greater version wins; no tombstones.
func upsertSQL() string {
	var names, params, sets []string
	for i, c := range upsertColumns {
		names = append(names, c.name)
		params = append(params, fmt.Sprintf("$%d::%s[]", i+1, c.array))
		if c.name != "id" {
			sets = append(sets, fmt.Sprintf("%s = excluded.%[1]s", c.name))
		}
	}
	sets = append(sets, "deleted_at = null, synced_at = excluded.synced_at, stream_epoch = excluded.stream_epoch")
	list := strings.Join(names, ", ")
	return fmt.Sprintf(`insert into %[1]s.users as t (%[2]s, synced_at, stream_epoch) select %[2]s, now(), 1 from unnest(%[3]s) as r(%[2]s)
on conflict (id) do update set %[4]s where excluded.version > t.version`,
		schema, list, strings.Join(params, ", "), strings.Join(sets, ", "))
}

// userRows holds columns of n rows, ready to be bound.
type userRows []any

func newUserRows(users []int, generation int) userRows {
	n := len(users)
	text := func(of func(i int) string) []string {
		column := make([]string, n)
		for i, user := range users {
			column[i] = of(user)
		}
		return column
	}
	same := func(s string) []string { return text(func(int) string { return s }) }
	yes, no := make([]bool, n), make([]bool, n)
	at, seq, version := make([]time.Time, n), make([]int64, n), make([][]byte, n)
	for i, user := range users {
		yes[i], at[i], seq[i] = true, time.Unix(1654012591, 0), int64(user)
		version[i] = []byte(versionOf(user, generation))
	}
	noText, noFlag, noTime, noNumber := make([]*string, n), make([]*bool, n), make([]*time.Time, n), make([]*int64, n)
	emails := text(func(i int) string {
		return fmt.Sprintf(`[{"email_address":"user%d@example.org","id":"idn_29w83yL7CwVlJXylYLxcslromF1","linked_to":[],"object":"email_address","reserved":true,"verification":{"attempts":null,"expire_at":null,"status":"verified","strategy":"admin"}}]`, i)
	})
	return userRows{
		text(userID), noText, noText, text(func(i int) string { return fmt.Sprintf("First%d", i) }), same("Last"), text(func(i int) string { return fmt.Sprintf("First%d Last", i) }),
		text(func(i int) string { return fmt.Sprintf("user%d@example.org", i) }), yes, noText, same("https://img.clerk.com/xxxxxx"), noFlag, noFlag,
		no, yes, noTime, noTime,
		emails, same("[]"), same("[]"), noText,
		text(func(i int) string { return fmt.Sprintf(`{"plan":"pro","n":%d}`, i) }), same("{}"), at, at,
		same("idn_29w83yL7CwVlJXylYLxcslromF1"), same("[]"),
		noFlag, noFlag, noFlag, noFlag, noFlag, noFlag, noFlag,
		noTime, noTime, noTime, noTime,
		noNumber, noNumber, noNumber,
		noText, noText, noText, noText, noText, noText,
		version, same("ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S"), same("webhook"), seq,
	}
}

// upsertBatch is rows a statement: more gain nothing measurable.
const upsertBatch = 512

// fromMemory upserts users by hand and returns rows a second.
func fromMemory(ctx context.Context, db *pgx.Conn, users []int, generation int) (float64, error) {
	var batches []userRows
	for chunk := range slices.Chunk(users, upsertBatch) {
		batches = append(batches, newUserRows(chunk, generation))
	}
	sql := upsertSQL()
	start := time.Now()
	for _, rows := range batches {
		if _, err := db.Exec(ctx, sql, rows...); err != nil {
			return 0, fmt.Errorf("upsert by hand: %w", err)
		}
	}
	return float64(len(users)) / time.Since(start).Seconds(), nil
}
