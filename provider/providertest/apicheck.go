package providertest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// Checked puts the vendor's own description between a driver and a fake of
// that vendor: it returns the address of a proxy to target that holds every
// request and answer against it. When the test ends, each violation fails it.
//
// The description and its checker are not part of the project: they are looked
// for beside it. Where they are missing, the test says that it goes without and
// target itself is returned; with "apicheck" in $ADT_REQUIRE it fails instead.
func Checked(t *testing.T, vendor, target string) string {
	t.Helper()
	url, stop, err := Check(vendor, target)
	if errors.Is(err, fs.ErrNotExist) {
		t.Logf("LEFT OUT: requests and answers are not held against the description of %s: %v", vendor, err)
		return target
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return url
}

// Check is Checked for many tests together. What stop returns names the
// violations. The error wraps fs.ErrNotExist where the description is missing
// and need not be there.
func Check(vendor, target string) (url string, stop func() error, err error) {
	shared, err := sharedFolder()
	if errors.Is(err, fs.ErrNotExist) && slices.Contains(strings.Split(os.Getenv("ADT_REQUIRE"), ","), "apicheck") {
		return "", nil, errors.New("required by $ADT_REQUIRE: " + err.Error()) // not to be taken for a reason to go without
	}
	if err != nil {
		return "", nil, err
	}
	folder, err := os.MkdirTemp("", "apicheck")
	if err != nil {
		return "", nil, err
	}
	defer os.RemoveAll(folder) // a running program needs no name
	checker := filepath.Join(folder, "apicheck")
	build := exec.Command("go", "build", "-o", checker, "./cmd/apicheck")
	build.Dir = filepath.Join(shared, "apicheck")
	if out, err := build.CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("building the checker: %w\n%s", err, out)
	}
	proxy := exec.Command(checker, "-spec", filepath.Join(shared, "openapi", vendor+".json"), "-target", target)
	var stderr bytes.Buffer
	proxy.Stderr = &stderr
	stdout, err := proxy.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := proxy.Start(); err != nil {
		return "", nil, err
	}
	out := bufio.NewReader(stdout)
	address, err := out.ReadString('\n')
	stop = func() error {
		_ = proxy.Process.Signal(syscall.SIGTERM)
		var said bytes.Buffer
		_, readErr := said.ReadFrom(out)
		if err := errors.Join(readErr, proxy.Wait()); err != nil {
			return fmt.Errorf("the description of %s: %w\n%s%s", vendor, err, &said, &stderr)
		}
		return nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("the checker did not start: %w", errors.Join(err, stop()))
	}
	return "http://" + strings.TrimSpace(address), stop, nil
}

// sharedFolder is the folder beside the project with the vendors' descriptions.
// The error wraps fs.ErrNotExist where there is none.
func sharedFolder() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("no go.mod above the test: %w", fs.ErrNotExist)
		}
		dir = parent
	}
	shared := filepath.Join(filepath.Dir(dir), "shared")
	if _, err := os.Stat(filepath.Join(shared, "apicheck", "go.mod")); err != nil {
		return "", fmt.Errorf("the vendors' descriptions: %w", err)
	}
	return shared, nil
}
