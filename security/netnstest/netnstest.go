// Package netnstest is two machines for tests, each a network namespace with its
// own files of the firewalls, and a cable between them. Real programs set rules
// on the one, and connections from the other show what the rules do. It must not
// know what is tested.
package netnstest

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The addresses of both, for documentation and private use only: in the private
// network and outside of it.
const (
	Inside4, PeerInside4   = "10.77.0.1", "10.77.0.2"
	Inside6, PeerInside6   = "fd77::1", "fd77::2"
	Outside4, PeerOutside4 = "198.51.100.1", "198.51.100.2"
	Outside6, PeerOutside6 = "2001:db8::1", "2001:db8::2"
)

// Patience is how long something may take that comes about by itself; Short is
// how long an answer is waited for that shall not come.
const (
	Patience = 60 * time.Second
	Short    = 300 * time.Millisecond
)

// Machine is one of the two.
type Machine struct {
	t   testing.TB
	pid int
}

// New returns the machine that a test is about, and its peer. The test is
// skipped, with a word to standard error, where a program is missing or the
// machine allows no namespaces; with the program's name in $ADT_REQUIRE it fails
// instead.
func New(t testing.TB, programs ...string) (machine, peer *Machine) {
	t.Helper()
	if lack := lacks(t.Context(), programs); lack != "" {
		text := "LEFT OUT: real firewalls: " + lack
		required := strings.Split(os.Getenv("ADT_REQUIRE"), ",")
		if slices.ContainsFunc(programs, func(p string) bool { return slices.Contains(required, p) }) {
			t.Fatal(text)
		}
		fmt.Fprintln(os.Stderr, text)
		t.Skip(text)
	}
	machine, peer = start(t), start(t)
	machine.Sh(fmt.Sprintf(`ip link add name vpc type veth peer name vpc netns %d`, peer.pid))
	for _, m := range []struct {
		*Machine
		addresses []string
	}{
		{machine, []string{Inside4 + "/24", Inside6 + "/64", Outside4 + "/24", Outside6 + "/64"}},
		{peer, []string{PeerInside4 + "/24", PeerInside6 + "/64", PeerOutside4 + "/24", PeerOutside6 + "/64"}},
	} {
		script := "ip link set lo up; ip link set vpc up\n"
		for _, a := range m.addresses {
			nodad := ""
			if strings.Contains(a, ":") {
				nodad = " nodad" // else it cannot be used for a second or two
			}
			script += "ip addr add " + a + " dev vpc" + nodad + "\n"
		}
		m.Sh(script)
	}
	return machine, peer
}

func lacks(ctx context.Context, programs []string) string {
	if os.Geteuid() != 0 {
		return "it is not root, who alone can make network namespaces"
	}
	for _, p := range slices.Concat(programs, []string{"unshare", "nsenter", "ip"}) {
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		if _, err := exec.LookPath("/usr/sbin/" + p); err != nil {
			return p + " is not installed (apt install nftables iptables ufw fail2ban iproute2 util-linux)"
		}
	}
	if out, err := exec.CommandContext(ctx, "unshare", "--net", "--mount", "true").CombinedOutput(); err != nil {
		return "this machine allows no namespaces: " + strings.TrimSpace(string(out))
	}
	return ""
}

// start makes the namespaces. They live as long as the process in them, which
// ends with its standard input, and so with the test however that ends.
func start(t testing.TB) *Machine {
	t.Helper()
	folder := t.TempDir()
	script := `set -e; cd "$1"; mount -t tmpfs tmpfs /run
for f in ufw default fail2ban; do if [ -d /etc/$f ]; then cp -a /etc/$f "$f"; mount --bind "$f" /etc/$f; fi; done
cd /; echo ready; exec cat`
	cmd := exec.Command("unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", script, "sh", folder)
	stdin, errIn := cmd.StdinPipe()
	stdout, errOut := cmd.StdoutPipe()
	cmd.Stderr = os.Stderr
	if err := errors.Join(errIn, errOut, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("making the namespaces of a machine: %q, %v", line, err)
	}
	return &Machine{t, cmd.Process.Pid}
}

// Enter is what is put in front of a program to run it on the machine.
func (m *Machine) Enter() []string {
	return []string{"nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", m.pid), fmt.Sprintf("--mount=/proc/%d/ns/mnt", m.pid), "--"}
}

