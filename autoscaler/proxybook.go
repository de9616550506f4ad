package autoscaler

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"adt/events"
	"adt/healthcheck"
	"adt/rundir"
)

// KnownProxy is what is remembered of a proxy. All times are steady time.
type KnownProxy struct {
	Name      string     `json:"name"`
	PublicIP  netip.Addr `json:"public_ip"`
	PrivateIP netip.Addr `json:"private_ip"`
	FirstSeen time.Time  `json:"first_seen"`

	Unread    bool         `json:"unread,omitempty"`       // what it has of this shard was never asked
	May       []netip.Addr `json:"may_hold"`               // what it has of this shard at most
	Others    int          `json:"others"`                 // webservers of other shards that it had when it confirmed
	Hash      string       `json:"hash,omitempty"`         // fingerprint of what it confirmed last
	Confirmed time.Time    `json:"confirmed,omitzero"`     // and when
	Tried     string       `json:"tried,omitempty"`        // fingerprint of what it did not take
	TriedAt   time.Time    `json:"tried_at,omitzero"`      // and when
	Fault     string       `json:"fault,omitempty"`        // and why
	Missing   time.Time    `json:"missing_since,omitzero"` // absent from the listings since

	// Where this machine keeps the proxies' records in DNS:
	Online  bool   `json:"online,omitempty"`
	Strikes int    `json:"strikes,omitempty"`
	State   string `json:"state,omitempty"`
	Detail  string `json:"detail,omitempty"`
}

// Holds is how many webservers the proxy has of all autoscalers, as far as known.
func (k KnownProxy) Holds() int { return len(k.May) + k.Others }

// proxyBook is the record proxies.json of one shard: which of its webservers
// visitors shall reach, and what each proxy has of them. What is wanted is
// recorded before a proxy is told; who tells it reads the newest.
type proxyBook struct {
	Version int                       `json:"version"`
	Wanted  map[netip.Addr]string     `json:"wanted"`  // private addresses, and the ids of their servers
	Leaving map[netip.Addr]time.Time  `json:"leaving"` // withdrawn, and when, until no proxy has them
	Proxies map[netip.Addr]KnownProxy `json:"proxies"` // by private address
}

func (b proxyBook) sorted() []KnownProxy {
	return slices.SortedFunc(maps.Values(b.Proxies), func(x, y KnownProxy) int { return x.PrivateIP.Compare(y.PrivateIP) })
}

// addresses are the webservers that are wanted, in their order.
func (b proxyBook) addresses() []netip.Addr {
	return slices.SortedFunc(maps.Keys(b.Wanted), netip.Addr.Compare)
}

// published is how many webservers visitors reach at least, of all shards.
func (b proxyBook) published(proxies []Proxy) int {
	others := -1
	for _, p := range proxies {
		if k := b.Proxies[p.PrivateIP]; !k.Confirmed.IsZero() && (others < 0 || k.Others < others) {
			others = k.Others
		}
	}
	return len(b.Wanted) + max(0, others)
}

// holders are the proxies that may still have a webserver.
func (b proxyBook) holders(proxies []Proxy, a netip.Addr) []string {
	var names []string
	for _, p := range proxies {
		if k, known := b.Proxies[p.PrivateIP]; !known || k.Unread || slices.Contains(k.May, a) {
			names = append(names, p.Name)
		}
	}
	return names
}

// stale are the wanted addresses whose servers are gone or have another address.
func (b proxyBook) stale(known map[string]Known) []who {
	var out []who
	for _, a := range b.addresses() {
		id := b.Wanted[a]
		if k, ok := known[id]; !ok || k.PrivateIP != a {
			out = append(out, who{id: id, name: a.String(), private: a})
		}
	}
	return out
}

