package proxy_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"adt/provider/machinetest"
	"adt/proxy"
	"adt/remote"
)

// patience bounds every wait; on a machine at rest all are over at once.
const patience = 60 * time.Second

// front is a real proxy on a machine with a real sshd.
type front struct {
	t       testing.TB
	machine *machinetest.Machine
	dialer  *remote.Dialer
	url     string
	start   func() // once
	proxy.Settings
}

// ports of the proxies, beside those of machinetest.
const frontPort = 8480

// software is how each kind is run here: the operator's own configuration, and
// what starts it in the foreground. %[1]s is the folder, %[2]s the address.
func software() map[proxy.Kind]struct{ program, config, start, test, reload, options string } {
	return map[proxy.Kind]struct{ program, config, start, test, reload, options string }{
		proxy.Nginx: {
			program: "nginx",
			config: `%[3]sdaemon off;
pid %[1]s/pid;
worker_processes 2;
error_log %[1]s/error.log;
events { worker_connections 256; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	include %[1]s/adt/*.conf;
	server {
		listen %[2]s;
		location / { proxy_pass https://adt-shop; }
	}
}
`,
			start: "nginx -c %[1]s/main.conf -e %[1]s/error.log", test: "nginx -t -q -c %[1]s/main.conf", reload: "kill -HUP $(cat %[1]s/pid)",
			options: "max_fails=2 fail_timeout=10s",
		},
		proxy.HAProxy: {
			program: "haproxy",
			config: `global
	maxconn 512
defaults
	mode http
	timeout connect 5s
	timeout client 30s
	timeout server 30s
frontend web
	bind %[2]s
	default_backend adt-shop
`,
			start: "haproxy -W -f %[1]s/main.conf -f %[1]s/adt -p %[1]s/pid", test: "haproxy -c -f %[1]s/main.conf -f %[1]s/adt", reload: "kill -USR2 $(cat %[1]s/pid)",
			options: "check inter 2s ssl verify none",
		},
		proxy.Apache: {
			program: "apache2",
			config: `ServerRoot %[1]s
ServerName www.example.com
PidFile %[1]s/pid
ErrorLog %[1]s/error.log
Listen %[2]s
%[4]sLoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
LoadModule proxy_balancer_module /usr/lib/apache2/modules/mod_proxy_balancer.so
LoadModule slotmem_shm_module /usr/lib/apache2/modules/mod_slotmem_shm.so
LoadModule lbmethod_byrequests_module /usr/lib/apache2/modules/mod_lbmethod_byrequests.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
IncludeOptional %[1]s/adt/*.conf
SSLProxyEngine on
SSLProxyCheckPeerName off
SSLProxyCheckPeerExpire off
ProxyPass "/" "balancer://adt-shop/"
`,
			start: "apache2 -DFOREGROUND -f %[1]s/main.conf", test: "apache2 -t -f %[1]s/main.conf", reload: "apache2 -k graceful -f %[1]s/main.conf",
			options: "retry=10 disablereuse=on",
		},
	}
}

