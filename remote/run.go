package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/melbahja/goph"
	"golang.org/x/crypto/ssh"
)

// What is kept of a command's output, in bytes.
const (
	maxStdout = 1 << 20
	maxStderr = 4 << 10
)

// ErrOutput is Run's error for a command that wrote more than 1 MiB.
var ErrOutput = errors.New("more than 1 MiB of output")

// ExitError is the error of a command that ran and failed. It has no method
// ExitCode on purpose: urfave/cli would end our process with it.
type ExitError struct {
	Status int    // 1 to 255; 128 + n when signal n ended it; 124 when out of time
	Stderr string // its first 4 KiB
}

func (e *ExitError) Error() string {
	line, _, _ := strings.Cut(strings.TrimSpace(e.Stderr), "\n")
	if line == "" {
		return fmt.Sprintf("exit status %d", e.Status)
	}
	return fmt.Sprintf("exit status %d: %s", e.Status, line)
}

// Conn is one connection. Several Runs may share it at a time; sshd allows ten.
type Conn struct {
	client  goph.Client
	raw     net.Conn
	host    string
	timeout time.Duration
	lost    atomic.Bool
}

// Lost reports whether a command was broken off or the connection went away
// under one: then it is of no more use.
func (c *Conn) Lost() bool { return c.lost.Load() }

// Run gives command to /bin/sh on the machine, stdin to the command, and returns
// what it wrote to standard output. A command that fails gives an *ExitError.
//
// The end of ctx, the dialer's CommandTimeout and output beyond 1 MiB (ErrOutput,
// with the first 1 MiB) break the command off. That closes the connection, since
// nothing else frees the caller of a frozen machine; the command itself, if it
// still runs, is ended by the machine when the time that was left is over. A
// connection lost on the way gives ErrUnreachable.
func (c *Conn) Run(ctx context.Context, command string, stdin []byte) ([]byte, error) {
	return c.RunWithin(ctx, c.timeout, command, stdin)
}

// RunWithin is Run for a command with a limit of its own in place of the
// dialer's CommandTimeout.
func (c *Conn) RunWithin(ctx context.Context, limit time.Duration, command string, stdin []byte) ([]byte, error) {
	out, err := c.run(ctx, limit, command, stdin)
	if err != nil {
		return out, fmt.Errorf("run on %s: %w", c.host, err)
	}
	return out, nil
}

func (c *Conn) run(parent context.Context, limit time.Duration, command string, stdin []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(parent, limit)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx, breakOff := context.WithCancelCause(ctx)
	defer breakOff(nil)
	stop := context.AfterFunc(ctx, func() { c.raw.Close() })
	defer stop()

	stdout := &capped{limit: maxStdout, over: func() { breakOff(ErrOutput) }}
	stderr := &capped{limit: maxStderr}
	err := c.outcome(ctx, c.session(ctx, command, stdin, stdout, stderr))
	var exit *ExitError
	if errors.As(err, &exit) {
		exit.Stderr = string(stderr.bytes())
	}
	return stdout.bytes(), err
}

// Stream is RunWithin for a command whose output is handed on as it comes, however
// much there is. The two writers are written to at the same time. An *ExitError
// has no Stderr.
func (c *Conn) Stream(parent context.Context, limit time.Duration, command string, stdout, stderr io.Writer) error {
	ctx, cancel := context.WithTimeout(parent, limit)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.raw.Close() })
	defer stop()
	if err := c.outcome(ctx, c.session(ctx, command, nil, stdout, stderr)); err != nil {
		return fmt.Errorf("run on %s: %w", c.host, err)
	}
	return nil
}

// outcome says what the end of a session means.
func (c *Conn) outcome(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		c.lost.Store(true)
		return cause
	}
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return &ExitError{Status: exit.ExitStatus()}
	}
	c.lost.Store(true)
	return fmt.Errorf("%w: connection lost: %w", ErrUnreachable, err)
}

func (c *Conn) session(ctx context.Context, command string, stdin []byte, stdout, stderr io.Writer) error {
	// sshd does not signal the command of a lost connection, so the command
	// carries its own end.
	deadline, _ := ctx.Deadline()
	seconds := math.Max(1, math.Ceil(time.Until(deadline).Seconds()))
	cmd, err := c.client.Command("timeout", "-k", "1", strconv.Itoa(int(seconds)), "/bin/sh", "-c", Quote(command))
	if err != nil {
		return err
	}
	defer cmd.Close()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	// A pipe of our own: given as cmd.Stdin, input that the command leaves
	// unread would make a success look like a failure.
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer pipe.Close()
		pipe.Write(stdin) // ends with the session at the latest
	}()
	return cmd.Wait()
}

// Close ends the connection. Closing it again is not an error.
func (c *Conn) Close() error {
	err := c.client.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Quote makes arg one word of a command line for /bin/sh.
func Quote(arg string) string {
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}

// capped keeps the first limit bytes and calls over, if there is one, at the
// first byte beyond. It goes on taking bytes, so that nobody waits for it.
type capped struct {
	limit int
	over  func()

	mu   sync.Mutex
	kept bytes.Buffer
}

func (w *capped) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	room := w.limit - w.kept.Len()
	if len(p) <= room {
		return w.kept.Write(p)
	}
	w.kept.Write(p[:room])
	if w.over != nil {
		w.over()
	}
	return len(p), nil
}

func (w *capped) bytes() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Clone(w.kept.Bytes())
}
