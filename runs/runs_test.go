package runs

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func minute(n int) time.Time { return time.Date(2026, 12, 1, 8, n, 0, 0, time.UTC) }

func TestLast(t *testing.T) {
	f := Folder(filepath.Join(t.TempDir(), "runtime", "runs"))
	if l := f.Last("scale"); !reflect.DeepEqual(l, Last{}) {
		t.Errorf("never ran: %+v", l)
	}
	step := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want Last) {
		t.Helper()
		if d := cmp.Diff(want, f.Last("scale")); d != "" {
			t.Error(d)
		}
	}
	step(f.Begin("scale", minute(1)))
	expect(Last{Begun: minute(1)})
	step(f.End("scale", Record{Started: minute(1), Ended: minute(2)}))
	done := Record{Version: 1, Started: minute(1), Ended: minute(2), Succeeded: minute(2)}
	expect(Last{Record: done, Begun: minute(1)})

	// One that is killed has begun and not ended.
	step(f.Begin("scale", minute(3)))
	expect(Last{Record: done, Begun: minute(3)})

	// A failure keeps the last success; being held back is one.
	step(f.End("scale", Record{Started: minute(4), Ended: minute(5), Exit: 1}))
	expect(Last{Record: Record{Version: 1, Started: minute(4), Ended: minute(5), Exit: 1, Succeeded: minute(2)}, Begun: minute(3)})
	step(f.End("scale", Record{Started: minute(6), Ended: minute(7), Exit: 3}))
	expect(Last{Record: Record{Version: 1, Started: minute(6), Ended: minute(7), Exit: 3, Succeeded: minute(7)}, Begun: minute(3)})
	if l := f.Last("healthcheck"); !reflect.DeepEqual(l, Last{}) {
		t.Errorf("another command: %+v", l)
	}
	if left, _ := filepath.Glob(filepath.Join(string(f), ".*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// Garbage and files of another version tell nothing, and are replaced.
func TestGarbage(t *testing.T) {
	f := Folder(t.TempDir())
	for _, text := range []string{"", "{", "[]", `{"version":2,"ended":"2026-12-01T08:00:00Z"}`, `{"ended":"2026-12-01T08:00:00Z"}`, "\x00\x00\x00"} {
		if err := os.WriteFile(filepath.Join(string(f), "scale.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if l := f.Last("scale"); !reflect.DeepEqual(l, Last{}) {
			t.Errorf("%q: %+v", text, l)
		}
		if err := f.End("scale", Record{Ended: minute(1), Exit: 1}); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if l := f.Last("scale"); l.Exit != 1 || !l.Succeeded.IsZero() {
			t.Errorf("%q: %+v", text, l)
		}
	}
}

// Counts grow from run to run; facts are of the last one.
func TestTotals(t *testing.T) {
	f := Folder(t.TempDir())
	for i, r := range []Record{
		{Totals: map[string]int{"a": 1, "b": 2}, Facts: []byte(`{"x":1}`)},
		{Exit: 1, Totals: map[string]int{"b": 3}},
		{Facts: []byte(`{"x":2}`)},
	} {
		if err := f.End("scale", r); err != nil {
			t.Fatal(i, err)
		}
	}
	l := f.Last("scale")
	if d := cmp.Diff(map[string]int{"a": 1, "b": 5}, l.Totals); d != "" || string(l.Facts) != `{"x":2}` {
		t.Errorf("%s, %s", d, l.Facts)
	}
}

func TestNowhereToWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := Folder(filepath.Join(file, "runs"))
	if f.Begin("scale", minute(1)) == nil || f.End("scale", Record{}) == nil {
		t.Error("no error")
	}
}
