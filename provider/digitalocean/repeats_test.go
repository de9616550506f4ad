package digitalocean_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"adt/provider"
	"adt/provider/apitest"
	"adt/provider/digitalocean"
)

// TestSentOnce: what creates is never sent again, whatever became of it, also
// not by net/http on the connection that is still open from the look-ups.
func TestSentOnce(t *testing.T) {
	faults := map[string]apitest.Fault{
		"server error": {Status: 500},
		"unavailable":  {Status: 503},
		"rate limited": {Status: 429},
		"refused":      {Status: 422},
		"cut":          {Cut: true},
		"a cut body":   {Cut: true, Body: `{"dro`},
		"garbage":      {Body: "<html>"},
		"{}":           {Body: "{}"},
		"redirect":     {Status: 307, Header: http.Header{"Location": {"/v2/droplets"}}},
		"silence":      {Hang: true},
	}
	for _, c := range calls() {
		if !strings.HasPrefix(c.operation, http.MethodPost) {
			continue
		}
		for name, fault := range faults {
			for _, after := range []bool{false, true} {
				t.Run(c.name+"/"+name+map[bool]string{true: ", done"}[after], func(t *testing.T) {
					t.Parallel()
					api := account(t)
					fault := fault
					fault.After = after
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					if fault.Hang { // until who asks has had enough
						fault.Do = cancel
					}
					api.Fail(c.operation, fault)
					if err := c.do(ctx, open(t, settings(api))); err == nil {
						t.Error("no error")
					}
					if n := api.Requests()[c.operation]; n != 1 {
						t.Errorf("sent %d times", n)
					}
					want := 0
					if after {
						want = 1
					}
					if made := len(api.Names(t)) + len(api.Zone(t)); made > want || made < want && !fault.Hang {
						t.Errorf("%d made, want %d", made, want)
					}
				})
			}
		}
	}
}

// TestRepeats: what reads or removes is sent up to three times when it fails
// for a passing reason, and once for any other.
func TestRepeats(t *testing.T) {
	for _, c := range calls() {
		if strings.HasPrefix(c.operation, http.MethodPost) {
			continue
		}
		for name, k := range map[string]struct {
			fault apitest.Fault
			want  int
		}{
			"server error": {apitest.Fault{Status: 500}, 3},
			"bad gateway":  {apitest.Fault{Status: 502, Body: "<html>"}, 3},
			"cut":          {apitest.Fault{Cut: true}, 3},
			"a cut body":   {apitest.Fault{Cut: true, Body: `{"dro`}, 3},
			"unauthorised": {apitest.Fault{Status: 401}, 1},
			"forbidden":    {apitest.Fault{Status: 403}, 1},
			"not found":    {apitest.Fault{Status: 404}, 1},
			"refused":      {apitest.Fault{Status: 422}, 1},
			"rate limited": {apitest.Fault{Status: 429}, 1},
			"redirect":     {apitest.Fault{Status: 302}, 1},
		} {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				api := complete(t)
				api.Fail(c.operation, k.fault)
				config := settings(api)
				furnished(&config)
				leaping(&config)
				cloud := open(t, config)
				synctest.Test(t, func(t *testing.T) {
					if err := c.do(t.Context(), cloud); err == nil {
						t.Error("no error")
					}
				})
				if n := api.Requests()[c.operation]; n != k.want {
					t.Errorf("sent %d times, want %d", n, k.want)
				}
			})
		}
	}
}

// TestPassingFaults: two in a row go unnoticed.
func TestPassingFaults(t *testing.T) {
	faults := []apitest.Fault{{Status: 500}, {Status: 503}, {Cut: true}, {Cut: true, Body: `{"droplets":[`}, {Body: "<html>"}}
	for _, c := range calls() {
		if !strings.HasPrefix(c.operation, http.MethodGet) {
			continue
		}
		for i, first := range faults {
			second := faults[(i+1)%len(faults)]
			api := complete(t)
			first.Times, second.Times = 1, 1
			api.Fail(c.operation, first)
			api.Fail(c.operation, second)
			config := settings(api)
			furnished(&config)
			leaping(&config)
			cloud := open(t, config)
			synctest.Test(t, func(t *testing.T) {
				if err := c.do(t.Context(), cloud); err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
			})
		}
	}
}

// TestDestroyedAtTheFirstTry: a repeat finds nothing, which is what callers
// take for destroyed.
func TestDestroyedAtTheFirstTry(t *testing.T) {
	api := account(t)
	config := settings(api)
	leaping(&config)
	cloud := open(t, config)
	id := api.AddDroplet(t, "ws-1", "adt-build-b1")
	api.AddDroplet(t, "ws-10", "adt-build-b1")
	api.Fail("DELETE /v2/droplets/{id}", apitest.Fault{Cut: true, After: true, Times: 1})
	synctest.Test(t, func(t *testing.T) {
		if err := cloud.Destroy(t.Context(), id); !errors.Is(err, provider.ErrNotFound) {
			t.Error(err)
		}
	})
	if names := api.Names(t); !slices.Equal(names, []string{"ws-10"}) {
		t.Errorf("left: %v", names)
	}
}

// silence is a transport that never answers.
type silence struct{}

func (silence) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// TestOwnDeadline: a call without one ends all the same, and its end is not
// taken for the caller's.
func TestOwnDeadline(t *testing.T) {
	for _, c := range calls() {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cloud := open(t, digitalocean.Config{Token: "dop_v1_secret", Zone: "example.com", Transport: silence{}})
				begin := time.Now()
				wantKind(t, c.do(context.Background(), cloud), provider.ErrTemporary, "dop_v1_secret")
				if took := time.Since(begin); took > time.Minute {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// TestPauseEndsWithContext: who waits between two tries is not held up.
func TestPauseEndsWithContext(t *testing.T) {
	api := account(t)
	config := settings(api)
	leaping(&config)
	cloud := open(t, config)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		api.Fail("GET /v2/droplets", apitest.Fault{Status: 500})
		_, err := cloud.List(ctx)
		wantKind(t, err, context.DeadlineExceeded, api.Token)
	})
	if n := api.Requests()["GET /v2/droplets"]; n != 1 {
		t.Errorf("sent %d times", n)
	}
}

// deafTo is a transport without answers to requests below the path.
type deafTo struct {
	next http.RoundTripper
	path string
}

func (d deafTo) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasPrefix(r.URL.Path, d.path) {
		return silence{}.RoundTrip(r)
	}
	return d.next.RoundTrip(r)
}
