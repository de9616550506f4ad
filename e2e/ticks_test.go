package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"adt/events"
	"adt/provider/local"
)

// atOnce is how many ticks of one command are started together.
const atOnce = 20

// crowd starts that many ticks of a command at once. All must exit 0, and none
// may say a word.
func (f *fleet) crowd(command string) {
	f.t.Helper()
	var waits []func() result
	for range atOnce {
		waits = append(waits, f.Start(nil, command))
	}
	for _, wait := range waits {
		if r := wait(); r.code != 0 || r.stdout+r.stderr != "" {
			f.t.Errorf("one of %d at once: %v", atOnce, r)
		}
	}
}

// count is how many events have the reason.
func (f *fleet) count(reason events.Reason) int {
	f.t.Helper()
	return len(f.Events(reason))
}

// TestTicksAtOnce is promise 4: of 20 ticks of a command that start together,
// one acts. What keeps it at work is slow enough for all others to come while
// it holds its lock.
func TestTicksAtOnce(t *testing.T) {
	t.Run("scale", func(t *testing.T) {
		f := newFleet(t, settings{"local.boot": `"3s"`})
		f.Tick("scale", "--count", "2")
		f.crowd("scale")
		if got := f.Changes(); got[local.Created] != 2 || got[local.RecordAdded] != 2 {
			t.Errorf("two were asked for, and what happened is %v\n%s", got, f.Story())
		}
		if f.count(events.CycleStarted) != 1 || f.count(events.BuildStarted) != 2 {
			t.Errorf("more than one acted\n%s", f.Story())
		}
		f.Settle(2)
	})
	t.Run("healthcheck", func(t *testing.T) {
		f := newFleet(t, settings{"healthcheck.deadline": probeDeadline(5)})
		f.Tick("scale", "--count", "2")
		f.Settle(2)
		sick := f.Members()[0]
		f.Break(sick.ID, "http=hang")
		// The warning about the strike is for the operator; one crowd, one strike.
		var waits []func() result
		for range atOnce {
			waits = append(waits, f.Start(nil, "healthcheck"))
		}
		said := 0
		for _, wait := range waits {
			r := wait()
			if r.code != 0 || r.stdout != "" {
				t.Error(r)
			}
			if r.stderr != "" {
				said++
			}
		}
		if said > 1 {
			t.Errorf("%d of %d spoke", said, atOnce)
		}
		if strikes := f.State().Known[sick.ID].Strikes; strikes != 1 || f.count(events.Strike) != 1 {
			t.Errorf("%d strikes are counted, %d recorded\n%s", strikes, f.count(events.Strike), f.Story())
		}
		if _, there := f.Machine(sick.ID); !there {
			t.Errorf("%s was destroyed at its first failure\n%s", sick.Name, f.Story())
		}
	})
	t.Run("reboot-if-done", func(t *testing.T) {
		f := newFleet(t, nil)
		f.countReboots()
		f.Tick("scale", "--count", "1")
		f.Tick("scale")
		f.crowd("reboot-if-done")
		if got := f.reboots(); got != 1 {
			t.Errorf("rebooted %d times\n%s", got, f.Story())
		}
		if f.count(events.CycleEnded) != 1 {
			t.Errorf("more than one acted\n%s", f.Story())
		}
	})
	t.Run("all", func(t *testing.T) {
		f := newFleet(t, nil)
		f.Tick("scale", "--count", "3")
		var waits []func() result
		for i := range atOnce {
			waits = append(waits, f.Start(nil, []string{"scale", "healthcheck", "reboot-if-done"}[i%3]))
		}
		for _, wait := range waits {
			if r := wait(); r.code != 0 {
				t.Error(r)
			}
		}
		w := newWitness(f)
		w.asked = []asked{{count: 3}}
		w.Prove(3)
	})
}

// TestKilledHolderOfALock is the rest of promise 4: a tick that stands still
// keeps others of its command out, and one that is dead keeps out nobody.
func TestKilledHolderOfALock(t *testing.T) {
	for command, lock := range map[string]string{"scale": "autoscalelock.file", "healthcheck": "deadoralivelock.file"} {
		t.Run(command, func(t *testing.T) {
			f := newFleet(t, nil)
			f.Tick("scale", "--count", "1")
			f.Settle(1)
			machine := f.Members()[0]
			f.Break(machine.ID, "http=hang") // keeps a health check busy
			if command == "scale" {
				f.Tick("scale", "--count", "2")
				f.configure(settings{"local.boot": `"2s"`}) // keeps a build busy
			}
			holder := f.Command(t.Context(), nil, command)
			f.must(holder.Start())
			f.await("the holder takes its lock", func() bool {
				note, err := os.ReadFile(f.path("runtime", lock))
				return err == nil && strings.HasPrefix(string(note), fmt.Sprintf("pid %d ", holder.Process.Pid))
			})
			f.must(holder.Process.Signal(syscall.SIGSTOP))
			f.awaitStopped(holder.Process.Pid)

			steps := len(f.Steps())
			if r := f.Tick(command); r.stdout+r.stderr != "" {
				t.Errorf("while another holds the lock: %v", r)
			}
			if now := f.Steps(); len(now) != steps {
				t.Errorf("while another holds the lock it did %v", now[steps:])
			}

			f.must(holder.Process.Kill())
			var exit *exec.ExitError
			if err := holder.Wait(); !errors.As(err, &exit) {
				t.Fatalf("the holder ended with %v", err)
			}
			f.configure(nil)
			f.Break(machine.ID, "none")
			checks := f.pids()
			f.Tick(command)
			if now := f.pids(); len(now) == len(checks) {
				t.Errorf("after the holder's death the next tick did nothing\n%s", f.Story())
			}
		})
	}
}

