package digitalocean_test

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"adt/provider"
	"adt/provider/apitest"
	"adt/provider/digitalocean"
	"adt/provider/digitaloceantest"
)

func TestAccount(t *testing.T) {
	checked(t, map[string]func(*testing.T, *checker){"all is fine": allIsFine, "the price": price, "the quota": quotaNotedOnce})
}

// wrong are the findings that are not fine, and all must be one line.
func wrong(t *testing.T, findings []provider.Finding, token string) map[string]provider.Finding {
	t.Helper()
	bad := map[string]provider.Finding{}
	for _, f := range findings {
		if f.What == "" || f.Detail == "" || strings.Contains(f.What+f.Detail+f.Hint, "\n") || strings.Contains(f.Detail, token) {
			t.Errorf("%+v", f)
		}
		if !f.OK {
			bad[f.What] = f
		}
	}
	return bad
}

func allIsFine(t *testing.T, checker *checker) {
	snapshot := 0
	for name, c := range map[string]struct {
		change func(*digitalocean.Config)
		want   []string
	}{
		"all that there is": {furnished, []string{
			"token", "region lon1", "size s-1vcpu-2gb", "image debian-13-x64", "SSH key " + buildKey, "VPC net", "firewall adt-webserver-b1", "API quota",
		}},
		"the least": {asIs, []string{"token", "region lon1", "size s-1vcpu-2gb", "image debian-13-x64", "SSH key " + buildKey, "API quota"}},
		"a snapshot": {func(c *digitalocean.Config) { c.Image = strconv.Itoa(snapshot) }, []string{
			"token", "region lon1", "size s-1vcpu-2gb", "image ", "SSH key " + buildKey, "API quota",
		}},
		"only records": {func(c *digitalocean.Config) { c.Size = "" }, []string{"token", "API quota"}},
	} {
		t.Run(name, func(t *testing.T) {
			api := complete(t)
			snapshot = api.AddSnapshot("webserver")
			cloud := checker.open(t, api, c.change)
			if _, err := cloud.Create(t.Context(), provider.Spec{Name: "ws-1"}); c.want[1] != "API quota" && err != nil {
				t.Fatal(err)
			}
			zone, droplets := api.Zone(t), api.Names(t)
			findings := cloud.Examine(t.Context())
			if bad := wrong(t, findings, api.Token); len(bad) != 0 {
				t.Errorf("%+v", bad)
			}
			var got []string
			for _, f := range findings {
				got = append(got, f.What)
			}
			if !slices.EqualFunc(got, c.want, strings.HasPrefix) {
				t.Errorf("%q, want %q", got, c.want)
			}
			if !slices.Equal(api.Zone(t), zone) || !slices.Equal(api.Names(t), droplets) {
				t.Error("it changed something")
			}
		})
	}
}

