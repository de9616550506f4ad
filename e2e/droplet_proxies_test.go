package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"adt/cloudinit"
	"adt/events"
	"adt/provider"
	"adt/provider/machinetest"
	"adt/remote"
)

// TestDropletsBehindProxies: a fleet of Debian's own sshd and nginx behind two
// reverse proxies that are such too, at a fake DigitalOcean. Visitors of the
// proxies notice nothing of webservers that come, are replaced and go.
func TestDropletsBehindProxies(t *testing.T) {
	const password = "the-password-of-the-server-user"
	cloud := machinetest.New(t, machinetest.Options{SudoPassword: password})
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	f := newFleetAt(t, "local", nil)
	f.openAccount(cloud)
	f.account["ssh.port"], f.account["https.port"] = fmt.Sprint(machinetest.SSHPort), fmt.Sprint(machinetest.HTTPSPort)
	f.configure(settings{
		"autoscaler.user": fmt.Sprintf("%q", me.Username), "ssh.sudo_password": fmt.Sprintf("%q", password),
		"ssh.connect_timeout": `"20s"`, "healthcheck.deadline": `"30s"`, "scale.budget": `"50s"`, "scale.drain": `"3s"`,
		"proxies.enabled": `true`, "proxies.count": `2`, "proxies.file": `"adt/adt-shop.conf"`,
		"proxies.test_command": `'nginx -t -q -c "$PWD/../nginx.conf"'`, "proxies.reload_command": `'kill -HUP $(cat ../nginx-master.pid)'`,
		"proxies.recheck": `"1h"`,
	})
	proxy := func(name string) *machinetest.Machine {
		t.Helper()
		key, public, err := cloudinit.NewHostKey([]byte(strings.Repeat("s", 32)), name)
		f.must(err)
		data, err := cloudinit.Render(cloudinit.Webserver{
			Hostname: name, User: me.Username, HostKeyPrivate: key,
			AuthorizedKeys: []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(f.key.PublicKey())))},
			HostKeyPublic:  strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))),
		})
		f.must(err)
		server, err := cloud.Create(t.Context(), provider.Spec{Name: name, UserData: data})
		f.must(err)
		m := cloud.Machine(server.ID)
		f.must(m.Proxy("adt-shop"))
		f.must(os.MkdirAll(f.path("runtime"), 0o700))
		f.must(remote.Pin(f.path("runtime", "known_hosts"), m.Address, machinetest.SSHPort, public))
		return m
	}
	proxies := []*machinetest.Machine{proxy("rp-lon1-shop-1-agil-aaaa"), proxy("rp-lon1-shop-1-agil-bbbb")}
	webservers := func() []string {
		return slices.DeleteFunc(cloud.Names(), func(name string) bool { return strings.HasPrefix(name, "rp-") })
	}
	// rest runs the ticks until so many webservers are where they shall be.
	rest := func(count int) {
		t.Helper()
		unrest := ""
		for range 40 {
			for _, tick := range []string{"scale", "healthcheck", "reboot-if-done"} {
				if r := f.Run(tick); r.code != 0 && r.code != 3 {
					t.Fatal(r)
				}
			}
			var want, zone []string
			for _, name := range webservers() {
				want = append(want, cloud.Machine(name).Address.String())
			}
			for _, r := range f.api.Zone(t) {
				zone = append(zone, strings.TrimPrefix(r, "A www "))
			}
			slices.Sort(want)
			slices.Sort(zone)
			both := []string{proxies[0].Address.String(), proxies[1].Address.String()}
			slices.Sort(both)
			unrest = fmt.Sprintf("webservers %v, DNS %v", want, zone)
			settled := len(want) == count && slices.Equal(zone, both)
			for _, p := range proxies {
				has := upstream(t, p)
				unrest += fmt.Sprintf(", a proxy has %v", has)
				settled = settled && slices.Equal(has, want)
			}
			if settled {
				return
			}
		}
		t.Fatalf("%s\n%s", unrest, f.Story())
	}
	f.Tick("scale", "--count", "1")
	rest(1)

	end := visit(t, proxies)
	f.Tick("scale", "--count", "3")
	rest(3)
	sick := cloud.Machine(webservers()[0])
	f.must(sick.SSH(machinetest.NoLogin)) // it serves on: for visitors nothing is wrong
	rest(3)
	if slices.Contains(webservers(), sick.Name) {
		t.Errorf("%s was not replaced\n%s", sick.Name, f.Story())
	}

	// One refuses: somebody broke its configuration.
	broken := filepath.Join(proxies[0].Home, "adt", "zz.conf")
	f.must(os.WriteFile(broken, []byte("no_such_directive on;\n"), 0o600))
	before := upstream(t, proxies[0])
	f.Tick("scale", "--count", "4")
	f.Tick("scale")
	if after := upstream(t, proxies[0]); !slices.Equal(after, before) || len(upstream(t, proxies[1])) != 4 {
		t.Errorf("the one that refuses has %v, before %v; the other has %v", after, before, upstream(t, proxies[1]))
	}
	said := f.Events(events.ProxyRefused)
	if len(said) == 0 || said[0].Server != proxies[0].Name || !strings.Contains(said[0].Text, `unknown directive "no_such_directive"`) {
		t.Errorf("what is wrong is not said: %+v", said)
	}
	if r := f.Run("doctor"); !strings.Contains(r.stdout, `unknown directive "no_such_directive"`) {
		t.Error(r)
	}
	f.must(os.Remove(broken))
	rest(4)
	f.Tick("scale", "--count", "1")
	rest(1)

	answered, failed := end()
	if len(failed) > 0 || answered == 0 {
		t.Errorf("of %d requests failed: %v\n%s", answered+len(failed), failed, f.Story())
	}
	t.Logf("%d requests were answered", answered)
}

