package healthcheck_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	gliderlabs "github.com/gliderlabs/ssh"

	"adt/healthcheck"
	"adt/remote"
	"adt/remote/remotetest"
)

// patience bounds what a test waits for; it never decides a success.
const patience = 60 * time.Second

// webserver is a machine that passes: SSH with an online marker in its home
// directory, and HTTPS.
type webserver struct {
	*remotetest.Server
	https  *httptest.Server
	answer atomic.Pointer[http.HandlerFunc]
	asked  atomic.Int32
}

func serve(t *testing.T, options ...remotetest.Option) *webserver {
	t.Helper()
	w := &webserver{Server: remotetest.Serve(t, options...)}
	w.status(http.StatusOK)
	w.https = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.asked.Add(1)
		(*w.answer.Load())(rw, r)
	}))
	w.https.Config.ErrorLog = log.New(io.Discard, "", 0)
	w.https.StartTLS()
	t.Cleanup(w.https.Close)
	w.write(t, "runtime/AUTOSCALED_WEBSERVER_ONLINE")
	return w
}

func (w *webserver) status(code int) {
	answer := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Location", "/elsewhere")
		rw.WriteHeader(code)
	})
	w.answer.Store(&answer)
}

func (w *webserver) write(t *testing.T, name string) {
	t.Helper()
	path := filepath.Join(w.Home, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
}

func (w *webserver) target() healthcheck.Target {
	return healthcheck.Target{Name: "ws-a", Address: w.Addr}
}

func (w *webserver) prober(t *testing.T) *healthcheck.Prober {
	_, port := remotetest.Address(w.https.Listener)
	return &healthcheck.Prober{SSH: w.Dialer(t), HTTPSPort: port, Host: "www.example.com", Deadline: patience}
}

func closedPort(t *testing.T) int {
	listener := remotetest.Listen(t)
	defer listener.Close()
	_, port := remotetest.Address(listener)
	return port
}

// hanging is a port that accepts and says nothing.
func hanging(t *testing.T) int {
	listener := remotetest.Listen(t)
	remotetest.Accept(listener, func(c net.Conn) { io.Copy(io.Discard, c) })
	_, port := remotetest.Address(listener)
	return port
}

func TestProbe(t *testing.T) {
	type prober = *healthcheck.Prober
	age := func(t *testing.T, w *webserver, age time.Duration) {
		w.write(t, "runtime/BUILD_IN_PROGRESS")
		when := time.Now().Add(-age)
		if err := os.Chtimes(filepath.Join(w.Home, "runtime/BUILD_IN_PROGRESS"), when, when); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name   string
		spoil  func(t *testing.T, w *webserver, p prober)
		rung   healthcheck.Rung
		detail string
	}{
		{"healthy", func(*testing.T, *webserver, prober) {}, healthcheck.Passed, "all checks passed"},
		{"healthy, initial", func(t *testing.T, w *webserver, _ prober) {
			os.RemoveAll(filepath.Join(w.Home, "runtime"))
			w.write(t, "runtime/INITIAL_BUILD_WEBSERVER_ONLINE")
		}, healthcheck.Passed, ""},
		{"redirects are an answer and not followed", func(_ *testing.T, w *webserver, _ prober) { w.status(http.StatusFound) }, healthcheck.Passed, ""},
		{"a marker of another name", func(t *testing.T, w *webserver, p prober) {
			p.OnlineMarkers = []string{"it's on"}
			w.write(t, "it's on")
		}, healthcheck.Passed, ""},
		{"young build", func(t *testing.T, w *webserver, _ prober) { age(t, w, 20*time.Minute) }, healthcheck.Passed, ""},
		{"build made in the future", func(t *testing.T, w *webserver, _ prober) { age(t, w, -time.Hour) }, healthcheck.Passed, ""},
		{"config there", func(t *testing.T, w *webserver, p prober) {
			p.ApplicationConfig = "www/wp-config.php"
			w.write(t, "www/wp-config.php")
		}, healthcheck.Passed, ""},

		{"SSH port closed", func(t *testing.T, w *webserver, p prober) {
			p.SSH.Port = closedPort(t)
			pin(t, p, w.Addr, p.SSH.Port, w)
		}, healthcheck.RungTCP, "connection refused"},
		{"everything closed: the lowest rung is named", func(t *testing.T, w *webserver, p prober) {
			p.SSH.Port, p.HTTPSPort = closedPort(t), closedPort(t)
			pin(t, p, w.Addr, p.SSH.Port, w)
		}, healthcheck.RungTCP, "connection refused"},
		{"SSH hangs", func(t *testing.T, w *webserver, p prober) {
			p.SSH.Port, p.Deadline = hanging(t), 4*time.Second
			pin(t, p, w.Addr, p.SSH.Port, w)
		}, healthcheck.RungSSH, "no SSH handshake"},
		{"another machine", func(t *testing.T, w *webserver, p prober) {
			if err := remote.Pin(p.SSH.KnownHosts, w.Addr, w.Port, remotetest.NewKey(t).PublicKey()); err != nil {
				t.Fatal(err)
			}
		}, healthcheck.RungSSH, "host key not accepted"},
		{"login refused", func(t *testing.T, _ *webserver, p prober) { p.SSH.Signer = remotetest.NewKey(t) }, healthcheck.RungSSH, "login refused"},
		{"no marker", func(_ *testing.T, w *webserver, _ prober) { os.RemoveAll(filepath.Join(w.Home, "runtime")) }, healthcheck.RungSSH, "no online marker"},
		{"no marker and no HTTPS", func(t *testing.T, w *webserver, p prober) {
			os.RemoveAll(filepath.Join(w.Home, "runtime"))
			p.HTTPSPort = hanging(t)
		}, healthcheck.RungSSH, "no online marker"},
		{"HTTPS closed", func(t *testing.T, _ *webserver, p prober) { p.HTTPSPort = closedPort(t) }, healthcheck.RungHTTPS, "connection refused"},
		{"HTTPS hangs", func(t *testing.T, _ *webserver, p prober) {
			p.HTTPSPort, p.Deadline = hanging(t), 4*time.Second
		}, healthcheck.RungHTTPS, "deadline exceeded"},
		{"HTTPS status", func(_ *testing.T, w *webserver, _ prober) { w.status(500) }, healthcheck.RungHTTPS, "HTTPS status 500, want 200, 301, 302 or 303"},
		{"HTTPS status, one accepted", func(_ *testing.T, _ *webserver, p prober) { p.AcceptStatus = []int{204} }, healthcheck.RungHTTPS, "HTTPS status 200, want 204"},
		{"config missing", func(_ *testing.T, _ *webserver, p prober) { p.ApplicationConfig = "www/wp-config.php" }, healthcheck.RungConfig, "application config www/wp-config.php is missing"},
		{"stuck build", func(t *testing.T, w *webserver, _ prober) { age(t, w, time.Hour) }, healthcheck.RungBuild, "limit 30m0s"},

		{"no pin: nothing is learnt", func(t *testing.T, w *webserver, p prober) { unpin(t, p, w) }, healthcheck.NotProbed, "no key pinned"},
		{"no pin: HTTPS can fail it", func(t *testing.T, w *webserver, p prober) {
			unpin(t, p, w)
			w.status(500)
		}, healthcheck.RungHTTPS, "HTTPS status 500"},
		{"our known_hosts is gone", func(t *testing.T, _ *webserver, p prober) { p.SSH.KnownHosts += ".none" }, healthcheck.NotProbed, "known_hosts"},
		{"we have no login key", func(_ *testing.T, _ *webserver, p prober) { p.SSH.Signer = nil }, healthcheck.NotProbed, "no login key"},
		{"we are out of descriptors for SSH", func(_ *testing.T, _ *webserver, p prober) {
			p.SSH.DialContext = failing(syscall.EMFILE)
		}, healthcheck.NotProbed, "too many open files"},
		{"we are out of descriptors for HTTPS", func(_ *testing.T, _ *webserver, p prober) {
			p.DialContext = failing(syscall.EMFILE)
		}, healthcheck.NotProbed, "too many open files"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := serve(t)
			p := w.prober(t)
			test.spoil(t, w, p)
			got := p.Probe(t.Context(), w.target())
			if got.Rung != test.rung || !strings.Contains(got.Detail, test.detail) || strings.Contains(got.Detail, "\n") {
				t.Errorf("%v, %q; want %v, %q", got.Rung, got.Detail, test.rung, test.detail)
			}
			if got.Target != w.target() || got.Took <= 0 {
				t.Errorf("target %v took %v", got.Target, got.Took)
			}
		})
	}
}

