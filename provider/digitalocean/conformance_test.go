package digitalocean_test

import (
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"

	"adt/provider/apitest"
	"adt/provider/digitalocean"
	"adt/provider/digitaloceantest"
	"adt/provider/providertest"
)

// buildKey is the name of the SSH key that the account needs.
const buildKey = "AGILE_TOOLKIT_PUBLIC_KEY-b1"

// settings are those of an account made by account.
func settings(api *digitaloceantest.Server) digitalocean.Config {
	return digitalocean.Config{
		Token: api.Token, APIURL: api.URL, Region: "lon1", Build: "b1", Shard: 2,
		Size: "s-1vcpu-2gb", Image: "debian-13-x64", SSHKey: buildKey, Zone: "example.com",
	}
}

// bare is an account with nothing in it and a token of its own.
func bare(t *testing.T) *digitaloceantest.Server {
	t.Helper()
	return digitaloceantest.New(t, digitaloceantest.Options{Token: fmt.Sprintf("dop_v1_%016x", rand.Uint64())})
}

// account has the SSH key that creates need.
func account(t *testing.T) *digitaloceantest.Server {
	t.Helper()
	api := bare(t)
	api.AddKey(buildKey)
	return api
}

func open(t *testing.T, c digitalocean.Config) *digitalocean.Cloud {
	t.Helper()
	cloud, err := digitalocean.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return cloud
}

// checker is one connection to the vendor's description for many accounts.
type checker struct {
	url      string
	accounts sync.Map // Authorization -> *url.URL
}

// newChecker makes the test one of those that run at once: to start a checker
// takes longer than most tests.
func newChecker(t *testing.T) *checker {
	t.Helper()
	t.Parallel()
	c := &checker{}
	front := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			target, _ := c.accounts.Load(r.In.Header.Get("Authorization"))
			r.SetURL(target.(*url.URL))
		},
		ErrorLog: log.New(io.Discard, "", 0), // of clients that gave up, as they are meant to
	})
	t.Cleanup(front.Close)
	c.url = providertest.Checked(t, "digitalocean", front.URL)
	return c
}

// checked runs tests with one checker, one after the other.
func checked(t *testing.T, tests map[string]func(*testing.T, *checker)) {
	t.Helper()
	checker := newChecker(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { test(t, checker) })
	}
}

// open returns a driver whose requests to the account, and their answers, are
// held against the description.
func (c *checker) open(t *testing.T, api *digitaloceantest.Server, change func(*digitalocean.Config)) *digitalocean.Cloud {
	t.Helper()
	target, err := url.Parse(api.URL)
	if err != nil {
		t.Fatal(err)
	}
	c.accounts.Store("Bearer "+api.Token, target)
	config := settings(api)
	config.APIURL = c.url
	change(&config)
	return open(t, config)
}

func asIs(*digitalocean.Config) {}

// stalled is a driver that nobody answers.
func stalled(t *testing.T) *digitalocean.Cloud {
	t.Helper()
	api := account(t)
	for _, operation := range []string{
		"GET /v2/droplets", "GET /v2/account/keys", "DELETE /v2/droplets/{id}",
		"GET /v2/domains/{zone}/records", "DELETE /v2/domains/{zone}/records/{id}",
	} {
		api.Fail(operation, apitest.Fault{Hang: true})
	}
	return open(t, settings(api))
}

// many is one more than fit a page.
const many = 201

func TestServers(t *testing.T) {
	checker := newChecker(t)
	providertest.Servers(t, func(t *testing.T) providertest.ServersHarness {
		api := account(t)
		return providertest.ServersHarness{
			Servers: checker.open(t, api, asIs), Stalled: stalled(t), Many: many,
			UserData: func(t *testing.T, id string) []byte { return api.UserData(t, id) },
		}
	})
}

func TestDNS(t *testing.T) {
	checker := newChecker(t)
	providertest.DNS(t, func(t *testing.T) providertest.DNSHarness {
		return providertest.DNSHarness{DNS: checker.open(t, account(t), asIs), Stalled: stalled(t), Zone: "example.com", Many: many}
	})
}
