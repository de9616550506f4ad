package commands_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"adt/events"
	"adt/security/firewall"
	"adt/security/netnstest"
)

// walled is an installation of adt on a machine of netnstest.
type walled struct {
	t             *testing.T
	home, adt     string
	machine, peer *netnstest.Machine
}

// guarded is what an operator writes: the private network, and a port.
const guarded = `
[firewall]
vpc = ["10.77.0.0/24", "fd77::/64"]
ports = ["8080|ipv4|198.51.100.2/32"]
`

func newWalled(t *testing.T, settings string, programs ...string) *walled {
	t.Helper()
	if len(programs) == 0 {
		programs = []string{"nft", "iptables", "ufw"}
	}
	machine, peer := netnstest.New(t, programs...)
	home := t.TempDir()
	w := &walled{t, home, filepath.Join(home, "bin", "adt"), machine, peer}
	// This program is adt where it is called so; the path tells its processes apart.
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w.write("bin/adt", "")
	if out, err := exec.CommandContext(t.Context(), "cp", "--remove-destination", program, w.adt).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.configure(settings)
	w.write("key", "not asked for here")
	t.Cleanup(w.end)
	machine.Listen(22, 443, 8080, 9000)
	return w
}

func (w *walled) configure(settings string) {
	w.t.Helper()
	w.write("adt.toml", strings.Replace(fast, "[local]", "[local]\nssh_port = 2222", 1)+settings)
}

func (w *walled) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.home, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		w.t.Fatal(err)
	}
}

