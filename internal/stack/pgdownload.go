package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"time"

	embedded "github.com/fergusstrange/embedded-postgres"
	"github.com/schollz/progressbar/v3"
)

const (
	downloadVersion = embedded.V17
	downloadMajor   = 17
)

// download brings a server's programs onto a machine that has none, once, by way
// of embedded-postgres.
type download struct {
	acct       Account
	progress   io.Writer // the bar; nil: none
	repository string    // base address; "": embedded-postgres's own
	cache      string    // "": the user's
}

// binaries are the programs as downloaded earlier, or now.
func (d download) binaries(ctx context.Context) (Binaries, error) {
	cache, err := d.cacheDir()
	if err != nil {
		return Binaries{}, err
	}
	final := filepath.Join(cache, "postgres-"+string(downloadVersion))
	if b, err := binariesIn(ctx, filepath.Join(final, "bin"), d.acct); err == nil {
		return b, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil { //nolint:gosec // acct has to run what is in it
		return Binaries{}, fmt.Errorf("make the cache: %w", err)
	}
	// Unpacked elsewhere and moved: an interrupted download leaves nothing that
	// looks like a server.
	tmp, err := os.MkdirTemp(cache, "download-")
	if err != nil {
		return Binaries{}, fmt.Errorf("make the cache: %w", err)
	}
	defer os.RemoveAll(tmp)                      //nolint:errcheck // a cache
	if err := os.Chmod(tmp, 0o755); err != nil { //nolint:gosec // as above
		return Binaries{}, fmt.Errorf("make the cache: %w", err)
	}
	if err := d.unpack(ctx, tmp); err != nil {
		return Binaries{}, err
	}
	if err := errors.Join(os.RemoveAll(final), os.Rename(filepath.Join(tmp, "server"), final)); err != nil {
		return Binaries{}, fmt.Errorf("keep the download: %w", err)
	}
	return binariesIn(ctx, filepath.Join(final, "bin"), d.acct)
}

// cacheDir has to be one that acct can enter; root's own is not.
func (d download) cacheDir() (string, error) {
	if d.cache != "" {
		return d.cache, nil
	}
	if d.acct.switched {
		return "/var/cache/rollcall", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache: %w", err)
	}
	return filepath.Join(dir, "rollcall"), nil
}

// unpack downloads the programs into tmp/server.
//
// embedded-postgres can't only download: it goes on to make and start a
// database, which fails for root and is thrown away for others. What counts is
// what it has unpacked by then.
func (d download) unpack(ctx context.Context, tmp string) error {
	r := &relay{progress: d.progress}
	if err := r.start(ctx, d.repository); err != nil {
		return err
	}
	server := filepath.Join(tmp, "server")
	pg := embedded.NewDatabase(embedded.DefaultConfig().
		Version(downloadVersion).
		BinaryRepositoryURL(r.url).
		CachePath(filepath.Join(tmp, "archive")).
		RuntimePath(filepath.Join(tmp, "runtime")).
		DataPath(filepath.Join(tmp, "data")).
		BinariesPath(server).
		Port(uint32(r.freePort)). //nolint:gosec // a port
		Logger(io.Discard))
	err := pg.Start()
	if err == nil {
		err = pg.Stop()
	}
	// The library takes an archive whose checksum it could not get; we don't.
	if failed := r.stop(); failed != nil {
		return fmt.Errorf("download PostgreSQL %s: %w", downloadVersion, failed)
	}
	if _, statErr := os.Stat(filepath.Join(server, "bin", "postgres")); statErr == nil {
		return nil
	}
	return fmt.Errorf("download PostgreSQL %s: %w", downloadVersion, errors.Join(err, ctx.Err()))
}

// relay stands between embedded-postgres and the repository. The library takes
// neither a context nor a place to report progress, and hides why a request
// failed; through the relay it gets all three.
type relay struct {
	progress io.Writer
	url      string
	freePort int
	server   *http.Server
	served   chan struct{}

	mu  sync.Mutex
	err error
}

func (r *relay) start(ctx context.Context, repository string) error {
	if repository == "" {
		repository = defaultRepository()
	}
	target, err := url.Parse(repository)
	if err != nil || target.Host == "" {
		return fmt.Errorf("no repository to download from in %q", repository)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("start the download: %w", err)
	}
	spare, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(fmt.Errorf("start the download: %w", err), l.Close())
	}
	r.freePort = spare.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // TCP
	r.url = "http://" + l.Addr().String()
	r.server = &http.Server{
		ReadHeaderTimeout: time.Minute,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		Handler: &httputil.ReverseProxy{
			Rewrite:        func(p *httputil.ProxyRequest) { p.SetURL(target) },
			ModifyResponse: r.watch,
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
				r.fail(err)
				w.WriteHeader(http.StatusBadGateway)
			},
		},
	}
	r.served = make(chan struct{})
	go func() {
		defer close(r.served)
		_ = r.server.Serve(l) // ends by Close
	}()
	return spare.Close()
}

// stop ends the relay and says what went wrong on the way, if anything did.
func (r *relay) stop() error {
	_ = r.server.Close() // the listener is ours alone
	<-r.served
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *relay) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

// watch shows the progress of the archive, not of its checksum.
func (r *relay) watch(res *http.Response) error {
	if res.StatusCode != http.StatusOK {
		r.fail(fmt.Errorf("%s answered %s", res.Request.URL.Host, res.Status))
		return nil
	}
	if r.progress == nil || strings.HasSuffix(res.Request.URL.Path, ".sha256") {
		return nil
	}
	bar := progressbar.NewOptions64(res.ContentLength,
		progressbar.OptionSetWriter(r.progress),
		progressbar.OptionSetDescription("PostgreSQL "+string(downloadVersion)),
		progressbar.OptionShowBytes(true),
		progressbar.OptionSetRenderBlankState(true),
		progressbar.OptionClearOnFinish())
	body := progressbar.NewReader(res.Body, bar)
	res.Body = &body
	return nil
}

// defaultRepository is where embedded-postgres downloads from by itself. It has
// no getter, and a copy here would go stale.
func defaultRepository() string {
	f := reflect.ValueOf(embedded.DefaultConfig()).FieldByName("binaryRepositoryURL")
	if f.Kind() != reflect.String {
		return ""
	}
	return f.String()
}
