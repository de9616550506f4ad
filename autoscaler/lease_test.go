package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"adt/datastore"
	"adt/events"
	"adt/rundir"
)

const tenMinutes = 10 * time.Minute

// crew is autoscalers of one fleet that share a store whose clock the test sets.
type crew struct {
	t     *testing.T
	store *objects
	said  map[int][]events.Reason
}

func newCrew(t *testing.T) *crew {
	return &crew{t, &objects{at: map[string]time.Time{}, clock: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}, map[int][]events.Reason{}}
}

func (c *crew) autoscaler(k int) *Autoscaler {
	c.t.Helper()
	dir, err := rundir.Open(c.t.TempDir(), nil, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.at(k, dir)
}

// at is the next process of an autoscaler.
func (c *crew) at(k int, dir *rundir.Dir) *Autoscaler {
	return &Autoscaler{
		Settings: Settings{Rules: Rules{Fleet: Fleet{Region: "lon1", Build: "shop", User4: "agil"}, Shard: k}, Lease: tenMinutes, Holder: fmt.Sprint("machine ", k), Autoscalers: 3},
		Profiles: Profiles{Store: c.store, Bucket: "b"}, Dir: dir, Now: func() time.Time { return c.store.clock },
		Record: func(r events.Reason, _, _ string) { c.said[k] = append(c.said[k], r) },
	}
}

func (c *crew) pass(d time.Duration) { c.store.clock = c.store.clock.Add(d) }

// keeps runs one tick's look at the leases.
func (c *crew) keeps(a *Autoscaler, want ...int) error {
	c.t.Helper()
	a = c.at(a.Shard, a.Dir)
	got, err := a.Keep(c.t.Context())
	if !slices.Equal(got, want) {
		c.t.Errorf("autoscaler %d keeps %v, %v, want %v", a.Shard, got, err, want)
	}
	return err
}

func (c *crew) leases(shard int) []string {
	return slices.DeleteFunc(c.store.keys(), func(k string) bool { return !strings.HasPrefix(k, fmt.Sprintf("autoscaler-%d/LEASE:", shard)) })
}

func TestLeases(t *testing.T) {
	c := newCrew(t)
	one, two, three := c.autoscaler(1), c.autoscaler(2), c.autoscaler(3)
	for _, a := range []*Autoscaler{one, two, three} {
		if err := c.keeps(a, a.Shard); err != nil {
			t.Fatal(err)
		}
	}
	// A lease that is good for long is not written again, one that is not is renewed.
	c.store.log = nil
	c.pass(4 * time.Minute)
	_ = c.keeps(one, 1)
	if len(c.store.log) != 1 {
		t.Errorf("a tick with nothing to do asks %v", c.store.log)
	}
	c.pass(2 * time.Minute)
	_ = c.keeps(one, 1)
	if got := c.leases(1); len(got) != 1 || got[0] != "autoscaler-1/LEASE:2" {
		t.Errorf("after a renewal there are %v", got)
	}
	_ = c.keeps(two, 2)

	// The third one is silent: nobody takes over before its time, then the first does.
	c.pass(4*time.Minute - time.Second)
	_ = c.keeps(one, 1)
	c.pass(2 * time.Second)
	_ = c.keeps(two, 2)
	_ = c.keeps(one, 1, 3)
	_ = c.keeps(two, 2)
	if !slices.Contains(c.said[1], events.LeaseTaken) || slices.Contains(c.said[2], events.LeaseTaken) {
		t.Errorf("said %v", c.said)
	}
	guest := c.at(3, mustOpen(t, one.Dir.Path(GuestFolder(3))))
	guest.Home = one.Dir
	keeper := c.at(1, one.Dir)
	if _, err := keeper.Keep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := guest.Prepare(keeper); err != nil {
		t.Fatal(err)
	}
	if err := guest.mayAct(t.Context()); err != nil {
		t.Errorf("who took over may not act: %v", err)
	}

	// It is back: it says so, and waits; who kept its shard stops within a look.
	err := c.keeps(three)
	var held *HeldError
	if !errors.As(err, &held) || held.Autoscaler != 3 || !held.From.After(c.store.clock) {
		t.Fatalf("the owner is told %v", err)
	}
	c.pass(guest.verify())
	if err := guest.mayAct(t.Context()); !errors.As(err, &held) || !strings.Contains(err.Error(), "epoch 3 was taken, ours is 2") {
		t.Errorf("who kept the shard is told %v", err)
	}
	_ = c.keeps(one, 1)
	_ = c.keeps(three) // handed over, but not yet
	c.pass(guest.handover())
	_ = c.keeps(three, 3)
	_ = c.keeps(one, 1)
}

func mustOpen(t *testing.T, path string) *rundir.Dir {
	t.Helper()
	dir, err := rundir.Open(path, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// What holds when leases are odd.
func TestOddLeases(t *testing.T) {
	t.Run("Garbage", func(t *testing.T) { // it was written by somebody, and counts for as long as a lease
		c := newCrew(t)
		one := c.autoscaler(1)
		_ = c.store.Put(t.Context(), "b", "autoscaler-2/LEASE:9", []byte(`{"version": 1, "hol`))
		_ = c.keeps(one, 1)
		c.pass(tenMinutes - time.Second)
		_ = c.keeps(one, 1)
		c.pass(2 * time.Second)
		_ = c.keeps(one, 1, 2)
	})
	t.Run("ForEver", func(t *testing.T) { // nobody has one for years
		c := newCrew(t)
		one := c.autoscaler(1)
		_ = c.store.Put(t.Context(), "b", "autoscaler-2/LEASE:9", []byte(`{"version": 1, "autoscaler": 2, "holder": "m", "until": "2099-01-01T00:00:00Z"}`))
		c.pass(tenMinutes + time.Minute)
		_ = c.keeps(one, 1)
		c.pass(tenMinutes)
		_ = c.keeps(one, 1, 2)
	})
	t.Run("NeverHeld", func(t *testing.T) { // the shell toolkit's
		c := newCrew(t)
		one := c.autoscaler(1)
		_ = c.store.Put(t.Context(), "b", "autoscaler-2/STATIC_SCALE:5", nil)
		c.pass(24 * time.Hour)
		_ = c.keeps(one, 1)
	})
	t.Run("TwoOfOneNumber", func(t *testing.T) {
		c := newCrew(t)
		one, other := c.autoscaler(1), c.autoscaler(1)
		_ = c.keeps(one, 1)
		other.Holder = "another machine"
		if got, err := other.Keep(t.Context()); len(got) > 0 || err == nil {
			t.Errorf("another machine of that number keeps %v, %v", got, err)
		}
	})
	t.Run("KilledBeforeItWasRecorded", func(t *testing.T) {
		c := newCrew(t)
		one := c.autoscaler(1)
		_ = c.keeps(one, 1)
		if err := one.Dir.Remove(leaseFile); err != nil {
			t.Fatal(err)
		}
		_ = c.keeps(one, 1)
		if got := c.leases(1); len(got) != 1 || got[0] != "autoscaler-1/LEASE:1" {
			t.Errorf("there are %v", got)
		}
	})
	t.Run("TheStoreIsSilent", func(t *testing.T) {
		c := newCrew(t)
		one := c.autoscaler(1)
		_ = c.keeps(one, 1)
		c.store.fails = "list"
		c.pass(4 * time.Minute)
		_ = c.keeps(one, 1) // what is held is held
		c.pass(5 * time.Minute)
		if err := c.keeps(one); !errors.Is(err, ErrNotObserved) { // with less left than a call may take
			t.Errorf("told %v", err)
		}
	})
	t.Run("Slept", func(t *testing.T) { // between the look and the act
		c := newCrew(t)
		one := c.autoscaler(1)
		_ = c.keeps(one, 1)
		a := c.at(1, one.Dir)
		if _, err := a.Keep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := a.Prepare(a); err != nil {
			t.Fatal(err)
		}
		if err := a.mayAct(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.pass(tenMinutes - 30*time.Second)
		c.store.log = nil
		a.note(t.Context(), "webserverips/10.0.0.1")
		a.forget(t.Context(), "webserverips/10.0.0.2")
		if slices.ContainsFunc(c.store.log, func(call string) bool { return !strings.HasPrefix(call, "list") }) {
			t.Errorf("after a sleep it tells the store %v", c.store.log)
		}
		var held *HeldError
		if err := a.mayAct(t.Context()); !errors.As(err, &held) {
			t.Errorf("after a sleep it may act: %v", err)
		}
		c.pass(-time.Hour)
		if err := a.mayAct(t.Context()); err == nil {
			t.Error("what is lost is lost for the run")
		}
	})
}

// What an operator decided goes with the shard.
func TestPausesGoAlong(t *testing.T) {
	c := newCrew(t)
	two := c.autoscaler(2)
	name := two.Fleet.Name(2, "abcd")
	if err := two.Pause(t.Context(), []string{PauseTerminate}, "a look", 0); err != nil {
		t.Fatal(err)
	}
	if err := two.Protect(t.Context(), name, true); err != nil {
		t.Fatal(err)
	}
	look := func() (holds, map[string]bool) {
		one := c.autoscaler(1)
		guest := c.at(2, mustOpen(t, one.Dir.Path(GuestFolder(2))))
		guest.Home = one.Dir
		var err error
		if guest.board, err = guest.Profiles.read(t.Context()); err != nil {
			t.Fatal(err)
		}
		h, err := guest.holds(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		guarded, err := guest.Protected(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return h, guarded
	}
	if h, guarded := look(); h.end == "" || h.scale != "" || !guarded[name] {
		t.Errorf("who takes over sees %+v, %v", h, guarded)
	}
	if _, err := two.Resume(t.Context(), []string{PauseTerminate}); err != nil {
		t.Fatal(err)
	}
	if err := two.Protect(t.Context(), name, false); err != nil {
		t.Fatal(err)
	}
	if h, guarded := look(); h.end != "" || guarded[name] {
		t.Errorf("after that it sees %+v, %v", h, guarded)
	}
}

// A pause that has run out is taken back by the next tick, and an operator can
// lift that of an autoscaler that is dead where its webservers are kept.
func TestPausesEnd(t *testing.T) {
	c := newCrew(t)
	one, two := c.autoscaler(1), c.autoscaler(2)
	_ = c.keeps(one, 1)
	_ = c.keeps(two, 2)
	const key = "autoscaler-2/PAUSED:terminate"
	if err := two.Pause(t.Context(), []string{PauseTerminate}, "for a minute", time.Minute); err != nil {
		t.Fatal(err)
	}
	_ = c.keeps(two, 2)
	if !slices.Contains(c.store.keys(), key) {
		t.Errorf("the store has %v", c.store.keys())
	}
	c.pass(2 * time.Minute)
	_ = c.keeps(two, 2)
	if slices.Contains(c.store.keys(), key) {
		t.Errorf("the store still has %v", c.store.keys())
	}
	if err := two.Pause(t.Context(), []string{PauseTerminate}, "for good", 0); err != nil {
		t.Fatal(err)
	}
	c.pass(tenMinutes + time.Minute)
	_ = c.keeps(one, 1, 2)
	if _, err := one.Resume(t.Context(), []string{PauseTerminate}); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(c.store.keys(), key) {
		t.Errorf("where its webservers are kept it was not lifted: %v", c.store.keys())
	}
}

func TestParseAutoscaler(t *testing.T) {
	f := Fleet{Region: "ch-gva-2", Build: "test-gb"}
	for name, want := range map[string]int{
		"NO-1-as-ch-gva-2-test-gb-x1Yz": 1, "NO-5-as-ch-gva-2-test-gb-a": 5, "NO-6-as-ch-gva-2-test-gb-a": 0, "NO-0-as-ch-gva-2-test-gb-a": 0, "NO-01-as-ch-gva-2-test-gb-a": 0,
		"NO-1-as-ch-gva-2-test-gb-": 0, "NO-1-as-ch-gva-2-test-gb2-x": 0, "NO-1-as-ch-gva-2-test-gb-more-x": 0, "NO-1-ws-ch-gva-2-test-gb-x": 0, "ws-ch-gva-2-test-gb-1-agil-abcd": 0, "": 0,
	} {
		if got, ok := f.ParseAutoscaler(name); ok != (want > 0) || ok && got != want {
			t.Errorf("%s is %d, %v, want %d", name, got, ok, want)
		}
	}
}

// renewing is a store in which the second autoscaler renews its lease between the
// listing and its reading, so many times.
type renewing struct {
	*objects
	times int
}

func (r *renewing) Get(ctx context.Context, bucket, key string) ([]byte, error) {
	rest, second := strings.CutPrefix(key, shardKey(2, leaseWord, ""))
	epoch, ok := positive(rest)
	if r.times == 0 || !second || !ok {
		return r.objects.Get(ctx, bucket, key)
	}
	r.times--
	if err := r.Put(ctx, bucket, shardKey(2, leaseWord, fmt.Sprint(epoch+1)), []byte(r.texts[key])); err != nil {
		return nil, err
	}
	delete(r.at, key)
	return nil, datastore.ErrNotFound
}

func TestRenewedMeanwhile(t *testing.T) {
	c := newCrew(t)
	one, two := c.autoscaler(1), c.autoscaler(2)
	_ = c.keeps(one, 1)
	_ = c.keeps(two, 2)
	one.Profiles.Store = &renewing{c.store, 2}
	peers, err := one.Peers(t.Context(), 2)
	if err != nil || peers[0].Dead() || peers[1].Dead() || peers[1].Keeper != 2 {
		t.Errorf("%+v, %v", peers, err)
	}
	// Whose lease is renewed at this moment is not taken over.
	c.pass(tenMinutes + time.Minute)
	one.Profiles.Store = &renewing{c.store, 1}
	if kept, err := one.Keep(t.Context()); !slices.Equal(kept, []int{1}) || err != nil {
		t.Errorf("keeps %v, %v", kept, err)
	}
}