// leftOut skips a test without the program, or fails it where that is required.
func leftOut(t testing.TB, program string) {
	t.Helper()
	if _, err := os.Stat("/usr/sbin/" + program); err == nil {
		return
	}
	text := fmt.Sprintf("LEFT OUT: a real %s: it is not installed (apt install %[1]s)", program)
	if slices.Contains(strings.Split(os.Getenv("ADT_REQUIRE"), ","), program) {
		t.Fatal(text)
	}
	fmt.Fprintln(os.Stderr, text)
	t.Skip(text)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newFront makes the machine and writes the configuration; Start starts it.
func newFront(t testing.TB, kind proxy.Kind, key ed25519.PrivateKey, cloud machinetest.Options) *front {
	t.Helper()
	w := software()[kind]
	leftOut(t, w.program)
	f := &front{t: t}
	f.machine, f.dialer = machinetest.Login(t, "rp", key, cloud)
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "adt"), 0o755))
	nginxUser, apacheUser := "", ""
	if os.Geteuid() == 0 {
		nginxUser, apacheUser = "user root;\n", "User www-data\nGroup www-data\n"
	}
	listen := netip.AddrPortFrom(f.machine.Address, frontPort).String()
	must(t, os.WriteFile(filepath.Join(dir, "main.conf"), fmt.Appendf(nil, w.config, dir, listen, nginxUser, apacheUser), 0o644))
	in := func(text string) string { return fmt.Sprintf(text, dir) }
	extension := map[bool]string{true: ".cfg", false: ".conf"}[kind == proxy.HAProxy]
	f.url = "http://" + listen
	f.Settings = proxy.Settings{
		Kind: kind, Upstream: "adt-shop", File: filepath.Join(dir, "adt", "shop"+extension), Port: machinetest.HTTPSPort, Options: w.options,
		TestCommand: in(w.test), RootCommand: "sudo -S -p ''",
		// As systemd does: what does not run is started.
		ReloadCommand: "[ ! -e " + dir + "/started ] || " + in(w.reload),
	}
	start := strings.Fields(in(w.start))
	f.start = sync.OnceFunc(func() {
		var said bytes.Buffer
		cmd := exec.Command("/usr/sbin/"+start[0], start[1:]...)
		cmd.Stdout, cmd.Stderr = &said, &said
		must(t, cmd.Start())
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		t.Cleanup(func() {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-ended:
			case <-time.After(10 * time.Second):
				_ = cmd.Process.Kill()
				<-ended
			}
			if t.Failed() {
				log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
				t.Logf("%s said: %s%s", start[0], said.String(), log)
			}
		})
		must(t, os.WriteFile(filepath.Join(dir, "started"), nil, 0o644))
		f.await("it answers", func() bool {
			select {
			case <-ended:
				t.Fatalf("%s ended: %s", start[0], said.String())
			default:
			}
			return f.ask(http.MethodGet, http.DefaultTransport) == nil
		})
	})
	return f
}

func (f *front) await(what string, so func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(patience); !so(); {
		if time.Now().After(deadline) {
			f.t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (f *front) ask(method string, through http.RoundTripper) error {
	request, err := http.NewRequest(method, f.url+"/", nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: through, Timeout: patience}).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

func (f *front) apply(c proxy.Change) proxy.Reply {
	f.t.Helper()
	conn, err := f.dialer.Dial(f.t.Context(), f.machine.Address)
	must(f.t, err)
	defer conn.Close()
	r, err := f.Apply(f.t.Context(), conn, []byte("secret\n"), c)
	must(f.t, err)
	return r
}

// slowWebserver answers after a while, and ends in the middle of what it is at.
type slowWebserver struct {
	*httptest.Server
	mu   sync.Mutex
	busy int
	last time.Time // when it had the last request, or was done with it
}

func newSlowWebserver(t testing.TB) *slowWebserver {
	t.Helper()
	w := &slowWebserver{last: time.Now()}
	note := func(n int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.busy, w.last = w.busy+n, time.Now()
	}
	w.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		note(1)
		defer note(-1)
		select {
		case <-time.After(100 * time.Millisecond):
		case <-r.Context().Done():
		}
	}))
	w.Listener.Close()
	var err error
	for i := byte(1); i < 100; i++ {
		if w.Listener, err = net.Listen("tcp", fmt.Sprintf("127.191.7.%d:%d", i, machinetest.HTTPSPort)); err == nil {
			break
		}
	}
	must(t, err)
	w.Config.ErrorLog = log.New(io.Discard, "", 0)
	w.StartTLS()
	t.Cleanup(w.end)
	return w
}

func (w *slowWebserver) end() { w.Config.Close() }

func (w *slowWebserver) address() netip.Addr {
	return w.Listener.Addr().(*net.TCPAddr).AddrPort().Addr()
}

// quiet is how long a webserver has had nothing to do when visitors, who never
// pause, are led elsewhere.
const quiet = 2 * time.Second

// drained waits until it is left alone: in a fleet the time of draining is for
// that. That a reload was asked for does not say that it is over.
func (f *front) drained(w *slowWebserver) {
	f.t.Helper()
	f.await("the webserver is left alone", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.busy == 0 && time.Since(w.last) > quiet
	})
}

