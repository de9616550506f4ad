package digitalocean_test

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"adt/provider"
	"adt/provider/apitest"
	"adt/provider/digitalocean"
	"adt/provider/digitaloceantest"
	"adt/provider/providertest"
)

const (
	readingRules = "GET /v2/databases/{id}/firewall"
	writingRules = "PUT /v2/databases/{id}/firewall"
	clusterName  = "db-shop"
)

func TestAllowList(t *testing.T) {
	checker := newChecker(t)
	providertest.AllowList(t, func(t *testing.T) providertest.AllowListHarness {
		api, silent := account(t), account(t)
		id := api.AddDatabase(clusterName)
		api.AddDatabase(clusterName + "-2")
		silent.AddDatabase(clusterName)
		silent.Fail("GET /v2/databases", apitest.Fault{Hang: true})
		return providertest.AllowListHarness{
			List: checker.open(t, api, asIs).Database(clusterName), Stalled: open(t, settings(silent)).Database(clusterName),
			Foreign: func(t *testing.T) {
				api.Trust(t, id, "tag", "backend", "")
				api.Trust(t, id, "k8s", "ff2a6c52-5a44-4b63-b99c-0e98e7a63d61", "")
				api.Trust(t, id, "ip_addr", "198.51.100.7", "the office")
			},
			Rules: func(t *testing.T) []string { return api.Trusted(t, id) },
			Most:  100, OpenWhenEmpty: true,
		}
	})
}

func prefix(text string) netip.Prefix {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen())
	}
	return netip.MustParsePrefix(text)
}

// database is a cluster that trusts the office, and its driver.
func database(t *testing.T) (*digitaloceantest.Server, string, *digitalocean.Database) {
	t.Helper()
	api := account(t)
	id := api.AddDatabase(clusterName)
	api.Trust(t, id, "ip_addr", "198.51.100.7", "the office")
	return api, id, open(t, settings(api)).Database(clusterName)
}

// TestRulesLost: a rule that another writer's list lacked is written again.
func TestRulesLost(t *testing.T) {
	t.Parallel()
	api, id, db := database(t)
	lost := 0
	api.Fail(readingRules, apitest.Fault{Times: 1}) // before anything is written
	api.Fail(readingRules, apitest.Fault{Times: 2, Do: func() { lost++; api.Distrust(id, "10.0.0.1") }})
	if err := db.Change(t.Context(), []netip.Prefix{prefix("10.0.0.1")}, nil); err != nil {
		t.Fatal(err)
	}
	if want := []string{"ip_addr 10.0.0.1", "ip_addr 198.51.100.7 (the office)"}; !slices.Equal(api.Trusted(t, id), want) || lost != 2 {
		t.Errorf("%v after %d losses, want %v", api.Trusted(t, id), lost, want)
	}
	// One that loses every time gives up, and says that it may be tried again.
	api.Fail(readingRules, apitest.Fault{Do: func() { api.Distrust(id, "10.0.0.2") }})
	before := api.Requests()[writingRules]
	if err := db.Change(t.Context(), []netip.Prefix{prefix("10.0.0.2")}, nil); !errors.Is(err, provider.ErrTemporary) {
		t.Errorf("%v, want %v", err, provider.ErrTemporary)
	}
	if n := api.Requests()[writingRules] - before; n != 3 {
		t.Errorf("%d writes", n)
	}
}

// TestRulesRequests: what is so already is not written.
func TestRulesRequests(t *testing.T) {
	t.Parallel()
	api, _, db := database(t)
	if err := db.Change(t.Context(), []netip.Prefix{prefix("198.51.100.7")}, []netip.Prefix{prefix("10.0.0.9")}); err != nil {
		t.Fatal(err)
	}
	if got := api.Requests(); got[writingRules] != 0 || got[readingRules] != 1 || got["GET /v2/databases"] != 1 {
		t.Errorf("%v", got)
	}
	if err := db.Change(t.Context(), []netip.Prefix{prefix("10.0.0.9")}, nil); err != nil {
		t.Fatal(err)
	}
	if got := api.Requests(); got[writingRules] != 1 || got[readingRules] != 3 || got["GET /v2/databases"] != 1 {
		t.Errorf("%v", got)
	}
}

