// Package s3test starts a real S3 server for tests: versitygw, on a loopback
// address, with a folder behind it.
package s3test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

// module is the server; `go install` builds it once for a machine.
const module = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

// The keys of every server.
const (
	AccessKey = "adt-test-access"
	SecretKey = "adt-test-secret"
)

// Domain is below which a server takes a bucket's name from the host name.
const Domain = "s3.localhost"

// Server is one that runs.
type Server struct {
	URL string // https://127.0.0.1:port
	CA  string // file with the certificate that signs it

	folder, cert, key, port, region string
	process                         *exec.Cmd
}

// Start runs a server until the test ends. Where it can not be built it says
// so and skips the test; with "s3" in $ADT_REQUIRE that fails it.
func Start(t testing.TB) *Server {
	t.Helper()
	return StartIn(t, "us-east-1")
}

// StartIn is Start for a server that takes requests signed for that region only.
func StartIn(t testing.TB, region string) *Server {
	t.Helper()
	program, err := build()
	if err != nil {
		if slices.Contains(strings.Split(os.Getenv("ADT_REQUIRE"), ","), "s3") {
			t.Fatalf("required by $ADT_REQUIRE: %v", err)
		}
		t.Skipf("LEFT OUT: no S3 server to test with: %v", err)
	}
	s := &Server{folder: t.TempDir(), region: region}
	secrets := t.TempDir()
	s.cert, s.key, s.CA = filepath.Join(secrets, "cert"), filepath.Join(secrets, "key"), filepath.Join(secrets, "cert")
	if err := certify(s.cert, s.key); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, s.port, _ = net.SplitHostPort(listener.Addr().String())
	_ = listener.Close()
	s.URL = "https://127.0.0.1:" + s.port
	t.Cleanup(s.Stop)
	if err := s.run(program); err != nil {
		t.Fatal(err)
	}
	return s
}

// Stop ends the server's process; what it stored stays for Resume.
func (s *Server) Stop() {
	if s.process != nil {
		_ = s.process.Process.Kill()
		_ = s.process.Wait()
		s.process = nil
	}
}

// Resume runs it again at the same address.
func (s *Server) Resume() error {
	program, err := build()
	if err != nil {
		return err
	}
	return s.run(program)
}

func (s *Server) run(program string) error {
	cmd := exec.Command(program, "--quiet", "--port", "127.0.0.1:"+s.port, "--region", s.region, "--access", AccessKey, "--secret", SecretKey,
		"--cert", s.cert, "--key", s.key, "--virtual-domain", Domain+":"+s.port, "--health", "/health", "--disable-acl",
		"posix", "--sidecar", filepath.Join(s.folder, "meta"), filepath.Join(s.folder, "buckets"))
	for _, dir := range []string{"meta", "buckets"} {
		if err := os.MkdirAll(filepath.Join(s.folder, dir), 0o700); err != nil {
			return err
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // also when the test is killed
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the S3 server: %w", err)
	}
	s.process = cmd
	client := &http.Client{Timeout: 5 * time.Second, Transport: s.Transport()}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if answer, err := client.Get(s.URL + "/health"); err == nil {
			_ = answer.Body.Close()
			return nil
		}
	}
	s.Stop()
	return fmt.Errorf("the S3 server does not answer: %s", out.String())
}

// Buckets makes folders that the server serves as buckets.
func (s *Server) Buckets(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.MkdirAll(filepath.Join(s.folder, "buckets", name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

// build returns the server's program, which is built once for a machine: that
// takes a minute.
func build() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	_, version, _ := strings.Cut(module, "@")
	folder := filepath.Join(cache, "adt-tests", "versitygw-"+version)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	lock := flock.New(filepath.Join(folder, "lock")) // several tests may come at once
	if err := lock.Lock(); err != nil {
		return "", err
	}
	defer lock.Close()
	program := filepath.Join(folder, "versitygw")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	install := exec.Command("go", "install", module)
	install.Env = append(os.Environ(), "GOBIN="+folder, "GOFLAGS=")
	if out, err := install.CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return "", fmt.Errorf("go install %s: %w: %s", module, err, lines[len(lines)-1])
	}
	return program, nil
}

// certify writes a certificate of the server's addresses, signed by itself.
func certify(cert, key string) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{Domain, "*." + Domain},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return err
	}
	bare, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	if err := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return err
	}
	return os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: bare}), 0o600)
}

// Transport trusts the server's certificate.
func (s *Server) Transport() *http.Transport {
	data, err := os.ReadFile(s.CA)
	if err != nil {
		panic(err) // made by Start
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(data)
	return &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
}
