package dayfile_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"adt/dayfile"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, folder, date string) string {
	t.Helper()
	f, err := dayfile.Open(folder, date)
	must(t, err)
	text, err := io.ReadAll(f)
	must(t, errors.Join(err, f.Close()))
	return string(text)
}

func names(t *testing.T, folder string) []string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	must(t, err)
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestPack(t *testing.T) {
	folder := t.TempDir()
	plain := filepath.Join(folder, "2026-11-20.jsonl")
	must(t, os.WriteFile(plain, []byte("one\ntwo\n"), 0o600))
	must(t, dayfile.Pack(folder, "2026-11-20"))
	if got := names(t, folder); !slices.Equal(got, []string{"2026-11-20.jsonl.gz"}) {
		t.Fatalf("%v", got)
	}
	info, err := os.Stat(plain + ".gz")
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if got := read(t, folder, "2026-11-20"); got != "one\ntwo\n" {
		t.Errorf("%q", got)
	}
	// Cut off before the plain file was removed, and perhaps added to since.
	for _, rest := range []string{"", "three\n"} {
		must(t, os.WriteFile(plain, []byte("one\ntwo\n"+rest), 0o600))
		if got := read(t, folder, "2026-11-20"); got != "one\ntwo\n"+rest {
			t.Errorf("%q", got)
		}
	}
	must(t, dayfile.Pack(folder, "2026-11-20"))
	// A clock that was set back has begun the day again.
	must(t, os.WriteFile(plain, []byte("four\n"), 0o600))
	for range 2 {
		if got := read(t, folder, "2026-11-20"); got != "one\ntwo\nthree\nfour\n" {
			t.Errorf("%q", got)
		}
		if _, err := os.Stat(plain); err == nil {
			must(t, dayfile.Pack(folder, "2026-11-20"))
		}
	}
	must(t, os.WriteFile(plain, []byte("to"), 0o600))
	must(t, os.Remove(plain+".gz"))
	must(t, dayfile.Pack(folder, "2026-11-20"))
	must(t, os.WriteFile(plain, []byte("five\n"), 0o600))
	if got := read(t, folder, "2026-11-20"); got != "to\nfive\n" {
		t.Errorf("%q", got)
	}
	if _, err := dayfile.Open(folder, "2026-11-21"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if err := dayfile.Pack(folder, "2026-11-21"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	must(t, os.WriteFile(filepath.Join(folder, "2026-11-22.jsonl.gz"), []byte("no gzip"), 0o600))
	if _, err := dayfile.Open(folder, "2026-11-22"); err == nil {
		t.Error("garbage was opened")
	}
}

func TestDates(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"2026-11-20.jsonl.gz", "2026-11-20.jsonl", "2026-11-21.jsonl", "2026-11-19.jsonl.gz", "x.jsonl", "2026-11-22.json", ".2026-11-22.jsonl1"} {
		must(t, os.WriteFile(filepath.Join(folder, name), nil, 0o600))
	}
	for since, want := range map[string][]string{
		"": {"2026-11-19", "2026-11-20", "2026-11-21"}, "2026-11-20T23:00:00Z": {"2026-11-20", "2026-11-21"}, "2026-11-22T00:00:00Z": nil,
	} {
		moment, _ := time.Parse(time.RFC3339, since)
		if got, err := dayfile.Dates(folder, moment); err != nil || !slices.Equal(got, want) {
			t.Errorf("since %s: %v, %v; want %v", since, got, err, want)
		}
	}
	if got, err := dayfile.Dates(filepath.Join(folder, "none"), time.Time{}); err != nil || got != nil {
		t.Errorf("%v, %v", got, err)
	}
}
