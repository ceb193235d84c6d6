package ingest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// drainWait is how long answers may take once the process is stopping. It
// leaves room within the 10 seconds that a stop may take.
const drainWait = 8 * time.Second

// Serve answers on the listener until the context ends; then it stops
// accepting, and returns when what is in flight has been answered. Senders that
// are slow or silent are cut off after readTimeout.
func Serve(ctx context.Context, ln net.Listener, h http.Handler, readTimeout time.Duration, log *zap.Logger) error {
	errorLog, err := zap.NewStdLogAt(log, zap.DebugLevel) // a client's broken request is no news
	if err != nil {
		return err
	}
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: min(readTimeout, 5*time.Second),
		ReadTimeout:       readTimeout,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       90 * time.Second,
		// An id of that length stands twice in an event's headers, of which
		// JetStream takes 64 KiB.
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       errorLog,
	}
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(ln) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve webhooks: %w", err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainWait)
	defer cancel()
	err = s.Shutdown(drain)
	if errors.Is(err, context.DeadlineExceeded) {
		_ = s.Close() // whoever is still sending gets no 2xx, and sends again
		err = nil
	}
	<-failed
	return err
}
