package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"adt/autoscaler"
	"adt/events"
	"adt/provider/local"
)

// TestDiskFull: with no room for a record nothing begins and nothing ends, and
// the message names the file. With room again all goes on.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	f := grown(t, 3, nil)
	fill := f.smallDisk()
	m := f.mark()
	sick := f.Members()[0]
	fill(true)
	for name, arrange := range map[string]func(){
		"at rest":     func() {},
		"one is sick": func() { f.Break(sick.ID, "http=500") },
		"to build":    func() { f.Tick("scale", "--count", "5") },
		"to end":      func() { f.Tick("scale", "--count", "1") },
	} {
		arrange()
		for range 2 {
			f.Run("scale")
			r := f.Run("healthcheck")
			if r.code != 1 || !strings.Contains(r.stderr, "servers.json") || !strings.Contains(r.stderr, "no space left") {
				t.Errorf("%s: %v", name, r)
			}
		}
		f.Untouched(m)
	}
	f.Tick("scale", "--count", "4")
	r := f.Exits(1, "scale")
	if !strings.Contains(r.stderr, f.path("runtime")+"/") || !strings.Contains(r.stderr, "no space left") {
		t.Errorf("the message: %v", r)
	}
	f.Untouched(m)
	fill(false)
	f.Await("the sick one is replaced", func() bool {
		f.Settle(4)
		_, there := f.Machine(sick.ID)
		return !there
	})
	f.Expect(m, 2, 1)
}

// TestDiskFullWhileBuilding: a build that cannot record how far it came goes on
// from its last record.
func TestDiskFullWhileBuilding(t *testing.T) {
	t.Parallel()
	f := grown(t, 1, settings{"local.build": `"700ms"`, "scale.budget": `"2s"`})
	fill := f.smallDisk()
	m := f.mark()
	f.Tick("scale", "--count", "3")
	wait := f.Background("scale")
	f.Await("two more have their addresses, and nothing is written until they are built", func() bool {
		builds := f.State().Builds
		return len(builds) == 2 && builds[0].Phase == autoscaler.Addressed && builds[1].Phase == autoscaler.Addressed
	})
	fill(true)
	if r := wait(); r.code != 1 || !strings.Contains(r.stderr, "no space left") {
		t.Errorf("%v", r)
	}
	for range 2 {
		f.Run("scale")
		f.Run("healthcheck")
	}
	f.Expect(m, 2, 0)
	fill(false)
	f.Settle(3)
	f.Expect(m, 2, 0)
}

// TestReadOnlyRuntime: a runtime directory that nothing can be written into
// ends each command with an error that names it.
func TestReadOnlyRuntime(t *testing.T) {
	t.Parallel()
	f := grown(t, 2, nil)
	f.smallDisk()
	f.remount(syscall.MS_RDONLY)
	m := f.mark()
	sick := f.Members()[0]
	f.Break(sick.ID, "http=500")
	f.Tick("scale", "--count", "3")
	for range 2 {
		for _, tick := range []string{"scale", "healthcheck"} {
			r := f.Exits(1, tick)
			if !strings.Contains(r.stderr, f.path("runtime")) || !strings.Contains(r.stderr, "read-only") {
				t.Errorf("the message: %v", r)
			}
		}
	}
	f.Untouched(m)
	f.remount(0)
	f.Await("the sick one is replaced", func() bool {
		f.Settle(3)
		_, there := f.Machine(sick.ID)
		return !there
	})
	f.Expect(m, 2, 1)
}

// TestRuntimeIsAFile: what is in the place of the runtime directory, of a folder
// or of a record in it is named, and nothing is done.
func TestRuntimeIsAFile(t *testing.T) {
	t.Parallel()
	f := grown(t, 2, nil)
	m := f.mark()
	runtime, aside := f.path("runtime"), f.path("aside")
	f.must(os.Rename(runtime, aside))
	f.must(os.WriteFile(runtime, nil, 0o600))
	for _, tick := range []string{"scale", "healthcheck"} {
		if r := f.Exits(1, tick); !strings.Contains(r.stderr, runtime) {
			t.Errorf("the message: %v", r)
		}
	}
	f.must(os.Remove(runtime))
	f.must(os.Rename(aside, runtime))

	f.must(os.RemoveAll(filepath.Join(runtime, "terminating")))
	f.must(os.WriteFile(filepath.Join(runtime, "terminating"), nil, 0o600))
	f.Tick("scale", "--count", "1")
	for _, tick := range []string{"scale", "healthcheck"} {
		if r := f.Exits(1, tick); !strings.Contains(r.stderr, "terminating") {
			t.Errorf("the message: %v", r)
		}
	}
	f.must(os.Remove(filepath.Join(runtime, "terminating")))

	f.must(os.Rename(filepath.Join(runtime, "servers.json"), aside))
	f.must(os.Mkdir(filepath.Join(runtime, "servers.json"), 0o700))
	for _, tick := range []string{"scale", "healthcheck"} {
		if r := f.Exits(1, tick); !strings.Contains(r.stderr, "servers.json") {
			t.Errorf("the message: %v", r)
		}
	}
	f.Untouched(m)
	f.must(os.Remove(filepath.Join(runtime, "servers.json")))
	f.must(os.Rename(aside, filepath.Join(runtime, "servers.json")))
	f.Settle(1)
	f.Expect(m, 0, 1)
}

