// Package e2e proves the promises of adt on real processes: the program itself
// as cron starts it, and the local cloud's servers. It holds tests only.
package e2e

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"adt/autoscaler"
	"adt/cloudinit"
	"adt/commands"
	"adt/events"
	"adt/provider"
	"adt/provider/digitaloceantest"
	"adt/provider/local"
	"adt/remote"
	"adt/rundir"
)

// What the test binary, as adt, reads from its environment.
const (
	envAdt         = "ADT_E2E"          // any value: be adt
	envKillAt      = "ADT_KILL_AT"      // die of SIGKILL in the n-th step, from 1
	envTrace       = "ADT_TRACE"        // append each step to that file
	envClockOffset = "ADT_CLOCK_OFFSET" // add to the wall clock
	envBootID      = "ADT_BOOT_ID"      // the boot that this is
	envDial        = "ADT_DIAL"         // reach machines as the first client of that local cloud
)

func TestMain(m *testing.M) {
	server := len(os.Args) > 1 && os.Args[1] == "local-server" // the cloud gives it no environment
	if !server && os.Getenv(envAdt) == "" {
		// These tests mostly wait for processes, so more of them fit than there
		// are cores; go test -parallel still rules.
		flag.Parse()
		if p := flag.Lookup("test.parallel"); p.Value.String() == p.DefValue {
			_ = p.Value.Set("5")
		}
		os.Exit(run(m))
	}
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) // as main does
	env := commands.System()
	if !server {
		env.Step = steps(os.Getenv(envTrace), os.Getenv(envKillAt))
		env.Clocks = clocks
		env.Dial = dial(os.Getenv(envDial))
	}
	os.Exit(commands.Main(ctx, env))
}

// probeDeadline is a limit that a healthy webserver of a busy machine keeps.
func probeDeadline(seconds int) string { return fmt.Sprintf(`"%ds"`, seconds*slowness) }

