// Package backendapi is Clerk's Backend API over the state of an emulated
// Clerk: the operations of the specification of 2026-05-12 that read and write
// what the emulator keeps, with Clerk's parameters, paging, errors and rate
// limit. Which operations are left out, and why, is a list in spec_test.go.
//
//	request ── key, version, rate (server.go) ── routes.go ── a handler a resource
//	              query.go, body.go read parameters ──┘        └── state.Instance
//
// A handler reads all parameters before it asks what was wrong with them, so
// that an answer names every mistake. What a value must be like beyond its type
// (an e-mail address, a taken username, too large metadata) is state's to
// refuse, in Clerk's words.
//
// Lists with a filter on ids, e-mail addresses, phone numbers, usernames or
// organizations look those up; others look at everything there is, which takes
// some 20 ms with 100,000 users.
package backendapi
