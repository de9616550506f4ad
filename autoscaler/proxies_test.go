package autoscaler

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	gliderlabs "github.com/gliderlabs/ssh"

	"adt/events"
	"adt/provider"
	"adt/proxy"
	"adt/remote/remotetest"
	"adt/rundir"
)

func ip(text string) netip.Addr { return netip.MustParseAddr(text) }

// bookOf knows the proxies by their addresses, and wants the webservers.
func bookOf(known map[string]KnownProxy, wanted ...string) (proxyBook, []Proxy) {
	b := proxyBook{Wanted: map[netip.Addr]string{}, Leaving: map[netip.Addr]time.Time{}, Proxies: map[netip.Addr]KnownProxy{}}
	var all []Proxy
	for _, a := range slices.Sorted(maps.Keys(known)) {
		b.Proxies[ip(a)] = known[a]
		all = append(all, Proxy{Name: "rp-" + a, PrivateIP: ip(a)})
	}
	for i, a := range wanted {
		b.Wanted[ip(a)] = fmt.Sprint("id", i+1)
	}
	return b, all
}

// Published is what the floor counts on: never more than is certain.
func TestPublishedBehindProxies(t *testing.T) {
	at := time.Unix(1000, 0)
	for name, test := range map[string]struct {
		known  map[string]KnownProxy
		wanted []string
		want   int
	}{
		"no proxy":                    {nil, []string{"10.0.0.1"}, 1},
		"none confirmed":              {map[string]KnownProxy{"10.9.0.1": {Others: 7}}, []string{"10.0.0.1"}, 1},
		"others":                      {map[string]KnownProxy{"10.9.0.1": {Others: 7, Confirmed: at}}, []string{"10.0.0.1"}, 8},
		"the least of two":            {map[string]KnownProxy{"10.9.0.1": {Others: 7, Confirmed: at}, "10.9.0.2": {Others: 2, Confirmed: at}}, []string{"10.0.0.1"}, 3},
		"one that was never asked":    {map[string]KnownProxy{"10.9.0.1": {Others: 7, Confirmed: at}, "10.9.0.2": {}}, nil, 7},
		"only others, none from here": {map[string]KnownProxy{"10.9.0.1": {Others: 1, Confirmed: at}}, nil, 1},
	} {
		if b, all := bookOf(test.known, test.wanted...); b.published(all) != test.want {
			t.Errorf("%s: %d, want %d", name, b.published(all), test.want)
		}
	}
}

// Holders are all that might send a visitor to a webserver.
func TestHolders(t *testing.T) {
	b, all := bookOf(map[string]KnownProxy{
		"10.9.0.1": {May: []netip.Addr{ip("10.0.0.10")}}, "10.9.0.2": {May: []netip.Addr{ip("10.0.0.1"), ip("10.0.0.10")}}, "10.9.0.3": {Unread: true},
	})
	all = append(all, Proxy{Name: "rp-new", PrivateIP: ip("10.9.0.4")})
	if got := b.holders(all, ip("10.0.0.1")); !slices.Equal(got, []string{"rp-10.9.0.2", "rp-10.9.0.3", "rp-new"}) {
		t.Errorf("10.0.0.1 is held by %v", got)
	}
	if got := b.holders(all[:2], ip("10.0.0.2")); len(got) != 0 {
		t.Errorf("10.0.0.2 is held by %v", got)
	}
}

// An address is a server's as long as the server has it.
func TestStale(t *testing.T) {
	b, _ := bookOf(nil, "10.0.0.1", "10.0.0.2", "10.0.0.3") // of id1, id2, id3
	got := b.stale(map[string]Known{"id1": {PrivateIP: ip("10.0.0.1")}, "id2": {PrivateIP: ip("10.0.0.9")}, "id4": {PrivateIP: ip("10.0.0.3")}})
	if len(got) != 2 || got[0].private != ip("10.0.0.2") || got[1].private != ip("10.0.0.3") || got[1].id != "id3" {
		t.Errorf("%+v", got)
	}
}

