package commands_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/crypto/ssh"

	"adt/commands"
	"adt/events"
	"adt/monitor"
	"adt/rundir"
)

// watched is a machine with figures of a test's making.
type watched struct {
	t       *testing.T
	home    string
	root    fstest.MapFS
	began   time.Time
	uptime  time.Duration
	full    float64 // percent of the disk
	ticks   uint64  // of the CPU
	idle    uint64
	address []netip.Addr
}

func newWatched(t *testing.T) *watched {
	t.Helper()
	w := &watched{t: t, home: t.TempDir(), began: time.Now(), full: 10, uptime: time.Hour, ticks: 1000, idle: 900,
		address: []netip.Addr{netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("2001:db8::9")}}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	w.must(err)
	block, err := ssh.MarshalPrivateKey(private, "")
	w.must(err)
	w.must(os.WriteFile(filepath.Join(w.home, "key"), pem.EncodeToMemory(block), 0o600))
	w.must(os.WriteFile(filepath.Join(w.home, "adt.toml"), []byte(fast), 0o600))
	w.root = fstest.MapFS{
		"proc/loadavg":   {Data: []byte("0.50 0 0 1/2 3\n")},
		"proc/meminfo":   {Data: []byte("MemTotal: 1000 kB\nMemAvailable: 500 kB\n")},
		"proc/net/dev":   {Data: []byte("eth0: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n")},
		"proc/net/route": {Data: []byte("eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\n")},
	}
	return w
}

func (w *watched) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// minute lets one pass in which the CPU is so many percent busy, and runs the
// monitor as cron does.
func (w *watched) minute(busy uint64) (code int, stdout, stderr string) {
	w.t.Helper()
	w.uptime += time.Minute
	w.ticks += 100
	w.idle += 100 - busy
	w.root["proc/stat"] = &fstest.MapFile{Data: fmt.Appendf(nil, "cpu %d 0 0 %d 0 0 0 0\ncpu0 1\n", w.ticks-w.idle, w.idle)}
	var out, errs bytes.Buffer
	env := commands.System()
	env.Args, env.Stdin, env.Stdout, env.Stderr = []string{"adt", "monitor"}, strings.NewReader(""), &out, &errs
	env.Getenv = func(name string) string { return map[string]string{"HOME": w.home}[name] }
	env.Root = w.root
	env.Clocks = func() (rundir.Instant, error) {
		return rundir.Instant{Wall: w.began.Add(w.uptime), Uptime: w.uptime, BootID: "one"}, nil
	}
	env.Addresses = func() ([]netip.Addr, error) { return w.address, nil }
	env.DiskUsage = func(string) (monitor.Usage, error) {
		if w.full > 100 {
			return monitor.Usage{}, errors.New("the disk does not answer")
		}
		return monitor.Usage{Device: 1, Used: w.full}, nil
	}
	env.ClockUnsynced = func() (bool, error) { return false, nil }
	code = commands.Main(context.Background(), env)
	return code, out.String(), errs.String()
}

