// Package rundir is $HOME/runtime: the files in which one tick leaves what the
// next must know. Every change is durable and atomic: after a crash or a power
// cut a file holds its old or its new content, whole. It must not know what
// the records mean.
package rundir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// Version is the version of all structured records. A record of another one
// was written by another adt, and guessing its meaning could destroy servers.
const Version = 1

// VersionError names a record that this adt cannot read.
type VersionError struct {
	Path    string
	Version int
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s has version %d, this adt knows version %d: update adt, or move the file away", e.Path, e.Version, Version)
}

// Dir is one runtime directory.
type Dir struct {
	path string
	// step is called before and after every durable change; tests end the
	// process there.
	step func(string)
	// corrupt is told of every record that was set aside, and where to.
	corrupt func(name, aside string, cause error)
}

// Open makes the directory where it is missing, readable by its owner alone.
// step and corrupt may be nil.
func Open(path string, step func(string), corrupt func(name, aside string, cause error)) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("making the runtime directory: %w", err)
	}
	if step == nil {
		step = func(string) {}
	}
	if corrupt == nil {
		corrupt = func(string, string, error) {}
	}
	d := &Dir{path: path, step: step, corrupt: corrupt}
	d.sweep(time.Now().Add(-abandoned))
	return d, nil
}

// abandoned is the age from which a temporary file is nobody's: a write takes
// milliseconds, and this leaves room for a clock that is set.
const abandoned = 2 * time.Hour

// sweep removes the temporary files that killed writers left before then; else
// each kill would leave one for ever. What cannot be removed harms nobody.
func (d *Dir) sweep(then time.Time) {
	_ = filepath.WalkDir(d.path, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), ".") {
			return nil //nolint:nilerr // what cannot be looked at is left where it is
		}
		if info, err := e.Info(); err == nil && info.ModTime().Before(then) {
			_ = os.Remove(path)
		}
		return nil
	})
}

// Path returns the full path of a name in the directory.
func (d *Dir) Path(name string) string { return filepath.Join(d.path, filepath.FromSlash(name)) }

// Write replaces a record with v, encoded as JSON. It returns once the new
// content would survive a power cut.
func (d *Dir) Write(name string, v any) error {
	return d.write(name, v, func(f *renameio.PendingFile, path string) error {
		return f.CloseAtomicallyReplace()
	})
}

// Create writes a record that must not exist yet; otherwise the error is
// fs.ErrExist. Of several processes that create one name, one succeeds.
func (d *Dir) Create(name string, v any) error {
	return d.write(name, v, func(f *renameio.PendingFile, path string) error {
		if err := f.Sync(); err != nil {
			return err
		}
		// link(2), unlike rename(2), does not replace.
		return os.Link(f.Name(), path)
	})
}

func (d *Dir) write(name string, v any, commit func(*renameio.PendingFile, string) error) error {
	d.step("write " + name)
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding %s: %w", name, err)
	}
	path := d.Path(name)
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(folder), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	defer func() { _ = f.Cleanup() }() // of the temporary file, where it still exists
	if _, err := f.Write(append(data, '\n')); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if err := commit(f, path); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if err := syncDir(folder); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	d.step("wrote " + name)
	return nil
}

// Read decodes a record into v and reports whether there was one. A record
// that is garbage counts as absent: it is set aside as NAME.corrupt-TIME. One
// of an unknown version is a *VersionError and stays.
func (d *Dir) Read(name string, v any) (bool, error) {
	data, err := os.ReadFile(d.Path(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("reading %s: %w", name, err)
	}
	var head struct {
		Version *int `json:"version"`
	}
	err = json.Unmarshal(data, &head)
	if err == nil && head.Version == nil {
		err = errors.New("it has no version")
	}
	if err == nil && *head.Version != Version {
		return false, &VersionError{Path: d.Path(name), Version: *head.Version}
	}
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err == nil {
		return true, nil
	}
	aside := name + ".corrupt-" + time.Now().UTC().Format("20060102T150405.000000000Z")
	if rerr := os.Rename(d.Path(name), d.Path(aside)); rerr != nil {
		return false, fmt.Errorf("setting the corrupt record %s aside: %w", name, rerr)
	}
	d.corrupt(name, aside, err)
	return false, nil
}

// Remove deletes a record; one that is not there is no error.
func (d *Dir) Remove(name string) error {
	d.step("remove " + name)
	if err := os.Remove(d.Path(name)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("removing %s: %w", name, err)
	}
	if err := syncDir(filepath.Dir(d.Path(name))); err != nil {
		return fmt.Errorf("removing %s: %w", name, err)
	}
	d.step("removed " + name)
	return nil
}

// Names lists the records of a folder ("" is the directory itself) whose names
// begin with prefix, sorted, without temporary files and corrupt ones.
func (d *Dir) Names(folder, prefix string) ([]string, error) {
	entries, err := os.ReadDir(d.Path(folder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing the records %s: %w", filepath.Join(folder, prefix), err)
	}
	var names []string
	for _, e := range entries {
		n := e.Name()
		if e.Type().IsRegular() && strings.HasPrefix(n, prefix) && !strings.HasPrefix(n, ".") && !strings.Contains(n, ".corrupt-") {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Exists reports whether there is a file of that name, and when it was
// written.
func (d *Dir) Exists(name string) (time.Time, bool, error) {
	info, err := os.Stat(d.Path(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return time.Time{}, false, nil
	case err != nil:
		return time.Time{}, false, fmt.Errorf("looking at %s: %w", name, err)
	}
	return info.ModTime(), true, nil
}

// Mark leaves an empty marker for operators and the shell toolkit's scripts.
// Nothing of adt depends on it, so it is not made durable.
func (d *Dir) Mark(name string) error { return d.WriteText(name, "") }

// WriteText writes a file for operators and scripts, like Mark.
func (d *Dir) WriteText(name, text string) error {
	path := d.Path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

// Unmark removes a marker, and its folder where that was the last one.
func (d *Dir) Unmark(name string) error {
	path := d.Path(name)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the marker %s: %w", name, err)
	}
	if folder := filepath.Dir(path); folder != d.path {
		_ = os.Remove(folder) // fails while others are in it, as it should
	}
	return nil
}

// syncDir makes the names in a folder durable: rename and link change the
// folder, not the file.
func syncDir(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
