// Package streams is Rollcall's contract as code: what every producer and
// consumer of the log has to agree on, and nothing else.
//
//   - [Names] knows the streams, the key-value buckets and the subjects.
//   - [Event] is one message of the log; [Event.Payload] decodes its data into
//     the type that belongs to it.
//   - [Definitions] are the streams and buckets as JetStream has to hold them.
//
// A service of yours reads the log with a durable consumer of its own and this
// package; see the example. asyncapi.yaml beside this file says the same to
// programs in other languages.
//
// The package imports nats.go and the standard library only.
package streams
