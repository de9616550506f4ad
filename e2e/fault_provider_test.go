package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"adt/events"
	"adt/provider"
	"adt/provider/local"
)

// lies are the ways in which a listing goes wrong at once; "hang" takes its
// time and has a test of its own.
func lies() []string {
	return []string{"error", "unauthorized", "rate-limited", "quota", "empty", "partial", "duplicate", "stale"}
}

// TestLiesAboutAFleetAtRest: whatever the listings say, a fleet that is as it
// shall be stays so, for longer than a missing server is waited for.
func TestLiesAboutAFleetAtRest(t *testing.T) {
	t.Parallel()
	for _, ops := range [][]local.Op{{local.OpList}, {local.OpRecords}, {local.OpList, local.OpRecords}} {
		t.Run(fmt.Sprint(ops), func(t *testing.T) {
			t.Parallel()
			f := grown(t, 4, nil)
			m, before := f.mark(), f.Names()
			for _, lie := range lies() {
				for _, op := range ops {
					f.BreakAPI(op, lie)
				}
				began := time.Now()
				for looks := 0; looks < 3 || time.Since(began) < 400*time.Millisecond; looks++ {
					f.Run("scale")
					f.Run("healthcheck")
				}
				f.Untouched(m)
				f.Heal()
				f.Tick("scale")
				f.Tick("healthcheck")
				f.Untouched(m)
			}
			f.Settle(4)
			f.Untouched(m)
			if after := f.Names(); !slices.Equal(after, before) {
				t.Fatalf("%v, before %v", after, before)
			}
			for _, k := range f.State().Known {
				if k.Strikes > 0 {
					t.Errorf("%s has %d strikes after nothing but lies", k.Name, k.Strikes)
				}
			}
		})
	}
}

// TestLiesWithDryRun: a plan is not made from a lie either.
func TestLiesWithDryRun(t *testing.T) {
	t.Parallel()
	f := grown(t, 2, nil)
	for lie, code := range map[string]int{"error": 1, "unauthorized": 1, "rate-limited": 1, "empty": 3, "partial": 3} {
		f.BreakAPI(local.OpList, lie)
		for _, command := range []string{"scale", "healthcheck"} {
			if r := f.Exits(code, command, "--dry-run"); r.stdout != "" {
				t.Errorf("%s: a plan from a lie: %v", lie, r)
			}
		}
		f.Heal()
		f.Tick("scale")
	}
}

// TestLiesWhileBuilding: the lie begins when the servers have just been made.
func TestLiesWhileBuilding(t *testing.T) {
	t.Parallel()
	for _, lie := range lies() {
		t.Run(lie, func(t *testing.T) {
			t.Parallel()
			f := grown(t, 2, settings{"local.build": `"500ms"`, "scale.budget": `"1500ms"`})
			old := f.Names()
			m := f.mark()
			if lie == "stale" {
				f.BreakAPI(local.OpList, lie) // from before the builds
			}
			f.Tick("scale", "--count", "4")
			wait := f.Background("scale")
			f.Await("two more are made", func() bool { return len(f.Since(m, local.Created)) == 2 })
			f.BreakAPI(local.OpList, lie)
			wait()
			for range 2 {
				f.Run("healthcheck")
				f.Run("scale")
			}
			f.Expect(m, 2, 0)
			if gone := f.Since(m, local.RecordRemoved); len(gone) > 0 {
				t.Fatalf("withdrawn: %v\n%s", gone, f.Story())
			}
			f.Heal()
			f.Settle(4)
			f.Expect(m, 2, 0)
			for _, name := range old {
				if !slices.Contains(f.Names(), name) {
					t.Errorf("%s is gone", name)
				}
			}
		})
	}
}

