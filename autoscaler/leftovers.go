package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"adt/datastore"
	"adt/events"
	"adt/provider"
	"adt/rundir"
)

// StaleMarkers are the markers of builds that have no record any more: a run was
// killed in the middle of removing them. Nothing of adt goes by them; operators and
// the shell toolkit's scripts do. While a build could be one of those scripts', its
// markers are left; once the machine has booted since, they are nobody's.
func (a *Autoscaler) StaleMarkers(booted bool) ([]string, error) {
	builds, err := a.Builds()
	if err != nil {
		return nil, err
	}
	var live []string
	for _, b := range builds {
		live = append(live, fmt.Sprintf("INITIALLY_PROVISIONING-%d.lock", b.N), fmt.Sprintf("beingbuiltips/%d/", b.N), "POTENTIAL_STALLED_BUILD:"+b.PrivateIP.String())
	}
	var found []string
	for _, pattern := range []string{"INITIALLY_PROVISIONING-*.lock", "POTENTIAL_STALLED_BUILD:*", "beingbuiltips/*/*"} {
		names, err := fs.Glob(os.DirFS(a.Dir.Path("")), pattern)
		if err != nil {
			return nil, fmt.Errorf("listing markers: %w", err)
		}
		found = append(found, names...)
	}
	var stale []string
	for _, name := range found {
		since, there, err := a.Dir.Exists(name)
		if err != nil {
			return nil, err
		}
		inUse := slices.ContainsFunc(live, func(l string) bool { return name == l || strings.HasSuffix(l, "/") && strings.HasPrefix(name, l) })
		if there && !inUse && (booted || time.Since(since) > a.BuildDeadline) {
			stale = append(stale, name)
		}
	}
	return stale, nil
}

// DropMarkers removes stale markers. The error wraps lock.ErrHeld while a scale is at
// work, which may be making such.
func (a *Autoscaler) DropMarkers(booted bool) ([]string, error) {
	release, err := a.lock(scaleLock)
	if err != nil {
		return nil, err
	}
	defer release()
	stale, err := a.StaleMarkers(booted) // under the lock
	if err != nil {
		return nil, err
	}
	for _, name := range stale {
		if err := a.Dir.Unmark(name); err != nil {
			return nil, err
		}
	}
	return stale, nil
}

// seenFile is the record of the addresses that were ever seen to be ours.
const seenFile = "seen.json"

// seen is the record seen.json: addresses of the fleet's servers, and when a listing
// had them last. All times are steady time.
type seen struct {
	Version   int                      `json:"version"`
	Addresses map[netip.Addr]time.Time `json:"addresses"`
}

// seenFor is for how long an address that was ours is remembered.
const seenFor = 90 * 24 * time.Hour

// addressPrefixes are the keys of the config bucket that end with an address of a
// webserver.
func addressPrefixes() []string {
	return []string{"webserverips/", "webserverpublicips/", "beingbuiltips/", "beenonline/", "hostkeys/"}
}

// gone chooses the keys that belong to servers that are gone. Absence from a listing
// proves little: other regions may share the bucket. So only an address goes that
// was ours (old, by the time when a listing had it last), that no listed server and
// no record has, and that has been gone for after.
func gone(now time.Time, keys []string, listed map[netip.Addr]bool, old map[netip.Addr]time.Time, after time.Duration) []string {
	var due []string
	for _, key := range keys {
		_, text, _ := strings.Cut(key, "/")
		address, err := netip.ParseAddr(text)
		if err != nil {
			continue // not one of ours
		}
		last, ours := old[address]
		if ours && !listed[address] && age(now, last) > after {
			due = append(due, key)
		}
	}
	return due
}

// ErrNoAgreement says why no address can be taken to be gone.
var ErrNoAgreement = errors.New("the listing does not agree with what is known")

// ForgetGone deletes from the datastore the addresses of servers that have been gone
// for after: what a termination has left there that was cut off, or that the store
// refused then. It asks for a fresh listing, and does nothing by one that failed, is
// empty or lacks a known server (the error wraps ErrNotObserved or ErrNoAgreement).
// With dry it says only what it would delete.
func (a *Autoscaler) ForgetGone(ctx context.Context, after time.Duration, dry bool) ([]string, error) {
	servers, err := a.list(ctx)
	if err != nil {
		return nil, err
	}
	listed, err := a.addressesInUse(servers)
	if err != nil {
		return nil, err
	}
	var rec seen
	if _, err := a.Dir.Read(seenFile, &rec); err != nil {
		return nil, err
	}
	now := a.Now()
	next := seen{Version: rundir.Version, Addresses: map[netip.Addr]time.Time{}}
	for address, last := range rec.Addresses {
		if age(now, last) < seenFor {
			next.Addresses[address] = last
		}
	}
	for _, s := range servers {
		for _, address := range []netip.Addr{s.PublicIP, s.PrivateIP} {
			if address.IsValid() {
				next.Addresses[address] = now
			}
		}
	}
	if !dry {
		if err := a.Dir.Write(seenFile, next); err != nil {
			return nil, err
		}
	}
	var keys []string
	for _, prefix := range addressPrefixes() {
		objects, err := a.Profiles.Store.List(ctx, a.ConfigBucket, prefix)
		if errors.Is(err, datastore.ErrNoBucket) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("listing the datastore's addresses: %w", err)
		}
		for _, o := range objects {
			keys = append(keys, o.Key)
		}
	}
	due := gone(now, keys, listed, rec.Addresses, after)
	if dry {
		return due, nil
	}
	for i, key := range due {
		if err := a.Profiles.Store.Delete(ctx, a.ConfigBucket, key); err != nil {
			return due[:i], fmt.Errorf("deleting %s: %w", key, err)
		}
		a.event(events.AddressForgotten, "", "%s: no server has had this address for %s", key, after)
	}
	return due, nil
}

// addressesInUse are those of all listed servers and of all records. A listing that
// is empty, or lacks a server of this shard that is not on its way out, tells
// nothing.
func (a *Autoscaler) addressesInUse(servers []provider.Server) (map[netip.Addr]bool, error) {
	if len(servers) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrNoAgreement)
	}
	final, err := a.endingForGood()
	if err != nil {
		return nil, err
	}
	inv, _, err := a.Inventory()
	if err != nil {
		return nil, err
	}
	builds, ends, err := a.inProgress()
	if err != nil {
		return nil, err
	}
	used := map[netip.Addr]bool{}
	for _, s := range servers {
		used[s.PublicIP], used[s.PrivateIP] = true, true
	}
	for id, k := range inv.Servers {
		if !lists(servers, id) && !final[id] {
			return nil, fmt.Errorf("%w: it lacks %s", ErrNoAgreement, k.Name)
		}
		used[k.PublicIP], used[k.PrivateIP] = true, true
	}
	for _, b := range builds {
		used[b.PublicIP], used[b.PrivateIP] = true, true
	}
	for _, t := range ends {
		used[t.PublicIP], used[t.PrivateIP] = true, true
	}
	return used, nil
}
