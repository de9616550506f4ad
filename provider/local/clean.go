package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"adt/provider"
)

// Machine is a server as it really is.
type Machine struct {
	provider.Server
	Alive bool // its process runs, or is being started
	Phase Phase
	PID   int // 0 before it started
	Fault Fault
}

// Inspect returns the machines, the oldest first. It is subject to no fault.
func (c *Cloud) Inspect(ctx context.Context) (machines []Machine, err error) {
	err = c.locked(ctx, func() error {
		servers, err := c.scan()
		if err != nil {
			return err
		}
		for _, server := range servers {
			machine, err := c.inspect(server)
			if err != nil {
				return err
			}
			machines = append(machines, machine)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("local: inspect: %w", err)
	}
	return machines, nil
}

func (c *Cloud) inspect(server provider.Server) (Machine, error) {
	_, s, err := c.read(server.ID)
	if err != nil {
		return Machine{}, err
	}
	var order faultOrder
	if err := readJSONIfAny(c.server(server.ID, faultFile), &order); err != nil {
		return Machine{}, err
	}
	power, err := tryLock(c.server(server.ID, aliveFile))
	if err != nil {
		return Machine{}, err
	}
	machine := Machine{Server: server, Alive: power == nil, Phase: s.Phase, PID: s.PID, Fault: order.Fault}
	if s.Phase == "" {
		machine.Phase = Starting
	}
	if power != nil {
		return machine, power.Close()
	}
	return machine, nil
}

// Clean ends all processes of the cloud and removes its directory, also when
// either is half made. A directory that is no cloud is an error and stays.
func (c *Cloud) Clean(ctx context.Context) error {
	if err := c.clean(ctx); err != nil {
		return fmt.Errorf("local: clean the cloud %s: %w", c.config.Dir, err)
	}
	return nil
}

func (c *Cloud) clean(ctx context.Context) error {
	if _, err := os.Stat(c.config.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := checkIsCloud(c.config.Dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	return c.locked(ctx, func() error {
		entries, err := os.ReadDir(c.path(serversDir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// All are killed before any is waited for.
		for _, entry := range entries {
			c.kill(entry.Name())
		}
		sessions := map[int]string{}
		for _, entry := range entries {
			pid, err := c.awaitEnd(ctx, entry.Name())
			if err != nil {
				return fmt.Errorf("end the server %s: %w", entry.Name(), err)
			}
			sessions[pid] = c.server(strings.TrimPrefix(entry.Name(), gonePrefix))
		}
		if err := killSessions(sessions); err != nil {
			return err
		}
		left, err := os.ReadDir(c.config.Dir)
		if err != nil {
			return err
		}
		// The lock goes last: until then a Clean that was cut short can be
		// repeated.
		for _, entry := range left {
			if entry.Name() != lockFile {
				if err := os.RemoveAll(c.path(entry.Name())); err != nil {
					return err
				}
			}
		}
		if err := os.Remove(c.path(lockFile)); err != nil {
			return err
		}
		return os.Remove(c.config.Dir)
	})
}

// kill is powerOff without the wait, and without the errors, which awaitEnd
// will meet again.
func (c *Cloud) kill(id string) {
	power, err := tryLock(c.server(id, aliveFile))
	if err != nil {
		return
	}
	if power != nil {
		power.Close()
		return
	}
	if _, s, err := c.read(id); err == nil && s.PID != 0 {
		syscall.Kill(s.PID, syscall.SIGKILL)
	}
}

// awaitEnd returns the pid of a server whose process has ended, 0 if it never
// had one.
func (c *Cloud) awaitEnd(ctx context.Context, id string) (pid int, err error) {
	err = every(ctx, 5*time.Millisecond, func() (bool, error) {
		// A broken state file must not keep a cloud from being removed.
		_, s, _ := c.read(id)
		pid = s.PID
		power, err := c.powerOff(ctx, id, s)
		if power != nil {
			return true, power.Close()
		}
		return errors.Is(err, fs.ErrNotExist), ignoreMissing(err)
	})
	return pid, err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// dirVariable is how a process is known to be of a server's session.
const dirVariable = "ADT_LOCAL_DIR"

// killSessions ends all that was started on machines, but not the caller. The
// machines' directories are given by the pids that their processes had. Such a
// number may have come to another session since the machine's process died, so
// the environment is asked too.
func killSessions(dirs map[int]string) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		dir, ok := dirs[sessionOf(pid)]
		if !ok || !startedOn(pid, dir) {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill the process %d of the server %s: %w", pid, filepath.Base(dir), err)
		}
	}
	return nil
}

// sessionOf returns 0, which is nobody's, for a process that has ended.
func sessionOf(pid int) int {
	session, err := unix.Getsid(pid)
	if err != nil {
		return 0
	}
	return session
}

func startedOn(pid int, dir string) bool {
	environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && slices.Contains(strings.Split(string(environment), "\x00"), dirVariable+"="+dir)
}
