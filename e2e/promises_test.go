package e2e

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"adt/autoscaler"
	"adt/events"
	"adt/provider/local"
)

// asked is one profile that was set, or may have been set by a run that was
// killed over it.
type asked struct {
	at    time.Time
	count int
}

// witness follows a fleet through kills and remembers what the records alone
// would not show afterwards.
type witness struct {
	*fleet
	asked []asked
	// ending is since when a server is known to be on its way out, by id.
	ending map[string]time.Time
	kills  int
}

func newWitness(f *fleet) *witness {
	return &witness{fleet: f, ending: map[string]time.Time{}}
}

// Ask sets the profile, in a run that may be killed, and then for certain.
func (w *witness) Ask(count, killAt int) {
	w.t.Helper()
	w.asked = append(w.asked, asked{time.Now(), count})
	if killAt > 0 {
		w.Kill(killAt, "scale", "--count", strconv.Itoa(count))
	}
	w.Tick("scale", "--count", strconv.Itoa(count))
}

// Kill runs adt until its n-th step, and reports whether it came that far. A
// run that ends before must not have failed. What it left must be owned.
func (w *witness) Kill(n int, args ...string) bool {
	w.t.Helper()
	r := w.RunWith([]string{envKillAt + "=" + strconv.Itoa(n)}, args...)
	if r.killed {
		w.kills++
	} else if r.code != 0 && r.code != 3 {
		w.t.Fatal(r)
	}
	w.Look()
	return r.killed
}

// Look checks, while no tick runs, that every server is in a record, and notes
// which are on their way out.
func (w *witness) Look() {
	w.t.Helper()
	now, s := time.Now(), w.State()
	for _, t := range s.Terminations {
		w.note(t.ID, now)
	}
	for _, b := range s.Builds {
		if b.Phase == autoscaler.Condemned && b.ID != "" {
			w.note(b.ID, now)
		}
	}
	for _, m := range w.Members() {
		_, known := s.Known[m.ID]
		built := slices.ContainsFunc(s.Builds, func(b autoscaler.Build) bool { return b.ID == m.ID || b.ID == "" && b.Name == m.Name })
		ended := slices.ContainsFunc(s.Terminations, func(t autoscaler.Termination) bool { return t.ID == m.ID })
		if !known && !built && !ended {
			w.t.Fatalf("server %s %s is in no record\n%s", m.ID, m.Name, w.Story())
		}
	}
}

func (w *witness) note(id string, at time.Time) {
	if old, ok := w.ending[id]; !ok || at.Before(old) {
		w.ending[id] = at
	}
}

// Prove brings the fleet to rest and checks promises 1, 4 and 5 over all that
// happened.
func (w *witness) Prove(profile int) {
	w.t.Helper()
	w.Settle(profile)
	w.Look()
	for _, wrong := range slices.Concat(w.litter(), w.excesses(), w.trespasses()) {
		w.t.Errorf("%s", wrong)
	}
	if w.t.Failed() {
		w.t.Log(w.Story())
	}
}

// litter is what at rest should be in no record any more.
func (w *witness) litter() (found []string) {
	dir := os.DirFS(w.path("runtime"))
	for _, pattern := range []string{"AUTOSCALINGMONITOR:*", "INITIALLY_PROVISIONING-*", "POTENTIAL_STALLED_BUILD:*",
		"beingbuiltips/*", "terminating/*", "NOT_AUTHORISED_TO_SCALE", "reboot.json", "*.corrupt-*"} {
		names, err := fs.Glob(dir, pattern)
		w.must(err)
		for _, name := range names {
			if strings.HasPrefix(path.Base(name), ".") {
				continue // a killed writer's; rundir removes those when they are old
			}
			found = append(found, "left in runtime: "+name)
		}
	}
	machines := map[string]bool{}
	for _, m := range w.Machines() {
		machines[m.ID] = true
	}
	known := w.State().Known
	if !maps.EqualFunc(machines, known, func(bool, autoscaler.Known) bool { return true }) {
		found = append(found, fmt.Sprintf("the machines are %v and the known ones %v", slices.Sorted(maps.Keys(machines)), slices.Sorted(maps.Keys(known))))
	}
	return found
}

// excesses replays the audit: at no moment two servers of one name, and after
// no create more servers than were asked for, besides those on their way out.
// A termination that was called off leaves one more than planned for.
func (w *witness) excesses() (found []string) {
	var cycles []time.Time
	for _, s := range w.Steps() {
		if id, ok := strings.CutPrefix(s.what, "wrote terminating/"); ok {
			w.note(id, s.at)
		}
		if s.what == "wrote NOT_AUTHORISED_TO_SCALE" {
			cycles = append(cycles, s.at)
		}
	}
	condemned := w.Events(events.BuildCondemned)
	cancelled := w.Events(events.TerminationCancel)
	exists := map[string]string{} // names by id
	for _, e := range w.Audit() {
		switch {
		case e.Op == local.Destroyed:
			delete(exists, e.ID)
		case e.Op != local.Created:
		default:
			for id, name := range exists {
				if name == e.Name {
					found = append(found, fmt.Sprintf("%s was built as %s while %s existed", name, e.ID, id))
				}
			}
			exists[e.ID] = e.Name
			most := w.most(e.Time, cycles)
			for _, c := range cancelled {
				if c.Time.Before(e.Time) {
					most++
				}
			}
			var staying []string
			for id, name := range exists {
				since, ending := w.ending[id]
				gone := ending && since.Before(e.Time) || slices.ContainsFunc(condemned, func(c events.Event) bool {
					return c.Server == name && c.Time.Before(e.Time)
				})
				if !gone && !strings.Contains(name, "-init-") {
					staying = append(staying, name)
				}
			}
			if len(staying) > most {
				found = append(found, fmt.Sprintf("%s was built, and then there were %v: more than %d", e.Name, staying, most))
			}
		}
	}
	return found
}

// most is the highest profile that a create at that moment could be working
// towards: that of the running cycle, or any that was asked for since.
func (w *witness) most(at time.Time, cycles []time.Time) int {
	var began time.Time
	for _, c := range cycles {
		if c.Before(at) {
			began = c
		}
	}
	// The command before the cycle counts, and the one before that when it may
	// not have come through: it was asked for twice then.
	most := 0
	for i, a := range w.asked {
		last := i+1 == len(w.asked) || w.asked[i+1].at.After(began)
		if last && a.at.Before(at) {
			most = max(most, a.count)
		}
	}
	return most
}

// trespasses are servers destroyed that adt must not touch, or that no record
// said should go.
func (w *witness) trespasses() (found []string) {
	condemned := w.Events(events.BuildCondemned)
	for _, e := range w.Audit() {
		if e.Op != local.Destroyed {
			continue
		}
		_, ending := w.ending[e.ID]
		failed := slices.ContainsFunc(condemned, func(c events.Event) bool { return c.Server == e.Name })
		if strings.Contains(e.Name, "-init-") || !ending && !failed {
			found = append(found, fmt.Sprintf("%s %s was destroyed, and no record said so", e.ID, e.Name))
		}
	}
	return found
}

// several runs the numbered subtests, a few at once: they wait more than they
// compute, so -parallel would be too few.
func several(t *testing.T, numbers []int, name func(int) string, test func(*testing.T, int)) {
	queue := make(chan int)
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for n := range queue {
				t.Run(name(n), func(t *testing.T) { test(t, n) })
			}
		})
	}
	for _, n := range numbers {
		queue <- n
	}
	close(queue)
	workers.Wait()
}

func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i + 1
	}
	return all
}
