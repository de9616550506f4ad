package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"adt/datastore"
	"adt/events"
	"adt/provider"
	"adt/remote"
	"adt/rundir"
	"adt/schedule"
)

// lastKnown is the record store.json: what the datastore last said.
type lastKnown struct {
	Version int       `json:"version"`
	Profile *Profile  `json:"profile"`
	Hold    string    `json:"hold,omitempty"`
	Foreign []string  `json:"foreign,omitempty"` // keys of what is no profile
	Seen    time.Time `json:"seen"`
}

// askStore reads the profile, and what holds everything back. While the store is
// silent the last known profile holds for StaleAfter, and nothing is terminated.
func (a *Autoscaler) askStore(ctx context.Context, o *Observation) error {
	a.silent.Store(false)
	var err error
	switch {
	case a.fence == nil:
		a.board, err = a.Profiles.read(ctx)
	case a.board == nil:
		err = errors.New("the datastore did not answer when the leases were renewed")
	}
	b := a.board
	why := ""
	if err == nil {
		why, err = a.forbidden(ctx)
	}
	if err != nil {
		return a.fromMemory(ctx, o, err)
	}
	a.setHold(why)
	mine := b.posts[a.Shard]
	o.Profile, o.Stale = mine.profile, mine.stale
	if b.now.After(mine.hold) {
		a.applySchedule(ctx, o, b.now)
	}
	if a.preview != nil {
		return nil
	}
	var last lastKnown
	if _, err := a.Dir.Read(storeFile, &last); err != nil {
		return err
	}
	next := lastKnown{Version: rundir.Version, Profile: o.Profile, Hold: why, Foreign: mine.foreign, Seen: a.Now()}
	for _, key := range mine.foreign {
		if !slices.Contains(last.Foreign, key) {
			a.event(events.ForeignObject, "", "%s is no profile that adt can read", key)
		}
	}
	same := last.Hold == why && slices.Equal(last.Foreign, next.Foreign) && (last.Profile == nil) == (o.Profile == nil) && (o.Profile == nil || last.Profile.Count == o.Profile.Count && last.Profile.Set.Equal(o.Profile.Set))
	if same && age(next.Seen, last.Seen) < a.StaleAfter/6 { // most ticks write nothing
		return nil
	}
	return a.Dir.Write(storeFile, next)
}

// applySchedule changes the profile by what has fired since it was set, and says
// so in the store, where everybody reads it; now is by the store's clock. While
// the store is silent the same follows from the last known profile. A firing
// counts when no clock can be before it any more, lest it be applied twice.
func (a *Autoscaler) applySchedule(ctx context.Context, o *Observation, now time.Time) {
	if a.Schedule == nil {
		return
	}
	profile, set := 0, time.Time{}
	if o.Profile != nil {
		profile, set = o.Profile.Count, o.Profile.Set
	}
	fired := a.Schedule.Since(set, now.Add(-datastore.Precision))
	if o.Profile == nil { // what is to be added to nothing
		fired = slices.DeleteFunc(fired, func(f schedule.Firing) bool { return f.Count == nil })
	}
	count := schedule.Fold(profile, fired, a.share)
	adds := slices.ContainsFunc(fired, func(f schedule.Firing) bool { return f.Add != nil })
	if len(fired) == 0 || o.Profile != nil && count == profile && !adds {
		return
	}
	before := o.Profile
	o.Profile = &Profile{Count: count, Set: set}
	if a.preview != nil || o.Silent != "" {
		return
	}
	last := fired[len(fired)-1]
	if a.mayAct(ctx) != nil {
		return // who keeps the shard now works out the same
	}
	err := a.Profiles.Change(ctx, a.Shard, before, count)
	switch {
	case errors.Is(err, errChanged): // a command came in between: the next tick reads it
		o.Profile = before
		return
	case err != nil:
		a.storeFault(err) // the next tick works out the same
		return
	}
	o.Profile.Set, o.Stale = now, nil
	a.event(events.ScheduleFired, "", "profile %d, by %s at %s", count, last.Entry, last.At.Format("2006-01-02 15:04 MST"))
}

// share is this autoscaler's part of a number of webservers of the fleet.
func (a *Autoscaler) share(total int) int {
	return Split(total, max(a.Autoscalers, a.Shard))[a.Shard-1]
}

func (a *Autoscaler) setHold(why string) {
	a.hold.Store(nil)
	if why != "" {
		a.hold.Store(&why)
	}
}

// fromMemory is askStore while the store is silent.
func (a *Autoscaler) fromMemory(ctx context.Context, o *Observation, cause error) error {
	a.storeFault(cause)
	a.silent.Store(true)
	var last lastKnown
	found, err := a.Dir.Read(storeFile, &last)
	if err != nil {
		return err
	}
	silence := age(a.Now(), last.Seen)
	if !found || silence > a.StaleAfter {
		return fmt.Errorf("%w: %w", ErrNotObserved, cause)
	}
	o.Profile, o.Silent = last.Profile, cause.Error()
	a.applySchedule(ctx, o, time.Now())
	a.setHold(last.Hold)
	left := a.StaleAfter - silence
	if a.fence != nil { // after that somebody else may keep the shard
		left = min(left, a.fence.holding.Until.Sub(a.Now().Add(a.fence.holding.Skew))-blindMargin-a.callLimit())
	}
	a.event(events.StoreSilent, "", "the last known profile holds for %s more, and nothing is terminated", max(0, left).Round(time.Second))
	return nil
}

// hostKeyKey is the object with the SSH host key of a webserver, for those who
// did not build it.
func hostKeyKey(private netip.Addr) string { return "hostkeys/" + private.String() }