// calm is a minute in which nothing is said.
func (w *watched) calm(busy uint64) {
	w.t.Helper()
	if code, stdout, stderr := w.minute(busy); code != 0 || stdout != "" || stderr != "" {
		w.t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
}

func (w *watched) said() (all []events.Reason) {
	w.t.Helper()
	log, err := events.Open(filepath.Join(w.home, "logs", "events"))
	w.must(err)
	found, err := log.Read(events.Filter{})
	w.must(err)
	for _, e := range found {
		all = append(all, e.Reason)
	}
	return all
}

func (w *watched) overloaded() []string {
	w.t.Helper()
	names, err := filepath.Glob(filepath.Join(w.home, "datastore", "www-example-com-config-agil", "overloadedips", "*"))
	w.must(err)
	for i, n := range names {
		names[i] = filepath.Base(n)
	}
	return names
}

// TestMonitorOverload: a CPU that is busy for five minutes is published and mailed
// once, with the original's marker; when it is over that is said and taken back.
func TestMonitorOverload(t *testing.T) {
	w := newWatched(t)
	for range 8 {
		w.calm(20)
	}
	if len(w.said()) > 0 || len(w.overloaded()) > 0 {
		t.Fatalf("%v, %v", w.said(), w.overloaded())
	}
	mails := 0
	for range 10 {
		_, _, stderr := w.minute(97)
		mails += strings.Count(stderr, "CPU_OVERLOAD")
	}
	if got := w.said(); !slices.Equal(got, []events.Reason{events.Overloaded, events.CPUOverload}) || mails != 1 {
		t.Errorf("%v, %d mails", got, mails)
	}
	if got := w.overloaded(); !slices.Equal(got, []string{"203.0.113.9"}) {
		t.Errorf("published is %v", got)
	}
	if _, err := os.Stat(filepath.Join(w.home, "runtime", "CPU_OVERLOAD_ACKNOWLEDGED")); err != nil {
		t.Error(err)
	}
	// A day later it is said again; an operator who removes the marker hears it at once.
	then := time.Now().Add(-25 * time.Hour)
	w.must(os.Chtimes(filepath.Join(w.home, "runtime", "CPU_OVERLOAD_ACKNOWLEDGED"), then, then))
	w.minute(97)
	w.must(os.Remove(filepath.Join(w.home, "runtime", "CPU_OVERLOAD_ACKNOWLEDGED")))
	w.minute(97)
	if got := w.said(); len(got) != 4 || got[2] != events.CPUOverload || got[3] != events.CPUOverload {
		t.Errorf("%v", got)
	}
	for range 8 {
		w.minute(20)
	}
	if got := w.said(); len(got) != 6 || got[4] != events.MonitorRecovered || got[5] != events.MonitorRecovered {
		t.Errorf("%v", got)
	}
	if got := w.overloaded(); len(got) > 0 {
		t.Errorf("published is %v", got)
	}
}

// TestMonitorStoreFails: what the store does not take is told it again.
func TestMonitorStoreFails(t *testing.T) {
	w := newWatched(t)
	bucket := filepath.Join(w.home, "datastore", "www-example-com-config-agil")
	w.must(os.MkdirAll(filepath.Dir(bucket), 0o700))
	w.must(os.WriteFile(bucket, nil, 0o600)) // no place for objects
	for range 8 {
		w.minute(97)
	}
	if !slices.Contains(w.said(), events.StoreFailed) {
		t.Errorf("%v", w.said())
	}
	w.must(os.Remove(bucket))
	w.minute(97)
	if got := w.overloaded(); len(got) != 1 {
		t.Errorf("published is %v", got)
	}
	if !slices.Contains(w.said(), events.CPUOverload) {
		t.Errorf("%v", w.said())
	}
}

// TestMonitorCannotRead: what cannot be read is an event and an exit code, and all
// else is judged.
func TestMonitorCannotRead(t *testing.T) {
	w := newWatched(t)
	w.full = 101
	code, mails := 0, 0
	for range 8 {
		var stderr string
		code, _, stderr = w.minute(97)
		mails += strings.Count(stderr, "MONITOR_FAILED")
	}
	if mails != 1 {
		t.Errorf("%d mails", mails)
	}
	if said := w.said(); code != 1 || !slices.Contains(said, events.MonitorFailed) || !slices.Contains(said, events.CPUOverload) {
		t.Errorf("exit %d, %v", code, said)
	}
	w.full = 95
	for range 8 {
		code, _, _ = w.minute(20)
	}
	if said := w.said(); code != 0 || !slices.Contains(said, events.LowDisk) {
		t.Errorf("exit %d, %v", code, said)
	}
	// A record of another adt is named, and left alone.
	path := filepath.Join(w.home, "runtime", "monitor.json")
	w.must(os.WriteFile(path, []byte(`{"version":2}`), 0o600))
	if code, _, stderr := w.minute(20); code != 1 || !strings.Contains(stderr, path) {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != `{"version":2}` {
		t.Errorf("%s, %v", data, err)
	}
}
