package remote_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/skeema/knownhosts"

	"adt/remote"
	"adt/remote/remotetest"
)

func TestPin(t *testing.T) {
	one, two := remotetest.NewKey(t).PublicKey(), remotetest.NewKey(t).PublicKey()
	line := knownhosts.Line
	addr := netip.MustParseAddr("127.0.0.1")
	others := "# mine\n\n" +
		line([]string{"[127.0.0.10]:2222"}, one) + "\n" +
		line([]string{"127.0.0.1:22"}, one) + "\n" +
		"@revoked [127.0.0.1]:2222 " + strings.TrimPrefix(line([]string{"x"}, two), "x ") + "\n"

	for _, test := range []struct{ name, before, pinned, unpinned string }{
		{"empty", "", line([]string{"[127.0.0.1]:2222"}, two) + "\n", ""},
		{"others are kept", others, others + line([]string{"[127.0.0.1]:2222"}, two) + "\n", others},
		{"last line without end", strings.TrimSuffix(others, "\n"), others + line([]string{"[127.0.0.1]:2222"}, two) + "\n", others},
		{"replaced in its place", line([]string{"[127.0.0.1]:2222"}, one) + " old\n" + others,
			line([]string{"[127.0.0.1]:2222"}, two) + "\n" + others, others},
		{"only one is left", others + line([]string{"[127.0.0.1]:2222"}, one) + "\n" + line([]string{"[127.0.0.1]:2222"}, two) + "\n",
			others + line([]string{"[127.0.0.1]:2222"}, two) + "\n", others},
		{"taken out of a list of names", line([]string{"[127.0.0.1]:2222", "web"}, one) + "\n",
			line([]string{"web"}, one) + "\n" + line([]string{"[127.0.0.1]:2222"}, two) + "\n", line([]string{"web"}, one) + "\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "known_hosts")
			if test.before != "" {
				if err := os.WriteFile(path, []byte(test.before), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			check := func(step, want string, err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(path); err != nil || string(got) != want {
					t.Fatalf("%s:\n%s\nwant:\n%s\n%v", step, got, want, err)
				}
			}
			for _, step := range []string{"pin", "pin again"} {
				check(step, test.pinned, remote.Pin(path, addr, 2222, two))
			}
			for _, step := range []string{"unpin", "unpin again"} {
				check(step, test.unpinned, remote.Unpin(path, addr, 2222))
			}
		})
	}
}

func TestPinMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known_hosts")
	addr, key := netip.MustParseAddr("127.0.0.1"), remotetest.NewKey(t).PublicKey()
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := remote.Pin(path, addr, 22, key); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{path, path + ".lock"} {
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", file, info, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(left) != 2 {
		t.Errorf("left in the directory: %v", left)
	}
}

func TestUnpinOfNothingMakesNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known_hosts")
	if err := remote.Unpin(path, netip.MustParseAddr("127.0.0.1"), 22); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Fatal("a file was made")
	}
}

func TestPinErrorKeepsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "known_hosts")
	err := remote.Pin(path, netip.MustParseAddr("127.0.0.1"), 22, remotetest.NewKey(t).PublicKey())
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1") || !strings.Contains(err.Error(), path) {
		t.Fatalf("got %v, want the address and the path", err)
	}
}

// Builds pin at the same time.
func TestPinsAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known_hosts")
	key := remotetest.NewKey(t).PublicKey()
	addr := netip.MustParseAddr("127.0.1.0")
	var wg sync.WaitGroup
	for range 20 {
		addr = addr.Next()
		own := addr
		wg.Go(func() {
			if err := remote.Pin(path, own, 2222, key); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	text, err := os.ReadFile(path)
	if err != nil || strings.Count(string(text), "\n") != 20 {
		t.Fatalf("%d lines, %v; want 20", strings.Count(string(text), "\n"), err)
	}
}

// A pin without an address is refused: its line would be garbage, and a file with
// garbage verifies nobody.
func TestPinNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known_hosts")
	if err := remote.Pin(path, netip.Addr{}, 22, remotetest.NewKey(t).PublicKey()); err == nil {
		t.Error("a key was pinned to no address")
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("there is a file")
	}
}