// merge takes in what a proxy says it has: that was decided before, by whoever
// kept the shard, and holds until something else is decided.
func (b proxyBook) merge(p Proxy, own []netip.Addr, others int, known map[string]Known) {
	k := b.Proxies[p.PrivateIP]
	k.Unread, k.May, k.Others, k.Fault, k.TriedAt = false, own, others, "", time.Time{}
	b.Proxies[p.PrivateIP] = k
	for id, s := range known {
		if _, leaving := b.Leaving[s.PrivateIP]; !leaving && slices.Contains(own, s.PrivateIP) {
			b.Wanted[s.PrivateIP] = id
		}
	}
}

// readBook reads the record; found says whether there is one.
func (a *Autoscaler) readBook() (b proxyBook, found bool, err error) {
	found, err = a.Dir.Read(proxiesFile, &b)
	if !found {
		b = proxyBook{Version: rundir.Version}
	}
	if b.Wanted == nil {
		b.Wanted = map[netip.Addr]string{}
	}
	if b.Leaving == nil {
		b.Leaving = map[netip.Addr]time.Time{}
	}
	if b.Proxies == nil {
		b.Proxies = map[netip.Addr]KnownProxy{}
	}
	return b, found, err
}

// changeBook changes the record, and returns it as it is then. do reports
// whether it changed anything.
func (a *Autoscaler) changeBook(ctx context.Context, do func(*proxyBook) (bool, error)) (b proxyBook, err error) {
	err = a.change(ctx, func() error {
		if b, _, err = a.readBook(); err != nil {
			return err
		}
		a.enrol(&b)
		changed, err := do(&b)
		if err != nil || !changed {
			return err
		}
		return a.Dir.Write(proxiesFile, b)
	})
	return b, err
}

// enrol adds proxies that the book does not know. What such a one has of our
// webservers has to be asked; the original's cannot tell, so it may have all.
func (a *Autoscaler) enrol(b *proxyBook) {
	for _, p := range a.proxiesOf(*b) {
		if _, known := b.Proxies[p.PrivateIP]; !known {
			b.Proxies[p.PrivateIP] = KnownProxy{Name: p.Name, PublicIP: p.PublicIP, PrivateIP: p.PrivateIP, FirstSeen: a.Now(), Unread: true}
		}
	}
}

// absent are the proxies of the book that are gone: no longer configured, or not
// in the listings for so long that servers would be believed gone, and not
// answering either. missing are those that may become so.
func (a *Autoscaler) absent(ctx context.Context, b proxyBook) (gone, missing map[netip.Addr]bool) {
	gone, missing = map[netip.Addr]bool{}, map[netip.Addr]bool{}
	fixed := a.fixedProxies()
	there := fixed
	if listed := a.listed.Load(); len(fixed) == 0 && listed != nil {
		there = *listed
	}
	for addr, k := range b.Proxies {
		switch {
		case slices.ContainsFunc(there, func(p Proxy) bool { return p.PrivateIP == addr }):
		case len(fixed) > 0:
			gone[addr] = true
		case k.Missing.IsZero() || age(a.Now(), k.Missing) < a.MissingAfter:
			missing[addr] = true
		default:
			gone[addr] = !a.Proxies.Prober.Answers(ctx, healthcheck.Target{Name: k.Name, Address: addr})
			missing[addr] = !gone[addr]
		}
	}
	return gone, missing
}

// forgetProxies drops those that are gone, and remembers since when others are
// missing.
func (a *Autoscaler) forgetProxies(b *proxyBook, gone, missing map[netip.Addr]bool) (changed bool) {
	for addr, k := range b.Proxies {
		since := k.Missing
		switch {
		case gone[addr]:
			delete(b.Proxies, addr)
			a.event(events.ProxyGone, k.Name, "it is not configured, or not listed and does not answer")
			changed = true
			continue
		case !missing[addr]:
			k.Missing = time.Time{}
		case since.IsZero():
			k.Missing = a.Now()
		}
		if k.Missing != since {
			b.Proxies[addr] = k
			changed = true
		}
	}
	return changed
}
