package healthcheck_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"adt/cloudinit"
	"adt/healthcheck"
	"adt/provider"
	"adt/provider/machinetest"
	"adt/remote"
)

// TestRealWebserver: what a probe says of Debian's own sshd and nginx.
func TestRealWebserver(t *testing.T) {
	cloud := machinetest.New(t, machinetest.Options{})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	login, err := ssh.NewSignerFromKey(private)
	must(err)
	me, err := user.Current()
	must(err)
	key, public, err := cloudinit.NewHostKey([]byte(strings.Repeat("s", 32)), "ws")
	must(err)
	data, err := cloudinit.Render(cloudinit.Webserver{
		Hostname: "ws", User: me.Username, HostKeyPrivate: key,
		AuthorizedKeys: []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(login.PublicKey())))},
		HostKeyPublic:  strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))),
	})
	must(err)
	server, err := cloud.Create(t.Context(), provider.Spec{Name: "ws", UserData: data})
	must(err)
	m := cloud.Machine(server.ID)
	known := filepath.Join(t.TempDir(), "known_hosts")
	must(remote.Pin(known, m.Address, machinetest.SSHPort, public))
	prober := func(deadline time.Duration) *healthcheck.Prober {
		return &healthcheck.Prober{
			SSH:       &remote.Dialer{User: me.Username, Port: machinetest.SSHPort, Signer: login, KnownHosts: known, ConnectTimeout: deadline},
			HTTPSPort: machinetest.HTTPSPort, Host: "www.example.com", Deadline: deadline,
		}
	}
	marker := filepath.Join(m.Home, "runtime", "AUTOSCALED_WEBSERVER_ONLINE")
	must(os.WriteFile(marker, nil, 0o600))
	const ample, short = 30 * time.Second, 500 * time.Millisecond
	for name, c := range map[string]struct {
		status    int // of HTTPS; 200 unless said
		behaviour machinetest.Behaviour
		deadline  time.Duration
		want      healthcheck.Rung
		says      string
	}{
		"200":                 {want: healthcheck.Passed},
		"301":                 {status: 301, want: healthcheck.Passed},
		"401":                 {status: 401, want: healthcheck.RungHTTPS, says: "HTTPS status 401"},
		"404":                 {status: 404, want: healthcheck.RungHTTPS, says: "HTTPS status 404"},
		"500":                 {status: 500, want: healthcheck.RungHTTPS, says: "HTTPS status 500"},
		"a wrong certificate": {status: machinetest.WrongCertificate, want: healthcheck.Passed}, // it is asked by its address: who it is, the host key shows
		"no nginx":            {status: machinetest.Nothing, want: healthcheck.RungHTTPS, says: "connection refused"},

		"another host key":       {behaviour: machinetest.OtherKey, want: healthcheck.RungSSH},
		"no login":               {behaviour: machinetest.NoLogin, want: healthcheck.RungSSH},
		"sshd closes":            {behaviour: machinetest.Closes, want: healthcheck.RungSSH},
		"sshd hangs":             {behaviour: machinetest.BannerOnly, deadline: short, want: healthcheck.RungSSH},
		"sshd is slow, but does": {behaviour: machinetest.Slow, want: healthcheck.Passed},
	} {
		t.Run(name, func(t *testing.T) {
			if c.status == 0 && name != "no nginx" {
				c.status = 200
			}
			if c.behaviour == "" {
				c.behaviour = machinetest.Right
			}
			if c.deadline == 0 {
				c.deadline = ample
			}
			must(m.HTTPS(c.status))
			must(m.SSH(c.behaviour))
			result := prober(c.deadline).Probe(t.Context(), healthcheck.Target{Name: "ws", Address: m.Address})
			if result.Rung != c.want || !strings.Contains(result.Detail, c.says) {
				t.Errorf("%v: %s, want %v: %s", result.Rung, result.Detail, c.want, c.says)
			}
		})
	}
}
