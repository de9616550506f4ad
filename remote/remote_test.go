package remote_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gliderlabs "github.com/gliderlabs/ssh"
	"golang.org/x/crypto/ssh"

	"adt/remote"
	"adt/remote/remotetest"
)

// patience bounds what a test waits for; it never decides a success.
const patience = 30 * time.Second

// eventually waits until done holds.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("still not: %s", what)
		case <-tick.C:
		}
	}
}

func dial(t *testing.T, d *remote.Dialer, s *remotetest.Server) *remote.Conn {
	t.Helper()
	conn, err := d.Dial(t.Context(), s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestRun(t *testing.T) {
	server := remotetest.Serve(t)
	conn := dial(t, server.Dialer(t), server)
	for _, test := range []struct {
		name, command, stdin, want string
		status                     int
		stderr                     string
	}{
		{name: "output", command: "echo hello", want: "hello\n"},
		{name: "several lines", command: "a=1\nif [ $a = 1 ]; then\n echo \"it's\"; fi", want: "it's\n"},
		{name: "stdin", command: "cat", stdin: "secret\n", want: "secret\n"},
		{name: "stdin that nobody reads", command: "exec true", stdin: strings.Repeat("x", 3<<20)},
		{name: "no stdin is an end of file", command: "cat; echo end", want: "end\n"},
		{name: "exit status", command: "echo part; echo no such thing >&2; exit 3", want: "part\n", status: 3, stderr: "no such thing\n"},
		{name: "killed", command: "kill -9 $$", status: 137},
		{name: "long stderr is cut", command: "yes e | head -c 10000 >&2; exit 1", status: 1, stderr: strings.Repeat("e\n", 2048)},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := conn.Run(t.Context(), test.command, []byte(test.stdin))
			if string(out) != test.want {
				t.Errorf("output %q, want %q", out, test.want)
			}
			var exit *remote.ExitError
			switch {
			case test.status == 0 && err != nil:
				t.Error(err)
			case test.status != 0 && !errors.As(err, &exit):
				t.Errorf("error %v, want an ExitError", err)
			case conn.Lost():
				t.Error("a command that ends by itself costs no connection")
			case test.status != 0 && (exit.Status != test.status || test.stderr != "" && exit.Stderr != test.stderr):
				t.Errorf("status %d, stderr %.40q", exit.Status, exit.Stderr)
			}
		})
	}
}

func TestExitErrorIsNoExitCoder(t *testing.T) {
	var err error = &remote.ExitError{Status: 3}
	var coder interface{ ExitCode() int }
	if errors.As(err, &coder) {
		t.Fatal("urfave/cli would end the process with this error's status")
	}
}

func TestRunsShareAConnection(t *testing.T) {
	server := remotetest.Serve(t)
	conn := dial(t, server.Dialer(t), server)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			out, err := conn.Run(t.Context(), fmt.Sprintf("cat; echo %d", i), []byte("in "))
			if want := fmt.Sprintf("in %d\n", i); err != nil || string(out) != want {
				t.Errorf("%q, %v; want %q", out, err, want)
			}
		})
	}
	wg.Wait()
}

