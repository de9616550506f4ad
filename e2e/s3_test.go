package e2e

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"adt/commands"
	"adt/datastore"
	"adt/datastore/s3"
	"adt/datastore/s3test"
	"adt/events"
)

// front stands before an S3 server, counts what it is asked, and may answer
// itself.
type front struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string // method and path with query
	fault    http.HandlerFunc
}

func newFront(t testing.TB, server *s3test.Server) *front {
	t.Helper()
	target, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
		},
		Transport: server.Transport(), ErrorLog: log.New(io.Discard, "", 0),
	}
	f := &front{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.requests = append(f.requests, r.Method+" "+r.URL.RequestURI())
		fault := f.fault
		f.mu.Unlock()
		if fault != nil {
			fault(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

// Fail makes all requests fail in that way; nil ends it.
func (f *front) Fail(fault http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// Asked returns the requests since it was last asked.
func (f *front) Asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked := f.requests
	f.requests = nil
	return asked
}

// onS3 is a fleet whose datastore is an S3 server behind a front.
func onS3(t testing.TB, changes settings) (*fleet, *front, settings) {
	t.Helper()
	server := s3test.Start(t)
	server.Buckets(t, "www-example-com-scaling-"+*vendor+"-lon1", "www-example-com-config-agil")
	front := newFront(t, server)
	all := settings{
		"datastore.driver": `"s3"`, "datastore.endpoints": fmt.Sprintf("[%q]", front.URL), "datastore.timeout": `"2s"`,
		"datastore.access_key": strconv.Quote(s3test.AccessKey), "datastore.secret_key": strconv.Quote(s3test.SecretKey),
	}
	for key, value := range changes {
		all[key] = value
	}
	return newFleet(t, all), front, all
}

func s3Error(status int, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>as you like it</Message></Error>", code)
	}
}

// Whatever the store's fault is: it is said once, missing webservers are built
// by the last known profile, and nobody is withdrawn or terminated.
func TestTheStoreIsSilent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault http.HandlerFunc
		told  events.Reason
	}{
		"slow down": {s3Error(503, "SlowDown"), events.StoreFailed}, "forbidden": {s3Error(403, "AccessDenied"), events.StoreRefused},
		"skew": {s3Error(403, "RequestTimeTooSkewed"), events.StoreClock}, "no bucket": {s3Error(404, "NoSuchBucket"), events.StoreNoBucket},
		"cut": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, events.StoreFailed},
		"hangs": {func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // else the server does not see that the client has gone
			<-r.Context().Done()
		}, events.StoreFailed},
		"a web page": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html>log in first</html>")
		}, events.StoreFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, front, changes := onS3(t, nil)
			f.Tick("scale", "--count", "3")
			f.Settle(3)
			m, lost, sick := f.mark(), f.Members()[0], f.Members()[1]
			front.Fail(c.fault)
			f.Break(sick.ID, "http=500")
			f.must(f.cloud.Destroy(context.Background(), f.cloudID(lost.ID)))
			var said []string
			f.Await("the lost one is replaced", func() bool {
				for _, tick := range []string{"scale", "healthcheck"} {
					if r := f.Run(tick); r.stderr != "" && strings.Contains(r.stderr, string(c.told)) {
						said = append(said, r.String())
					}
				}
				return len(f.Members()) == 3
			})
			if len(said) != 1 {
				t.Errorf("said %d times:\n%s", len(said), strings.Join(said, "\n"))
			}
			if _, there := f.Machine(sick.ID); !there || f.Said(m, events.Withdrawn) > 0 || f.Said(m, events.TerminationStart) > 0 || f.Said(m, events.StoreSilent) == 0 {
				t.Error(f.Story())
			}
			// Beyond the time that is allowed nothing is done at all.
			changes["datastore.stale_after"] = `"1ms"`
			f.configure(changes)
			built := f.count(events.BuildStarted)
			f.must(f.cloud.Destroy(context.Background(), f.cloudID(sick.ID)))
			for range 6 {
				f.Run("scale")
			}
			if f.count(events.BuildStarted) != built {
				t.Error(f.Story())
			}
			// It is back: all goes on.
			front.Fail(nil)
			f.Settle(3)
		})
	}
}

