package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"adt/cloudinit"
)

// machine is the process that is a server.
type machine struct {
	meta
	dir  string
	user cloudinit.Webserver // the zero value lets nobody in

	state    state
	buildDue bool
	ports    []*port
	files    files
	sessions sync.WaitGroup

	// order is what connections see of the fault; it is replaced as a whole.
	order atomic.Pointer[condition]
}

// condition is a fault while it lasts.
type condition struct {
	Fault
	seq  int             // of the order
	ctx  context.Context // ends with the fault
	over context.CancelFunc
}

// lockVariable is the number of the open file by which a client hands over the
// lock.
const (
	lockVariable = "ADT_LOCAL_LOCK"
	lockFD       = 3 // the first of exec.Cmd.ExtraFiles
	systemPath   = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// gonePoll is how often a machine looks whether its directory still exists.
const gonePoll = 2 * time.Second

// machineEnvironment keeps each of many machines small, and the secrets of the
// client out of them.
func machineEnvironment(dir string) []string {
	environment := []string{
		"PATH=" + systemPath, "GOMAXPROCS=1", "GOGC=50",
		dirVariable + "=" + dir, lockVariable + "=" + strconv.Itoa(lockFD),
	}
	for _, name := range []string{"GOCOVERDIR", "GORACE", "TZ"} {
		if value, ok := os.LookupEnv(name); ok {
			environment = append(environment, name+"="+value)
		}
	}
	return environment
}

// Serve is a server from power on to power off. It is the body of the process
// that Config.Command starts, and returns when the context ends, at SIGTERM,
// or when its directory is gone.
func Serve(ctx context.Context, dir string) error {
	if err := serve(ctx, dir); err != nil {
		return fmt.Errorf("local: the server %s: %w", filepath.Base(dir), err)
	}
	return nil
}

func serve(ctx context.Context, dir string) error {
	power, err := takeOver(dir)
	if err != nil {
		return err
	}
	defer power.Close()

	// From here on nobody's signal may end the process in its default way.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()

	m := &machine{dir: dir}
	m.order.Store(&condition{ctx: ctx, over: func() {}})
	if err := m.assemble(); err != nil {
		return err
	}
	return m.run(ctx, hangup)
}

// takeOver returns the lock that shows the machine to be alive.
func takeOver(dir string) (*os.File, error) {
	if _, err := os.Stat(filepath.Join(dir, stateFile)); err == nil {
		return nil, errors.New("it has been started before; a dead machine stays dead")
	}
	if os.Getenv(lockVariable) != strconv.Itoa(lockFD) {
		power, err := tryLock(filepath.Join(dir, aliveFile))
		if err == nil && power == nil {
			err = errors.New("it runs already")
		}
		return power, err
	}
	syscall.CloseOnExec(lockFD)
	power := os.NewFile(lockFD, aliveFile)
	handed, err := power.Stat()
	if err != nil {
		return nil, fmt.Errorf("take over the lock: %w", err)
	}
	if wanted, err := os.Stat(filepath.Join(dir, aliveFile)); err != nil || !os.SameFile(handed, wanted) {
		return nil, errors.New("the file handed over is not its lock")
	}
	return power, nil
}

// assemble gives the machine its home and its user.
func (m *machine) assemble() error {
	if err := readJSON(filepath.Join(m.dir, metaFile), &m.meta); err != nil {
		return err
	}
	userData, err := os.ReadFile(filepath.Join(m.dir, userDataFile))
	if err != nil {
		return err
	}
	if m.user, err = cloudinit.Parse(userData); err != nil {
		log.Printf("booting without user data, nobody can log in: %v", err)
	}
	m.files = files{dir: m.dir, meta: m.meta}
	if err := m.files.furnish(); err != nil {
		return err
	}
	m.state = state{Version: 1, PID: os.Getpid(), Phase: Starting}
	return nil
}

// connect gives the machine its addresses, and what will answer there.
func (m *machine) connect() error {
	if err := m.bind(); err != nil {
		return err
	}
	sshServer, err := m.sshServer()
	if err != nil {
		return err
	}
	httpServer, err := m.httpServer()
	if err != nil {
		return err
	}
	for _, p := range m.ports {
		p.serve = func(ln net.Listener) { m.serveSSH(sshServer, ln) }
		if int(p.address.Port()) == m.HTTPSPort {
			p.serve = func(ln net.Listener) { httpServer.ServeTLS(ln, "", "") }
		}
	}
	m.state.Phase = Addressed
	return nil
}

// bind finds addresses that are free. There are four million pairs, so a few
// tries do on any machine that is not listening on the wildcard address.
func (m *machine) bind() (err error) {
	for range 100 {
		half, y, z := byte(rand.N(64)), byte(rand.N(256)), byte(1+rand.N(254))
		m.state.PrivateIP = netip.AddrFrom4([4]byte{127, 64 + half, y, z})
		m.state.PublicIP = netip.AddrFrom4([4]byte{127, 128 + half, y, z})
		if m.ports, err = bindAll(
			netip.AddrPortFrom(m.state.PrivateIP, uint16(m.SSHPort)), netip.AddrPortFrom(m.state.PublicIP, uint16(m.SSHPort)),
			netip.AddrPortFrom(m.state.PrivateIP, uint16(m.HTTPSPort)), netip.AddrPortFrom(m.state.PublicIP, uint16(m.HTTPSPort)),
		); err == nil {
			return nil
		}
	}
	return fmt.Errorf("find free addresses: %w", err)
}

// run is the machine's life: one loop, so that phases and faults never race.
func (m *machine) run(ctx context.Context, hangup <-chan os.Signal) error {
	defer m.end()
	next := time.NewTimer(0) // of a phase; the first is applied at once
	defer next.Stop()
	look := time.NewTicker(gonePoll)
	defer look.Stop()
	for {
		phase := m.state.Phase
		select {
		case <-ctx.Done():
			m.powerOff()
			return nil
		case <-look.C:
			if _, err := os.Stat(m.dir); errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			continue
		case <-hangup:
		case <-next.C:
			m.proceed()
		}
		if err := m.apply(); err != nil {
			if _, gone := os.Stat(m.dir); errors.Is(gone, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		switch {
		case m.state.Phase == phase:
		case m.state.Phase == Addressed:
			next.Reset(m.Boot)
		case m.state.Phase == Booted:
			next.Reset(m.Build)
		}
	}
}

// proceed is what time brings.
func (m *machine) proceed() {
	switch m.state.Phase {
	case Addressed:
		m.state.Phase = Booted
	case Booted:
		m.buildDue = true
	}
}

// apply makes the machine what its phase and its fault say.
func (m *machine) apply() error {
	var order faultOrder
	if err := readJSON(filepath.Join(m.dir, faultFile), &order); err != nil {
		return err
	}
	now := m.order.Load()
	if now.seq != order.Seq { // who orders a fault may call more than once
		now = &condition{Fault: order.Fault, seq: order.Seq}
		now.ctx, now.over = context.WithCancel(context.Background())
		m.order.Swap(now).over()
	}

	if now.Machine == "crash" {
		m.end()
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	if m.state.Phase == Starting && now.Address != "never" {
		if err := m.connect(); err != nil {
			return err
		}
	}
	if m.buildDue && m.state.Phase == Booted && now.Build != "never" {
		if err := m.finishBuild(); err != nil {
			return err
		}
	}
	if err := m.files.apply(now.Fault); err != nil {
		return err
	}
	if err := m.setPorts(now.Fault); err != nil {
		return err
	}
	m.state.FaultSeq = order.Seq
	if err := writeJSON(filepath.Join(m.dir, stateFile), m.state); err != nil {
		return err
	}
	if now.Machine == "freeze" {
		return syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	}
	return nil
}

// finishBuild does what the webserver's build scripts do last. An initial
// webserver needs no autoscaler to configure itself.
func (m *machine) finishBuild() error {
	if err := m.files.ready(); err != nil {
		return err
	}
	if m.initial() {
		if out, err := m.command(context.Background(), "sh "+configureScript).CombinedOutput(); err != nil {
			return fmt.Errorf("configure: %w: %s", err, out)
		}
	}
	m.state.Phase = Built
	return nil
}

func (m *machine) setPorts(fault Fault) error {
	var all sync.WaitGroup
	errs := make([]error, len(m.ports))
	for i, p := range m.ports {
		mode := m.portMode(fault, int(p.address.Port()) == m.HTTPSPort)
		all.Go(func() { errs[i] = p.set(mode) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func (m *machine) portMode(fault Fault, https bool) portMode {
	service := fault.SSH
	if https {
		service = fault.HTTP
	}
	switch {
	case m.state.Phase == Addressed || fault.Network == "refuse" || service == "refuse":
		return refusing
	case fault.Network == "blackhole":
		return vanished
	}
	return listening
}

// powerOff is a shutdown in good order: the session that asked for it gets its
// exit status.
func (m *machine) powerOff() {
	for _, p := range m.ports {
		p.set(refusing)
	}
	done := make(chan struct{})
	go func() {
		m.sessions.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(500 * time.Millisecond):
	}
	m.state.Phase = Off
	if err := writeJSON(filepath.Join(m.dir, stateFile), m.state); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Print(err)
	}
}

// end takes along what was started on the machine.
func (m *machine) end() {
	if err := killSessions(map[int]string{os.Getpid(): m.dir}); err != nil {
		log.Print(err)
	}
}

// command is a shell command as the server's user would run it. It is the
// leader of its process group.
func (m *machine) command(ctx context.Context, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/bin/sh")
	if line != "" {
		cmd.Args = append(cmd.Args, "-c", line)
	}
	cmd.Dir = filepath.Join(m.dir, homeDir)
	cmd.Env = []string{
		"HOME=" + cmd.Dir, "USER=" + m.user.User, "LOGNAME=" + m.user.User, "SHELL=/bin/sh",
		"PATH=" + filepath.Join(m.dir, "bin") + ":" + systemPath, "LANG=C.UTF-8",
		"ADT_LOCAL_PID=" + strconv.Itoa(os.Getpid()), dirVariable + "=" + m.dir,
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}
