package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"adt/events"
	"adt/healthcheck"
	"adt/lock"
	"adt/provider"
	"adt/proxy"
	"adt/remote"
	"adt/rundir"
)

// Proxies say how the reverse proxies are kept.
type Proxies struct {
	proxy.Settings
	SSH             *remote.Dialer // knows the proxies' host keys, whatever shard this is
	Prober          *healthcheck.Prober
	Fixed           []Proxy // nil: they are found by name in the listing
	Count           int     // how many there should be; 0 is one
	Strikes         int     // failed checks in a row that take one out of DNS
	MinPublished    int     // that stay in DNS
	Recheck         time.Duration
	RemovalDeadline time.Duration
	Step            func(string) // called before and after a proxy is told something; nil is none
}

func (x *Proxies) step(what string) {
	if x.Step != nil {
		x.Step(what)
	}
}

// Proxy is one reverse proxy. adt neither makes nor destroys any.
type Proxy struct {
	Name                string
	PublicIP, PrivateIP netip.Addr
}

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

// ProxiesIn are the reverse proxies: those of the configuration, or else those
// of a listing that have both their addresses.
func (a *Autoscaler) ProxiesIn(servers []provider.Server) []Proxy {
	if a.Proxies == nil || len(a.Proxies.Fixed) > 0 {
		return a.fixedProxies()
	}
	var all []Proxy
	for _, s := range servers {
		if a.Fleet.IsProxy(s.Name) && s.Addressed() {
			all = append(all, Proxy{s.Name, s.PublicIP, s.PrivateIP})
		}
	}
	slices.SortFunc(all, func(x, y Proxy) int { return x.PrivateIP.Compare(y.PrivateIP) })
	return slices.CompactFunc(all, func(x, y Proxy) bool { return x.PrivateIP == y.PrivateIP })
}

func (a *Autoscaler) fixedProxies() []Proxy {
	if a.Proxies == nil {
		return nil
	}
	return a.Proxies.Fixed
}

