package digitalocean_test

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"adt/provider"
	"adt/provider/apitest"
	"adt/provider/digitalocean"
	"adt/provider/digitaloceantest"
)

// A call is one of the driver's, with the operation of the API that is to fail
// in it.
type apiCall struct {
	name, operation string
	do              func(context.Context, *digitalocean.Cloud) error
}

// calls are all; creates are there with each of their look-ups.
func calls() []apiCall {
	create := func(ctx context.Context, c *digitalocean.Cloud) error {
		_, err := c.Create(ctx, provider.Spec{Name: "ws-1"})
		return err
	}
	return []apiCall{
		{"list", "GET /v2/droplets", func(ctx context.Context, c *digitalocean.Cloud) error { _, err := c.List(ctx); return err }},
		{"create", "POST /v2/droplets", create},
		{"create, its key", "GET /v2/account/keys", create},
		{"create, its VPC", "GET /v2/vpcs", create},
		{"create, its firewall", "GET /v2/firewalls", create},
		{"destroy", "DELETE /v2/droplets/{id}", func(ctx context.Context, c *digitalocean.Cloud) error { return c.Destroy(ctx, "1") }},
		{"records", "GET /v2/domains/{zone}/records", func(ctx context.Context, c *digitalocean.Cloud) error {
			_, err := c.Records(ctx, "www.example.com")
			return err
		}},
		{"add", "POST /v2/domains/{zone}/records", func(ctx context.Context, c *digitalocean.Cloud) error {
			return c.AddRecord(ctx, "www.example.com", netip.MustParseAddr("203.0.113.1"), time.Minute)
		}},
		{"add, its listing", "GET /v2/domains/{zone}/records", func(ctx context.Context, c *digitalocean.Cloud) error {
			return c.AddRecord(ctx, "www.example.com", netip.MustParseAddr("203.0.113.1"), time.Minute)
		}},
		{"remove", "DELETE /v2/domains/{zone}/records/{id}", func(ctx context.Context, c *digitalocean.Cloud) error { return c.RemoveRecord(ctx, "1") }},
		{"price", "GET /v2/sizes", func(ctx context.Context, c *digitalocean.Cloud) error { _, err := c.Price(ctx); return err }},
	}
}

// aboutZone are the calls for which 404 is about the domain.
func (c apiCall) aboutZone() bool { return c.name == "records" || strings.HasPrefix(c.name, "add") }

// complete is an account with all that a create may need, and furnished the
// settings that make it need it.
func complete(t *testing.T) *digitaloceantest.Server {
	t.Helper()
	api := account(t)
	api.AddVPC("net", "lon1")
	api.AddFirewall("adt-webserver-b1")
	return api
}

func furnished(c *digitalocean.Config) { c.VPC, c.Firewall = "net", true }

// leaping keeps no connections open, so that inside synctest.Test the clock
// leaps over the pauses between repeats.
func leaping(c *digitalocean.Config) { c.Transport = &http.Transport{DisableKeepAlives: true} }

// wantKind fails unless the error is of that kind of package provider and of no
// other; nil is none of them, a refusal. Whatever it is, it names the vendor
// and not the token.
func wantKind(t *testing.T, err, want error, token string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	for _, kind := range []error{
		provider.ErrNotFound, provider.ErrUnauthorized, provider.ErrQuota, provider.ErrTemporary, provider.ErrRateLimited,
		context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, kind) != (kind == want) {
			t.Errorf("is it %q: %v, want %q: %v", kind, errors.Is(err, kind), want, err)
		}
	}
	text := err.Error()
	if !strings.HasPrefix(text, "digitalocean: ") || strings.Count(text, "digitalocean: ") > 1 || strings.Contains(text, "\n") {
		t.Errorf("its text: %q", text)
	}
	if strings.Contains(text, token) {
		t.Error("the token is in it")
	}
}

