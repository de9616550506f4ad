package postmortem_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"adt/postmortem"
	"adt/provider/machinetest"
	"adt/remote"
	"adt/remote/remotetest"
)

const patience = time.Minute

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, []byte(text), mode))
}

func archive(t *testing.T) *postmortem.Archive {
	t.Helper()
	return &postmortem.Archive{
		Folder: filepath.Join(t.TempDir(), "post-mortem"), Deadline: patience, Limit: 64 << 10,
		Files: []string{"boot.log", "/nonexistent/error.log"}, Secrets: func() []string { return []string{"open sesame"} },
		Events: func(server string) []byte { return []byte(`{"server":"` + server + `"}` + "\n") },
	}
}

func subject(address netip.Addr) postmortem.Subject {
	return postmortem.Subject{ID: "7", Name: "ws-1", PrivateIP: address, Why: "unhealthy: no answer", Records: map[string]int{"strikes": 2}}
}

func names(r postmortem.Report) []string {
	var all []string
	for _, f := range r.Files {
		all = append(all, f.Name)
	}
	return all
}

// TestSSHD takes the post-mortem of a machine with Debian's own sshd.
func TestSSHD(t *testing.T) {
	_, login, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	m, dialer := machinetest.Login(t, "ws", login, machinetest.Options{SudoPassword: "open sesame"})
	a := archive(t)
	a.Files = []string{"boot.log", "big.log", "missing.log"}
	a.Limit = 1000
	write(t, filepath.Join(m.Home, "boot.log"), "booted\npassword: hunter2\nsu with open sesame\n", 0o600)
	write(t, filepath.Join(m.Home, "big.log"), strings.Repeat("x", 5000)+"the end", 0o600)
	write(t, filepath.Join(m.Home, "bin", "journalctl"), "#!/bin/sh\n[ \"$AS_ROOT\" = yes ] || exit 1\necho the journal\n", 0o700)
	write(t, filepath.Join(m.Home, "bin", "ps"), "#!/bin/sh\necho \"$@\"\n", 0o700)
	s := subject(m.Address)
	s.Password = []byte("open sesame\n")
	r, err := a.Take(t.Context(), patience, dialer.Dial, s)
	must(t, err)
	if !r.Answered || len(r.Faults) > 0 || r.Finished.IsZero() {
		t.Errorf("%+v", r)
	}
	want := []string{"big.log", "boot.log", "disk.txt", "events.jsonl", "journal.txt", "processes.txt", "records.json"}
	if got := names(r); !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
	for file, want := range map[string]string{
		"boot.log": "booted\npassword: ***\nsu with ***\n", "journal.txt": "the journal\n",
		"processes.txt": "-e -o pid,ppid,user,stat,etime,pcpu,pmem,rss,comm\n",
		"big.log":       strings.Repeat("x", 993) + "the end",
	} {
		if got, err := a.Read("ws-1", file); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", file, got, err, want)
		}
	}
	for _, f := range append(r.Files, postmortem.File{Name: "report.json"}, postmortem.File{Name: ""}) {
		info, err := os.Stat(filepath.Join(a.Folder, "ws-1", f.Name))
		must(t, err)
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			t.Errorf("%s: mode %04o", f.Name, mode)
		}
	}
	if n := m.Connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
	// It is not taken twice.
	if again, err := a.Take(t.Context(), patience, dialer.Dial, s); err != nil || !again.Finished.Equal(r.Finished) || m.Connections() != 1 {
		t.Errorf("again: %+v, %v, %d connections", again, err, m.Connections())
	}
}

// TestMisbehaves: whatever the machine does, there is a report within the limit,
// with what the records know.
func TestMisbehaves(t *testing.T) {
	_, login, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	m, dialer := machinetest.Login(t, "ws", login, machinetest.Options{})
	for _, b := range []machinetest.Behaviour{machinetest.OtherKey, machinetest.NoLogin, machinetest.BannerOnly, machinetest.Closes} {
		must(t, m.SSH(b))
		a := archive(t)
		limit := patience
		if b == machinetest.BannerOnly {
			limit = 300 * time.Millisecond
		}
		r, err := a.Take(t.Context(), limit, dialer.Dial, subject(m.Address))
		if err != nil || r.Answered || len(r.Faults) != 1 || r.Finished.IsZero() {
			t.Errorf("%s: %+v, %v", b, r, err)
		}
		if got := names(r); !slices.Equal(got, []string{"events.jsonl", "records.json"}) {
			t.Errorf("%s: files %v", b, got)
		}
	}
}

// TestFrozen: a command that does not end takes nothing along but a few seconds.
func TestFrozen(t *testing.T) {
	server := remotetest.Serve(t)
	write(t, filepath.Join(server.Home, "boot.log"), "booted\n", 0o600)
	a := archive(t)
	a.Files = []string{"tty", "boot.log"}
	// A tail of what is never written does not end.
	must(t, syscall.Mkfifo(filepath.Join(server.Home, "tty"), 0o600))
	dialer := server.Dialer(t)
	r, err := a.Take(t.Context(), patience, dialer.Dial, subject(server.Addr))
	must(t, err)
	if !r.Answered || len(r.Faults) != 1 || !strings.HasPrefix(r.Faults[0], "tty: ") || r.Finished.IsZero() {
		t.Errorf("%+v", r)
	}
	if got := names(r); !slices.Contains(got, "boot.log") || !slices.Contains(got, "disk.txt") || slices.Contains(got, "tty") {
		t.Errorf("files %v", got)
	}
}

