package autoscaler

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"adt/events"
	"adt/healthcheck"
	"adt/provider"
)

// CheckedProxy is one reverse proxy in a health check's report.
type CheckedProxy struct {
	healthcheck.Verdict
	Name      string        `json:"name"`
	PublicIP  netip.Addr    `json:"public_ip"`
	PrivateIP netip.Addr    `json:"private_ip"`
	Took      time.Duration `json:"took"` // nanoseconds
	Published bool          `json:"published"`
	Holds     int           `json:"webservers"`
}

// keepsProxies reports whether this run keeps the proxies' records in DNS: of
// several autoscalers, who keeps shard 1. Two that saw a proxy differently would
// else publish and withdraw it by turns.
func (a *Autoscaler) keepsProxies() bool { return a.Proxies != nil && a.Shard == 1 }

// gatherProxies reads what is known of the proxies.
func (a *Autoscaler) gatherProxies(ctx context.Context, h *health) (err error) {
	if a.Proxies == nil {
		return nil
	}
	if h.book, err = a.readProxies(ctx); err != nil {
		return err
	}
	h.proxies = a.proxiesOf(h.book)
	if few := max(1, a.Proxies.Count); len(h.proxies) < few {
		a.event(events.ProxyMissing, "", "%d proxies are known, and there should be %d", len(h.proxies), few)
	}
	return nil
}

// judgeProxies probes the proxies and judges them by the rules of webservers.
// Where no webserver passed, or so many fail that the fault is taken to be ours,
// what is seen of the proxies is no better.
func (a *Autoscaler) judgeProxies(ctx context.Context, h *health) {
	if !a.keepsProxies() {
		return
	}
	inDNS := map[netip.Addr]bool{}
	for _, r := range h.records {
		inDNS[r.Address] = true
	}
	limits := a.Limits
	limits.PauseDNS, limits.NeverEnd = h.limits.PauseDNS, true
	limits.Strikes, limits.WithdrawAt, limits.MinPublished = a.Proxies.Strikes, a.Proxies.Strikes, a.Proxies.MinPublished
	limits.Grace, limits.StalledAfter, limits.Published = 0, 0, 0
	if h.blind() {
		limits.SelfCheckMin, limits.SelfCheckPercent = 1, 0
	}
	targets := make([]healthcheck.Target, len(h.proxies))
	for i, p := range h.proxies {
		targets[i] = healthcheck.Target{Name: p.Name, Address: p.PrivateIP}
	}
	results := a.Proxies.Prober.ProbeHTTPS(ctx, targets)
	members := make([]healthcheck.Member, len(h.proxies))
	for i, p := range h.proxies {
		k := h.book.Proxies[p.PrivateIP]
		members[i] = healthcheck.Member{
			Name: p.PrivateIP.String(), Probed: true, Result: results[i], Published: inDNS[p.PublicIP],
			EverOnline: k.Online, Strikes: k.Strikes, Created: k.FirstSeen,
		}
		if inDNS[p.PublicIP] {
			limits.Published++
		}
	}
	verdicts := map[string]healthcheck.Verdict{}
	for _, v := range healthcheck.Judge(a.Now(), members, limits) {
		verdicts[v.Name] = v
	}
	for i, p := range h.proxies {
		h.fronts = append(h.fronts, CheckedProxy{
			Verdict: verdicts[p.PrivateIP.String()], Name: p.Name, PublicIP: p.PublicIP, PrivateIP: p.PrivateIP,
			Took: results[i].Took, Published: inDNS[p.PublicIP], Holds: h.book.Proxies[p.PrivateIP].Holds(),
		})
	}
}

// blind reports whether this run shows that our own eyes do not work.
func (h *health) blind() bool {
	judged, passed := 0, 0
	for _, c := range h.verdicts {
		switch {
		case c.Brake == healthcheck.BrakeSelfCheck:
			return true
		case c.State == healthcheck.StateHealthy:
			passed++
			judged++
		case c.State == healthcheck.StateFailing:
			judged++
		}
	}
	return judged > 0 && passed == 0
}

// recordProxies writes the proxies' strikes down before anything follows from
// them, and forgets those that are gone.
func (a *Autoscaler) recordProxies(ctx context.Context, h *health) error {
	if a.Proxies == nil {
		return nil
	}
	before := h.book.Proxies
	gone, missing := a.absent(ctx, h.book)
	_, err := a.changeBook(ctx, func(b *proxyBook) (bool, error) {
		changed := a.forgetProxies(b, gone, missing)
		for _, c := range h.fronts {
			k, known := b.Proxies[c.PrivateIP]
			next := k
			next.Strikes, next.State, next.Detail = c.Strikes, string(c.State), c.Why
			next.Online = k.Online || c.State == healthcheck.StateHealthy
			next.Name, next.PublicIP = c.Name, c.PublicIP
			if known && (next.Strikes != k.Strikes || next.State != k.State || next.Detail != k.Detail || next.Online != k.Online || next.PublicIP != k.PublicIP) {
				b.Proxies[c.PrivateIP] = next
				changed = true
			}
		}
		return changed, nil
	})
	for _, c := range h.fronts {
		switch k := before[c.PrivateIP]; {
		case c.State == healthcheck.StateHealthy && (!k.Online || k.Strikes > 0):
			a.event(events.ProxyUp, c.Name, "%s", c.Why)
		case c.Strikes > k.Strikes:
			a.event(events.ProxyFailing, c.Name, "%s", c.Why)
		}
		if c.Brake != "" {
			a.event(events.Reason("BRAKE_"+c.Brake), c.Name, "%s", c.Why)
		}
	}
	return err
}

