package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"adt/datastore"
)

// boardPrefix is what the keys of all autoscalers' objects begin with.
const boardPrefix = "autoscaler-"

// post is what the datastore says of one shard.
type post struct {
	profile   *Profile           // nil is none
	stale     []datastore.Object // older profiles
	foreign   []string           // keys of what looks like a profile and is none
	epoch     int                // of the newest lease; 0 is none ever
	written   time.Time
	old       []string            // keys of older leases
	paused    map[string]struct{} // what an operator put on hold, for whoever keeps the shard
	protected map[string]bool     // names of webservers
	hold      time.Time           // until then no schedule changes the profile; zero is none
}

// board is one listing of all that autoscalers tell each other: profiles,
// leases, pauses. It costs one request, however many autoscalers there are.
type board struct {
	now   time.Time // of the store's clock
	posts [MaxAutoscalers + 1]post
}

// Keys of a shard, after its prefix, besides the profile.
const (
	leaseWord     = "LEASE:"
	pausedWord    = "PAUSED:"
	protectedWord = "PROTECTED:"
	holdWord      = "HOLD:"
)

func shardKey(shard int, word, rest string) string {
	return fmt.Sprintf("%s%d/%s%s", boardPrefix, shard, word, rest)
}

// read lists the board.
func (p Profiles) read(ctx context.Context) (*board, error) {
	objects, err := p.Store.List(ctx, p.Bucket, boardPrefix)
	if errors.Is(err, datastore.ErrNoBucket) {
		return nil, fmt.Errorf("reading the profiles: %w (adt doctor --fix makes it)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the profiles: %w", err)
	}
	b := &board{}
	if b.now, _, err = p.Store.Now(ctx); err != nil {
		return nil, fmt.Errorf("reading the profiles: %w", err)
	}
	slices.SortFunc(objects, newestFirst)
	for _, o := range objects {
		rest := strings.TrimPrefix(o.Key, boardPrefix)
		number, word, ok := strings.Cut(rest, "/")
		shard, err := strconv.Atoi(number)
		if ok && err == nil && shard >= 1 && shard <= MaxAutoscalers && number == strconv.Itoa(shard) {
			b.posts[shard].note(shard, o, word)
		}
	}
	return b, nil
}

// note takes one object; what is foreign is neither obeyed nor deleted.
func (p *post) note(shard int, o datastore.Object, word string) {
	if count, ok := ParseProfileKey(shard, o.Key); ok {
		if p.profile == nil {
			p.profile = &Profile{Count: count, Set: o.Modified}
		} else {
			p.stale = append(p.stale, o)
		}
		return
	}
	if strings.HasPrefix(o.Key, profilePrefix(shard)) {
		p.foreign = append(p.foreign, o.Key)
		return
	}
	if rest, ok := strings.CutPrefix(word, leaseWord); ok {
		switch epoch, ok := positive(rest); {
		case !ok:
		case epoch > p.epoch:
			if p.epoch > 0 {
				p.old = append(p.old, shardKey(shard, leaseWord, strconv.Itoa(p.epoch)))
			}
			p.epoch, p.written = epoch, o.Modified
		default:
			p.old = append(p.old, o.Key)
		}
		return
	}
	if what, ok := strings.CutPrefix(word, pausedWord); ok && slices.Contains(Pausable(), what) {
		if p.paused == nil {
			p.paused = map[string]struct{}{}
		}
		p.paused[what] = struct{}{}
	}
	if name, ok := strings.CutPrefix(word, protectedWord); ok {
		if p.protected == nil {
			p.protected = map[string]bool{}
		}
		p.protected[name] = true
	}
	if rest, ok := strings.CutPrefix(word, holdWord); ok {
		if seconds, ok := positive(rest); ok && p.hold.IsZero() {
			p.hold = time.Unix(int64(seconds), 0)
		}
	}
}

// positive reads a number as adt writes it: no sign, no zeros in front.
func positive(text string) (int, bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil && n > 0 && text == strconv.Itoa(n)
}
