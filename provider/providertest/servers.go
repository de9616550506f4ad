// Package providertest holds what every driver has to do alike, as tests that
// a driver runs against its vendor's mock or, for the local cloud, the real
// thing. It knows package provider alone.
package providertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"adt/provider"
)

// ServersHarness is an account without servers and a driver for it.
type ServersHarness struct {
	Servers provider.Servers

	// Stalled is a driver whose calls nobody answers. It must give up with its
	// context.
	Stalled provider.Servers

	// Many is a number of servers that does not fit one page of the listing.
	Many int

	// UserData returns what the server with the id was given to boot from. It
	// is nil where that cannot be seen.
	UserData func(t *testing.T, id string) []byte
}

// patience bounds every wait and call of the suite.
const patience = time.Minute

// Servers checks a driver's machines. Every part begins with a new account.
func Servers(t *testing.T, newHarness func(t *testing.T) ServersHarness) {
	for name, part := range map[string]func(*testing.T, ServersHarness){
		"an empty account lists nothing":         emptyListing,
		"what is created is listed":              createdIsListed,
		"addresses appear":                       addressesAppear,
		"user data arrives":                      userDataArrives,
		"two servers may have one name":          oneNameTwice,
		"what is destroyed is gone":              destroyedIsGone,
		"destroying what is gone":                destroyTwice,
		"the listing has all pages":              allPages,
		"creating at once gives different ids":   createAtOnce,
		"a cancelled call does nothing":          cancelledServers,
		"a call ends with its deadline":          stalledServers,
		"an id is not reused":                    idsAreNew,
		"a server keeps its creation time":       creationTime,
		"a create without a name fails unbilled": createWithoutName,
	} {
		t.Run(name, func(t *testing.T) { part(t, newHarness(t)) })
	}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func create(t *testing.T, h ServersHarness, name string) provider.Server {
	t.Helper()
	server, err := h.Servers.Create(within(t), provider.Spec{Name: name, UserData: []byte("#cloud-config\nhostname: " + name + "\n")})
	if err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	if server.ID == "" || server.Name != name {
		t.Fatalf("create %s returned %+v", name, server)
	}
	return server
}

func list(t *testing.T, h ServersHarness) []provider.Server {
	t.Helper()
	servers, err := h.Servers.List(within(t))
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	return servers
}

func ids(servers []provider.Server) []string {
	var ids []string
	for _, s := range servers {
		ids = append(ids, s.ID)
	}
	slices.Sort(ids)
	return ids
}

// eventually polls, for vendors that take their time.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for !happened() {
		select {
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		case <-poll.C:
		}
	}
}

func emptyListing(t *testing.T, h ServersHarness) {
	if servers := list(t, h); len(servers) != 0 {
		t.Errorf("listed %v", servers)
	}
}

func createdIsListed(t *testing.T, h ServersHarness) {
	server := create(t, h, "ws-lon-b1-1-anna-x9Kd")
	servers := list(t, h)
	if len(servers) != 1 || servers[0].ID != server.ID || servers[0].Name != server.Name {
		t.Errorf("created %+v, listed %+v", server, servers)
	}
}

func addressesAppear(t *testing.T, h ServersHarness) {
	server := create(t, h, "ws-lon-b1-1-anna-x9Kd")
	eventually(t, "both addresses are listed", func() bool {
		servers := list(t, h)
		if len(servers) != 1 || servers[0].ID != server.ID {
			t.Fatalf("listed %+v", servers)
		}
		s := servers[0]
		if s.Addressed() && (!s.PublicIP.Is4() || !s.PrivateIP.Is4() || s.PublicIP == s.PrivateIP) {
			t.Fatalf("want two IPv4 addresses: %+v", s)
		}
		return s.Addressed()
	})
}

func userDataArrives(t *testing.T, h ServersHarness) {
	if h.UserData == nil {
		t.Skip("user data cannot be seen here")
	}
	// All that some encoding on the way might change.
	want := []byte("#cloud-config\nhostname: ws-ä\n# 'quoted' \"twice\" \\ <&> $HOME {{x}} %d +/=\r\n\ttab\n\n")
	server, err := h.Servers.Create(within(t), provider.Spec{Name: "ws-1", UserData: want})
	if err != nil {
		t.Fatal(err)
	}
	if got := h.UserData(t, server.ID); string(got) != string(want) {
		t.Errorf("user data %q arrived as %q", want, got)
	}
}

func oneNameTwice(t *testing.T, h ServersHarness) {
	want := []provider.Server{create(t, h, "ws-1"), create(t, h, "ws-1")}
	if got := ids(list(t, h)); !slices.Equal(got, ids(want)) || got[0] == got[1] {
		t.Errorf("created %v, listed %v", ids(want), got)
	}
}

