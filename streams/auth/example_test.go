package auth_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/internal/emulator/token"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

// A service that takes Clerk's session token itself.
func Example() {
	key, signIn := exampleClerk() // in a service: CLERK_PUBLISHABLE_KEY says where the keys are
	verifier, err := auth.New(auth.Options{Instances: []auth.Instance{{
		PublishableKey: token.PublishableKey(host),
		JWTKey:         key,
	}}})
	if err != nil {
		panic(err)
	}
	invoices := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, _ := auth.FromContext(r.Context())
		fmt.Println("the invoices of", claims.Organization.Slug, "for", claims.UserID)
	})
	need := auth.Requirements{Permission: "org:invoices:read"}
	handler := auth.Middleware(verifier, need)(invoices)

	for _, permission := range []string{"org:invoices:read", "org:teams:read"} {
		r := httptest.NewRequest(http.MethodGet, "/invoices", nil)
		r.Header.Set("Authorization", "Bearer "+signIn(permission))
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		fmt.Println(strings.TrimSpace(fmt.Sprint(w.Code, " ", w.Body)))
	}
	// Output:
	// the invoices of acme for user_1
	// 200
	// 403 {"errors":[{"code":"permission-required","message":"the permission org:invoices:read is needed"}]}
}

// exampleClerk is a Clerk whose users have one permission each.
func exampleClerk() (publicKey string, signIn func(permission string) string) {
	keys, err := token.LoadKeys(sharedKeys(), time.Now)
	if err != nil {
		panic(err)
	}
	if publicKey, err = keys.PublicPEM(); err != nil {
		panic(err)
	}
	minter := token.Minter{Keys: keys, Issuer: token.IssuerOf(host), Clock: time.Now}
	return publicKey, func(permission string) string {
		c := session()
		c.Organization.Permissions = []string{permission}
		text, err := minter.Session(c)
		if err != nil {
			panic(err)
		}
		return text
	}
}
