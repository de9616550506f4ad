package remote_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"adt/provider/machinetest"
	"adt/remote"
)

// sshd is a machine with Debian's own sshd, and a dialer for it.
func sshd(t *testing.T, login crypto.Signer, o machinetest.Options) (*machinetest.Machine, *remote.Dialer) {
	t.Helper()
	return machinetest.Login(t, "ws", login, o)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ed25519Key(t *testing.T) crypto.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	return key
}

func TestSSHDKinds(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	ecdsaKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	for name, key := range map[string]crypto.Signer{"ed25519": ed25519Key(t), "rsa": rsaKey, "ecdsa": ecdsaKey} {
		t.Run(name, func(t *testing.T) {
			m, dialer := sshd(t, key, machinetest.Options{})
			conn, err := dialer.Dial(t.Context(), m.Address)
			must(t, err)
			defer conn.Close()
			out, err := conn.Run(t.Context(), "pwd; cat", []byte("of stdin\n"))
			if want := m.Home + "\nof stdin\n"; err != nil || string(out) != want {
				t.Errorf("%q, %v; want %q", out, err, want)
			}
		})
	}
}

func TestSSHDCommands(t *testing.T) {
	m, dialer := sshd(t, ed25519Key(t), machinetest.Options{SudoPassword: "open sesame"})
	conn, err := dialer.Dial(t.Context(), m.Address)
	must(t, err)
	defer conn.Close()
	const configure = "sudo -S -p '' sh application/configuration/InitialiseConfigurationByApplication.sh"
	for _, c := range []struct {
		command, stdin string
		status         int
		says           string
	}{
		{"exit 3", "", 3, ""},
		{"echo no such thing >&2; false", "", 1, "no such thing"},
		{configure, "wrong\n", 1, "incorrect password"},
		{"sudo sh -c true", "open sesame\n", 1, "a terminal is required"},
		{configure, "open sesame\n", 0, ""},
		{"[ -e runtime/INITIAL_CONFIG_SET ]", "", 0, ""},
	} {
		_, err := conn.Run(t.Context(), c.command, []byte(c.stdin))
		var exit *remote.ExitError
		switch {
		case c.status == 0 && err != nil:
			t.Errorf("%s: %v", c.command, err)
		case c.status > 0 && (!errors.As(err, &exit) || exit.Status != c.status || !strings.Contains(exit.Stderr, c.says)):
			t.Errorf("%s: %v, want status %d and %q", c.command, err, c.status, c.says)
		}
	}
	if n := m.Connections(); n != 1 {
		t.Errorf("%d connections for all of it", n)
	}
	_, err = conn.RunWithin(t.Context(), time.Second, "sleep 600", nil)
	var exit *remote.ExitError
	if !errors.Is(err, context.DeadlineExceeded) && !(errors.As(err, &exit) && exit.Status == 124) {
		t.Errorf("a command without end: %v", err)
	}
}

func TestSSHDMisbehaves(t *testing.T) {
	m, dialer := sshd(t, ed25519Key(t), machinetest.Options{})
	for _, c := range []struct {
		behaviour machinetest.Behaviour
		limit     time.Duration
		want      error // nil is a login
	}{
		{machinetest.Right, 0, nil},
		{machinetest.OtherKey, 0, remote.ErrHostKey},
		{machinetest.NoLogin, 0, remote.ErrLogin},
		{machinetest.BannerOnly, 200 * time.Millisecond, remote.ErrHandshake},
		{machinetest.Closes, 0, remote.ErrHandshake},
		{machinetest.Slow, 0, nil},
		{machinetest.Slow, 100 * time.Millisecond, remote.ErrHandshake},
		{machinetest.Right, 0, nil},
	} {
		must(t, m.SSH(c.behaviour))
		d := dialer
		if c.limit > 0 {
			d = &remote.Dialer{User: dialer.User, Port: dialer.Port, Signer: dialer.Signer, KnownHosts: dialer.KnownHosts, ConnectTimeout: c.limit}
		}
		conn, err := d.Dial(t.Context(), m.Address)
		if !errors.Is(err, c.want) {
			t.Errorf("sshd %s: %v, want %v", c.behaviour, err, c.want)
		}
		if err == nil {
			if _, err := conn.Run(t.Context(), "true", nil); err != nil {
				t.Errorf("sshd %s: %v", c.behaviour, err)
			}
			conn.Close()
		}
	}
	d := remote.Dialer{User: dialer.User, Port: dialer.Port, Signer: dialer.Signer}
	d.KnownHosts = filepath.Join(t.TempDir(), "empty")
	must(t, os.WriteFile(d.KnownHosts, nil, 0o600))
	if _, err := d.Dial(t.Context(), m.Address); !errors.Is(err, remote.ErrUnknownHost) {
		t.Errorf("without a pinned key: %v", err)
	}
}

func TestSSHDStreams(t *testing.T) {
	m, dialer := sshd(t, ed25519Key(t), machinetest.Options{})
	conn, err := dialer.Dial(t.Context(), m.Address)
	must(t, err)
	defer conn.Close()
	var stdout, stderr strings.Builder
	const size = 5 << 20 // more than Run takes
	err = conn.Stream(t.Context(), 30*time.Second, "head -c "+strconv.Itoa(size)+" /dev/zero; echo end >&2; exit 7", &stdout, &stderr)
	var exit *remote.ExitError
	if !errors.As(err, &exit) || exit.Status != 7 || stdout.Len() != size || stderr.String() != "end\n" {
		t.Errorf("%v, %d bytes, %q", err, stdout.Len(), stderr.String())
	}
	if conn.Lost() {
		t.Error("a command that fails loses the connection")
	}
	stdout.Reset()
	err = conn.Stream(t.Context(), time.Second, "echo begun; sleep 600", &stdout, &stderr)
	if !errors.Is(err, context.DeadlineExceeded) && !(errors.As(err, &exit) && exit.Status == 124) || stdout.String() != "begun\n" {
		t.Errorf("a command without end: %v, %q", err, stdout.String())
	}
}