func destroyedIsGone(t *testing.T, h ServersHarness) {
	goes, stays := create(t, h, "ws-1"), create(t, h, "ws-10")
	if err := h.Servers.Destroy(within(t), goes.ID); err != nil {
		t.Fatal(err)
	}
	if servers := list(t, h); len(servers) != 1 || servers[0].ID != stays.ID {
		t.Errorf("want only %s: %+v", stays.ID, servers)
	}
}

func destroyTwice(t *testing.T, h ServersHarness) {
	server := create(t, h, "ws-1")
	if err := h.Servers.Destroy(within(t), server.ID); err != nil {
		t.Fatal(err)
	}
	if err := h.Servers.Destroy(within(t), server.ID); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("destroyed twice: %v, want %v", err, provider.ErrNotFound)
	}
}

func allPages(t *testing.T, h ServersHarness) {
	var want []provider.Server
	for i := range h.Many {
		want = append(want, create(t, h, fmt.Sprintf("ws-%d", i)))
	}
	if got := ids(list(t, h)); !slices.Equal(got, ids(want)) {
		t.Errorf("listed %d of %d servers: %v, want %v", len(got), len(want), got, ids(want))
	}
}

func createAtOnce(t *testing.T, h ServersHarness) {
	const n = 5
	type outcome struct {
		server provider.Server
		err    error
	}
	outcomes := make(chan outcome, n)
	ctx := within(t)
	for i := range n {
		go func() {
			server, err := h.Servers.Create(ctx, provider.Spec{Name: fmt.Sprintf("ws-%d", i)})
			outcomes <- outcome{server, err}
		}()
	}
	var made []provider.Server
	for range n {
		o := <-outcomes
		if o.err != nil {
			t.Error(o.err)
		}
		made = append(made, o.server)
	}
	got := ids(list(t, h))
	if !slices.Equal(got, ids(made)) || len(slices.Compact(slices.Clone(got))) != n {
		t.Errorf("created %v, listed %v", ids(made), got)
	}
}

func cancelledServers(t *testing.T, h ServersHarness) {
	server := create(t, h, "ws-1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Servers.List(ctx); err == nil {
		t.Error("listed in spite of it")
	}
	if _, err := h.Servers.Create(ctx, provider.Spec{Name: "ws-2"}); err == nil {
		t.Error("created in spite of it")
	}
	if err := h.Servers.Destroy(ctx, server.ID); err == nil {
		t.Error("destroyed in spite of it")
	}
	if servers := list(t, h); len(servers) != 1 || servers[0].ID != server.ID {
		t.Errorf("want only %s: %+v", server.ID, servers)
	}
}

func stalledServers(t *testing.T, h ServersHarness) {
	stalled(t, map[string]func(context.Context) error{
		"list": func(ctx context.Context) error { _, err := h.Stalled.List(ctx); return err },
		"create": func(ctx context.Context) error {
			_, err := h.Stalled.Create(ctx, provider.Spec{Name: "ws-1"})
			return err
		},
		"destroy": func(ctx context.Context) error { return h.Stalled.Destroy(ctx, "1") },
	})
}

// stalled makes calls that nobody answers. One that does not end with its
// context fails at the suite's patience, which is a matter of more than taste:
// a tick has to end.
func stalled(t *testing.T, calls map[string]func(context.Context) error) {
	for name, call := range calls {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		done := make(chan error, 1)
		go func() { done <- call(ctx) }()
		select {
		case err := <-done:
			if err == nil {
				t.Errorf("%s: no error", name)
			} else if ctx.Err() == nil {
				t.Errorf("%s gave up before its context did: %v", name, err)
			}
		case <-time.After(patience):
			t.Errorf("%s does not end with its context", name)
		}
		cancel()
	}
}

func idsAreNew(t *testing.T, h ServersHarness) {
	first := create(t, h, "ws-1")
	if err := h.Servers.Destroy(within(t), first.ID); err != nil {
		t.Fatal(err)
	}
	if second := create(t, h, "ws-1"); second.ID == first.ID {
		t.Errorf("the id %s was given again", first.ID)
	}
}

func creationTime(t *testing.T, h ServersHarness) {
	create(t, h, "ws-1")
	first, second := list(t, h), list(t, h)
	if first[0].Created.IsZero() || !first[0].Created.Equal(second[0].Created) {
		t.Errorf("created %v, then %v", first[0].Created, second[0].Created)
	}
}

func createWithoutName(t *testing.T, h ServersHarness) {
	if _, err := h.Servers.Create(within(t), provider.Spec{}); err == nil {
		t.Error("no error")
	}
	if servers := list(t, h); len(servers) != 0 {
		t.Errorf("made %v", servers)
	}
}
