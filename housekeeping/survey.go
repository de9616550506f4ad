package housekeeping

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"adt/dayfile"
)

// Survey lists what may be due below the folder of the logs and the runtime
// directory. Links are not followed. What cannot be looked at is in the error, and
// the rest is returned all the same.
func Survey(logs, runtime string) ([]Item, error) {
	s := &survey{logs: logs}
	errs := []error{s.walk(logs, s.log), s.walk(runtime, s.state), s.guests(runtime), s.postMortems()}
	return s.items, errors.Join(errs...)
}

type survey struct {
	logs  string
	items []Item
}

// Where below the logs what is.
const (
	eventsFolder     = "events"
	historyFolder    = "history"
	postMortemFolder = "post-mortem"
	guestsFolder     = "shards"    // below the runtime directory
	aside            = ".corrupt-" // in names of files that were set aside
	asideTime        = "20060102T150405.000000000Z"
)

// walk calls see for each file and folder below root. A root that is not there has
// none.
func (s *survey) walk(root string, see func(path, rel string, e fs.DirEntry) error) error {
	var errs []error
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		rel, rerr := filepath.Rel(root, path)
		if errors.Is(err, fs.ErrNotExist) || rel == "." && err == nil {
			return nil
		}
		if err = errors.Join(err, rerr); err == nil {
			err = see(path, rel, e)
		}
		if errors.Is(err, fs.SkipDir) {
			return err
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // it may be gone by now
			errs = append(errs, fmt.Errorf("looking at %s: %w", path, err))
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}

func (s *survey) log(path, rel string, e fs.DirEntry) error {
	info, err := e.Info()
	if err != nil {
		return err
	}
	if e.IsDir() {
		if rel == postMortemFolder {
			return fs.SkipDir
		}
		entries, err := os.ReadDir(path)
		if err == nil && len(entries) == 0 && rel != eventsFolder && rel != historyFolder {
			s.items = append(s.items, Item{Kind: Folder, Path: path, Last: info.ModTime()})
		}
		return err
	}
	if !e.Type().IsRegular() {
		return nil
	}
	item := Item{Kind: Log, Path: path, Last: info.ModTime(), Bytes: info.Size()}
	kind := map[string]Kind{eventsFolder: Events, historyFolder: History}[filepath.Dir(rel)]
	if day, packed, ok := dayfile.Parse(e.Name()); ok && kind != "" {
		item.Kind, item.Last, item.Plain = kind, day.AddDate(0, 0, 1), !packed
	}
	s.items = append(s.items, item)
	return nil
}

// state finds the state files that were set aside. Their names tell when: the file's
// own time is that of its last good days.
func (s *survey) state(path, _ string, e fs.DirEntry) error {
	_, when, ok := strings.Cut(e.Name(), aside)
	if !ok || !e.Type().IsRegular() {
		return nil
	}
	info, err := e.Info()
	if err != nil {
		return err
	}
	last, err := time.Parse(asideTime, when)
	if err != nil {
		return nil //nolint:nilerr // somebody else's name: whose file it is nobody knows
	}
	s.items = append(s.items, Item{Kind: Corrupt, Path: path, Last: last, Bytes: info.Size()})
	return nil
}

// guests finds the folders of shards that were taken over. While one is kept its
// lease is written all the time.
func (s *survey) guests(runtime string) error {
	return s.folders(filepath.Join(runtime, guestsFolder), Guest)
}

func (s *survey) postMortems() error {
	return s.folders(filepath.Join(s.logs, postMortemFolder), PostMortem)
}

// folders takes each folder in root as a whole: its last change is that of its
// newest file.
func (s *survey) folders(root string, kind Kind) error {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		item := Item{Kind: kind, Path: filepath.Join(root, e.Name())}
		errs = append(errs, filepath.WalkDir(item.Path, func(_ string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			if item.Bytes += info.Size(); info.ModTime().After(item.Last) {
				item.Last = info.ModTime()
			}
			return nil
		}))
		s.items = append(s.items, item)
	}
	return errors.Join(errs...)
}
