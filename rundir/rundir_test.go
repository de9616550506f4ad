package rundir_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"adt/rundir"
)

type record struct {
	Version int    `json:"version"`
	Text    string `json:"text"`
}

func open(t *testing.T) (*rundir.Dir, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "runtime")
	d, err := rundir.Open(path, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d, path
}

func TestWriteRead(t *testing.T) {
	d, path := open(t)
	if found, err := d.Read("r.json", new(record)); found || err != nil {
		t.Fatalf("before: %v, %v", found, err)
	}
	for _, text := range []string{"a", "b"} {
		if err := d.Write("folder/r.json", record{1, text}); err != nil {
			t.Fatal(err)
		}
		var got record
		if found, err := d.Read("folder/r.json", &got); !found || err != nil || got.Text != text {
			t.Fatalf("%v, %v, %+v", found, err, got)
		}
	}
	info, err := os.Stat(filepath.Join(path, "folder/r.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := d.Remove("folder/r.json"); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove("folder/r.json"); err != nil {
		t.Errorf("removing what is gone: %v", err)
	}
}

func TestCreateHasOneWinner(t *testing.T) {
	d, _ := open(t)
	var wins, losses int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			err := d.Create("terminating/x", record{1, "mine"})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				wins++
			case errors.Is(err, fs.ErrExist):
				losses++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if wins != 1 || losses != 15 {
		t.Errorf("%d won, %d lost", wins, losses)
	}
	left, err := d.Names("terminating", "")
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestGarbageIsSetAside(t *testing.T) {
	for _, garbage := range []string{"", "{", "null", "[]", `{"version":"x"}`, `{"text":"no version"}`, `{"version":1,"text":7}`, "\x00\x00\x00"} {
		path := t.TempDir()
		var told string
		d, err := rundir.Open(path, nil, func(name, aside string, cause error) { told = aside })
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "r"), []byte(garbage), 0o600); err != nil {
			t.Fatal(err)
		}
		if found, err := d.Read("r", new(record)); found || err != nil {
			t.Errorf("%q: %v, %v", garbage, found, err)
		}
		if !strings.HasPrefix(told, "r.corrupt-") {
			t.Errorf("%q: told of %q", garbage, told)
		}
		if kept, err := os.ReadFile(filepath.Join(path, told)); err != nil || string(kept) != garbage {
			t.Errorf("%q: kept %q, %v", garbage, kept, err)
		}
		if names, _ := d.Names("", "r"); len(names) != 0 {
			t.Errorf("%q: still listed: %v", garbage, names)
		}
	}
}

func TestUnknownVersionStays(t *testing.T) {
	d, path := open(t)
	file := filepath.Join(path, "r")
	if err := os.WriteFile(file, []byte(`{"version":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := d.Read("r", new(record))
	var ve *rundir.VersionError
	if !errors.As(err, &ve) || ve.Path != file {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	d, path := open(t)
	for _, n := range []string{"AUTOSCALINGMONITOR:10", "AUTOSCALINGMONITOR:2", "other"} {
		if err := d.Write(n, record{Version: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(path, ".AUTOSCALINGMONITOR:3123"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := d.Names("", "AUTOSCALINGMONITOR:")
	if want := []string{"AUTOSCALINGMONITOR:10", "AUTOSCALINGMONITOR:2"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestMarkers(t *testing.T) {
	d, path := open(t)
	if err := d.Mark("beingbuiltips/1/10.0.0.1"); err != nil {
		t.Fatal(err)
	}
	if _, there, err := d.Exists("beingbuiltips/1/10.0.0.1"); !there || err != nil {
		t.Errorf("%v, %v", there, err)
	}
	for range 2 {
		if err := d.Unmark("beingbuiltips/1/10.0.0.1"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(path, "beingbuiltips/1")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the empty folder is still there: %v", err)
	}
}

// TestStep shows that a test can end the process before and after each change.
func TestStep(t *testing.T) {
	var steps []string
	d, err := rundir.Open(t.TempDir(), func(s string) { steps = append(steps, s) }, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = d.Write("a", record{Version: 1})
	_ = d.Remove("a")
	if want := []string{"write a", "wrote a", "remove a", "removed a"}; !slices.Equal(steps, want) {
		t.Errorf("got %v", steps)
	}
}

func TestSteadyTime(t *testing.T) {
	d, _ := open(t)
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	at := func(wall, up time.Duration, boot string) (time.Duration, time.Duration) {
		t.Helper()
		off, jump, err := d.Steady(rundir.Instant{Wall: start.Add(wall), Uptime: up, BootID: boot})
		if err != nil {
			t.Fatal(err)
		}
		return off, jump
	}
	steps := []struct {
		name         string
		wall, up     time.Duration
		boot         string
		offset, jump time.Duration
	}{
		{"first look", 0, time.Hour, "a", 0, 0},
		{"a minute later", time.Minute, time.Hour + time.Minute, "a", 0, 0},
		{"slewed by five seconds", 2*time.Minute + 5*time.Second, time.Hour + 2*time.Minute, "a", 0, 0},
		{"set an hour forward", time.Hour + 3*time.Minute + 5*time.Second, time.Hour + 3*time.Minute, "a", time.Hour, time.Hour},
		{"said once", time.Hour + 4*time.Minute + 5*time.Second, time.Hour + 4*time.Minute, "a", time.Hour, 0},
		{"set back", 5*time.Minute + 5*time.Second, time.Hour + 5*time.Minute, "a", 0, -time.Hour},
		{"rebooted", 10 * time.Minute, 10 * time.Second, "b", 0, 0},
		{"set back an hour", 11*time.Minute - time.Hour, 70 * time.Second, "b", -time.Hour, -time.Hour},
	}
	for _, s := range steps {
		off, jump := at(s.wall, s.up, s.boot)
		if off != s.offset || jump != s.jump {
			t.Errorf("%s: offset %v, jumped %v; want %v, %v", s.name, off, jump, s.offset, s.jump)
		}
	}
}

func TestReadClocks(t *testing.T) {
	now, err := rundir.ReadClocks()
	if err != nil || now.Uptime <= 0 || now.BootID == "" {
		t.Errorf("%+v, %v", now, err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"version":1,"text":"x"}`))
	f.Add([]byte(`{"version":99}`))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := t.TempDir()
		d, err := rundir.Open(path, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "r"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		found, err := d.Read("r", new(record))
		if found && err != nil {
			t.Errorf("found and %v", err)
		}
		names, _ := d.Names("", "r")
		if !found && err == nil && len(names) != 0 {
			t.Error("garbage is still in place")
		}
	})
}

// A writer that is killed leaves its temporary file; another one's, that is at
// work now, must not be taken away.
func TestOpenRemovesWhatKilledWritersLeft(t *testing.T) {
	path := t.TempDir()
	now := time.Now()
	for name, age := range map[string]time.Duration{
		"record.json": 48 * time.Hour, ".record.json123": 48 * time.Hour, "ends/.l-1456": 48 * time.Hour, ".record.json789": time.Minute,
	} {
		file := filepath.Join(path, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, nil, 0o600),
			os.Chtimes(file, now.Add(-age), now.Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := rundir.Open(path, nil, nil); err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, folder := range []string{".", "ends"} {
		entries, err := os.ReadDir(filepath.Join(path, folder))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			left = append(left, e.Name())
		}
	}
	if want := []string{".record.json789", "ends", "record.json"}; !slices.Equal(left, want) {
		t.Errorf("left are %v, want %v", left, want)
	}
}
