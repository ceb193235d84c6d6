// The SaaS example: many organizations on one database, kept apart by
// row-level security. README.md says how to run it.
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rollcall-dev/rollcall/streams/auth"
)

//go:embed schema.sql
var schema string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	database := os.Getenv("DATABASE_URL")
	if err := migrate(ctx, database); err != nil {
		return err
	}
	db, err := connect(ctx, database)
	if err != nil {
		return err
	}
	defer db.Close()
	identities, err := auth.NewIdentityVerifier(auth.IdentityOptions{
		JWKSURL: os.Getenv("ROLLCALL_GATEWAY_URL") + auth.IdentityJWKSPath, Audience: "saas",
	})
	if err != nil {
		return err
	}
	a := &app{db}
	mux := http.NewServeMux()
	mux.Handle("/", auth.IdentityMiddleware(identities)(a.routes()))
	emulatedClerk{os.Getenv("CLERK_API_URL"), os.Getenv("CLERK_SECRET_KEY")}.routes(mux)
	return serve(ctx, mux)
}

// migrate makes the application's tables, as their owner.
func migrate(ctx context.Context, database string) error {
	owner, err := pgx.Connect(ctx, database)
	if err != nil {
		return fmt.Errorf("DATABASE_URL: %w", err)
	}
	_, err = owner.Exec(ctx, schema)
	return errors.Join(err, owner.Close(ctx))
}

// connect is as the application's role, which owns nothing: policies bind it.
func connect(ctx context.Context, database string) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(database)
	if err != nil {
		return nil, err
	}
	c.ConnConfig.User, c.ConnConfig.Password = "saas_app", "saas_app"
	return pgxpool.NewWithConfig(ctx, c)
}

func serve(ctx context.Context, h http.Handler) error {
	addr := os.Getenv("SAAS_ADDR")
	if addr == "" {
		addr = "127.0.0.1:9000"
	}
	s := &http.Server{Addr: addr, Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		_ = s.Shutdown(context.WithoutCancel(ctx))
	}()
	log.Printf("listening on %s; open %s/app", addr, os.Getenv("ROLLCALL_GATEWAY_URL"))
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
