package streams_test

import (
	"context"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rollcall-dev/rollcall/streams"
)

// exampleLog is a server with a log in which the lives of two users arrived out
// of order, and one event twice under another message id.
func exampleLog() (js jetstream.JetStream, stop func()) {
	dir, err := os.MkdirTemp("", "rollcall-example-")
	check(err)
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: dir,
	})
	check(err)
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		log.Fatal("nats-server is not ready")
	}
	nc, err := nats.Connect(s.ClientURL())
	check(err)
	js, err = jetstream.New(nc)
	check(err)
	names := streams.Names{}
	_, err = streams.Apply(context.Background(), js, names.Definitions(streams.Options{}))
	check(err)
	for _, e := range []struct{ msgID, svixID, action, user, body string }{
		{"1", "msg_2", "updated", "user_1", `{"type":"user.updated","data":{"id":"user_1","first_name":"Ada","last_name":"Lovelace","updated_at":1700000002000}}`},
		{"2", "msg_1", "created", "user_1", `{"type":"user.created","data":{"id":"user_1","first_name":"Ada","last_name":"Byron","updated_at":1700000001000}}`},
		{"3", "msg_4", "deleted", "user_2", `{"type":"user.deleted","data":{"id":"user_2","object":"user","deleted":true}}`},
		{"4", "msg_2", "updated", "user_1", `{"type":"user.updated","data":{"id":"user_1","first_name":"Ada","last_name":"Lovelace","updated_at":1700000002000}}`},
		{"5", "msg_3", "created", "user_2", `{"type":"user.created","data":{"id":"user_2","first_name":"Mary","last_name":"Shelley","updated_at":1700000003000}}`},
	} {
		m := nats.NewMsg(names.Subject(streams.Subject{InstanceID: "ins_1", Resource: "user", Action: e.action, EntityID: e.user}))
		m.Header.Set(streams.HeaderMsgID, e.msgID)
		m.Header.Set(streams.HeaderSvixID, e.svixID)
		m.Data = []byte(e.body)
		_, err := js.PublishMsg(context.Background(), m)
		check(err)
	}
	return js, func() {
		nc.Close()
		s.Shutdown()
		s.WaitForShutdown()
		check(os.RemoveAll(dir))
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
