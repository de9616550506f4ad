package cloudflare_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"adt/provider"
	"adt/provider/apitest"
	"adt/provider/cloudflare"
	"adt/provider/cloudflaretest"
)

const www = "www.example.com"

func addr(i int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}) }

// checkedZone is an account with the zone, all of whose answers are held
// against the description.
func checkedZone(t *testing.T) (api *cloudflaretest.Server, zoneID string, config cloudflare.Config) {
	t.Helper()
	address, account := checked(t)
	api = cloudflaretest.New(t)
	zoneID = api.AddZone("example.com")
	point(t, account, api)
	return api, zoneID, settings(address)
}

func zone(t *testing.T) (api *cloudflaretest.Server, zoneID string, config cloudflare.Config) {
	t.Helper()
	api = cloudflaretest.New(t)
	zoneID = api.AddZone("example.com")
	return api, zoneID, settings(api.URL)
}

func addresses(t *testing.T, dns provider.DNS) string {
	t.Helper()
	records, err := dns.Records(t.Context(), www)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, r := range records {
		all = append(all, r.Address.String())
	}
	return strings.Join(all, " ")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCredentials(t *testing.T) {
	api, _, config := checkedZone(t)
	for name, change := range map[string]struct {
		change func(*cloudflare.Config)
		want   error
	}{
		"plain token":            {func(*cloudflare.Config) {}, nil},
		"token with its account": {func(c *cloudflare.Config) { c.Token = cloudflaretest.Account + ":::" + c.Token }, nil},
		"token with a name":      {func(c *cloudflare.Config) { c.Token = "ops@example.com:::" + c.Token }, nil},
		"email and global key": {func(c *cloudflare.Config) {
			c.Token, c.Email, c.Key = "", cloudflaretest.Email, cloudflaretest.Key
		}, nil},
		"another token":     {func(c *cloudflare.Config) { c.Token = strings.Repeat("x", 40) }, provider.ErrUnauthorized},
		"a malformed token": {func(c *cloudflare.Config) { c.Token = "short" }, provider.ErrUnauthorized},
		"another key":       {func(c *cloudflare.Config) { c.Token, c.Email, c.Key = "", cloudflaretest.Email, "wrongkey" }, provider.ErrUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			c := config
			change.change(&c)
			dns := open(t, c)
			_, err := dns.Records(t.Context(), www)
			if !errors.Is(err, change.want) {
				t.Fatalf("%v, want %v", err, change.want)
			}
			for _, secret := range []string{c.Token, c.Key} {
				if err != nil && secret != "" && strings.Contains(err.Error(), secret) {
					t.Errorf("a secret in %v", err)
				}
			}
			if findings := dns.Examine(t.Context()); (findings[len(findings)-1].OK) != (change.want == nil) {
				t.Errorf("examined: %+v", findings)
			}
		})
	}
	if _, err := cloudflare.Open(cloudflare.Config{Zone: "example.com"}); err == nil {
		t.Error("opened without any credentials")
	}
	if api.Requests()["POST /zones/{zone}/dns_records"] > 0 {
		t.Error("an examination changed something")
	}
}

// TestRecordsAsTheVendorHasThem: proxied ones have the automatic TTL, others
// what was asked for, but not less than the vendor takes.
func TestRecordsAsTheVendorHasThem(t *testing.T) {
	api, zoneID, config := checkedZone(t)
	for i, test := range []struct {
		proxied bool
		ttl     time.Duration
		stored  int
		shown   time.Duration
	}{
		{true, 2 * time.Minute, 1, 5 * time.Minute},
		{false, 2 * time.Minute, 120, 2 * time.Minute},
		{false, time.Second, 60, time.Minute},
	} {
		config.Proxied = test.proxied
		dns := open(t, config)
		must(t, dns.AddRecord(t.Context(), www, addr(i), test.ttl))
		stored := api.Records(zoneID)[i]
		if stored.Proxied != test.proxied || stored.TTL != test.stored || stored.Comment != "adt-build-b1" || stored.Name != www {
			t.Errorf("stored %+v", stored)
		}
		records, err := dns.Records(t.Context(), www)
		must(t, err)
		if records[i].TTL != test.shown {
			t.Errorf("TTL %s, want %s", records[i].TTL, test.shown)
		}
	}
}