// proxiesOf are the proxies to be told: those of the last listing, and those of
// the book, which a listing may have lost.
func (a *Autoscaler) proxiesOf(b proxyBook) []Proxy {
	if fixed := a.fixedProxies(); len(fixed) > 0 || a.Proxies == nil {
		return fixed
	}
	var all []Proxy
	if listed := a.listed.Load(); listed != nil {
		all = slices.Clone(*listed)
	}
	for _, k := range b.sorted() {
		if !slices.ContainsFunc(all, func(p Proxy) bool { return p.PrivateIP == k.PrivateIP }) {
			all = append(all, Proxy{k.Name, k.PublicIP, k.PrivateIP})
		}
	}
	return all
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

// readProxies asks the proxies that were not asked yet what they have of this
// shard: it may have been kept by another machine before. A dry run asks too,
// and writes nothing.
func (a *Autoscaler) readProxies(ctx context.Context) (proxyBook, error) {
	b, _, err := a.readBook()
	if err != nil {
		return b, err
	}
	a.enrol(&b)
	var unread []Proxy
	for _, p := range a.proxiesOf(b) {
		if k := b.Proxies[p.PrivateIP]; k.Unread && !a.justTried(k) {
			unread = append(unread, p)
		}
	}
	if len(unread) == 0 {
		return b, nil
	}
	inv, _, err := a.Inventory()
	if err != nil {
		return b, err
	}
	replies, errs := make([]proxy.Reply, len(unread)), make([]error, len(unread))
	var wg sync.WaitGroup
	for i, p := range unread {
		wg.Go(func() { replies[i], errs[i] = a.look(ctx, p, inv.Servers) })
	}
	wg.Wait()
	merge := func(b *proxyBook) (bool, error) {
		for i, p := range unread {
			k := b.Proxies[p.PrivateIP]
			switch {
			case !k.Unread: // another process was faster
			case errs[i] != nil:
				k.Fault, k.TriedAt = strings.ReplaceAll(errs[i].Error(), "\n", " "), a.Now()
				b.Proxies[p.PrivateIP] = k
			default:
				b.merge(p, replies[i].Own, max(0, replies[i].Total-len(replies[i].Own)), inv.Servers)
			}
		}
		return true, nil
	}
	for i, p := range unread {
		if errs[i] != nil {
			a.event(events.ProxyUnreachable, p.Name, "%v", errs[i])
		}
	}
	if a.preview != nil {
		_, err = merge(&b)
		return b, err
	}
	return a.changeBook(ctx, merge)
}

// look asks one proxy what it has of this shard. The original's cannot tell: it
// may have all that were online.
func (a *Autoscaler) look(ctx context.Context, p Proxy, known map[string]Known) (proxy.Reply, error) {
	if a.Proxies.Kind == proxy.Original {
		var r proxy.Reply
		for _, k := range known {
			if k.Online && k.PrivateIP.IsValid() {
				r.Own = append(r.Own, k.PrivateIP)
			}
		}
		r.Total = len(r.Own)
		return r, nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.callLimit())
	defer cancel()
	conn, err := a.Proxies.SSH.Dial(ctx, p.PrivateIP)
	if err != nil {
		return proxy.Reply{}, err
	}
	defer conn.Close()
	return a.Proxies.Look(ctx, conn, a.password(), a.Shard)
}

// errFloor says that a proxy would be left with too few webservers.
var errFloor = errors.New("a proxy would be left with too few webservers")

// syncProxies brings every proxy to what the book wants. One that refuses or does
// not answer keeps what it has, and the others go on. Nobody is asked that has
// confirmed what is wanted. The error wraps errUndelivered or errFloor.
func (a *Autoscaler) syncProxies(ctx context.Context, floor int) error {
	b, err := a.readProxies(ctx)
	if err != nil {
		return err
	}
	proxies := a.proxiesOf(b)
	errs := make([]error, len(proxies))
	var wg sync.WaitGroup
	for i, p := range proxies {
		wg.Go(func() { errs[i] = a.bring(ctx, p, floor) })
	}
	wg.Wait()
	_, err = a.changeBook(ctx, func(b *proxyBook) (bool, error) {
		before := len(b.Leaving)
		maps.DeleteFunc(b.Leaving, func(addr netip.Addr, _ time.Time) bool { return len(b.holders(a.proxiesOf(*b), addr)) == 0 })
		return len(b.Leaving) != before, nil
	})
	return errors.Join(errors.Join(errs...), err)
}

// due is what a proxy has to be told now: nothing where it confirmed the same,
// and nothing for a while where it has just not taken the same.
func (a *Autoscaler) due(k KnownProxy, hash string) (tell bool, err error) {
	now := a.Now()
	switch {
	case k.Unread:
		return false, fmt.Errorf("%w: %s: what it has is not known", errUndelivered, k.Name)
	case k.Hash == hash && k.Fault == "" && age(now, k.Confirmed) < a.Proxies.Recheck:
		return false, nil
	case k.Tried == hash && a.justTried(k):
		return false, fmt.Errorf("%w: %s: %s", errUndelivered, k.Name, k.Fault)
	}
	return true, nil
}

// justTried reports whether a proxy failed so short a time ago that it is not
// asked the same again yet: a termination that waits for it looks every Poll.
func (a *Autoscaler) justTried(k KnownProxy) bool {
	return k.Fault != "" && age(a.Now(), k.TriedAt) < 6*a.Poll
}

// bring tells one proxy what the book wants now. One process does so at a time,
// so that nothing older comes after it.
func (a *Autoscaler) bring(ctx context.Context, p Proxy, floor int) error {
	release, err := lock.Wait(ctx, a.Dir.Path("proxy-"+p.PrivateIP.String()+".lock"))
	if err != nil {
		return fmt.Errorf("%w: %s: %w", errUndelivered, p.Name, err)
	}
	defer release()
	b, _, err := a.readBook()
	if err != nil {
		return err
	}
	k, want := b.Proxies[p.PrivateIP], b.addresses()
	hash := a.Proxies.Fingerprint(a.Shard, want)
	if tell, err := a.due(k, hash); !tell {
		return err
	}
	if err := a.mayAct(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, a.callLimit())
	defer cancel()
	reply, err := a.send(ctx, p, proxy.Change{Shard: a.Shard, Want: want, Had: k.May, Again: k.Hash == hash, Floor: floor})
	return a.told(ctx, p, k.May, want, hash, reply, err)
}

// send makes one proxy have a change. Before it is sent, the book says that the proxy may have
// either.
func (a *Autoscaler) send(ctx context.Context, p Proxy, c proxy.Change) (proxy.Reply, error) {
	a.Proxies.step("tell proxy " + p.Name)
	conn, err := a.Proxies.SSH.Dial(ctx, p.PrivateIP)
	if err != nil {
		return proxy.Reply{}, err
	}
	defer conn.Close()
	_, err = a.changeBook(ctx, func(b *proxyBook) (bool, error) {
		k := b.Proxies[p.PrivateIP]
		before := len(k.May)
		for _, addr := range c.Want {
			if !slices.Contains(k.May, addr) {
				k.May = append(k.May, addr)
			}
		}
		if !c.Again {
			k.Hash = "" // until it answers nobody knows which
		}
		b.Proxies[p.PrivateIP] = k
		return len(k.May) != before || !c.Again, nil
	})
	if err != nil {
		return proxy.Reply{}, err
	}
	reply, err := a.Proxies.Apply(ctx, conn, a.password(), c)
	a.Proxies.step("told proxy " + p.Name)
	return reply, err
}

// told records what became of a change.
func (a *Autoscaler) told(ctx context.Context, p Proxy, had, want []netip.Addr, hash string, reply proxy.Reply, err error) error {
	// What the proxy did is recorded, also when the run's own time is over.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	fault := ""
	switch {
	case err != nil:
		fault = strings.ReplaceAll(err.Error(), "\n", " ")
	case reply.Outcome == proxy.Refused || reply.Outcome == proxy.NotLoaded:
		fault = fmt.Sprintf("%s: %s", reply.Outcome, reply.Said)
	case reply.Outcome == proxy.Busy:
		fault = "another autoscaler is changing it"
	}
	_, werr := a.changeBook(ctx, func(b *proxyBook) (bool, error) {
		k := b.Proxies[p.PrivateIP]
		switch {
		case fault == "" && reply.Outcome != proxy.Floor:
			k.May, k.Others, k.Hash, k.Confirmed = want, max(0, reply.Total-len(want)), hash, a.Now()
			k.Tried, k.TriedAt, k.Fault = "", time.Time{}, ""
		case reply.Outcome == proxy.Refused && a.Proxies.Kind != proxy.Original, reply.Outcome == proxy.Floor, reply.Outcome == proxy.Busy:
			k.May = had // it says that it took nothing
			k.Tried, k.TriedAt, k.Fault = hash, a.Now(), fault
		default:
			k.Tried, k.TriedAt, k.Fault = hash, a.Now(), fault
		}
		b.Proxies[p.PrivateIP] = k
		return true, nil
	})
	switch {
	case werr != nil:
		return werr
	case reply.Outcome == proxy.Floor:
		return fmt.Errorf("%w: %s", errFloor, p.Name)
	case reply.Outcome == proxy.Refused || reply.Outcome == proxy.NotLoaded:
		a.event(events.ProxyRefused, p.Name, "it goes on with %d webservers as before; %s", reply.Total, fault)
	case fault != "":
		a.event(events.ProxyUnreachable, p.Name, "%s", fault)
	case reply.Outcome == proxy.Updated:
		a.event(events.ProxyUpdated, p.Name, "%d webservers from here, %d in all", len(want), reply.Total)
	}
	if fault != "" {
		return fmt.Errorf("%w: %s: %s", errUndelivered, p.Name, fault)
	}
	return nil
}

// waitedEnough reports whether a webserver was to leave the proxies so long ago that
// those which may still have it are not waited for any more.
func (a *Autoscaler) waitedEnough(addr netip.Addr) bool {
	b, _, err := a.readBook()
	since, leaving := b.Leaving[addr]
	return err == nil && leaving && age(a.Now(), since) > a.Proxies.RemovalDeadline
}

// behindProxies is the front with proxies.
type behindProxies struct {
	*Autoscaler
	direct inDNS // what is left from before there were proxies
	floor  int
}

func (f behindProxies) publish(ctx context.Context, webservers ...who) error {
	if len(webservers) == 0 {
		return nil
	}
	if _, err := f.readProxies(ctx); err != nil {
		return err
	}
	if err := f.mayAct(ctx); err != nil {
		return err
	}
	b, err := f.changeBook(ctx, func(b *proxyBook) (bool, error) {
		for _, w := range webservers {
			t, found, err := f.termination(w.id)
			if err != nil {
				return false, err
			}
			if found && t.Phase != Waiting || !w.private.IsValid() {
				continue
			}
			b.Wanted[w.private] = w.id
			delete(b.Leaving, w.private)
			f.event(events.Published, w.name, "%s, behind the proxies", w.private)
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	if len(f.proxiesOf(b)) == 0 {
		return fmt.Errorf("%w: no proxy is known", errUndelivered)
	}
	return f.syncProxies(ctx, f.floor)
}

func (f behindProxies) withdraw(ctx context.Context, why string, webservers ...who) error {
	if len(webservers) == 0 {
		return nil
	}
	err := f.direct.withdraw(ctx, why, webservers...)
	if err != nil {
		return err
	}
	if _, err := f.readProxies(ctx); err != nil {
		return err
	}
	if err := f.mayAct(ctx); err != nil {
		return err
	}
	taken := map[netip.Addr]string{}
	_, err = f.changeBook(ctx, func(b *proxyBook) (bool, error) {
		changed := false
		for _, w := range webservers {
			if id, wanted := b.Wanted[w.private]; wanted && id == w.id {
				taken[w.private] = w.id
				delete(b.Wanted, w.private)
				f.event(events.Withdrawn, w.name, "%s%s", w.private, why)
			}
			if _, wanted := b.Wanted[w.private]; wanted {
				continue // another server has the address now
			}
			if _, leaving := b.Leaving[w.private]; !leaving && w.private.IsValid() && len(b.holders(f.proxiesOf(*b), w.private)) > 0 {
				b.Leaving[w.private] = f.Now()
				changed = true
			}
		}
		return changed || len(taken) > 0, nil
	})
	if err != nil {
		return err
	}
	err = f.syncProxies(ctx, f.floor)
	if errors.Is(err, errFloor) {
		return f.putBack(ctx, taken, err)
	}
	b, _, rerr := f.readBook()
	if rerr != nil {
		return rerr
	}
	var held []string
	for _, w := range webservers {
		if _, wanted := b.Wanted[w.private]; !wanted {
			held = append(held, b.holders(f.proxiesOf(b), w.private)...)
		}
	}
	slices.Sort(held)
	switch {
	case err != nil && !errors.Is(err, errUndelivered):
		return err
	case len(held) > 0:
		return fmt.Errorf("%w: still at %s", errUndelivered, strings.Join(slices.Compact(held), ", "))
	}
	return nil
}

// putBack wants those again that a proxy could not do without: what was known of
// other autoscalers' webservers was too old.
func (f behindProxies) putBack(ctx context.Context, taken map[netip.Addr]string, cause error) error {
	_, err := f.changeBook(ctx, func(b *proxyBook) (bool, error) {
		for addr, id := range taken {
			b.Wanted[addr] = id
			delete(b.Leaving, addr)
			f.event(events.BrakeFloor, addr.String(), "stays: %v", cause)
		}
		return len(taken) > 0, nil
	})
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %w", errUndelivered, f.syncProxies(ctx, 0))
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
