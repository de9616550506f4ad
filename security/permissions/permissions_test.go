package permissions_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"adt/security/permissions"
)

// home is a folder with files of the given modes; names that end with / are folders.
func home(t *testing.T, files map[string]os.FileMode) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if strings.HasSuffix(name, "/") {
			err = errors.Join(err, os.MkdirAll(path, 0o700))
		} else {
			err = errors.Join(err, os.WriteFile(path, []byte("secret"), 0o600))
		}
		if err = errors.Join(err, os.Chmod(path, files[name])); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func me() permissions.Owners {
	return permissions.Owners{Allowed: []int{0, os.Getuid()}, Owner: os.Getuid()}
}

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func check(t *testing.T, root string, owners permissions.Owners, fix bool, wants ...permissions.Want) []permissions.Finding {
	t.Helper()
	for i := range wants {
		wants[i].Path = filepath.Join(root, wants[i].Path)
	}
	found, err := permissions.Check(wants, owners, fix)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func paths(root string, found []permissions.Finding) []string {
	var out []string
	for _, f := range found {
		rel, _ := filepath.Rel(root, f.Path)
		out = append(out, fmt.Sprintf("%s: %s", rel, f.Wrong))
	}
	return out
}

func TestCheckAndFix(t *testing.T) {
	root := home(t, map[string]os.FileMode{
		"key": 0o640, "config": 0o644, "open": 0o664, "fine": 0o600,
		"runtime/": 0o755, "runtime/a": 0o600, "runtime/b": 0o604, "runtime/deep/": 0o700, "runtime/deep/c": 0o666, "other": 0o666,
	})
	wants := func() []permissions.Want {
		return []permissions.Want{
			{Path: "key", Forbidden: 0o077}, {Path: "config", Forbidden: 0o022}, {Path: "open", Forbidden: 0o022}, {Path: "fine", Forbidden: 0o077},
			{Path: "runtime", Forbidden: 0o077, Tree: true}, {Path: "runtime/deep/c", Forbidden: 0o077}, {Path: "nowhere/at/all", Forbidden: 0o077},
		}
	}
	want := []string{
		"key: mode 0640, want 0600", "open: mode 0664, want 0644", "runtime: mode 0755, want 0700",
		"runtime/b: mode 0604, want 0600", "runtime/deep/c: mode 0666, want 0600",
	}
	found := check(t, root, me(), false, wants()...)
	if got := paths(root, found); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if mode(t, filepath.Join(root, "key")) != 0o640 {
		t.Error("a look changed something")
	}
	found = check(t, root, me(), true, wants()...)
	if got := paths(root, found); !slices.Equal(got, want) || slices.ContainsFunc(found, func(f permissions.Finding) bool { return !f.Fixed }) {
		t.Errorf("fixed %+v", found)
	}
	if found = check(t, root, me(), false, wants()...); len(found) != 0 {
		t.Errorf("still wrong: %+v", found)
	}
	for name, want := range map[string]os.FileMode{"key": 0o600, "open": 0o644, "runtime": 0o700, "runtime/deep/c": 0o600, "other": 0o666} {
		if got := mode(t, filepath.Join(root, name)); got != want {
			t.Errorf("%s has mode %04o, want %04o", name, got, want)
		}
	}
}

// A link leads nobody to a file elsewhere, and a file with a second name is not
// taken from whoever has that.
func TestLinksAreNotFollowed(t *testing.T) {
	root := home(t, map[string]os.FileMode{"runtime/": 0o700, "runtime/a": 0o600, "elsewhere": 0o644, "folder/": 0o755, "folder/x": 0o644, "hard": 0o644})
	link := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	link(os.Symlink(filepath.Join(root, "elsewhere"), filepath.Join(root, "runtime/link")))
	link(os.Symlink(filepath.Join(root, "folder"), filepath.Join(root, "runtime/folder")))
	link(os.Symlink("nowhere", filepath.Join(root, "runtime/dangling")))
	link(os.Symlink(filepath.Join(root, "elsewhere"), filepath.Join(root, "secret")))
	link(os.Link(filepath.Join(root, "hard"), filepath.Join(root, "runtime/hard")))
	found := check(t, root, me(), true, permissions.Want{Path: "runtime", Forbidden: 0o077, Tree: true}, permissions.Want{Path: "secret", Forbidden: 0o077})
	if len(found) != 2 || found[0].Fixed || found[1].Fixed || !strings.Contains(found[0].Hint, "2 names (hard links)") || !strings.Contains(found[1].Hint, "links are not followed: chmod "+filepath.Join(root, "elsewhere")) {
		t.Errorf("%+v", found)
	}
	for _, name := range []string{"elsewhere", "folder/x", "hard"} {
		if got := mode(t, filepath.Join(root, name)); got != 0o644 {
			t.Errorf("%s has mode %04o", name, got)
		}
	}
	if got := mode(t, filepath.Join(root, "folder")); got != 0o755 {
		t.Errorf("folder has mode %04o", got)
	}
}

func TestOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	root := home(t, map[string]os.FileMode{"runtime/": 0o700, "runtime/foreign": 0o600, "runtime/root": 0o600, "runtime/own": 0o600})
	for name, uid := range map[string]int{"runtime": 4000, "runtime/own": 4000, "runtime/foreign": 4001} {
		if err := os.Chown(filepath.Join(root, name), uid, -1); err != nil {
			t.Fatal(err)
		}
	}
	owners := permissions.Owners{Allowed: []int{0, 4000}, Owner: 4000}
	for _, fix := range []bool{false, true} {
		found := check(t, root, owners, fix, permissions.Want{Path: "runtime", Forbidden: 0o077, Tree: true})
		if got := paths(root, found); !slices.Equal(got, []string{"runtime/foreign: it belongs to user 4001, want 4000"}) || found[0].Fixed != fix {
			t.Errorf("%+v", found)
		}
	}
	if found := check(t, root, owners, false, permissions.Want{Path: "runtime", Forbidden: 0o077, Tree: true}); len(found) != 0 {
		t.Errorf("still wrong: %+v", found)
	}
}

// What is no file is neither waited for nor opened.
func TestPipesAndSockets(t *testing.T) {
	root := home(t, map[string]os.FileMode{"runtime/": 0o700})
	pipe := filepath.Join(root, "runtime/pipe")
	if err := mkfifo(pipe); err != nil {
		t.Fatal(err)
	}
	found := check(t, root, me(), true, permissions.Want{Path: "runtime", Forbidden: 0o077, Tree: true})
	if len(found) != 1 || !found[0].Fixed || mode(t, pipe) != 0o600 {
		t.Errorf("%+v, mode %04o", found, mode(t, pipe))
	}
}

func mkfifo(path string) error {
	return errors.Join(syscall.Mkfifo(path, 0o644), os.Chmod(path, 0o644))
}