// smallDisk puts the runtime directory on a disk of its own. fill takes all its
// room away, or gives it back.
func (f *fleet) smallDisk() (fill func(bool)) {
	f.t.Helper()
	return f.smallDiskAt(f.path("runtime"))
}

func (f *fleet) smallDiskAt(runtime string) (fill func(bool)) {
	f.t.Helper()
	aside := f.path("aside")
	f.must(os.Rename(runtime, aside))
	f.must(os.Mkdir(runtime, 0o700))
	if err := syscall.Mount("none", runtime, "tmpfs", 0, "size=1m,mode=0700"); err != nil {
		f.t.Log("NOT PROVEN HERE: a small or read-only disk can only be mounted by root: ", err)
		f.t.Skip("needs root")
	}
	f.t.Cleanup(func() {
		if err := syscall.Unmount(runtime, syscall.MNT_DETACH); err != nil {
			f.t.Errorf("unmounting: %v", err)
		}
	})
	f.must(os.CopyFS(runtime, os.DirFS(aside)))
	ballast := filepath.Join(runtime, "ballast")
	return func(full bool) {
		f.t.Helper()
		if !full {
			f.must(os.Remove(ballast))
			return
		}
		// Once more for the room that the first write could not use up.
		for _, chunk := range []int{4096, 1} {
			file, err := os.OpenFile(ballast, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
			f.must(err)
			for err == nil {
				_, err = file.Write(make([]byte, chunk))
			}
			f.must(file.Close())
			if !errors.Is(err, syscall.ENOSPC) {
				f.t.Fatal(err)
			}
		}
	}
}

func (f *fleet) remount(flags uintptr) {
	f.t.Helper()
	f.must(syscall.Mount("none", f.path("runtime"), "tmpfs", syscall.MS_REMOUNT|flags, "size=1m,mode=0700"))
}

// spoiled is a record of each kind.
func spoiled() []string {
	return []string{
		"AUTOSCALINGMONITOR:7", "terminating/l-nobody", "servers.json", "paused.json", "protected.json", "backoff.json",
		"reboot.json", "NOT_AUTHORISED_TO_SCALE", "hostkey.json", "clock.json",
	}
}

// TestRecordsOfAnotherVersion: a record that another adt wrote is named and
// left alone, and nothing is done that depends on it.
func TestRecordsOfAnotherVersion(t *testing.T) {
	t.Parallel()
	f := grown(t, 2, nil)
	for _, record := range spoiled() {
		m, path := f.mark(), f.path("runtime", record)
		old, err := os.ReadFile(path)
		missing := errors.Is(err, os.ErrNotExist)
		foreign := []byte(`{"version":2,"servers":"elsewhere"}`)
		f.must(os.MkdirAll(filepath.Dir(path), 0o700))
		f.must(os.WriteFile(path, foreign, 0o600))
		named := false
		f.Run("scale", "--count", "3") // clock.json stops that too
		for range 2 {
			for _, tick := range []string{"scale", "healthcheck", "reboot-if-done"} {
				r := f.Run(tick)
				if r.code != 0 && !strings.Contains(r.stderr, path) {
					t.Errorf("%s: another error: %v", record, r)
				}
				named = named || r.code == 1 && strings.Contains(r.stderr, "version 2")
			}
		}
		if !named {
			t.Errorf("%s: never named\n%s", record, f.Story())
		}
		if gone := f.Since(m, local.Destroyed); len(gone) > 0 {
			t.Fatalf("%s: destroyed %v\n%s", record, gone, f.Story())
		}
		if gone := f.Since(m, local.RecordRemoved); len(gone) > 0 {
			t.Fatalf("%s: withdrawn %v\n%s", record, gone, f.Story())
		}
		if kept, err := os.ReadFile(path); err != nil || string(kept) != string(foreign) {
			t.Errorf("%s: it did not stay: %q, %v", record, kept, err)
		}
		f.must(os.Remove(path))
		if !missing {
			f.must(os.WriteFile(path, old, 0o600))
		}
		f.Tick("scale", "--count", "2")
		f.Settle(2)
	}
}

// TestCorruptRecords: garbage is set aside with an event, and the fleet is as
// before: what is lost is found again at the provider.
func TestCorruptRecords(t *testing.T) {
	t.Parallel()
	f := grown(t, 2, nil)
	for i, record := range spoiled() {
		m, path := f.mark(), f.path("runtime", record)
		f.must(os.MkdirAll(filepath.Dir(path), 0o700))
		garbage := []string{"", "{\"version\":1,\x00\x00"}[i%2]
		f.must(os.WriteFile(path, []byte(garbage), 0o600))
		for range 2 {
			for _, tick := range []string{"scale", "healthcheck", "reboot-if-done"} {
				if r := f.Run(tick); r.code != 0 && r.code != 3 {
					t.Errorf("%s: %v", record, r)
				}
			}
		}
		f.Untouched(m)
		if record == "hostkey.json" { // it is read when something is built
			f.Tick("scale", "--count", "3")
			f.Settle(3)
			f.Tick("scale", "--count", "2")
			f.Settle(2)
		}
		if f.Said(m, events.RecordCorrupt) != 1 {
			t.Errorf("%s: %d events\n%s", record, f.Said(m, events.RecordCorrupt), f.Story())
		}
		if aside, _ := filepath.Glob(path + ".corrupt-*"); len(aside) != 1 {
			t.Errorf("%s: set aside as %v", record, aside)
		}
		f.Tick("resume")
	}
	f.Settle(2)
}

// TestLostBrakesPauseEverything: when what was paused or protected is lost,
// nothing is terminated until an operator has looked, whoever finds it first.
func TestLostBrakesPauseEverything(t *testing.T) {
	t.Parallel()
	for _, record := range []string{"paused.json", "protected.json"} {
		for _, first := range [][]string{
			{"scale"}, {"healthcheck"}, {"status"}, {"protect", "NAME"}, {"pause", "--reason", "a test", "scale"}, {"resume", "dns"},
		} {
			t.Run(record+" "+first[0], func(t *testing.T) {
				t.Parallel()
				f := grown(t, 3, nil)
				sick := f.Members()[0]
				f.Tick("protect", sick.Name)
				f.Tick("pause", "--reason", "a test", "terminate")
				f.Break(sick.ID, "http=500")
				f.Run("healthcheck")
				f.Tick("scale", "--count", "1")
				m := f.mark()
				f.must(os.WriteFile(f.path("runtime", record), []byte("garbage"), 0o600))
				for i, arg := range first {
					if arg == "NAME" {
						first[i] = f.Members()[1].Name
					}
				}
				f.Run(first...)
				for range 3 {
					f.Run("scale")
					f.Run("healthcheck")
				}
				f.Expect(m, 0, 0)
				if ends := f.State().Terminations; len(ends) > 0 {
					t.Errorf("decided all the same: %+v\n%s", ends, f.Story())
				}
				if paused := f.State().Paused; paused["terminate"].Reason == "" || first[0] != "resume" && paused["dns"].Reason == "" {
					t.Errorf("paused is %v\n%s", paused, f.Story())
				}
			})
		}
	}
}

// TestClockJumps: a clock that is set by an hour between two ticks ends no
// pause, condemns no build, and destroys nothing.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	for _, jump := range []string{"1h", "-1h"} {
		t.Run(jump, func(t *testing.T) {
			t.Parallel()
			f := grown(t, 3, settings{"local.build": `"1s"`, "scale.budget": `"300ms"`, "build.deadline": `"20m"`})
			m := f.mark()
			f.Tick("pause", "--for", "30m", "--reason", "a test", "terminate")
			sick := f.Members()[0]
			f.Break(sick.ID, "http=500")
			f.Tick("scale", "--count", "5")
			f.Tick("scale") // and has not ended
			if builds := f.State().Builds; len(builds) != 2 {
				t.Fatal(f.Story())
			}
			offsets := []string{"0s", jump, "0s", jump}
			for _, offset := range offsets {
				for _, tick := range []string{"scale", "healthcheck", "reboot-if-done"} {
					if r := f.RunWith([]string{envClockOffset + "=" + offset}, tick); r.code != 0 && r.code != 3 {
						t.Errorf("%v", r)
					}
				}
			}
			if n := f.Said(m, events.ClockJumped); n != len(offsets)-1 {
				t.Errorf("%d jumps were seen, want %d", n, len(offsets)-1)
			}
			for _, reason := range []events.Reason{events.BuildCondemned, events.CycleOverdue} {
				if f.Said(m, reason) > 0 {
					t.Errorf("%s\n%s", reason, f.Story())
				}
			}
			f.Await("the builds are done", func() bool {
				f.RunWith([]string{envClockOffset + "=" + jump}, "scale")
				return f.Said(m, events.BuildDone) == 2
			})
			f.Expect(m, 2, 0)
			if f.Said(m, events.BrakePaused) == 0 {
				t.Errorf("the pause did not hold\n%s", f.Story())
			}
			if r := f.RunWith([]string{envClockOffset + "=" + jump}, "status"); !strings.Contains(r.stdout, "a test") {
				t.Errorf("the pause is over: %v", r)
			}
		})
	}
}
