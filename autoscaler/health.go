package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"adt/events"
	"adt/healthcheck"
	"adt/lock"
	"adt/provider"
)

// Checked is one row of a health check's report.
type Checked struct {
	healthcheck.Verdict
	ID        string        `json:"id"`
	Server    string        `json:"server"`
	PublicIP  netip.Addr    `json:"public_ip"`
	Rung      string        `json:"rung"`
	Took      time.Duration `json:"took"` // nanoseconds
	Published bool          `json:"published"`
}

// HealthReport is what a health check found and decided.
type HealthReport struct {
	Checked []Checked `json:"checked"`
	Purged  []string  `json:"purged"` // DNS addresses whose server is gone
	// Proxies are those that this run judged: they are kept by who keeps shard 1.
	Proxies []CheckedProxy `json:"proxies,omitempty"`
	Held    bool           `json:"held"` // something was due and a brake forbade it
	Figures Figures        `json:"figures"`
}

// health is all that a health check observed.
type health struct {
	servers  []provider.Server
	records  []provider.Record
	known    map[string]Known
	unlisted map[netip.Addr]time.Time
	ends     map[string]Termination
	guarded  map[string]bool   // names of protected webservers
	members  []provider.Server // of the own shard, to be judged
	building map[string]bool   // ids of members that are being built
	limits   healthcheck.Limits
	verdicts map[string]Checked // by id
	purge    []provider.Record
	keep     []provider.Record // unlisted ones that stay for now
	builds   int

	proxies []Proxy
	book    proxyBook // what is known of them
	fronts  []CheckedProxy
}

// HealthPlan probes and judges, and changes nothing.
func (a *Autoscaler) HealthPlan(ctx context.Context) (HealthReport, error) {
	a.preview = &Inventory{}
	defer func() { a.preview = nil }()
	h, err := a.examine(ctx)
	if err != nil {
		return HealthReport{}, err
	}
	return h.report(), nil
}

// Health is one tick: probe all own webservers at once, judge, record the
// strikes, publish, withdraw, and record whose end it is. The error wraps
// lock.ErrHeld when another health check runs.
func (a *Autoscaler) Health(ctx context.Context) (HealthReport, error) {
	release, err := a.lock(healthLock)
	if err != nil {
		return HealthReport{}, err
	}
	defer release()
	h, err := a.examine(ctx)
	if err != nil {
		return HealthReport{}, err
	}
	report := h.report()
	if report.Figures, err = a.figures(h, time.Now()); err != nil {
		return report, err
	}
	if err := a.recordHealth(ctx, h); err != nil {
		return report, err
	}
	if err := a.actOnHealth(ctx, h); err != nil {
		return report, err
	}
	// A running scale takes the new terminations up in its next tick.
	if err := a.endSick(ctx); err != nil && !errors.Is(err, lock.ErrHeld) {
		return report, err
	}
	return report, nil
}

// sick chooses the terminations that are due for health.
func sick(t Termination) bool { return t.Cause == Unhealthy && t.Phase != Waiting }

// endSick ends what was condemned, if no scale is at work that would. It takes
// no builds on: they are scale's, and would keep the health check for minutes.
func (a *Autoscaler) endSick(ctx context.Context) error {
	if ends, err := a.Terminations(); err != nil || !slices.ContainsFunc(ends, sick) {
		return err
	}
	release, err := a.lock(scaleLock)
	if err != nil {
		return err
	}
	defer release()
	ends, err := a.Terminations() // under the lock: none has gone on since
	if err != nil {
		return err
	}
	ends = slices.DeleteFunc(ends, func(t Termination) bool { return !sick(t) })
	return a.carryOn(ctx, a.Now().Add(a.Budget/2), nil, ends)
}

// examine observes, probes and judges.
func (a *Autoscaler) examine(ctx context.Context) (*health, error) {
	h := &health{ends: map[string]Termination{}, building: map[string]bool{}}
	if a.fence != nil && a.board == nil {
		return nil, fmt.Errorf("%w: the datastore does not answer", ErrNotObserved)
	}
	why, err := a.forbidden(ctx)
	if err != nil {
		a.storeFault(err)
		return nil, fmt.Errorf("%w: %w", ErrNotObserved, err)
	}
	a.setHold(why)
	// The records first: whatever is in them then has a server in the listing
	// that comes after.
	if h.records, err = a.records(ctx); err != nil {
		a.event(events.ObservationFailed, "", "%v", err)
		return nil, err
	}
	if h.servers, err = a.survey(ctx); err != nil {
		return nil, err
	}
	if err := a.inherit(ctx, h.servers); err != nil {
		return nil, err
	}
	if err := a.gather(ctx, h); err != nil {
		return nil, err
	}
	a.probe(ctx, h)
	return h, nil
}

