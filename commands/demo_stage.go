package commands

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"adt/cloudinit"
	"adt/events"
	"adt/provider"
	"adt/provider/local"
	"adt/remote"
)

// What the demo's installation is like.
const (
	demoAutoscalers = 3
	demoRegion      = "home"
	demoBuild       = "demo"
	demoUser        = "agile"
	demoWebsite     = "www.example.com"
	demoDrain       = 2 * time.Second
	demoSSHPort     = 2222
)

// demoTick is the pause between two runs of a command; cron's is a minute.
const demoTick = time.Second

// demoConfig is one autoscaler's adt.toml. The times are short: nobody wants to
// watch a real boot.
const demoConfig = `[autoscaler]
number = %d
count = 3
region = "home"
build = "demo"

[website]
url = "www.example.com"
ttl = "1s"

[ssh]
key = "../asbuild/build_key"

[local]
path = "../cloud"
boot = "1s"
build = "2s"

[datastore]
path = "../datastore"

[build]
poll = "250ms"
settle = "2s"

[scale]
budget = "20s"
drain = "2s"
missing_after = "3s"

[healthcheck]
deadline = "3s"
grace = "1s"
`

// stage is the demo's machines and what is seen of them.
type stage struct {
	dir   string
	out   io.Writer
	cloud *local.Cloud // as the audience sees it: no fault and no outage apply
}

func (st *stage) home(k int) string { return filepath.Join(st.dir, fmt.Sprintf("as%d", k)) }
func (st *stage) cloudDir() string  { return filepath.Join(st.dir, "cloud") }
func (st *stage) program() string   { return filepath.Join(st.dir, "bin", "adt") }
func (st *stage) keyFile() string   { return filepath.Join(st.dir, "asbuild", "build_key") }

// build makes the homes of the autoscalers and opens the cloud. The program is
// copied, since `go run` removes its own when it ends.
func (st *stage) build(ctx context.Context) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	binary, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "adt demo build key")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	type file struct {
		path    string
		content []byte
		mode    os.FileMode
	}
	files := []file{{st.program(), binary, 0o700}, {st.keyFile(), pem.EncodeToMemory(block), 0o600}}
	tick := "#!/bin/sh\n# What cron does on the autoscalers.\n"
	for k := 1; k <= demoAutoscalers; k++ {
		files = append(files, file{filepath.Join(st.home(k), "adt.toml"), fmt.Appendf(nil, demoConfig, k), 0o600})
		for _, command := range ticks() {
			tick += fmt.Sprintf("HOME='%s' '%s' %s &\n", st.home(k), st.program(), command)
		}
	}
	files = append(files, file{filepath.Join(st.dir, "tick"), []byte(tick + "wait\n"), 0o700})
	for _, f := range files {
		if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
		if err := os.WriteFile(f.path, f.content, f.mode); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	st.cloud, err = local.Open(local.Config{
		Dir: st.cloudDir(), Client: "audience", Boot: time.Second, Build: 2 * time.Second,
		Command: []string{st.program(), "local-server"},
	})
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	fmt.Fprintf(st.out, "everything is in %s\n", st.dir)
	return ctx.Err()
}

// ticks are the commands that cron runs.
func ticks() []string { return []string{"scale", "healthcheck", "reboot-if-done"} }

// crons is all that cron runs: the ticks, and what a fleet can do without.
func crons() []string {
	return append(ticks(), "notify", "monitor", "housekeeping", "audit-ssh", "permissions", "firewall check")
}

// tick plays cron on all autoscalers, until stop.
func (st *stage) tick(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for k := 1; k <= demoAutoscalers; k++ {
		for _, command := range ticks() {
			wg.Go(func() {
				for ctx.Err() == nil {
					_, _ = st.adt(ctx, k, command).CombinedOutput() // the events tell
					select {
					case <-ctx.Done():
					case <-time.After(demoTick):
					}
				}
			})
		}
	}
	return func() { cancel(); wg.Wait() }
}

// adt is a command on autoscaler k, with the sparse environment that cron
// gives it. At the end it is asked to stop, and killed if it does not.
func (st *stage) adt(ctx context.Context, k int, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, st.program(), args...)
	cmd.Env = []string{"HOME=" + st.home(k), "PATH=/usr/bin:/bin"}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// show runs a command in front of the audience.
