package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"adt/events"
	"adt/provider"
	"adt/rundir"
)

const (
	allowFile = "allowlist.json"
	allowText = "dbaas_allowed_ips/ip_list.dat" // the shell toolkit's
)

// allowTimeout bounds all that is asked about the list in one go.
const allowTimeout = 20 * time.Second

// silence is what a vendor that is cut short at the end of a run must have had
// to answer, to be held for one that does not.
const silence = 5 * time.Second

// admission is what the builds of one run and its end share: one reads and
// writes the list for all.
type admission struct {
	mu     sync.Mutex
	rec    *allowed                // nil is to be read
	others map[netip.Prefix]bearer // webservers of other autoscalers, as listed
}

// noteOthers takes the webservers of other autoscalers from a listing. Their own
// autoscalers add and remove them; here they are looked after besides.
func (a *Autoscaler) noteOthers(servers []provider.Server) {
	a.admission.mu.Lock()
	defer a.admission.mu.Unlock()
	a.admission.others = map[netip.Prefix]bearer{}
	for _, s := range servers {
		if a.own(s.Name) {
			continue
		}
		for _, e := range a.Database.entries(s.PublicIP, s.PrivateIP) {
			a.admission.others[e] = bearer{Name: s.Name, ID: s.ID, later: true}
		}
	}
}

// allow waits until a new webserver may connect to the database.
func (b *builder) allow(ctx context.Context) error {
	if b.AllowList == nil {
		return nil
	}
	b.admission.mu.Lock()
	defer b.admission.mu.Unlock()
	own := b.Database.entries(b.PublicIP, b.PrivateIP)
	if b.admission.rec != nil && b.admission.rec.has(own) {
		return nil
	}
	if err := b.admit(ctx); err != nil {
		return err
	}
	if rec := b.admission.rec; !rec.has(own) {
		return wait("the managed database's allow list does not have it: %s", rec.Why)
	}
	return nil
}

// tendAllowList makes the list hold whom it shall, at the end of a run. What
// fails is an event and tried again later; only a state file that cannot be read
// or written is an error.
func (a *Autoscaler) tendAllowList(ctx context.Context) error {
	if a.AllowList == nil {
		return nil
	}
	a.admission.mu.Lock()
	defer a.admission.mu.Unlock()
	return a.admit(ctx)
}

// admit compares who is wanted with the last known list, and asks the vendor only
// where they differ or the list is due to be read. The caller holds the lock.
func (a *Autoscaler) admit(ctx context.Context) error {
	run := ctx
	ctx, cancel := context.WithTimeout(ctx, min(allowTimeout, a.callLimit()))
	defer cancel()
	now := a.Now()
	rec, err := a.allowRecord(ctx)
	if err != nil {
		return err
	}
	before := clone(rec)
	builds, ends, err := a.inProgress()
	if err != nil {
		return err
	}
	inv, _, err := a.Inventory()
	if err != nil {
		return err
	}
	gone := func(id string) bool { _, seen := inv.Gone[id]; return seen && id != "" }
	wanted, public := a.wanted(inv, builds, ends, a.admission.others, rec)
	a.publishRegion(ctx, rec, public, gone, now)

	due := rec.due(now, a.Database.Recheck)
	end, _ := release(now, rec.Ours, func(e netip.Prefix) bool { _, w := wanted[e]; return w }, gone, a.patience())
	end = slices.DeleteFunc(end, func(e netip.Prefix) bool { return (rec.Ours[e].Last || rec.Ours[e].Removed) && !due })
	needed := len(missing(wanted, rec.Listed, false)) > 0
	if a.Scarce != nil && a.Scarce() != "" {
		due, end = false, nil // to let somebody in heals, all else can wait
	}
	if !needed && !due && len(end) == 0 || now.Before(rec.Until) {
		return a.keepAllowed(before, rec)
	}
	if err := a.amend(ctx, rec, end, func() map[netip.Prefix]bearer {
		a.learn(ctx, rec, public, now)
		wanted, _ := a.wanted(inv, builds, ends, a.admission.others, rec)
		return wanted
	}); err != nil {
		var held *HeldError
		if errors.As(err, &held) || errors.Is(err, errState) {
			return err
		}
		if run.Err() != nil && age(a.Now(), now) < silence { // cut short: the next run sees what became of it
			return errors.Join(a.keepAllowed(before, rec), wait("%v", run.Err()))
		}
		a.putOff(rec, a.Now(), err) // from now on: a silent vendor took its time
	}
	return a.keepAllowed(before, rec)
}

