package housekeeping_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"adt/dayfile"
	"adt/housekeeping"
	"adt/lock"
)

const day = 24 * time.Hour

var now = time.Date(2026, 11, 25, 3, 30, 0, 0, time.UTC)

func limits() housekeeping.Limits {
	return housekeeping.Limits{Compress: day, Logs: 7 * day, History: 35 * day, PostMortems: 30 * day, Corrupt: 30 * day, Guests: 7 * day, PostMortemBytes: 10 << 20}
}

func TestPlan(t *testing.T) {
	item := func(kind housekeeping.Kind, name string, age time.Duration) housekeeping.Item {
		return housekeeping.Item{Kind: kind, Path: name, Last: now.Add(-age), Plain: strings.HasSuffix(name, ".jsonl")}
	}
	sized := func(name string, age time.Duration, mib int64) housekeeping.Item {
		i := item(housekeeping.PostMortem, name, age)
		i.Bytes = mib << 20
		return i
	}
	without := func(change func(*housekeeping.Limits)) housekeeping.Limits {
		l := limits()
		change(&l)
		return l
	}
	for name, row := range map[string]struct {
		items  []housekeeping.Item
		limits housekeeping.Limits
		want   []string
	}{
		"nothing": {nil, limits(), nil},
		"today and yesterday": {[]housekeeping.Item{item(housekeeping.Events, "today.jsonl", -20*time.Hour), item(housekeeping.Events, "yesterday.jsonl", 3*time.Hour)},
			limits(), nil},
		"a day after its end": {[]housekeeping.Item{item(housekeeping.Events, "a.jsonl", day), item(housekeeping.History, "b.jsonl", day+1)}, limits(), []string{"compress b.jsonl"}},
		"compressed already":  {[]housekeeping.Item{item(housekeeping.Events, "a.jsonl.gz", 6*day)}, limits(), nil},
		"old": {[]housekeeping.Item{item(housekeeping.Events, "a.jsonl.gz", 7*day+1), item(housekeeping.Events, "b.jsonl", 8*day), item(housekeeping.Log, "c.log", 8*day), item(housekeeping.Folder, "d", 8*day)},
			limits(), []string{"delete a.jsonl.gz", "delete b.jsonl", "delete c.log", "delete d"}},
		"each kind its own": {[]housekeeping.Item{item(housekeeping.History, "a.jsonl.gz", 34*day), item(housekeeping.Corrupt, "b", 29*day), item(housekeeping.Corrupt, "c", 31*day), item(housekeeping.Guest, "d", 8*day), item(housekeeping.PostMortem, "e", 31*day)},
			limits(), []string{"delete c", "delete d", "delete e"}},
		"room first": {[]housekeeping.Item{item(housekeeping.Events, "a.jsonl", 2*day), item(housekeeping.Log, "b", 9*day)}, limits(), []string{"delete b", "compress a.jsonl"}},
		"too many post-mortems": {[]housekeeping.Item{sized("old", 5*day, 3), sized("new", day, 6), sized("older", 6*day, 3), sized("middle", 2*day, 3)},
			limits(), []string{"delete old", "delete older"}},
		"the newest stays":    {[]housekeeping.Item{sized("a", day, 50)}, limits(), nil},
		"no limit of size":    {[]housekeeping.Item{sized("a", day, 50), sized("b", day, 50)}, without(func(l *housekeeping.Limits) { l.PostMortemBytes = 0 }), nil},
		"for ever":            {[]housekeeping.Item{item(housekeeping.Events, "a.jsonl.gz", 900*day), item(housekeeping.Log, "b", 900*day)}, without(func(l *housekeeping.Limits) { l.Logs = 0 }), nil},
		"never compressed":    {[]housekeeping.Item{item(housekeeping.Events, "a.jsonl", 3*day)}, without(func(l *housekeeping.Limits) { l.Compress = 0 }), nil},
		"a clock in the past": {[]housekeeping.Item{item(housekeeping.Events, "a.jsonl", -900*day)}, limits(), nil},
	} {
		var got []string
		for _, a := range housekeeping.Plan(now, row.items, row.limits) {
			got = append(got, string(a.Do)+" "+a.Path)
		}
		if !slices.Equal(got, row.want) {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, age time.Duration) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, []byte("{}\n"), 0o600))
	must(t, os.Chtimes(path, now.Add(-age), now.Add(-age)))
}