// TestLiesWhileTerminating: those chosen before the lie may go, nobody else,
// and DNS keeps all the others.
func TestLiesWhileTerminating(t *testing.T) {
	t.Parallel()
	for _, lie := range lies() {
		t.Run(lie, func(t *testing.T) {
			t.Parallel()
			f := grown(t, 4, settings{"scale.drain": `"400ms"`, "scale.budget": `"1500ms"`})
			m := f.mark()
			f.BreakAPI(local.OpRecords, lie)
			f.Tick("scale", "--count", "2")
			wait := f.Background("scale")
			f.Await("two are chosen", func() bool { return f.Said(m, events.TerminationStart) == 2 })
			f.BreakAPI(local.OpList, lie)
			var chosen []string
			for _, e := range f.Events(events.TerminationStart) {
				chosen = append(chosen, e.Server)
			}
			wait()
			for range 2 {
				f.Run("healthcheck")
				f.Run("scale")
			}
			check := func() {
				t.Helper()
				for _, e := range f.Since(m, local.Destroyed) {
					if !slices.Contains(chosen, e.Name) {
						t.Fatalf("%s was destroyed and not chosen\n%s", e.Name, f.Story())
					}
				}
				if left := f.LowestDNS(m); left < 2 {
					t.Fatalf("only %d were in DNS\n%s", left, f.Story())
				}
			}
			check()
			if failed := []string{"error", "unauthorized", "rate-limited", "quota"}; slices.Contains(failed, lie) {
				f.Untouched(m) // nothing is drained that cannot be taken out of DNS
			}
			f.Heal()
			f.Settle(2)
			check()
			f.Expect(m, 0, 2)
		})
	}
}

// TestListingHangs: a call without an answer is given up, and nothing follows
// from it.
func TestListingHangs(t *testing.T) {
	if testing.Short() {
		t.Skip("a listing is given up after 30 s")
	}
	t.Parallel()
	f := grown(t, 2, nil)
	m := f.mark()
	f.BreakAPI(local.OpList, "hang")
	f.BreakAPI(local.OpRecords, "hang")
	scale, check := f.Background("scale"), f.Background("healthcheck")
	for _, r := range []result{scale(), check()} {
		if r.code != 1 {
			t.Errorf("want exit 1: %v", r)
		}
	}
	f.Untouched(m)
	if f.Said(m, events.ObservationFailed) != 2 {
		t.Error(f.Story())
	}
	f.Heal()
	f.Settle(2)
	f.Untouched(m)
}

// TestLostStateAndEmptyListing: an autoscaler that forgot everything believes
// DNS before it believes an empty listing, however often it looks.
func TestLostStateAndEmptyListing(t *testing.T) {
	t.Parallel()
	for _, lie := range []string{"empty", "partial", "error"} {
		f := grown(t, 3, nil)
		f.must(os.RemoveAll(f.path("runtime")))
		m := f.mark()
		f.BreakAPI(local.OpList, lie)
		for range 4 {
			f.Run("scale")
			f.Run("healthcheck")
		}
		f.Untouched(m)
		f.Heal()
		f.Settle(3)
		f.Expect(m, 0, 0)
	}
}

// TestLostStateAndUnknownDNS: an empty listing is not believed when DNS cannot
// be asked either.
func TestLostStateAndUnknownDNS(t *testing.T) {
	t.Parallel()
	f := grown(t, 1, nil)
	f.must(os.RemoveAll(f.path("runtime")))
	m := f.mark()
	f.BreakAPI(local.OpList, "empty")
	f.BreakAPI(local.OpRecords, "error")
	for range 4 {
		f.Exits(3, "scale")
		f.Run("healthcheck")
	}
	f.Untouched(m)
}

// TestCreateFails: a create call fails in every way, and in the end there are
// as many servers as asked for, each made once.
func TestCreateFails(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"before", "after", "after-lost", "error", "rate-limited", "slow=200ms"} {
		for _, times := range []int{1, 5} {
			t.Run(fmt.Sprintf("%s-%d", fault, times), func(t *testing.T) {
				t.Parallel()
				f := newFleet(t, nil)
				f.BreakAPI(local.OpCreate, fmt.Sprintf("%s,times=%d", fault, times))
				f.Tick("scale", "--count", "3")
				f.Settle(3)
				f.Expect(mark{}, 3, 0)
				if fault == "after-lost" && f.Said(mark{}, events.BuildAdopted) == 0 {
					t.Errorf("nothing was adopted\n%s", f.Story())
				}
				if fault == "before" && f.Said(mark{}, events.BuildRepeated) == 0 {
					t.Errorf("nothing was repeated\n%s", f.Story())
				}
			})
		}
	}
}

// TestBuildsThatNeverEnd are condemned, destroyed and begun anew.
func TestBuildsThatNeverEnd(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"never-ready", "never-addressed"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, settings{"build.phase.addressed": `"2s"`, "build.phase.ready": `"2s"`, "scale.budget": `"5s"`})
			f.BreakAPI(local.OpCreate, fault+",times=2")
			f.Tick("scale", "--count", "3")
			f.Settle(3)
			f.Expect(mark{}, 5, 2)
			if f.Said(mark{}, events.BuildCondemned) != 2 || f.Said(mark{}, events.BuildDestroyed) != 2 {
				t.Error(f.Story())
			}
			// Those that went wrong are those that are gone.
			for _, m := range f.Machines() {
				if m.Fault != (local.Fault{}) {
					t.Errorf("%s is left: %s", m.Name, m.Fault)
				}
			}
		})
	}
}

