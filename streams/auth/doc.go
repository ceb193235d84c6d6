// Package auth verifies Clerk's session tokens without asking Clerk, and the
// identity tokens with which Rollcall's gateway says who a request is from.
//
// A service that takes the session token itself has a [Verifier]:
//
//	verifier, err := auth.New(auth.Options{Instances: []auth.Instance{{PublishableKey: key}}})
//	…
//	mux.Handle("/invoices", auth.Middleware(verifier, auth.Requirements{Permission: "org:invoices:read"})(invoices))
//
// A service behind the gateway has an [IdentityVerifier], or trusts the headers
// where only the gateway reaches it.
//
// What is accepted is a session token of one of the instances, signed RS256 by a
// key of that instance, within its time: never a token of a JWT template, of a
// machine or of another class. Every refusal is an [*Error] with a code.
//
// The package imports go-jose and the standard library only.
package auth
