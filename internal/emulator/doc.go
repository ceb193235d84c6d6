// Package emulator is a Clerk to test against: its Backend API over a state in
// memory, its webhooks, its tokens, and a control API to make it misbehave.
//
//	/v1/…                   Clerk's Backend API (package backendapi)
//	/.well-known/jwks.json  the key set: of the instance whose issuer the Host
//	                        names, else of the first
//	/instances/NAME/.well-known/jwks.json  of this instance
//	/_emu/…                 the control API (control.go lists it; so does GET /_emu)
//	/healthz                200 while it serves
//
// A change of the state, whoever makes it, emits its event to the instance's
// endpoints:
//
//	Backend API ─┐
//	traffic ─────┼▶ state ──OnEvent──▶ delivery ──▶ endpoints
//	             │    └──────────────▶ saved file, GET /_emu/state
//	control API ─┘
//
// Everything that a reset replaces is one world; the server has one at a time.
//
// The control API has no authentication. It is meant for the loopback
// interface or a test's own network, and refuses what a web page could send.
package emulator
