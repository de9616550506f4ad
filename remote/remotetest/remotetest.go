// Package remotetest is a real SSH server on a loopback address, for tests. Its
// commands run on this machine, in a home directory of their own.
package remotetest

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	gliderlabs "github.com/gliderlabs/ssh"
	"golang.org/x/crypto/ssh"

	"adt/remote"
)

// Server is a running server. It ends with its test.
type Server struct {
	Addr    netip.Addr
	Port    int
	HostKey ssh.PublicKey
	Login   ssh.Signer // the one key that may log in
	Home    string     // where commands start
}

// Option changes a server before it listens.
type Option func(*gliderlabs.Server)

// WithHandler replaces the shell.
func WithHandler(h gliderlabs.Handler) Option {
	return func(s *gliderlabs.Server) { s.Handler = h }
}

// WithHostKey adds a host key to the server's own.
func WithHostKey(key ssh.Signer) Option {
	return func(s *gliderlabs.Server) { s.AddHostKey(key) }
}

// Serve starts a server on a free port of 127.0.0.1.
func Serve(t testing.TB, options ...Option) *Server {
	t.Helper()
	host := NewKey(t)
	s := &Server{HostKey: host.PublicKey(), Login: NewKey(t), Home: t.TempDir()}
	server := &gliderlabs.Server{
		Handler: s.shell,
		PublicKeyHandler: func(_ gliderlabs.Context, key gliderlabs.PublicKey) bool {
			return gliderlabs.KeysEqual(key, s.Login.PublicKey())
		},
	}
	server.AddHostKey(host)
	for _, option := range options {
		option(server)
	}
	listener := Listen(t)
	s.Addr, s.Port = Address(listener)
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
	return s
}

// Dialer is one that knows the server's host key and may log in.
func (s *Server) Dialer(t testing.TB) *remote.Dialer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "known_hosts")
	if err := remote.Pin(path, s.Addr, s.Port, s.HostKey); err != nil {
		t.Fatal(err)
	}
	return &remote.Dialer{
		User: "tester", Port: s.Port, Signer: s.Login, KnownHosts: path,
		ConnectTimeout: 30 * time.Second, CommandTimeout: 30 * time.Second,
	}
}

// shell runs the command and ends it with the connection.
func (s *Server) shell(session gliderlabs.Session) {
	cmd := exec.CommandContext(session.Context(), "/bin/sh", "-c", session.RawCommand())
	cmd.Dir = s.Home
	cmd.Stdin, cmd.Stdout, cmd.Stderr = session, session, session.Stderr()
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		session.Exit(0)
	case errors.As(err, &exit) && exit.Exited():
		session.Exit(exit.ExitCode())
	default:
		session.Exit(255)
	}
}

// NewKey makes an ed25519 key.
func NewKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// Listen listens on a free port of 127.0.0.1 until the test ends.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// Address takes a listener's address apart.
func Address(listener net.Listener) (netip.Addr, int) {
	ap := listener.Addr().(*net.TCPAddr).AddrPort()
	return ap.Addr().Unmap(), int(ap.Port())
}

// Accept hands every connection of the listener to handle, each in its own
// goroutine, and closes it afterwards.
func Accept(listener net.Listener, handle func(net.Conn)) {
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				handle(conn)
			}()
		}
	}()
}
