// The users service: who somebody is, from its own store, kept in Redis until
// Rollcall says that it changed. It checks the gateway's identity token, so its
// network need not be trusted.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/rollcall-dev/rollcall/deploy/examples/caching"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

func main() {
	db, err := pgxpool.New(context.Background(), os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	options, err := redis.ParseURL(os.Getenv("REDIS_URL"))
	if err != nil {
		log.Fatal(err)
	}
	options.MaxRetries, options.DialerRetries = -1, 1 // without Redis nobody waits for it
	identities, err := auth.NewIdentityVerifier(auth.IdentityOptions{JWKSURL: os.Getenv("ROLLCALL_GATEWAY_URL") + auth.IdentityJWKSPath, Audience: "users"})
	if err != nil {
		log.Fatal(err)
	}
	u := &users{db, redis.NewClient(options)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/users/me", u.me)
	server := &http.Server{Addr: os.Getenv("USERS_ADDR"), Handler: auth.IdentityMiddleware(identities)(mux), ReadHeaderTimeout: 10 * time.Second}
	if server.Addr == "" {
		server.Addr = "127.0.0.1:9001"
	}
	log.Fatal(server.ListenAndServe())
}

type users struct {
	db    *pgxpool.Pool
	redis *redis.Client
}

func (u *users) me(w http.ResponseWriter, r *http.Request) {
	who, _ := auth.IdentityFromContext(r.Context()) // the middleware lets nobody else through
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	text, err := u.cached(ctx, who.UserID)
	w.Header().Set("Content-Type", "application/json")
	switch {
	case errors.Is(err, pgx.ErrNoRows): // the webhook is under way
		text = `{"id":"` + who.UserID + `"}`
	case err != nil:
		log.Printf("%s: %v", r.URL.Path, err)
		w.WriteHeader(http.StatusServiceUnavailable)
		text = `{"errors":[{"code":"unavailable","message":"not just now; try again in a moment"}]}`
	}
	_, _ = w.Write([]byte(text)) // the client is gone
}

// cached asks Redis first, and does without where it can't be asked.
func (u *users) cached(ctx context.Context, id string) (string, error) {
	var failed error
	text, err := caching.Cached(ctx, u.redis, "user:"+id, time.Hour, func() (text string, err error) {
		text, failed = u.load(ctx, id)
		return text, failed
	})
	if err == nil || failed != nil {
		return text, err
	}
	return u.load(ctx, id)
}

func (u *users) load(ctx context.Context, id string) (string, error) {
	var user struct {
		ID    string  `json:"id"`
		Name  *string `json:"name"`
		Email *string `json:"email"`
	}
	err := u.db.QueryRow(ctx, `select id, name, email from users_clerk.users_live where id = $1`, id).Scan(&user.ID, &user.Name, &user.Email)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(user)
	return string(text), err
}
