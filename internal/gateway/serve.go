package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
)

const (
	// drainWait leaves room within the 10 seconds that a stop may take.
	drainWait = 8 * time.Second
	// maxHeaders is more than any token's length, which is then refused with a reason.
	maxHeaders = 128 << 10
)

// Serve answers on the listener, HTTP/1.1 and HTTP/2 without TLS, until the
// context ends; then it stops accepting, and returns when what is in flight has
// been answered. What stays open longer, as WebSockets do, is cut off.
func Serve(ctx context.Context, ln net.Listener, h http.Handler, log *zap.Logger) error {
	errorLog, err := zap.NewStdLogAt(log, zap.DebugLevel) // a client's broken request is no news
	if err != nil {
		return err
	}
	// Hijacked connections and streams end with this.
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 90 * time.Second, MaxHeaderBytes: maxHeaders,
		ErrorLog: errorLog, Protocols: new(http.Protocols), BaseContext: func(net.Listener) context.Context { return base },
	}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(ln) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve requests: %w", err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainWait)
	defer cancel()
	err = s.Shutdown(drain)
	if errors.Is(err, context.DeadlineExceeded) {
		cut()
		_ = s.Close() // who streams connects again, elsewhere
		err = nil
	}
	<-failed
	return err
}
