package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"adt/provider"
)

// meta is what a server is made from; it never changes.
type meta struct {
	Version           int           `json:"version"`
	ID                string        `json:"id"`
	Name              string        `json:"name"`
	Created           time.Time     `json:"created"`
	Boot              time.Duration `json:"boot"`
	Build             time.Duration `json:"build"`
	SSHPort           int           `json:"ssh_port"`
	HTTPSPort         int           `json:"https_port"`
	HeadFile          string        `json:"head_file"`
	ApplicationConfig string        `json:"application_config,omitempty"`
}

// state is what a server's process tells of itself. Once there is one, the
// process is never started again.
type state struct {
	Version   int        `json:"version"`
	PID       int        `json:"pid"`
	PrivateIP netip.Addr `json:"private_ip,omitzero"`
	PublicIP  netip.Addr `json:"public_ip,omitzero"`
	Phase     Phase      `json:"phase"`
	FaultSeq  int        `json:"fault_seq"` // of the fault.json in effect
}

// Phase is how far a server has come.
type Phase string

const (
	Starting  Phase = "starting"  // no addresses yet
	Addressed Phase = "addressed" // its ports refuse connections
	Booted    Phase = "booted"    // SSH and HTTPS answer
	Built     Phase = "built"     // WEBSERVER_READY
	Off       Phase = "off"       // powered off in good order
)

// A directory below servers/ with one of these prefixes is no server: it is
// not yet or no longer one.
const (
	makingPrefix = ".making-"
	gonePrefix   = ".gone-"
)

// List returns the servers, the oldest first.
func (c *Cloud) List(ctx context.Context) ([]provider.Server, error) {
	servers, err := c.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("local: list: %w", err)
	}
	return servers, nil
}

// Find implements provider.Finder.
func (c *Cloud) Find(ctx context.Context, match func(name string) bool) ([]provider.Server, error) {
	servers, err := c.List(ctx)
	return slices.DeleteFunc(servers, func(s provider.Server) bool { return !match(s.Name) }), err
}

func (c *Cloud) list(ctx context.Context) ([]provider.Server, error) {
	fault, err := c.call(ctx, OpList)
	if err != nil {
		return nil, err
	}
	if err := c.repair(ctx); err != nil {
		return nil, err
	}
	servers, err := c.scan()
	if err != nil {
		return nil, err
	}
	return misreport(fault.Kind, servers, fault.Servers), nil
}

// Create starts a server. The server is returned along with an error when it
// exists all the same.
func (c *Cloud) Create(ctx context.Context, spec provider.Spec) (provider.Server, error) {
	server, err := c.create(ctx, spec)
	if err != nil {
		return server, fmt.Errorf("local: create %s: %w", spec.Name, err)
	}
	return server, nil
}

func (c *Cloud) create(ctx context.Context, spec provider.Spec) (server provider.Server, err error) {
	if spec.Name == "" {
		return server, errors.New("a server needs a name")
	}
	fault, err := c.call(ctx, OpCreate)
	if err != nil {
		return server, err
	}
	if err := c.repair(ctx); err != nil {
		return server, err
	}
	m := meta{
		Version: 1, ID: "l-" + strings.ToLower(rand.Text()[:12]), Name: spec.Name,
		Boot: c.config.Boot, Build: c.config.Build, SSHPort: c.config.SSHPort, HTTPSPort: c.config.HTTPSPort,
		HeadFile: c.config.HeadFile, ApplicationConfig: c.config.ApplicationConfig,
	}
	var broken Fault
	switch fault.Kind {
	case "never-addressed":
		broken.Address = "never"
	case "never-ready":
		broken.Build = "never"
	}
	var power *os.File
	err = c.locked(ctx, func() error {
		m.Created = time.Now().UTC()
		power, err = c.furnish(m, spec.UserData, broken)
		return err
	})
	if err != nil {
		return server, err
	}
	server = provider.Server{ID: m.ID, Name: m.Name, Created: m.Created}
	if err := c.powerOn(m.ID, power); err != nil {
		return server, err
	}
	c.at("powered")
	switch fault.Kind {
	case "after":
		return server, errAfter()
	case "after-lost":
		return provider.Server{}, fmt.Errorf("the answer did not arrive in time: %w", provider.ErrTemporary)
	}
	return server, nil
}

// furnish makes the server's directory appear whole, and returns its lock.
func (c *Cloud) furnish(m meta, userData []byte, broken Fault) (power *os.File, err error) {
	making := c.server(makingPrefix + m.ID)
	if err := os.MkdirAll(filepath.Join(making, homeDir), 0o700); err != nil {
		return nil, err
	}
	err = errors.Join(
		writeJSON(filepath.Join(making, metaFile), m),
		writeFile(filepath.Join(making, userDataFile), userData),
		writeJSON(filepath.Join(making, faultFile), faultOrder{Seq: 1, Fault: broken}))
	if err == nil {
		power, err = tryLock(filepath.Join(making, aliveFile))
	}
	if err == nil {
		err = c.change(Entry{Op: Created, ID: m.ID, Name: m.Name}, func() error {
			return os.Rename(making, c.server(m.ID))
		})
	}
	if err != nil {
		if power != nil {
			power.Close()
		}
		return nil, errors.Join(err, os.RemoveAll(making))
	}
	c.at("furnished")
	return power, nil
}