// The same with leases, which nobody else can have before they expire: what is
// missing is built, published and told the store when that is back.
func TestTheStoreIsSilentUnderALease(t *testing.T) {
	t.Parallel()
	f, front, _ := onS3(t, settings{"autoscaler.count": `3`, "datastore.lease": `"10m"`})
	f.Tick("scale", "--count", "6")
	f.Settle(2)
	m, lost := f.mark(), f.Members()[0]
	front.Fail(s3Error(503, "SlowDown"))
	f.must(f.cloud.Destroy(context.Background(), f.cloudID(lost.ID)))
	f.Await("the lost one is replaced, with the store away", func() bool {
		f.Run("scale")
		f.Run("healthcheck")
		return len(f.Members()) == 2 && len(f.State().Builds) == 0
	})
	if f.Said(m, events.BuildDone) != 1 || f.Said(m, events.LeaseLost)+f.Said(m, events.TerminationStart) > 0 {
		t.Error(f.Story())
	}
	for _, e := range f.Events(events.StoreSilent) { // not for as long as datastore.stale_after
		var left string
		if _, err := fmt.Sscanf(e.Text, "the last known profile holds for %s", &left); err != nil || duration(t, left) > 10*time.Minute {
			t.Errorf("told %q", e.Text)
		}
	}
	front.Fail(nil)
	f.Settle(2)
	store, err := s3.Open(s3.Config{Endpoint: front.URL, AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey})
	f.must(err)
	f.Await("the store knows the new one's host key", func() bool {
		f.Run("healthcheck")
		objects, err := store.List(t.Context(), "www-example-com-config-agil", "")
		f.must(err)
		keys := keysOf(objects)
		for _, m := range f.Members() {
			if !strings.Contains(keys, " hostkeys/"+m.PrivateIP.String()+" ") || !strings.Contains(keys, " beenonline/"+m.PrivateIP.String()+" ") {
				return false
			}
		}
		return true
	})
}

// A second endpoint that is away stops nothing: commands are taken, webservers are
// built, and it is said.
func TestACopyIsAway(t *testing.T) {
	t.Parallel()
	f, front, changes := onS3(t, nil)
	changes["datastore.endpoints"] = fmt.Sprintf("[%q, %q]", front.URL, "https://127.0.0.1:1")
	changes["autoscaler.count"] = `3`
	f.configure(changes)
	if r := f.Tick("scale", "--count", "6"); !strings.Contains(r.stderr, string(events.CopyBehind)) || strings.Contains(r.stdout, "NOT TOLD") {
		t.Error(r)
	}
	f.Settle(2)
	if f.count(events.StoreFailed) > 0 {
		t.Error(f.Story())
	}
	store, err := s3.Open(s3.Config{Endpoint: front.URL, AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey})
	f.must(err)
	f.Tick("scale", "--count", "3")
	objects, err := store.List(t.Context(), "www-example-com-scaling-"+*vendor+"-lon1", "autoscaler-1/STATIC_SCALE:")
	f.must(err)
	if got := keysOf(objects); got != " autoscaler-1/STATIC_SCALE:1 " {
		t.Errorf("the first one has %s", got)
	}
}

