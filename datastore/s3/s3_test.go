package s3_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"adt/datastore"
	"adt/datastore/datastoretest"
	"adt/datastore/s3"
	"adt/datastore/s3test"
)

func config(server *s3test.Server) s3.Config {
	return s3.Config{Endpoint: server.URL, AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey, CA: server.CA, Timeout: 20 * time.Second}
}

func open(t *testing.T, c s3.Config) *s3.Store {
	t.Helper()
	store, err := s3.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func TestConformance(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	datastoretest.Test(t, func(t *testing.T) (datastore.Store, string, string) {
		bucket := datastoretest.Bucket(t)
		server.Buckets(t, bucket, bucket+"-other")
		return tidy{open(t, config(server))}, bucket, bucket + "-other"
	})
}

// tidy passes over what the server of the tests shows of its own for a moment, as no
// vendor does: the temporary file of an object that replaces another one.
type tidy struct{ datastore.Store }

func (s tidy) List(ctx context.Context, bucket, prefix string) ([]datastore.Object, error) {
	objects, err := s.Store.List(ctx, bucket, prefix)
	return slices.DeleteFunc(objects, func(o datastore.Object) bool { return strings.Contains(o.Key, ".sgwtmp.") }), err
}

// Vendors want the bucket in the path, or in front of the host name.
func TestStyles(t *testing.T) {
	t.Parallel()
	server := s3test.StartIn(t, "eu-central-2")
	server.Buckets(t, "bucket")
	port := server.URL[strings.LastIndexByte(server.URL, ':'):]
	for style, endpoint := range map[string]string{s3.StylePath: server.URL, s3.StyleVirtual: "https://" + s3test.Domain + port} {
		c := config(server)
		c.Endpoint, c.Style, c.Region = endpoint, style, "eu-central-2"
		var hosts []string
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			hosts = append(hosts, address)
			return new(net.Dialer).DialContext(ctx, network, "127.0.0.1"+port) // no resolver need know the name
		}
		store := open(t, c)
		if err := store.Put(t.Context(), "bucket", "key", []byte(style)); err != nil {
			t.Fatalf("%s: %v", style, err)
		}
		if got, err := store.Get(t.Context(), "bucket", "key"); err != nil || string(got) != style {
			t.Fatalf("%s: %q, %v", style, got, err)
		}
		want := map[string]string{s3.StylePath: "127.0.0.1" + port, s3.StyleVirtual: "bucket." + s3test.Domain + port}[style]
		if len(hosts) == 0 || slices.ContainsFunc(hosts, func(h string) bool { return h != want }) {
			t.Errorf("%s: asked at %v, want %s", style, hosts, want)
		}
	}
	c := config(server)
	if _, err := open(t, c).List(t.Context(), "bucket", ""); !errors.Is(err, datastore.ErrUnauthorized) {
		t.Errorf("without its region: %v", err)
	}
}

// What is wrong with the settings has a type of its own.
func TestMistakes(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	server.Buckets(t, "bucket")
	for name, test := range map[string]struct {
		change func(*s3.Config)
		bucket string
		want   error
	}{
		"bucket":     {func(*s3.Config) {}, "nowhere", datastore.ErrNoBucket},
		"access key": {func(c *s3.Config) { c.AccessKey = "else" }, "bucket", datastore.ErrUnauthorized},
		"secret key": {func(c *s3.Config) { c.SecretKey = "else" }, "bucket", datastore.ErrUnauthorized},
		"region":     {func(c *s3.Config) { c.Region = "mars-1" }, "bucket", datastore.ErrUnauthorized},
		"authority":  {func(c *s3.Config) { c.CA = "" }, "bucket", datastore.ErrTemporary},
		"endpoint":   {func(c *s3.Config) { c.Endpoint = "https://127.0.0.1:1" }, "bucket", datastore.ErrTemporary},
	} {
		c := config(server)
		test.change(&c)
		store := open(t, c)
		_, listed := store.List(t.Context(), test.bucket, "")
		_, got := store.Get(t.Context(), test.bucket, "key")
		for call, err := range map[string]error{
			"List": listed, "Get": got, "Put": store.Put(t.Context(), test.bucket, "key", nil),
			"Create": store.Create(t.Context(), test.bucket, "key", nil), "Delete": store.Delete(t.Context(), test.bucket, "key"),
		} {
			if !errors.Is(err, test.want) {
				t.Errorf("wrong %s: %s says %v, want %v", name, call, err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), s3test.SecretKey) {
				t.Errorf("wrong %s: %s tells the secret", name, call)
			}
		}
	}
	fine := open(t, config(server))
	for range 2 {
		if err := fine.MakeBucket(t.Context(), "made"); err != nil {
			t.Errorf("MakeBucket: %v", err)
		}
	}
	if err := fine.Put(t.Context(), "made", "key", nil); err != nil {
		t.Errorf("Put into the new bucket: %v", err)
	}
}

