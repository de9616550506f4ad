// Package runs remembers of each command that cron starts when it began last,
// how that ended, and when it succeeded last: two small files a command. It must
// not know what the commands do.
//
// Each file has one writer at a time: every run says by itself that it has begun,
// and of two runs of one command only the one that had its lock says how it
// ended. So nothing is locked. The files are replaced whole, but not made durable:
// after a power cut the next minute writes them again.
package runs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"
)

// Version is the version of the files. One of another version counts as absent.
const Version = 1

// Record is how the last run of a command ended. Times are of the wall clock.
type Record struct {
	Version   int       `json:"version"`
	Started   time.Time `json:"started"`
	Ended     time.Time `json:"ended"`
	Exit      int       `json:"exit"`
	Succeeded time.Time `json:"succeeded,omitzero"` // when the last run that succeeded ended; zero is never

	Facts  json.RawMessage `json:"facts,omitempty"`  // what the run found out, as the command has it
	Totals map[string]int  `json:"totals,omitempty"` // what all runs have counted; at End, what this one has
}

// Succeeded reports whether an exit code is that of a run that did its work:
// what a brake or a pause held back was looked at too.
func Succeeded(exit int) bool { return exit == 0 || exit == 3 }

// Last is what is known of a command's runs; zero times are not known.
type Last struct {
	Record
	Begun time.Time // when a run began last; after Ended, it is at work or was killed
}

// Folder is where the files are.
type Folder string

type begun struct {
	Version int       `json:"version"`
	Started time.Time `json:"started"`
}

// Begin records that a run has begun.
func (f Folder) Begin(command string, now time.Time) error {
	return f.write(command+".begun.json", begun{Version, now})
}

// End records how a run ended. The last success is kept where this run was none, and
// its counts are added to those of the runs before.
func (f Folder) End(command string, r Record) error {
	var before Record
	f.read(command+".json", &before)
	r.Version, r.Succeeded = Version, before.Succeeded
	if Succeeded(r.Exit) {
		r.Succeeded = r.Ended
	}
	totals := maps.Clone(before.Totals)
	if totals == nil {
		totals = map[string]int{}
	}
	for what, n := range r.Totals {
		totals[what] += n
	}
	r.Totals = totals
	return f.write(command+".json", r)
}

// Last returns what is known of a command. A file that is missing, garbage or of
// another version tells nothing, and no decision about the fleet rests on it.
func (f Folder) Last(command string) Last {
	var l Last
	var b begun
	f.read(command+".json", &l.Record)
	f.read(command+".begun.json", &b)
	l.Begun = b.Started
	return l
}

func (f Folder) read(name string, into any) {
	data, err := os.ReadFile(filepath.Join(string(f), name))
	var head struct {
		Version int `json:"version"`
	}
	if err != nil || json.Unmarshal(data, &head) != nil || head.Version != Version {
		return
	}
	_ = json.Unmarshal(data, into) // the one field that is of a wrong type is left out
}

func (f Folder) write(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", name, err)
	}
	// A dot in front, so that rundir sweeps up what a killed writer leaves.
	file, err := os.CreateTemp(string(f), "."+name)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(string(f), 0o700); err == nil {
			file, err = os.CreateTemp(string(f), "."+name)
		}
	}
	if err != nil {
		return fmt.Errorf("recording a run: %w", err)
	}
	_, err = file.Write(append(data, '\n'))
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), filepath.Join(string(f), name))
	}
	if err != nil {
		_ = os.Remove(file.Name())
		return fmt.Errorf("recording a run: %w", err)
	}
	return nil
}