// Files is the root of the machine.
func (m *Machine) Files() fs.FS { return os.DirFS(m.Root()) }

// Root is the path of the machine's root on this one.
func (m *Machine) Root() string { return filepath.Join("/proc", fmt.Sprint(m.pid), "root") }

// Command is a program that will run on the machine.
func (m *Machine) Command(program string, args ...string) *exec.Cmd {
	line := slices.Concat(m.Enter(), []string{program}, args)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	return cmd
}

// Sh runs a shell script on the machine and returns what it printed.
func (m *Machine) Sh(script string) string {
	m.t.Helper()
	out, err := m.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s\n%v: %s", script, err, out)
	}
	return string(out)
}

// within runs f with the machine's network. The thread is not used again.
func (m *Machine) within(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: it ends with the goroutine
		done <- func() error {
			ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", m.pid))
			if err != nil {
				return err
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			return f()
		}()
	}()
	return <-done
}

// Listen accepts TCP connections to the ports on all addresses, and says hello,
// until the test ends.
func (m *Machine) Listen(ports ...int) {
	m.t.Helper()
	for _, port := range ports {
		var l net.Listener
		err := m.within(func() (err error) {
			l, err = new(net.ListenConfig).Listen(m.t.Context(), "tcp", fmt.Sprintf("[::]:%d", port))
			return err
		})
		if err != nil {
			m.t.Fatal(err)
		}
		m.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, "hello\n")
				c.Close()
			}
		}()
	}
}

// Dial connects to a machine from one of the own addresses.
func (m *Machine) Dial(from, to string, port int, patience time.Duration) (net.Conn, error) {
	var c net.Conn
	err := m.within(func() (err error) {
		d := net.Dialer{Timeout: patience, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))}
		c, err = d.DialContext(m.t.Context(), "tcp", net.JoinHostPort(to, fmt.Sprint(port)))
		return err
	})
	return c, err
}

// Reaches wants an answer from a port, or wants none.
func (m *Machine) Reaches(want bool, from, to string, port int) {
	m.t.Helper()
	patience := Patience
	if !want {
		patience = Short
	}
	c, err := m.Dial(from, to, port, patience)
	if err == nil {
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, err = io.ReadAll(c)
	}
	if errors.Is(err, syscall.ECONNREFUSED) { // it came in, and nobody listens
		m.t.Fatalf("nothing listens on %s port %d", to, port)
	}
	if (err == nil) != want {
		m.t.Fatalf("from %s to %s port %d: comes in: %v, want %v (%v)", from, to, port, err == nil, want, err)
	}
}

// Answers wants an answer to a ping, or wants none.
func (m *Machine) Answers(want bool, from, to string) {
	m.t.Helper()
	patience := Patience
	if !want {
		patience = Short
	}
	err := m.within(func() error { return ping(netip.MustParseAddr(from), netip.MustParseAddr(to), patience) })
	if (err == nil) != want {
		m.t.Fatalf("ping from %s to %s: answered: %v, want %v (%v)", from, to, err == nil, want, err)
	}
}

func ping(from, to netip.Addr, patience time.Duration) error {
	network, request, reply := "ip4:icmp", byte(8), byte(0)
	if to.Is6() {
		network, request, reply = "ip6:ipv6-icmp", 128, 129
	}
	c, err := net.DialIP(network, &net.IPAddr{IP: from.AsSlice()}, &net.IPAddr{IP: to.AsSlice()})
	if err != nil {
		return err
	}
	defer c.Close()
	packet := []byte{request, 0, 0, 0, 0x61, 0x64, 0, 1}
	if to.Is4() { // of IPv6 the kernel does it
		var sum uint32
		for i := 0; i < len(packet); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(packet[i:]))
		}
		binary.BigEndian.PutUint16(packet[2:], ^uint16(sum+sum>>16))
	}
	deadline := time.Now().Add(patience)
	if _, err := c.Write(packet); err != nil {
		return err
	}
	answer := make([]byte, 1500)
	for {
		_ = c.SetReadDeadline(deadline)
		n, _, err := c.ReadFrom(answer) // Read would leave the header of IPv4 on
		if err != nil {
			return err
		}
		if n >= 8 && answer[0] == reply && answer[4] == 0x61 && answer[5] == 0x64 {
			return nil
		}
	}
}
