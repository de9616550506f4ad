package e2e

import (
	"slices"
	"testing"

	"adt/events"
	"adt/provider/local"
)

// TestOneWebserverDown: however it is down, the first failed check takes it out
// of DNS, the second ends it, and scale builds another.
func TestOneWebserverDown(t *testing.T) {
	t.Parallel()
	// Half each, so that both run beside the other tests.
	for _, faults := range [][]string{
		{"http=500", "ssh=dead", "blackhole", "config=missing", "ssh=hang"},
		{"refuse", "crash", "marker=missing", "progress=old", "freeze", "http=hang"},
	} {
		t.Run(faults[0], func(t *testing.T) {
			t.Parallel()
			f := grown(t, 3, settings{"healthcheck.deadline": probeDeadline(2), "build.application_config": `"app.conf"`})
			for _, fault := range faults {
				m, sick := f.mark(), f.Members()[0]
				f.Break(sick.ID, fault)
				f.Exits(0, "healthcheck")
				if f.Said(m, events.Strike) != 1 || f.Said(m, events.Withdrawn) != 1 {
					t.Fatalf("%s: the first check\n%s", fault, f.Story())
				}
				f.Expect(m, 0, 0)
				f.Exits(0, "healthcheck")
				f.Expect(m, 0, 1)
				if gone := ids(f.Since(m, local.Destroyed)); gone != sick.ID {
					t.Fatalf("%s: %s is gone, not %s\n%s", fault, gone, sick.ID, f.Story())
				}
				f.Settle(3)
				f.Expect(m, 1, 1)
				if f.LowestDNS(m) < 2 {
					t.Errorf("%s: a healthy one was withdrawn\n%s", fault, f.Story())
				}
			}
		})
	}
}

// TestAFlakeIsNoEnd: a webserver that passes between two failures keeps its life.
func TestAFlakeIsNoEnd(t *testing.T) {
	t.Parallel()
	f := grown(t, 3, nil)
	m, flaky := f.mark(), f.Members()[1]
	for range 3 {
		f.Break(flaky.ID, "http=500")
		f.Exits(0, "healthcheck")
		f.Break(flaky.ID, "none")
		f.Exits(0, "healthcheck")
	}
	f.Expect(m, 0, 0)
	f.Settle(3)
	f.Expect(m, 0, 0)
}

// TestBrakeSelfCheck: when too many fail at once, the fault is taken to be ours.
func TestBrakeSelfCheck(t *testing.T) {
	t.Parallel()
	f := grown(t, 5, nil)
	m := f.mark()
	for _, down := range []int{3, 5} {
		for _, s := range f.Members()[:down] {
			f.Break(s.ID, "http=500")
		}
		for range 3 {
			f.Exits(3, "healthcheck")
			f.Exits(0, "scale")
		}
		if f.Said(m, events.BrakeSelfCheck) < 3*down {
			t.Error(f.Story())
		}
		f.Untouched(m)
	}
	for _, s := range f.Members() {
		f.Break(s.ID, "none")
	}
	f.Exits(0, "healthcheck")
	f.Settle(5)
	f.Untouched(m)
}

// TestBrakeBudget: of two that are due, one goes a run.
func TestBrakeBudget(t *testing.T) {
	t.Parallel()
	f := grown(t, 5, nil)
	m := f.mark()
	for _, s := range f.Members()[:2] {
		f.Break(s.ID, "http=500")
	}
	f.Exits(0, "healthcheck")
	if n := len(f.Since(m, local.RecordRemoved)); n != 2 {
		t.Errorf("%d withdrawn, want 2", n)
	}
	f.Exits(3, "healthcheck")
	f.Expect(m, 0, 1)
	if f.Said(m, events.BrakeBudget) != 1 {
		t.Error(f.Story())
	}
	f.Exits(0, "healthcheck")
	f.Expect(m, 0, 2)
	f.Settle(5)
	f.Expect(m, 2, 2)
}

// TestBrakeFloorAndNoWitness: the last webservers stay until there are better.
func TestBrakeFloorAndNoWitness(t *testing.T) {
	t.Parallel()
	f := grown(t, 2, nil)
	m, sick := f.mark(), f.Members()
	for _, s := range sick {
		f.Break(s.ID, "http=500")
	}
	f.Exits(3, "healthcheck")
	if f.Said(m, events.BrakeFloor) != 1 || len(f.DNS()) != 1 {
		t.Error(f.Story())
	}
	f.Exits(3, "healthcheck")
	f.Exits(3, "healthcheck")
	if f.Said(m, events.BrakeNoWitness) == 0 {
		t.Error(f.Story())
	}
	f.Expect(m, 0, 0)
	for _, s := range sick {
		f.Await(s.Name+" is replaced", func() bool {
			f.Settle(2)
			_, there := f.Machine(s.ID)
			return !there
		})
	}
	f.Expect(m, 2, 2)
	if f.LowestDNS(m) < 1 {
		t.Errorf("nobody was in DNS\n%s", f.Story())
	}
}

