package autoscaler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"adt/datastore"
)

// Split deals total webservers to n autoscalers: the quotient each, and one
// more for the first (total mod n). A total of 10 over 3 is 4, 3, 3.
func Split(total, n int) []int {
	shares := make([]int, n)
	for i := range shares {
		shares[i] = total / n
		if i < total%n {
			shares[i]++
		}
	}
	return shares
}

// ProfileKey is the object whose existence is the command: autoscaler k shall
// keep count webservers.
func ProfileKey(shard, count int) string {
	return profilePrefix(shard) + strconv.Itoa(count)
}

func profilePrefix(shard int) string { return fmt.Sprintf("autoscaler-%d/STATIC_SCALE:", shard) }

// ParseProfileKey reads the count for a shard from a key. The older form
// STATIC_SCALE:4:3:3 holds the counts of autoscalers 1, 2 and 3.
func ParseProfileKey(shard int, key string) (count int, ok bool) {
	rest, ok := strings.CutPrefix(key, profilePrefix(shard))
	if !ok {
		return 0, false
	}
	counts := strings.Split(rest, ":")
	field := counts[0]
	if len(counts) > 1 {
		if shard > len(counts) {
			return 0, false
		}
		field = counts[shard-1]
	}
	count, err := strconv.Atoi(field)
	if err != nil || count < 0 || field != strconv.Itoa(count) {
		return 0, false
	}
	return count, true
}

// Profile is how many webservers one autoscaler shall keep, not counting the
// initial ones.
type Profile struct {
	Count int
	Set   time.Time // by the store's clock
}

// Profiles reads and writes the profiles of a fleet.
type Profiles struct {
	Store  datastore.Store
	Bucket string
}

// Get returns the profile of a shard; nil is none. Of several objects, which a
// crash between put and delete or two commands at once leave, the newest
// holds, and the others are returned as stale.
func (p Profiles) Get(ctx context.Context, shard int) (_ *Profile, stale []string, err error) {
	objects, err := p.Store.List(ctx, p.Bucket, profilePrefix(shard))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the profile of autoscaler %d: %w", shard, err)
	}
	var found *Profile
	slices.SortFunc(objects, func(a, b datastore.Object) int {
		return cmp.Or(b.Modified.Compare(a.Modified), strings.Compare(b.Key, a.Key))
	})
	for _, o := range objects {
		count, ok := ParseProfileKey(shard, o.Key)
		switch {
		case !ok: // foreign: neither obeyed nor deleted
		case found == nil:
			found = &Profile{Count: count, Set: o.Modified}
		default:
			stale = append(stale, o.Key)
		}
	}
	return found, stale, nil
}

// Set puts the new object before it deletes the old ones, so that a crash
// never leaves an autoscaler without a profile. The old ones are those that
// were there before: the store's clock may give the new one the same time, or
// an earlier one, and then Get would not tell which is which.
func (p Profiles) Set(ctx context.Context, shard, count int) error {
	objects, err := p.Store.List(ctx, p.Bucket, profilePrefix(shard))
	if err != nil {
		return fmt.Errorf("setting the profile of autoscaler %d: %w", shard, err)
	}
	key := ProfileKey(shard, count)
	if err := p.Store.Put(ctx, p.Bucket, key, nil); err != nil {
		return fmt.Errorf("setting the profile of autoscaler %d: %w", shard, err)
	}
	var old []string
	for _, o := range objects {
		if _, ok := ParseProfileKey(shard, o.Key); ok && o.Key != key {
			old = append(old, o.Key)
		}
	}
	return p.Tidy(ctx, old)
}

// Tidy deletes stale profile objects.
func (p Profiles) Tidy(ctx context.Context, stale []string) error {
	var errs []error
	for _, key := range stale {
		errs = append(errs, p.Store.Delete(ctx, p.Bucket, key))
	}
	return errors.Join(errs...)
}