// TestACondemnedServerThatIsNotListed is destroyed by the id that the create
// call gave: a listing that hides it must not make it live on unseen.
func TestACondemnedServerThatIsNotListed(t *testing.T) {
	t.Parallel()
	f := newFleet(t, settings{"build.phase.addressed": `"1s"`, "scale.budget": `"2s"`, "build.max_failures": `1`})
	f.BreakAPI(local.OpList, "empty")
	f.Tick("scale", "--count", "1")
	f.Run("scale")
	f.Run("scale")
	f.Heal()
	f.Expect(mark{}, 1, 1)
	if left := f.Names(); len(left) > 0 {
		t.Errorf("left: %v\n%s", left, f.Story())
	}
}

// TestBackoff: builds that the provider refuses are tried at growing intervals,
// then no more, until an operator says so.
func TestBackoff(t *testing.T) {
	t.Parallel()
	f := newFleet(t, settings{"build.backoff": `["100ms", "200ms", "400ms"]`, "build.max_failures": `4`})
	f.BreakAPI(local.OpCreate, "quota")
	f.Tick("scale", "--count", "2")
	f.Await("building stops", func() bool {
		f.Run("scale")
		return f.Said(mark{}, events.BuildingStop) > 0
	})
	var waits []string
	for _, e := range f.Events(events.Backoff) {
		if w, ok := strings.CutPrefix(e.Text, "the next build begins in "); ok {
			waits = append(waits, w)
		}
	}
	if want := []string{"100ms", "200ms", "400ms"}; !slices.Equal(waits, want) {
		t.Errorf("waited %v, want %v", waits, want)
	}
	calls := func() int {
		all, err := f.cloud.Calls()
		f.must(err)
		return len(slices.DeleteFunc(all, func(c local.Call) bool { return c.Op != local.OpCreate }))
	}
	if n := calls(); n != 4*2 { // four waves of two
		t.Errorf("%d create calls", n)
	}
	f.Heal()
	for range 3 {
		f.Exits(3, "scale")
	}
	if n := calls(); n != 4*2 {
		t.Errorf("%d create calls after the stop", n)
	}
	f.Tick("resume")
	f.Settle(2)
	f.Expect(mark{}, 2, 0)
}

// TestBackoffIsForgottenAfterASuccess, so that failures long ago do not add up.
func TestBackoffIsForgottenAfterASuccess(t *testing.T) {
	t.Parallel()
	f := newFleet(t, settings{"build.max_failures": `2`})
	for n := 1; n <= 3; n++ {
		f.BreakAPI(local.OpCreate, "quota,times=1")
		f.Tick("scale", "--count", fmt.Sprint(n))
		f.Settle(n)
	}
	if f.Said(mark{}, events.BuildingStop) > 0 {
		t.Error(f.Story())
	}
	f.Expect(mark{}, 3, 0)
}

// TestDestroyFails: a destroy call fails in every way, and each server that
// shall go is destroyed once, no other is.
func TestDestroyFails(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"before,times=3", "after,times=2", "error,times=1", "unauthorized,times=3", "rate-limited,times=1", "quota,times=1", "slow=200ms"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			f := grown(t, 3, nil)
			m := f.mark()
			f.BreakAPI(local.OpDestroy, fault)
			f.Tick("scale", "--count", "1")
			f.Settle(1)
			f.Expect(m, 0, 2)
			if f.LowestDNS(m) < 1 {
				t.Error(f.Story())
			}
		})
	}
}

// TestDestroyedBehindOurBack: one that is gone already ends its termination.
func TestDestroyedBehindOurBack(t *testing.T) {
	t.Parallel()
	f := grown(t, 3, settings{"scale.drain": `"1h"`, "scale.budget": `"500ms"`})
	m := f.mark()
	f.Tick("scale", "--count", "2")
	f.Tick("scale")
	ends := f.State().Terminations
	if len(ends) != 1 {
		t.Fatal(f.Story())
	}
	f.must(f.cloud.Destroy(context.Background(), f.cloudID(ends[0].ID)))
	f.configure(nil) // the drain ends
	f.Settle(2)
	f.Expect(m, 0, 1)
}

