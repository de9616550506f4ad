package machinetest

import (
	"crypto"
	"encoding/pem"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"adt/cloudinit"
	"adt/provider"
	"adt/remote"
)

// Login makes one machine that lets in who has the key, as the user that runs the
// test, and a dialer for it with its host key pinned.
func Login(t testing.TB, name string, key crypto.Signer, o Options) (*Machine, *remote.Dialer) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	cloud := New(t, o)
	block, err := ssh.MarshalPrivateKey(key, "")
	must(err)
	path := filepath.Join(t.TempDir(), "key")
	must(os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
	signer, err := remote.LoadKey(path)
	must(err)
	me, err := user.Current()
	must(err)
	hostKey, public, err := cloudinit.NewHostKey([]byte(strings.Repeat("s", 32)), name)
	must(err)
	data, err := cloudinit.Render(cloudinit.Webserver{
		Hostname: name, User: me.Username, HostKeyPrivate: hostKey,
		AuthorizedKeys: []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))},
		HostKeyPublic:  strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))),
	})
	must(err)
	server, err := cloud.Create(t.Context(), provider.Spec{Name: name, UserData: data})
	must(err)
	m := cloud.Machine(server.ID)
	known := filepath.Join(t.TempDir(), "known_hosts")
	must(remote.Pin(known, m.Address, SSHPort, public))
	return m, &remote.Dialer{
		User: me.Username, Port: SSHPort, Signer: signer, KnownHosts: known,
		// A disk that all of a machine's tests write to may stand still for a while.
		ConnectTimeout: 2 * time.Minute, CommandTimeout: 2 * time.Minute,
	}
}
