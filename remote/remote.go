// Package remote is one SSH connection to a machine, for builds and probes:
// dial with a deadline, verify the pinned host key, log in with a key, run a
// command. It must not know what machines are for: no fleets, vendors or state
// files beyond the known_hosts file it is pointed at.
package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/melbahja/goph"
	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
)

// Why a machine could not be used, to be tested with errors.Is. An end of the
// caller's context is reported as the context's own error as well.
var (
	// ErrUnreachable: no SSH session came about, for a reason of the network or
	// of the machine: refused, timed out, no route, closed, frozen.
	ErrUnreachable = errors.New("unreachable")
	// ErrHandshake is the ErrUnreachable of a machine that accepted the TCP
	// connection and then did not complete the handshake.
	ErrHandshake = fmt.Errorf("%w: no SSH handshake", ErrUnreachable)
	// ErrHostKey: the machine is not shown to be the one that was pinned.
	ErrHostKey = errors.New("host key not accepted")
	// ErrUnknownHost is the ErrHostKey of an address that has no pinned key.
	ErrUnknownHost = fmt.Errorf("%w: no key pinned", ErrHostKey)
	// ErrLogin: the machine is the pinned one and refuses our user or key.
	ErrLogin = errors.New("login refused")
	// ErrSetup: it is our own side that cannot log in to anybody: no user or key
	// is set, or the known_hosts file is missing (then it is fs.ErrNotExist
	// too), unreadable or malformed. It says nothing about the machine.
	ErrSetup = errors.New("not set up for SSH")
)

// What a zero field of Dialer stands for.
const (
	defaultPort           = 22
	defaultConnectTimeout = 10 * time.Second
	defaultCommandTimeout = 30 * time.Second
)

// Dialer says how to log in to the machines of one fleet. It is safe for
// concurrent use and must not be copied after the first Dial.
type Dialer struct {
	User       string
	Port       int        // 22 when 0
	Signer     ssh.Signer // the login key, see LoadKey
	KnownHosts string     // path of the file with the pinned host keys, see Pin
	// SharedHostKey is the host key of every machine that has no pinned one. It
	// is for fleets whose machines have been given one key for all; nil is none.
	SharedHostKey ssh.PublicKey

	// ConnectTimeout bounds TCP, handshake and login together; 10 s when 0.
	ConnectTimeout time.Duration
	// CommandTimeout bounds one Run; 30 s when 0.
	CommandTimeout time.Duration

	// DialContext opens the TCP connection; a plain net.Dialer when nil.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)

	known cache
}

// Dial connects to addr, verifies its host key against KnownHosts and logs in.
// Its errors wrap ErrUnreachable, ErrHostKey, ErrLogin or ErrSetup, or the
// context's error when the caller gave up.
func (d *Dialer) Dial(ctx context.Context, addr netip.Addr) (*Conn, error) {
	hostport := hostPort(addr, or(d.Port, defaultPort))
	client, raw, err := d.dial(ctx, hostport)
	if err != nil {
		return nil, fmt.Errorf("ssh to %s: %w", hostport, err)
	}
	return &Conn{
		client:  goph.Client{Client: client},
		raw:     raw,
		host:    hostport,
		timeout: or(d.CommandTimeout, defaultCommandTimeout),
	}, nil
}

func (d *Dialer) dial(parent context.Context, hostport string) (*ssh.Client, net.Conn, error) {
	if d.Signer == nil || d.User == "" {
		return nil, nil, fmt.Errorf("%w: no user or no login key", ErrSetup)
	}
	algorithms, verify, err := d.hostKey(hostport)
	if err != nil {
		return nil, nil, err
	}

	ctx, cancel := context.WithTimeout(parent, or(d.ConnectTimeout, defaultConnectTimeout))
	defer cancel()
	dial := d.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	raw, err := dial(ctx, "tcp", hostport)
	if err != nil {
		return nil, nil, classify(parent, ctx, ErrUnreachable, err)
	}
	// NewClientConn knows no context: ending ours closes the connection under it.
	stop := context.AfterFunc(ctx, func() { raw.Close() })

	var hostKeyErr error
	conn, channels, requests, err := ssh.NewClientConn(raw, hostport, &ssh.ClientConfig{
		User:              d.User,
		Auth:              goph.Auth{ssh.PublicKeys(d.Signer)},
		HostKeyAlgorithms: algorithms,
		HostKeyCallback: func(host string, remote net.Addr, key ssh.PublicKey) error {
			hostKeyErr = verify(host, remote, key)
			return hostKeyErr
		},
	})
	if !stop() && err == nil {
		// The watchdog fired just as the handshake ended.
		conn.Close()
		err = ctx.Err()
	}
	if err == nil {
		return ssh.NewClient(conn, channels, requests), raw, nil
	}
	raw.Close()
	return nil, nil, classify(parent, ctx, handshakeFault(ctx, hostKeyErr, err), err)
}

