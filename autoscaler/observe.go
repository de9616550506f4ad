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
	"adt/provider"
)

// Why an observation is no basis for a plan.
var (
	// ErrNotObserved: the provider could not be asked.
	ErrNotObserved = errors.New("the fleet could not be observed")
	// ErrImplausible: what the provider says contradicts what is known.
	ErrImplausible = errors.New("the listing is implausible")
)

// looksBeforeGone is in how many listings in a row a known server must be
// missing, besides for MissingAfter, before it is believed to be gone.
const looksBeforeGone = 3

// listTimeout bounds one listing, all pages.
const listTimeout = 30 * time.Second

// list asks the provider once, and drops what a lying listing has twice.
func (a *Autoscaler) list(ctx context.Context) ([]provider.Server, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	servers, err := a.Servers.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotObserved, err)
	}
	if a.Proxies != nil {
		listed := a.ProxiesIn(servers)
		a.listed.Store(&listed)
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(servers, func(s provider.Server) bool {
		_, ok := a.Fleet.Parse(s.Name)
		drop := !ok || seen[s.ID]
		seen[s.ID] = true
		return drop
	}), nil
}

// records asks DNS once. A record that a lying listing has twice counts once:
// the floor under DNS is reckoned from their number.
func (a *Autoscaler) records(ctx context.Context) ([]provider.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	records, err := a.DNS.Records(ctx, a.HostName)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotObserved, err)
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(records, func(r provider.Record) bool {
		drop := seen[r.ID]
		seen[r.ID] = true
		return drop
	}), nil
}

// survey lists the servers and compares them with the inventory, which it
// brings up to date. A listing that lacks a server which still answers is a
// lie. One that lacks a server which does not answer is believed when it has
// lacked it for MissingAfter, unless so many are missing that more likely the
// listing and the network fail together (the self check's numbers).
func (a *Autoscaler) survey(ctx context.Context) ([]provider.Server, error) {
	began := a.Now()
	servers, err := a.list(ctx)
	if err != nil {
		a.event(events.ObservationFailed, "", "%v", err)
		return nil, err
	}
	// In this order, since the other command may end servers meanwhile: it
	// records the end before it destroys, and forgets the record last.
	final, err := a.endingForGood()
	if err != nil {
		return nil, err
	}
	inv, looked, err := a.Inventory()
	if err != nil {
		return nil, err
	}
	now := a.Now()
	servers = slices.DeleteFunc(servers, func(s provider.Server) bool { return inv.departed(s.ID, now) })
	listed := map[string]bool{}
	for _, s := range servers {
		listed[s.ID] = true
	}
	var missing []Known
	for id, k := range inv.Servers {
		if !listed[id] && !final[id] && k.FirstSeen.Before(began) {
			missing = append(missing, k)
		}
	}
	slices.SortFunc(missing, func(x, y Known) int { return strings.Compare(x.ID, y.ID) })

	var doubts []string
	var gone []Known
	if !looked {
		// Nothing is remembered of a look in doubt: the next one is the first again.
		if doubts = a.doubtsFirstTime(ctx, servers); len(doubts) > 0 {
			return nil, a.implausible(doubts)
		}
	}
	tooMany := len(missing) >= max(1, a.Limits.SelfCheckMin) && len(missing)*100 > a.Limits.SelfCheckPercent*len(inv.Servers)
	answers := a.answers(ctx, missing)
	for i, k := range missing {
		since, looks := k.MissingSince, k.MissingLooks+1
		if k.MissingLooks == 0 {
			since = now
		}
		switch {
		case answers[i]:
			doubts = append(doubts, fmt.Sprintf("%s is not listed and answers at %s", k.Name, k.PrivateIP))
		case tooMany:
			doubts = append(doubts, fmt.Sprintf("%s is not listed, nor are %d of %d others", k.Name, len(missing)-1, len(inv.Servers)-1))
		case looks < looksBeforeGone || age(now, since) < a.MissingAfter:
			doubts = append(doubts, fmt.Sprintf("%s is not listed since %s", k.Name, age(now, since).Round(time.Second)))
		default:
			gone = append(gone, k)
		}
	}

	err = a.remember(ctx, func(inv *Inventory) bool {
		changed := !looked
		for _, s := range servers {
			if !a.own(s.Name) || final[s.ID] || inv.departed(s.ID, now) {
				continue
			}
			k, known := inv.Servers[s.ID]
			next := k
			if !known {
				next = Known{ID: s.ID, FirstSeen: now}
			}
			next.Name, next.MissingLooks, next.MissingSince = s.Name, 0, time.Time{}
			if s.Addressed() { // a listing may lose what it had
				next.PublicIP, next.PrivateIP = s.PublicIP, s.PrivateIP
			}
			if next != k {
				inv.Servers[s.ID] = next
				changed = true
			}
		}
		for _, m := range missing {
			k, known := inv.Servers[m.ID]
			if !known {
				continue
			}
			if k.MissingLooks++; k.MissingLooks == 1 {
				k.MissingSince = now
			}
			inv.Servers[m.ID] = k
			changed = true
		}
		for _, g := range gone {
			delete(inv.Servers, g.ID)
			if g.PublicIP.IsValid() { // its record has waited long enough
				inv.Unlisted[g.PublicIP] = g.MissingSince
			}
		}
		return changed
	})
	if err != nil {
		return nil, err
	}
	for _, g := range gone {
		if a.preview != nil {
			break // a dry run: the next real one finds it gone
		}
		a.event(events.ServerVanished, g.Name, "not listed for %s and not answering: it is gone", age(now, g.MissingSince).Round(time.Second))
	}
	if len(doubts) > 0 {
		return nil, a.implausible(doubts)
	}
	return servers, nil
}

