package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"adt/events"
	"adt/provider/local"
)

// life is the whole life of a fleet: two webservers are built, one breaks, is
// struck, terminated and replaced, and one is too many in the end. Each run of
// adt is killed at its n-th step, if it has so many, and then done again.
func life(w *witness, n int) {
	w.t.Helper()
	w.Ask(2, n)
	if w.Kill(n, "scale") {
		w.Tick("scale")
	}
	w.Kill(n, "healthcheck")
	w.Tick("healthcheck")
	w.Kill(n, "reboot-if-done")
	w.Prove(2)

	broken := w.Members()[0]
	w.Break(broken.ID, "http=500")
	if w.Kill(n, "healthcheck") { // it may have counted or not: from the start again
		w.Break(broken.ID, "none")
		w.Tick("healthcheck")
		w.Break(broken.ID, "http=500")
		w.Tick("healthcheck")
	}
	w.Kill(n, "healthcheck") // the second strike terminates
	w.Kill(n, "scale")
	w.Run("scale")
	w.Kill(n, "reboot-if-done")
	w.Prove(2)
	if _, there := w.Machine(broken.ID); there {
		w.t.Errorf("%s is broken and was not replaced\n%s", broken.Name, w.Story())
	}
	w.Examined(broken.Name)

	w.Ask(1, n)
	w.Kill(n, "scale")
	w.Kill(n, "healthcheck")
	w.Kill(n, "reboot-if-done")
	w.Prove(1)
}

// longestRun is how many steps the longest run of a fleet's life has, and a few more
// since their number varies with the order in which builds come along.
func longestRun(t *testing.T, scenario func(*witness, int)) int {
	t.Helper()
	f := newFleet(t, nil)
	w := newWitness(f)
	scenario(w, 1<<30)
	if w.kills != 0 {
		t.Fatalf("killed %d times", w.kills)
	}
	runs := map[int]int{} // by pid
	longest := 0
	for _, s := range f.Steps() {
		runs[s.pid]++
		longest = max(longest, runs[s.pid])
	}
	return longest + 3
}

// TestKilledAtEachStep is promise 1: adt dies of SIGKILL at each recorded step
// of scale, healthcheck and reboot-if-done, and the next run makes good.
func TestKilledAtEachStep(t *testing.T) {
	everyStep(t, life)
}

// TestKilledWhileABuildFails does the same for a build that never gets ready,
// is condemned and destroyed, and is followed by one that serves.
func TestKilledWhileABuildFails(t *testing.T) {
	everyStep(t, func(w *witness, n int) {
		w.configure(settings{"build.phase.ready": `"300ms"`})
		w.BreakAPI(local.OpCreate, "never-ready,times=1")
		w.Ask(1, 0)
		w.Kill(n, "scale")
		w.Kill(n, "scale")
		w.Run("scale") // while the deadline is short
		w.Look()
		w.configure(nil)
		w.Prove(1)
		if n := w.Changes()[local.Destroyed]; n == 0 {
			w.t.Errorf("no server was destroyed\n%s", w.Story())
		}
		for _, e := range w.Audit() {
			if e.Op == local.Destroyed {
				w.Examined(e.Name)
			}
		}
	})
}

func everyStep(t *testing.T, scenario func(*witness, int)) {
	longest := longestRun(t, scenario)
	var kills atomic.Int64
	several(t, upTo(longest), func(n int) string { return fmt.Sprintf("step-%d", n) }, func(t *testing.T, n int) {
		w := newWitness(newFleet(t, nil))
		scenario(w, n)
		kills.Add(int64(w.kills))
	})
	t.Logf("%d kills at steps 1 to %d", kills.Load(), longest)
	if int(kills.Load()) < longest {
		t.Errorf("only %d kills at %d steps", kills.Load(), longest)
	}
}

