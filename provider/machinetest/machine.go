package machinetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"adt/cloudinit"
	"adt/provider"
)

// Machine is one sshd and one nginx.
type Machine struct {
	ID, Name string
	Address  netip.Addr
	Home     string // of whoever logs in

	t      testing.TB
	dir    string
	boot   cloudinit.Webserver
	server provider.Server

	mu    sync.Mutex
	sshd  *process
	nginx *process
	other net.Listener // in sshd's place

	upstream string // that nginx is a reverse proxy to; "" is none
}

// The files that a webserver of the original has.
const (
	readyMarker     = "runtime/WEBSERVER_READY"
	languageMarker  = "runtime/installedsoftware/InstallApplicationLanguage.sh"
	configuredMark  = "runtime/INITIAL_CONFIG_SET"
	onlineMarker    = "runtime/AUTOSCALED_WEBSERVER_ONLINE"
	configureScript = "application/configuration/InitialiseConfigurationByApplication.sh"
	restartScript   = "providerscripts/webserver/RestartWebserver.sh"
	shutdownScript  = "utilities/housekeeping/ShutdownThisWebserver.sh"
)

func (m *Machine) start(o Options) error {
	if err := m.furnish(o); err != nil {
		return err
	}
	var err error
	if m.Address, err = freeAddress(); err != nil {
		return err
	}
	if err := errors.Join(m.SSH(Right), m.HTTPS(200)); err != nil {
		return err
	}
	return errors.Join(m.write(languageMarker, "", 0o600), m.write(readyMarker, "", 0o600))
}

// freeAddress is one on which nobody has the ports.
func freeAddress() (netip.Addr, error) {
	var err error
	for range 20 {
		a := netip.AddrFrom4([4]byte{127, byte(192 + rand.IntN(60)), byte(rand.IntN(256)), byte(1 + rand.IntN(254))})
		var taken net.Listener
		free := true
		for _, port := range []uint16{SSHPort, HTTPSPort} {
			if taken, err = net.Listen("tcp", netip.AddrPortFrom(a, port).String()); err != nil {
				free = false
				continue
			}
			taken.Close()
		}
		if free {
			return a, nil
		}
	}
	return netip.Addr{}, err
}

// write makes a file below the home directory.
func (m *Machine) write(name, text string, mode os.FileMode) error {
	path := filepath.Join(m.Home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), mode)
}

// furnish writes what comes with the image, a sudo that changes nobody among it:
// the user of the test is the only one.
func (m *Machine) furnish(o Options) error {
	made := []string{configuredMark, onlineMarker}
	if o.ApplicationConfig != "" {
		made = append(made, o.ApplicationConfig)
	}
	configure := "set -e\n[ \"$AS_ROOT\" = yes ] || exit 77\n"
	for _, name := range made {
		configure += fmt.Sprintf("mkdir -p \"$(dirname '%[1]s')\"\n: >'%[1]s'\n", name)
	}
	pid := func(name string) string { return "\"$(cat '" + filepath.Join(m.dir, name+".pid") + "')\"\n" }
	for name, text := range map[string]string{
		configureScript:    configure,
		restartScript:      "[ \"$AS_ROOT\" = yes ] || exit 77\nkill -HUP " + pid("nginx"),
		shutdownScript:     "[ \"$AS_ROOT\" = yes ] || exit 77\nkill -TERM " + pid("nginx") + "kill -TERM " + pid("sshd"),
		"../sudo/password": o.SudoPassword,
		"bin/sudo": fmt.Sprintf(`asked=
while [ $# -gt 0 ]; do
	case $1 in
	-S) asked=yes ;;
	-p) shift ;;
	-*) ;;
	*) break ;;
	esac
	shift
done
if [ -s '%[1]s' ]; then
	[ "$asked" = yes ] || { echo 'sudo: a terminal is required to read the password' >&2; exit 1; }
	IFS= read -r password || :
	[ "$password" = "$(cat '%[1]s')" ] || { echo 'sudo: 1 incorrect password attempt' >&2; exit 1; }
fi
AS_ROOT=yes exec "$@"
`, filepath.Join(m.dir, "sudo", "password")),
		// What sshd gives every command to.
		"../login": fmt.Sprintf("cd '%[1]s' || exit 1\nexport HOME='%[1]s' PATH='%[1]s/bin':\"$PATH\"\n"+
			"[ -n \"$SSH_ORIGINAL_COMMAND\" ] || exec /bin/sh\nexec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"\n", m.Home),
	} {
		if name != "../sudo/password" {
			text = "#!/bin/sh\n" + text
		}
		if err := m.write(name, text, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// stop ends the machine's processes and waits for them.
func (m *Machine) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopSSH()
	m.nginx.end()
	m.nginx = nil
}

// process is one that was started here.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// launch starts a daemon in the foreground; what it says goes to a file.
func (m *Machine) launch(name string, args ...string) (*process, error) {
	log, err := os.OpenFile(filepath.Join(m.dir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &process{cmd: exec.Command(path(name), args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	return p, os.WriteFile(filepath.Join(m.dir, name+".pid"), fmt.Append(nil, p.cmd.Process.Pid), 0o600)
}

func (p *process) end() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// patience bounds what a daemon takes to do what it was told.
const patience = 20 * time.Second

// await repeats a look until it succeeds.
func (m *Machine) await(what string, p *process, look func() error) error {
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if err = look(); err == nil {
			return nil
		}
		select {
		case <-p.ended:
			said, _ := os.ReadFile(filepath.Join(m.dir, filepath.Base(p.cmd.Path)+".log"))
			return fmt.Errorf("%s: it ended: %s", what, strings.TrimSpace(string(said)))
		case <-time.After(5 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Connections is how many connections sshd has accepted so far.
func (m *Machine) Connections() int {
	m.t.Helper()
	said, err := os.ReadFile(filepath.Join(m.dir, "sshd.log"))
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.Count(string(said), "Accepted publickey")
}
