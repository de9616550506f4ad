package digitalocean_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"adt/provider"
	"adt/provider/apitest"
	"adt/provider/digitalocean"
)

func TestCreate(t *testing.T) {
	checked(t, map[string]func(*testing.T, *checker){
		"the order":                        order,
		"the droplet limit":                dropletLimit,
		"look-ups once":                    lookUpsOnce,
		"a failed look-up":                 failedLookUp,
		"behind the firewall":              attached,
		"behind the firewall nevertheless": attachedInSpiteOfTheEnd,
	})
}

// recorder keeps what is posted.
type recorder struct{ posted []string }

func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Method == http.MethodPost {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return nil, err
		}
		r.posted = append(r.posted, string(body))
		request = request.Clone(request.Context())
		request.Body = io.NopCloser(bytes.NewReader(body))
	}
	return http.DefaultTransport.RoundTrip(request)
}

// order is all that the vendor is told of a new server.
func order(t *testing.T, checker *checker) {
	api := bare(t)
	api.AddKey("somebody's")
	key := api.AddKey(buildKey)
	api.AddKey(buildKey + "0")
	api.AddVPC("net", "sfo1")
	vpc := api.AddVPC("net", "lon1")
	api.AddVPC("net2", "lon1")
	snapshot := api.AddSnapshot("webserver")
	for name, c := range map[string]struct {
		change func(*digitalocean.Config)
		want   map[string]any // besides what is always there
	}{
		"an image by its slug":      {asIs, map[string]any{"image": "debian-13-x64"}},
		"a snapshot by its id":      {func(c *digitalocean.Config) { c.Image = strconv.Itoa(snapshot) }, map[string]any{"image": float64(snapshot)}},
		"the VPC of the own region": {func(c *digitalocean.Config) { c.VPC = "net" }, map[string]any{"image": "debian-13-x64", "vpc_uuid": vpc}},
	} {
		t.Run(name, func(t *testing.T) {
			var r recorder
			cloud := checker.open(t, api, func(config *digitalocean.Config) { c.change(config); config.Transport = &r })
			made, err := cloud.Create(t.Context(), provider.Spec{Name: "ws-lon1-b1-2-anna-x9Kd", UserData: []byte("#cloud-config\n")})
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]any{
				"name": "ws-lon1-b1-2-anna-x9Kd", "region": "lon1", "size": "s-1vcpu-2gb", "ssh_keys": []any{float64(key)},
				"user_data": "#cloud-config\n", "tags": []any{"adt", "adt-build-b1", "adt-shard-2"},
				"backups": false, "ipv6": false, "monitoring": false, "private_networking": false,
			}
			for k, v := range c.want {
				want[k] = v
			}
			var got map[string]any
			if len(r.posted) != 1 || json.Unmarshal([]byte(r.posted[0]), &got) != nil {
				t.Fatalf("posted %q", r.posted)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("want -, got +\n%s", diff)
			}
			if made.Created.IsZero() || made.Price != (provider.Price{Currency: "USD", Hourly: 0.01786, Monthly: 12}) || made.Addressed() {
				t.Errorf("made %+v", made)
			}
		})
	}
}

// TestRefusedHere are orders that the vendor need not be asked about.
func TestRefusedHere(t *testing.T) {
	const limit = 64 << 10
	for name, c := range map[string]struct {
		spec provider.Spec
		says string // "" is taken
	}{
		"just fits":     {provider.Spec{Name: "ws-1", UserData: bytes.Repeat([]byte("#"), limit)}, ""},
		"one too many":  {provider.Spec{Name: "ws-1", UserData: bytes.Repeat([]byte("#"), limit+1)}, "65537 bytes, and DigitalOcean takes 65536"},
		"bytes count":   {provider.Spec{Name: "ws-1", UserData: []byte(strings.Repeat("ä", limit/2+1))}, "65538 bytes"},
		"text that is":  {provider.Spec{Name: "ws-1", UserData: []byte(strings.Repeat("ä", limit/2))}, ""},
		"no text":       {provider.Spec{Name: "ws-1", UserData: []byte("\x1f\x8b\xff")}, "not UTF-8"},
		"without name":  {provider.Spec{}, "no name"},
		"no user data ": {provider.Spec{Name: "ws-1"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			api := account(t)
			server, err := open(t, settings(api)).Create(t.Context(), c.spec)
			if c.says == "" {
				if err != nil || string(api.UserData(t, server.ID)) != string(c.spec.UserData) {
					t.Errorf("%v, %d bytes of user data", err, len(api.UserData(t, server.ID)))
				}
				return
			}
			wantKind(t, err, nil, api.Token)
			if err == nil || !strings.Contains(err.Error(), c.says) || len(api.Requests()) != 0 {
				t.Errorf("want %q: %v, and %v", c.says, err, api.Requests())
			}
		})
	}
}