// TestForeignRecords are neither shown nor removed, nor in the way.
func TestForeignRecords(t *testing.T) {
	api, zoneID, config := checkedZone(t)
	foreign := map[string]string{
		"another build's": api.AddRecord(zoneID, cloudflaretest.Record{Type: "A", Name: www, Content: "203.0.113.1", TTL: 60, Comment: "adt-build-b2"}),
		"a person's":      api.AddRecord(zoneID, cloudflaretest.Record{Type: "A", Name: www, Content: "203.0.113.2", TTL: 60, Comment: "the office"}),
		"no comment":      api.AddRecord(zoneID, cloudflaretest.Record{Type: "A", Name: www, Content: "203.0.113.3", TTL: 60}),
		"mail":            api.AddRecord(zoneID, cloudflaretest.Record{Type: "MX", Name: www, Content: "mail.example.com", TTL: 60, Comment: "adt-build-b1"}),
	}
	dns := open(t, config)
	if got := addresses(t, dns); got != "" {
		t.Errorf("shown: %s", got)
	}
	for name, id := range foreign {
		if err := dns.RemoveRecord(t.Context(), id); err == nil || errors.Is(err, provider.ErrNotFound) {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
	// The address is there, be it somebody else's: that is no failure.
	must(t, dns.AddRecord(t.Context(), www, netip.MustParseAddr("203.0.113.2"), time.Minute))
	if n := len(api.Records(zoneID)); n != len(foreign) {
		t.Errorf("%d records, want %d", n, len(foreign))
	}

	config.Adopt = true // of a fleet that the original has built
	adopting := open(t, config)
	if got := addresses(t, adopting); got != "203.0.113.3" {
		t.Errorf("adopted: %s", got)
	}
	must(t, open(t, config).RemoveRecord(t.Context(), foreign["no comment"]))
	if n := len(api.Records(zoneID)); n != len(foreign)-1 {
		t.Errorf("%d records are left", n)
	}
}

func TestZoneID(t *testing.T) {
	api, zoneID, config := checkedZone(t)
	other := api.AddZone("example.org")
	for name, test := range map[string]struct {
		kept    string
		lookUps int
	}{
		"right":          {zoneID, 0},
		"none":           {"", 1},
		"of no zone":     {strings.Repeat("0", 32), 1},
		"another zone's": {other, 1},
		"garbage":        {"../zones/" + zoneID, 1},
	} {
		for action, do := range map[string]func(provider.DNS) error{
			"list": func(dns provider.DNS) error { _, err := dns.Records(t.Context(), www); return err },
			"add":  func(dns provider.DNS) error { return dns.AddRecord(t.Context(), www, addr(1), time.Minute) },
		} {
			t.Run(name+", "+action, func(t *testing.T) {
				saved := test.kept
				config := config
				config.LoadZoneID = func() string { return saved }
				config.SaveZoneID = func(id string) error { saved = id; return errors.New("disk full") }
				before := api.Requests()["GET /zones"]
				must(t, do(open(t, config)))
				if n := api.Requests()["GET /zones"] - before; n != test.lookUps || saved != zoneID {
					t.Errorf("%d look-ups, want %d; kept %s", n, test.lookUps, saved)
				}
				if n := len(api.Records(other)); n > 0 {
					t.Error("a record in another's zone")
				}
			})
		}
	}
	config.Zone = "example.net"
	if _, err := open(t, config).Records(t.Context(), "www.example.net"); err == nil || !strings.Contains(err.Error(), "example.net") {
		t.Errorf("a zone that is not there: %v", err)
	}
}

// TestRequests: what a run asks.
func TestRequests(t *testing.T) {
	api, zoneID, config := checkedZone(t)
	config.LoadZoneID = func() string { return zoneID }
	dns := open(t, config)
	for i := range 15 {
		must(t, dns.AddRecord(t.Context(), www, addr(i), time.Minute))
	}
	want := "map[GET /zones/{zone}:1 GET /zones/{zone}/dns_records:2 POST /zones/{zone}/dns_records:15]"
	if got := fmt.Sprint(api.Requests()); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	before := api.Requests()["GET /zones/{zone}/dns_records"]
	again := open(t, config)
	addresses(t, again)
	if n := api.Requests()["GET /zones/{zone}/dns_records"] - before; n != 1 {
		t.Errorf("%d requests for a listing", n)
	}
}

// calls are all that a driver is asked.
func calls(t *testing.T) map[string]struct {
	operation string
	do        func(provider.DNS, string) error
} {
	return map[string]struct {
		operation string
		do        func(provider.DNS, string) error
	}{
		"look up the zone": {"GET /zones", func(d provider.DNS, _ string) error { _, err := d.Records(t.Context(), www); return err }},
		"list":             {"GET /zones/{zone}/dns_records", func(d provider.DNS, _ string) error { _, err := d.Records(t.Context(), www); return err }},
		"add": {"POST /zones/{zone}/dns_records", func(d provider.DNS, _ string) error {
			return d.AddRecord(t.Context(), www, addr(200), time.Minute)
		}},
		"read":   {"GET /zones/{zone}/dns_records/{id}", func(d provider.DNS, id string) error { return d.RemoveRecord(t.Context(), id) }},
		"remove": {"DELETE /zones/{zone}/dns_records/{id}", func(d provider.DNS, id string) error { return d.RemoveRecord(t.Context(), id) }},
	}
}

// TestErrors: each kind of failure of each call has its type, begins with the
// vendor's name and holds no secret. What creates is sent once.
func TestErrors(t *testing.T) {
	limited := http.Header{"Retry-After": {"30"}}
	for name, test := range map[string]struct {
		fault    apitest.Fault
		want     error
		repeated bool
	}{
		"400":          {apitest.Fault{Status: 400}, nil, false},
		"401":          {apitest.Fault{Status: 401}, provider.ErrUnauthorized, false},
		"403":          {apitest.Fault{Status: 403}, provider.ErrUnauthorized, false},
		"404":          {apitest.Fault{Status: 404}, provider.ErrNotFound, false},
		"429":          {apitest.Fault{Status: 429, Header: limited}, provider.ErrRateLimited, false},
		"500":          {apitest.Fault{Status: 500}, provider.ErrTemporary, true},
		"502 of HTML":  {apitest.Fault{Status: 502, Body: "<html>bad gateway</html>"}, provider.ErrTemporary, true},
		"cut":          {apitest.Fault{Cut: true}, provider.ErrTemporary, true},
		"cut, done":    {apitest.Fault{Cut: true, After: true}, provider.ErrTemporary, true},
		"garbage":      {apitest.Fault{Body: "garbage"}, provider.ErrTemporary, true},
		"{}":           {apitest.Fault{Body: "{}"}, provider.ErrTemporary, true},
		"null":         {apitest.Fault{Body: "null"}, provider.ErrTemporary, true},
		"no success":   {apitest.Fault{Body: `{"success": false, "errors": [], "messages": [], "result": []}`}, provider.ErrTemporary, true},
		"too many":     {apitest.Fault{Status: 400, Body: `{"success": false, "errors": [{"code": 81045, "message": "quota"}]}`}, provider.ErrQuota, false},
		"a redirect":   {apitest.Fault{Status: 302, Header: http.Header{"Location": {"http://127.0.0.1:1/"}}, Body: "{}"}, provider.ErrTemporary, true},
		"half of JSON": {apitest.Fault{Body: `{"success": true, "result": [`}, provider.ErrTemporary, true},
	} {
		for what, call := range calls(t) {
			t.Run(name+", "+what, func(t *testing.T) {
				t.Parallel()
				api, zoneID, config := zone(t)
				id := api.AddRecord(zoneID, cloudflaretest.Record{Type: "A", Name: www, Content: "203.0.113.9", TTL: 60, Comment: "adt-build-b1"})
				if what == "remove" {
					config.LoadZoneID = func() string { return zoneID } // as it is most often
				}
				api.Fail(call.operation, test.fault)
				err := call.do(open(t, config), id)
				if test.fault.After && what == "remove" && err != nil && errors.Is(err, provider.ErrNotFound) {
					err = provider.ErrTemporary // it was removed, and the repetition saw that
				} else if err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.HasPrefix(err.Error(), "cloudflare: ") {
					t.Fatalf("%v, want %v", err, test.want)
				}
				if strings.Contains(err.Error(), config.Token) {
					t.Errorf("the token is in %v", err)
				}
				sent := api.Requests()[call.operation]
				switch {
				case what == "add" && sent != 1:
					t.Errorf("a create was sent %d times", sent)
				case what != "add" && test.repeated != (sent >= 3): // net/http repeats a read of its own on a connection that was cut
					t.Errorf("sent %d times", sent)
				}
				var rate *provider.RateLimitError
				if errors.As(err, &rate) && (time.Until(rate.Until) <= 0 || time.Until(rate.Until) > 31*time.Second) {
					t.Errorf("welcome again at %s", rate.Until)
				}
			})
		}
	}
}

// TestPassingFailure: what passes is not noticed.
func TestPassingFailure(t *testing.T) {
	api, _, config := zone(t)
	api.Fail("GET /zones/{zone}/dns_records", apitest.Fault{Status: 503, Times: 1})
	api.Fail("GET /zones/{zone}/dns_records", apitest.Fault{Cut: true, Times: 1})
	if got := addresses(t, open(t, config)); got != "" {
		t.Error(got)
	}
}

// TestAddedUnseen: an answer that was lost does not make a second record.
func TestAddedUnseen(t *testing.T) {
	api, zoneID, config := zone(t)
	dns := open(t, config)
	addresses(t, dns)
	api.Fail("POST /zones/{zone}/dns_records", apitest.Fault{Cut: true, After: true, Times: 1})
	if err := dns.AddRecord(t.Context(), www, addr(1), time.Minute); !errors.Is(err, provider.ErrTemporary) {
		t.Fatal(err)
	}
	must(t, dns.AddRecord(t.Context(), www, addr(1), time.Minute))
	if n := len(api.Records(zoneID)); n != 1 || api.Requests()["POST /zones/{zone}/dns_records"] != 1 {
		t.Errorf("%d records, %v", n, api.Requests())
	}
}

// TestListingThatChanges while its pages are read is an error, never part.
func TestListingThatChanges(t *testing.T) {
	api, zoneID, config := zone(t)
	for i := range 150 {
		api.AddRecord(zoneID, cloudflaretest.Record{Type: "A", Name: www, Content: addr(i).String(), TTL: 60, Comment: "adt-build-b1"})
	}
	api.Fail("GET /zones/{zone}/dns_records", apitest.Fault{Times: 1})
	api.Fail("GET /zones/{zone}/dns_records", apitest.Fault{Do: func() {
		api.AddRecord(zoneID, cloudflaretest.Record{Type: "A", Name: www, Content: "203.0.113.9", TTL: 60})
	}, Times: 1})
	if records, err := open(t, config).Records(t.Context(), www); !errors.Is(err, provider.ErrTemporary) {
		t.Errorf("%d records, %v", len(records), err)
	}
}

func TestNoAddressOrForeignName(t *testing.T) {
	api, _, config := zone(t)
	dns := open(t, config)
	for name, address := range map[string]string{"www.example.org": "203.0.113.1", "wwwexample.com": "203.0.113.1", www: "2001:db8::1"} {
		if err := dns.AddRecord(t.Context(), name, netip.MustParseAddr(address), time.Minute); err == nil {
			t.Errorf("%s %s was added", name, address)
		}
	}
	if n := api.Requests()["POST /zones/{zone}/dns_records"]; n > 0 {
		t.Errorf("%d requests", n)
	}
}