// errState is about the record, without which nothing is done.
var errState = errors.New("the record of the allow list")

// amend reads the list, and adds and removes what is to be. What is added is
// recorded as ours before.
func (a *Autoscaler) amend(ctx context.Context, rec *allowed, end []netip.Prefix, wantedNow func() map[netip.Prefix]bearer) error {
	listed, err := a.AllowList.Allowed(ctx)
	if err != nil {
		return err
	}
	wanted := wantedNow()
	add := missing(wanted, listed, true)
	var repaired []netip.Prefix
	for _, e := range add {
		if _, ours := rec.Ours[e]; ours && slices.Contains(rec.Listed, e) {
			repaired = append(repaired, e)
		}
		rec.Ours[e] = grant{Name: wanted[e].Name, ID: wanted[e].ID, Shared: rec.Ours[e].Shared}
	}
	for e, who := range wanted {
		g, ours := rec.Ours[e]
		if ours || a.Database.Adopt && a.own(who.Name) && slices.Contains(listed, e) {
			g.Name, g.ID = who.Name, who.ID
			rec.Ours[e] = g
		}
	}
	var remove []netip.Prefix
	for _, e := range end {
		if _, w := wanted[e]; !w && slices.Contains(listed, e) {
			remove = append(remove, e)
		}
	}
	if err := a.writeAllowed(rec); err != nil {
		return err
	}
	a.shareGrants(ctx, rec)
	for _, e := range repaired {
		a.event(events.DatabaseRepaired, wanted[e].Name, "%s had been taken off the list", entryText(e))
	}
	changed := len(add)+len(remove) > 0
	if changed {
		if err := a.mayAct(ctx); err != nil {
			return err
		}
		err := a.AllowList.Change(ctx, add, remove)
		switch {
		case errors.Is(err, provider.ErrLastEntry):
			if listed, err = a.keepLast(ctx, rec, &remove); err != nil {
				return err
			}
			changed = len(add)+len(remove) > 0
		case err != nil:
			return err
		}
	}
	now := a.Now()
	rec.Listed = slices.DeleteFunc(listed, func(e netip.Prefix) bool { return slices.Contains(remove, e) })
	for _, e := range add {
		if !slices.Contains(rec.Listed, e) {
			rec.Listed = append(rec.Listed, e)
		}
		a.event(events.DatabaseAllowed, wanted[e].Name, "%s", entryText(e))
	}
	slices.SortFunc(rec.Listed, netip.Prefix.Compare)
	for _, e := range end {
		g := rec.Ours[e]
		if _, w := wanted[e]; w || g.Last {
			continue
		}
		if slices.Contains(remove, e) { // another writer may bring it back
			g.Removed = true
			rec.Ours[e] = g
			a.event(events.DatabaseRevoked, g.Name, "%s", entryText(e))
			continue
		}
		delete(rec.Ours, e)
		a.forget(ctx, a.grantKey("allowed", entryText(e)))
	}
	rec.Checked, rec.Wrote, rec.Failures, rec.Until, rec.Why = now, changed, 0, time.Time{}, ""
	a.mirrorAllowed(wanted)
	return nil
}

// keepLast finds out which of the entries that were to go has stayed, since an
// empty list would let everybody in.
func (a *Autoscaler) keepLast(ctx context.Context, rec *allowed, remove *[]netip.Prefix) ([]netip.Prefix, error) {
	listed, err := a.AllowList.Allowed(ctx)
	if err != nil {
		return nil, err
	}
	*remove = slices.DeleteFunc(*remove, func(e netip.Prefix) bool {
		stays := slices.Contains(listed, e)
		if g, ours := rec.Ours[e]; stays && ours {
			g.Last = true
			rec.Ours[e] = g
			a.event(events.DatabaseLast, g.Name, "%s stays", entryText(e))
		}
		return stays
	})
	return listed, nil
}

