package autoscaler

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"adt/rundir"
)

// announced is the record addresses.json: the keys under which this machine's
// addresses are in the store.
type announced struct {
	Version int      `json:"version"`
	Keys    []string `json:"keys"`
}

// announce publishes this machine's addresses as the shell toolkit does, for its
// scripts on other machines: autoscalerips/ and autoscalerpublicips/. It writes
// when they have changed; that it cannot stops nothing.
func (a *Autoscaler) announce(ctx context.Context) error {
	if a.Addresses == nil {
		return nil
	}
	own, err := a.Addresses()
	if err != nil {
		a.storeFault(fmt.Errorf("this machine's addresses are not published: %w", err))
		return nil
	}
	var rec announced
	if _, err := a.Dir.Read(selfFile, &rec); err != nil {
		return err
	}
	next := announced{Version: rundir.Version, Keys: announcedKeys(own)}
	if slices.Equal(rec.Keys, next.Keys) {
		return nil
	}
	for _, key := range next.Keys {
		if err := a.Profiles.Store.Put(ctx, a.ConfigBucket, key, nil); err != nil {
			a.storeFault(err)
			return nil // the next tick tries again
		}
	}
	for _, key := range rec.Keys {
		if !slices.Contains(next.Keys, key) {
			a.forget(ctx, key)
		}
	}
	return a.Dir.Write(selfFile, next)
}

// announcedKeys sorts IPv4 addresses into private and public ones; machines talk
// over the private ones.
func announcedKeys(own []netip.Addr) []string {
	var keys []string
	for _, addr := range own {
		switch {
		case !addr.Is4() || addr.IsLoopback() || !addr.IsGlobalUnicast():
		case addr.IsPrivate():
			keys = append(keys, "autoscalerips/"+addr.String())
		default:
			keys = append(keys, "autoscalerpublicips/"+addr.String())
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
