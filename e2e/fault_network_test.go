package e2e

import (
	"fmt"
	"slices"
	"testing"

	"adt/events"
	"adt/provider/local"
)

// TestOwnNetworkGone: without its network an autoscaler destroys, withdraws and
// builds nothing, however long it lasts, and finds the fleet as before.
func TestOwnNetworkGone(t *testing.T) {
	t.Parallel()
	for _, outage := range []local.Outage{local.OutageAll, local.OutageAPI, local.OutageDial} {
		t.Run(string(outage), func(t *testing.T) {
			t.Parallel()
			f := grown(t, 5, nil)
			m, before := f.mark(), f.Names()
			for _, runs := range []int{1, 2, 10} {
				f.Outage(outage)
				for range runs {
					f.Run("scale")
					f.Run("healthcheck")
				}
				f.Untouched(m)
				f.Heal()
				f.Tick("scale")
				f.Tick("healthcheck")
				f.Untouched(m)
				if after := f.Names(); !slices.Equal(after, before) {
					t.Fatalf("%v, before %v", after, before)
				}
				for _, k := range f.State().Known {
					if k.Strikes != 0 || k.State != "healthy" {
						t.Errorf("%s is %s with %d strikes", k.Name, k.State, k.Strikes)
					}
				}
			}
			reason := events.ObservationFailed
			if outage == local.OutageDial {
				reason = events.BrakeSelfCheck
			}
			if f.Said(m, reason) == 0 {
				t.Errorf("no %s\n%s", reason, f.Story())
			}
		})
	}
}

// TestMachinesOutOfReach: a small fleet cannot tell an outage of its own from
// sick webservers. It may build a replacement, but ends none of those it had,
// keeps one of them in DNS, and comes back to them.
func TestMachinesOutOfReach(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 2} {
		for _, outage := range []local.Outage{local.OutageDial, local.OutageAll} {
			t.Run(fmt.Sprintf("%d-%s", size, outage), func(t *testing.T) {
				t.Parallel()
				f := grown(t, size, settings{"scale.budget": `"300ms"`})
				m, before := f.mark(), f.Machines()
				for _, runs := range []int{1, 2, 10} {
					start := f.mark()
					f.Outage(outage)
					for range runs {
						f.Run("scale")
						f.Run("healthcheck")
					}
					if gone := f.Since(start, local.Destroyed); len(gone) > 0 {
						t.Fatalf("destroyed without a network: %v\n%s", gone, f.Story())
					}
					f.Heal()
					f.Settle(size)
				}
				if f.LowestDNS(m) < 1 {
					t.Errorf("nobody was in DNS\n%s", f.Story())
				}
				for _, old := range before {
					if _, there := f.Machine(old.ID); !there {
						t.Errorf("%s is gone\n%s", old.Name, f.Story())
					}
				}
				if outage == local.OutageAll {
					f.Untouched(m)
				}
			})
		}
	}
}

// TestNetworkGoneWhileBuilding: builds and terminations under way wait.
func TestNetworkGoneWhileBuilding(t *testing.T) {
	t.Parallel()
	f := grown(t, 2, settings{"local.build": `"500ms"`, "scale.budget": `"1500ms"`})
	m := f.mark()
	f.Tick("scale", "--count", "4")
	wait := f.Background("scale")
	f.Await("two more are made", func() bool { return len(f.Since(m, local.Created)) == 2 })
	f.Outage(local.OutageAll)
	wait()
	for range 3 {
		f.Run("scale")
		f.Run("healthcheck")
	}
	f.Expect(m, 2, 0)
	f.Heal()
	f.Settle(4)
	f.Expect(m, 2, 0)
}