// gather reads the state that the judgement needs.
func (a *Autoscaler) gather(ctx context.Context, h *health) error {
	builds, ends, err := a.inProgress()
	if err != nil {
		return err
	}
	inv, _, err := a.Inventory()
	if err != nil {
		return err
	}
	// Before the holds: if what is protected is lost, everything is paused.
	if h.guarded, err = a.Protected(ctx); err != nil {
		return err
	}
	holds, err := a.holds(ctx)
	if err != nil {
		return err
	}
	h.builds = len(builds)
	h.known, h.unlisted = inv.Servers, inv.Unlisted
	h.limits = a.Limits
	h.limits.PauseTerminate, h.limits.PauseDNS = holds.end != "", holds.dns != ""
	for _, t := range ends {
		h.ends[t.ID] = t
		switch {
		case t.Cause == Unhealthy && t.Phase == Waiting:
			h.limits.WantReplacement++
		case t.Cause == Unhealthy:
			h.limits.TerminatingForHealth++
		}
	}
	inBuild := func(s provider.Server) bool {
		return slices.ContainsFunc(builds, func(b Build) bool { return b.ID == s.ID || b.Name == s.Name })
	}
	for _, s := range h.servers {
		if t, ending := h.ends[s.ID]; !a.own(s.Name) || ending && t.Phase != Waiting {
			continue
		}
		h.members = append(h.members, s)
		h.building[s.ID] = inBuild(s) || h.known[s.ID].Unverified
	}
	if err := a.gatherProxies(ctx, h); err != nil {
		return err
	}
	a.sortRecords(ctx, h)
	if a.Proxies != nil {
		// A proxy without webservers is of no use to anybody, whatever DNS may do without.
		h.limits.Published, h.limits.MinPublished = h.book.published(h.proxies), max(1, h.limits.MinPublished)
	}
	return nil
}

// sortRecords counts who is in DNS, and sets apart the records that belong to
// no listed server. Those go when they have been unlisted for MissingAfter and
// do not answer; the last MinPublished records stay in any case.
func (a *Autoscaler) sortRecords(ctx context.Context, h *health) {
	live := map[netip.Addr]bool{}
	for _, s := range h.servers {
		if t, ending := h.ends[s.ID]; !ending || t.Phase == Waiting {
			live[s.PublicIP] = true
		}
	}
	listed := map[netip.Addr]bool{}
	for _, s := range h.servers {
		listed[s.PublicIP] = true
	}
	for _, p := range h.proxies {
		listed[p.PublicIP] = true
	}
	now := a.Now()
	published := map[netip.Addr]bool{}
	var unlisted []Known
	var stray []provider.Record
	for _, r := range h.records {
		switch {
		case live[r.Address]:
			published[r.Address] = true
		case !listed[r.Address]:
			stray = append(stray, r)
			unlisted = append(unlisted, Known{PrivateIP: r.Address})
		}
	}
	h.limits.Published = len(published)
	spare := len(h.records) - h.limits.MinPublished
	answers := a.answers(ctx, unlisted)
	for i, r := range stray {
		since, seen := h.unlisted[r.Address]
		if !seen || age(now, since) < a.MissingAfter || answers[i] || spare <= 0 || h.limits.PauseDNS {
			h.keep = append(h.keep, r)
			continue
		}
		spare--
		h.purge = append(h.purge, r)
	}
}

