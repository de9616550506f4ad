package lock_test

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"adt/lock"
)

// TestMain lets the test binary become a process that holds a lock.
func TestMain(m *testing.M) {
	if path := os.Getenv("LOCK_HOLD"); path != "" {
		if _, err := lock.Try(path, time.Now()); err != nil {
			os.Stdout.WriteString("no\n")
			os.Exit(1)
		}
		os.Stdout.WriteString("held\n")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func hold(t *testing.T, path string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LOCK_HOLD="+path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); _ = cmd.Wait() })
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, strings.TrimSpace(line)
}

func TestOneHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "autoscalelock.file")
	release, err := lock.Try(path, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, got := hold(t, path); got != "no" {
		t.Errorf("another process, while held: %s", got)
	}
	release()
	if _, got := hold(t, path); got != "held" {
		t.Errorf("another process, after the release: %s", got)
	}
}

func TestHeldElsewhereSaysByWhom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l")
	hold(t, path)
	_, err := lock.Try(path, time.Now())
	if !errors.Is(err, lock.ErrHeld) {
		t.Fatalf("got %v, want ErrHeld", err)
	}
	if !strings.Contains(err.Error(), "pid ") {
		t.Errorf("the error does not name the holder: %v", err)
	}
}

func TestKilledHolderBlocksNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l")
	cmd, _ := hold(t, path)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	release, err := lock.Try(path, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	release()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the lock file was unlinked: %v", err)
	}
}

func TestUnwritableFolder(t *testing.T) {
	if _, err := lock.Try(filepath.Join(t.TempDir(), "none", "l"), time.Now()); err == nil {
		t.Error("no error for a folder that is not there")
	}
}
