package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"adt/provider"
	"adt/provider/digitaloceantest"
	"adt/provider/local"
	"adt/provider/providertest"
)

// vendor is behind whose API the local cloud's machines stand in these tests.
// All of them hold whoever the vendor is; .ci/run runs them once for each.
var vendor = flag.String("vendor", "local", "local or digitalocean: the API that adt speaks")

// run runs the tests, all requests to a vendor's API held against its
// description.
func run(m *testing.M) int {
	switch *vendor {
	case "local", "digitalocean":
	default:
		fmt.Fprintf(os.Stderr, "-vendor %s: there are local and digitalocean\n", *vendor)
		return 2
	}
	front := httptest.NewServer(http.HandlerFunc(accounts.serve))
	defer front.Close()
	accounts.url = front.URL
	checked, stop, err := providertest.Check("digitalocean", front.URL)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(os.Stdout, "LEFT OUT: requests and answers are not held against the description of DigitalOcean: %v\n", err)
		return m.Run()
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	accounts.url = checked
	code := m.Run()
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// accounts are those of all fleets at the vendor.
var accounts directory

// directory is the one address of many accounts, which are known by their
// tokens.
type directory struct {
	url  string
	apis sync.Map // token → *httputil.ReverseProxy
	made atomic.Int64
}

func (d *directory) serve(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	api, known := d.apis.Load(token)
	if !known {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"id": "unauthorized", "message": "no such account"}`)
		return
	}
	api.(http.Handler).ServeHTTP(w, r)
}

// openAccount puts a cloud behind the API of DigitalOcean.
func (f *fleet) openAccount(cloud digitaloceantest.Backing) {
	f.t.Helper()
	token := fmt.Sprintf("dop_v1_%016d", accounts.made.Add(1))
	f.api = digitaloceantest.New(f.t, digitaloceantest.Options{Token: token, Backing: cloud})
	f.api.AddKey("AGILE_TOOLKIT_PUBLIC_KEY-shop")
	target, err := url.Parse(f.api.URL)
	f.must(err)
	accounts.apis.Store(token, &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		// A connection that was cut is cut here too, and a client that gave up is
		// nothing to tell.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:     log.New(io.Discard, "", 0),
	})
	f.vendorID = f.api.DropletID
	f.account = settings{
		"provider.servers": `"digitalocean"`, "provider.dns": `"digitalocean"`, "provider.adopt": `true`,
		"digitalocean.token": strconv.Quote(token), "digitalocean.api_url": strconv.Quote(accounts.url),
		"ssh.port": `2222`, "https.port": `8443`, "website.ttl": `"30s"`, // the vendor's least
		"reboot.command": `[]`, "cloudinit.template": `"minimal"`,
		"postmortem.files": `["logs/cloud-init-output.log", "logs/webserver-error.log"]`, // not those of this machine
	}
}

// garbled is a fleet at an API whose answers need not be the vendor's: they are
// not held against its description.
func garbled(t testing.TB, changes settings) *fleet {
	t.Helper()
	f := newFleetAt(t, "digitalocean", nil)
	f.account["digitalocean.api_url"] = strconv.Quote(f.api.URL)
	f.configure(changes)
	return f
}

// backing is the fleet's local cloud as its first autoscaler meets it: with its
// faults and outages, and with the settings of the last configure.
type backing struct{ cloud atomic.Pointer[local.Cloud] }

func (b *backing) List(ctx context.Context) ([]provider.Server, error) {
	return b.cloud.Load().List(ctx)
}

func (b *backing) Create(ctx context.Context, spec provider.Spec) (provider.Server, error) {
	return b.cloud.Load().Create(ctx, spec)
}

func (b *backing) Destroy(ctx context.Context, id string) error {
	return b.cloud.Load().Destroy(ctx, id)
}

func (b *backing) Records(ctx context.Context, name string) ([]provider.Record, error) {
	return b.cloud.Load().Records(ctx, name)
}

func (b *backing) AddRecord(ctx context.Context, name string, address netip.Addr, ttl time.Duration) error {
	return b.cloud.Load().AddRecord(ctx, name, address, ttl)
}

func (b *backing) RemoveRecord(ctx context.Context, id string) error {
	return b.cloud.Load().RemoveRecord(ctx, id)
}