// upstream is the webservers in a proxy's file, in their order.
func upstream(t *testing.T, p *machinetest.Machine) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.Home, "adt", "adt-shop.conf"))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for word := range strings.FieldsSeq(string(text)) {
		if at, err := netip.ParseAddrPort(strings.TrimSuffix(word, ";")); err == nil && at.Port() == machinetest.HTTPSPort {
			all = append(all, at.Addr().String())
		}
	}
	slices.Sort(all)
	return all
}

// visit asks proxies in turn, half of it by POST, which no proxy may repeat,
// until the function that it returns is called: it tells how many requests were
// answered, and what failed.
func visit(t *testing.T, proxies []*machinetest.Machine) func() (answered int, failed []error) {
	t.Helper()
	var stop atomic.Bool
	var mu sync.Mutex
	var answered int
	var failed []error
	var wg sync.WaitGroup
	until := time.Now().Add(5 * time.Minute)
	for i := range 4 {
		method := []string{http.MethodGet, http.MethodPost}[i%2]
		client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		url := "https://" + netip.AddrPortFrom(proxies[i/2%len(proxies)].Address, machinetest.HTTPSPort).String() + "/"
		wg.Go(func() {
			for !stop.Load() && time.Now().Before(until) {
				err := func() error {
					request, err := http.NewRequest(method, url, nil)
					if err != nil {
						return err
					}
					response, err := client.Do(request)
					if err != nil {
						return err
					}
					defer response.Body.Close()
					_, _ = io.Copy(io.Discard, response.Body)
					if response.StatusCode != http.StatusOK {
						return fmt.Errorf("%s %s: %s", method, url, response.Status)
					}
					return nil
				}()
				mu.Lock()
				if err == nil {
					answered++
				} else if len(failed) < 10 {
					failed = append(failed, err)
				}
				mu.Unlock()
				<-time.After(5 * time.Millisecond)
			}
		})
	}
	end := sync.OnceFunc(func() { stop.Store(true); wg.Wait() })
	t.Cleanup(end)
	return func() (int, []error) {
		end()
		return answered, failed
	}
}