// powerOn starts the server's process and hands it the lock, which from then
// on is free only when the process is dead.
func (c *Cloud) powerOn(id string, power *os.File) error {
	defer power.Close()
	log, err := os.OpenFile(c.server(id, logFile), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("power on %s: %w", id, err)
	}
	defer log.Close()
	argv := append(slices.Clone(c.config.Command), c.server(id))
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = c.server(id, homeDir)
	cmd.Env = machineEnvironment(c.server(id))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{power}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("power on %s: %w", id, err)
	}
	go cmd.Wait() // so that a dead machine is no zombie of a client that lives on
	return nil
}

// Destroy kills a server and forgets it.
func (c *Cloud) Destroy(ctx context.Context, id string) error {
	if err := c.destroy(ctx, id); err != nil {
		return fmt.Errorf("local: destroy %s: %w", id, err)
	}
	return nil
}

func (c *Cloud) destroy(ctx context.Context, id string) error {
	fault, err := c.call(ctx, OpDestroy)
	if err != nil {
		return err
	}
	if fault.Kind == "lie" {
		return nil
	}
	if err := c.repair(ctx); err != nil {
		return err
	}
	if !isServer(id) {
		return provider.ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err = every(ctx, 5*time.Millisecond, func() (done bool, err error) {
		err = c.locked(ctx, func() error {
			done, err = c.takeAway(ctx, id)
			return err
		})
		return done, err
	})
	if err != nil {
		return err
	}
	if err := c.clear(gonePrefix + id); err != nil {
		return err
	}
	if fault.Kind == "after" {
		return errAfter()
	}
	return nil
}

// takeAway ends the server's process and moves its directory out of the
// listing. It is not done while the process is starting.
func (c *Cloud) takeAway(ctx context.Context, id string) (done bool, err error) {
	m, s, err := c.read(id)
	if errors.Is(err, fs.ErrNotExist) {
		return false, provider.ErrNotFound
	}
	if err != nil {
		return false, err
	}
	power, err := c.powerOff(ctx, id, s)
	if power == nil || err != nil {
		return false, err
	}
	defer power.Close()
	c.at("killed")
	err = c.change(Entry{Op: Destroyed, ID: id, Name: m.Name, Address: s.PublicIP}, func() error {
		return os.Rename(c.server(id), c.server(gonePrefix+id))
	})
	c.at("gone")
	return err == nil, err
}

// powerOff kills the server's process at once and returns its lock, or nil
// while the process is only starting. The pid is known to be the server's
// because the lock is held and a server's process is started but once.
func (c *Cloud) powerOff(ctx context.Context, id string, s state) (*os.File, error) {
	power, err := tryLock(c.server(id, aliveFile))
	if power != nil || err != nil || s.PID == 0 {
		return power, err
	}
	if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return nil, fmt.Errorf("kill the process %d: %w", s.PID, err)
	}
	err = every(ctx, time.Millisecond, func() (bool, error) {
		power, err = tryLock(c.server(id, aliveFile))
		return power != nil, err
	})
	return power, err
}

// clear removes what is left of a server that has been taken away.
func (c *Cloud) clear(gone string) error {
	var s state
	if err := readJSONIfAny(c.server(gone, stateFile), &s); err != nil {
		return err
	}
	if s.PID != 0 {
		dir := c.server(strings.TrimPrefix(gone, gonePrefix))
		if err := killSessions(map[int]string{s.PID: dir}); err != nil {
			return err
		}
	}
	return os.RemoveAll(c.server(gone))
}

// repair finishes what clients killed in the middle have left: it powers on
// servers that never were, and removes directories that are no servers.
func (c *Cloud) repair(ctx context.Context) error {
	entries, err := os.ReadDir(c.path(serversDir))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		id := entry.Name()
		switch {
		case strings.HasPrefix(id, gonePrefix):
			err = c.clear(id)
		case strings.HasPrefix(id, makingPrefix):
			err = c.locked(ctx, func() error { return os.RemoveAll(c.server(id)) })
		default:
			err = c.powerOnIfNever(ctx, id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Cloud) powerOnIfNever(ctx context.Context, id string) error {
	started := func() bool {
		_, err := os.Stat(c.server(id, stateFile))
		return err == nil
	}
	if started() {
		return nil
	}
	return c.locked(ctx, func() error {
		if _, err := os.Stat(c.server(id)); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		power, err := tryLock(c.server(id, aliveFile))
		if power == nil || err != nil {
			return err
		}
		if started() {
			return power.Close()
		}
		return c.powerOn(id, power)
	})
}

func isServer(id string) bool {
	return strings.HasPrefix(id, "l-") && filepath.Base(id) == id
}

// read returns a zero state for a server that has not started.
func (c *Cloud) read(id string) (m meta, s state, err error) {
	if err := readJSON(c.server(id, metaFile), &m); err != nil {
		return m, s, err
	}
	return m, s, readJSONIfAny(c.server(id, stateFile), &s)
}

// scan reads the servers as they are.
func (c *Cloud) scan() ([]provider.Server, error) {
	entries, err := os.ReadDir(c.path(serversDir))
	if err != nil {
		return nil, err
	}
	var servers []provider.Server
	for _, entry := range entries {
		if !isServer(entry.Name()) {
			continue
		}
		m, s, err := c.read(entry.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // destroyed since
		}
		if err != nil {
			return nil, err
		}
		servers = append(servers, provider.Server{
			ID: m.ID, Name: m.Name, PublicIP: s.PublicIP, PrivateIP: s.PrivateIP, Created: m.Created,
		})
	}
	slices.SortFunc(servers, older)
	return servers, nil
}