func TestDialRefusals(t *testing.T) {
	server := remotetest.Serve(t)
	other := remotetest.NewKey(t)
	closed := remotetest.Listen(t)
	_, closedPort := remotetest.Address(closed)
	closed.Close()
	pinned := func(t *testing.T, port int, key ssh.PublicKey) string {
		path := filepath.Join(t.TempDir(), "known_hosts")
		if err := remote.Pin(path, server.Addr, port, key); err != nil {
			t.Fatal(err)
		}
		return path
	}
	kinds := []error{
		remote.ErrUnreachable, remote.ErrHandshake, remote.ErrHostKey, remote.ErrUnknownHost,
		remote.ErrLogin, remote.ErrSetup, fs.ErrNotExist,
	}
	for _, test := range []struct {
		name string
		spoil
		want []error
	}{
		{"wrong host key", func(t *testing.T, d *remote.Dialer) { d.KnownHosts = pinned(t, server.Port, other.PublicKey()) },
			[]error{remote.ErrHostKey}},
		{"host key of another kind", func(t *testing.T, d *remote.Dialer) { d.KnownHosts = pinned(t, server.Port, ecdsaKey(t).PublicKey()) },
			[]error{remote.ErrHostKey}},
		{"unknown host", func(t *testing.T, d *remote.Dialer) { d.KnownHosts = pinned(t, server.Port+1, server.HostKey) },
			[]error{remote.ErrHostKey, remote.ErrUnknownHost}},
		{"missing known_hosts", func(t *testing.T, d *remote.Dialer) { d.KnownHosts = filepath.Join(t.TempDir(), "none") },
			[]error{remote.ErrSetup, fs.ErrNotExist}},
		{"garbage in known_hosts", func(t *testing.T, d *remote.Dialer) {
			if err := os.WriteFile(d.KnownHosts, []byte("a b c d\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, []error{remote.ErrSetup}},
		{"no login key", func(t *testing.T, d *remote.Dialer) { d.Signer = nil }, []error{remote.ErrSetup}},
		{"wrong login key", func(t *testing.T, d *remote.Dialer) { d.Signer = other }, []error{remote.ErrLogin}},
		{"refused", func(t *testing.T, d *remote.Dialer) {
			d.Port, d.KnownHosts = closedPort, pinned(t, closedPort, server.HostKey)
		}, []error{remote.ErrUnreachable}},
		{"TCP connect hangs", func(t *testing.T, d *remote.Dialer) {
			d.ConnectTimeout = 20 * time.Millisecond
			d.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		}, []error{remote.ErrUnreachable}},
		{"closed at once", rawServer(server, func(c net.Conn) {}), []error{remote.ErrUnreachable, remote.ErrHandshake}},
		{"hangs after banner", rawServer(server, func(c net.Conn) {
			io.WriteString(c, "SSH-2.0-frozen\r\n")
			io.Copy(io.Discard, c)
		}), []error{remote.ErrUnreachable, remote.ErrHandshake}},
		{"says nothing", rawServer(server, func(c net.Conn) { io.Copy(io.Discard, c) }),
			[]error{remote.ErrUnreachable, remote.ErrHandshake}},
		{"speaks something else", rawServer(server, func(c net.Conn) { io.WriteString(c, strings.Repeat("HTTP/1.1 400\r\n", 4096)) }),
			[]error{remote.ErrUnreachable, remote.ErrHandshake}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dialer := server.Dialer(t)
			test.spoil(t, dialer)
			conn, err := dialer.Dial(t.Context(), server.Addr)
			if err == nil {
				conn.Close()
				t.Fatal("logged in")
			}
			for _, kind := range kinds {
				wanted := false
				for _, want := range test.want {
					wanted = wanted || kind == want
				}
				if errors.Is(err, kind) != wanted {
					t.Errorf("%v: is %q: %v, want %v", err, kind, !wanted, wanted)
				}
			}
		})
	}
}

type spoil func(t *testing.T, d *remote.Dialer)

// rawServer lets the dialer meet a server that does not speak SSH to its end.
func rawServer(server *remotetest.Server, handle func(net.Conn)) spoil {
	return func(t *testing.T, d *remote.Dialer) {
		listener := remotetest.Listen(t)
		remotetest.Accept(listener, handle)
		_, d.Port = remotetest.Address(listener)
		d.ConnectTimeout = 200 * time.Millisecond
		if err := remote.Pin(d.KnownHosts, server.Addr, d.Port, server.HostKey); err != nil {
			t.Fatal(err)
		}
	}
}

func ecdsaKey(t *testing.T) ssh.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// A machine has several host keys; only the pinned one may be asked for.
func TestPinnedKeyIsFoundAmongSeveral(t *testing.T) {
	server := remotetest.Serve(t, remotetest.WithHostKey(ecdsaKey(t)))
	dial(t, server.Dialer(t), server)
}

// One key for all machines counts only where a machine has none of its own.
func TestSharedHostKey(t *testing.T) {
	server, other := remotetest.Serve(t), remotetest.NewKey(t).PublicKey()
	for name, test := range map[string]struct {
		pinned, shared ssh.PublicKey
		want           error
	}{
		"no pin":              {nil, server.HostKey, nil},
		"no pin, another key": {nil, other, remote.ErrHostKey},
		"pinned":              {server.HostKey, other, nil},
		"another is pinned":   {other, server.HostKey, remote.ErrHostKey},
	} {
		t.Run(name, func(t *testing.T) {
			d := server.Dialer(t)
			d.SharedHostKey, d.KnownHosts = test.shared, filepath.Join(t.TempDir(), "known_hosts")
			if test.pinned != nil {
				if err := remote.Pin(d.KnownHosts, server.Addr, server.Port, test.pinned); err != nil {
					t.Fatal(err)
				}
			}
			conn, err := d.Dial(t.Context(), server.Addr)
			if !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
			if err == nil {
				conn.Close()
			}
		})
	}
}

func TestPinIsSeenByADialerInUse(t *testing.T) {
	server := remotetest.Serve(t)
	dialer := server.Dialer(t)
	dial(t, dialer, server)
	if err := remote.Pin(dialer.KnownHosts, server.Addr, server.Port, remotetest.NewKey(t).PublicKey()); err != nil {
		t.Fatal(err)
	}
	if _, err := dialer.Dial(t.Context(), server.Addr); !errors.Is(err, remote.ErrHostKey) {
		t.Fatalf("after the pin changed: %v, want ErrHostKey", err)
	}
}

func TestDialEndsWithContext(t *testing.T) {
	server := remotetest.Serve(t)
	dialer := server.Dialer(t)
	accepted := make(chan struct{})
	rawServer(server, func(c net.Conn) {
		close(accepted)
		io.Copy(io.Discard, c)
	})(t, dialer)
	dialer.ConnectTimeout = patience
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-accepted
		cancel()
	}()
	_, err := dialer.Dial(ctx, server.Addr)
	if !errors.Is(err, context.Canceled) || errors.Is(err, remote.ErrUnreachable) {
		t.Fatalf("got %v, want the context's end and no word on the machine", err)
	}
}

// frozen is a machine that logs us in and then does nothing more.
func frozen(started chan<- struct{}) remotetest.Option {
	return remotetest.WithHandler(func(s gliderlabs.Session) {
		close(started)
		<-s.Context().Done()
	})
}

func TestFrozenMachine(t *testing.T) {
	for name, stdin := range map[string][]byte{"idle": nil, "input not taken": bytes.Repeat([]byte("x"), 8<<20)} {
		t.Run("command timeout, "+name, func(t *testing.T) {
			server := remotetest.Serve(t, frozen(make(chan struct{})))
			dialer := server.Dialer(t)
			dialer.CommandTimeout = 50 * time.Millisecond
			conn := dial(t, dialer, server)
			_, err := conn.Run(t.Context(), "true", stdin)
			if !errors.Is(err, context.DeadlineExceeded) || !conn.Lost() {
				t.Fatalf("got %v, want a deadline; lost: %v", err, conn.Lost())
			}
		})
		t.Run("cancel, "+name, func(t *testing.T) {
			started := make(chan struct{})
			server := remotetest.Serve(t, frozen(started))
			conn := dial(t, server.Dialer(t), server)
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-started
				cancel()
			}()
			if _, err := conn.Run(ctx, "true", stdin); !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v, want the context's end", err)
			}
		})
	}
	t.Run("no session", func(t *testing.T) {
		server := remotetest.Serve(t, func(s *gliderlabs.Server) {
			s.ChannelHandlers = map[string]gliderlabs.ChannelHandler{
				"session": func(_ *gliderlabs.Server, _ *ssh.ServerConn, _ ssh.NewChannel, ctx gliderlabs.Context) { <-ctx.Done() },
			}
		})
		dialer := server.Dialer(t)
		dialer.CommandTimeout = 50 * time.Millisecond
		if _, err := dial(t, dialer, server).Run(t.Context(), "true", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want a deadline", err)
		}
	})
}

