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
	"adt/lock"
)

// Act does one thing. step is called before and after it; tests end the process
// there. The error wraps lock.ErrHeld for a shard that is at work after all.
func Act(a Action, step func(string)) error {
	step(string(a.Do) + " " + a.Path)
	if err := act(a); err != nil {
		return fmt.Errorf("housekeeping: %w", err)
	}
	step(string(a.Do) + "d " + a.Path)
	return nil
}

func act(a Action) error {
	switch {
	case a.Do == Compress:
		return dayfile.Pack(filepath.Dir(a.Path), strings.TrimSuffix(filepath.Base(a.Path), dayfile.Plain))
	case a.Kind == Guest:
		return deleteGuest(a.Path)
	case a.Kind == PostMortem:
		return os.RemoveAll(a.Path)
	}
	if err := os.Remove(a.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// guestLocks are those of the two commands that work on a shard.
func guestLocks() []string { return []string{"autoscalelock.file", "deadoralivelock.file"} }

// deleteGuest holds the shard's locks while its folder goes, so that nobody is at
// work in it.
func deleteGuest(path string) error {
	for _, name := range guestLocks() {
		release, err := lock.Try(filepath.Join(path, name), time.Now())
		if err != nil {
			return err
		}
		defer release()
	}
	return os.RemoveAll(path)
}