// pids are the runs that took any step.
func (f *fleet) pids() []int {
	f.t.Helper()
	var all []int
	for _, s := range f.Steps() {
		if !slices.Contains(all, s.pid) {
			all = append(all, s.pid)
		}
	}
	return all
}

// await waits until something is so.
func (f *fleet) await(what string, so func() bool) {
	f.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !so() {
		if time.Now().After(deadline) {
			f.t.Fatalf("waited in vain: %s\n%s", what, f.Story())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (f *fleet) awaitStopped(pid int) {
	f.t.Helper()
	f.await("the process stands still", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		f.must(err)
		_, rest, _ := strings.Cut(string(stat), ") ")
		return strings.HasPrefix(rest, "T")
	})
}

// countReboots lets a reboot leave a line in a file, and nothing else.
func (f *fleet) countReboots() {
	f.t.Helper()
	f.configure(settings{"reboot.command": fmt.Sprintf(`["/bin/sh", "-c", "echo rebooted >> '%s'"]`, f.path("reboots"))})
}

func (f *fleet) reboots() int {
	f.t.Helper()
	data, err := os.ReadFile(f.path("reboots"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		f.t.Fatal(err)
	}
	return strings.Count(string(data), "\n")
}

// boot is the environment of a run in the named boot.
func boot(id string, more ...string) []string { return append([]string{envBootID + "=" + id}, more...) }

// TestRebootOncePerCycle: one reboot for each cycle, none without, and none
// again after the machine has booted.
func TestRebootOncePerCycle(t *testing.T) {
	f := newFleet(t, nil)
	f.countReboots()
	run := func(id string, args ...string) {
		t.Helper()
		if r := f.RunWith(boot(id), args...); r.code != 0 {
			t.Fatal(r)
		}
	}
	for cycle := 1; cycle <= 2; cycle++ {
		before, after := fmt.Sprint("boot-", cycle), fmt.Sprint("boot-", cycle+1)
		run(before, "scale", "--count", fmt.Sprint(cycle))
		run(before, "reboot-if-done")
		if got := f.reboots(); got != cycle-1 {
			t.Fatalf("rebooted before cycle %d began\n%s", cycle, f.Story())
		}
		run(before, "scale")
		for _, id := range []string{before, before, after, after} {
			run(id, "reboot-if-done")
			run(id, "scale")
			if got := f.reboots(); got != cycle {
				t.Fatalf("%d reboots after %d cycles\n%s", got, cycle, f.Story())
			}
		}
	}
}

// TestRebootTriesAFewTimes: a reboot command that fails is not run for ever.
func TestRebootTriesAFewTimes(t *testing.T) {
	f := newFleet(t, nil)
	f.configure(settings{"reboot.command": fmt.Sprintf(`["/bin/sh", "-c", "echo tried >> '%s'; exit 1"]`, f.path("reboots"))})
	f.Tick("scale", "--count", "1")
	f.Tick("scale")
	for range 5 {
		f.Tick("reboot-if-done")
	}
	if got := f.reboots(); got != 3 {
		t.Errorf("tried %d times, want 3\n%s", got, f.Story())
	}
	f.configure(nil)
	f.Settle(1)
}

// TestRebootKilledAtEachStep: SIGKILL at each step of reboot-if-done. The
// machine is rebooted, at most as often as a failing command is tried, and never
// again once it has booted.
func TestRebootKilledAtEachStep(t *testing.T) {
	const steps = 16 // of a whole run: fewer than that, as is checked
	several(t, upTo(steps), func(n int) string { return fmt.Sprintf("step-%d", n) }, func(t *testing.T, n int) {
		for _, boots := range []bool{false, true} {
			f := newFleet(t, nil)
			f.countReboots()
			f.Tick("scale", "--count", "1")
			if r := f.RunWith(boot("before"), "scale"); r.code != 0 {
				t.Fatal(r)
			}
			r := f.RunWith(boot("before", fmt.Sprintf("%s=%d", envKillAt, n)), "reboot-if-done")
			if n == steps && r.killed {
				t.Fatalf("a run of reboot-if-done has more than %d steps", steps)
			}
			id := "before"
			if boots && f.reboots() > 0 {
				id = "after"
			}
			for range 5 {
				if r := f.RunWith(boot(id), "reboot-if-done"); r.code != 0 {
					t.Fatal(r)
				}
			}
			got, most := f.reboots(), 3
			if id == "after" {
				most = 1
			}
			if got < 1 || got > most {
				t.Errorf("rebooted %d times, want 1 to %d (booted: %v)\n%s", got, most, id == "after", f.Story())
			}
			for range 2 {
				f.Tick("reboot-if-done") // in the boot that follows
			}
			if now := f.reboots(); now != got {
				t.Errorf("rebooted again after the boot\n%s", f.Story())
			}
			if s := f.State(); s.Cycle != nil {
				t.Errorf("the cycle was not ended\n%s", f.Story())
			}
			if _, err := os.Stat(f.path("runtime", "reboot.json")); err == nil {
				t.Errorf("reboot.json is left\n%s", f.Story())
			}
		}
	})
}
