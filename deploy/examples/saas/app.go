package main

import (
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"html/template"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rollcall-dev/rollcall/streams/auth"
	"github.com/rollcall-dev/rollcall/streams/tenant"
)

//go:embed *.html
var pages embed.FS

var templates = template.Must(template.ParseFS(pages, "*.html"))

// app has no query with an organization in it: the transaction has one.
type app struct{ db *pgxpool.Pool }

func (a *app) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /app", a.answer(home, showPage("home.html")))
	mux.HandleFunc("GET /app/settings", a.answer(settings, showPage("settings.html")))
	mux.HandleFunc("GET /api/projects", a.answer(listProjects, showJSON))
	mux.HandleFunc("POST /api/projects", a.answer(addProject, showJSON))
	mux.HandleFunc("GET /api/invoices", a.answer(listInvoices, showJSON))
	mux.HandleFunc("POST /api/invoices", a.answer(addInvoice, showJSON))
	return mux
}

type (
	// query runs in a transaction for whom the gateway says that a request is.
	query func(ctx context.Context, tx pgx.Tx, r *http.Request) (any, error)
	show  func(w http.ResponseWriter, status int, result any)
)

func (a *app) answer(ask query, show show) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, _ := auth.IdentityFromContext(r.Context()) // the middleware lets nobody else through
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		id := tenant.Identity{UserID: who.UserID, OrganizationID: who.Organization.ID, Permissions: who.Organization.Permissions}
		var result any
		err := tenant.Tx(ctx, a.db, id, func(tx pgx.Tx) (err error) {
			result, err = ask(ctx, tx, r)
			return err
		})
		if err != nil {
			refuse(w, r, err)
			return
		}
		show(w, http.StatusOK, result)
	}
}

// refuse says what the user can do about it, and the reason to the log only.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	status, says := http.StatusServiceUnavailable, "Not just now. Try again in a moment."
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && pg.Code == "42501": // a policy
		status, says = http.StatusForbidden, "Your role doesn't allow this."
	case errors.As(err, &pg) && (strings.HasPrefix(pg.Code, "22") || strings.HasPrefix(pg.Code, "23")), errors.Is(err, errBody):
		status, says = http.StatusUnprocessableEntity, "That can't be: look at what you sent."
	default:
		log.Printf("%s %s: %v", r.Method, r.URL.Path, err)
	}
	if strings.HasPrefix(r.URL.Path, "/api/") {
		showJSON(w, status, map[string]any{"errors": []map[string]string{{"message": says}}})
		return
	}
	showPage("error.html")(w, status, says)
}

func showPage(name string) show {
	return func(w http.ResponseWriter, status int, result any) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		if err := templates.ExecuteTemplate(w, name, result); err != nil {
			log.Print(err)
		}
	}
}

func showJSON(w http.ResponseWriter, status int, result any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(result) // the client is gone
}

// Project is one of the organization's.
type Project struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	By   string `json:"by"` // who made it; "somebody new" before the webhook
}

// Invoice is one of the organization's, and seen with org:invoices:read only.
type Invoice struct {
	ID      string `json:"id"`
	Project string `json:"project_id"`
	Cents   int64  `json:"cents"`
}

func listProjects(ctx context.Context, tx pgx.Tx, _ *http.Request) (any, error) {
	return list[Project](ctx, tx, `select p.id::text, p.name, coalesce(u.name, 'somebody new') as by
		from projects p left join clerk.users_live u on u.id = p.created_by order by p.name`)
}

func listInvoices(ctx context.Context, tx pgx.Tx, _ *http.Request) (any, error) {
	return list[Invoice](ctx, tx, `select id::text, project_id::text as project, cents from invoices order by id`)
}

// addProject may come before the user's webhook: ensure_user holds the place.
func addProject(ctx context.Context, tx pgx.Tx, r *http.Request) (any, error) {
	p, err := body[Project](r)
	if err != nil {
		return nil, err
	}
	err = tx.QueryRow(ctx, `with author as materialized (select clerk.ensure_user(clerk.user_id()))
		insert into projects (name) select $1 from author returning id::text`, p.Name).Scan(&p.ID)
	return p, err
}

func addInvoice(ctx context.Context, tx pgx.Tx, r *http.Request) (any, error) {
	i, err := body[Invoice](r)
	if err != nil {
		return nil, err
	}
	err = tx.QueryRow(ctx, `insert into invoices (project_id, cents) values ($1::uuid, $2) returning id::text`, i.Project, i.Cents).Scan(&i.ID)
	return i, err
}

// home is the organization at a glance: what the role lets see of it.
func home(ctx context.Context, tx pgx.Tx, r *http.Request) (any, error) {
	who, _ := auth.IdentityFromContext(ctx)
	h := struct {
		Organization, Role string
		Projects, Invoices any
	}{Role: who.Organization.Role}
	// Its webhook may be later than its first member.
	err := tx.QueryRow(ctx, `select name from clerk.organizations_live`).Scan(&h.Organization)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, err
	}
	h.Organization = cmp.Or(h.Organization, who.Organization.Slug)
	if h.Projects, err = listProjects(ctx, tx, r); err != nil {
		return nil, err
	}
	h.Invoices, err = listInvoices(ctx, tx, r)
	return h, err
}

// Member of the organization, with the connection that they sign in through.
type Member struct{ Name, Role, SSO string }

// Connection is one to the organization's identity provider.
type Connection struct {
	ID, Protocol, Provider string
	Members                int
}

// settings show who is in, and by which SSO; the gateway lets admins here only.
func settings(ctx context.Context, tx pgx.Tx, _ *http.Request) (any, error) {
	members, err := list[Member](ctx, tx, `select coalesce(u.name, u.email, m.user_id) as name, m.role,
		coalesce((select string_agg(e.provider, ', ') from clerk.user_enterprise_accounts e where e.user_id = m.user_id and e.active), '') as sso
		from clerk.organization_memberships_live m left join clerk.users_live u on u.id = m.user_id order by 1`)
	if err != nil {
		return nil, err
	}
	connections, err := list[Connection](ctx, tx, `select e.connection_id as id, e.protocol, e.provider, count(*) as members
		from clerk.organization_memberships_live m join clerk.user_enterprise_accounts e on e.user_id = m.user_id and e.active
		where e.connection_id is not null group by 1, 2, 3 order by 1`)
	return map[string]any{"Members": members, "Connections": connections}, err
}

func list[T any](ctx context.Context, tx pgx.Tx, sql string) ([]T, error) {
	rows, err := tx.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[T])
}

var errBody = errors.New("the body isn't the JSON that is expected")

func body[T any](r *http.Request) (v T, err error) {
	if json.NewDecoder(http.MaxBytesReader(nil, r.Body, 1<<16)).Decode(&v) != nil {
		return v, errBody
	}
	return v, nil
}
