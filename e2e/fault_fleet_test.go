package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"adt/events"
	"adt/provider/local"
)

// grown is a fleet of n webservers, at rest.
func grown(t testing.TB, n int, changes settings) *fleet {
	t.Helper()
	f := newFleet(t, changes)
	f.Tick("scale", "--count", fmt.Sprint(n))
	f.Settle(n)
	return f
}

// mark is a moment in a fleet's life, to tell what happened since.
type mark struct{ audit, events int }

func (f *fleet) mark() mark {
	f.t.Helper()
	return mark{len(f.Audit()), len(f.Events())}
}

// Since returns the real changes of one kind since the mark; "" is of all.
func (f *fleet) Since(m mark, op string) []local.Entry {
	f.t.Helper()
	return slices.DeleteFunc(f.Audit()[m.audit:], func(e local.Entry) bool { return op != "" && e.Op != op })
}

// Said counts the events with the reason since the mark.
func (f *fleet) Said(m mark, reason events.Reason) int {
	f.t.Helper()
	n := 0
	for _, e := range f.Events()[m.events:] {
		if e.Reason == reason {
			n++
		}
	}
	return n
}

// Untouched fails the test if anything of the cloud was changed since the mark.
func (f *fleet) Untouched(m mark) {
	f.t.Helper()
	if changes := f.Since(m, ""); len(changes) > 0 {
		f.t.Fatalf("nothing was to be touched: %+v\n%s", changes, f.Story())
	}
}

// Expect fails the test unless so many servers were created and destroyed since
// the mark.
func (f *fleet) Expect(m mark, created, destroyed int) {
	f.t.Helper()
	c, d := len(f.Since(m, local.Created)), len(f.Since(m, local.Destroyed))
	if c != created || d != destroyed {
		f.t.Fatalf("%d created and %d destroyed, want %d and %d\n%s", c, d, created, destroyed, f.Story())
	}
}

// Exits runs adt and fails the test unless it exits with the code.
func (f *fleet) Exits(code int, args ...string) result {
	f.t.Helper()
	r := f.Run(args...)
	if r.code != code {
		f.t.Fatalf("want exit %d: %v\n%s", code, r, f.Story())
	}
	return r
}

// LowestDNS is the fewest records there were at any time since the mark.
func (f *fleet) LowestDNS(m mark) int {
	f.t.Helper()
	count, lowest := 0, -1
	for i, e := range f.Audit() {
		if i == m.audit {
			lowest = count
		}
		switch e.Op {
		case local.RecordAdded:
			count++
		case local.RecordRemoved:
			count--
		}
		if i >= m.audit {
			lowest = min(lowest, count)
		}
	}
	if lowest < 0 {
		return count
	}
	return lowest
}

// Await waits until something holds, which a process at work brings about.
func (f *fleet) Await(what string, holds func() bool) {
	f.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			f.t.Fatalf("%s: not within 20s\n%s", what, f.Story())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Background runs adt; the result is there when it has ended.
func (f *fleet) Background(args ...string) (wait func() result) {
	f.t.Helper()
	var r result
	var wg sync.WaitGroup
	wg.Go(func() { r = f.Run(args...) })
	f.t.Cleanup(wg.Wait) // before the cloud is cleaned
	return func() result { wg.Wait(); return r }
}

// Outage takes autoscaler 1's network away, or gives it back.
func (f *fleet) Outage(o local.Outage) {
	f.t.Helper()
	f.must(f.cloud.SetOutage(context.Background(), "1", o))
}

// Heal ends all faults of the API and the network.
func (f *fleet) Heal() {
	f.t.Helper()
	for _, op := range local.Ops() {
		f.BreakAPI(op, "none")
	}
	f.Outage(local.OutageNone)
}

// Names are the machines' names, sorted.
func (f *fleet) Names() []string {
	f.t.Helper()
	var names []string
	for _, m := range f.Machines() {
		names = append(names, m.Name)
	}
	slices.Sort(names)
	return names
}

// ids of entries, joined; for messages and comparisons.
func ids(entries []local.Entry) string {
	var all []string
	for _, e := range entries {
		all = append(all, e.ID)
	}
	return strings.Join(all, " ")
}
