package tenant_test

import (
	"context"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rollcall-dev/rollcall/streams/tenant"
)

func ExampleTx() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("ORDERS_DATABASE_URL"))
	if err != nil {
		panic(err)
	}
	defer pool.Close()
	id := tenant.Identity{UserID: "user_2g7", OrganizationID: "org_a"} // from the session token that you have verified
	err = tenant.Tx(ctx, pool, id, func(tx pgx.Tx) error {
		var n int
		if err := tx.QueryRow(ctx, `select count(*) from orders`).Scan(&n); err != nil {
			return err
		}
		fmt.Println(n, "orders of", id.OrganizationID)
		return nil
	})
	if err != nil {
		panic(err)
	}
	// Prints: 2 orders of org_a
}
