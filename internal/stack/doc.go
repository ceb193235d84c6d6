// Package stack runs what `rollcall dev` embeds: a JetStream server in this
// process and a private Postgres beside it.
//
//	l, err := stack.Lock(dir)                                // one process holds dir
//	n, err := stack.StartNATS(stack.NATSOptions{Dir: dir})   // dir/nats
//	p, err := stack.StartPostgres(ctx, stack.PostgresOptions{Dir: dir}) // dir/postgres
//
// Both keep their promises through kill -9: what was acknowledged is on disk,
// and nothing that is left behind stops the next start. Lock comes first: it is
// what makes it safe to clear away what a dead process left.
package stack