// TestRefusals is every error that the API describes, at every call.
func TestRefusals(t *testing.T) {
	checker := newChecker(t)
	for _, c := range calls() {
		for name, kind := range map[string]struct {
			status int
			body   string
			want   error
		}{
			"unauthorised":  {401, "", provider.ErrUnauthorized},
			"forbidden":     {403, "", provider.ErrUnauthorized},
			"not found":     {404, "", provider.ErrNotFound},
			"refused":       {422, `{"id":"unprocessable_entity","message":"You specified an invalid size"}`, nil},
			"conflict":      {409, "", nil},
			"droplet limit": {422, `{"id":"unprocessable_entity","message":"creating this/these droplet(s) will exceed your droplet limit"}`, provider.ErrQuota},
			"rate limited":  {429, "", provider.ErrRateLimited},
			"too slow":      {408, "", provider.ErrTemporary},
			"server error":  {500, "", provider.ErrTemporary},
			"unavailable":   {503, "", provider.ErrTemporary},
		} {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				api := complete(t)
				api.Fail(c.operation, apitest.Fault{Status: kind.status, Body: kind.body})
				want := kind.want
				if kind.status == http.StatusNotFound && c.aboutZone() {
					want = nil
				}
				cloud := checker.open(t, api, func(c *digitalocean.Config) { furnished(c); leaping(c) })
				synctest.Test(t, func(t *testing.T) { wantKind(t, c.do(t.Context(), cloud), want, api.Token) })
			})
		}
	}
}

// TestStrangeAnswers are those that the API never gives, and a proxy or an
// outage does: none is a success, and none a refusal.
func TestStrangeAnswers(t *testing.T) {
	elsewhere := account(t)
	quoting := func(api *digitaloceantest.Server) string {
		return "<html>\n<b>bad</b> Authorization: Bearer " + api.Token + "\x1b"
	}
	for _, c := range calls() {
		for name, fault := range map[string]func(*digitaloceantest.Server) apitest.Fault{
			"a cut connection": func(*digitaloceantest.Server) apitest.Fault { return apitest.Fault{Cut: true} },
			"a cut body": func(*digitaloceantest.Server) apitest.Fault {
				return apitest.Fault{Cut: true, Body: `{"droplets":[`}
			},
			"a cut error": func(*digitaloceantest.Server) apitest.Fault {
				return apitest.Fault{Cut: true, Status: 422, Body: `{"message":`}
			},
			"a page": func(api *digitaloceantest.Server) apitest.Fault {
				return apitest.Fault{Body: quoting(api)}
			},
			"a gateway's page": func(api *digitaloceantest.Server) apitest.Fault {
				return apitest.Fault{Status: 502, Body: quoting(api)}
			},
			"{}":            bodied(`{}`),
			"null":          bodied(`null`),
			"[]":            bodied(`[]`),
			"a number":      bodied(`1`),
			"nothing named": bodied(`{"droplets":null,"ssh_keys":null,"vpcs":null,"firewalls":null,"domain_records":null,"sizes":null,"droplet":null,"domain_record":null,"meta":{"total":0}}`),
			"no total":      bodied(`{"droplets":[],"ssh_keys":[],"vpcs":[],"firewalls":[],"domain_records":[],"sizes":[],"droplet":{},"domain_record":{},"meta":{}}`),
			"null items":    bodied(`{"droplets":[null],"ssh_keys":[null],"vpcs":[null],"firewalls":[null],"domain_records":[null],"sizes":[null],"meta":{"total":1}}`),
			"wrong types":   bodied(`{"droplets":{},"ssh_keys":1,"vpcs":"","firewalls":{},"domain_records":{},"sizes":{},"droplet":[],"domain_record":[],"meta":{"total":"0"}}`),
			"no content":    func(*digitaloceantest.Server) apitest.Fault { return apitest.Fault{Status: 204} },
			"a redirect": func(api *digitaloceantest.Server) apitest.Fault {
				return apitest.Fault{Status: 302, Header: http.Header{"Location": {elsewhere.URL + "/v2/droplets"}}}
			},
			"a lasting redirect": func(api *digitaloceantest.Server) apitest.Fault {
				return apitest.Fault{Status: 308, Header: http.Header{"Location": {elsewhere.URL + "/v2/droplets"}}}
			},
		} {
			if name == "no content" && strings.HasPrefix(c.operation, http.MethodDelete) {
				continue // that is success
			}
			t.Run(c.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				api := complete(t)
				api.Fail(c.operation, fault(api))
				config := settings(api)
				furnished(&config)
				leaping(&config)
				cloud := open(t, config)
				synctest.Test(t, func(t *testing.T) { wantKind(t, c.do(t.Context(), cloud), provider.ErrTemporary, api.Token) })
			})
		}
	}
	t.Cleanup(func() {
		if n := elsewhere.Requests(); len(n) != 0 {
			t.Errorf("redirects were followed: %v", n)
		}
	})
}