// A tick with nothing to do asks an S3 store three times at most: for profiles
// and leases together, the switch, and the mark of the installation.
func TestStoreRequests(t *testing.T) {
	t.Parallel()
	f, front, changes := onS3(t, settings{"autoscaler.count": `3`, "datastore.require_installed": `true`})
	f.Tick("scale", "--count", "6")
	if r := f.Run("scale"); r.code != 3 || len(f.Members()) != 0 {
		t.Fatalf("without INSTALLED_SUCCESSFULLY: %s", r)
	}
	store, err := s3.Open(s3.Config{Endpoint: front.URL, AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey})
	f.must(err)
	f.must(store.Put(t.Context(), "www-example-com-config-agil", "INSTALLED_SUCCESSFULLY", nil))
	f.Settle(2)
	_ = changes
	for _, tick := range []string{"scale", "healthcheck"} {
		front.Asked()
		f.Tick(tick)
		if asked := front.Asked(); len(asked) > 3 {
			t.Errorf("adt %s asked %d times: %v", tick, len(asked), asked)
		}
	}
	front.Asked()
	f.Tick("reboot-if-done")
	if asked := front.Asked(); len(asked) > 0 {
		t.Errorf("adt reboot-if-done asked %v", asked)
	}
	// A command and the switch of the shell toolkit are obeyed, the older form too,
	// and what is foreign in the buckets is left alone.
	scaling := "www-example-com-scaling-" + *vendor + "-lon1"
	for _, key := range []string{"autoscaler-1/STATIC_SCALE:1:1:1", "autoscaler-1/notes.txt", "autoscaler-1/LEASE:x", "autoscaler-77/STATIC_SCALE:5", "STATIC_SCALE:9"} {
		f.must(store.Put(t.Context(), scaling, key, []byte("half")))
	}
	f.Settle(1)
	objects, err := store.List(t.Context(), scaling, "")
	f.must(err)
	keys := keysOf(objects)
	for _, key := range []string{"autoscaler-1/STATIC_SCALE:1:1:1", "autoscaler-1/notes.txt", "autoscaler-1/LEASE:x", "autoscaler-77/STATIC_SCALE:5", "STATIC_SCALE:9"} {
		if !strings.Contains(keys, " "+key+" ") {
			t.Errorf("%s is gone: %s", key, keys)
		}
	}
	if strings.Contains(keys, " autoscaler-1/STATIC_SCALE:2 ") {
		t.Errorf("the older profile was not tidied away: %s", keys)
	}
	// The addresses of the one that is there, for the shell toolkit.
	m := f.Members()[0]
	objects, err = store.List(t.Context(), "www-example-com-config-agil", "")
	f.must(err)
	keys = keysOf(objects)
	for _, key := range []string{"webserverips/" + m.PrivateIP.String(), "webserverpublicips/" + m.PublicIP.String(), "beenonline/" + m.PrivateIP.String()} {
		if !strings.Contains(keys, " "+key+" ") {
			t.Errorf("%s is missing: %s", key, keys)
		}
	}
	// And those of this machine, if it has any but loopback.
	own, err := commands.System().Addresses()
	f.must(err)
	for _, addr := range own {
		if addr.Is4() && addr.IsPrivate() && !strings.Contains(keys, " autoscalerips/"+addr.String()+" ") {
			t.Errorf("%s is not published: %s", addr, keys)
		}
	}
	if strings.Contains(keys, "beingbuiltips/") || strings.Count(keys, " webserverips/") != 1 {
		t.Errorf("addresses of others are left: %s", keys)
	}
	f.must(store.Put(t.Context(), "www-example-com-config-agil", "SWITCH_OFF_SCALING", nil))
	f.Tick("scale", "--count", "9")
	f.Exits(3, "scale")
}

func keysOf(objects []datastore.Object) string {
	keys := " "
	for _, o := range objects {
		keys += o.Key + " "
	}
	return keys
}

// adt doctor names what is wrong with a store, and makes what is missing.
func TestDoctorOfAStore(t *testing.T) {
	t.Parallel()
	f, front, changes := onS3(t, settings{"autoscaler.count": `2`, "website.url": `"www.example.org"`})
	sees := func(args []string, lines ...string) {
		t.Helper()
		r := f.Run(append([]string{"doctor"}, args...)...)
		for _, line := range lines {
			if !strings.Contains(r.stdout, line) {
				t.Errorf("no %q in %s", line, r)
			}
		}
	}
	sees(nil, "FAIL  datastore "+front.URL, "no such bucket", "adt doctor --fix makes it")
	sees([]string{"--fix"}, "bucket www-example-org-scaling-"+*vendor+"-lon1 was made", "bucket www-example-org-config-agil was made")
	sees(nil, "the datastore honours If-None-Match", "this machine is")
	changes["datastore.secret_key"] = `"wrong"`
	f.configure(changes)
	sees(nil, "are datastore.access_key and secret_key of this endpoint")
	changes["datastore.secret_key"] = strconv.Quote(s3test.SecretKey)
	f.configure(changes)

	// A vendor that ignores the condition: no leases, and a word.
	front.Fail(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut:
			w.Header().Set("ETag", `"0"`)
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		default:
			w.Header().Set("Content-Type", "application/xml")
			_, _ = io.WriteString(w, `<?xml version="1.0"?><ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated></ListBucketResult>`)
		}
	})
	sees(nil, "FAIL  leases", "set datastore.takeover = false")
	f.Run("scale")
	if f.count(events.LeasesRefused) != 1 || f.count(events.NoProfile) > 0 && f.Run("scale").code != 0 {
		t.Error(f.Story())
	}
}
