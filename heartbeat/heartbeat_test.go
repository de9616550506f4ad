package heartbeat

import (
	"context"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAddress(t *testing.T) {
	const base = "https://ping.example.com/uuid/"
	for _, test := range []struct {
		base  string
		style Style
		want  [3]string // "" is nothing
	}{
		{"https://hc.example.com/uuid", Path, [3]string{"https://hc.example.com/uuid/start", "https://hc.example.com/uuid", "https://hc.example.com/uuid/fail"}},
		{base, Path, [3]string{base + "start", base, base + "fail"}},
		{"https://hc.example.com/key/slug?create=1", Path, [3]string{"https://hc.example.com/key/slug/start?create=1", "https://hc.example.com/key/slug?create=1", "https://hc.example.com/key/slug/fail?create=1"}},
		{"https://cronitor.example.com/p/key/job?env=x", Query, [3]string{"https://cronitor.example.com/p/key/job?env=x&state=run", "https://cronitor.example.com/p/key/job?env=x&state=complete", "https://cronitor.example.com/p/key/job?env=x&state=fail"}},
		{"https://kuma.example.com/api/push/key?status=up", Plain, [3]string{"", "https://kuma.example.com/api/push/key?status=up", ""}},
	} {
		for s, want := range test.want {
			got, ok, err := Address(test.base, test.style, Signal(s))
			if err != nil || ok != (want != "") || ok && got != want {
				t.Errorf("%s %s %d: %q, %v, %v, want %q", test.base, test.style, s, got, ok, err, want)
			}
		}
	}
	if _, _, err := Address("https://host/\x00secret", Path, Started); err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

// monitor is a real HTTPS server that remembers what it was asked for.
type monitor struct {
	*httptest.Server
	ca string

	mu    sync.Mutex
	asked []string
}

func newMonitor(t *testing.T, answer http.HandlerFunc) *monitor {
	t.Helper()
	m := &monitor{ca: filepath.Join(t.TempDir(), "ca.pem")}
	m.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		m.asked = append(m.asked, r.Method+" "+r.URL.RequestURI())
		m.mu.Unlock()
		answer(w, r)
	}))
	m.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that fail on purpose
	m.StartTLS()
	t.Cleanup(m.Close)
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.Certificate().Raw})
	if err := os.WriteFile(m.ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *monitor) got() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.asked)
}

func ok(http.ResponseWriter, *http.Request) {}

// patient is longer than any busy machine takes.
const patient = 30 * time.Second

func TestRun(t *testing.T) {
	for name, test := range map[string]struct {
		style Style
		ok    bool
		want  []string
	}{
		"succeeded":        {Path, true, []string{"GET /secret/start", "GET /secret"}},
		"failed":           {Path, false, []string{"GET /secret/start", "GET /secret/fail"}},
		"query":            {Query, true, []string{"GET /secret?state=run", "GET /secret?state=complete"}},
		"plain":            {Plain, true, []string{"GET /secret"}},
		"plain, and fails": {Plain, false, nil},
	} {
		m := newMonitor(t, ok)
		run := Monitor{URL: m.URL + "/secret", Style: test.style, Timeout: patient, CA: m.ca}.Start(t.Context())
		if err := run.End(t.Context(), test.ok); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := m.got(); !slices.Equal(got, test.want) {
			t.Errorf("%s: asked for %q, want %q", name, got, test.want)
		}
	}
}

// The command goes on while the start is told, and one that was interrupted is told
// of as well.
func TestStartIsToldBesides(t *testing.T) {
	ended := make(chan struct{})
	m := newMonitor(t, func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/start") {
			<-ended // not answered before the command has ended
		}
	})
	ctx, interrupt := context.WithCancel(t.Context())
	run := Monitor{URL: m.URL + "/secret", Style: Path, Timeout: patient, CA: m.ca}.Start(ctx)
	interrupt()
	close(ended)
	if err := run.End(ctx, false); err != nil {
		t.Error(err)
	}
	if got := m.got(); !slices.Equal(got, []string{"GET /secret/start", "GET /secret/fail"}) {
		t.Errorf("asked for %q", got)
	}
}

// Whatever is wrong with a monitor, the run ends, with an error that does not give
// the address away.
func TestFaults(t *testing.T) {
	stop := make(chan struct{})
	silent := newMonitor(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(stop) })
	broken := newMonitor(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "out of\norder", http.StatusInternalServerError)
	})
	elsewhere := newMonitor(t, ok)
	redirect := newMonitor(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) })
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "https://" + nobody.Addr().String()
	nobody.Close()
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		m    Monitor
		want string
	}{
		"silent":                {Monitor{URL: silent.URL, CA: silent.ca, Timeout: 100 * time.Millisecond}, "no answer within 100ms"},
		"broken":                {Monitor{URL: broken.URL, CA: broken.ca, Timeout: patient}, "500 Internal Server Error: out of order"},
		"redirects":             {Monitor{URL: redirect.URL, CA: redirect.ca, Timeout: patient}, "302"},
		"unknown certificate":   {Monitor{URL: broken.URL, Timeout: patient}, "certificate"},
		"nobody there":          {Monitor{URL: closed, Timeout: patient}, "connection refused"},
		"certificates missing":  {Monitor{URL: closed, CA: garbage + "x", Timeout: patient}, "no such file"},
		"certificates, garbage": {Monitor{URL: closed, CA: garbage, Timeout: patient}, "holds none"},
	} {
		test.m.URL += "/secret"
		test.m.Style = Path
		err := test.m.Start(t.Context()).End(t.Context(), true)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %q and not the address", name, err, test.want)
		}
	}
	if got := elsewhere.got(); len(got) > 0 {
		t.Errorf("a redirect was followed: %q", got)
	}
}

// A start that was lost and an end that was heard is a fault too: the monitor would
// miss the next one that fails.
func TestStartAloneFails(t *testing.T) {
	m := newMonitor(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/start") {
			w.WriteHeader(http.StatusNotFound)
		}
	})
	err := Monitor{URL: m.URL + "/secret", Style: Path, Timeout: patient, CA: m.ca}.Start(t.Context()).End(t.Context(), true)
	if err == nil || !strings.Contains(err.Error(), "404") || len(m.got()) != 2 {
		t.Errorf("%v, asked for %q", err, m.got())
	}
}

func TestAbandon(t *testing.T) {
	held := make(chan struct{})
	m := newMonitor(t, func(_ http.ResponseWriter, r *http.Request) {
		close(held)
		<-r.Context().Done() // the client has gone
	})
	run := Monitor{URL: m.URL + "/secret", Style: Path, Timeout: patient, CA: m.ca}.Start(t.Context())
	<-held
	run.Abandon()
	if err := <-run.started; err == nil {
		t.Error("it was told")
	}
}