// waiting are the processes that would take a change of this installation back.
func (w *walled) waiting() []int {
	var pids []int
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		line, _ := os.ReadFile(file)
		var pid int
		if program, _, _ := bytes.Cut(line, []byte{0}); string(program) == w.adt && bytes.Contains(line, []byte("rollback")) {
			if err := json.Unmarshal([]byte(filepath.Base(filepath.Dir(file))), &pid); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func (w *walled) end() {
	for _, pid := range w.waiting() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

func (w *walled) command(args ...string) *exec.Cmd {
	cmd := w.machine.Command(w.adt, args...)
	cmd.Env = append(slices.DeleteFunc(cmd.Env, func(e string) bool { return strings.HasPrefix(e, "SSH_CONNECTION=") }), "HOME="+w.home, "TZ=UTC")
	return cmd
}

// run is adt on the machine, with its exit code, and what it printed.
func (w *walled) run(code int, args ...string) (stdout, stderr string) {
	w.t.Helper()
	return w.do(code, w.command(args...))
}

func (w *walled) do(code int, cmd *exec.Cmd) (stdout, stderr string) {
	w.t.Helper()
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code {
		w.t.Fatalf("%v: exit code %d, want %d\n%s%s", cmd.Args, got, code, &out, &errs)
	}
	return out.String(), errs.String()
}

// oneLine wants one line on stderr that holds the words.
func (w *walled) oneLine(stderr string, words ...string) {
	w.t.Helper()
	if strings.Count(stderr, "\n") != 1 {
		w.t.Errorf("stderr is not one line: %q", stderr)
	}
	for _, word := range words {
		if !strings.Contains(stderr, word) {
			w.t.Errorf("stderr lacks %q: %s", word, stderr)
		}
	}
}

func (w *walled) recorded(reason events.Reason) int {
	w.t.Helper()
	log, err := events.Open(filepath.Join(w.home, "logs", "events"))
	if err != nil {
		w.t.Fatal(err)
	}
	all, err := log.Read(events.Filter{Reasons: []events.Reason{reason}})
	if err != nil {
		w.t.Fatal(err)
	}
	return len(all)
}

func (w *walled) marked(want bool, names ...string) {
	w.t.Helper()
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(w.home, "runtime", name)); (err == nil) != want {
			w.t.Errorf("runtime/%s: %v, want it there: %v", name, err, want)
		}
	}
}

// holds tries real connections: with the firewall, or without.
func (w *walled) holds(guarded bool) {
	w.t.Helper()
	w.peer.Reaches(true, netnstest.PeerInside4, netnstest.Inside4, 22)
	w.peer.Reaches(true, netnstest.PeerInside6, netnstest.Inside6, 443)
	w.peer.Reaches(true, netnstest.PeerOutside4, netnstest.Outside4, 8080)
	w.peer.Reaches(!guarded, netnstest.PeerOutside4, netnstest.Outside4, 22)
	w.peer.Reaches(!guarded, netnstest.PeerOutside6, netnstest.Outside6, 443)
	w.peer.Reaches(!guarded, netnstest.PeerInside4, netnstest.Inside4, 9000)
}

// until waits for what comes about by itself.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(netnstest.Patience); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// The life of a firewall, with each tool.
func TestFirewall(t *testing.T) {
	for tool, program := range map[string]string{"nftables": "nft", "iptables": "iptables", "ufw": "ufw"} {
		t.Run(tool, func(t *testing.T) {
			t.Parallel()
			w := newWalled(t, guarded+"tool = \""+tool+"\"\nconfirm = \"1h\"\n", program)
			_, stderr := w.run(1, "firewall", "status")
			if stderr != "" {
				t.Errorf("status: %s", stderr)
			}
			out, _ := w.run(0, "firewall", "setup", "--dry-run")
			if !strings.Contains(out, tool+", to be changed:\n  ! ") || !strings.Contains(out, "\n  + ") {
				t.Errorf("the difference: %s", out)
			}
			_, stderr = w.run(2, "firewall", "setup")
			w.oneLine(stderr, "no terminal to ask on", "adt firewall setup --yes")
			w.holds(false)
			w.marked(false, "FIREWALL-ACTIVE", "KNICKERS_ARE_UP", "firewall-pending.json")

			out, _ = w.run(0, "firewall", "setup", "--yes")
			if !strings.Contains(out, "taken back in 1h unless you say, from a new login: adt firewall confirm") {
				t.Errorf("setup: %s", out)
			}
			w.holds(true)
			w.marked(true, "FIREWALL-INITIALISED", "KNICKERS_ARE_UP", "firewall-pending.json")
			_, stderr = w.run(2, "firewall", "setup", "--yes")
			w.oneLine(stderr, "not confirmed yet", "adt firewall confirm", "adt firewall rollback")
			if n := len(w.waiting()); n != 1 {
				t.Errorf("%d processes would take it back, want 1", n)
			}
			w.run(0, "firewall", "confirm")
			w.marked(true, "FIREWALL-ACTIVE")
			until(t, "the process that would take it back goes on after the confirmation", func() bool { return len(w.waiting()) == 0 })
			_, stderr = w.run(2, "firewall", "confirm")
			w.oneLine(stderr, "nothing waits for a confirmation")

			out, _ = w.run(0, "firewall", "status")
			if !strings.HasPrefix(out, tool+": active\n") || strings.Contains(out, "LACKS") || !strings.Contains(out, "ok     port  tcp 8080 from 198.51.100.2\n") {
				t.Errorf("status: %s", out)
			}
			var report struct {
				Tool       string
				Active     bool
				Rules      []struct{ Holds bool }
				Difference firewall.Difference
			}
			out, _ = w.run(0, "firewall", "status", "--json")
			if err := json.Unmarshal([]byte(out), &report); err != nil || report.Tool != tool || !report.Active || len(report.Rules) < 5 || !report.Difference.None() {
				t.Errorf("%v: %s", err, out)
			}
			for _, args := range [][]string{{"check"}, {"setup", "--boot"}} {
				if out, stderr = w.run(0, append([]string{"firewall"}, args...)...); out+stderr != "" {
					t.Errorf("%v: not silent: %s%s", args, out, stderr)
				}
			}
			if out, _ = w.run(0, "firewall", "setup", "--yes"); out != tool+" is as wanted\n" {
				t.Errorf("setup again: %s", out)
			}

			// Another configuration: the difference is told, and no more.
			w.configure(strings.Replace(guarded, "8080|ipv4|198.51.100.2/32", "9000/tcp from any", 1) + "tool = \"auto\"\nconfirm = \"1h\"\n")
			out, _ = w.run(0, "firewall", "status")
			if !strings.Contains(out, "not as wanted:\n  + ") || !strings.Contains(out, "\n  - ") || !strings.Contains(out, "LACKS") {
				t.Errorf("status: %s", out)
			}
			w.run(0, "firewall", "check")
			if w.recorded(events.FirewallDiffers) != 1 {
				t.Error("no event says that it differs")
			}
			w.holds(true)

			// Off, and on again at the boot.
			w.configure(guarded + "tool = \"" + tool + "\"\nconfirm = \"1h\"\n")
			w.machine.Sh(map[string]string{"nftables": "nft flush ruleset", "iptables": "iptables -F; ip6tables -F; iptables -X; ip6tables -X", "ufw": "ufw disable"}[tool])
			_, stderr = w.run(1, "firewall", "check")
			w.oneLine(stderr, "FIREWALL_INACTIVE", "everything is let in")
			w.marked(false, "FIREWALL-ACTIVE", "KNICKERS_ARE_UP")
			if _, stderr = w.run(1, "firewall", "check"); stderr != "" {
				t.Errorf("mailed every minute: %s", stderr)
			}
			if n := w.recorded(events.FirewallInactive); n != 2 {
				t.Errorf("%d events, want 2", n)
			}
			w.holds(false)
			w.run(0, "firewall", "setup", "--boot")
			w.holds(true)
			w.marked(true, "FIREWALL-ACTIVE")

			out, _ = w.run(0, "firewall", "reset", "--dry-run")
			if !strings.Contains(out, "\n  - ") {
				t.Errorf("reset --dry-run: %s", out)
			}
			w.holds(true)
			w.run(0, "firewall", "reset", "--yes")
			w.holds(false)
			w.marked(false, "FIREWALL-ACTIVE", "KNICKERS_ARE_UP", "FIREWALL-INITIALISED", "firewall-pending.json", "firewall.json")
			if out, _ = w.run(0, "firewall", "reset", "--yes"); out != tool+" has nothing of adt\n" {
				t.Errorf("reset again: %s", out)
			}
			if out, stderr = w.run(0, "firewall", "setup", "--boot"); out+stderr != "" {
				t.Errorf("boot after reset: %s%s", out, stderr)
			}
			w.holds(false)
		})
	}
}

// Nobody confirms: what was before is back, although the session that made the
// change, and all that it started, is long gone.
func TestFirewallRollsBack(t *testing.T) {
	for tool, program := range map[string]string{"nftables": "nft", "iptables": "iptables", "ufw": "ufw"} {
		t.Run(tool, func(t *testing.T) {
			t.Parallel()
			w := newWalled(t, guarded+"tool = \""+tool+"\"\nconfirm = \"3s\"\n", program)
			// A shell as sshd starts it, that leads its session, with adt below it.
			cmd := w.command("firewall", "setup", "--yes")
			shell := w.machine.Command("sh", "-c", `"$@" && echo changed; sleep 600`, "sh", w.adt, "firewall", "setup", "--yes")
			shell.Env, shell.SysProcAttr = cmd.Env, &syscall.SysProcAttr{Setsid: true}
			var errs bytes.Buffer
			shell.Stderr = &errs
			out, err := shell.StdoutPipe()
			if err := errors.Join(err, shell.Start()); err != nil {
				t.Fatal(err)
			}
			var said []byte
			for buf := make([]byte, 4096); !bytes.Contains(said, []byte("\nchanged")); {
				n, err := out.Read(buf)
				said = append(said, buf[:n]...)
				if err != nil {
					t.Fatalf("%v: %s%s", err, said, &errs)
				}
			}
			// The connection is cut: sshd hangs up on the session, and it is killed.
			_ = syscall.Kill(-shell.Process.Pid, syscall.SIGHUP)
			_ = syscall.Kill(-shell.Process.Pid, syscall.SIGKILL)
			_ = shell.Wait()
			until(t, "the change is not taken back", func() bool { return w.recorded(events.FirewallRolledBack) == 1 })
			w.holds(false)
			w.marked(false, "firewall-pending.json", "FIREWALL-ACTIVE", "KNICKERS_ARE_UP")
			until(t, "the process goes on", func() bool { return len(w.waiting()) == 0 })
			_, stderr := w.run(2, "firewall", "confirm")
			w.oneLine(stderr, "taken back")
			_, stderr = w.run(2, "firewall", "rollback")
			w.oneLine(stderr, "nothing to take back")
		})
	}
}

// The process that would take the change back is killed, and the machine boots:
// adt firewall check does it.
func TestFirewallRollBackIsFoundLater(t *testing.T) {
	w := newWalled(t, guarded+"tool = \"ufw\"\nconfirm = \"1h\"\n", "ufw")
	w.run(0, "firewall", "setup", "--yes")
	w.end()
	w.run(0, "firewall", "check")
	w.holds(true) // there is still time
	path := filepath.Join(w.home, "runtime", "firewall-pending.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var record map[string]any
	if err := json.Unmarshal(text, &record); err != nil {
		t.Fatal(err)
	}
	record["boot_id"] = "another boot"
	if text, err = json.Marshal(record); err != nil {
		t.Fatal(err)
	}
	w.write("runtime/firewall-pending.json", string(text))
	w.run(1, "firewall", "check")
	w.holds(false)
	if w.recorded(events.FirewallRolledBack) != 1 {
		t.Error("no event")
	}

	// By hand, at once.
	w.run(0, "firewall", "setup", "--yes")
	w.holds(true)
	w.run(0, "firewall", "rollback")
	w.holds(false)

	// The process is told to end, as by logind or at the end of the machine.
	until(t, "the process goes on", func() bool { return len(w.waiting()) == 0 })
	w.run(0, "firewall", "setup", "--yes")
	for _, pid := range w.waiting() {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	until(t, "told to end, it takes nothing back", func() bool { return w.recorded(events.FirewallRolledBack) == 3 })
	w.holds(false)
}

// The connection that adt is called on is never cut.
func TestFirewallKeepsTheSession(t *testing.T) {
	w := newWalled(t, guarded+"confirm = \"1h\"\n")
	from := func(connection string, args ...string) *exec.Cmd {
		cmd := w.command(append([]string{"firewall"}, args...)...)
		cmd.Env = append(cmd.Env, "SSH_CONNECTION="+connection)
		return cmd
	}
	_, stderr := w.do(2, from("198.51.100.2 50000 198.51.100.1 22", "setup", "--yes"))
	w.oneLine(stderr, "this session comes from 198.51.100.2", `ssh = ["198.51.100.2"]`, "adt.toml")
	_, stderr = w.do(2, from("10.77.0.2 50000 10.77.0.1 2200", "setup", "--dry-run"))
	w.oneLine(stderr, "firewall.ssh_port = 2200")
	_, stderr = w.do(1, from("10.77.0.2", "setup", "--dry-run"))
	w.oneLine(stderr, "SSH_CONNECTION")
	// As below sudo, which does not pass it on.
	below := w.machine.Command("sh", "-c", `"$@"; exit $?`, "sh", "env", "-u", "SSH_CONNECTION", "sh", "-c", `"$@"; exit $?`, "sh", w.adt, "firewall", "setup", "--yes")
	below.Env = from("2001:db8::2 50000 2001:db8::1 22").Env
	_, stderr = w.do(2, below)
	w.oneLine(stderr, "this session comes from 2001:db8::2")
	w.holds(false)
	w.marked(false, "firewall-pending.json")

	w.do(0, from("10.77.0.2 50000 10.77.0.1 22", "setup", "--yes"))
	w.holds(true)
}

// On a terminal it asks, and a no, or none, leaves everything as it is.
func TestFirewallAsks(t *testing.T) {
	w := newWalled(t, guarded+"confirm = \"1h\"\n")
	if _, err := exec.LookPath("script"); err != nil {
		t.Skip("LEFT OUT: a terminal (apt install bsdutils)")
	}
	answer := func(answers string) string {
		t.Helper()
		cmd := w.machine.Command("script", "-qec", w.adt+" firewall setup", "/dev/null")
		cmd.Env, cmd.Stdin = w.command().Env, strings.NewReader(answers)
		out, _ := w.do(0, cmd)
		return out
	}
	if out := answer("no\n"); !strings.Contains(out, "nothing was changed") {
		t.Errorf("%s", out)
	}
	w.holds(false)
	if out := answer("yes\nno\n"); !strings.Contains(out, "what was before is back") {
		t.Errorf("%s", out)
	}
	w.holds(false)
	if out := answer("yes\nyes\n"); !strings.Contains(out, "confirmed: it stays as it is") {
		t.Errorf("%s", out)
	}
	w.holds(true)
}

// A ufw that the operator had is his again after a reset, and what is not
// confirmed of that comes back too.
func TestFirewallOnTopOfTheOperators(t *testing.T) {
	w := newWalled(t, guarded+"confirm = \"1h\"\n", "ufw")
	w.machine.Sh("ufw allow 22/tcp; ufw allow from 10.77.0.0/24 to any port 443 proto tcp; ufw --force enable")
	if out, _ := w.run(0, "firewall", "reset", "--yes"); out != "ufw has nothing of adt\n" {
		t.Errorf("%s", out)
	}
	w.run(0, "firewall", "setup", "--yes")
	w.run(0, "firewall", "confirm")
	w.peer.Reaches(true, netnstest.PeerOutside4, netnstest.Outside4, 8080)
	w.peer.Reaches(true, netnstest.PeerOutside4, netnstest.Outside4, 22)
	w.run(0, "firewall", "reset", "--yes")
	w.peer.Reaches(false, netnstest.PeerOutside4, netnstest.Outside4, 8080)
	w.run(0, "firewall", "rollback") // it is still a firewall, and so wants to be confirmed
	w.peer.Reaches(true, netnstest.PeerOutside4, netnstest.Outside4, 8080)
	w.run(0, "firewall", "reset", "--yes")
	w.run(0, "firewall", "confirm")
	w.peer.Reaches(true, netnstest.PeerOutside4, netnstest.Outside4, 22)
	w.peer.Reaches(true, netnstest.PeerInside4, netnstest.Inside4, 443)
	w.peer.Reaches(false, netnstest.PeerOutside4, netnstest.Outside4, 443)
	w.marked(false, "firewall.json", "firewall-pending.json")
}

// No tool, two of them, and what nobody can have meant: a line, an event, and
// nothing is changed.
func TestFirewallFaults(t *testing.T) {
	t.Run("two", func(t *testing.T) {
		t.Parallel()
		w := newWalled(t, guarded)
		w.machine.Sh("ufw allow 22/tcp; ufw --force enable; nft -f - <<'E'\ntable inet adt {\nchain input {\ntype filter hook input priority 0; policy drop;\n}\n}\nE")
		_, stderr := w.run(1, "firewall", "check")
		w.oneLine(stderr, "FIREWALL_FAILED", "two firewalls are at work")
		for _, args := range [][]string{{"setup", "--yes"}, {"setup", "--dry-run"}, {"status"}, {"reset", "--yes"}} {
			_, stderr = w.run(1, append([]string{"firewall"}, args...)...)
			w.oneLine(stderr, "two firewalls are at work: ufw is active (ufw disable) and nftables has adt's table")
		}
		if n := w.recorded(events.FirewallFailed); n != 5 {
			t.Errorf("%d events, want 5", n)
		}
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		w := newWalled(t, guarded)
		w.machine.Sh("mount -t tmpfs tmpfs /usr/sbin") // where all of them are
		_, stderr := w.run(1, "firewall", "check")
		w.oneLine(stderr, "FIREWALL_FAILED", "no firewall is installed")
		_, stderr = w.run(1, "firewall", "setup", "--yes")
		w.oneLine(stderr, "adt: no firewall is installed, neither nftables nor iptables nor ufw: apt install nftables")
		w.configure(guarded + "tool = \"iptables\"\n")
		_, stderr = w.run(1, "firewall", "setup", "--yes")
		w.oneLine(stderr, "iptables is not installed: apt install iptables")
		if w.recorded(events.FirewallFailed) != 3 {
			t.Error("no events")
		}
		w.run(0, "config", "check")
	})
	t.Run("a change that fails", func(t *testing.T) {
		t.Parallel()
		w := newWalled(t, guarded+"tool = \"ufw\"\n", "ufw")
		w.machine.Sh("sed -i s/IPV6=yes/IPV6=no/ /etc/default/ufw") // so the rules for IPv6 are refused
		_, stderr := w.run(1, "firewall", "setup", "--yes")
		w.oneLine(stderr, "ufw allow from fd77::/64", "what was before is back")
		w.holds(false)
		w.marked(false, "firewall-pending.json", "KNICKERS_ARE_UP")
		if out := w.machine.Sh("ufw show added"); !strings.Contains(out, "(None)") {
			t.Errorf("left behind: %s", out)
		}
	})
}

// fail2ban gets its jail with the firewall, and loses it with it.
func TestFirewallJail(t *testing.T) {
	w := newWalled(t, guarded+"confirm = \"1h\"\nssh_port = 1035\n", "nft", "fail2ban-client")
	w.run(0, "firewall", "setup", "--yes")
	w.run(0, "firewall", "confirm")
	if dump := w.machine.Sh("fail2ban-client -d"); !strings.Contains(dump, "['port', '1035']") || !strings.Contains(dump, "'10.77.0.0/24'") {
		t.Errorf("fail2ban: %s", dump)
	}
	w.run(0, "firewall", "reset", "--yes")
	if dump := w.machine.Sh("fail2ban-client -d"); strings.Contains(dump, "1035") {
		t.Errorf("after the reset: %s", dump)
	}
}