// TestExamineFinds each thing that is wrong, and says what to do.
func TestExamineFinds(t *testing.T) {
	fail := func(operation string, fault apitest.Fault) func(*testing.T, *digitaloceantest.Server, *digitalocean.Config) {
		return func(_ *testing.T, api *digitaloceantest.Server, _ *digitalocean.Config) { api.Fail(operation, fault) }
	}
	set := func(change func(*digitalocean.Config)) func(*testing.T, *digitaloceantest.Server, *digitalocean.Config) {
		return func(_ *testing.T, _ *digitaloceantest.Server, c *digitalocean.Config) { change(c) }
	}
	locked := `{"account":{"droplet_limit":10,"floating_ip_limit":3,"email":"a@example.com","uuid":"x","email_verified":true,"status":"locked","status_message":""}}`
	for name, c := range map[string]struct {
		change func(*testing.T, *digitaloceantest.Server, *digitalocean.Config)
		want   map[string]string // what -> part of detail and hint
	}{
		"a wrong token": {set(func(c *digitalocean.Config) { c.Token += "x" }), map[string]string{"token": "make a new token"}},
		"a locked account": {fail("GET /v2/account", apitest.Fault{Body: locked}), map[string]string{
			"token": "the account is locked",
		}},
		"an account that may not be read": {fail("GET /v2/account", apitest.Fault{Status: 403}), map[string]string{
			"token": "give the token the scope account:read",
		}},
		"no account":      {fail("GET /v2/account", apitest.Fault{Body: "{}"}), map[string]string{"token": "try again"}},
		"account is null": {fail("GET /v2/account", apitest.Fault{Body: `{"account":null}`}), map[string]string{"token": "try again"}},
		"an outage":       {fail("GET /v2/account", apitest.Fault{Status: 503}), map[string]string{"token": "try again"}},
		"another region": {set(func(c *digitalocean.Config) { c.Region = "sfo1" }), map[string]string{
			"region sfo1":         "not available for new servers",
			"size s-1vcpu-2gb":    "not available in region sfo1: choose another",
			"image debian-13-x64": "not available in region sfo1: choose or transfer",
			"VPC net":             `the VPC "net" in region sfo1 is not at DigitalOcean`,
		}},
		"no such region": {set(func(c *digitalocean.Config) { c.Region, c.VPC = "lon", "" }), map[string]string{
			"region lon":          "correct autoscaler.region",
			"size s-1vcpu-2gb":    "not available in region lon",
			"image debian-13-x64": "not available in region lon",
		}},
		"no such size":   {set(func(c *digitalocean.Config) { c.Size = "s-1" }), map[string]string{"size s-1": "correct digitalocean.size"}},
		"size elsewhere": {set(func(c *digitalocean.Config) { c.Size = "g-2vcpu-8gb" }), map[string]string{"size g-2vcpu-8gb": "not available in region lon1"}},
		"no such image":  {set(func(c *digitalocean.Config) { c.Image = "debian-1" }), map[string]string{"image debian-1": "correct digitalocean.image"}},
		"no snapshot":    {set(func(c *digitalocean.Config) { c.Image = "17" }), map[string]string{"image 17": "correct digitalocean.image"}},
		"image is null":  {fail("GET /v2/images/{id}", apitest.Fault{Body: `{"image":null}`}), map[string]string{"image debian-13-x64": "try again"}},
		"image is {}":    {fail("GET /v2/images/{id}", apitest.Fault{Body: `{}`}), map[string]string{"image debian-13-x64": "try again"}},
		"no such key":    {set(func(c *digitalocean.Config) { c.SSHKey = "mine" }), map[string]string{"SSH key mine": "add the public build key"}},
		"no such VPC":    {set(func(c *digitalocean.Config) { c.VPC = "mine" }), map[string]string{"VPC mine": "correct digitalocean.vpc"}},
		"no firewall":    {set(func(c *digitalocean.Config) { c.Build = "b2" }), map[string]string{"firewall adt-webserver-b2": "digitalocean.firewall to false"}},
		"a server in the open": {func(t *testing.T, api *digitaloceantest.Server, _ *digitalocean.Config) {
			api.AddDroplet(t, "ws-open", "adt-build-b1")
			api.AddDroplet(t, "db-1")
		}, map[string]string{"firewall adt-webserver-b1": "ws-open"}},
		"little quota": {func(_ *testing.T, api *digitaloceantest.Server, c *digitalocean.Config) {
			c.QuotaReserve = 100
			api.SetQuota(50)
		}, map[string]string{"API quota": "100 in reserve"}},
		"regions not permitted":   {fail("GET /v2/regions", apitest.Fault{Status: 403}), map[string]string{"region lon1": "scope regions:read"}},
		"sizes not permitted":     {fail("GET /v2/sizes", apitest.Fault{Status: 403}), map[string]string{"size s-1vcpu-2gb": "scope sizes:read"}},
		"images not permitted":    {fail("GET /v2/images/{id}", apitest.Fault{Status: 403}), map[string]string{"image debian-13-x64": "scope image:read"}},
		"keys not permitted":      {fail("GET /v2/account/keys", apitest.Fault{Status: 403}), map[string]string{"SSH key " + buildKey: "scope ssh_key:read"}},
		"VPCs not permitted":      {fail("GET /v2/vpcs", apitest.Fault{Status: 403}), map[string]string{"VPC net": "scope vpc:read"}},
		"firewalls not permitted": {fail("GET /v2/firewalls", apitest.Fault{Status: 403}), map[string]string{"firewall adt-webserver-b1": "scope firewall:read"}},
		"droplets not permitted":  {fail("GET /v2/droplets", apitest.Fault{Status: 403}), map[string]string{"firewall adt-webserver-b1": "droplet:read"}},
		"too many requests":       {fail("GET /v2/sizes", apitest.Fault{Status: 429}), map[string]string{"size s-1vcpu-2gb": "try again"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := complete(t)
			config := settings(api)
			furnished(&config)
			leaping(&config)
			c.change(t, api, &config)
			cloud := open(t, config)
			var bad map[string]provider.Finding
			synctest.Test(t, func(t *testing.T) { bad = wrong(t, cloud.Examine(t.Context()), config.Token) })
			for what, says := range c.want {
				if f, there := bad[what]; !there || !strings.Contains(f.Detail+" "+f.Hint, says) {
					t.Errorf("want %s with %q: %+v", what, says, bad)
				}
			}
			if len(bad) != len(c.want) {
				t.Errorf("want only %q: %+v", slices.Sorted(maps.Keys(c.want)), bad)
			}
		})
	}
}

// TestExamineEndsWithItsContext: there is a finding all the same.
func TestExamineEndsWithItsContext(t *testing.T) {
	api := complete(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if bad := wrong(t, open(t, settings(api)).Examine(ctx), api.Token); len(bad) == 0 {
		t.Error("all is fine")
	}
}

func price(t *testing.T, checker *checker) {
	for size, want := range map[string]provider.Price{
		"s-1vcpu-1gb": {Currency: "USD", Hourly: 0.00893, Monthly: 6},
		"s-2vcpu-4gb": {Currency: "USD", Hourly: 0.03571, Monthly: 24},
		"s-1vcpu":     {},
	} {
		api := account(t)
		price, err := checker.open(t, api, func(c *digitalocean.Config) { c.Size = size }).Price(t.Context())
		if price != want || (err == nil) != (want.Currency != "") {
			t.Errorf("%s: %+v, %v", size, price, err)
		}
		if err != nil {
			wantKind(t, err, nil, api.Token)
		}
	}
}