// probe asks all members at once and judges them.
func (a *Autoscaler) probe(ctx context.Context, h *health) {
	published := map[netip.Addr]bool{}
	for _, r := range h.records {
		published[r.Address] = a.Proxies == nil
	}
	for _, s := range h.members {
		if a.Proxies != nil {
			published[s.PublicIP] = h.book.Wanted[s.PrivateIP] == s.ID
		}
	}
	var targets []healthcheck.Target
	var probed []int
	members := make([]healthcheck.Member, len(h.members))
	for i, s := range h.members {
		k := h.known[s.ID]
		name, _ := a.Fleet.Parse(s.Name)
		members[i] = healthcheck.Member{
			Name:    s.ID, // two servers may bear one name
			Initial: name.Initial, Protected: h.guarded[s.Name], Published: published[s.PublicIP],
			Building: h.building[s.ID], EverOnline: k.Online, Strikes: k.Strikes, Created: k.FirstSeen,
		}
		if !h.building[s.ID] && s.Addressed() {
			targets = append(targets, healthcheck.Target{Name: s.Name, Address: s.PrivateIP})
			probed = append(probed, i)
		}
	}
	for j, r := range a.Prober.ProbeAll(ctx, targets) {
		members[probed[j]].Probed, members[probed[j]].Result = true, r
	}
	h.verdicts = map[string]Checked{}
	for _, v := range healthcheck.Judge(a.Now(), members, h.limits) {
		h.verdicts[v.Name] = Checked{Verdict: v, ID: v.Name}
	}
	for i, s := range h.members {
		c := h.verdicts[s.ID]
		c.Server, c.PublicIP, c.Published = s.Name, s.PublicIP, members[i].Published
		c.Rung, c.Took = members[i].Result.Rung.String(), members[i].Result.Took
		h.verdicts[s.ID] = c
	}
	a.judgeProxies(ctx, h)
}

func (h *health) report() HealthReport {
	r := HealthReport{Checked: []Checked{}, Purged: []string{}}
	for _, s := range h.members {
		c := h.verdicts[s.ID]
		r.Checked = append(r.Checked, c)
		r.Held = r.Held || c.Brake != ""
	}
	slices.SortFunc(r.Checked, func(a, b Checked) int { return strings.Compare(a.Server+a.ID, b.Server+b.ID) })
	for _, p := range h.purge {
		r.Purged = append(r.Purged, p.Address.String())
	}
	r.Proxies = h.fronts
	for _, c := range h.fronts {
		r.Held = r.Held || c.Brake != ""
	}
	return r
}

// recordHealth writes the strikes down before anything follows from them.
func (a *Autoscaler) recordHealth(ctx context.Context, h *health) error {
	now := a.Now()
	shared := a.shareHealthy(ctx, h)
	err := a.remember(ctx, func(inv *Inventory) bool {
		for id, c := range h.verdicts {
			k, ok := inv.Servers[id]
			if !ok {
				continue // ended meanwhile
			}
			k.State, k.Detail, k.Strikes, k.Checked = string(c.State), c.Why, c.Strikes, now
			k.Online = k.Online || c.State == healthcheck.StateHealthy
			k.Shared = k.Shared || shared[id]
			inv.Servers[id] = k
		}
		kept := map[netip.Addr]time.Time{}
		for _, r := range h.keep {
			since, seen := h.unlisted[r.Address]
			if !seen {
				since = now
			}
			kept[r.Address] = since
		}
		inv.Unlisted = kept
		return true
	})
	if err != nil {
		return err
	}
	if err := a.recordProxies(ctx, h); err != nil {
		return err
	}
	a.mirror(h)
	for _, s := range h.members {
		c, k := h.verdicts[s.ID], h.known[s.ID]
		switch {
		case c.State == healthcheck.StateHealthy && (!k.Online || k.Strikes > 0):
			a.event(events.ServerHealthy, s.Name, "%s", c.Why)
			if !k.Online {
				a.note(ctx, "beenonline/"+s.PrivateIP.String())
			}
		case c.Strikes > k.Strikes:
			a.event(events.Strike, s.Name, "%s", c.Why)
		}
		if c.State == healthcheck.StateStalled && k.State != string(healthcheck.StateStalled) {
			a.event(events.OrphanFound, s.Name, "server %s never passed a check and is in no record of a build", s.ID)
		}
	}
	return nil
}

// mirror writes the shell toolkit's files about the last check, for operators
// and scripts; nothing of adt reads them.
func (a *Autoscaler) mirror(h *health) {
	var processed, ssh, curl, strikes strings.Builder
	for _, s := range h.members {
		c := h.verdicts[s.ID]
		line := s.PrivateIP.String() + "\n"
		processed.WriteString(line)
		switch c.Rung {
		case healthcheck.RungTCP.String(), healthcheck.RungSSH.String():
			ssh.WriteString(line)
		case healthcheck.RungHTTPS.String():
			curl.WriteString(line)
		}
		strikes.WriteString(strings.Repeat(line, c.Strikes))
	}
	for name, text := range map[string]string{
		"probed_ips/processed_ips.dat":        processed.String(),
		"probed_ips/failed_probe_ssh_ips.dat": ssh.String(), "probed_ips/failed_probe_curl_ips.dat": curl.String(),
		"potentialenders/listofipstoend.dat": strikes.String(),
	} {
		_ = a.Dir.WriteText(name, text)
	}
}

