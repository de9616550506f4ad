package commands_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"adt/events"
	"adt/security/netnstest"
)

const sshdPort = 1035

// sshd starts the real one on the machine and returns how its peer logs in,
// from one of its addresses.
func (w *walled) sshd() func(from, to string) (*ssh.Client, error) {
	w.t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		w.t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		w.t.Fatal(err)
	}
	me, err := user.Current()
	if err != nil {
		w.t.Fatal(err)
	}
	w.write("sshd/key", string(pem.EncodeToMemory(block)))
	w.write("sshd/authorized", string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	w.write("sshd/config", fmt.Sprintf("Port %d\nHostKey %[2]s/key\nAuthorizedKeysFile %[2]s/authorized\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\n",
		sshdPort, filepath.Join(w.home, "sshd")))
	w.machine.Sh("mkdir -p /run/sshd")
	cmd := w.machine.Command("/usr/sbin/sshd", "-D", "-e", "-f", filepath.Join(w.home, "sshd/config"))
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	login := func(from, to string) (*ssh.Client, error) {
		conn, err := w.peer.Dial(from, to, sshdPort, netnstest.Patience)
		if err != nil {
			return nil, err
		}
		_ = conn.SetDeadline(time.Now().Add(netnstest.Patience))
		c, channels, requests, err := ssh.NewClientConn(conn, "machine", &ssh.ClientConfig{
			User: me.Username, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(signer.PublicKey()),
		})
		if err != nil {
			conn.Close()
			return nil, err
		}
		return ssh.NewClient(c, channels, requests), nil
	}
	until(w.t, "sshd does not let in", func() bool {
		c, err := login(netnstest.PeerInside4, netnstest.Inside4)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return login
}

// over runs adt on the machine over a connection, in a session of its own.
func (w *walled) over(c *ssh.Client, args string) (string, error) {
	w.t.Helper()
	s, err := c.NewSession()
	if err != nil {
		w.t.Fatal(err)
	}
	defer s.Close()
	out, err := s.CombinedOutput(fmt.Sprintf("HOME=%s TZ=UTC %s firewall %s", w.home, w.adt, args))
	return string(out), err
}

// A change over a real SSH connection: refused where it would not come in again,
// confirmed over a new one, and taken back when the connection is cut.
func TestFirewallOverSSH(t *testing.T) {
	settings := guarded + fmt.Sprintf("tool = \"nftables\"\nssh_port = %d\n", sshdPort)
	w := newWalled(t, settings+"confirm = \"1h\"\n", "nft", "sshd")
	login := w.sshd()
	dial := func(from, to string) *ssh.Client {
		t.Helper()
		c, err := login(from, to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	outside := dial(netnstest.PeerOutside6, netnstest.Outside6)
	if out, err := w.over(outside, "setup --yes"); err == nil || !strings.Contains(out, "this session comes from "+netnstest.PeerOutside6) {
		t.Errorf("%v: %s", err, out)
	}
	w.marked(false, "firewall-pending.json")

	inside := dial(netnstest.PeerInside4, netnstest.Inside4)
	if out, err := w.over(inside, "setup --yes"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.guards(true)
	// A new login, which is let in; and the old one still answers. That from outside
	// need not: the kernel follows connections only from the first rule on that asks.
	if out, err := w.over(dial(netnstest.PeerInside6, netnstest.Inside6), "confirm"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := w.over(inside, "status"); err != nil {
		t.Errorf("the old connection: %v: %s", err, out)
	}
	if out, err := w.over(inside, "reset --yes"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.guards(false)

	// Once more, and the connection is cut before anybody confirms.
	w.configure(settings + "confirm = \"3s\"\n")
	if out, err := w.over(inside, "setup --yes"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	inside.Close()
	until(t, "the change is not taken back", func() bool { return w.recorded(events.FirewallRolledBack) == 1 })
	w.guards(false)
	if _, err := os.Stat(filepath.Join(w.home, "runtime/KNICKERS_ARE_UP")); err == nil {
		t.Error("KNICKERS_ARE_UP is still there")
	}
}

// guards tries a port that the firewall does not let in from outside.
func (w *walled) guards(guarded bool) {
	w.t.Helper()
	w.peer.Reaches(!guarded, netnstest.PeerOutside4, netnstest.Outside4, 443)
	w.peer.Reaches(true, netnstest.PeerInside4, netnstest.Inside4, 443)
}