// envSeed and envSchedules repeat a run of the random schedules, or make it
// longer.
const (
	envSeed      = "ADT_SEED"
	envSchedules = "ADT_SCHEDULES"
)

// number reads a number from the environment.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestRandomKills is promise 1 at random: fleets, operators' commands, broken
// machines, a failing provider, and SIGKILL anywhere in between.
func TestRandomKills(t *testing.T) {
	seed := number(t, envSeed, rand.Uint64())
	schedules := int(number(t, envSchedules, 200))
	t.Logf("%s=%d %s=%d", envSeed, seed, envSchedules, schedules)
	var mu sync.Mutex
	var killed, kills, adopted, ended int
	several(t, upTo(schedules), func(n int) string { return fmt.Sprintf("%d", n) }, func(t *testing.T, n int) {
		s := newSchedule(t, seed, uint64(n))
		defer func() {
			if t.Failed() {
				t.Logf("%s=%d, schedule %d:\n%s", envSeed, seed, n, strings.Join(s.told, "\n"))
			}
		}()
		s.run()
		mu.Lock()
		defer mu.Unlock()
		killed += min(1, s.kills)
		kills += s.kills
		adopted += len(s.Events(events.BuildAdopted))
		ended += s.Changes()[local.Destroyed]
	})
	t.Logf("%d of %d schedules were killed, %d times in all; %d builds were adopted, %d servers destroyed", killed, schedules, kills, adopted, ended)
	// What was never killed, and found nothing to make good, proves nothing.
	if killed*3 < schedules {
		t.Errorf("only %d of %d schedules were killed", killed, schedules)
	}
	if schedules >= 50 && (adopted == 0 || ended == 0) {
		t.Errorf("in %d schedules %d builds were adopted and %d servers destroyed", schedules, adopted, ended)
	}
}

// schedule is one random life of a fleet.
type schedule struct {
	*witness
	rng     *rand.Rand
	profile int
	broken  int
	told    []string // what was done, for the message of a failure
}

func newSchedule(t *testing.T, seed, n uint64) *schedule {
	return &schedule{witness: newWitness(newFleet(t, nil)), rng: rand.New(rand.NewPCG(seed, n))}
}