func TestEndedContextRunsNothing(t *testing.T) {
	server := remotetest.Serve(t)
	conn := dial(t, server.Dialer(t), server)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := conn.Run(ctx, "touch ran", nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := conn.Run(t.Context(), "[ ! -e ran ]", nil); err != nil {
		t.Fatalf("the connection is spoilt, or the command ran: %v", err)
	}
}

// sshd leaves a command running when its connection is lost: it must end itself.
func TestCommandEndsItself(t *testing.T) {
	server := remotetest.Serve(t, remotetest.WithHandler(orphaning(t.TempDir())))
	dialer := server.Dialer(t)
	dialer.CommandTimeout = time.Second
	pidFile := filepath.Join(t.TempDir(), "pid")
	conn := dial(t, dialer, server)
	_, err := conn.Run(t.Context(), "echo $$ > "+remote.Quote(pidFile)+"; exec sleep 600", nil)
	var exit *remote.ExitError
	if !errors.Is(err, context.DeadlineExceeded) && !(errors.As(err, &exit) && exit.Status == 124) {
		t.Fatalf("got %v, want an end by time", err)
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "remote command gone", func() bool { return syscall.Kill(pid, 0) != nil })
}

func TestConnectionLost(t *testing.T) {
	server := remotetest.Serve(t, remotetest.WithHandler(func(s gliderlabs.Session) {
		s.Context().Value(gliderlabs.ContextKeyConn).(io.Closer).Close()
	}))
	conn := dial(t, server.Dialer(t), server)
	if conn.Lost() {
		t.Fatal("lost before anything happened")
	}
	_, err := conn.Run(t.Context(), "true", nil)
	if !errors.Is(err, remote.ErrUnreachable) || !conn.Lost() {
		t.Fatalf("got %v, want ErrUnreachable; lost: %v", err, conn.Lost())
	}
}

func TestHugeOutput(t *testing.T) {
	server := remotetest.Serve(t)
	out, err := dial(t, server.Dialer(t), server).Run(t.Context(), "yes", nil)
	if !errors.Is(err, remote.ErrOutput) || len(out) != 1<<20 {
		t.Fatalf("%d bytes, %v; want 1 MiB and ErrOutput", len(out), err)
	}
	out, err = dial(t, server.Dialer(t), server).Run(t.Context(), "yes | head -c 1048576", nil)
	if err != nil || len(out) != 1<<20 {
		t.Fatalf("%d bytes, %v; want 1 MiB", len(out), err)
	}
}

func TestCloseTwice(t *testing.T) {
	server := remotetest.Serve(t)
	conn := dial(t, server.Dialer(t), server)
	for range 2 {
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Run(t.Context(), "true", nil); !errors.Is(err, remote.ErrUnreachable) {
		t.Fatalf("got %v, want ErrUnreachable", err)
	}
}

func TestNoGoroutineIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("use", func(t *testing.T) {
		server := remotetest.Serve(t, frozen(make(chan struct{})))
		dialer := server.Dialer(t)
		dialer.CommandTimeout = 20 * time.Millisecond
		conn := dial(t, dialer, server)
		conn.Run(t.Context(), "true", bytes.Repeat([]byte("x"), 8<<20))
		conn.Close()
	})
	eventually(t, "goroutines ended", func() bool { return runtime.NumGoroutine() <= before })
}

func TestQuote(t *testing.T) {
	server := remotetest.Serve(t)
	conn := dial(t, server.Dialer(t), server)
	for _, arg := range []string{"", "plain", "two words", "it's", `"$HOME" \ ` + "`id`", "a\nb", "'; rm -rf /", "*", "-n"} {
		out, err := conn.Run(t.Context(), "printf %s "+remote.Quote(arg), nil)
		if err != nil || string(out) != arg {
			t.Errorf("%q came back as %q, %v", arg, out, err)
		}
	}
}

func TestLoadKey(t *testing.T) {
	dir := t.TempDir()
	key := writeKey(t, filepath.Join(dir, "good"), nil)
	signer, err := remote.LoadKey(filepath.Join(dir, "good"))
	if err != nil || !bytes.Equal(signer.PublicKey().Marshal(), key.Marshal()) {
		t.Fatalf("good key: %v", err)
	}
	writeKey(t, filepath.Join(dir, "locked"), []byte("passphrase"))
	writeKey(t, filepath.Join(dir, "open"), nil)
	if err := os.Chmod(filepath.Join(dir, "open"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "garbage"), []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"missing": "no such file", "locked": "passphrase", "open": "0640", "garbage": "not a private key",
	} {
		_, err := remote.LoadKey(filepath.Join(dir, name))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want the path and %q", name, err, want)
		}
	}
}

func writeKey(t *testing.T, path string, passphrase []byte) ssh.PublicKey {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if passphrase != nil {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "", passphrase)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	public, err := ssh.NewPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return public
}

// orphaning runs commands and, like sshd, does not end them with the connection.
func orphaning(home string) gliderlabs.Handler {
	return func(s gliderlabs.Session) {
		cmd := exec.Command("/bin/sh", "-c", s.RawCommand())
		cmd.Dir = home
		s.Exit(map[bool]int{true: 0, false: 124}[cmd.Run() == nil])
	}
}