// settled leaves out what is recorded and only has to reach a proxy still.
func settled(err error) error {
	if errors.Is(err, errUndelivered) {
		return nil
	}
	return err
}

// actOnHealth publishes, withdraws, purges and records ends, in this order: the
// floor under DNS counts on what was published before.
func (a *Autoscaler) actOnHealth(ctx context.Context, h *health) error {
	var publish, withdraw []who
	for _, s := range h.members {
		if h.verdicts[s.ID].Publish {
			publish = append(publish, whoIs(s))
		}
		if h.verdicts[s.ID].Withdraw {
			withdraw = append(withdraw, whoIs(s))
		}
	}
	var errs []error
	known := func(context.Context) ([]provider.Record, error) { return h.records, nil }
	f := a.front(known, h.limits.MinPublished)
	err := settled(f.publish(ctx, publish...))
	if err == nil {
		err = settled(f.withdraw(ctx, ": its health check failed", withdraw...))
	}
	errs = append(errs, err, a.actOnProxies(ctx, h))
	for _, r := range h.purge {
		if err := a.removeRecord(ctx, r); err != nil {
			a.event(events.DNSFailed, r.Address.String(), "%v", err)
			errs = append(errs, err)
			continue
		}
		a.event(events.RecordPurged, r.Address.String(), "no server has it")
	}
	for _, r := range h.keep {
		a.event(events.RecordHeld, r.Address.String(), "no listed server has this address; it is kept for now")
	}
	for _, s := range h.members {
		errs = append(errs, a.actOnVerdict(ctx, s, h))
	}
	return errors.Join(errs...)
}

func (a *Autoscaler) actOnVerdict(ctx context.Context, s provider.Server, h *health) error {
	c := h.verdicts[s.ID]
	if c.Brake != "" {
		a.event(events.Reason("BRAKE_"+c.Brake), s.Name, "%s", c.Why)
	}
	switch t, waiting := h.ends[s.ID]; {
	case c.End == healthcheck.EndTerminate && waiting:
		return a.proceed(ctx, Action{ID: s.ID, Name: s.Name, Why: c.Why})
	case c.End == healthcheck.EndTerminate:
		return a.startEnd(ctx, s, Unhealthy, Decided, c.Why)
	case c.End == healthcheck.EndReplaceFirst:
		return a.startEnd(ctx, s, Unhealthy, Waiting, c.Why)
	case waiting && t.Cause == Unhealthy && c.State == healthcheck.StateHealthy:
		return a.change(ctx, func() error {
			t, found, err := a.termination(s.ID)
			if err != nil || !found || t.Phase != Waiting {
				return err
			}
			a.event(events.TerminationCancel, s.Name, "it passes its checks again")
			return a.Dir.Remove(endFile(s.ID))
		})
	}
	return nil
}

// Replace asks for a webserver to be replaced: a new one is built first, then
// this one is drained and terminated.
func (a *Autoscaler) Replace(ctx context.Context, name string) error {
	profile, _, err := a.Profiles.Get(ctx, a.Shard)
	if err != nil {
		return err
	}
	if profile == nil {
		return fmt.Errorf("autoscaler %d has no profile, so nothing would be built in its place (adt scale --count N sets one)", a.Shard)
	}
	servers, err := a.survey(ctx)
	if err != nil {
		return err
	}
	for _, s := range servers {
		if s.Name != name {
			continue
		}
		n, ok := a.Fleet.Parse(name)
		switch guarded, err := a.Protected(ctx); {
		case err != nil:
			return err
		case !ok || n.Shard != a.Shard:
			return fmt.Errorf("%w: %s belongs to autoscaler %d, this is %d", ErrRefused, name, n.Shard, a.Shard)
		case n.Initial:
			return fmt.Errorf("%w: %s is an initial webserver; adt never terminates those", ErrRefused, name)
		case guarded[name]:
			return fmt.Errorf("%w: %s is protected (adt unprotect %s)", ErrRefused, name, name)
		}
		builds, err := a.Builds()
		if err != nil {
			return err
		}
		if slices.ContainsFunc(builds, func(b Build) bool { return b.Name == name }) {
			return fmt.Errorf("%w: %s is being built", ErrRefused, name)
		}
		a.event(events.ReplaceRequested, name, "a new one is built first")
		return a.startEnd(ctx, s, Replaced, Waiting, "replacement asked for")
	}
	return fmt.Errorf("%w: no webserver is named %s (adt status lists them)", ErrRefused, name)
}

// ErrRefused says that an operator asked for what must not be done.
var ErrRefused = errors.New("refused")