// A vendor's faults, each for every call: an error of its type, in time, and
// never a listing that lacks something.
func TestFaults(t *testing.T) {
	t.Parallel()
	xml := func(status int, code string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(status)
			fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>no</Message></Error>", code)
		}
	}
	over := make(chan struct{})
	const half = `<?xml version="1.0"?><ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated><Contents><Key>a</Key><LastModified>2026-01-01T00:00:00Z</Last`
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   error
	}{
		"slow down":      {xml(503, "SlowDown"), datastore.ErrTemporary},
		"internal":       {xml(500, "InternalError"), datastore.ErrTemporary},
		"forbidden":      {xml(403, "AccessDenied"), datastore.ErrUnauthorized},
		"skew":           {xml(403, "RequestTimeTooSkewed"), datastore.ErrClock},
		"no words":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }, datastore.ErrTemporary},
		"cut connection": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, datastore.ErrTemporary},
		"silence": {func(http.ResponseWriter, *http.Request) {
			<-over
		}, datastore.ErrTemporary},
		"half a listing": {func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || !strings.Contains(r.URL.RawQuery, "list-type") {
				w.WriteHeader(503)
				return
			}
			w.Header().Set("Content-Type", "application/xml")
			fmt.Fprint(w, half)
		}, datastore.ErrTemporary},
		"a web page": {func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || !strings.Contains(r.URL.RawQuery, "list-type") {
				w.WriteHeader(503)
				return
			}
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<html><body>Log in to the network first</body></html>")
		}, datastore.ErrTemporary},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(test.answer)
			t.Cleanup(server.Close)
			store := open(t, s3.Config{Endpoint: server.URL, AccessKey: "a", SecretKey: "s", Timeout: 2 * time.Second})
			_, listed := store.List(t.Context(), "bucket", "")
			_, got := store.Get(t.Context(), "bucket", "key")
			calls := map[string]error{
				"List": listed, "Get": got, "Put": store.Put(t.Context(), "bucket", "key", []byte("x")),
				"Create": store.Create(t.Context(), "bucket", "key", nil), "Delete": store.Delete(t.Context(), "bucket", "key"),
			}
			if name == "silence" {
				close(over)
			}
			for call, err := range calls {
				if !errors.Is(err, test.want) {
					t.Errorf("%s says %v, want %v", call, err, test.want)
				}
			}
		})
	}
}

// A vendor that ignores the condition is found out.
func TestConditional(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	server.Buckets(t, "bucket")
	honest := open(t, config(server))
	if ok, err := honest.Conditional(t.Context(), "bucket", "probe"); !ok || err != nil {
		t.Errorf("an honest vendor: %v, %v", ok, err)
	}
	if objects, err := honest.List(t.Context(), "bucket", ""); len(objects) != 0 || err != nil {
		t.Errorf("the probe left %v, %v", objects, err)
	}

	deaf := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("ETag", `"0"`) }))
	defer deaf.Close()
	store := open(t, s3.Config{Endpoint: deaf.URL, AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey, Timeout: 20 * time.Second})
	if ok, err := store.Conditional(t.Context(), "bucket", "probe"); ok || err != nil {
		t.Errorf("a vendor that ignores conditions: %v, %v", ok, err)
	}
}

// A server that is away is an error, and the store goes on when it is back.
func TestOutage(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	server.Buckets(t, "bucket")
	store := open(t, config(server))
	if err := store.Put(t.Context(), "bucket", "key", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	if _, err := store.Get(t.Context(), "bucket", "key"); !errors.Is(err, datastore.ErrTemporary) {
		t.Errorf("without a server: %v", err)
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if got, err := store.Get(t.Context(), "bucket", "key"); err != nil || string(got) != "kept" {
		t.Errorf("after the outage: %q, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := store.Now(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
