// Package permissions finds files that others may read or change and must not,
// and puts their modes and owners right. It follows no symbolic link, so that
// nobody can turn it against a file elsewhere. It must not know why a file is
// private.
package permissions

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Want is what shall hold of a file or folder.
type Want struct {
	Path string
	// Forbidden are the bits of the mode that must not be set: 0o077 for what is
	// private, 0o022 for what others may read and not change.
	Forbidden fs.FileMode
	Tree      bool // and of everything below it
	Why       string
}

// Owners says whose files may be.
type Owners struct {
	Allowed []int // user ids; root's and the owner's of the home, as a rule
	Owner   int   // who a file of somebody else is given to
}

// Finding is a file that is not as it shall be.
type Finding struct {
	Path  string `json:"path"`
	Why   string `json:"why"`
	Wrong string `json:"wrong"` // in words
	Fixed bool   `json:"fixed"`
	Hint  string `json:"hint,omitempty"` // what to do, where it cannot be fixed from here
}

// Check looks at all of them; with fix it puts right what it can. Files that do
// not exist are fine. The error joins what could not be looked at.
func Check(wants []Want, owners Owners, fix bool) ([]Finding, error) {
	var all []Finding
	var errs []error
	seen := map[string]bool{}
	for _, w := range wants {
		folder, name := filepath.Split(filepath.Clean(w.Path))
		parent, err := os.OpenRoot(folder)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("looking at %s: %w", w.Path, err))
			continue
		}
		walk := walk{Want: w, Owners: owners, fix: fix, seen: seen}
		if err := walk.look(parent, name, w.Path); err != nil {
			errs = append(errs, err)
		}
		all = append(all, walk.found...)
		_ = parent.Close() // only looked at
	}
	slices.SortStableFunc(all, func(a, b Finding) int { return strings.Compare(a.Path, b.Path) })
	return all, errors.Join(errs...)
}

type walk struct {
	Want
	Owners
	fix   bool
	seen  map[string]bool // of all walks: a file may be wanted twice
	found []Finding
}

// look holds one name in an open folder against what is wanted, and goes down
// into it. The name is opened once, as what it is, and all that follows is done
// to what was opened: whatever is put in its place meanwhile is not touched.
func (w *walk) look(folder *os.Root, name, path string) error {
	dir, err := folder.Open(".")
	if err != nil {
		return fmt.Errorf("looking at %s: %w", path, err)
	}
	defer dir.Close()
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil // gone meanwhile, or never there
	}
	if err != nil {
		return fmt.Errorf("looking at %s: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("looking at %s: %w", path, err)
	}
	kind := st.Mode & unix.S_IFMT
	if !w.seen[path] {
		w.seen[path] = true
		w.hold(fd, &st, path)
	}
	if kind != unix.S_IFDIR || !w.Tree {
		return nil
	}
	below, err := folder.OpenRoot(name)
	if err != nil {
		return fmt.Errorf("looking at %s: %w", path, err)
	}
	defer below.Close()
	names, err := list(below)
	if err != nil {
		return fmt.Errorf("looking at %s: %w", path, err)
	}
	var errs []error
	for _, n := range names {
		errs = append(errs, w.look(below, n, filepath.Join(path, n)))
	}
	return errors.Join(errs...)
}

func list(folder *os.Root) ([]string, error) {
	f, err := folder.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// hold holds what was opened against what is wanted.
func (w *walk) hold(fd int, st *unix.Stat_t, path string) {
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		if path == filepath.Clean(w.Path) { // the operator's own: its target is what counts
			w.target(path)
		}
		return // a link's own mode means nothing, and where it leads is not ours
	}
	mode := fs.FileMode(st.Mode & 0o7777)
	var wrong []string
	if mode&w.Forbidden != 0 {
		wrong = append(wrong, fmt.Sprintf("mode %04o, want %04o", uint32(mode), uint32(mode&^w.Forbidden)))
	}
	foreign := !slices.Contains(w.Allowed, int(st.Uid))
	if foreign {
		wrong = append(wrong, fmt.Sprintf("it belongs to user %d, want %d", st.Uid, w.Owner))
	}
	if len(wrong) == 0 {
		return
	}
	f := Finding{Path: path, Why: w.Why, Wrong: strings.Join(wrong, "; ")}
	several := st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink > 1
	switch {
	case several: // one of its other names may be a file of somebody else, whom it would be taken from
		f.Hint = fmt.Sprintf("it has %d names (hard links): look at them (find / -inum %d), then chmod by hand", st.Nlink, st.Ino)
	case w.fix:
		if err := w.mend(fd, mode, foreign); err != nil {
			f.Hint = err.Error()
		} else {
			f.Fixed = true
		}
	}
	w.found = append(w.found, f)
}

// target tells of what a link leads to that is wanted by its name. It is not
// changed: a link may lead to anything.
func (w *walk) target(path string) {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&w.Forbidden == 0 {
		return
	}
	where, err := filepath.EvalSymlinks(path)
	if err != nil {
		return
	}
	w.found = append(w.found, Finding{
		Path: path, Why: w.Why, Wrong: fmt.Sprintf("mode %04o, want %04o, of %s, to which it is a link", info.Mode().Perm(), info.Mode().Perm()&^w.Forbidden, where),
		Hint: "links are not followed: chmod " + where + " by hand",
	})
}

// mend changes what was opened. There is no chmod of an O_PATH descriptor but by
// its name in /proc, which leads to the same file.
func (w *walk) mend(fd int, mode fs.FileMode, foreign bool) error {
	if foreign {
		if err := unix.Fchownat(fd, "", w.Owner, -1, unix.AT_EMPTY_PATH); err != nil {
			return fmt.Errorf("only root can give it away: %w", err)
		}
	}
	// After the owner: a change of that may take bits away, and never gives any.
	if err := unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), uint32(mode&^w.Forbidden)); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	return nil
}