// putOff records a failure, and when it is tried again.
func (a *Autoscaler) putOff(rec *allowed, now time.Time, cause error) {
	const first, longest = 15 * time.Second, 5 * time.Minute
	pause := min(first<<min(rec.Failures, 10), longest, a.Database.Recheck)
	var limit *provider.RateLimitError
	if errors.As(cause, &limit) {
		pause = max(0, time.Until(limit.Until))
	}
	rec.Failures++
	rec.Until, rec.Why = now.Add(pause), cause.Error()
	a.event(events.DatabaseFailed, "", "%v; tried again in %s", cause, pause.Round(time.Second))
}

// learn asks who else there is: machines with databases, and other regions. Who
// does not answer is believed to be as it was.
func (a *Autoscaler) learn(ctx context.Context, rec *allowed, own map[netip.Addr]bearer, now time.Time) {
	if !rec.Learnt.IsZero() && age(now, rec.Learnt) < a.Database.Recheck {
		return
	}
	others := map[netip.Prefix]string{}
	keep := func(region bool) { // what was known of that kind
		for e, name := range rec.Others {
			if (name == regionName) == region {
				others[e] = name
			}
		}
	}
	if a.Machines != nil {
		machines, err := a.Machines(ctx)
		if err != nil {
			a.event(events.ObservationFailed, "", "looking for databases: %v", err)
			keep(false)
		}
		for _, m := range machines {
			for _, e := range a.Database.entries(m.PublicIP, m.PrivateIP) {
				others[e] = m.Name
			}
		}
	}
	if a.Database.Regions != "" {
		objects, err := a.Profiles.Store.List(ctx, a.Database.Regions, regionPrefix)
		if err != nil {
			a.event(events.StoreFailed, "", "the addresses of other regions: %v", err)
			keep(true)
		}
		for _, o := range objects {
			addr, err := netip.ParseAddr(strings.TrimPrefix(o.Key, regionPrefix))
			_, published := rec.Published[addr]
			if _, mine := own[addr]; err == nil && !mine && !published {
				others[single(addr)] = regionName
			}
		}
	}
	rec.Others, rec.Learnt = others, now
}

// Other regions, by the shell toolkit's keys.
const (
	regionPrefix = "dbaas_ips/"
	regionName   = "another region"
)

// publishRegion tells the other regions the own webservers' addresses, and takes
// back those of servers that are gone.
func (a *Autoscaler) publishRegion(ctx context.Context, rec *allowed, public map[netip.Addr]bearer, gone func(string) bool, now time.Time) {
	if a.Database.Regions == "" || a.silent.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	fail := func(err error) { a.event(events.StoreFailed, "", "telling other regions: %v", err) }
	for addr, who := range public {
		if _, told := rec.Published[addr]; told {
			continue
		}
		// Recorded for who takes over before it is there.
		if !a.note(ctx, a.grantKey("published", addr.String())) {
			return
		}
		if err := a.Profiles.Store.Put(ctx, a.Database.Regions, regionPrefix+addr.String(), nil); err != nil {
			fail(err)
			return
		}
		rec.Published[addr] = grant{Name: who.Name, ID: who.ID, Shared: true}
	}
	end, _ := release(now, rec.Published, func(addr netip.Addr) bool { _, w := public[addr]; return w }, gone, a.patience())
	for _, addr := range end {
		if err := a.Profiles.Store.Delete(ctx, a.Database.Regions, regionPrefix+addr.String()); err != nil {
			fail(err)
			return
		}
		a.forget(ctx, a.grantKey("published", addr.String()))
		delete(rec.Published, addr)
	}
}

// grantKey is the object by which who takes over knows what adt has added for
// this shard. A range's / would be a folder in some stores.
func (a *Autoscaler) grantKey(kind, entry string) string {
	return grantPrefix(a.Shard) + kind + "/" + strings.ReplaceAll(entry, "/", "_")
}

func grantPrefix(shard int) string { return "dbaas/" + strconv.Itoa(shard) + "/" }