// TestMissingSettings are names that the account does not know: the message
// says which and what to do, nothing is ordered, and it is no ErrNotFound, which
// would be about a server.
func TestMissingSettings(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*digitalocean.Config)
		says   string
	}{
		"SSH key":                    {func(c *digitalocean.Config) { c.SSHKey = "agile_toolkit_public_key-b1" }, `the SSH key "agile_toolkit_public_key-b1" is not at DigitalOcean: add`},
		"VPC":                        {func(c *digitalocean.Config) { c.VPC = "ne" }, `the VPC "ne" in region lon1 is not at DigitalOcean: make`},
		"VPC in another region only": {func(c *digitalocean.Config) { c.VPC = "far" }, `the VPC "far" in region lon1 is not at DigitalOcean: make`},
		"firewall":                   {func(c *digitalocean.Config) { c.Firewall, c.Build = true, "b" }, `the firewall "adt-webserver-b" is not at DigitalOcean: make`},
	} {
		t.Run(name, func(t *testing.T) {
			api := complete(t)
			api.AddVPC("far", "sfo1")
			config := settings(api)
			c.change(&config)
			_, err := open(t, config).Create(t.Context(), provider.Spec{Name: "ws-1"})
			wantKind(t, err, nil, api.Token)
			if !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("want %q: %v", c.says, err)
			}
			if n := api.Requests()["POST /v2/droplets"]; n != 0 {
				t.Errorf("ordered %d times", n)
			}
		})
	}
}

// TestWhatIsKnownIsReturned: a server that may be billed is named as soon as
// its id is known, whatever else the answer lacks.
func TestWhatIsKnownIsReturned(t *testing.T) {
	for name, c := range map[string]struct{ body, id string }{
		"only an id":    {`{"droplet":{"id":3164001}}`, "3164001"},
		"no age":        {`{"droplet":{"id":3164001,"name":"ws-1","created_at":"yesterday"}}`, "3164001"},
		"no networks":   {`{"droplet":{"id":3164001,"name":"ws-1","created_at":"2026-01-02T03:04:05Z","networks":null}}`, "3164001"},
		"an address":    {`{"droplet":{"id":3164001,"networks":{"v4":[{"ip_address":"x","type":"public"}]}}}`, "3164001"},
		"not even that": {`{"droplet":{"name":"ws-1"}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			api := account(t)
			api.Fail("POST /v2/droplets", apitest.Fault{Status: 202, Body: c.body})
			server, err := open(t, settings(api)).Create(t.Context(), provider.Spec{Name: "ws-1"})
			if server.ID != c.id || c.id != "" && server.Name != "ws-1" {
				t.Errorf("returned %+v", server)
			}
			if name != "no networks" {
				wantKind(t, err, provider.ErrTemporary, api.Token)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// dropletLimit: the account's own limit is a quota.
func dropletLimit(t *testing.T, checker *checker) {
	api := account(t)
	cloud := checker.open(t, api, asIs)
	api.AddDroplet(t, "db-1")
	api.LimitDroplets(1)
	_, err := cloud.Create(t.Context(), provider.Spec{Name: "ws-1"})
	wantKind(t, err, provider.ErrQuota, api.Token)
}

// lookUpsOnce: fifteen servers at once are fifteen orders, and one look-up
// of each name.
func lookUpsOnce(t *testing.T, checker *checker) {
	api := complete(t)
	cloud := checker.open(t, api, furnished)
	const n = 15
	errs := make(chan error, n)
	for i := range n {
		go func() {
			_, err := cloud.Create(t.Context(), provider.Spec{Name: fmt.Sprintf("ws-%d", i)})
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	want := map[string]int{
		"GET /v2/account/keys": 1, "GET /v2/vpcs": 1, "GET /v2/firewalls": 1,
		"POST /v2/droplets": n, "POST /v2/firewalls/{id}/droplets": n,
	}
	if diff := cmp.Diff(want, api.Requests()); diff != "" {
		t.Errorf("want -, got +\n%s", diff)
	}
	if names := api.Names(t); len(names) != n {
		t.Errorf("made %v", names)
	}
}

// failedLookUp: the next create asks again.
func failedLookUp(t *testing.T, checker *checker) {
	for _, operation := range []string{"GET /v2/account/keys", "GET /v2/vpcs", "GET /v2/firewalls"} {
		api := complete(t)
		cloud := checker.open(t, api, furnished)
		api.Fail(operation, apitest.Fault{Status: 429, Times: 1})
		for i, want := range []error{provider.ErrRateLimited, nil, nil} {
			if _, err := cloud.Create(t.Context(), provider.Spec{Name: "ws-1"}); !errors.Is(err, want) {
				t.Errorf("%s, create %d: %v, want %v", operation, i, err, want)
			}
		}
		if n := api.Requests()[operation]; n != 2 {
			t.Errorf("%s: %d requests, want 2", operation, n)
		}
		if names := api.Names(t); !slices.Equal(names, []string{"ws-1", "ws-1"}) {
			t.Errorf("%s: made %v", operation, names)
		}
	}
}

// TestWaitingForALookUpEnds: who waits for another's look-up gives up when its
// own context does.
func TestWaitingForALookUpEnds(t *testing.T) {
	api := account(t)
	asked := make(chan struct{})
	api.Fail("GET /v2/account/keys", apitest.Fault{Hang: true, Do: func() { close(asked) }})
	cloud := open(t, settings(api))
	first, giveUp := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = cloud.Create(first, provider.Spec{Name: "ws-1"})
	}()
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := cloud.Create(ctx, provider.Spec{Name: "ws-2"})
	wantKind(t, err, context.Canceled, api.Token)
	giveUp()
	<-over
}
