package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ParseAutoscaler reads the number from the name of an autoscaler's machine,
// NO-<k>-as-<region>-<build>-<rnd>, as the build machine gives it.
func (f Fleet) ParseAutoscaler(name string) (number int, ok bool) {
	rest, ok := strings.CutPrefix(name, "NO-")
	if !ok {
		return 0, false
	}
	digits, rest, _ := strings.Cut(rest, "-")
	number, ok = positive(digits)
	rest, fits := strings.CutPrefix(rest, "as-"+f.Region+"-"+f.Build+"-")
	return number, ok && number <= MaxAutoscalers && fits && rest != "" && !strings.Contains(rest, "-")
}

// Peer is one autoscaler as the datastore shows it.
type Peer struct {
	Number  int
	Profile *Profile // nil is none
	// Keeper is who holds the lease on its webservers, KeptUntil until when; 0:
	// nobody ever did, so nothing is known of its life.
	Keeper    int
	KeptUntil time.Time
	Now       time.Time // by the store's clock
	Hold      time.Time // until then no schedule changes the profile; zero is none
}

// Dead reports whether the autoscaler has shown signs of life before, and does
// not any more.
func (p Peer) Dead() bool {
	return !p.KeptUntil.IsZero() && (p.Keeper != p.Number || p.Now.After(p.KeptUntil))
}

// Alive reports whether the autoscaler's own lease is in force.
func (p Peer) Alive() bool { return !p.KeptUntil.IsZero() && !p.Dead() }

// Peers returns what the datastore says of autoscalers 1 to n.
func (a *Autoscaler) Peers(ctx context.Context, n int) ([]Peer, error) {
	const looks = 5 // a lease may be renewed between the listing and its reading
	for i := 1; ; i++ {
		peers, err := a.peers(ctx, n)
		if i == looks || !errors.Is(err, errRenewed) {
			return peers, err
		}
	}
}

func (a *Autoscaler) peers(ctx context.Context, n int) ([]Peer, error) {
	b, err := a.Profiles.read(ctx)
	if err != nil {
		return nil, err
	}
	peers := make([]Peer, n)
	for i := range peers {
		post := b.posts[i+1]
		peers[i] = Peer{Number: i + 1, Profile: post.profile, Now: b.now}
		if post.hold.After(b.now) {
			peers[i].Hold = post.hold
		}
		if post.epoch == 0 || a.Lease == 0 {
			continue
		}
		l, err := a.readLease(ctx, i+1, post)
		if err != nil {
			return nil, err
		}
		peers[i].Keeper, peers[i].KeptUntil = l.Autoscaler, l.Until
	}
	return peers, nil
}

// Forbidden says why the datastore lets nobody scale or terminate anything; "" is no
// such reason.
func (a *Autoscaler) Forbidden(ctx context.Context) (string, error) { return a.forbidden(ctx) }

// Hold keeps schedules from changing a shard's profile until then, by the
// store's clock; the zero time lifts that.
func (p Profiles) Hold(ctx context.Context, shard int, until time.Time) error {
	objects, err := p.Store.List(ctx, p.Bucket, shardKey(shard, holdWord, ""))
	if err != nil {
		return fmt.Errorf("holding the profile of autoscaler %d: %w", shard, err)
	}
	var keep string
	if !until.IsZero() {
		keep = shardKey(shard, holdWord, strconv.FormatInt(until.Unix(), 10))
		if err := p.Store.Put(ctx, p.Bucket, keep, nil); err != nil {
			return fmt.Errorf("holding the profile of autoscaler %d: %w", shard, err)
		}
	}
	var old []string
	for _, o := range objects {
		if o.Key != keep {
			old = append(old, o.Key)
		}
	}
	return p.remove(ctx, slices.Compact(old))
}
