package digitalocean_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"adt/provider"
	"adt/provider/apitest"
	"adt/provider/digitalocean"
	"adt/provider/digitaloceantest"
)

func TestListing(t *testing.T) {
	checked(t, map[string]func(*testing.T, *checker){"pages": pages, "whose servers": whoseServers})
}

// pages: so many droplets and records are so many requests, and all come.
func pages(t *testing.T, checker *checker) {
	for n, requests := range map[int]int{0: 1, 1: 1, 200: 1, 201: 2, 401: 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			api := account(t)
			cloud := checker.open(t, api, asIs)
			for i := range n {
				api.AddDroplet(t, fmt.Sprintf("ws-%d", i), "adt-build-b1")
				api.AddRecord(t, "A", "www", fmt.Sprintf("203.0.%d.%d", i>>8, i&255))
			}
			servers, err := cloud.List(t.Context())
			if err != nil || len(servers) != n {
				t.Errorf("listed %d of %d, %v", len(servers), n, err)
			}
			records, err := cloud.Records(t.Context(), "www.example.com")
			if err != nil || len(records) != n {
				t.Errorf("%d of %d records, %v", len(records), n, err)
			}
			for _, operation := range []string{"GET /v2/droplets", "GET /v2/domains/{zone}/records"} {
				if asked := api.Requests()[operation]; asked != requests {
					t.Errorf("%s: %d requests, want %d", operation, asked, requests)
				}
			}
		})
	}
}

// TestMovingPages: a listing that changes between its pages is an error, or
// complete by luck, but never one with a server missing that is there.
func TestMovingPages(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, api *digitaloceantest.Server, newest, oldest string)
		want   error
	}{
		"one more": {func(t *testing.T, api *digitaloceantest.Server, _, _ string) {
			api.AddDroplet(t, "ws-new", "adt-build-b1")
		}, provider.ErrTemporary},
		"one less on the page that was read": {func(t *testing.T, api *digitaloceantest.Server, newest, _ string) {
			api.RemoveDroplet(t, newest)
		}, provider.ErrTemporary},
		"one less on the page to come": {func(t *testing.T, api *digitaloceantest.Server, _, oldest string) {
			api.RemoveDroplet(t, oldest)
		}, provider.ErrTemporary},
		"another instead": {func(t *testing.T, api *digitaloceantest.Server, newest, _ string) {
			api.RemoveDroplet(t, newest)
			api.AddDroplet(t, "ws-new", "adt-build-b1")
		}, nil},
		"another instead of the last": {func(t *testing.T, api *digitaloceantest.Server, _, oldest string) {
			api.AddDroplet(t, "ws-new", "adt-build-b1")
			api.RemoveDroplet(t, oldest)
		}, provider.ErrTemporary},
		"a foreign one": {func(t *testing.T, api *digitaloceantest.Server, _, _ string) {
			api.AddDroplet(t, "db-1")
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			api := account(t)
			var ids []string
			for i := range many + 1 {
				ids = append(ids, api.AddDroplet(t, fmt.Sprintf("ws-%d", i), "adt-build-b1"))
			}
			api.Fail("GET /v2/droplets", apitest.Fault{Times: 1})
			api.Fail("GET /v2/droplets", apitest.Fault{Times: 1, Do: func() { c.change(t, api, ids[len(ids)-1], ids[0]) }})
			servers, err := open(t, settings(api)).List(t.Context())
			if c.want != nil {
				wantKind(t, err, c.want, api.Token)
			} else if err != nil || len(servers) != len(ids) {
				t.Errorf("%d of %d, %v", len(servers), len(ids), err)
			}
		})
	}
}