func (st *stage) show(ctx context.Context, k int, args ...string) error {
	fmt.Fprintf(st.out, "autoscaler %d$ adt %s\n", k, strings.Join(args, " "))
	cmd := st.adt(ctx, k, args...)
	cmd.Stdout, cmd.Stderr = st.out, st.out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("adt %s on autoscaler %d: %w", strings.Join(args, " "), k, err)
	}
	return nil
}

func (st *stage) saw(format string, args ...any) { fmt.Fprintf(st.out, "✓ "+format+"\n", args...) }

// createInitial does what the build machine does: it makes the n-th initial
// webserver and pins its host key on the autoscaler that watches it.
func (st *stage) createInitial(ctx context.Context, n int) error {
	name := st.fleet().InitialName(n, n)
	signer, err := remote.LoadKey(st.keyFile())
	if err != nil {
		return err
	}
	seed := make([]byte, 32)
	_, _ = rand.Read(seed) // never fails
	hostKey, public, err := cloudinit.NewHostKey(seed, name)
	if err != nil {
		return err
	}
	authorized := func(k ssh.PublicKey) string { return string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(k))) }
	data, err := cloudinit.Render(cloudinit.Webserver{
		Hostname: name, User: demoUser, AuthorizedKeys: []string{authorized(signer.PublicKey())},
		HostKeyPrivate: hostKey, HostKeyPublic: authorized(public),
	})
	if err != nil {
		return err
	}
	made, err := st.cloud.Create(ctx, provider.Spec{Name: name, UserData: data})
	if err != nil {
		return err
	}
	return st.await(ctx, 10*time.Second, "an address for "+name, func() (bool, error) {
		servers, err := st.cloud.List(ctx)
		if err != nil {
			return false, err
		}
		for _, s := range servers {
			if s.ID == made.ID && s.Addressed() {
				known := filepath.Join(st.home(n), "runtime", "known_hosts")
				if err := os.MkdirAll(filepath.Dir(known), 0o700); err != nil {
					return false, err
				}
				return true, remote.Pin(known, s.PrivateIP, demoSSHPort, public)
			}
		}
		return false, nil
	})
}

// oneOf picks a webserver that autoscaler k built.
func (st *stage) oneOf(ctx context.Context, k int) (local.Machine, error) {
	machines, err := st.cloud.Inspect(ctx)
	if err != nil {
		return local.Machine{}, err
	}
	for _, m := range machines {
		if n, ok := st.fleet().Parse(m.Name); ok && n.Shard == k && !n.Initial {
			return m, nil
		}
	}
	return local.Machine{}, fmt.Errorf("autoscaler %d has no webserver", k)
}

func (st *stage) events(k int, f events.Filter) ([]events.Event, error) {
	log, err := events.Open(filepath.Join(st.home(k), "logs", "events"))
	if err != nil {
		return nil, err
	}
	return log.Read(f)
}

func (st *stage) awaitEvent(ctx context.Context, k int, reason events.Reason, server string, n int) error {
	return st.await(ctx, 30*time.Second, fmt.Sprintf("%s of %s", reason, server), func() (bool, error) {
		found, err := st.events(k, events.Filter{Server: server, Reasons: []events.Reason{reason}})
		return len(found) >= n, err
	})
}

// awaitNewEvents waits until a reason was recorded n times more.
func (st *stage) awaitNewEvents(ctx context.Context, k int, reason events.Reason, n int) error {
	f := events.Filter{Reasons: []events.Reason{reason}}
	before, err := st.events(k, f)
	if err != nil {
		return err
	}
	return st.await(ctx, 40*time.Second, fmt.Sprintf("%d times %s", n, reason), func() (bool, error) {
		found, err := st.events(k, f)
		return len(found) >= len(before)+n, err
	})
}

// await looks until it sees what it waits for.
func (st *stage) await(ctx context.Context, limit time.Duration, what string, seen func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		ok, err := seen()
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("%s was not seen within %s", what, limit)
			}
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
