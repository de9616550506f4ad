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
var errFloor = fmt.Errorf("%w: too few webservers would be left", errUndelivered)

// syncProxies brings every proxy to what the book wants. One that refuses or does
// not answer keeps what it has, and the others go on. Nobody is asked that has
// confirmed what is wanted. The error wraps errUndelivered or errFloor.
func (a *Autoscaler) syncProxies(ctx context.Context, floor int) error {
	b, err := a.readProxies(ctx)
	if err != nil {
		return err
	}
	proxies := a.proxiesOf(b)
	errs := make([]error, len(proxies)+1)
	var wg sync.WaitGroup
	for i, p := range proxies {
		wg.Go(func() { errs[i] = a.bring(ctx, p, floor) })
	}
	wg.Wait()
	_, errs[len(proxies)] = a.changeBook(ctx, func(b *proxyBook) (bool, error) {
		before := len(b.Leaving)
		maps.DeleteFunc(b.Leaving, func(addr netip.Addr, _ time.Time) bool { return len(b.holders(a.proxiesOf(*b), addr)) == 0 })
		return len(b.Leaving) != before, nil
	})
	return graver(errs)
}

// graver leaves out what has only to be told again, where there is something that
// ends the run.
func graver(errs []error) error {
	grave := slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil || errors.Is(err, errUndelivered) })
	if len(grave) > 0 {
		return errors.Join(grave...)
	}
	return errors.Join(errs...)
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