// actOnProxies brings the proxies to what was decided, and DNS to the proxies.
// That a proxy does not take part is an event and keeps nobody else from it.
func (a *Autoscaler) actOnProxies(ctx context.Context, h *health) error {
	if a.Proxies == nil {
		return nil
	}
	var errs []error
	known := func(context.Context) ([]provider.Record, error) { return h.records, nil }
	gone, err := a.gone(h)
	if err != nil {
		return err
	}
	if !h.limits.PauseDNS {
		errs = append(errs, settled(a.front(known, h.limits.MinPublished).withdraw(ctx, ": its server is gone", gone...)),
			settled(a.syncProxies(ctx, h.limits.MinPublished)))
	}
	if h.book, _, err = a.readBook(); err != nil {
		return errors.Join(append(errs, err)...)
	}
	errs = append(errs, a.publishProxies(ctx, h), a.retireRecords(ctx, h))
	return errors.Join(errs...)
}

// gone are the webservers that the proxies should have and that are gone.
func (a *Autoscaler) gone(h *health) ([]who, error) {
	b, _, err := a.readBook()
	if err != nil {
		return nil, err
	}
	inv, _, err := a.Inventory()
	if err != nil {
		return nil, err
	}
	known := inv.Servers
	builds, err := a.Builds()
	if err != nil {
		return nil, err
	}
	for _, x := range builds { // not in the inventory before a listing shows them
		if x.ID != "" {
			known[x.ID] = Known{ID: x.ID, PrivateIP: x.PrivateIP}
		}
	}
	for _, s := range h.servers {
		if _, there := known[s.ID]; !there && a.own(s.Name) {
			known[s.ID] = Known{ID: s.ID, PrivateIP: s.PrivateIP}
		}
	}
	return b.stale(known), nil
}

// current reports whether a proxy has confirmed what is wanted now.
func (a *Autoscaler) current(b proxyBook, p netip.Addr) bool {
	k, known := b.Proxies[p]
	return known && !k.Unread && k.Hash == a.Proxies.Fingerprint(a.Shard, b.addresses())
}

// publishProxies keeps DNS to the proxies that are up. One that has not got what
// it shall have is not put there: it may send visitors to webservers that are
// gone, or be somebody else's.
func (a *Autoscaler) publishProxies(ctx context.Context, h *health) error {
	var errs []error
	for i, c := range h.fronts {
		if !c.Publish || !a.current(h.book, c.PrivateIP) {
			continue
		}
		if err := a.addProxyRecord(ctx, c); err != nil {
			errs = append(errs, err)
			continue
		}
		h.fronts[i].Published = true
	}
	if len(errs) > 0 { // the floor counts on them
		return errors.Join(errs...)
	}
	left := 0
	for _, c := range h.fronts {
		if c.Published {
			left++
		}
	}
	for i, c := range h.fronts {
		if !c.Withdraw || left <= a.Proxies.MinPublished {
			continue
		}
		for _, r := range h.records {
			if r.Address != c.PublicIP {
				continue
			}
			if err := a.removeRecord(ctx, r); err != nil {
				a.event(events.DNSFailed, c.Name, "%v", err)
				errs = append(errs, err)
				continue
			}
			a.event(events.ProxyDown, c.Name, "%s is out of DNS: %s", r.Address, c.Why)
		}
		h.fronts[i].Published = false
		left--
	}
	return errors.Join(errs...)
}

func (a *Autoscaler) addProxyRecord(ctx context.Context, c CheckedProxy) error {
	if err := a.mayAct(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	if err := a.DNS.AddRecord(ctx, a.HostName, c.PublicIP, a.TTL); err != nil {
		a.event(events.DNSFailed, c.Name, "%v", err)
		return err
	}
	a.event(events.Published, c.Name, "%s", c.PublicIP)
	return nil
}

// retireRecords takes own webservers' addresses out of DNS, from before there
// were proxies: those that are reached through a proxy now, and the sick as long
// as others are left.
func (a *Autoscaler) retireRecords(ctx context.Context, h *health) error {
	if h.limits.PauseDNS {
		return nil
	}
	published := map[netip.Addr]bool{}
	for _, r := range h.records {
		published[r.Address] = true
	}
	for _, c := range h.fronts {
		published[c.PublicIP] = c.Published
	}
	reached := func(s provider.Server) bool {
		return slices.ContainsFunc(h.proxies, func(p Proxy) bool {
			return published[p.PublicIP] && a.current(h.book, p.PrivateIP) && slices.Contains(h.book.Proxies[p.PrivateIP].May, s.PrivateIP)
		})
	}
	spare := len(h.records) - max(1, h.limits.MinPublished)
	var errs []error
	for _, s := range h.members {
		for _, r := range h.records {
			sick := h.verdicts[s.ID].Strikes > 0 && spare > 0
			if r.Address != s.PublicIP || !reached(s) && !sick {
				continue
			}
			spare--
			if err := a.removeRecord(ctx, r); err != nil {
				a.event(events.DNSFailed, s.Name, "%v", err)
				errs = append(errs, err)
				continue
			}
			a.event(events.Withdrawn, s.Name, "%s: visitors come through the proxies", r.Address)
		}
	}
	return errors.Join(errs...)
}
