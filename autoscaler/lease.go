package autoscaler

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"adt/datastore"
	"adt/events"
	"adt/lock"
	"adt/rundir"
)

// Lease is the content of autoscaler-<shard>/LEASE:<epoch>: who may change what
// belongs to a shard, and until when, by the store's clock. A lease is taken and
// renewed by making the object of the next epoch, which one can do; who sees a
// higher epoch than the own one has lost the shard.
type Lease struct {
	Version    int       `json:"version"`
	Autoscaler int       `json:"autoscaler"` // the holder's number
	Holder     string    `json:"holder"`     // its machine
	Nonce      string    `json:"nonce"`      // tells two tries of one holder apart
	From       time.Time `json:"from"`       // the holder acts from then on
	Until      time.Time `json:"until"`
}

// HeldError says that somebody else may change what belongs to a shard.
type HeldError struct {
	Shard      int
	Autoscaler int    // who; 0 is not known
	Holder     string // its machine
	From       time.Time
	Until      time.Time // by the store's clock
	Why        string
}

func (e *HeldError) Error() string {
	text := fmt.Sprintf("the webservers of autoscaler %d are not ours to change: %s", e.Shard, e.Why)
	if e.Holder != "" {
		text += fmt.Sprintf("; autoscaler %d (%s) keeps them until %s", e.Autoscaler, e.Holder, e.Until.UTC().Format(time.TimeOnly))
	}
	return text
}

// holding is the record lease.json: the lease that this machine holds on a shard.
type holding struct {
	Version int           `json:"version"`
	Epoch   int           `json:"epoch"`
	From    time.Time     `json:"from"`
	Until   time.Time     `json:"until"`
	Skew    time.Duration `json:"skew"` // nanoseconds; the store's clock minus steady time
	// Fresh: somebody else kept the shard before, and what is recorded here of it
	// may be outdated.
	Fresh bool `json:"fresh,omitempty"`
}

const leaseFile = "lease.json"

// What follows from the length of a lease.
func (s Settings) renewAt() time.Duration  { return s.Lease / 2 }  // what is left when it is renewed
func (s Settings) verify() time.Duration   { return s.Lease / 20 } // how long a look at a shard that was taken over is good for
func (s Settings) handover() time.Duration { return s.Lease / 5 }  // from an owner's return until it acts: one verify and one call, and some

// callLimit bounds a call that creates or destroys. With leases it ends well
// before a holder that was not seen alive could be replaced.
func (s Settings) callLimit() time.Duration {
	if s.Lease == 0 {
		return createTimeout
	}
	return min(createTimeout, s.Lease/10)
}

// fence keeps an autoscaler from acting on a shard that is not its own any more.
type fence struct {
	mu       sync.Mutex
	holding  holding
	owner    bool // of a shard of one's own: nobody takes that before it expires
	verified time.Time
	lost     error
}

