package digitalocean_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"adt/provider"
	"adt/provider/apitest"
	"adt/provider/digitalocean"
)

const attaching = "POST /v2/firewalls/{id}/droplets"

// attached: a new server is behind its own build's firewall, when that is on.
func attached(t *testing.T, checker *checker) {
	for _, on := range []bool{true, false} {
		api := account(t)
		other := api.AddFirewall("adt-webserver-b10")
		own := api.AddFirewall("adt-webserver-b1")
		cloud := checker.open(t, api, func(c *digitalocean.Config) { c.Firewall = on })
		server, err := cloud.Create(t.Context(), provider.Spec{Name: "ws-1"})
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		if on {
			want = []string{server.ID}
		}
		if got := api.Attached(t, own); !slices.Equal(got, want) {
			t.Errorf("on=%v: attached %v, want %v", on, got, want)
		}
		if got := api.Attached(t, other); len(got) != 0 {
			t.Errorf("attached to another build's: %v", got)
		}
	}
}

// TestFirewallFails: the server is kept and named without an error, and it is
// said once that it stands open.
func TestFirewallFails(t *testing.T) {
	for name, c := range map[string]struct {
		fault apitest.Fault
		tries int
		noted bool
	}{
		"unauthorised":   {apitest.Fault{Status: 401}, 1, true},
		"forbidden":      {apitest.Fault{Status: 403}, 1, true},
		"rate limited":   {apitest.Fault{Status: 429}, 1, true},
		"gone":           {apitest.Fault{Status: 404}, 3, true},
		"refused":        {apitest.Fault{Status: 422}, 3, true},
		"server error":   {apitest.Fault{Status: 500}, 3, true},
		"cut":            {apitest.Fault{Cut: true}, 3, true},
		"a page":         {apitest.Fault{Body: "<html>"}, 3, true},
		"done, then cut": {apitest.Fault{Cut: true, After: true, Times: 1}, 2, false},
		"at first":       {apitest.Fault{Status: 422, Times: 2}, 3, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := complete(t)
			api.Fail(attaching, c.fault)
			config := settings(api)
			furnished(&config)
			leaping(&config)
			var notes []string
			config.Note = func(text string) { notes = append(notes, text) }
			cloud := open(t, config)
			var server provider.Server
			synctest.Test(t, func(t *testing.T) {
				var err error
				if server, err = cloud.Create(t.Context(), provider.Spec{Name: "ws-1"}); err != nil || server.ID == "" {
					t.Errorf("%+v, %v", server, err)
				}
			})
			if names := api.Names(t); !slices.Equal(names, []string{"ws-1"}) {
				t.Errorf("there is %v", names)
			}
			if n := api.Requests()[attaching]; n != c.tries {
				t.Errorf("tried %d times, want %d", n, c.tries)
			}
			if !c.noted {
				if len(notes) != 0 {
					t.Errorf("noted %q", notes)
				}
				return
			}
			if len(notes) != 1 || !strings.Contains(notes[0], "attaching ws-1 to firewall adt-webserver-b1") ||
				!strings.Contains(notes[0], server.ID) || strings.Contains(notes[0], api.Token) {
				t.Errorf("noted %q", notes)
			}
		})
	}
}

// giveUp is a transport after whose answer to the order nobody wants more.
type giveUp struct{ cancel context.CancelFunc }

func (g giveUp) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || r.URL.Path != "/v2/droplets" {
		return response, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	response.Body = io.NopCloser(bytes.NewReader(body))
	g.cancel()
	return response, err
}

// attachedInSpiteOfTheEnd: the create's context ends between order and
// firewall, and the server is not left open.
func attachedInSpiteOfTheEnd(t *testing.T, checker *checker) {
	api := account(t)
	firewall := api.AddFirewall("adt-webserver-b1")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cloud := checker.open(t, api, func(c *digitalocean.Config) { c.Firewall, c.Transport = true, giveUp{cancel} })
	server, err := cloud.Create(ctx, provider.Spec{Name: "ws-1"})
	if err != nil || ctx.Err() == nil {
		t.Fatal(err, ctx.Err())
	}
	if got := api.Attached(t, firewall); !slices.Equal(got, []string{server.ID}) {
		t.Errorf("attached %v", got)
	}
}

// TestFirewallIsSilent: a create does not wait for it for ever.
func TestFirewallIsSilent(t *testing.T) {
	api := complete(t)
	config := settings(api)
	furnished(&config)
	leaping(&config)
	config.Transport = deafTo{config.Transport, "/v2/firewalls/"}
	var notes []string
	config.Note = func(text string) { notes = append(notes, text) }
	cloud := open(t, config)
	synctest.Test(t, func(t *testing.T) {
		if server, err := cloud.Create(t.Context(), provider.Spec{Name: "ws-1"}); err != nil || server.ID == "" {
			t.Errorf("%+v, %v", server, err)
		}
	})
	if len(notes) != 1 {
		t.Errorf("noted %q", notes)
	}
}