func pin(t *testing.T, p *healthcheck.Prober, addr netip.Addr, port int, w *webserver) {
	t.Helper()
	if err := remote.Pin(p.SSH.KnownHosts, addr, port, w.HostKey); err != nil {
		t.Fatal(err)
	}
}

func unpin(t *testing.T, p *healthcheck.Prober, w *webserver) {
	t.Helper()
	if err := remote.Unpin(p.SSH.KnownHosts, w.Addr, w.Port); err != nil {
		t.Fatal(err)
	}
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

func failing(err error) dialFunc {
	return func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
}

// flaky refuses the first connections.
func flaky(refused int32) dialFunc {
	var n atomic.Int32
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if n.Add(1) <= refused {
			return failing(syscall.ECONNREFUSED)(ctx, network, addr)
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
}

func TestFlakeIsNoFailure(t *testing.T) {
	for name, spoil := range map[string]func(w *webserver, p *healthcheck.Prober){
		"SSH":   func(_ *webserver, p *healthcheck.Prober) { p.SSH.DialContext = flaky(1) },
		"HTTPS": func(_ *webserver, p *healthcheck.Prober) { p.DialContext = flaky(1) },
		"status": func(w *webserver, _ *healthcheck.Prober) {
			answer := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
				if w.asked.Load() == 1 {
					rw.WriteHeader(http.StatusBadGateway)
				}
			})
			w.answer.Store(&answer)
		},
		"frozen once": func(_ *webserver, p *healthcheck.Prober) {
			var n atomic.Int32
			p.SSH.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if n.Add(1) == 1 {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return new(net.Dialer).DialContext(ctx, network, addr)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := serve(t)
			p := w.prober(t)
			p.Deadline = 8 * time.Second // the pause is a part of it
			spoil(w, p)
			if got := p.Probe(t.Context(), w.target()); got.Rung != healthcheck.Passed {
				t.Errorf("%v: %s", got.Rung, got.Detail)
			}
		})
	}
}

