package stacktest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/stack"
)

// RedisServer is a redis-server of a test's own, that can be stopped, killed and
// started again on the same port. It keeps nothing over a restart unless its
// arguments say so.
type RedisServer struct {
	URL  string // redis://127.0.0.1:port
	Port int
	Dir  string
	CA   string // the certificate authority's file; "" without TLS

	t    testing.TB
	args []string

	mu    sync.Mutex
	child *stack.Child
}

// Redis starts a redis-server; args are as on its command line ("--maxmemory",
// "1mb"). It is killed when the test ends.
func Redis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	s := newRedis(t)
	s.args = append([]string{"--port", strconv.Itoa(s.Port)}, args...)
	s.Start()
	return s
}

// RedisTLS starts one that takes only TLS, by a certificate for 127.0.0.1 that
// the authority in CA has signed: itself.
func RedisTLS(t testing.TB) *RedisServer {
	t.Helper()
	s := newRedis(t)
	cert, key := selfSigned(t, s.Dir)
	s.CA, s.URL = cert, fmt.Sprintf("rediss://127.0.0.1:%d", s.Port)
	s.args = []string{
		"--port", "0", "--tls-port", strconv.Itoa(s.Port), "--tls-cert-file", cert, "--tls-key-file", key,
		"--tls-ca-cert-file", cert, "--tls-auth-clients", "no",
	}
	s.Start()
	return s
}

// RedisCluster starts a cluster of three masters without replicas.
func RedisCluster(t testing.TB) []*RedisServer {
	t.Helper()
	create := []string{"--cluster", "create"}
	var nodes []*RedisServer
	for range 3 {
		bus := FreePort(t)
		n := Redis(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus), "--cluster-node-timeout", "2000")
		nodes, create = append(nodes, n), append(create, fmt.Sprintf("127.0.0.1:%d", n.Port))
	}
	if out, err := exec.Command("redis-cli", append(create, "--cluster-yes")...).CombinedOutput(); err != nil {
		t.Fatalf("redis-cli --cluster create: %v\n%s", err, out)
	}
	for _, n := range nodes {
		Eventually(t, redisReady, func() error {
			if info := n.CLI("cluster", "info"); !strings.Contains(info, "cluster_state:ok") {
				return errors.New(info)
			}
			return nil
		})
	}
	return nodes
}

const redisReady = 20 * time.Second

func newRedis(t testing.TB) *RedisServer {
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatalf("%v: run `apt-get install redis-server`", err)
	}
	s := &RedisServer{t: t, Port: FreePort(t), Dir: t.TempDir()}
	s.URL = fmt.Sprintf("redis://127.0.0.1:%d", s.Port)
	t.Cleanup(s.Kill)
	return s
}

// Start starts it again and returns when it takes connections.
func (s *RedisServer) Start() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.child != nil {
		return
	}
	log := filepath.Join(s.Dir, "log")
	cmd := exec.Command("redis-server", append([]string{"--bind", "127.0.0.1", "--dir", s.Dir, "--save", "", "--logfile", log}, s.args...)...)
	child, err := stack.StartChild(cmd, stack.Account{}, syscall.SIGKILL)
	if err != nil {
		s.t.Fatal(err)
	}
	s.child = child
	Eventually(s.t, redisReady, func() error {
		select {
		case <-child.Done():
			text, _ := os.ReadFile(log)
			s.t.Fatalf("redis-server ended at once: %v\n%s", child.Err(), text)
		default:
		}
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.Port))
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// Kill ends it at once.
func (s *RedisServer) Kill() { s.end(syscall.SIGKILL) }

// Stop ends it in good order.
func (s *RedisServer) Stop() { s.end(syscall.SIGTERM) }

func (s *RedisServer) end(sig syscall.Signal) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.child == nil {
		return
	}
	if err := s.child.Signal(sig); err != nil {
		s.t.Errorf("end redis-server: %v", err)
	}
	<-s.child.Done()
	s.child = nil
}

// Freeze stops the process without ending it, as a network that swallows
// everything looks; Thaw lets it go on.
func (s *RedisServer) Freeze() { s.signal(syscall.SIGSTOP) }

// Thaw ends a Freeze.
func (s *RedisServer) Thaw() { s.signal(syscall.SIGCONT) }

func (s *RedisServer) signal(sig syscall.Signal) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.child.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// CLI runs a command by redis-cli and returns the answer, an error's text too.
func (s *RedisServer) CLI(command ...string) string {
	s.t.Helper()
	args := []string{"-p", strconv.Itoa(s.Port)}
	if s.CA != "" {
		args = append(args, "--tls", "--cacert", s.CA)
	}
	out, err := exec.Command("redis-cli", append(args, command...)...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("redis-cli %v: %v\n%s", command, err, out)
	}
	return strings.TrimSpace(string(out))
}

// selfSigned writes a certificate for 127.0.0.1 and its key.
func selfSigned(t testing.TB, dir string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}