// TestSurveyAndAct: of all that is there only what is due goes.
func TestSurveyAndAct(t *testing.T) {
	home := t.TempDir()
	logs, runtime := filepath.Join(home, "logs"), filepath.Join(home, "runtime")
	date := func(ago int) string { return dayfile.Date(now.AddDate(0, 0, -ago)) }
	for path, age := range map[string]time.Duration{
		// What is read from a name is not read from the file's time.
		"logs/events/" + date(0) + ".jsonl":                                 0,
		"logs/events/" + date(1) + ".jsonl":                                 90 * day,
		"logs/events/" + date(3) + ".jsonl":                                 0,
		"logs/events/" + date(20) + ".jsonl.gz":                             0,
		"logs/history/" + date(20) + ".jsonl":                               0,
		"logs/history/" + date(40) + ".jsonl":                               0,
		"logs/monitoring/WebserverHistory.log":                              0,
		"logs/scaling-events-old/ws/out.log":                                8 * day,
		"logs/notes.jsonl":                                                  day * 3,
		"logs/post-mortem/old/report.json":                                  31 * day,
		"logs/post-mortem/new/report.json":                                  29 * day,
		"runtime/servers.json":                                              400 * day,
		"runtime/servers.json.corrupt-20261001T120000.000000000Z":           0,
		"runtime/servers.json.corrupt-20261120T120000.000000000Z":           400 * day,
		"runtime/shards/2/terminating/1.corrupt-20261001T120000.000000000Z": 0,
		"runtime/not.corrupt-ours":                                          400 * day,
		"runtime/shards/3/lease.json":                                       8 * day,
		"runtime/shards/3/state.lock":                                       9 * day,
		"runtime/shards/4/lease.json":                                       6 * day,
		"runtime/AUTOSCALINGMONITOR:1":                                      400 * day,
	} {
		write(t, filepath.Join(home, path), age)
	}
	must(t, os.Mkdir(filepath.Join(logs, "empty"), 0o700))
	for _, folder := range []string{"post-mortem/old", "post-mortem/new", "empty"} {
		must(t, os.Chtimes(filepath.Join(logs, folder), now.AddDate(0, 0, -50), now.AddDate(0, 0, -50)))
	}
	for _, folder := range []string{"shards/3", "shards/4"} {
		must(t, os.Chtimes(filepath.Join(runtime, folder), now.AddDate(0, 0, -50), now.AddDate(0, 0, -50)))
	}
	// A link is not followed, wherever it leads to.
	write(t, filepath.Join(home, "elsewhere", "precious.log"), 900*day)
	must(t, os.Symlink(filepath.Join(home, "elsewhere"), filepath.Join(logs, "link")))
	before := all(t, home)
	items, err := housekeeping.Survey(logs, runtime)
	must(t, err)
	for _, a := range housekeeping.Plan(now, items, limits()) {
		must(t, housekeeping.Act(a, func(string) {}))
	}
	after := all(t, home)
	want := slices.DeleteFunc(before, func(path string) bool {
		return slices.Contains([]string{
			"logs/events/" + date(3) + ".jsonl", "logs/events/" + date(20) + ".jsonl.gz", "logs/history/" + date(20) + ".jsonl", "logs/history/" + date(40) + ".jsonl",
			"logs/scaling-events-old/ws/out.log", "logs/post-mortem/old/report.json",
			"runtime/servers.json.corrupt-20261001T120000.000000000Z", "runtime/shards/2/terminating/1.corrupt-20261001T120000.000000000Z",
			"runtime/shards/3/lease.json", "runtime/shards/3/state.lock",
		}, path)
	})
	want = append(want, "logs/events/"+date(3)+".jsonl.gz", "logs/history/"+date(20)+".jsonl.gz")
	slices.Sort(want)
	if !slices.Equal(after, want) {
		t.Errorf("left:\n%s\nwant:\n%s", strings.Join(after, "\n"), strings.Join(want, "\n"))
	}
	for folder, there := range map[string]bool{"logs/empty": false, "runtime/shards/3": false, "runtime/shards/4": true, "logs/post-mortem/old": false, "logs/events": true} {
		if _, err := os.Stat(filepath.Join(home, folder)); (err == nil) != there {
			t.Errorf("%s: %v", folder, err)
		}
	}
}

// all lists the files below a folder.
func all(t *testing.T, root string) (paths []string) {
	t.Helper()
	must(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(root, path)
			paths = append(paths, rel)
		}
		return err
	}))
	slices.Sort(paths)
	return paths
}

func TestSurveyOfNothing(t *testing.T) {
	home := t.TempDir()
	items, err := housekeeping.Survey(filepath.Join(home, "logs"), filepath.Join(home, "runtime"))
	if err != nil || len(items) != 0 {
		t.Errorf("%v, %v", items, err)
	}
}

// A shard at which somebody is at work stays, and a folder with something in it too.
func TestActRefuses(t *testing.T) {
	guest := filepath.Join(t.TempDir(), "3")
	write(t, filepath.Join(guest, "lease.json"), 0)
	release, err := lock.Try(filepath.Join(guest, "deadoralivelock.file"), time.Now())
	must(t, err)
	err = housekeeping.Act(housekeeping.Action{Do: housekeeping.Delete, Kind: housekeeping.Guest, Path: guest}, func(string) {})
	if _, gone := os.Stat(filepath.Join(guest, "lease.json")); !errors.Is(err, lock.ErrHeld) || gone != nil {
		t.Errorf("%v, %v", err, gone)
	}
	release()
	must(t, housekeeping.Act(housekeeping.Action{Do: housekeeping.Delete, Kind: housekeeping.Guest, Path: guest}, func(string) {}))
	folder := t.TempDir()
	write(t, filepath.Join(folder, "new.log"), 0)
	if err := housekeeping.Act(housekeeping.Action{Do: housekeeping.Delete, Kind: housekeeping.Folder, Path: folder}, func(string) {}); err == nil {
		t.Error("a folder with a file in it went")
	}
}

// TestKilled: compressing that is killed at any step and repeated loses no line.
func TestKilled(t *testing.T) {
	type killed struct{}
	for n := 1; n <= 3; n++ {
		folder := t.TempDir()
		path := filepath.Join(folder, "2026-11-20.jsonl")
		must(t, os.WriteFile(path, []byte("one\n"), 0o600))
		a := housekeeping.Action{Do: housekeeping.Compress, Kind: housekeeping.Events, Path: path}
		func() {
			steps := 0
			defer func() {
				if p := recover(); p != nil {
					if _, ours := p.(killed); !ours {
						panic(p)
					}
				}
			}()
			_ = housekeeping.Act(a, func(string) {
				if steps++; steps == n {
					panic(killed{})
				}
			})
		}()
		if _, err := os.Stat(path); err == nil {
			must(t, housekeeping.Act(a, func(string) {}))
		}
		f, err := dayfile.Open(folder, "2026-11-20")
		must(t, err)
		var text string
		_, err = fmt.Fscanln(f, &text)
		must(t, errors.Join(err, f.Close()))
		if text != "one" {
			t.Errorf("killed at %d: %q", n, text)
		}
	}
}