func TestTwoFailuresAreEnough(t *testing.T) {
	w := serve(t)
	w.status(http.StatusBadGateway)
	p := w.prober(t)
	p.Deadline = 8 * time.Second
	p.Probe(t.Context(), w.target())
	if n := w.asked.Load(); n != 2 {
		t.Errorf("asked %d times, want 2", n)
	}
}

func TestProbeUsesOneSSHSession(t *testing.T) {
	var sessions atomic.Int32
	w := serve(t, func(s *gliderlabs.Server) {
		shell := s.Handler
		s.Handler = func(session gliderlabs.Session) {
			sessions.Add(1)
			shell(session)
		}
	})
	p := w.prober(t)
	p.ApplicationConfig = "missing"
	p.Probe(t.Context(), w.target())
	if n := sessions.Load(); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
}

func TestShellWithoutAnswer(t *testing.T) {
	w := serve(t, remotetest.WithHandler(func(s gliderlabs.Session) {
		io.WriteString(s, "This account is not available.\n")
		s.Exit(0)
	}))
	p := w.prober(t)
	p.Deadline = 8 * time.Second
	if got := p.Probe(t.Context(), w.target()); got.Rung != healthcheck.RungSSH {
		t.Errorf("%v: %s", got.Rung, got.Detail)
	}
}

func TestHeadRequest(t *testing.T) {
	w := serve(t)
	seen := make(chan *http.Request, 1)
	answer := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r })
	w.answer.Store(&answer)
	p := w.prober(t)
	p.HeadPath = "/index.html"
	if err := p.ServesHTTPS(t.Context(), w.Addr); err != nil {
		t.Fatal(err)
	}
	r := <-seen
	if r.Method != http.MethodHead || r.Host != "www.example.com" || r.URL.Path != "/index.html" || r.TLS.ServerName != "www.example.com" {
		t.Errorf("%s %s%s, SNI %s", r.Method, r.Host, r.URL, r.TLS.ServerName)
	}
}

func TestServesHTTPSAsksOnce(t *testing.T) {
	w := serve(t)
	w.status(http.StatusNotFound)
	err := w.prober(t).ServesHTTPS(t.Context(), w.Addr)
	if err == nil || !strings.Contains(err.Error(), "404") || w.asked.Load() != 1 {
		t.Errorf("%v after %d requests", err, w.asked.Load())
	}
}

