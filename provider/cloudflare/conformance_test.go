package cloudflare_test

import (
	"io"
	"log"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"adt/provider/apitest"
	"adt/provider/cloudflare"
	"adt/provider/cloudflaretest"
	"adt/provider/providertest"
)

// settings are those of an account with the zone example.com.
func settings(url string) cloudflare.Config {
	return cloudflare.Config{Token: cloudflaretest.Token, APIURL: url, Zone: "example.com", Build: "b1"}
}

func open(t *testing.T, c cloudflare.Config) *cloudflare.DNS {
	t.Helper()
	dns, err := cloudflare.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return dns
}

// checked returns the address of a checker in front of whatever account is
// stored in the pointer: to start one takes longer than most tests.
func checked(t *testing.T) (string, *atomic.Pointer[url.URL]) {
	t.Helper()
	var account atomic.Pointer[url.URL]
	front := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(account.Load()) },
		ErrorLog: log.New(io.Discard, "", 0), // of clients that gave up, as they are meant to
	})
	t.Cleanup(front.Close)
	return providertest.Checked(t, "cloudflare", front.URL) + "/client/v4", &account
}

func point(t *testing.T, account *atomic.Pointer[url.URL], api *cloudflaretest.Server) {
	t.Helper()
	target, err := url.Parse(strings.TrimSuffix(api.URL, "/client/v4"))
	if err != nil {
		t.Fatal(err)
	}
	account.Store(target)
}

func TestDNS(t *testing.T) {
	address, account := checked(t)
	providertest.DNS(t, func(t *testing.T) providertest.DNSHarness {
		api := cloudflaretest.New(t)
		api.AddZone("example.com")
		point(t, account, api)
		stalled := cloudflaretest.New(t)
		stalled.Fail("GET /zones", apitest.Fault{Hang: true})
		return providertest.DNSHarness{
			DNS: open(t, settings(address)), Stalled: open(t, settings(stalled.URL)), Zone: "example.com", Many: 201,
		}
	})
}