// TestHalf: what had come of a file when the time was over is no file.
func TestHalf(t *testing.T) {
	_, login, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	m, dialer := machinetest.Login(t, "ws", login, machinetest.Options{})
	write(t, filepath.Join(m.Home, "boot.log"), "booted\n", 0o600)
	write(t, filepath.Join(m.Home, "bin", "ps"), "#!/bin/sh\nyes half | head -c 100000\nexec sleep 600\n", 0o700)
	a := archive(t)
	r, err := a.Take(t.Context(), 3*time.Second, dialer.Dial, subject(m.Address))
	must(t, err)
	if len(r.Faults) == 0 || r.Finished.IsZero() || slices.Contains(names(r), "processes.txt") {
		t.Errorf("%+v", r)
	}
}

// TestCutOff: a post-mortem whose caller breaks off goes on where it is repeated,
// and one that was killed at any step does too.
func TestCutOff(t *testing.T) {
	server := remotetest.Serve(t)
	write(t, filepath.Join(server.Home, "boot.log"), "booted\n", 0o600)
	dialer := server.Dialer(t)
	type killed struct{}
	var want []string
	for n := 0; ; n++ {
		a := archive(t)
		steps := 0
		died := func() (died bool) {
			defer func() {
				if p := recover(); p != nil {
					if _, ours := p.(killed); !ours {
						panic(p)
					}
					died = true
				}
			}()
			a.Step = func(string) {
				if steps++; steps == n {
					panic(killed{})
				}
			}
			_, err := a.Take(t.Context(), patience, dialer.Dial, subject(server.Addr))
			must(t, err)
			return false
		}()
		a.Step = nil
		// What is there is whole, and is not fetched again.
		_, fetched := os.Stat(filepath.Join(a.Folder, "ws-1", "boot.log"))
		write(t, filepath.Join(server.Home, "boot.log"), "changed\n", 0o600)
		r, err := a.Take(t.Context(), patience, dialer.Dial, subject(server.Addr))
		must(t, err)
		log, err := a.Read("ws-1", "boot.log")
		if wanted := map[bool]string{true: "booted\n", false: "changed\n"}[fetched == nil]; err != nil || string(log) != wanted {
			t.Errorf("killed at %d: boot.log %q, %v; want %q", n, log, err, wanted)
		}
		write(t, filepath.Join(server.Home, "boot.log"), "booted\n", 0o600)
		if n == 0 {
			want = names(r)
		}
		if !r.Answered || r.Finished.IsZero() || !slices.Equal(names(r), want) {
			t.Errorf("killed at %d: %+v, want %v", n, r, want)
		}
		if n > 0 && !died {
			if n < 2*len(want) {
				t.Errorf("only %d steps", n)
			}
			break
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a := archive(t)
	if r, err := a.Take(ctx, patience, dialer.Dial, subject(server.Addr)); !errors.Is(err, context.Canceled) || !r.Finished.IsZero() {
		t.Errorf("broken off: %+v, %v", r, err)
	}
	if r, err := a.Take(t.Context(), patience, dialer.Dial, subject(server.Addr)); err != nil || !r.Answered || r.Finished.IsZero() {
		t.Errorf("and repeated: %+v, %v", r, err)
	}
}

// TestDeaf: one that keeps us waiting until the caller's time is over has had its
// chance; one that was not given the time has not.
func TestDeaf(t *testing.T) {
	_, login, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	m, dialer := machinetest.Login(t, "ws", login, machinetest.Options{})
	must(t, m.SSH(machinetest.BannerOnly))
	a := archive(t)
	take := func(within time.Duration) (postmortem.Report, error) {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		return a.Take(ctx, patience, dialer.Dial, subject(m.Address))
	}
	if r, err := take(100 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) || !r.Finished.IsZero() {
		t.Errorf("at once: %+v, %v", r, err)
	}
	if r, err := take(3 * time.Second); err != nil || r.Finished.IsZero() || r.Answered || !slices.Equal(names(r), []string{"events.jsonl", "records.json"}) {
		t.Errorf("after a while: %+v, %v", r, err)
	}
}

func TestFolders(t *testing.T) {
	a := archive(t)
	if all, err := a.List(); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	dead := func(context.Context, netip.Addr) (*remote.Conn, error) { return nil, errors.New("dead") }
	for _, id := range []string{"7", "8"} { // a name that came again
		s := subject(netip.MustParseAddr("127.0.0.1"))
		s.ID = id
		_, err := a.Take(t.Context(), patience, dead, s)
		must(t, err)
	}
	all, err := a.List()
	must(t, err)
	if len(all) != 2 || all[0].Name != "ws-1" || all[1].Name != "ws-1.8" || all[1].ID != "8" {
		t.Errorf("%+v", all)
	}
	// Garbage in the report's place does not lose the rest.
	write(t, filepath.Join(a.Folder, "ws-1", "report.json"), "{", 0o600)
	r, err := a.Take(t.Context(), patience, dead, subject(netip.Addr{}))
	if err != nil || r.Finished.IsZero() || r.Faults[0] != "it has no address" {
		t.Errorf("%+v, %v", r, err)
	}
	for _, name := range []string{"../x", "", ".", "none", ".hidden"} {
		if _, err := a.Report(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", name, err)
		}
		s := subject(netip.Addr{})
		if s.Name = name; name == "none" {
			continue
		}
		if _, err := a.Take(t.Context(), patience, dead, s); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
	for _, file := range []string{"../ws-1.8/report.json", "none", ""} {
		if _, err := a.Read("ws-1", file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", file, err)
		}
	}
	// No room, or no right: an error that names it.
	b := archive(t)
	write(t, b.Folder, "a file in its place", 0o600)
	if _, err := b.Take(t.Context(), patience, dead, subject(netip.Addr{})); err == nil || !strings.Contains(fmt.Sprint(err), b.Folder) {
		t.Errorf("%v", err)
	}
}
