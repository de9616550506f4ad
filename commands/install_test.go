package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"adt/config"
	"adt/rundir"
)

// bareMachine is a machine below a folder that nothing was done to yet. The real one
// is in e2e/cron.
type bareMachine struct {
	*cronMachine
	calls []string
	fails error // of useradd
}

func newBareMachine(t *testing.T) *bareMachine {
	m := &bareMachine{cronMachine: &cronMachine{t: t, root: t.TempDir(), uptime: 24 * time.Hour}}
	m.tabs = &crontabFiles{folder: filepath.Join(m.root, cronFolder)}
	m.write("etc/passwd", "root:x:0:0::/root:/bin/sh\n")
	m.write("etc/os-release", "PRETTY_NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian\n")
	m.write("proc/77/comm", "cron\n")
	m.write("usr/sbin/cron", "")
	m.write("root/adt", "the program")
	if err := errors.Join(os.MkdirAll(m.tabs.folder, 0o755), os.MkdirAll(filepath.Join(m.root, "home"), 0o755)); err != nil {
		t.Fatal(err)
	}
	return m
}

// useradd does what the real one does.
func (m *bareMachine) useradd(_ context.Context, name string, args ...string) error {
	m.calls = append(m.calls, strings.Join(append([]string{name}, args...), " "))
	if m.fails != nil {
		return m.fails
	}
	user := args[len(args)-1]
	m.write("etc/passwd", m.read("etc/passwd")+fmt.Sprintf("%s:x:%d:%d::/home/%[1]s:/bin/bash\n", user, os.Getuid(), os.Getgid()))
	return os.Mkdir(filepath.Join(m.root, "home", user), 0o755)
}

func (m *bareMachine) run(code int, args ...string) string {
	m.t.Helper()
	return m.runAs(0, code, args...)
}

