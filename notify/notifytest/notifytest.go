// Package notifytest is the other side of package notify for tests: a real SMTP
// server with TLS and passwords, and a webhook's, both on loopback, that can be
// broken and stopped. It must not know what is told.
package notifytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// The account at every server.
const (
	User     = "adt-user"
	Password = "correct horse"
)

// Authority signs the certificates of the servers.
type Authority struct {
	PEM   []byte
	Pool  *x509.CertPool
	Chain tls.Certificate // for Address
	// Address is a loopback address of its own, on which its servers listen: one that
	// is stopped finds its port free when it is started again.
	Address string
}

// NewAuthority makes one.
func NewAuthority() (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ip := net.IPv4(127, 200, 1+byte(mathrand.IntN(250)), 1+byte(mathrand.IntN(250)))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "notifytest"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{ip},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	a := &Authority{PEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), Pool: x509.NewCertPool(), Address: ip.String(),
		Chain: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}
	a.Pool.AppendCertsFromPEM(a.PEM)
	return a, nil
}

// Write puts the authority's certificate into a folder and returns its path.
func (a *Authority) Write(folder string) (string, error) {
	path := filepath.Join(folder, "authority.pem")
	return path, os.WriteFile(path, a.PEM, 0o600)
}

// Mail is one that the server took.
type Mail struct {
	From, To string
	ID       string // Message-ID
	Subject  string
	Text     string // decoded
	Header   mail.Header
}

// Server is an SMTP server.
type Server struct {
	security  string
	authority *Authority
	address   string

	mu     sync.Mutex
	mails  []Mail
	refuse map[string]*smtp.SMTPError
	after  func(Mail) error
	server *smtp.Server
	listen net.Listener
}

// NewServer starts a server on a free port of the authority's address. security is starttls,
// tls or none, as in adt.toml.
func NewServer(a *Authority, security string) (*Server, error) {
	s := &Server{security: security, authority: a, refuse: map[string]*smtp.SMTPError{}}
	return s, s.Start()
}

// Port is where it listens, also while it is stopped.
func (s *Server) Port() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	address, _ := net.ResolveTCPAddr("tcp", s.address)
	return address.Port
}

// Start begins to listen, where it did before.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	address := s.address
	if address == "" {
		address = s.authority.Address + ":0"
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	s.address = listener.Addr().String()
	settings := &tls.Config{Certificates: []tls.Certificate{s.authority.Chain}, MinVersion: tls.VersionTLS12}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{server: s}, nil }))
	server.Domain = "localhost"
	server.ErrorLog = log.New(io.Discard, "", 0)
	server.ReadTimeout, server.WriteTimeout = time.Minute, time.Minute
	switch s.security {
	case "starttls":
		server.TLSConfig = settings
	case "tls":
		listener = tls.NewListener(listener, settings)
	case "none":
		server.AllowInsecureAuth = true
	}
	s.server, s.listen = server, listener
	go func() { _ = server.Serve(listener) }()
	return nil
}

// Stop ends it as a crash would: nobody listens any more.
func (s *Server) Stop() {
	s.mu.Lock()
	server, listener := s.server, s.listen
	s.server = nil
	s.mu.Unlock()
	if server != nil {
		_ = listener.Close() // it may not serve yet
		_ = server.Close()
	}
}

// Mails are those that were taken, in their order.
func (s *Server) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mails)
}

// Refuse answers mail for an address with that code and text; code 0 takes it
// again.
func (s *Server) Refuse(to string, code int, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.refuse, to)
	if code != 0 {
		s.refuse[to] = &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 1, 1}, Message: text}
	}
}

// After is called with each mail when it was taken, before the client is told.
func (s *Server) After(do func(Mail) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.after = do
}

type session struct {
	server   *Server
	known    bool
	from, to string
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != User || password != Password {
			return errors.New("wrong user or password " + password) // as careless as some are
		}
		s.known = true
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if !s.known {
		return smtp.ErrAuthRequired
	}
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if refused := s.server.refuse[to]; refused != nil {
		return refused
	}
	s.to = to
	return nil
}

func (s *session) Data(r io.Reader) error {
	m, err := mail.ReadMessage(r)
	if err != nil {
		return err
	}
	text, err := body(m)
	if err != nil {
		return err
	}
	taken := Mail{From: s.from, To: s.to, ID: m.Header.Get("Message-ID"), Subject: decoded(m.Header.Get("Subject")), Text: text, Header: m.Header}
	s.server.mu.Lock()
	s.server.mails = append(s.server.mails, taken)
	after := s.server.after
	s.server.mu.Unlock()
	if after != nil {
		return after(taken)
	}
	return nil
}

func (s *session) Reset()        { s.from, s.to = "", "" }
func (s *session) Logout() error { return nil }

// Silence is a server that takes connections and never says a word.
func Silence() (address string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	var mu sync.Mutex
	var held []net.Conn
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			held = append(held, conn)
			mu.Unlock()
		}
	}()
	return listener.Addr().String(), func() {
		_ = listener.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range held {
			_ = c.Close()
		}
	}, nil
}

// Hook is a webhook's server.
type Hook struct {
	URL string // with a secret path

	mu     sync.Mutex
	answer func(http.ResponseWriter, *http.Request)
	bodies [][]byte
	header []http.Header
	server *http.Server
}

// Secret is in the path of every hook.
const Secret = "T0SECRET/B0SECRET"

// NewHook starts one, with TLS.
func NewHook(a *Authority) (*Hook, error) {
	listener, err := tls.Listen("tcp", a.Address+":0", &tls.Config{Certificates: []tls.Certificate{a.Chain}, MinVersion: tls.VersionTLS12})
	if err != nil {
		return nil, err
	}
	h := &Hook{URL: "https://" + listener.Addr().String() + "/services/" + Secret}
	h.server = &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = h.server.Serve(listener) }()
	return h, nil
}

// Stop ends it.
func (h *Hook) Stop() { _ = h.server.Close() }

// Answer replaces the answer, which is 200 and counts as taken; nil is that again.
func (h *Hook) Answer(answer func(http.ResponseWriter, *http.Request)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = answer
}

// Bodies are those of the requests that were answered with 200.
func (h *Hook) Bodies() [][]byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.bodies)
}

// Headers are those of these requests.
func (h *Hook) Headers() []http.Header {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.header)
}

func (h *Hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	h.mu.Lock()
	answer := h.answer
	h.mu.Unlock()
	switch {
	case err != nil || r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, Secret):
		http.Error(w, "a POST is wanted", http.StatusBadRequest)
	case answer != nil:
		answer(w, r)
	default:
		h.mu.Lock()
		h.bodies, h.header = append(h.bodies, data), append(h.header, r.Header)
		h.mu.Unlock()
		_, _ = io.WriteString(w, "ok")
	}
}
