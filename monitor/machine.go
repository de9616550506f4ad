package monitor

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is where the figures are read. It is /proc and two system calls rather than
// a library: some 100 lines, which tests give other files, and nothing for each tick to
// load.
type Machine struct {
	Root  fs.FS                             // of the file system, for proc and sys
	Usage func(path string) (Usage, error)  // of the disk that a path is on
	Sync  func() (unsynced bool, err error) // of the clock
	Paths []string                          // whose disks are looked at
}

// Usage is a disk.
type Usage struct {
	Device uint64  // the same for all paths on it
	Used   float64 // percent, as df reckons
	Inodes float64 // percent used; 0 for file systems without a fixed number
}

// Counters are what the kernel counts since the boot.
type Counters struct {
	CPU     uint64 `json:"cpu"`  // ticks, of all cores
	Idle    uint64 `json:"idle"` // of those
	Packets uint64 `json:"packets"`
	Errors  uint64 `json:"errors"`
}

// Read takes a sample, except its time, and the counters for the next one. before are
// those of the sample before, the zero value if there is none. What cannot be
// read is missing in the sample and told in the error.
func (m Machine) Read(before Counters) (Sample, Counters, error) {
	var s Sample
	var now Counters
	cores, cpuErr := m.cpu(&now)
	loadErr := m.load(&s, cores)
	memErr := m.memory(&s)
	diskErr := m.disks(&s)
	netErr := m.network(&s, &now)
	unsynced, syncErr := m.Sync()
	s.Unsynced = unsynced
	if before.CPU > 0 && now.CPU > before.CPU && now.Idle >= before.Idle { // else it has booted since
		busy := 100 - 100*float64(now.Idle-before.Idle)/float64(now.CPU-before.CPU)
		busy = max(0, busy) // idle time of a core that stands still may run ahead
		s.Busy = &busy
	}
	const enough = 100 // packets: of fewer, one error is no share
	if before.CPU > 0 && now.Packets >= before.Packets+enough && now.Errors >= before.Errors {
		lost := 100 * float64(now.Errors-before.Errors) / float64(now.Packets-before.Packets)
		s.Errors = &lost
	}
	return s, now, errors.Join(cpuErr, loadErr, memErr, diskErr, netErr, syncErr)
}

// lines are those of a file, each in its fields.
func (m Machine) lines(name string) ([][]string, error) {
	data, err := fs.ReadFile(m.Root, name)
	if err != nil {
		return nil, fmt.Errorf("reading /%s: %w", name, err)
	}
	var all [][]string
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 0 {
			all = append(all, fields)
		}
	}
	return all, nil
}

func number(fields []string, i int) uint64 {
	if i >= len(fields) {
		return 0
	}
	n, err := strconv.ParseUint(fields[i], 10, 64)
	if err != nil {
		return 0 // no figure of the kernel's
	}
	return n
}

// cpu reads /proc/stat: user nice system idle iowait irq softirq steal; guests are
// counted in user already.
func (m Machine) cpu(now *Counters) (cores int, err error) {
	lines, err := m.lines("proc/stat")
	if err != nil {
		return 0, err
	}
	for _, fields := range lines {
		switch {
		case fields[0] == "cpu":
			for i := 1; i <= 8; i++ {
				now.CPU += number(fields, i)
			}
			now.Idle = number(fields, 4) + number(fields, 5)
		case strings.HasPrefix(fields[0], "cpu"):
			cores++
		}
	}
	if now.CPU == 0 {
		return cores, errors.New("reading /proc/stat: it has no line cpu")
	}
	return cores, nil
}

func (m Machine) load(s *Sample, cores int) error {
	lines, err := m.lines("proc/loadavg")
	if err != nil {
		return err
	}
	if len(lines) == 0 {
		return errors.New("reading /proc/loadavg: it is empty")
	}
	load, err := strconv.ParseFloat(lines[0][0], 64)
	if err != nil {
		return fmt.Errorf("reading /proc/loadavg: %w", err)
	}
	s.Load = load / float64(max(1, cores))
	return nil
}

func (m Machine) memory(s *Sample) error {
	lines, err := m.lines("proc/meminfo")
	if err != nil {
		return err
	}
	kib := map[string]uint64{}
	for _, fields := range lines {
		kib[strings.TrimSuffix(fields[0], ":")] = number(fields, 1)
	}
	available, total := kib["MemAvailable"], kib["MemTotal"]
	if total == 0 {
		return errors.New("reading /proc/meminfo: it has no line MemTotal")
	}
	share := 100 * float64(available) / float64(total)
	s.Available = &share
	return nil
}

func (m Machine) disks(s *Sample) error {
	s.Disks, s.Inodes = map[string]float64{}, map[string]float64{}
	seen := map[uint64]bool{}
	var errs []error
	for _, p := range m.Paths {
		u, err := m.Usage(p)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !seen[u.Device] {
			s.Disks[p], s.Inodes[p] = u.Used, u.Inodes
		}
		seen[u.Device] = true
	}
	return errors.Join(errs...)
}

// network counts packets and errors of all interfaces but the loopback, and looks for
// a way out: a default route through an interface that is not down.
func (m Machine) network(s *Sample, now *Counters) error {
	lines, err := m.lines("proc/net/dev")
	if err != nil {
		return err
	}
	for _, fields := range lines {
		name, rest, ok := strings.Cut(strings.Join(fields, " "), ":")
		if !ok || name == "lo" {
			continue
		}
		// bytes packets errs drop fifo frame compressed multicast, and the same sent
		counts := strings.Fields(rest)
		now.Packets += number(counts, 1) + number(counts, 9)
		now.Errors += number(counts, 2) + number(counts, 10)
	}
	routes, err := m.lines("proc/net/route")
	if err != nil {
		return err
	}
	for _, fields := range routes {
		if len(fields) > 7 && fields[1] == "00000000" && fields[7] == "00000000" && m.up(fields[0]) {
			return nil
		}
	}
	routes, err = m.lines("proc/net/ipv6_route")
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without IPv6
		return err
	}
	for _, fields := range routes {
		if len(fields) > 9 && strings.Trim(fields[0], "0") == "" && fields[1] == "00" && fields[9] != "lo" && m.up(fields[9]) {
			return nil
		}
	}
	s.Offline = true
	return nil
}

func (m Machine) up(name string) bool {
	state, err := fs.ReadFile(m.Root, path.Join("sys/class/net", name, "operstate"))
	return err != nil || strings.TrimSpace(string(state)) != "down"
}

// DiskUsage asks the kernel.
func DiskUsage(path string) (Usage, error) {
	var st unix.Stat_t
	var f unix.Statfs_t
	if err := errors.Join(unix.Stat(path, &st), unix.Statfs(path, &f)); err != nil {
		return Usage{}, fmt.Errorf("looking at the disk of %s: %w", path, err)
	}
	u := Usage{Device: st.Dev}
	used := f.Blocks - f.Bfree
	if there := used + f.Bavail; there > 0 {
		u.Used = 100 * float64(used) / float64(there)
	}
	if f.Files > 0 {
		u.Inodes = 100 * float64(f.Files-f.Ffree) / float64(f.Files)
	}
	return u, nil
}

// ClockUnsynced asks the kernel whether anybody sets its clock: it says no when the
// last word of an NTP client is too old.
func ClockUnsynced() (bool, error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return false, fmt.Errorf("asking for the state of the clock: %w", err)
	}
	return state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0, nil
}
