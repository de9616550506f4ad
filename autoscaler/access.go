package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/crypto/ssh"

	"adt/datastore"
	"adt/remote"
)

// KnownHostKey returns the SSH host key by which a webserver is known: pinned here, for
// the own shard or one that was taken over, or left in the store by whoever built
// it. The error wraps remote.ErrUnknownHost when nobody knows it.
func (a *Autoscaler) KnownHostKey(ctx context.Context, private netip.Addr) (ssh.PublicKey, error) {
	guests, err := a.Guests()
	if err != nil {
		return nil, err
	}
	files := []string{knownHosts}
	for _, shard := range guests {
		files = append(files, GuestFolder(shard)+"/"+knownHosts)
	}
	for _, file := range files {
		key, err := remote.Pinned(a.Dir.Path(file), private, a.SSHPort)
		if !errors.Is(err, remote.ErrUnknownHost) {
			return key, err
		}
	}
	content, err := a.Profiles.Store.Get(ctx, a.ConfigBucket, hostKeyKey(private))
	if errors.Is(err, datastore.ErrNotFound) || errors.Is(err, datastore.ErrNoBucket) {
		return nil, fmt.Errorf("%s: %w", private, remote.ErrUnknownHost)
	}
	if err != nil {
		return nil, fmt.Errorf("asking the datastore for the SSH host key of %s: %w", private, err)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(content)
	if err != nil {
		return nil, fmt.Errorf("the datastore's SSH host key of %s is none: %w", private, err)
	}
	return key, nil
}