// TestListingsThatDoNotAddUp are none that can be gone by.
func TestListingsThatDoNotAddUp(t *testing.T) {
	const one = `{"id":1,"name":"ws-1","created_at":"2026-01-02T03:04:05Z"}`
	const next = `"links":{"pages":{"next":"http://x/?page=2","last":"http://x/?page=9"}}`
	for name, body := range map[string]string{
		"fewer than there are":    `{"droplets":[` + one + `],"meta":{"total":2},"links":{}}`,
		"more than there are":     `{"droplets":[` + one + `],"meta":{"total":0},"links":{}}`,
		"one twice":               `{"droplets":[` + one + `,` + one + `],"meta":{"total":2}}`,
		"the same page for ever":  `{"droplets":[` + one + `],"meta":{"total":9},` + next + `}`,
		"no items and a next one": `{"droplets":[],"meta":{"total":0},` + next + `}`,
		"no id":                   `{"droplets":[{"name":"ws-1","created_at":"2026-01-02T03:04:05Z"}],"meta":{"total":1}}`,
		"no name":                 `{"droplets":[{"id":1,"created_at":"2026-01-02T03:04:05Z"}],"meta":{"total":1}}`,
		"no age":                  `{"droplets":[{"id":1,"name":"ws-1"}],"meta":{"total":1}}`,
	} {
		t.Run(name, func(t *testing.T) {
			api := account(t)
			api.Fail("GET /v2/droplets", apitest.Fault{Body: body})
			servers, err := open(t, settings(api)).List(t.Context())
			wantKind(t, err, provider.ErrTemporary, api.Token)
			if servers != nil {
				t.Errorf("listed %v along with it", servers)
			}
		})
	}
}

// whoseServers: the tag decides, and for those that the original made the
// name, as a whole.
func whoseServers(t *testing.T, checker *checker) {
	api := account(t)
	for name, tags := range map[string]string{
		"ws-lon1-b1-2-anna-tagged":    "adt adt-build-b1 adt-shard-2",
		"ws-lon1-b1-1-anna-tagged":    "adt adt-build-b1 adt-shard-1",
		"ws-lon1-b1-1-anna-original":  "",
		"ws-lon1-b10-1-anna-original": "",
		"ws-lon1-b2-1-anna-tagged":    "adt adt-build-b2",
		"ws-sfo1-b1-1-anna-original":  "",
		"ws-lon1-b1":                  "",
		"xws-lon1-b1-1-anna-original": "",
		"NO-1-as-lon1-b1-anna":        "",
		"db-lon1-b1-anna":             "adt-build-b10",
		"rp-lon1-b1-anna":             "my-adt-build-b1",
		"rp-lon1-b10-anna":            "",
		"xrp-lon1-b1-anna":            "",
	} {
		api.AddDroplet(t, name, strings.Fields(tags)...)
	}
	before := len(api.Names(t))
	tagged := []string{"ws-lon1-b1-1-anna-tagged", "ws-lon1-b1-2-anna-tagged"}
	for untagged, want := range map[bool][]string{
		false: tagged,
		true:  append([]string{"rp-lon1-b1-anna", "ws-lon1-b1-1-anna-original"}, tagged...), // a proxy has its webservers told
	} {
		cloud := checker.open(t, api, func(c *digitalocean.Config) { c.Untagged = untagged })
		servers, err := cloud.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range servers {
			names = append(names, s.Name)
		}
		slices.Sort(names)
		if !slices.Equal(names, want) {
			t.Errorf("untagged=%v: %v, want %v", untagged, names, want)
		}
	}
	if after := len(api.Names(t)); after != before {
		t.Errorf("%d droplets, were %d", after, before)
	}
}

// TestListedPrice: what a server costs is that of its own size.
func TestListedPrice(t *testing.T) {
	api := account(t)
	api.AddDroplet(t, "ws-1", "adt-build-b1") // of the smallest size
	servers, err := open(t, settings(api)).List(t.Context())
	if err != nil || len(servers) != 1 {
		t.Fatal(servers, err)
	}
	if want := (provider.Price{Currency: "USD", Hourly: 0.00893, Monthly: 6}); servers[0].Price != want {
		t.Errorf("%+v, want %+v", servers[0].Price, want)
	}
}