// TestProbeHTTPS: a proxy is asked for nothing but HTTPS.
func TestProbeHTTPS(t *testing.T) {
	w := serve(t)
	p := w.prober(t)
	p.SSH, p.AcceptStatus = nil, []int{200, 401}
	for status, want := range map[int]healthcheck.Rung{200: healthcheck.Passed, 401: healthcheck.Passed, 502: healthcheck.RungHTTPS} {
		w.status(status)
		if r := p.ProbeHTTPS(t.Context(), []healthcheck.Target{w.target()})[0]; r.Rung != want || r.Target != w.target() {
			t.Errorf("%d: %+v, want %v", status, r, want)
		}
	}
	p.DialContext = failing(syscall.EMFILE) // a lack of ours
	if r := p.ProbeHTTPS(t.Context(), []healthcheck.Target{w.target()})[0]; r.Rung != healthcheck.NotProbed {
		t.Errorf("%+v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := p.ProbeHTTPS(ctx, []healthcheck.Target{w.target()})[0]; r.Rung != healthcheck.NotProbed {
		t.Errorf("%+v", r)
	}
}

func TestInterruptedProbeSaysNothing(t *testing.T) {
	w := serve(t)
	p := w.prober(t)
	ctx, cancel := context.WithCancel(t.Context())
	p.SSH.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if got := p.Probe(ctx, w.target()); got.Rung != healthcheck.NotProbed {
		t.Errorf("%v: %s", got.Rung, got.Detail)
	}
}

func TestAnswers(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(t *testing.T, w *webserver, p *healthcheck.Prober)
		want  bool
	}{
		{"up", func(*testing.T, *webserver, *healthcheck.Prober) {}, true},
		{"up, but not for us", func(t *testing.T, _ *webserver, p *healthcheck.Prober) { p.SSH.Signer = remotetest.NewKey(t) }, true},
		{"a flake", func(_ *testing.T, _ *webserver, p *healthcheck.Prober) { p.SSH.DialContext = flaky(1) }, true},
		{"no pin, HTTPS up", func(t *testing.T, w *webserver, p *healthcheck.Prober) { unpin(t, p, w) }, true},
		{"no known_hosts, HTTPS up", func(_ *testing.T, _ *webserver, p *healthcheck.Prober) { p.SSH.KnownHosts += ".none" }, true},
		{"no pin, HTTPS down", func(t *testing.T, w *webserver, p *healthcheck.Prober) {
			unpin(t, p, w)
			p.HTTPSPort = closedPort(t)
		}, false},
		{"we cannot tell", func(_ *testing.T, _ *webserver, p *healthcheck.Prober) { p.SSH.DialContext = failing(syscall.EMFILE) }, true},
		{"down", func(_ *testing.T, _ *webserver, p *healthcheck.Prober) {
			p.SSH.DialContext = failing(syscall.ECONNREFUSED)
		}, false},
		{"the address is another's now", func(t *testing.T, w *webserver, p *healthcheck.Prober) {
			if err := remote.Pin(p.SSH.KnownHosts, w.Addr, w.Port, remotetest.NewKey(t).PublicKey()); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := serve(t)
			p := w.prober(t)
			p.Deadline = 8 * time.Second
			test.spoil(t, w, p)
			if got := p.Answers(t.Context(), w.target()); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

// settle waits until no more goroutines run than before.
func settle(t *testing.T, before int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for tick := time.Tick(5 * time.Millisecond); runtime.NumGoroutine() > before; {
		select {
		case <-ctx.Done():
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		case <-tick:
		}
	}
}

// Many machines, some of them frozen or gone, are probed at once; each gets its
// own result and nothing is left running.
func TestProbeAll(t *testing.T) {
	const n = 40
	before := runtime.NumGoroutine()
	t.Run("fleet", func(t *testing.T) {
		w := serve(t)
		p := w.prober(t)
		p.Deadline = 6 * time.Second

		// Every target has an address of its own; all lead to one server.
		sshAddr, httpsAddr := netip.AddrPortFrom(w.Addr, uint16(w.Port)).String(), w.https.Listener.Addr().String()
		frozen, gone := netip.MustParseAddr("127.0.2.7"), netip.MustParseAddr("127.0.2.9")
		redirect := func(to string) dialFunc {
			return func(ctx context.Context, network, addr string) (net.Conn, error) {
				switch netip.MustParseAddrPort(addr).Addr() {
				case frozen:
					<-ctx.Done()
					return nil, ctx.Err()
				case gone:
					return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
				}
				return new(net.Dialer).DialContext(ctx, network, to)
			}
		}
		p.SSH.DialContext, p.DialContext = redirect(sshAddr), redirect(httpsAddr)
		targets := make([]healthcheck.Target, n)
		addr := netip.MustParseAddr("127.0.2.0")
		for i := range targets {
			targets[i] = healthcheck.Target{Name: fmt.Sprintf("ws-%d", i), Address: addr}
			pin(t, p, addr, w.Port, w)
			addr = addr.Next()
		}
		for i, result := range p.ProbeAll(t.Context(), targets) {
			want := healthcheck.Passed
			if a := targets[i].Address; a == frozen || a == gone {
				want = healthcheck.RungTCP
			}
			if result.Rung != want || result.Target != targets[i] {
				t.Errorf("%d: %v: %v, %s; want %v", i, result.Target, result.Rung, result.Detail, want)
			}
		}
		if results := p.ProbeAll(t.Context(), nil); len(results) != 0 {
			t.Errorf("nobody probed gave %v", results)
		}
	})
	settle(t, before)
}

// A hanging TLS handshake must not outlive its probe.
func TestHangingHTTPSLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("probe", func(t *testing.T) {
		p := healthcheck.Prober{SSH: &remote.Dialer{}, HTTPSPort: hanging(t), Deadline: 50 * time.Millisecond}
		if err := p.ServesHTTPS(t.Context(), netip.MustParseAddr("127.0.0.1")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want a deadline", err)
		}
	})
	settle(t, before)
}