func bodied(body string) func(*digitaloceantest.Server) apitest.Fault {
	return func(*digitaloceantest.Server) apitest.Fault { return apitest.Fault{Body: body} }
}

// TestCallersEnd is a call that nobody answers until its context is over.
func TestCallersEnd(t *testing.T) {
	for _, c := range calls() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			api := complete(t)
			config := settings(api)
			furnished(&config)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			api.Fail(c.operation, apitest.Fault{Hang: true, Do: cancel})
			wantKind(t, c.do(ctx, open(t, config)), context.Canceled, api.Token)

			api = complete(t)
			api.Fail(c.operation, apitest.Fault{Hang: true})
			config.Token, config.APIURL = api.Token, api.URL
			ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			wantKind(t, c.do(ctx, open(t, config)), context.DeadlineExceeded, api.Token)

			wantKind(t, c.do(ctx, open(t, config)), context.DeadlineExceeded, api.Token) // over before it began
		})
	}
}

// TestNobodyListens is an API that is not there at all.
func TestNobodyListens(t *testing.T) {
	for _, c := range calls() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			api := account(t)
			config := settings(api)
			furnished(&config)
			config.APIURL = "http://127.0.0.1:1"
			leaping(&config)
			cloud := open(t, config)
			synctest.Test(t, func(t *testing.T) { wantKind(t, c.do(t.Context(), cloud), provider.ErrTemporary, api.Token) })
		})
	}
}

func TestWelcomeAgain(t *testing.T) {
	in := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(d).Unix(), 10) }
	for name, c := range map[string]struct {
		header http.Header
		want   time.Duration // from now
	}{
		"the reset of the hour":      {http.Header{"RateLimit-Reset": {in(20 * time.Minute)}}, 20 * time.Minute},
		"the limit of a minute":      {http.Header{"RateLimit-Reset": {in(20 * time.Minute)}, "Retry-After": {"30"}}, 30 * time.Second},
		"neither":                    {http.Header{"RateLimit-Reset": nil}, time.Minute},
		"a reset in the past":        {http.Header{"RateLimit-Reset": {in(-time.Minute)}}, time.Minute},
		"garbage":                    {http.Header{"RateLimit-Reset": {"soon"}, "Retry-After": {"later"}}, time.Minute},
		"longer than the limits run": {http.Header{"RateLimit-Reset": {in(1000 * time.Hour)}}, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			api := account(t)
			api.Fail("GET /v2/droplets", apitest.Fault{Status: 429, Header: c.header})
			_, err := open(t, settings(api)).List(t.Context())
			var limited *provider.RateLimitError
			if !errors.As(err, &limited) {
				t.Fatal(err)
			}
			if off := time.Until(limited.Until.Add(-c.want)).Abs(); off > 30*time.Second/2 {
				t.Errorf("until %v, want in %v", limited.Until, c.want)
			}
		})
	}
}
