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
	fields := strings.Split(rest, ":")
	at := 0
	if len(fields) > 1 {
		at = shard - 1
	}
	for i, field := range fields { // one that is none, and the whole is half a command
		n, err := strconv.Atoi(field)
		if err != nil || n < 0 || field != strconv.Itoa(n) {
			return 0, false
		}
		if i == at {
			count = n
		}
	}
	return count, at < len(fields)
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
func (p Profiles) Get(ctx context.Context, shard int) (_ *Profile, stale []datastore.Object, err error) {
	objects, err := p.list(ctx, shard)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the profile of autoscaler %d: %w", shard, err)
	}
	if len(objects) == 0 {
		return nil, nil, nil
	}
	count, _ := ParseProfileKey(shard, objects[0].Key)
	return &Profile{Count: count, Set: objects[0].Modified}, objects[1:], nil
}

// list returns the profile objects of a shard, the one that holds first. What is
// foreign is neither obeyed nor deleted.
func (p Profiles) list(ctx context.Context, shard int) ([]datastore.Object, error) {
	objects, err := p.Store.List(ctx, p.Bucket, profilePrefix(shard))
	if err != nil {
		return nil, err
	}
	objects = slices.DeleteFunc(objects, func(o datastore.Object) bool { _, ok := ParseProfileKey(shard, o.Key); return !ok })
	slices.SortFunc(objects, newestFirst)
	return objects, nil
}

// newestFirst orders objects; of one time the greater key comes first, so that
// all who look agree.
func newestFirst(a, b datastore.Object) int {
	return cmp.Or(b.Modified.Compare(a.Modified), strings.Compare(b.Key, a.Key))
}

// Set puts the new object before it deletes the old ones, so that a crash
// never leaves an autoscaler without a profile. The old ones are those that
// were there before: the store's clock may give the new one the same time, or
// an earlier one, and then Get would not tell which is which.
func (p Profiles) Set(ctx context.Context, shard, count int) error {
	return p.set(ctx, shard, count, func(*Profile) error { return nil })
}

// errChanged says that a profile is not what it was when a change of it was
// worked out.
var errChanged = errors.New("the profile was changed meanwhile")

// Change is Set for what was worked out from a profile (nil is none): one that
// was set since goes before it.
func (p Profiles) Change(ctx context.Context, shard int, from *Profile, count int) error {
	return p.set(ctx, shard, count, func(now *Profile) error {
		if (from == nil) != (now == nil) || from != nil && (from.Count != now.Count || !from.Set.Equal(now.Set)) {
			return errChanged
		}
		return nil
	})
}

func (p Profiles) set(ctx context.Context, shard, count int, fits func(*Profile) error) error {
	fault := func(err error) error { return fmt.Errorf("setting the profile of autoscaler %d: %w", shard, err) }
	old, err := p.list(ctx, shard)
	if err != nil {
		return fault(err)
	}
	var now *Profile
	if len(old) > 0 {
		n, _ := ParseProfileKey(shard, old[0].Key)
		now = &Profile{Count: n, Set: old[0].Modified}
	}
	if err := fits(now); err != nil {
		return fault(err)
	}
	key := ProfileKey(shard, count)
	if err := p.Store.Put(ctx, p.Bucket, key, nil); err != nil {
		return fault(err)
	}
	old = slices.DeleteFunc(old, func(o datastore.Object) bool { return o.Key == key })
	return p.drop(ctx, shard, old, key)
}

// Tidy deletes stale profile objects.
func (p Profiles) Tidy(ctx context.Context, shard int, stale []datastore.Object) error {
	if len(stale) == 0 {
		return nil
	}
	return p.drop(ctx, shard, stale, stale[0].Key)
}

// drop deletes profile objects that are as they were when they were listed. S3
// deletes whatever has the key: one that another command has put anew meanwhile
// may be hit. Then there may be none left, and the profile that is to hold is put
// back: a fleet without a profile would not be scaled, and nobody said so.
func (p Profiles) drop(ctx context.Context, shard int, old []datastore.Object, holds string) error {
	if len(old) == 0 {
		return nil
	}
	there, err := p.list(ctx, shard)
	if err != nil {
		return fmt.Errorf("deleting old profiles of autoscaler %d: %w", shard, err)
	}
	var keys []string
	for _, o := range old {
		same := func(t datastore.Object) bool { return t.Key == o.Key && t.Modified.Equal(o.Modified) }
		if slices.ContainsFunc(there, same) && len(keys) < len(there)-1 {
			keys = append(keys, o.Key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	if err := p.remove(ctx, keys); err != nil {
		return err
	}
	if there, err = p.list(ctx, shard); err == nil && len(there) == 0 {
		err = p.Store.Put(ctx, p.Bucket, holds, nil)
	}
	if err != nil {
		return fmt.Errorf("deleting old profiles of autoscaler %d: %w", shard, err)
	}
	return nil
}

func (p Profiles) remove(ctx context.Context, keys []string) error {
	var errs []error
	for _, key := range keys {
		errs = append(errs, p.Store.Delete(ctx, p.Bucket, key))
	}
	return errors.Join(errs...)
}