// steps returns what is called at each step: it leaves a trace, and ends the
// process as a power cut would.
func steps(trace, killAt string) func(string) {
	var count atomic.Int64
	last, _ := strconv.ParseInt(killAt, 10, 64)
	return func(step string) {
		n := count.Add(1)
		if trace != "" {
			f, err := os.OpenFile(trace, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
			if err == nil {
				fmt.Fprintf(f, "%d %d %s\n", time.Now().UnixNano(), os.Getpid(), step)
				_ = f.Close()
			}
		}
		if n == last {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
}

// dial is the first client's network to the machines of a local cloud; nil for
// none.
func dial(folder string) func(context.Context, string, string) (net.Conn, error) {
	if folder == "" {
		return nil
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		cloud, err := local.Open(local.Config{Dir: folder, Client: "1"})
		if err != nil {
			return nil, err
		}
		return cloud.DialContext(ctx, network, address)
	}
}

func clocks() (rundir.Instant, error) {
	now, err := rundir.ReadClocks()
	if id := os.Getenv(envBootID); id != "" {
		now.BootID = id
	}
	if offset := os.Getenv(envClockOffset); offset != "" {
		d, perr := time.ParseDuration(offset)
		now.Wall, err = now.Wall.Add(d), errors.Join(err, perr)
	}
	return now, err
}

// settings are lines of adt.toml: dotted keys and their TOML values.
type settings map[string]string

// fast is a configuration in which nothing waits longer than it must.
func fast() settings {
	return settings{
		"autoscaler.number": `1`, "autoscaler.region": `"lon1"`, "autoscaler.build": `"shop"`,
		"website.url": `"www.example.com"`, "website.ttl": `"1s"`,
		"ssh.key":    `"key"`,
		"local.boot": `"0s"`, "local.build": `"0s"`,
		"build.poll": `"20ms"`, "build.settle": `"300ms"`, "build.backoff": `["10ms"]`, "build.max_failures": `100`,
		"scale.drain": `"1ms"`, "scale.budget": `"10s"`, "scale.missing_after": `"300ms"`,
		"healthcheck.grace": `"0s"`, "healthcheck.stalled_after": `"1s"`, "healthcheck.deadline": probeDeadline(4),
	}
}

// fleet is one installation of adt with its cloud. Paths below home: adt.toml,
// runtime, logs, datastore, cloud.
type fleet struct {
	t     testing.TB
	home  string
	cloud *local.Cloud // a client that is nobody's autoscaler
	key   ssh.Signer
	trace string // of all steps of all runs

	api      *digitaloceantest.Server // with the cloud behind it; nil is none
	account  settings                 // of it
	backing  backing                  // of it
	vendorID func(string) string      // the vendor's id of the cloud's machine
	dial     string                   // folder of the local cloud through which its machines are reached
}

// newFleet makes an installation with the fast configuration and the changes
// to it. The cloud is cleaned when the test ends.
func newFleet(t testing.TB, changes settings) *fleet {
	t.Helper()
	return newFleetAt(t, *vendor, changes)
}

// newFleetAt is newFleet with the cloud behind the API of a certain vendor.
func newFleetAt(t testing.TB, vendor string, changes settings) *fleet {
	t.Helper()
	f := &fleet{t: t, home: t.TempDir(), vendorID: func(id string) string { return id }}
	f.trace = filepath.Join(f.home, "trace")
	if vendor == "digitalocean" {
		f.openAccount(&f.backing)
		f.dial = f.path("cloud") // the network to the machines can fail as well
	}
	f.configure(changes)

	_, private, err := ed25519.GenerateKey(rand.Reader)
	f.must(err)
	block, err := ssh.MarshalPrivateKey(private, "")
	f.must(err)
	f.must(os.WriteFile(f.path("key"), pem.EncodeToMemory(block), 0o600))
	f.key, err = ssh.NewSignerFromKey(private)
	f.must(err)

	f.cloud, err = local.Open(local.Config{Dir: f.path("cloud")})
	f.must(err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := f.cloud.Clean(ctx); err != nil {
			t.Errorf("cleaning: %v", err)
		}
	})
	return f
}

// configure writes adt.toml: the fast configuration with the changes to it.
func (f *fleet) configure(changes settings) {
	f.t.Helper()
	all := fast()
	maps.Copy(all, f.account)
	maps.Copy(all, changes)
	cloud, err := local.Open(local.Config{Dir: f.path("cloud"), Client: "1", Boot: duration(f.t, all["local.boot"]), Build: duration(f.t, all["local.build"]),
		ApplicationConfig: strings.Trim(all["build.application_config"], `"`)})
	f.must(err)
	f.backing.cloud.Store(cloud)
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s = %s\n", key, all[key])
	}
	f.must(os.WriteFile(f.path("adt.toml"), []byte(b.String()), 0o600))
}

func (f *fleet) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// duration reads a TOML value.
func duration(t testing.TB, value string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(strings.Trim(value, `"`))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// path is a path below home.
func (f *fleet) path(elem ...string) string {
	return filepath.Join(append([]string{f.home}, elem...)...)
}

// result is how one run of adt ended.
type result struct {
	args           []string
	stdout, stderr string
	code           int // -1 when a signal ended it
	killed         bool
}

func (r result) String() string {
	return fmt.Sprintf("adt %s: exit %d\n%s%s", strings.Join(r.args, " "), r.code, r.stdout, r.stderr)
}

// Command is adt, to be run with the additions to its environment.
func (f *fleet) Command(ctx context.Context, env []string, args ...string) *exec.Cmd {
	f.t.Helper()
	program, err := os.Executable()
	f.must(err)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = f.home
	// As sparse as cron's. The race detector, where it is on, would sleep for a
	// second before each exit.
	race := strings.TrimSpace(os.Getenv("GORACE") + " atexit_sleep_ms=0 halt_on_error=1")
	cmd.Env = []string{"HOME=" + f.home, "PATH=/usr/bin:/bin", "GORACE=" + race, envAdt + "=1", envTrace + "=" + f.trace}
	if f.dial != "" {
		cmd.Env = append(cmd.Env, envDial+"="+f.dial)
	}
	if folder, ok := os.LookupEnv("GOCOVERDIR"); ok {
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+folder)
	}
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// Run runs adt to its end, whatever that is.
func (f *fleet) Run(args ...string) result {
	f.t.Helper()
	return f.RunWith(nil, args...)
}

// RunWith is Run with additions to the environment, such as "ADT_KILL_AT=3".
func (f *fleet) RunWith(env []string, args ...string) result {
	f.t.Helper()
	return f.Start(env, args...)()
}

// Start starts adt. The function that it returns waits for its end.
func (f *fleet) Start(env []string, args ...string) func() result {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	cmd := f.Command(ctx, env, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		cancel()
		f.t.Fatal(err)
	}
	return func() result {
		f.t.Helper()
		defer cancel()
		err := cmd.Wait()
		if ctx.Err() != nil {
			f.t.Fatalf("adt %s did not end", strings.Join(args, " "))
		}
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			f.t.Fatal(err)
		}
		r := result{args: args, stdout: stdout.String(), stderr: stderr.String(), code: cmd.ProcessState.ExitCode()}
		status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
		r.killed = ok && status.Signaled() && status.Signal() == syscall.SIGKILL
		if strings.Contains(r.stderr, "panic: ") || strings.Contains(r.stderr, "DATA RACE") {
			f.t.Fatal(r)
		}
		return r
	}
}

// Tick runs adt, and fails the test unless it exits 0.
func (f *fleet) Tick(args ...string) result {
	f.t.Helper()
	r := f.Run(args...)
	if r.code != 0 {
		f.t.Fatal(r)
	}
	return r
}

// Settle runs the three ticks of cron until the fleet is at rest with that many
// webservers, not counting initial ones: no build, no termination, no cycle,
// and DNS holds exactly the machines that are in order.
func (f *fleet) Settle(profile int) {
	f.t.Helper()
	deadline := time.Now().Add(40 * time.Second)
	for {
		for _, tick := range []string{"scale", "healthcheck", "reboot-if-done"} {
			if r := f.Run(tick); r.code != 0 && r.code != 3 {
				f.t.Fatal(r)
			}
		}
		unrest := f.unrest(profile)
		if unrest == "" {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("the fleet does not come to rest: %s\n%s", unrest, f.Story())
		}
	}
}

// unrest says what keeps the fleet from being as it shall be; "" is nothing.
func (f *fleet) unrest(profile int) string {
	f.t.Helper()
	s := f.State()
	var members, serving, published []string
	for _, m := range f.Machines() {
		if !strings.Contains(m.Name, "-init-") {
			members = append(members, m.Name)
		}
		if m.Alive && m.Fault == (local.Fault{}) {
			serving = append(serving, m.PublicIP.String())
		}
	}
	for _, r := range f.DNS() {
		published = append(published, r.Address.String())
	}
	slices.Sort(serving)
	slices.Sort(published)
	switch {
	case len(s.Builds)+len(s.Terminations) > 0:
		return fmt.Sprintf("%d builds and %d terminations are left", len(s.Builds), len(s.Terminations))
	case s.Cycle != nil:
		return fmt.Sprintf("a cycle towards %d is left", s.Cycle.Profile)
	case len(members) != profile:
		return fmt.Sprintf("there are %v, and there shall be %d", members, profile)
	case !slices.Equal(serving, published):
		return fmt.Sprintf("%v are in order and %v are in DNS", serving, published)
	}
	return ""
}

// Initial makes the n-th initial webserver as the build machine does, and waits
// until it serves.
func (f *fleet) Initial(n int) local.Machine {
	f.t.Helper()
	return f.Foreign(autoscaler.Fleet{Region: "lon1", Build: "shop", User4: "agil"}.InitialName(1, n))
}

// Foreign makes a webserver of any name behind adt's back, its host key pinned,
// and waits until it is built.
func (f *fleet) Foreign(name string) local.Machine {
	f.t.Helper()
	key, public := f.hostKey(name)
	m := f.makeMachine(name, key, public)
	f.must(os.MkdirAll(f.path("runtime"), 0o700))
	f.must(remote.Pin(f.path("runtime", "known_hosts"), m.PrivateIP, 2222, public))
	return m
}

// hostKey is the host key of a machine that Foreign makes.
func (f *fleet) hostKey(name string) (pem string, public ssh.PublicKey) {
	f.t.Helper()
	pem, public, err := cloudinit.NewHostKey([]byte(strings.Repeat("s", 32)), name)
	f.must(err)
	return pem, public
}

// Original makes a webserver as the shell toolkit does: with the build key as
// its host key, and neither a tag nor a pin.
func (f *fleet) Original(name string) local.Machine {
	f.t.Helper()
	key, err := os.ReadFile(f.path("key"))
	f.must(err)
	m := f.makeMachine(name, string(key), f.key.PublicKey())
	dialer := remote.Dialer{User: "agile", Port: 2222, Signer: f.key, SharedHostKey: f.key.PublicKey(), KnownHosts: f.path("none")}
	conn, err := dialer.Dial(f.t.Context(), m.PrivateIP)
	f.must(err)
	defer conn.Close()
	_, err = conn.Run(f.t.Context(), "sh application/configuration/InitialiseConfigurationByApplication.sh", nil)
	f.must(err)
	return m
}

// makeMachine makes a machine with that host key, and waits until it is built.
func (f *fleet) makeMachine(name, key string, public ssh.PublicKey) local.Machine {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	data, err := cloudinit.Render(cloudinit.Webserver{
		Hostname: name, User: "agile", HostKeyPrivate: key,
		AuthorizedKeys: []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(f.key.PublicKey())))},
		HostKeyPublic:  strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))),
	})
	f.must(err)
	server, err := f.cloud.Create(ctx, provider.Spec{Name: name, UserData: data})
	f.must(err)
	for {
		m, ok := f.Machine(f.vendorID(server.ID))
		if ok && m.Phase == local.Built && m.PrivateIP.IsValid() { // a busy machine may be late with its address
			return m
		}
		select {
		case <-ctx.Done():
			f.t.Fatalf("%s is not built: %+v", name, m)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Machines are the servers as they really are, the oldest first.
func (f *fleet) Machines() []local.Machine {
	f.t.Helper()
	all, err := f.cloud.Inspect(context.Background())
	f.must(err)
	for i := range all {
		all[i].ID = f.vendorID(all[i].ID)
	}
	return all
}

// cloudID is the cloud's own id of the machine with the vendor's id.
func (f *fleet) cloudID(id string) string {
	f.t.Helper()
	all, err := f.cloud.Inspect(context.Background())
	f.must(err)
	for _, m := range all {
		if f.vendorID(m.ID) == id {
			return m.ID
		}
	}
	return id
}

// Members are the machines that are not initial ones.
func (f *fleet) Members() []local.Machine {
	f.t.Helper()
	return slices.DeleteFunc(f.Machines(), func(m local.Machine) bool { return strings.Contains(m.Name, "-init-") })
}

// Machine finds a machine by its id or name.
func (f *fleet) Machine(idOrName string) (local.Machine, bool) {
	f.t.Helper()
	for _, m := range f.Machines() {
		if m.ID == idOrName || m.Name == idOrName {
			return m, true
		}
	}
	return local.Machine{}, false
}

// Break gives a machine a fault such as "http=500"; "none" heals it.
func (f *fleet) Break(id, fault string) {
	f.t.Helper()
	parsed, err := local.ParseFault(fault)
	f.must(err)
	f.must(f.cloud.SetServerFault(context.Background(), f.cloudID(id), parsed))
}

// BreakAPI gives a call a fault such as "error,times=2"; "none" heals it.
func (f *fleet) BreakAPI(op local.Op, fault string) {
	f.t.Helper()
	parsed, err := local.ParseAPIFault(op, fault)
	f.must(err)
	f.must(f.cloud.SetAPIFault(context.Background(), op, parsed))
}

// DNS is the A records as they really are.
func (f *fleet) DNS() []provider.Record {
	f.t.Helper()
	records, err := f.cloud.AllRecords()
	f.must(err)
	return records
}

// Audit is every change that really happened to the cloud.
func (f *fleet) Audit() []local.Entry {
	f.t.Helper()
	entries, err := f.cloud.Audit(context.Background())
	f.must(err)
	for i, e := range entries {
		if e.Op == local.Created || e.Op == local.Destroyed {
			entries[i].ID = f.vendorID(e.ID)
		}
	}
	return entries
}

// Changes counts the audit's entries by what happened.
func (f *fleet) Changes() map[string]int {
	f.t.Helper()
	count := map[string]int{}
	for _, e := range f.Audit() {
		count[e.Op]++
	}
	return count
}

// State is what the runtime directory says.
func (f *fleet) State() autoscaler.State {
	f.t.Helper()
	dir, err := rundir.Open(f.path("runtime"), nil, nil)
	f.must(err)
	a := &autoscaler.Autoscaler{Dir: dir, Now: time.Now, Record: func(events.Reason, string, string) {}}
	s, err := a.Recall(context.Background())
	f.must(err)
	return s
}

// Events are those with one of the reasons, or all.
func (f *fleet) Events(reasons ...events.Reason) []events.Event {
	f.t.Helper()
	log, err := events.Open(f.path("logs", "events"))
	f.must(err)
	all, err := log.Read(events.Filter{Reasons: reasons})
	f.must(err)
	return all
}

// Steps are the steps of all runs so far.
func (f *fleet) Steps() []step {
	f.t.Helper()
	data, err := os.ReadFile(f.trace)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		f.t.Fatal(err)
	}
	var all []step
	for line := range strings.Lines(string(data)) {
		var s step
		var nanos int64
		_, err := fmt.Sscanf(line, "%d %d", &nanos, &s.pid)
		f.must(err)
		s.at, s.what = time.Unix(0, nanos), strings.SplitN(strings.TrimSpace(line), " ", 3)[2]
		all = append(all, s)
	}
	return all
}

// step is one call of commands.Env.Step.
type step struct {
	at   time.Time
	pid  int // of the run
	what string
}

// Story is what happened, for a failure's message: the events, the machines and
// the audit.
func (f *fleet) Story() string {
	f.t.Helper()
	var b strings.Builder
	for _, e := range f.Events() {
		fmt.Fprintf(&b, "%s %-14s %-20s %s %s\n", e.Time.Format("05.000"), e.Command, e.Reason, e.Server, e.Text)
	}
	for _, e := range f.Audit() {
		fmt.Fprintf(&b, "audit %s %s %s %s %v\n", e.Time.Format("05.000"), e.Op, e.ID, e.Name, e.Address)
	}
	for _, m := range f.Machines() {
		fmt.Fprintf(&b, "machine %s %s %v %s alive=%v fault=%s\n", m.ID, m.Name, m.PublicIP, m.Phase, m.Alive, m.Fault)
	}
	for _, r := range f.DNS() {
		fmt.Fprintf(&b, "record %s %s\n", r.Name, r.Address)
	}
	return b.String()
}