func (s *schedule) tell(format string, args ...any) {
	s.told = append(s.told, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
}

func (s *schedule) run() {
	if s.rng.IntN(3) == 0 {
		s.Initial(1)
	}
	s.count()
	for range 4 + s.rng.IntN(4) {
		switch s.rng.IntN(12) {
		case 0, 1, 2:
			s.tick("scale")
		case 3:
			s.tick("healthcheck")
		case 4, 5:
			s.tick("scale", "healthcheck")
		case 6:
			s.tick("reboot-if-done")
		case 7:
			s.count()
		case 8:
			s.operate("replace", 6)
		case 9:
			s.operate("protect", 3)
		case 10:
			s.breakMachine()
		case 11:
			s.breakAPI()
		}
	}
	for _, op := range local.Ops() {
		s.BreakAPI(op, "none")
	}
	for name := range s.State().Protected {
		if _, there := s.Machine(name); !there {
			s.t.Errorf("%s is protected and was destroyed", name)
		}
		s.Tick("unprotect", name)
	}
	s.Prove(s.profile)
}

// killAt is a step to die in, more often an early one; 0 is none.
func (s *schedule) killAt(most int) int {
	if s.rng.IntN(4) == 0 {
		return 0
	}
	return 1 + s.rng.IntN(1+s.rng.IntN(most))
}

// start starts adt, to be killed at a step or not.
func (s *schedule) start(killAt int, args ...string) func() result {
	s.t.Helper()
	var env []string
	if killAt > 0 {
		env = []string{envKillAt + "=" + strconv.Itoa(killAt)}
	}
	wait := s.Start(env, args...)
	return func() result {
		s.t.Helper()
		r := wait()
		s.tell("%s, to be killed at %d: exit %d", strings.Join(args, " "), killAt, r.code)
		if r.killed {
			s.kills++
		}
		return r
	}
}

// tick runs ticks of cron, all at once, each perhaps killed.
func (s *schedule) tick(commands ...string) {
	s.t.Helper()
	steps := map[string]int{"scale": 60, "healthcheck": 20, "reboot-if-done": 8}
	began := time.Now()
	var waits []func() result
	for _, command := range commands {
		waits = append(waits, s.start(s.killAt(steps[command]), command))
	}
	for _, wait := range waits {
		r := wait()
		// A call that was made to fail may fail the tick; nothing else may.
		if !r.killed && r.code != 0 && r.code != 3 && !(r.code == 1 && s.refused(r, began)) {
			s.t.Fatal(r)
		}
	}
	s.Look()
}

// refused reports whether a run met a call that was made to fail: it says so, or,
// where one before it said so within the hour, its events alone do.
func (s *schedule) refused(r result, began time.Time) bool {
	s.t.Helper()
	if r.stderr != "" {
		return strings.Contains(r.stderr, "503")
	}
	return slices.ContainsFunc(s.Events(), func(e events.Event) bool {
		return e.Command == r.args[0] && !e.Time.Before(began) && strings.Contains(e.Text, "503")
	})
}

func (s *schedule) count() {
	s.t.Helper()
	s.profile = s.rng.IntN(4)
	killAt := 0
	if s.rng.IntN(4) == 0 {
		killAt = 1 + s.rng.IntN(2)
	}
	s.tell("count %d", s.profile)
	s.Ask(s.profile, killAt)
}

// member picks a machine that is there and not being built; "" is none.
func (s *schedule) member() local.Machine {
	s.t.Helper()
	state := s.State()
	var all []local.Machine
	for _, m := range s.Members() {
		_, known := state.Known[m.ID]
		building := false
		for _, b := range state.Builds {
			building = building || b.Name == m.Name
		}
		ending := false
		for _, t := range state.Terminations {
			ending = ending || t.ID == m.ID
		}
		if known && !building && !ending {
			all = append(all, m)
		}
	}
	if len(all) == 0 {
		return local.Machine{}
	}
	return all[s.rng.IntN(len(all))]
}

// operate gives a command for one webserver, perhaps killed over it.
func (s *schedule) operate(command string, steps int) {
	s.t.Helper()
	m := s.member()
	if m.Name == "" || s.State().Protected[m.Name] {
		return
	}
	if r := s.start(s.killAt(steps), command, m.Name)(); !r.killed && r.code != 0 && !strings.Contains(r.stderr, "503") {
		s.t.Fatal(r)
	}
	s.Look()
}

// breakMachine breaks at most two: with more the self check would hold, and
// rightly, that the fault is ours.
func (s *schedule) breakMachine() {
	s.t.Helper()
	m := s.member()
	if m.Name == "" || s.broken == 2 {
		return
	}
	s.broken++
	faults := []string{"http=500", "ssh=dead", "refuse", "marker=missing", "crash"}
	fault := faults[s.rng.IntN(len(faults))]
	s.tell("%s: %s", m.Name, fault)
	s.Break(m.ID, fault)
}

func (s *schedule) breakAPI() {
	s.t.Helper()
	faults := []struct {
		op   local.Op
		kind string
	}{
		{local.OpCreate, "before"}, {local.OpCreate, "after"}, {local.OpCreate, "after-lost"}, {local.OpCreate, "after-lost"},
		{local.OpCreate, "quota"}, {local.OpDestroy, "before"}, {local.OpDestroy, "after"},
		{local.OpAddRecord, "before"}, {local.OpAddRecord, "after"}, {local.OpRemoveRecord, "after"}, {local.OpList, "error"},
	}
	f := faults[s.rng.IntN(len(faults))]
	s.tell("%s: %s", f.op, f.kind)
	s.BreakAPI(f.op, f.kind+",times=1")
}