// hostKey says which kinds of host key to ask a machine for, and verifies what
// it shows.
func (d *Dialer) hostKey(hostport string) ([]string, ssh.HostKeyCallback, error) {
	db, err := d.known.load(d.KnownHosts)
	shared := d.SharedHostKey != nil
	if err != nil && !(shared && errors.Is(err, fs.ErrNotExist)) {
		return nil, nil, err
	}
	if err == nil {
		// Asking for the pinned kinds of key only: a machine that also has another
		// kind would else offer that one and look like an impostor.
		if algorithms := db.HostKeyAlgorithms(hostport); len(algorithms) > 0 {
			return algorithms, db.HostKeyCallback(), nil
		}
	}
	if shared {
		return algorithmsOf(d.SharedHostKey), ssh.FixedHostKey(d.SharedHostKey), nil
	}
	return nil, nil, fmt.Errorf("%w in %s", ErrUnknownHost, d.KnownHosts)
}

// algorithmsOf are the signatures that a host key can make, the best first.
func algorithmsOf(key ssh.PublicKey) []string {
	if key.Type() == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{key.Type()}
}

// handshakeFault names the kind of a failed handshake.
func handshakeFault(ctx context.Context, hostKeyErr, err error) error {
	var negotiation *ssh.AlgorithmNegotiationError
	switch {
	case hostKeyErr != nil:
		return ErrHostKey
	case ctx.Err() != nil:
		return ErrHandshake
	case errors.As(err, &negotiation) && strings.Contains(negotiation.Error(), "host key"):
		return ErrHostKey // the machine has no key of the pinned kind
	case strings.Contains(err.Error(), "unable to authenticate"):
		return ErrLogin // x/crypto has no type for it
	}
	return ErrHandshake
}

// classify wraps err as kind, unless the caller itself broke off: then nothing
// was learnt about the machine.
func classify(caller, ctx context.Context, kind, err error) error {
	if errors.Is(caller.Err(), context.Canceled) {
		return caller.Err()
	}
	if ctx.Err() != nil && !errors.Is(kind, ErrHostKey) {
		err = ctx.Err() // err is but the closed connection
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// LoadKey reads a private key without passphrase, for Dialer.Signer. A key that
// others than its owner may read is refused, as ssh does.
func LoadKey(path string) (ssh.Signer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("login key: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("login key %s: mode %04o lets others read it, want 0600", path, mode)
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("login key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(pem)
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		return nil, fmt.Errorf("login key %s: protected by a passphrase, want one without: nobody is there to type it", path)
	case err != nil:
		// The parser's words are not passed on: they may quote the file.
		return nil, fmt.Errorf("login key %s: not a private key in PEM or OpenSSH form", path)
	}
	return signer, nil
}

// cache keeps the parsed known_hosts file while it is unchanged: a probe of 500
// machines would else parse 500 lines 500 times.
type cache struct {
	mu   sync.Mutex
	info fs.FileInfo
	db   *knownhosts.HostKeyDB
}

func (c *cache) load(path string) (*knownhosts.HostKeyDB, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: known_hosts: %w", ErrSetup, err)
	}
	if c.db != nil && os.SameFile(c.info, info) && c.info.ModTime().Equal(info.ModTime()) && c.info.Size() == info.Size() {
		return c.db, nil
	}
	db, err := knownhosts.NewDB(path)
	if err != nil {
		return nil, fmt.Errorf("%w: known_hosts: %w", ErrSetup, err)
	}
	c.info, c.db = info, db
	return db, nil
}

func hostPort(addr netip.Addr, port int) string {
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)).String()
}

func or[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}