func (a *Autoscaler) shareHostKey(ctx context.Context, private netip.Addr, key ssh.PublicKey) bool {
	return a.each(ctx, []string{hostKeyKey(private)}, func(ctx context.Context, name string) error {
		return a.Profiles.Store.Put(ctx, a.ConfigBucket, name, ssh.MarshalAuthorizedKey(key))
	})
}

// shareHealthy gives the store what others need to keep the healthy webservers,
// should this machine die. It returns the ids of those that the store has now.
func (a *Autoscaler) shareHealthy(ctx context.Context, h *health) map[string]bool {
	shared := map[string]bool{}
	if a.Lease == 0 {
		return shared
	}
	for _, s := range h.members {
		if k := h.known[s.ID]; k.Shared || h.verdicts[s.ID].State != "healthy" {
			continue
		}
		key, err := remote.Pinned(a.Dir.Path(knownHosts), s.PrivateIP, a.SSHPort)
		if err != nil {
			continue // the shared key of an older fleet: all have that
		}
		private := s.PrivateIP.String()
		shared[s.ID] = a.shareHostKey(ctx, s.PrivateIP, key) &&
			a.note(ctx, "webserverips/"+private, "webserverpublicips/"+s.PublicIP.String(), "beenonline/"+private) && a.forget(ctx, "beingbuiltips/"+private)
	}
	return shared
}

// inherit finds out about own webservers that nobody here has built or judged:
// those of a shard that another autoscaler kept until now. A build that was going
// on goes on here; one that was online once counts as that; its SSH host key is
// what the builder left in the store.
func (a *Autoscaler) inherit(ctx context.Context, servers []provider.Server) error {
	if a.Lease == 0 || a.preview != nil || a.board == nil {
		return nil
	}
	builds, ends, err := a.inProgress()
	if err != nil {
		return err
	}
	inv, _, err := a.Inventory()
	if err != nil {
		return err
	}
	unknown := slices.DeleteFunc(slices.Clone(servers), func(s provider.Server) bool {
		k := inv.Servers[s.ID]
		return !a.own(s.Name) || !s.Addressed() || k.Online || k.Asked ||
			slices.ContainsFunc(builds, func(b Build) bool { return b.ID == s.ID || b.Name == s.Name }) ||
			slices.ContainsFunc(ends, func(t Termination) bool { return t.ID == s.ID })
	})
	if len(unknown) == 0 {
		return nil
	}
	said, err := a.readAddresses(ctx)
	if err != nil {
		a.storeFault(err)
		return fmt.Errorf("%w: %w", ErrNotObserved, err)
	}
	now := a.Now()
	verified := map[string]bool{}
	for _, s := range unknown {
		if verified[s.ID], err = a.inheritKey(ctx, s, said); err != nil {
			return err
		}
		name, _ := a.Fleet.Parse(s.Name)
		// A build that is done is online first, and no build any more after that.
		if private := s.PrivateIP.String(); !said.building[private] || said.online[private] || name.Initial {
			continue
		}
		n := 1
		for slices.ContainsFunc(builds, func(b Build) bool { return b.N == n }) {
			n++
		}
		b := Build{Version: rundir.Version, N: n, Name: s.Name, ID: s.ID, Phase: Addressed, Began: now, Since: now, PublicIP: s.PublicIP, PrivateIP: s.PrivateIP}
		if err := a.Dir.Create(buildFile(n), b); err != nil {
			return err
		}
		builds = append(builds, b)
		a.event(events.BuildInherited, s.Name, "another autoscaler began it; it goes on here as build %d", n)
	}
	return a.remember(ctx, func(inv *Inventory) bool {
		for _, s := range unknown {
			k, ok := inv.Servers[s.ID]
			if !ok {
				continue
			}
			k.Asked = true
			k.Online = k.Online || said.online[s.PrivateIP.String()]
			k.Unverified = !verified[s.ID] && said.online[s.PrivateIP.String()]
			if k.Unverified {
				a.event(events.Unverified, s.Name, "its SSH host key is not known here, so it is kept and not judged")
			}
			inv.Servers[s.ID] = k
		}
		return true
	})
}

// addresses is what the config bucket says of private addresses.
type addresses struct{ building, online, keys map[string]bool }

func (a *Autoscaler) readAddresses(ctx context.Context) (addresses, error) {
	var said addresses
	for prefix, into := range map[string]*map[string]bool{"beingbuiltips/": &said.building, "beenonline/": &said.online, "hostkeys/": &said.keys} {
		objects, err := a.Profiles.Store.List(ctx, a.ConfigBucket, prefix)
		if err != nil {
			return said, fmt.Errorf("asking what other autoscalers know: %w", err)
		}
		*into = map[string]bool{}
		for _, o := range objects {
			(*into)[strings.TrimPrefix(o.Key, prefix)] = true
		}
	}
	return said, nil
}

// inheritKey pins the host key that the builder left in the store. It reports
// whether the machine can be told from others now.
func (a *Autoscaler) inheritKey(ctx context.Context, s provider.Server, said addresses) (bool, error) {
	file := a.Dir.Path(knownHosts)
	if _, err := remote.Pinned(file, s.PrivateIP, a.SSHPort); err == nil {
		return true, nil
	}
	if !said.keys[s.PrivateIP.String()] {
		return a.SSH.SharedHostKey != nil, nil
	}
	content, err := a.Profiles.Store.Get(ctx, a.ConfigBucket, hostKeyKey(s.PrivateIP))
	if errors.Is(err, datastore.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		a.storeFault(err)
		return false, fmt.Errorf("%w: %w", ErrNotObserved, err)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(content)
	if err != nil {
		return false, nil //nolint:nilerr // garbage is no key: the webserver stays unverified
	}
	return true, remote.Pin(file, s.PrivateIP, a.SSHPort, key)
}
