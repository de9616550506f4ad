package commands

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"

	"adt/autoscaler"
	"adt/datastore/sshfile"
	"adt/remote"
)

// readOverSSH asks each autoscaler for its own profile, in the folder that is its
// datastore. One that cannot be asked keeps none of the others from it.
func (s *site) readOverSSH(ctx context.Context, n int) (fleetShares, error) {
	addresses, err := s.autoscalerAddresses(ctx, n)
	if err != nil {
		return fleetShares{}, err
	}
	all := fleetShares{Shares: make([]share, n)}
	stores := make([]*sshfile.Store, n)
	var wg sync.WaitGroup
	for i := range n {
		sh := &all.Shares[i]
		sh.Autoscaler, sh.store, sh.alive = i+1, s.Profiles, i+1 == s.Shard
		if i+1 != s.Shard { // this machine needs no connection to itself
			address, known := addresses[i+1]
			if !known {
				sh.Error = "its address is not known (datastore.addresses)"
				continue
			}
			stores[i] = s.storeAt(address)
			sh.store = autoscaler.Profiles{Store: stores[i], Bucket: s.Profiles.Bucket}
		}
		wg.Go(func() {
			p, _, err := sh.store.Get(ctx, sh.Autoscaler)
			sh.alive = sh.alive || err == nil
			switch {
			case err != nil:
				sh.Error = strings.ReplaceAll(err.Error(), "\n", " ")
			case p != nil:
				sh.Before, sh.After, sh.set = &p.Count, &p.Count, p.Set
			}
		})
	}
	wg.Wait()
	all.close = func() {
		for _, store := range stores {
			if store != nil {
				_ = store.Close()
			}
		}
	}
	return all, nil
}

// autoscalerAddresses are those of the configuration, or else those that the
// provider names: machines talk over the private network.
func (s *site) autoscalerAddresses(ctx context.Context, n int) (map[int]netip.Addr, error) {
	found := map[int]netip.Addr{}
	for i, text := range s.cfg.Datastore.Addresses {
		found[i+1] = netip.MustParseAddr(text) // it was checked when it was loaded
	}
	if len(found) > 0 {
		if len(found) != n {
			return nil, usagef("datastore.addresses in %s has %d addresses, for %d autoscalers (autoscaler.count)", s.cfg.Path, len(found), n)
		}
		return found, nil
	}
	machines, err := s.machines(ctx)
	for k, m := range machines {
		if m.PrivateIP.IsValid() {
			found[k] = m.PrivateIP
		}
	}
	return found, err
}

// storeAt is the folder datastore.path on another autoscaler: below the home
// directory there as it is here.
func (s *site) storeAt(address netip.Addr) *sshfile.Store {
	root := s.cfg.Datastore.Path
	if below, err := filepath.Rel(s.cfg.Home, root); err == nil && !strings.HasPrefix(below, "..") {
		root = below
	}
	dialer := &remote.Dialer{
		User: s.SSH.User, Port: s.SSH.Port, Signer: s.SSH.Signer, SharedHostKey: s.SSH.SharedHostKey,
		KnownHosts:     s.cfg.Datastore.KnownHosts,
		ConnectTimeout: s.SSH.ConnectTimeout, CommandTimeout: s.SSH.CommandTimeout,
	}
	return sshfile.Open(func(ctx context.Context) (*remote.Conn, error) {
		conn, err := dialer.Dial(ctx, address)
		if err != nil {
			return nil, fmt.Errorf("autoscaler at %s: %w", address, err)
		}
		return conn, nil
	}, root)
}