// TestTheOnlyWebserverDies: another one is built and published before the dead
// one goes.
func TestTheOnlyWebserverDies(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"crash", "http=500", "refuse"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			f := grown(t, 1, nil)
			m, dead := f.mark(), f.Members()[0]
			f.Break(dead.ID, fault)
			f.Settle(1)
			f.Expect(m, 1, 1)
			var order []string
			for _, e := range f.Since(m, "") {
				order = append(order, e.Op)
			}
			want := []string{local.Created, local.RecordAdded, local.RecordRemoved, local.Destroyed}
			if !slices.Equal(order, want) {
				t.Errorf("%v, want %v\n%s", order, want, f.Story())
			}
			if _, there := f.Machine(dead.ID); there {
				t.Errorf("%s is still there", dead.Name)
			}
		})
	}
}

// TestBrakesOfOne: each rule that spares one sick webserver says so, exits 3,
// and spares it for as long as the rule holds.
func TestBrakesOfOne(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		reason  events.Reason
		changes settings
		arrange func(*fleet, local.Machine)
		release func(*fleet, local.Machine) // nil: it is never released
		stays   bool                        // in DNS
	}{
		{"grace", events.BrakeGrace, settings{"healthcheck.grace": `"1h"`}, nil,
			func(f *fleet, _ local.Machine) { f.configure(nil) }, false},
		{"pause terminate", events.BrakePaused, nil,
			func(f *fleet, _ local.Machine) { f.Tick("pause", "--reason", "a test", "terminate") },
			func(f *fleet, _ local.Machine) { f.Tick("resume", "terminate") }, false},
		{"pause dns", events.BrakePaused, nil,
			func(f *fleet, _ local.Machine) { f.Tick("pause", "--reason", "a test", "dns") },
			func(f *fleet, _ local.Machine) { f.Tick("resume", "dns") }, true},
		{"protected", events.BrakeProtected, nil,
			func(f *fleet, s local.Machine) { f.Tick("protect", s.Name) },
			func(f *fleet, s local.Machine) { f.Tick("unprotect", s.Name) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := grown(t, 3, c.changes)
			m, sick := f.mark(), f.Members()[0]
			if c.arrange != nil {
				c.arrange(f, sick)
			}
			f.Break(sick.ID, "http=500")
			f.Run("healthcheck")
			for range 3 {
				f.Exits(3, "healthcheck")
				f.Exits(0, "scale")
			}
			if f.Said(m, c.reason) < 3 {
				t.Errorf("%d times %s\n%s", f.Said(m, c.reason), c.reason, f.Story())
			}
			f.Expect(m, 0, 0)
			if stays := len(f.DNS()) == 3; stays != c.stays {
				t.Errorf("in DNS: %v\n%s", stays, f.Story())
			}
			c.release(f, sick)
			f.Settle(3)
			f.Expect(m, 1, 1)
			if gone := ids(f.Since(m, local.Destroyed)); gone != sick.ID {
				t.Errorf("%s is gone, not %s", gone, sick.ID)
			}
		})
	}
}

// TestBrakeInitial: an initial webserver is withdrawn and never terminated.
func TestBrakeInitial(t *testing.T) {
	t.Parallel()
	f := newFleet(t, nil)
	initial := f.Initial(1)
	f.Tick("scale", "--count", "2")
	f.Settle(2)
	m := f.mark()
	f.Break(initial.ID, "http=500")
	f.Exits(0, "healthcheck")
	for range 3 {
		f.Exits(3, "healthcheck")
		f.Exits(0, "scale")
	}
	f.Expect(m, 0, 0)
	if f.Said(m, events.BrakeInitial) != 3 || len(f.DNS()) != 2 {
		t.Error(f.Story())
	}
	f.Break(initial.ID, "none")
	f.Settle(2)
	f.Expect(m, 0, 0)
	f.Tick("scale", "--count", "0")
	f.Settle(0)
	if _, there := f.Machine(initial.ID); !there {
		t.Errorf("the initial webserver is gone\n%s", f.Story())
	}
}
