package events_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"adt/dayfile"
	"adt/events"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func open(t *testing.T) (*events.Log, string) {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "events")
	log, err := events.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	return log, folder
}

func add(t *testing.T, log *events.Log, e events.Event) {
	t.Helper()
	if err := log.Add(e); err != nil {
		t.Fatal(err)
	}
}

// TestEveryReasonHasAMeaning finds a constant that was added without its row.
func TestEveryReasonHasAMeaning(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "reasons.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, m := range events.Meanings() {
		if listed[string(m.Reason)] {
			t.Errorf("%s is listed twice", m.Reason)
		}
		listed[string(m.Reason)] = true
	}
	constants := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Reason" {
			constants++
			code := spec.Values[0].(*ast.BasicLit).Value
			if !listed[code[1:len(code)-1]] {
				t.Errorf("%s has no meaning", code)
			}
		}
		return true
	})
	if constants != len(listed) {
		t.Errorf("%d constants, %d meanings", constants, len(listed))
	}
	if events.LevelOf("NO_SUCH") != events.Error || events.LevelOf(events.Strike) != events.Warn {
		t.Error("levels are wrong")
	}
}

func TestFilter(t *testing.T) {
	log, _ := open(t)
	for i, e := range []events.Event{
		{Reason: events.Strike, Server: "a"}, {Reason: events.Strike, Server: "ab"}, {Reason: events.Withdrawn, Server: "a"},
	} {
		e.Time = noon.Add(time.Duration(i) * 24 * time.Hour) // a file each
		add(t, log, e)
	}
	for _, c := range []struct {
		filter events.Filter
		want   int
	}{
		{events.Filter{}, 3},
		{events.Filter{Server: "a"}, 2}, // exact
		{events.Filter{Reasons: []events.Reason{events.Strike}}, 2},
		{events.Filter{Since: noon.Add(time.Hour)}, 2},
		{events.Filter{Since: noon}, 3},
		{events.Filter{Since: noon.Add(time.Hour), Server: "a", Reasons: []events.Reason{events.Strike}}, 0},
	} {
		if got, err := log.Read(c.filter); err != nil || len(got) != c.want {
			t.Errorf("%+v: %d events, %v; want %d", c.filter, len(got), err, c.want)
		}
	}
}