func (a *Autoscaler) implausible(doubts []string) error {
	err := fmt.Errorf("%w: %s", ErrImplausible, strings.Join(doubts, "; "))
	a.event(events.ListingImplausible, "", "%v", err)
	return err
}

// endingForGood returns the ids of servers that adt is destroying or has
// destroyed: the listing may have them or not.
func (a *Autoscaler) endingForGood() (map[string]bool, error) {
	builds, ends, err := a.inProgress()
	if err != nil {
		return nil, err
	}
	final := map[string]bool{}
	for _, t := range ends {
		final[t.ID] = t.Final()
	}
	for _, b := range builds {
		final[b.ID] = b.Phase == Condemned
	}
	return final, nil
}

// answers reports which of the known servers answer as themselves.
func (a *Autoscaler) answers(ctx context.Context, known []Known) []bool {
	out := make([]bool, len(known))
	done := make(chan int)
	for i, k := range known {
		go func() {
			if k.PrivateIP.IsValid() {
				out[i] = a.Prober.Answers(ctx, healthcheck.Target{Name: k.Name, Address: k.PrivateIP})
			}
			done <- i
		}()
	}
	for range known {
		<-done
	}
	return out
}

// doubtsFirstTime is for a runtime directory without memory: then DNS is asked
// what ought to be there.
func (a *Autoscaler) doubtsFirstTime(ctx context.Context, servers []provider.Server) []string {
	records, err := a.records(ctx)
	if err != nil {
		return []string{fmt.Sprintf("nothing is known of the fleet yet, and DNS cannot be asked: %v", err)}
	}
	listed := map[netip.Addr]bool{}
	for _, s := range servers {
		listed[s.PublicIP] = true
	}
	for _, p := range a.proxiesOf(proxyBook{}) {
		listed[p.PublicIP] = true
	}
	var unlisted []Known
	for _, r := range records {
		if !listed[r.Address] {
			unlisted = append(unlisted, Known{Name: r.Address.String(), PrivateIP: r.Address})
		}
	}
	var doubts []string
	for i, answers := range a.answers(ctx, unlisted) {
		if answers {
			doubts = append(doubts, fmt.Sprintf("%s is in DNS and answers, and no listed server has it", unlisted[i].Name))
		}
	}
	return doubts
}

// observe is everything that a plan for scaling is made from.
func (a *Autoscaler) observe(ctx context.Context) (Observation, error) {
	var o Observation
	var err error
	if o.Cycle, err = a.cycle(); err != nil {
		return o, err
	}
	if err := a.askStore(ctx, &o); err != nil {
		return o, err
	}
	// Before the holds: if what is protected is lost, everything is paused.
	if o.Protected, err = a.Protected(ctx); err != nil {
		return o, err
	}
	h, err := a.holds(ctx)
	if err != nil {
		return o, err
	}
	o.PausedScale, o.PausedEnd = h.scale, h.end
	if o.Servers, err = a.survey(ctx); err != nil {
		return o, err
	}
	if err := a.inherit(ctx, o.Servers); err != nil {
		return o, err
	}
	if a.Scarce != nil {
		o.Scarce = a.Scarce() // known from the listing
	}
	return o, a.recall(ctx, &o)
}

// recall reads the records into an observation.
func (a *Autoscaler) recall(ctx context.Context, o *Observation) (err error) {
	if o.Builds, o.Terminations, err = a.inProgress(); err != nil {
		return err
	}
	if o.Protected, err = a.Protected(ctx); err != nil {
		return err
	}
	inv, _, err := a.Inventory()
	if err != nil {
		return err
	}
	o.Known, o.Reached = inv.Servers, inv.Reached
	_, err = a.Dir.Read(backoffFile, &o.Backoff)
	return err
}

// State is all that the runtime directory says.
type State struct {
	Cycle        *Cycle
	Paused       map[string]Pause
	Backoff      Backoff
	Builds       []Build
	Terminations []Termination
	Known        map[string]Known // by id
	Protected    map[string]bool  // by name
	LastProfile  *Profile         // as the datastore said it last; nil is none, or that it never said any
	LastSeen     time.Time        // when that was; zero is never
	Proxies      []KnownProxy     // in the order of their addresses
}

// Recall reads the state without asking anybody.
func (a *Autoscaler) Recall(ctx context.Context) (State, error) {
	var o Observation
	if err := a.recall(ctx, &o); err != nil {
		return State{}, err
	}
	s := State{Backoff: o.Backoff, Builds: o.Builds, Terminations: o.Terminations, Known: o.Known, Protected: o.Protected}
	var err error
	if s.Cycle, err = a.cycle(); err != nil {
		return State{}, err
	}
	if s.Paused, err = a.Pauses(ctx); err != nil {
		return State{}, err
	}
	var last lastKnown
	if _, err := a.Dir.Read(storeFile, &last); err != nil {
		return s, err
	}
	s.LastProfile, s.LastSeen = last.Profile, last.Seen
	b, _, err := a.readBook()
	s.Proxies = b.sorted()
	return s, err
}

// AcceptListing forgets the known servers that the provider does not list: an
// operator vouches for the listing. It returns their names.
func (a *Autoscaler) AcceptListing(ctx context.Context) ([]string, error) {
	servers, err := a.list(ctx)
	if err != nil {
		return nil, err
	}
	var gone []string
	err = a.remember(ctx, func(inv *Inventory) bool {
		for id, k := range inv.Servers {
			if !lists(servers, id) {
				gone = append(gone, k.Name)
				delete(inv.Servers, id)
			}
		}
		return true
	})
	for _, name := range gone {
		a.event(events.ServerVanished, name, "an operator accepted the listing")
	}
	return gone, err
}