// mayAct returns nil while the shard is ours: for at least as long as a call
// takes. Each call that changes something is preceded by it.
func (a *Autoscaler) mayAct(ctx context.Context) error {
	f := a.fence
	if f == nil {
		return nil // there is nobody to share with
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost != nil {
		return f.lost
	}
	lost := func(why string) error {
		f.lost = &HeldError{Shard: a.Shard, Why: why}
		a.event(events.LeaseLost, "", "%v", f.lost)
		return f.lost
	}
	now, within := a.Now().Add(f.holding.Skew), blindMargin
	if a.board != nil {
		var err error
		if now, within, err = a.Profiles.Store.Now(ctx); err != nil {
			return fmt.Errorf("whether the lease of shard %d holds: %w", a.Shard, err)
		}
	}
	if left := f.holding.Until.Sub(now) - within; left < a.callLimit() {
		return lost(fmt.Sprintf("the lease of epoch %d has %s left, less than a call may take", f.holding.Epoch, left.Round(time.Millisecond)))
	}
	if f.owner || now.Sub(f.verified) < a.verify() {
		return nil
	}
	objects, err := a.Profiles.Store.List(ctx, a.Profiles.Bucket, shardKey(a.Shard, leaseWord, ""))
	if err != nil {
		return fmt.Errorf("whether the lease of shard %d holds: %w", a.Shard, err)
	}
	for _, o := range objects {
		if epoch, ok := positive(o.Key[len(shardKey(a.Shard, leaseWord, "")):]); ok && epoch > f.holding.Epoch {
			return lost(fmt.Sprintf("epoch %d was taken, ours is %d", epoch, f.holding.Epoch))
		}
	}
	f.verified = now
	return nil
}

// Keep takes and renews the leases on the own shard and on those of autoscalers
// that have died. It returns the shards that this machine may act on now, the own
// one first; where that is missing the error is a *HeldError. Where autoscalers
// share nothing, it is the own shard alone and nobody is asked.
func (a *Autoscaler) Keep(ctx context.Context) (kept []int, err error) {
	if a.Lease == 0 {
		return []int{a.Shard}, nil
	}
	release, err := lock.Wait(ctx, a.Dir.Path("lease.lock"))
	if err != nil {
		return nil, err
	}
	defer release()
	b, err := a.Profiles.read(ctx)
	if err != nil {
		return a.keepBlind(err)
	}
	a.board = b
	a.lookAtClock(ctx)
	if b.posts[a.Shard].epoch == 0 {
		if able, err := a.conditional(ctx); err != nil || !able {
			a.Lease = 0 // for this run: nobody takes over from anybody
			return []int{a.Shard}, err
		}
	}
	own := a.keep(ctx, a.Shard, b)
	if own == nil {
		kept = append(kept, a.Shard)
		if err := a.tellPauses(ctx, b.posts[a.Shard].paused); err != nil {
			return nil, err
		}
	}
	for shard := 1; shard <= MaxAutoscalers; shard++ {
		// A shard without any lease is kept by something that takes none.
		if shard == a.Shard || b.posts[shard].epoch == 0 {
			continue
		}
		err := a.keep(ctx, shard, b)
		var held *HeldError
		switch {
		case err == nil:
			kept = append(kept, shard)
		case !errors.As(err, &held):
			a.storeFault(err)
		}
	}
	return kept, own
}

// conditional reports whether the store honours the condition that leases rest
// on. It is asked before the first lease is taken; a store that does not is asked
// again after a day.
func (a *Autoscaler) conditional(ctx context.Context) (bool, error) {
	prober, ok := a.Profiles.Store.(datastore.Prober)
	if !ok {
		return true, nil
	}
	const refused = "LEASES_REFUSED"
	if since, there, err := a.Dir.Exists(refused); err != nil || there && time.Since(since) < 24*time.Hour {
		return false, err
	}
	able, err := prober.Conditional(ctx, a.Profiles.Bucket, shardKey(a.Shard, "PROBE:", rand.Text()))
	if err != nil {
		return false, fmt.Errorf("whether leases are possible: %w", err)
	}
	if !able {
		a.event(events.LeasesRefused, "", "the datastore makes an object that is there already (it ignores If-None-Match): set datastore.takeover = false, or use another store")
		return false, a.Dir.Mark(refused)
	}
	return true, a.Dir.Unmark(refused)
}

// skewLimit is from when on the clocks are worth a word. S3 refuses requests at
// 15 minutes.
const skewLimit = time.Minute

func (a *Autoscaler) lookAtClock(ctx context.Context) {
	now, within, err := a.Profiles.Store.Now(ctx)
	if skew := time.Since(now); err == nil && skew.Abs() > skewLimit+within {
		a.event(events.ClockSkew, "", "this machine's clock is %s ahead of the datastore's; leases and schedules go by the datastore's", skew.Round(time.Second))
	}
}

// keepBlind goes on with the leases that are held already while the store is
// silent: nobody else can have them before they expire.
func (a *Autoscaler) keepBlind(cause error) ([]int, error) {
	a.storeFault(cause)
	var h holding
	found, err := a.Dir.Read(a.leasePath(a.Shard), &h)
	if err != nil {
		return nil, err
	}
	now := a.Now().Add(h.Skew)
	if !found || h.Fresh || now.Before(h.From) || h.Until.Sub(now) < a.callLimit()+blindMargin {
		return nil, fmt.Errorf("%w: %w", ErrNotObserved, cause)
	}
	a.board = nil
	return []int{a.Shard}, nil
}

// blindMargin is how far this machine's clock may be from the store's, where
// that cannot be asked.
const blindMargin = 30 * time.Second

func (a *Autoscaler) leasePath(shard int) string {
	if shard == a.Shard {
		return leaseFile
	}
	return GuestFolder(shard) + "/" + leaseFile
}

// GuestFolder is where the records of a shard are that was taken over, below
// the runtime directory.
func GuestFolder(shard int) string { return fmt.Sprintf("shards/%d", shard) }

// Guests returns the shards that this machine has records of besides its own.
func (a *Autoscaler) Guests() ([]int, error) {
	var shards []int
	for shard := 1; shard <= MaxAutoscalers; shard++ {
		if shard == a.Shard {
			continue
		}
		_, there, err := a.Dir.Exists(a.leasePath(shard))
		if err != nil {
			return nil, err
		}
		if there {
			shards = append(shards, shard)
		}
	}
	return shards, nil
}

// keep holds or takes the lease on one shard.
func (a *Autoscaler) keep(ctx context.Context, shard int, b *board) error {
	p := b.posts[shard]
	path := a.leasePath(shard)
	var h holding
	known, err := a.Dir.Read(path, &h)
	if err != nil {
		return err
	}
	mine := known && p.epoch > 0 && h.Epoch == p.epoch
	if shard != a.Shard && !mine && b.now.Before(p.written.Add(a.Lease)) {
		return &HeldError{Shard: shard, Until: p.written.Add(a.Lease), Why: "it is not ours"} // nor reads more
	}
	var last Lease
	if p.epoch > 0 && !mine {
		last, err = a.readLease(ctx, shard, p)
		if errors.Is(err, errRenewed) {
			return &HeldError{Shard: shard, Why: err.Error()}
		}
		if err != nil {
			return err
		}
		if mine = last.Holder == a.Holder; mine { // the process was killed before it could record it
			h = holding{Version: rundir.Version, Epoch: p.epoch, From: last.From, Until: last.Until, Skew: b.now.Sub(a.Now()), Fresh: h.Fresh || p.epoch != h.Epoch+1}
			if err := a.Dir.Write(path, h); err != nil {
				return err
			}
		}
	}
	switch {
	case mine && b.now.Before(h.From):
		return a.handedOver(shard, h)
	case mine && h.Until.Sub(b.now) > a.renewAt():
		return nil // the ordinary tick writes nothing to the store
	}
	_, within, err := a.Profiles.Store.Now(ctx)
	if err != nil {
		return fmt.Errorf("taking the lease of shard %d: %w", shard, err)
	}
	from := b.now.Add(-2 * within) // another process may reckon the store's time to be earlier
	switch {
	case mine, p.epoch == 0:
	case shard == a.Shard: // the owner is back: the holder sees that and lets go
		from = last.Until.Add(2 * within)
		if soon := b.now.Add(a.handover() + 4*within); soon.Before(from) {
			from = soon
		}
	default:
		due, err := a.mayTake(ctx, shard, b, last)
		if err != nil {
			return err
		}
		if wait := due.Sub(b.now) + 2*within; wait > 0 {
			return &HeldError{Shard: shard, Autoscaler: last.Autoscaler, Holder: last.Holder, Until: last.Until, Why: "it is not ours"}
		}
	}
	return a.take(ctx, shard, p, h, from, mine || p.epoch == 0)
}

// errRenewed says that a lease was superseded since it was listed: its holder, or
// another one, is at work.
var errRenewed = errors.New("the lease is renewed at this moment")

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// readLease reads who holds a shard. What cannot be understood was written by
// somebody: it counts for as long as a lease does. Nobody has one for longer than
// that after writing it, whatever it says.
func (a *Autoscaler) readLease(ctx context.Context, shard int, p post) (Lease, error) {
	var l Lease
	content, err := a.Profiles.Store.Get(ctx, a.Profiles.Bucket, shardKey(shard, leaseWord, strconv.Itoa(p.epoch)))
	if errors.Is(err, datastore.ErrNotFound) {
		return l, errRenewed
	}
	if err != nil {
		return l, fmt.Errorf("reading the lease of shard %d: %w", shard, err)
	}
	most := p.written.Add(2*a.Lease + datastore.Precision)
	if err := json.Unmarshal(content, &l); err != nil || l.Version != rundir.Version || l.Until.IsZero() {
		l = Lease{Until: p.written.Add(a.Lease)}
	}
	if l.Until.After(most) {
		l.Until = most
	}
	return l, nil
}

// mayTake says from when on this autoscaler may take over a shard that its holder
// does not renew: the living one with the lowest number at once, each next one a
// lease later, should those before it not do so.
func (a *Autoscaler) mayTake(ctx context.Context, shard int, b *board, last Lease) (time.Time, error) {
	due := last.Until
	if b.now.Before(due) {
		return due, nil
	}
	for lower := 1; lower < a.Shard; lower++ {
		p := b.posts[lower]
		if lower == shard || p.epoch == 0 {
			continue
		}
		l, err := a.readLease(ctx, lower, p)
		renewed := errors.Is(err, errRenewed)
		if err != nil && !renewed {
			return due, err
		}
		if renewed || l.Autoscaler == lower && b.now.Before(l.Until) {
			due = due.Add(a.Lease)
		}
	}
	return due, nil
}

// take writes the next epoch. same says that nobody else held the shard in
// between.
func (a *Autoscaler) take(ctx context.Context, shard int, p post, h holding, from time.Time, same bool) error {
	// Of a store that lost its leases the own epoch goes on.
	next := holding{Version: rundir.Version, Epoch: max(p.epoch, h.Epoch) + 1, From: from, Until: maxTime(from, a.board.now).Add(a.Lease), Skew: a.board.now.Sub(a.Now()), Fresh: h.Fresh || !same}
	lease := Lease{Version: rundir.Version, Autoscaler: a.Shard, Holder: a.Holder, Nonce: rand.Text(), From: next.From, Until: next.Until}
	content, err := json.Marshal(lease)
	if err != nil {
		return fmt.Errorf("encoding a lease: %w", err)
	}
	key := shardKey(shard, leaseWord, strconv.Itoa(next.Epoch))
	switch err := a.Profiles.Store.Create(ctx, a.Profiles.Bucket, key, content); {
	case errors.Is(err, datastore.ErrExists):
		return &HeldError{Shard: shard, Why: fmt.Sprintf("somebody else took epoch %d at the same time", next.Epoch)}
	case err != nil: // it may be there: the next tick finds it by the holder
		return fmt.Errorf("taking the lease of shard %d: %w", shard, err)
	}
	// Epochs that were tidied away can be made again, by a process that slept.
	objects, err := a.Profiles.Store.List(ctx, a.Profiles.Bucket, shardKey(shard, leaseWord, ""))
	if err != nil {
		return fmt.Errorf("taking the lease of shard %d: %w", shard, err)
	}
	var old []string
	for _, o := range objects {
		epoch, ok := positive(o.Key[len(shardKey(shard, leaseWord, "")):])
		switch {
		case ok && epoch > next.Epoch:
			return &HeldError{Shard: shard, Why: fmt.Sprintf("epoch %d was taken long ago", next.Epoch)}
		case ok && epoch < next.Epoch:
			old = append(old, o.Key)
		}
	}
	if err := a.Dir.Write(a.leasePath(shard), next); err != nil {
		return err
	}
	if err := a.Profiles.remove(ctx, old); err != nil {
		a.storeFault(fmt.Errorf("deleting old leases: %w", err))
	}
	switch {
	case same:
	case shard == a.Shard:
		a.event(events.LeaseReturned, "", "epoch %d: our own webservers are ours again from %s on", next.Epoch, from.UTC().Format(time.TimeOnly))
	default:
		a.event(events.LeaseTaken, "", "epoch %d: autoscaler %d does not answer, its webservers are kept from here", next.Epoch, shard)
	}
	if from.After(a.board.now) {
		return a.handedOver(shard, next)
	}
	return nil
}

// handedOver is why an owner that is back does nothing yet.
func (a *Autoscaler) handedOver(shard int, h holding) error {
	return &HeldError{Shard: shard, Autoscaler: a.Shard, Holder: a.Holder, From: h.From, Until: h.Until,
		Why: "they were taken back, and are handed over until " + h.From.UTC().Format(time.TimeOnly)}
}

// Prepare makes an autoscaler ready to act on its shard, which Keep has
// returned: its acts are fenced from now on, and what it recorded of the shard
// before another one kept it is forgotten.
func (a *Autoscaler) Prepare(keeper *Autoscaler) error {
	if a.Lease == 0 {
		return nil
	}
	if a != keeper { // which is read by all that are prepared at once
		a.board = keeper.board
	}
	var h holding
	found, err := a.Dir.Read(leaseFile, &h)
	if err != nil {
		return err
	}
	if !found {
		return &HeldError{Shard: a.Shard, Why: "its lease is not recorded"}
	}
	a.fence = &fence{holding: h, owner: a == keeper}
	if a.board == nil {
		return nil
	}
	if now := a.board.now; !h.Fresh {
		a.fence.verified = now
		return nil
	}
	for _, name := range []string{scaleLock, healthLock} {
		release, err := a.lock(name)
		if err != nil {
			return err // a run that does not know yet; the next tick comes to it
		}
		defer release()
	}
	if err := a.startAfresh(); err != nil {
		return err
	}
	h.Fresh = false
	return a.Dir.Write(leaseFile, h)
}

// startAfresh forgets what was recorded of a shard that somebody else kept
// meanwhile. What exists is found in the listing, and what else is known of it
// in the store (inherit).
func (a *Autoscaler) startAfresh() error {
	builds, ends, err := a.inProgress()
	if err != nil {
		return err
	}
	for _, b := range builds {
		(&builder{Autoscaler: a, Build: b}).unmark()
		if err := a.Dir.Remove(buildFile(b.N)); err != nil {
			return err
		}
		a.event(events.BuildForgotten, b.Name, "another autoscaler kept its shard meanwhile")
	}
	for _, t := range ends {
		if t.Final() { // its end goes on: ids are never used again
			continue
		}
		if err := a.Dir.Remove(endFile(t.ID)); err != nil {
			return err
		}
		a.event(events.TerminationCancel, t.Name, "another autoscaler kept its shard meanwhile; its health is checked anew")
	}
	for _, name := range []string{serversFile, cycleFile, backoffFile, allowFile, proxiesFile} {
		if err := a.Dir.Remove(name); err != nil {
			return err
		}
	}
	return a.settleMarkers()
}