// TestTornLine: a crash in the middle of a line loses that event alone.
func TestTornLine(t *testing.T) {
	log, folder := open(t)
	add(t, log, events.Event{Time: noon, Reason: events.Strike, Server: "before"})
	path := filepath.Join(folder, "2026-11-23.jsonl")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"time":"2026-11-23T12:00:00Z","rea`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	add(t, log, events.Event{Time: noon, Reason: events.Strike, Server: "after"})
	got, err := log.Read(events.Filter{})
	if err != nil || len(got) != 2 || got[0].Server != "before" || got[1].Server != "after" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestManyWriters(t *testing.T) {
	log, _ := open(t)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for j := range 10 {
				if err := log.Add(events.Event{Time: noon, Reason: events.Strike, Server: fmt.Sprintf("%d-%d", i, j)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got, err := log.Read(events.Filter{})
	seen := map[string]bool{}
	for _, e := range got {
		seen[e.Server] = true
	}
	if err != nil || len(got) != 200 || len(seen) != 200 {
		t.Errorf("%d events, %d of them different, %v; want 200", len(got), len(seen), err)
	}
}

func TestRecent(t *testing.T) {
	log, _ := open(t)
	midnight := noon.Add(12 * time.Hour)
	add(t, log, events.Event{Time: midnight.Add(-10 * time.Minute), Reason: events.Strike, Server: "a"})
	for _, c := range []struct {
		reason events.Reason
		server string
		now    time.Time
		want   bool
	}{
		{events.Strike, "a", midnight.Add(5 * time.Minute), true}, // yesterday's file
		{events.Strike, "a", midnight.Add(time.Hour), false},      // too long ago
		{events.Strike, "b", midnight.Add(5 * time.Minute), false},
		{events.Withdrawn, "a", midnight.Add(5 * time.Minute), false},
	} {
		if got := log.Recent(c.now.Add(-time.Hour), c.now)[events.Matter{Reason: c.reason, Server: c.server}]; got != c.want {
			t.Errorf("%s of %s at %v: %v", c.reason, c.server, c.now, got)
		}
	}
}

// A lasting fault is recorded every minute, and told again an hour after it was
// told last.
func TestTold(t *testing.T) {
	log, _ := open(t)
	matter := events.Matter{Reason: events.StoreFailed}
	add(t, log, events.Event{Time: noon, Reason: events.StoreFailed, Told: true})
	for minute := 1; minute < 90; minute++ {
		now := noon.Add(time.Duration(minute) * time.Minute)
		if got, want := log.Told(now.Add(-time.Hour), now)[matter], minute <= 60; got != want {
			t.Fatalf("after %d minutes it counts as told: %v", minute, got)
		}
		add(t, log, events.Event{Time: now, Reason: events.StoreFailed})
	}
}

func TestCursor(t *testing.T) {
	log, folder := open(t)
	add(t, log, events.Event{Time: noon, Reason: events.Strike, Server: "old"})
	cursor, err := log.End()
	if err != nil {
		t.Fatal(err)
	}
	next := func() (names []string) {
		t.Helper()
		got, err := cursor.Next(events.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range got {
			names = append(names, e.Server)
		}
		return names
	}
	if got := next(); len(got) != 0 {
		t.Errorf("at the end: %v", got)
	}
	add(t, log, events.Event{Time: noon, Reason: events.Strike, Server: "new"})
	add(t, log, events.Event{Time: noon.Add(24 * time.Hour), Reason: events.Strike, Server: "tomorrow"})
	if got := next(); len(got) != 2 || got[0] != "new" || got[1] != "tomorrow" {
		t.Errorf("after two: %v", got)
	}
	// Half a line is taken when it is whole.
	path := filepath.Join(folder, "2026-11-24.jsonl")
	for i, half := range []string{`{"time":"2026-11-24T12:00:00Z","reason":"STRIKE",`, `"server":"slow"}` + "\n"} {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(half); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if got := next(); len(got) != i {
			t.Errorf("after part %d of a line: %v", i+1, got)
		}
	}
}

// TestPosition: a cursor of another process goes on where the last one stood, and
// days that are long over need no place in what is kept of it.
func TestPosition(t *testing.T) {
	log, _ := open(t)
	var p events.Position
	next := func() (names []string) {
		t.Helper()
		cursor := log.At(p)
		got, err := cursor.Next(events.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		p = cursor.Position()
		for _, e := range got {
			names = append(names, e.Server)
		}
		return names
	}
	for day := range 5 {
		add(t, log, events.Event{Time: noon.AddDate(0, 0, day), Reason: events.Strike, Server: fmt.Sprint(day)})
	}
	if got := next(); len(got) != 5 {
		t.Errorf("from the beginning: %v", got)
	}
	if len(p) != 3 {
		t.Errorf("%d days are kept", len(p))
	}
	if got := next(); len(got) != 0 {
		t.Errorf("again: %v", got)
	}
	add(t, log, events.Event{Time: noon.AddDate(0, 0, 3), Reason: events.Strike, Server: "late"})
	add(t, log, events.Event{Time: noon.AddDate(0, 0, 5), Reason: events.Strike, Server: "new"})
	if got := next(); len(got) != 2 || got[0] != "late" || got[1] != "new" {
		t.Errorf("after two more: %v", got)
	}
}

// TestCompressedDays: days that housekeeping has compressed are read like others,
// also while somebody follows what comes.
func TestCompressedDays(t *testing.T) {
	log, folder := open(t)
	for day := range 3 {
		add(t, log, events.Event{Time: noon.AddDate(0, 0, day-2), Reason: events.Paused, Text: fmt.Sprint("day ", day)})
	}
	cursor, err := log.End()
	if err != nil {
		t.Fatal(err)
	}
	for day := range 2 {
		if err := dayfile.Pack(folder, dayfile.Date(noon.AddDate(0, 0, day-2))); err != nil {
			t.Fatal(err)
		}
	}
	for since, want := range map[time.Time]int{{}: 3, noon.AddDate(0, 0, -1): 2, noon: 1} {
		if got, err := log.Read(events.Filter{Since: since}); err != nil || len(got) != want || got[want-1].Text != "day 2" {
			t.Errorf("since %v: %v, %v", since, got, err)
		}
	}
	add(t, log, events.Event{Time: noon, Reason: events.Resumed})
	if got, err := cursor.Next(events.Filter{}); err != nil || len(got) != 1 || got[0].Reason != events.Resumed {
		t.Errorf("%v, %v", got, err)
	}
}