// What a proxy has is wanted, unless its server is gone or was withdrawn.
func TestMerge(t *testing.T) {
	b, all := bookOf(map[string]KnownProxy{"10.9.0.1": {Unread: true}})
	b.Leaving[ip("10.0.0.2")] = time.Unix(1, 0)
	own := []netip.Addr{ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.3")}
	b.merge(all[0], own, 4, map[string]Known{"a": {PrivateIP: ip("10.0.0.1")}, "b": {PrivateIP: ip("10.0.0.2")}, "c": {PrivateIP: ip("10.0.0.4")}})
	if !maps.Equal(b.Wanted, map[netip.Addr]string{ip("10.0.0.1"): "a"}) {
		t.Errorf("wanted are %v", b.Wanted)
	}
	if k := b.Proxies[ip("10.9.0.1")]; k.Unread || !slices.Equal(k.May, own) || k.Others != 4 {
		t.Errorf("%+v", k)
	}
}

func TestDue(t *testing.T) {
	now := time.Unix(100_000, 0)
	a := &Autoscaler{Proxies: &Proxies{Recheck: 10 * time.Minute}, Now: func() time.Time { return now }}
	a.Poll = 5 * time.Second
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for name, test := range map[string]struct {
		known KnownProxy
		tell  bool
		fault bool
	}{
		"never told":                    {KnownProxy{}, true, false},
		"confirmed":                     {KnownProxy{Hash: "x", Confirmed: ago(9 * time.Minute)}, false, false},
		"confirmed long ago":            {KnownProxy{Hash: "x", Confirmed: ago(11 * time.Minute)}, true, false},
		"confirmed another":             {KnownProxy{Hash: "y", Confirmed: ago(time.Minute)}, true, false},
		"what it has is not known":      {KnownProxy{Unread: true}, false, true},
		"refused just now":              {KnownProxy{Tried: "x", TriedAt: ago(time.Second), Fault: "no"}, false, true},
		"refused a while ago":           {KnownProxy{Tried: "x", TriedAt: ago(31 * time.Second), Fault: "no"}, true, false},
		"refused another just now":      {KnownProxy{Tried: "y", TriedAt: ago(time.Second), Fault: "no"}, true, false},
		"confirmed, and then did not":   {KnownProxy{Hash: "x", Confirmed: ago(time.Minute), Tried: "x", TriedAt: ago(time.Minute), Fault: "no"}, true, false},
		"confirmed in a time to come":   {KnownProxy{Hash: "x", Confirmed: now.Add(time.Hour)}, false, false},
		"would have had too few before": {KnownProxy{Hash: "y", Tried: "x", TriedAt: ago(time.Second)}, true, false},
	} {
		tell, err := a.due(test.known, "x")
		if tell != test.tell || (err != nil) != test.fault || err != nil && !errors.Is(err, errUndelivered) {
			t.Errorf("%s: %v, %v", name, tell, err)
		}
	}
}

// Proxies are found by name, with both addresses, or are those that are named.
func TestProxiesIn(t *testing.T) {
	listing := []provider.Server{
		{ID: "1", Name: "rp-lon1-shop-b", PublicIP: ip("192.0.2.2"), PrivateIP: ip("10.9.0.2")},
		{ID: "2", Name: "rp-lon1-shop-a", PublicIP: ip("192.0.2.1"), PrivateIP: ip("10.9.0.1")},
		{ID: "3", Name: "rp-lon1-shop-c", PublicIP: ip("192.0.2.3")},
		{ID: "2", Name: "rp-lon1-shop-a", PublicIP: ip("192.0.2.1"), PrivateIP: ip("10.9.0.1")},
		{ID: "4", Name: shop.Name(1, "aaaa"), PublicIP: ip("192.0.2.4"), PrivateIP: ip("10.0.0.1")},
		{ID: "5", Name: "rp-lon1-other-a", PublicIP: ip("192.0.2.5"), PrivateIP: ip("10.9.0.5")},
	}
	a := &Autoscaler{Proxies: &Proxies{}}
	a.Fleet = shop
	if got := a.ProxiesIn(listing); len(got) != 2 || got[0].Name != "rp-lon1-shop-a" || got[1].Name != "rp-lon1-shop-b" {
		t.Errorf("%v", got)
	}
	// A listing that loses one does not make it be forgotten.
	a.listed.Store(&[]Proxy{{Name: "rp-lon1-shop-a", PrivateIP: ip("10.9.0.1")}})
	b, _ := bookOf(map[string]KnownProxy{"10.9.0.1": {PrivateIP: ip("10.9.0.1")}, "10.9.0.2": {Name: "rp-lon1-shop-b", PrivateIP: ip("10.9.0.2")}})
	if got := a.proxiesOf(b); len(got) != 2 || got[1].Name != "rp-lon1-shop-b" {
		t.Errorf("%v", got)
	}
	a.Proxies.Fixed = []Proxy{{Name: "192.0.2.9"}}
	if got := a.ProxiesIn(listing); len(got) != 1 || got[0].Name != "192.0.2.9" {
		t.Errorf("%v", got)
	}
	a.Proxies = nil
	if got := a.ProxiesIn(listing); got != nil {
		t.Errorf("%v", got)
	}
}

// What is recorded after each answer: never less than the proxy may have.
func TestTold(t *testing.T) {
	before, want := []netip.Addr{ip("10.0.0.1")}, []netip.Addr{ip("10.0.0.2")}
	both := append(slices.Clone(before), want...)
	p := Proxy{Name: "rp", PrivateIP: ip("10.9.0.1")}
	for name, test := range map[string]struct {
		kind    proxy.Kind
		reply   proxy.Reply
		err     error
		may     []netip.Addr
		hash    string
		wrapped error
	}{
		"updated":              {proxy.Nginx, proxy.Reply{Outcome: proxy.Updated, Total: 3}, nil, want, "x", nil},
		"unchanged":            {proxy.Nginx, proxy.Reply{Outcome: proxy.Unchanged, Total: 3}, nil, want, "x", nil},
		"refused":              {proxy.Nginx, proxy.Reply{Outcome: proxy.Refused, Said: "why"}, nil, before, "", errUndelivered},
		"not loaded":           {proxy.Nginx, proxy.Reply{Outcome: proxy.NotLoaded, Said: "why"}, nil, both, "", errUndelivered},
		"the original refuses": {proxy.Original, proxy.Reply{Outcome: proxy.Refused, Said: "why"}, nil, both, "", errUndelivered},
		"too few":              {proxy.Nginx, proxy.Reply{Outcome: proxy.Floor}, nil, before, "", errFloor},
		"busy":                 {proxy.Nginx, proxy.Reply{Outcome: proxy.Busy}, nil, before, "", errUndelivered},
		"the connection broke": {proxy.Nginx, proxy.Reply{}, errors.New("connection lost\nat once"), both, "", errUndelivered},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := rundir.Open(t.TempDir(), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			a := &Autoscaler{Dir: dir, Now: time.Now, Record: func(events.Reason, string, string) {}, Proxies: &Proxies{Fixed: []Proxy{p}, Settings: proxy.Settings{Kind: test.kind}}}
			b, _ := bookOf(map[string]KnownProxy{"10.9.0.1": {Name: "rp", PrivateIP: p.PrivateIP, May: both}})
			b.Version = rundir.Version
			if err := dir.Write(proxiesFile, b); err != nil {
				t.Fatal(err)
			}
			err = a.told(t.Context(), p, before, want, "x", test.reply, test.err)
			if !errors.Is(err, test.wrapped) || (err == nil) != (test.wrapped == nil) {
				t.Errorf("%v, want %v", err, test.wrapped)
			}
			b, _, err = a.readBook()
			if k := b.Proxies[p.PrivateIP]; err != nil || !slices.Equal(k.May, test.may) || k.Hash != test.hash || test.hash == "x" && k.Others != 2 {
				t.Errorf("%+v, %v", k, err)
			}
		})
	}
}

