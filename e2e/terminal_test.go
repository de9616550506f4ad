package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a person's end of a terminal on which a command runs.
type terminal struct {
	f    *fleet
	keys *os.File
	cmd  *exec.Cmd
	read chan struct{} // closed when all was read

	mu    sync.Mutex
	shown bytes.Buffer
}

// OnTerminal starts adt on a terminal of its own.
func (f *fleet) OnTerminal(args ...string) *terminal {
	f.t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	f.must(err)
	f.must(unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	f.must(err)
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	f.must(err)
	defer tty.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t := &terminal{f: f, keys: keys, read: make(chan struct{}), cmd: f.Command(ctx, []string{"NO_COLOR=1"}, args...)}
	t.cmd.Stdin, t.cmd.Stdout, t.cmd.Stderr = tty, tty, tty
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true} // so that Ctrl-C is its signal
	f.must(t.cmd.Start())
	f.t.Cleanup(func() { cancel(); _ = keys.Close() })
	go func() {
		defer close(t.read)
		buffer := make([]byte, 4096)
		for {
			n, err := keys.Read(buffer)
			t.mu.Lock()
			t.shown.Write(buffer[:n])
			t.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return t
}

func (t *terminal) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.shown.String()
}

// Sees waits until the terminal shows a text.
func (t *terminal) Sees(text string) {
	t.f.t.Helper()
	for end := time.Now().Add(time.Minute); !strings.Contains(t.String(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.f.t.Fatalf("no %q in:\n%s", text, t)
		}
	}
}

func (t *terminal) Types(keys string) {
	t.f.t.Helper()
	_, err := t.keys.WriteString(keys)
	t.f.must(err)
}

// Ends waits for the command's end, and returns its exit code.
func (t *terminal) Ends() int {
	t.f.t.Helper()
	_ = t.cmd.Wait()
	<-t.read
	return t.cmd.ProcessState.ExitCode()
}

const ctrlC = "\x03"

// Ctrl-C at a question is an answer: nothing is changed, and it ends as
// interrupted.
func TestInterruptAtAQuestion(t *testing.T) {
	t.Parallel()
	f := newFleet(t, nil)
	f.configure(settings{
		"autoscaler.number": `0`, "autoscaler.count": `2`, "ssh.key": strconv.Quote(f.path("key")), "local.path": strconv.Quote(f.path("cloud")),
	})
	f.must(os.MkdirAll(f.path("builds"), 0o700))
	f.must(os.Rename(f.path("adt.toml"), f.path("builds", "shop.toml")))
	for name, answers := range map[string][]string{
		"the first": {"Which autoscaler?"}, "the second": {"Which autoscaler?", "all", "How many webservers"}, "the last": {"Which autoscaler?", "all", "How many webservers", "3", "Is that right? (Y/N)"},
	} {
		on := f.OnTerminal("adjust-scaling", "--builds", f.path("builds"))
		for i, text := range answers {
			if i%2 == 0 {
				on.Sees(text)
			} else {
				on.Types(text + "\n")
			}
		}
		on.Types(ctrlC)
		if code := on.Ends(); code != 130 || strings.Contains(on.String(), "canceled") {
			t.Errorf("%s question: exit %d\n%s", name, code, on)
		}
	}
	if r := f.Run("--config", f.path("builds", "shop.toml"), "status", "--json"); !strings.Contains(r.stdout, `"profile": null`) {
		t.Error(r)
	}
}

// Ctrl-C while watching leaves the fleet at its work: the profile is set, the
// build goes on, and what was seen last is told.
func TestInterruptWhileWatching(t *testing.T) {
	t.Parallel()
	f := newFleet(t, settings{"local.boot": `"1h"`, "scale.budget": `"500ms"`})
	f.Tick("scale", "--count", "1")
	f.Tick("scale")
	record, err := os.ReadFile(f.path("runtime", "AUTOSCALINGMONITOR:1"))
	f.must(err)
	for _, args := range [][]string{{"scale", "--count", "2", "--wait"}, {"scale", "--add", "0", "--wait", "--json"}, {"scale", "--wait"}} {
		on := f.OnTerminal(args...)
		on.Sees("0 serve, 2 wanted")
		on.Types(ctrlC)
		code, json := on.Ends(), slices.Contains(args, "--json")
		if text := on.String(); code != 130 || !strings.Contains(text, "no longer watching; the autoscalers go on") || strings.Contains(text, "canceled") || strings.Contains(text, `"reached": false`) != json {
			t.Errorf("%v: exit %d\n%s", args, code, text)
		}
	}
	if after, err := os.ReadFile(f.path("runtime", "AUTOSCALINGMONITOR:1")); err != nil || !bytes.Equal(after, record) {
		t.Errorf("the build is %s, %v, was %s", after, err, record)
	}
	if profiles, err := os.ReadDir(filepath.Dir(f.object("scaling-"+*vendor+"-lon1", "autoscaler-1/x"))); err != nil || len(profiles) != 1 || profiles[0].Name() != "STATIC_SCALE:2" {
		t.Errorf("%v, %v", profiles, err)
	}
}