// shareGrants tells the store what was added. That it cannot stops nothing.
func (a *Autoscaler) shareGrants(ctx context.Context, rec *allowed) {
	if a.silent.Load() {
		return
	}
	for e, g := range rec.Ours {
		if !g.Shared {
			if !a.note(ctx, a.grantKey("allowed", entryText(e))) {
				return
			}
			g.Shared = true
			rec.Ours[e] = g
		}
	}
}

// allowRecord reads the record, or where there is none what the store has of it.
// When that is silent the error is a reason to wait.
func (a *Autoscaler) allowRecord(ctx context.Context) (*allowed, error) {
	if a.admission.rec != nil {
		return a.admission.rec, nil
	}
	rec := &allowed{}
	found, err := a.Dir.Read(allowFile, rec)
	if err != nil {
		return nil, err
	}
	if !found {
		rec = &allowed{}
	}
	if rec.Ours == nil {
		rec.Ours = map[netip.Prefix]grant{}
	}
	if rec.Published == nil {
		rec.Published = map[netip.Addr]grant{}
	}
	if !found {
		objects, err := a.Profiles.Store.List(ctx, a.ConfigBucket, grantPrefix(a.Shard))
		if err != nil {
			a.event(events.StoreFailed, "", "what was allowed before: %v", err)
			return nil, wait("the datastore does not say what was allowed before: %v", err)
		}
		for _, o := range objects {
			kind, text, _ := strings.Cut(strings.TrimPrefix(o.Key, grantPrefix(a.Shard)), "/")
			e, ok := parseEntry(strings.ReplaceAll(text, "_", "/"))
			switch {
			case !ok:
			case kind == "allowed":
				rec.Ours[e] = grant{Shared: true}
			case kind == "published" && e.IsSingleIP():
				rec.Published[e.Addr()] = grant{Shared: true}
			}
		}
	}
	a.admission.rec = rec
	return rec, nil
}

// keepAllowed writes the record where it has changed.
func (a *Autoscaler) keepAllowed(before, rec *allowed) error {
	if reflect.DeepEqual(before, rec) {
		return nil
	}
	return a.writeAllowed(rec)
}

func (a *Autoscaler) writeAllowed(rec *allowed) error {
	rec.Version = rundir.Version
	if err := a.Dir.Write(allowFile, rec); err != nil {
		return fmt.Errorf("%w: %w", errState, err)
	}
	return nil
}

func clone(rec *allowed) *allowed {
	c := *rec
	c.Listed = slices.Clone(rec.Listed)
	c.Ours, c.Published, c.Others = maps.Clone(rec.Ours), maps.Clone(rec.Published), maps.Clone(rec.Others)
	return &c
}

// mirrorAllowed writes the shell toolkit's file: whom the list was given for this
// fleet. Nothing of adt reads it.
func (a *Autoscaler) mirrorAllowed(wanted map[netip.Prefix]bearer) {
	if a.Home != nil {
		return // one for a machine
	}
	var text strings.Builder
	for _, e := range slices.SortedFunc(maps.Keys(wanted), netip.Prefix.Compare) {
		text.WriteString(entryText(e) + "\n")
	}
	_ = a.Dir.WriteText(allowText, text.String())
}

// Admitted is what is known of the managed database's allow list.
type Admitted struct {
	Entries int       `json:"entries"` // addresses and ranges on it
	Ours    int       `json:"ours"`    // of those, added by this autoscaler
	Waiting int       `json:"waiting"` // to be taken off
	Checked time.Time `json:"checked"` // steady time; zero is never
	Failing string    `json:"failing,omitempty"`
	Until   time.Time `json:"retry,omitzero"` // nothing is asked before
}

// Admitted returns what was recorded; nil where there is no such database.
func (a *Autoscaler) Admitted() (*Admitted, error) {
	if a.AllowList == nil {
		return nil, nil
	}
	var rec allowed
	if _, err := a.Dir.Read(allowFile, &rec); err != nil {
		return nil, err
	}
	s := &Admitted{Entries: len(rec.Listed), Checked: rec.Checked, Failing: rec.Why, Until: rec.Until}
	for e, g := range rec.Ours {
		if slices.Contains(rec.Listed, e) {
			s.Ours++
		}
		if g.Looks > 0 && !g.Removed {
			s.Waiting++
		}
	}
	return s, nil
}
