// Package machinetest is a cloud for tests whose machines are Debian's own sshd
// and nginx: each on a loopback address of its own, with a home directory, until
// the test ends. It stands behind a fake of a vendor's API.
package machinetest

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"adt/cloudinit"
	"adt/provider"
)

// Options are what all machines have in common.
type Options struct {
	SudoPassword      string // what sudo asks for; "" is nothing
	ApplicationConfig string // path below the home directory that the configuration script makes; "" is none
}

// The ports of all machines.
const (
	SSHPort   = 2022
	HTTPSPort = 8443
)

// Cloud is the machines and their A records. It implements provider.Servers and
// provider.DNS.
type Cloud struct {
	t       testing.TB
	options Options

	mu       sync.Mutex
	last     int
	machines []*Machine
	records  []provider.Record
}

var (
	_ provider.Servers = (*Cloud)(nil)
	_ provider.DNS     = (*Cloud)(nil)
)

// New returns a cloud without machines. The test is skipped, with a word to
// standard error, where sshd or nginx is not installed; with sshd or nginx in
// $ADT_REQUIRE it fails instead.
func New(t testing.TB, o Options) *Cloud {
	t.Helper()
	for _, program := range []string{"sshd", "nginx"} {
		if _, err := exec.LookPath(path(program)); err == nil {
			continue
		}
		text := fmt.Sprintf("LEFT OUT: real machines: %s is not installed (apt install openssh-server nginx)", program)
		if slices.Contains(strings.Split(os.Getenv("ADT_REQUIRE"), ","), program) {
			t.Fatal(text)
		}
		fmt.Fprintln(os.Stderr, text)
		t.Skip(text)
	}
	if os.Geteuid() == 0 { // sshd insists on it; Debian makes it when the service starts
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := &Cloud{t: t, options: o}
	t.Cleanup(func() {
		for _, m := range c.all() {
			m.stop()
		}
	})
	return c
}

func path(program string) string { return "/usr/sbin/" + program }

func (c *Cloud) all() []*Machine {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.machines)
}

// Machine is the one with the id or name; the test fails without it.
func (c *Cloud) Machine(idOrName string) *Machine {
	c.t.Helper()
	for _, m := range c.all() {
		if m.ID == idOrName || m.Name == idOrName {
			return m
		}
	}
	c.t.Fatalf("machinetest: there is no machine %s", idOrName)
	return nil
}

// Names are those of all machines, the oldest first.
func (c *Cloud) Names() []string {
	var names []string
	for _, m := range c.all() {
		names = append(names, m.Name)
	}
	return names
}

// List implements provider.Servers.
func (c *Cloud) List(context.Context) ([]provider.Server, error) {
	var servers []provider.Server
	for _, m := range c.all() {
		servers = append(servers, m.server)
	}
	return servers, nil
}

// Create implements provider.Servers: when it returns, the machine serves.
func (c *Cloud) Create(_ context.Context, spec provider.Spec) (provider.Server, error) {
	boot, err := cloudinit.Parse(spec.UserData)
	if err != nil {
		return provider.Server{}, err
	}
	c.mu.Lock()
	c.last++
	id := strconv.Itoa(c.last)
	c.mu.Unlock()
	dir := filepath.Join(c.t.TempDir(), id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return provider.Server{}, err
	}
	m := &Machine{ID: id, Name: spec.Name, Home: filepath.Join(dir, "home"), dir: dir, boot: boot, t: c.t}
	if err := m.start(c.options); err != nil {
		m.stop()
		return provider.Server{}, fmt.Errorf("machinetest: machine %s: %w", spec.Name, err)
	}
	m.server = provider.Server{ID: id, Name: spec.Name, PublicIP: m.Address, PrivateIP: m.Address, Created: time.Now().UTC().Truncate(time.Second)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.machines = append(c.machines, m)
	return m.server, nil
}

// Destroy implements provider.Servers.
func (c *Cloud) Destroy(_ context.Context, id string) error {
	c.mu.Lock()
	i := slices.IndexFunc(c.machines, func(m *Machine) bool { return m.ID == id })
	if i < 0 {
		c.mu.Unlock()
		return fmt.Errorf("machinetest: machine %s: %w", id, provider.ErrNotFound)
	}
	m := c.machines[i]
	c.machines = slices.Delete(c.machines, i, i+1)
	c.mu.Unlock()
	m.stop()
	return nil
}

// Records implements provider.DNS.
func (c *Cloud) Records(_ context.Context, name string) ([]provider.Record, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.records), func(r provider.Record) bool { return r.Name != name }), nil
}

// AddRecord implements provider.DNS.
func (c *Cloud) AddRecord(_ context.Context, name string, address netip.Addr, ttl time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	c.records = append(c.records, provider.Record{ID: strconv.Itoa(c.last), Name: name, Address: address, TTL: ttl})
	return nil
}

// RemoveRecord implements provider.DNS.
func (c *Cloud) RemoveRecord(_ context.Context, id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.records, func(r provider.Record) bool { return r.ID == id })
	if i < 0 {
		return fmt.Errorf("machinetest: record %s: %w", id, provider.ErrNotFound)
	}
	c.records = slices.Delete(c.records, i, i+1)
	return nil
}