// TestRecordedBeforeTold: when a proxy gets a change, the book says already that
// it may have it. Whoever is killed then, or hears nothing, keeps the webserver
// from being destroyed until the proxy has said that it is out.
func TestRecordedBeforeTold(t *testing.T) {
	dir, err := rundir.Open(t.TempDir(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := &Autoscaler{Dir: dir, Now: time.Now, Record: func(events.Reason, string, string) {}}
	var seen proxyBook
	server := remotetest.Serve(t, remotetest.WithHandler(func(s gliderlabs.Session) {
		seen, _, _ = a.readBook()
		_ = s.Exit(255) // the connection is lost
	}))
	p := Proxy{Name: "rp", PublicIP: server.Addr, PrivateIP: server.Addr}
	a.Proxies = &Proxies{Fixed: []Proxy{p}, SSH: server.Dialer(t), Settings: proxy.Settings{Kind: proxy.Nginx}}
	b, _ := bookOf(map[string]KnownProxy{server.Addr.String(): {Name: "rp", PrivateIP: p.PrivateIP, May: []netip.Addr{ip("10.0.0.1")}, Hash: "old"}}, "10.0.0.2")
	b.Version = rundir.Version
	if err := dir.Write(proxiesFile, b); err != nil {
		t.Fatal(err)
	}
	if err := a.syncProxies(t.Context(), 0); !errors.Is(err, errUndelivered) {
		t.Error(err)
	}
	after, _, err := a.readBook()
	if err != nil {
		t.Fatal(err)
	}
	for when, b := range map[string]proxyBook{"as it was told": seen, "after that": after} {
		for _, webserver := range []string{"10.0.0.1", "10.0.0.2"} {
			if len(b.holders([]Proxy{p}, ip(webserver))) == 0 {
				t.Errorf("%s, nobody could have %s: %+v", when, webserver, b)
			}
		}
		if a.current(b, p.PrivateIP) {
			t.Errorf("%s, the proxy counts as up to date", when)
		}
	}
}

// TestTakenOverProxies: who keeps a shard anew asks the proxies first, and takes
// nothing out of them but what it decides itself.
func TestTakenOverProxies(t *testing.T) {
	dir, err := rundir.Open(t.TempDir(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := &Autoscaler{Dir: dir, DNS: newZone(), Now: time.Now, Record: func(events.Reason, string, string) {}}
	a.Fleet, a.Shard = shop, 2
	server := remotetest.Serve(t)
	settings := proxy.Settings{Kind: proxy.Nginx, Upstream: "adt-shop", File: "shop.conf", Port: 443, TestCommand: "true", ReloadCommand: "true"}
	a.Proxies = &Proxies{Fixed: []Proxy{{Name: "rp", PublicIP: server.Addr, PrivateIP: server.Addr}}, SSH: server.Dialer(t), Settings: settings, Recheck: time.Hour}
	conn, err := a.Proxies.SSH.Dial(t.Context(), server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for shard, has := range map[int][]netip.Addr{1: {ip("10.1.0.1")}, 2: {ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.3"), ip("10.0.0.4")}} {
		if _, err := settings.Apply(t.Context(), conn, nil, proxy.Change{Shard: shard, Want: has}); err != nil {
			t.Fatal(err)
		}
	}
	err = a.remember(t.Context(), func(inv *Inventory) bool {
		for i := 1; i <= 3; i++ { // the fourth is gone
			id := fmt.Sprint("id", i)
			inv.Servers[id] = Known{ID: id, Name: shop.Name(2, fmt.Sprint("AAA", i)), PrivateIP: ip(fmt.Sprint("10.0.0.", i))}
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.frontAfter(a.looks()).withdraw(t.Context(), "", who{id: "id2", name: "ws", private: ip("10.0.0.2")}); err != nil {
		t.Fatal(err)
	}
	r, err := settings.Look(t.Context(), conn, nil, 2)
	if err != nil || !slices.Equal(r.Own, []netip.Addr{ip("10.0.0.1"), ip("10.0.0.3")}) || r.Total != 3 {
		t.Errorf("the proxy has %+v, %v", r, err)
	}
}

// TestProxiesAfresh: what was known of the proxies is worth nothing once another
// machine has kept the shard: a fingerprint from before would look confirmed.
func TestProxiesAfresh(t *testing.T) {
	dir, err := rundir.Open(t.TempDir(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := &Autoscaler{Dir: dir, Now: time.Now, Record: func(events.Reason, string, string) {}, Proxies: &Proxies{Fixed: []Proxy{{Name: "rp", PrivateIP: ip("10.9.0.1")}}}}
	b, _ := bookOf(map[string]KnownProxy{"10.9.0.1": {Hash: "x", Confirmed: time.Now()}}, "10.0.0.1")
	b.Version = rundir.Version
	if err := errors.Join(dir.Write(proxiesFile, b), a.startAfresh()); err != nil {
		t.Fatal(err)
	}
	b, found, err := a.readBook()
	a.enrol(&b)
	if found || err != nil || len(b.Wanted) > 0 || !b.Proxies[ip("10.9.0.1")].Unread {
		t.Errorf("%+v, %v", b, err)
	}
}

// What ends a run is not hidden by a proxy that has to be told again.
func TestGraver(t *testing.T) {
	again, grave := fmt.Errorf("%w: rp", errUndelivered), errors.New("the lease is lost")
	for _, test := range []struct {
		errs    []error
		settles bool
	}{
		{nil, true}, {[]error{nil, again}, true}, {[]error{again, grave, nil}, false}, {[]error{grave}, false},
		{[]error{fmt.Errorf("%w: rp", errFloor)}, true},
	} {
		if err := settled(graver(test.errs)); (err == nil) != test.settles {
			t.Errorf("%v: %v", test.errs, err)
		}
	}
}