// TestDNSFails: records that cannot be added or removed hold up what depends
// on them and nothing else.
func TestDNSFails(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"error,times=2", "after,times=2", "before,times=1", "unauthorized,times=3", "rate-limited,times=1"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, nil)
			f.BreakAPI(local.OpAddRecord, fault)
			f.Tick("scale", "--count", "3")
			f.Settle(3)
			f.Expect(mark{}, 3, 0)
			f.BreakAPI(local.OpRemoveRecord, fault)
			m := f.mark()
			f.Tick("scale", "--count", "1")
			f.Settle(1)
			f.Expect(m, 0, 2)
		})
	}
	t.Run("lie", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, nil)
		f.BreakAPI(local.OpAddRecord, "lie,times=1")
		f.Tick("scale", "--count", "2")
		f.Settle(2) // the health check publishes the one
		f.Expect(mark{}, 2, 0)
		f.BreakAPI(local.OpRemoveRecord, "lie,times=1")
		f.Tick("scale", "--count", "1")
		f.Settle(1) // and purges the other's record
		f.Expect(mark{}, 2, 1)
	})
}

// TestOrphan: a server with our name that nobody recorded and that never comes
// up is reported, ends by its health, and is replaced.
func TestOrphan(t *testing.T) {
	t.Parallel()
	f := grown(t, 2, nil)
	m := f.mark()
	orphan := f.unrecorded("ws-lon1-shop-1-agil-Or01")
	f.Break(orphan, "refuse")
	f.Tick("scale", "--count", "3")
	f.Tick("scale")
	f.Expect(m, 1, 0) // it counts as the third
	f.Await("the orphan ends", func() bool {
		f.Run("healthcheck")
		return len(f.Since(m, local.Destroyed)) > 0
	})
	if gone := ids(f.Since(m, local.Destroyed)); gone != orphan {
		t.Errorf("%s was destroyed, want %s", gone, orphan)
	}
	if f.Said(m, events.OrphanFound) != 1 {
		t.Errorf("reported %d times\n%s", f.Said(m, events.OrphanFound), f.Story())
	}
	f.Settle(3)
	f.Expect(m, 2, 1)
}

// unrecorded makes a server behind adt's back and waits for its addresses.
func (f *fleet) unrecorded(name string) (id string) {
	f.t.Helper()
	s, err := f.cloud.Create(context.Background(), provider.Spec{Name: name, UserData: []byte("#cloud-config\n")})
	f.must(err)
	f.Await(name+" has its addresses", func() bool {
		m, _ := f.Machine(f.vendorID(s.ID))
		return m.Addressed()
	})
	return f.vendorID(s.ID)
}

// TestForeignServersAreLeftAlone, sick or not, whatever becomes of the fleet.
func TestForeignServersAreLeftAlone(t *testing.T) {
	t.Parallel()
	f := newFleet(t, settings{"autoscaler.count": `2`})
	var foreign []string
	for _, name := range []string{
		"ws-lon1-shop-2-agil-AAAA",   // of another autoscaler
		"ws-lon1-shop-10-agil-AAAA",  // begins like ours
		"ws-lon1-shop-11-agil-AAAA",  //
		"ws-lon1-shop2-1-agil-AAAA",  // of another build
		"ws-lon1-shop-1-1-agil-AAAA", // of a build named shop-1
		"ws-lon1-shop-1-agix-AAAA",   // of another user
		"ws-lon1-shop-1-agil-AAAAA",  // not quite a name of ours
		"ws-lon10-shop-1-agil-AAAA",  // of another region
		"x-ws-lon1-shop-1-agil-AAAA", "db-1",
	} {
		id := f.unrecorded(name)
		f.Break(id, "refuse")
		foreign = append(foreign, id)
	}
	for _, n := range []int{4, 0} { // shares of 2 and 2, and of none
		f.Tick("scale", "--count", fmt.Sprint(n))
		f.Await("as many as asked for", func() bool {
			f.Run("scale")
			f.Exits(0, "healthcheck")
			f.Exits(0, "reboot-if-done")
			return len(f.Machines()) == len(foreign)+n/2
		})
		for range 3 {
			f.Exits(0, "healthcheck")
		}
	}
	for _, e := range f.Since(mark{}, local.Destroyed) {
		if slices.Contains(foreign, e.ID) {
			t.Errorf("%s was destroyed", e.Name)
		}
	}
	for _, e := range f.Events() {
		for _, m := range f.Machines() {
			if e.Server == m.Name {
				t.Errorf("%s concerned us: %+v", m.Name, e)
			}
		}
	}
}