func (m *bareMachine) runAs(uid, code int, args ...string) string {
	m.t.Helper()
	m.out.Reset()
	m.said.Reset()
	env := Env{Args: append([]string{"adt"}, args...), Stdout: &m.out, Stderr: &m.said, Root: os.DirFS(m.root), Base: m.root, Crontab: m.tabs, Uid: uid,
		Getenv:  func(name string) string { return map[string]string{"HOME": "/root"}[name] },
		Program: func() (string, error) { return "/root/adt", nil }, Command: m.useradd,
		Clocks: func() (rundir.Instant, error) { return rundir.Instant{Uptime: m.uptime}, nil }}
	if got := Main(m.t.Context(), env); got != code {
		m.t.Errorf("adt %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, &m.out, &m.said)
	}
	return m.out.String()
}

func (m *bareMachine) mode(name string, want os.FileMode) {
	m.t.Helper()
	info, err := os.Stat(filepath.Join(m.root, name))
	if err != nil || info.Mode().Perm() != want {
		m.t.Errorf("%s: %v, %v, want mode %04o", name, info, err, want)
	}
}

// states are the steps of a report, by what they are about.
func (m *bareMachine) states(report string) string {
	m.t.Helper()
	var steps []step
	if err := json.Unmarshal([]byte(report), &steps); err != nil {
		m.t.Fatalf("%v: %s", err, report)
	}
	var all []string
	for _, s := range steps {
		all = append(all, s.What+":"+s.State)
	}
	return strings.Join(all, " ")
}

func TestInstallABareMachine(t *testing.T) {
	m := newBareMachine(t)
	before := m.files()
	m.expect(m.run(0, "install", "--dry-run"), "to do   user       agile, at home in /home/agile")
	if got := m.states(m.run(0, "install", "--dry-run", "--json")); got != "program:to do user:to do folders:to do adt.toml:to do build key:later cron:later firewall:later" {
		t.Error(got)
	}
	if after := m.files(); after != before || len(m.calls) > 0 {
		t.Errorf("a dry run made\n%s of\n%s and called %v", after, before, m.calls)
	}

	if got := m.states(m.run(0, "install", "--json")); got != "program:done user:done folders:done adt.toml:done build key:later cron:later firewall:later" {
		t.Error(got)
	}
	m.mode("usr/local/bin/adt", 0o755)
	m.mode("home/agile/adt.toml", 0o600)
	for _, name := range []string{"runtime", "logs", ".ssh"} {
		m.mode("home/agile/"+name, 0o700)
	}
	if len(m.calls) != 1 || m.calls[0] != "useradd --create-home --home-dir /home/agile --shell /bin/bash agile" {
		t.Errorf("called were %q", m.calls)
	}
	// Not filled in: again, nothing new, and what is wrong with it.
	m.expect(m.run(0, "install"), "later   cron       when adt.toml is complete: adt install again (")
	if text := m.read("home/agile/adt.toml"); !strings.Contains(text, "REQUIRED") {
		t.Errorf("adt.toml is %s", text)
	}

	text := "[autoscaler]\nnumber = 2\ncount = 3\nregion = \"lon1\"\nbuild = \"shop\"\n[website]\nurl = \"www.example.com\"\n"
	m.write("home/agile/adt.toml", text)
	if err := os.Remove(filepath.Join(m.root, systemFile)); err == nil {
		t.Error("cron had lines before")
	}
	report := m.run(0, "install")
	m.expect(report, "done    build key  /home/agile/.ssh/id_ed25519_AGILE_DEPLOYMENT_BUILD_KEY_shop")
	m.expect(m.read(systemFile), "* * * * * root sleep 20; /usr/local/bin/adt healthcheck\n")
	m.expect(m.read(systemFile), "HOME="+filepath.Join(m.root, "home/agile")+"\n")
	const key = "home/agile/.ssh/id_ed25519_AGILE_DEPLOYMENT_BUILD_KEY_shop"
	m.mode(key, 0o600)
	private := m.read(key)
	m.expect(m.read(key+".pub"), "ssh-ed25519 ")

	// Once more: all is there, and nothing of the operator's is touched.
	before = m.files()
	if got := m.states(m.run(0, "install", "--json")); got != "program:there user:there folders:there adt.toml:there build key:there" {
		t.Error(got)
	}
	if after := m.files(); after != before || m.read(key) != private || m.read("home/agile/adt.toml") != text {
		t.Errorf("a second time made\n%s of\n%s", after, before)
	}

	// A newer program goes in the place of the old one.
	m.write("root/adt", "a newer program")
	m.run(0, "install", "--no-cron")
	if got := m.read("usr/local/bin/adt"); got != "a newer program" {
		t.Errorf("the program is %q", got)
	}

	m.write("home/agile/runtime/AUTOSCALINGMONITOR:1", "{}")
	m.run(2, "uninstall")
	m.expect(m.said.String(), "1 webservers are being built or terminated")
	if err := os.Remove(filepath.Join(m.root, "home/agile/runtime/AUTOSCALINGMONITOR:1")); err != nil {
		t.Fatal(err)
	}
	before = m.files()
	m.expect(m.run(0, "uninstall", "--dry-run"), "nothing was changed")
	if after := m.files(); after != before {
		t.Errorf("a dry run made\n%s of\n%s", after, before)
	}
	m.run(0, "uninstall")
	for _, gone := range []string{systemFile, "usr/local/bin/adt"} {
		if _, err := os.Lstat(filepath.Join(m.root, gone)); err == nil {
			t.Errorf("%s is still there", gone)
		}
	}
	if m.read(key) != private || m.read("home/agile/adt.toml") != text {
		t.Error("what is the operator's is gone")
	}
}

// files lists all files with their contents.
func (m *bareMachine) files() string {
	m.t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(m.root, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(m.root, path)
		if err != nil || strings.HasPrefix(name, "home/agile/logs/") {
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s: %.40q\n", name, text)
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return b.String()
}

func TestInstallRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*bareMachine)
		uid    int
		args   []string
		code   int
		want   string
	}{
		"not root":       {func(*bareMachine) {}, 1000, []string{"install"}, 2, "sudo adt install"},
		"another system": {func(m *bareMachine) { m.write("etc/os-release", "ID=fedora\n") }, 0, []string{"install"}, 2, "Debian and Ubuntu"},
		"no cron": {func(m *bareMachine) {
			if err := os.Remove(filepath.Join(m.root, "usr/sbin/cron")); err != nil {
				m.t.Fatal(err)
			}
		}, 0, []string{"install"}, 1, "apt install cron"},
		"a bad user":     {func(*bareMachine) {}, 0, []string{"install", "--server-user", "a b"}, 2, "no name of a user"},
		"useradd fails":  {func(m *bareMachine) { m.fails = errors.New("useradd: cannot lock /etc/passwd") }, 0, []string{"install"}, 1, "user: useradd: cannot lock"},
		"an argument":    {func(*bareMachine) {}, 0, []string{"install", "now"}, 2, "takes no argument"},
		"uninstall, too": {func(*bareMachine) {}, 1000, []string{"uninstall"}, 2, "sudo adt uninstall"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newBareMachine(t)
			c.change(m)
			m.runAs(c.uid, c.code, c.args...)
			if said := m.said.String(); !strings.Contains(said, c.want) || strings.Count(said, "\n") != 1 {
				t.Errorf("it says %q", said)
			}
			if _, err := os.Lstat(filepath.Join(m.root, "home/agile")); err == nil {
				t.Error("there is a home")
			}
		})
	}
}

// A configuration with what the original's crontab runs, too, gets no second one.
func TestInstallBesideTheOriginal(t *testing.T) {
	m := newBareMachine(t)
	m.run(0, "install")
	m.write("home/agile/adt.toml", "[autoscaler]\nnumber = 1\nregion = \"lon1\"\nbuild = \"shop\"\n[website]\nurl = \"www.example.com\"\n")
	m.tabs.own = "*/2 * * * * export HOME=/home/X1 && /home/X1/cron/PerformScalingFromCron.sh\n"
	m.run(2, "install")
	m.expect(m.said.String(), "adt cron install --migrate")
	if _, err := os.Lstat(filepath.Join(m.root, systemFile)); err == nil {
		t.Error("cron has lines")
	}
}

func TestKeyPath(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "adt.toml")
	env := config.Env{Getenv: func(string) string { return folder }}
	for text, want := range map[string]string{
		"[autoscaler]\nbuild = \"shop\"\n": folder + "/.ssh/id_ed25519_AGILE_DEPLOYMENT_BUILD_KEY_shop",
		"[ssh]\nkey = \"~/mine\"\n":        folder + "/mine", "": "", "[autoscaler\n": "",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := config.KeyPath(file, env); got != want || (err == nil) != (want != "") {
			t.Errorf("of %q: %q, %v", text, got, err)
		}
	}
}