// visitors ask, half of them by POST, which no proxy may repeat, until the function that is returned is called,
// which tells how many were answered and what failed. There is an end to them
// in any case.
func (f *front) visitors(n int) func() (answered int, failed []error) {
	var stop atomic.Bool
	var mu sync.Mutex
	var answered int
	var failed []error
	var wg sync.WaitGroup
	end := time.Now().Add(patience)
	for i := range n {
		method := []string{http.MethodGet, http.MethodPost}[i/2%2]
		transport := &http.Transport{DisableKeepAlives: i%2 == 0 || method == http.MethodPost, DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext}
		wg.Go(func() {
			defer transport.CloseIdleConnections()
			for range 100_000 {
				if stop.Load() || time.Now().After(end) {
					return
				}
				err := f.ask(method, transport)
				mu.Lock()
				if err == nil {
					answered++
				} else if len(failed) < 10 {
					failed = append(failed, err)
				}
				mu.Unlock()
				<-time.After(time.Millisecond) // leave the machine to others too
			}
		})
	}
	return func() (int, []error) {
		stop.Store(true)
		wg.Wait()
		return answered, failed
	}
}

// TestRealProxies: visitors of Debian's nginx, haproxy and apache notice nothing
// while webservers come, are drained and go, and a file that is refused changes
// nothing.
func TestRealProxies(t *testing.T) {
	for kind := range software() {
		t.Run(string(kind), func(t *testing.T) {
			_, key, err := ed25519.GenerateKey(rand.Reader)
			must(t, err)
			f := newFront(t, kind, key, machinetest.Options{SudoPassword: "secret"})
			slow := []*slowWebserver{newSlowWebserver(t), newSlowWebserver(t)}
			at := []netip.Addr{slow[0].address(), slow[1].address()}
			for i := range 2 {
				m, _ := machinetest.Login(t, fmt.Sprint("ws", i), key, machinetest.Options{})
				at = append(at, m.Address)
			}
			wants := func(what string, got proxy.Reply, outcome proxy.Outcome, total int) {
				t.Helper()
				if got.Outcome != outcome || got.Total != total {
					t.Fatalf("%s: %+v, want %s %d", what, got, outcome, total)
				}
			}
			wants("the first", f.apply(proxy.Change{Shard: 1, Want: at[:1]}), proxy.Updated, 1)
			f.start()
			end := f.visitors(8)

			wants("another's", f.apply(proxy.Change{Shard: 2, Want: at[3:]}), proxy.Updated, 2)
			wants("two more", f.apply(proxy.Change{Shard: 1, Want: at[:3]}), proxy.Updated, 4)
			for i, w := range slow { // drained, then ended
				wants("one less", f.apply(proxy.Change{Shard: 1, Want: at[i+1 : 3]}), proxy.Updated, 3-i)
				f.drained(w)
				w.end()
			}

			// What the server refuses: an option that nobody knows.
			before, err := os.ReadFile(f.File)
			must(t, err)
			bad := f.Settings
			bad.Options = "no-such-option=1"
			conn, err := f.dialer.Dial(t.Context(), f.machine.Address)
			must(t, err)
			defer conn.Close()
			r, err := bad.Apply(t.Context(), conn, []byte("secret\n"), proxy.Change{Shard: 1, Want: at[1:3]})
			must(t, err)
			wants("a broken file", r, proxy.Refused, 2)
			if !strings.Contains(r.Said, "no-such-option") && !strings.Contains(r.Said, "unknown Worker parameter") {
				t.Errorf("what is wrong is not said: %q", r.Said)
			}
			if after, err := os.ReadFile(f.File); err != nil || !bytes.Equal(after, before) {
				t.Errorf("the file was not taken back: %v\n%s", err, after)
			}
			if err := f.Test(t.Context(), conn, []byte("secret\n")); err != nil {
				t.Errorf("after that the test fails: %v", err)
			}
			wants("back again", f.apply(proxy.Change{Shard: 1, Want: at[2:3]}), proxy.Unchanged, 2)

			answered, failed := end()
			if len(failed) > 0 || answered == 0 {
				t.Errorf("of %d requests failed: %v", answered+len(failed), failed)
			}
			t.Logf("%d requests were answered", answered)

			// The floor holds, and an end of all is possible.
			wants("too few", f.apply(proxy.Change{Shard: 2, Floor: 2}), proxy.Floor, 2)
			wants("one's last", f.apply(proxy.Change{Shard: 2}), proxy.Updated, 1)
			wants("the last of all", f.apply(proxy.Change{Shard: 1}), proxy.Updated, 0)
		})
	}
}