// TestRulesFail: what goes wrong has its kind, and nothing is written from an
// answer that is no list.
func TestRulesFail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault apitest.Fault
		kind  error
		text  string
	}{
		"forbidden":    {apitest.Fault{Status: 403}, provider.ErrUnauthorized, "forbidden"},
		"rate limited": {apitest.Fault{Status: 429, Header: http.Header{"Retry-After": {"90"}}}, provider.ErrRateLimited, "rate limited until"},
		"gone":         {apitest.Fault{Status: 404}, nil, "correct database.cluster"},
		"server error": {apitest.Fault{Status: 500}, provider.ErrTemporary, "500"},
		"cut":          {apitest.Fault{Cut: true}, provider.ErrTemporary, ""},
		"no list":      {apitest.Fault{Body: "{}"}, provider.ErrTemporary, "no list of rules"},
		"null":         {apitest.Fault{Body: `{"rules": null}`}, provider.ErrTemporary, "no list of rules"},
		"no rules":     {apitest.Fault{Body: `{"rules": [{}]}`}, provider.ErrTemporary, "no list of rules"},
		"a page":       {apitest.Fault{Body: "<html>"}, provider.ErrTemporary, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api, id, db := database(t)
			api.Fail(readingRules, c.fault)
			before := api.Trusted(t, id)
			_, err := db.Allowed(t.Context())
			errs := []error{err, db.Change(t.Context(), []netip.Prefix{prefix("10.0.0.1")}, nil)}
			for _, err := range errs {
				if err == nil || c.kind != nil && !errors.Is(err, c.kind) || !strings.HasPrefix(err.Error(), "digitalocean: ") || !strings.Contains(err.Error(), c.text) {
					t.Errorf("%v, want %v with %q", err, c.kind, c.text)
				}
				var limit *provider.RateLimitError
				if errors.As(err, &limit) && (time.Until(limit.Until) < time.Minute || time.Until(limit.Until) > 2*time.Minute) {
					t.Errorf("until %v", limit.Until)
				}
			}
			if after := api.Trusted(t, id); !slices.Equal(after, before) || api.Requests()[writingRules] != 0 {
				t.Errorf("%v, before %v", after, before)
			}
		})
	}
}

// TestRulesWriteFails: a write is sent once, and one that was answered with
// something else than the vendor's word did not happen.
func TestRulesWriteFails(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]apitest.Fault{
		"server error": {Status: 500, Times: 1}, "cut, done": {Cut: true, After: true, Times: 1}, "a page": {Body: "{}", Times: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api, _, db := database(t)
			api.Fail(writingRules, fault)
			if err := db.Change(t.Context(), []netip.Prefix{prefix("10.0.0.1")}, nil); !errors.Is(err, provider.ErrTemporary) {
				t.Errorf("%v, want %v", err, provider.ErrTemporary)
			}
			if n := api.Requests()[writingRules]; n != 1 {
				t.Errorf("%d writes", n)
			}
		})
	}
}

// TestExamineDatabase: what is missing has its line.
func TestExamineDatabase(t *testing.T) {
	t.Parallel()
	api, id, db := database(t)
	look := func(d *digitalocean.Database) provider.Finding { return d.Examine(t.Context())[0] }
	if f := look(db); !f.OK || !strings.Contains(f.Detail, "1 of at most 100") {
		t.Errorf("%+v", f)
	}
	if f := look(open(t, settings(api)).Database(id)); !f.OK {
		t.Errorf("by its id: %+v", f)
	}
	if f := look(open(t, settings(api)).Database("other")); f.OK || !strings.Contains(f.Detail, "correct database.cluster") {
		t.Errorf("%+v", f)
	}
	api.Distrust(id, "198.51.100.7")
	if f := look(db); !f.OK || !strings.Contains(f.Detail, "everybody") {
		t.Errorf("%+v", f)
	}
	api.Fail(readingRules, apitest.Fault{Status: 403})
	if f := look(db); f.OK || !strings.Contains(f.Hint, "database:update") {
		t.Errorf("%+v", f)
	}
}
