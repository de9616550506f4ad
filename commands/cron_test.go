package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"adt/config"
	"adt/cron"
	"adt/rundir"
	"adt/runs"
)

// crontabFiles keeps the user's own crontab in memory and the system's below a
// folder; the real ones are in e2e/cron.
type crontabFiles struct {
	own    string
	err    error
	folder string
}

func (c *crontabFiles) Own(context.Context) (string, error)         { return c.own, c.err }
func (c *crontabFiles) SetOwn(_ context.Context, text string) error { c.own = text; return c.err }
func (c *crontabFiles) SetSystem(name, text string) error           { return setSystem(c.folder, name, text) }

// cronMachine is a machine whose files are below a folder.
type cronMachine struct {
	t      *testing.T
	root   string
	tabs   *crontabFiles
	uptime time.Duration
	out    bytes.Buffer
	said   bytes.Buffer
}

func newCronMachine(t *testing.T) *cronMachine {
	m := &cronMachine{t: t, root: t.TempDir(), uptime: time.Hour * 24}
	m.tabs = &crontabFiles{folder: filepath.Join(m.root, cronFolder)}
	m.write("etc/passwd", "root:x:0:0::/root:/bin/sh\nagile:x:4711:4711::"+m.home()+":/bin/sh\n")
	m.write("proc/77/comm", "cron\n")
	m.write("home/adt.toml", "[autoscaler]\nnumber = 2\ncount = 3\nregion = \"lon1\"\nbuild = \"shop\"\n[website]\nurl = \"www.example.com\"\n[ssh]\nkey = \"key\"\n")
	m.write("home/key", "no key, and not asked for")
	if err := os.MkdirAll(m.tabs.folder, 0o755); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *cronMachine) home() string { return filepath.Join(m.root, "home") }

func (m *cronMachine) write(name, text string) {
	m.t.Helper()
	path := filepath.Join(m.root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *cronMachine) read(name string) string {
	m.t.Helper()
	text, err := os.ReadFile(filepath.Join(m.root, name))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(text)
}

// run calls adt and wants an exit code.
func (m *cronMachine) run(code int, args ...string) string {
	m.t.Helper()
	m.out.Reset()
	m.said.Reset()
	env := Env{Args: append([]string{"adt"}, args...), Stdout: &m.out, Stderr: &m.said, Root: os.DirFS(m.root), Crontab: m.tabs, Uid: 4711,
		Getenv:  func(name string) string { return map[string]string{"HOME": m.home()}[name] },
		Program: func() (string, error) { return "/usr/local/bin/adt", nil },
		Clocks:  func() (rundir.Instant, error) { return rundir.Instant{Uptime: m.uptime}, nil }}
	if got := Main(m.t.Context(), env); got != code {
		m.t.Errorf("adt %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, &m.out, &m.said)
	}
	return m.out.String()
}

func (m *cronMachine) expect(where, want string) {
	m.t.Helper()
	if !strings.Contains(where, want) {
		m.t.Errorf("%q lacks %q", where, want)
	}
}

const systemFile = "etc/cron.d/adt"

func TestCronInstallSystem(t *testing.T) {
	m := newCronMachine(t)
	shown := m.run(0, "cron", "print")
	m.expect(shown, "* * * * * root sleep 20; /usr/local/bin/adt healthcheck\n")
	m.expect(shown, "HOME="+m.home()+"\n")
	m.expect(m.run(0, "cron", "install", "--dry-run"), "+ * * * * * root /usr/local/bin/adt scale\n")
	if _, err := os.Stat(filepath.Join(m.root, systemFile)); err == nil {
		t.Error("a dry run wrote it")
	}
	m.run(0, "cron", "install")
	if got := m.read(systemFile); got != shown {
		t.Error(cmp.Diff(shown, got))
	}
	info, err := os.Stat(filepath.Join(m.root, systemFile))
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
	m.expect(m.run(0, "cron", "install"), "has adt's lines already")

	// The operator's own lines and settings stay, wherever they stand.
	m.write(systemFile, "MAILTO=ops@example.com\n"+shown+"0 4 * * * root backup\n")
	m.run(0, "cron", "install")
	if want, got := "MAILTO=ops@example.com\n0 4 * * * root backup\n"+shown, m.read(systemFile); got != want {
		t.Error(cmp.Diff(want, got))
	}
	m.write("home/adt.toml", m.read("home/adt.toml")+"[cron]\nmailto = \"none\"\ntime_zone = \"Europe/London\"\n")
	m.expect(m.run(0, "cron", "install"), "+ MAILTO=\"\"\n+ TZ=Europe/London\n")
	m.run(0, "cron", "uninstall", "--dry-run")
	m.expect(m.read(systemFile), "adt scale")
	m.run(0, "cron", "uninstall")
	if want, got := "MAILTO=ops@example.com\n0 4 * * * root backup\n", m.read(systemFile); got != want {
		t.Error(cmp.Diff(want, got))
	}
	m.write(systemFile, shown)
	m.run(0, "cron", "uninstall")
	if _, err := os.Stat(filepath.Join(m.root, systemFile)); err == nil {
		t.Error("an empty file was left")
	}
	m.expect(m.run(0, "cron", "uninstall"), "has no lines of adt cron install")
}

func TestCronInstallUser(t *testing.T) {
	m := newCronMachine(t)
	const own = "MAILTO=me\nHOME=/elsewhere\n0 4 * * * backup"
	m.tabs.own = own
	shown := m.run(0, "cron", "print", "--user")
	m.expect(shown, "\n* * * * * /usr/local/bin/adt scale\n")
	m.run(0, "cron", "install", "--user", "--dry-run")
	if m.tabs.own != own {
		t.Error("a dry run wrote it")
	}
	m.run(0, "cron", "install", "--user")
	if want := own + "\n" + shown; m.tabs.own != want {
		t.Error(cmp.Diff(want, m.tabs.own))
	}
	m.run(0, "cron", "install", "--user")
	if want := own + "\n" + shown; m.tabs.own != want {
		t.Error(cmp.Diff(want, m.tabs.own))
	}
	m.run(2, "cron", "install")
	m.expect(m.said.String(), "the crontab of agile:7 runs adt scale, ")
	m.expect(m.said.String(), "uninstall")
	m.run(0, "cron", "uninstall", "--user")
	if want := own + "\n"; m.tabs.own != want {
		t.Error(cmp.Diff(want, m.tabs.own))
	}
	m.tabs.own = shown
	m.run(0, "cron", "uninstall", "--user")
	if m.tabs.own != "" {
		t.Errorf("left: %q", m.tabs.own)
	}
}

func TestCronRefuses(t *testing.T) {
	m := newCronMachine(t)
	block := m.run(0, "cron", "print")
	for name, test := range map[string]struct{ path, text, want string }{
		"/etc/crontab":        {"etc/crontab", "SHELL=/bin/sh\n* * * * * agile adt scale\n", "/etc/crontab:2 runs adt scale"},
		"a file beside":       {"etc/cron.d/fleet", "HOME=" + m.home() + "\n*/2 * * * * root cd / && adt healthcheck >/dev/null\n", "/etc/cron.d/fleet:2 runs adt healthcheck"},
		"below the own block": {systemFile, block + "* * * * * agile adt scale\n", fmt.Sprintf("/etc/cron.d/adt:%d runs adt scale", strings.Count(block, "\n")+1)},
		"another's crontab":   {"var/spool/cron/crontabs/root", "HOME=" + m.home() + "\n* * * * * adt reboot-if-done\n", "the crontab of root:2 runs adt reboot-if-done"},
	} {
		m.write(test.path, test.text)
		m.run(2, "cron", "install")
		if got := m.said.String(); !strings.Contains(got, test.want) || strings.Count(got, "\n") != 1 {
			t.Errorf("%s: %s", name, got)
		}
		if err := os.Remove(filepath.Join(m.root, test.path)); err != nil {
			t.Fatal(err)
		}
	}
	// What cron does not read is no line, and another home is another fleet.
	m.write("etc/cron.d/adt.dpkg-old", "* * * * * agile adt scale\n")
	m.write("etc/crontab", "* * * * * root adt scale\n* * * * * agile adt scale --count 3\n")
	m.run(0, "cron", "install")

	m.write(systemFile, "# BEGIN adt: half\n* * * * * root mine\n")
	m.run(1, "cron", "install")
	m.expect(m.said.String(), `/etc/cron.d/adt: line 1: "# BEGIN adt" has no "# END adt"`)
	m.run(1, "cron", "uninstall")
	m.expect(m.read(systemFile), "root mine")

	// A crontab that cannot be read is not replaced by one with adt's lines alone.
	m.tabs.err = errors.New("crontab -l: you may not")
	m.run(1, "cron", "install", "--user")
	m.expect(m.said.String(), "you may not")
	if m.tabs.own != "" {
		t.Error("it was written")
	}
}

func TestCronAbsent(t *testing.T) {
	m := newCronMachine(t)
	if err := errors.Join(os.Remove(filepath.Join(m.root, "proc/77/comm")), os.Remove(m.tabs.folder)); err != nil {
		t.Fatal(err)
	}
	m.run(1, "cron", "install")
	m.expect(m.said.String(), "install cron (apt install cron)")
	m.run(1, "cron", "install", "--user")
	m.expect(m.said.String(), "no cron is running: install and start it")
	m.expect(m.run(1, "cron", "check"), "FAIL  cron")
}

func TestCronMigrate(t *testing.T) {
	m := newCronMachine(t)
	const own = `MAILTO=''
*/2 * * * * export HOME=/home/X1 && /home/X1/cron/PerformScalingFromCron.sh
*/3 * * * * export HOME=/home/X1 && /home/X1/cron/DeadOrAliveFromCron.sh
22 4 * * *  export HOME=/home/X1 && /home/X1/providerscripts/utilities/software/UpdateSoftware.sh
0 5 * * * mine
`
	m.tabs.own = own
	m.run(2, "cron", "install")
	m.expect(m.said.String(), "the crontab of agile:2, the crontab of agile:3 runs the original's scripts")
	m.expect(m.said.String(), "--migrate")
	m.run(0, "cron", "install", "--migrate", "--dry-run")
	if _, err := os.Stat(filepath.Join(m.root, systemFile)); err == nil || m.tabs.own != own {
		t.Error("a dry run wrote something")
	}
	// Where adt's lines cannot be written, the original's stay in force.
	folder := m.tabs.folder
	m.tabs.folder += "x"
	m.run(1, "cron", "install", "--migrate")
	if m.tabs.own != own || m.out.Len() > 0 {
		t.Errorf("it said %s and left %s", &m.out, m.tabs.own)
	}
	m.tabs.folder = folder
	said := m.run(0, "cron", "install", "--migrate")
	m.expect(said, "the crontab of agile:2: replaced by adt scale: */2")
	m.expect(said, "the crontab of agile:4: stays, no line of adt does what UpdateSoftware.sh does")
	m.expect(m.read(systemFile), "adt scale")
	jobs := cron.Table{Owner: "agile", Text: m.tabs.own}.Jobs()
	if len(jobs) != 2 || jobs[1].Command != "mine" {
		t.Errorf("%+v", jobs)
	}
	m.run(0, "cron", "install", "--migrate")
	m.expect(m.run(0, "cron", "uninstall"), "2 lines of the original")

	// In the own crontab itself.
	m.tabs.own = own
	m.expect(m.run(0, "cron", "install", "--migrate", "--user"), "MAILTO is empty")
	m.expect(m.tabs.own, "\n#replaced by adt# */2 ")
	m.expect(m.tabs.own, "0 5 * * * mine\n# BEGIN adt")
}

// findings returns what is wrong by adt cron check.
func (m *cronMachine) findings(code int) (wrong []string) {
	m.t.Helper()
	var all []finding
	if err := json.Unmarshal([]byte(m.run(code, "cron", "check", "--json")), &all); err != nil {
		m.t.Fatal(err)
	}
	for _, f := range all {
		if !f.OK {
			if wrong = append(wrong, f.What); f.Hint == "" {
				m.t.Errorf("no hint in %+v", f)
			}
		}
	}
	return wrong
}

func TestCronCheck(t *testing.T) {
	m := newCronMachine(t)
	expect := func(want ...string) {
		t.Helper()
		code := 0
		if len(want) > 0 {
			code = 1
		}
		if got := m.findings(code); !slices.Equal(got, want) {
			t.Errorf("%q are wrong, want %q\n%s", got, want, &m.out)
		}
	}
	entries := cronEntries(&config.Config{Autoscaler: config.Autoscaler{Number: 2}}, true)
	var lines, late []string // those whose three intervals are less than an hour
	for _, e := range entries {
		lines = append(lines, "adt "+e.Name())
		if e.When == cron.Boot {
			continue
		}
		if interval, err := cron.Interval(e.When); err != nil {
			t.Fatal(err)
		} else if interval < 15*time.Minute {
			late = append(late, e.Name()+" runs")
		}
	}
	expect(lines...)
	m.run(0, "cron", "install")
	expect() // it is new
	folder := runsFolder(filepath.Join(m.home(), "runtime"))
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(m.root, systemFile), old, old); err != nil {
		t.Fatal(err)
	}
	expect(late...)
	m.uptime = time.Minute
	expect() // the machine was off
	m.uptime = time.Hour

	ended := func(command string, exit int, ago time.Duration) {
		t.Helper()
		at := time.Now().Add(-ago)
		if err := errors.Join(folder.Begin(command, at), folder.End(command, runs.Record{Started: at, Ended: at, Exit: exit})); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range entries {
		ended(e.Name(), 0, 10*time.Second)
	}
	expect()
	ended("healthcheck", 3, 10*time.Second)
	expect() // held back is no fault
	ended("healthcheck", 0, 10*time.Minute)
	expect("healthcheck runs")
	m.expect(m.out.String(), "none has begun")
	ended("healthcheck", 1, 5*time.Second)
	expect("healthcheck runs")
	m.expect(m.out.String(), "exit code 1")
	if err := folder.Begin("healthcheck", time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	expect("healthcheck runs")
	m.expect(m.out.String(), "has not ended")
	ended("healthcheck", 0, 0)

	// It is an event, once an hour.
	if n := strings.Count(m.run(0, "events", "--reason", "CRON_FAULT", "--json"), "\n"); n != 1 {
		t.Errorf("%d events", n)
	}

	written := m.read(systemFile)
	m.write(systemFile, written)
	if err := os.Chmod(filepath.Join(m.root, systemFile), 0o664); err != nil {
		t.Fatal(err)
	}
	expect("/etc/cron.d/adt")
	m.expect(m.out.String(), "chmod 644")
	m.write("etc/crontab", "* * * * * agile adt scale\n")
	m.write(systemFile, strings.Replace(written, "sleep 20", "sleep 10", 1))
	if err := os.Chmod(filepath.Join(m.root, systemFile), 0o644); err != nil {
		t.Fatal(err)
	}
	expect("adt scale", "/etc/cron.d/adt")
	m.expect(m.out.String(), "/etc/crontab:1 and /etc/cron.d/adt:")
	m.expect(m.out.String(), "+ * * * * * root sleep 20")
	m.write("etc/crontab", "")
	m.write(systemFile, strings.Replace(written, "* * * * * root /usr/local/bin/adt scale\n", "", 1))
	if err := os.Chmod(filepath.Join(m.root, systemFile), 0o644); err != nil {
		t.Fatal(err)
	}
	expect("adt scale", "/etc/cron.d/adt")

	// Lines written by hand, as in crontab.example, are as good.
	m.run(0, "cron", "uninstall")
	m.tabs.own = ""
	for _, e := range entries {
		m.tabs.own += strings.Replace(e.When, "* * * * *", "*/5 * * * *", 1) + " sleep 3; adt " + e.Name() + "\n"
	}
	expect()
}

// crontab.example is what adt cron print makes for the first autoscaler.
func TestCrontabExample(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "crontab.example"))
	if err != nil {
		t.Fatal(err)
	}
	example := cron.Table{Name: "crontab.example", Owner: "root", Text: string(text)}
	p := cron.Plan{Program: "adt", Home: "/root", Entries: cronEntries(&config.Config{Autoscaler: config.Autoscaler{Number: 1}}, true)}
	type line struct{ When, Command string }
	var got, want []line
	for _, j := range example.Jobs() {
		got = append(got, line{j.When, j.Command})
	}
	for _, j := range (cron.Table{Owner: "root", Text: p.Block()}).Jobs() {
		want = append(want, line{j.When, j.Command})
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("crontab.example is not what adt cron print makes:\n%s", d)
	}
	if regexp.MustCompile(`(?m)^# (BEGIN|END) adt`).Match(text) {
		t.Error("crontab.example has adt cron install's marks: it is for those who write their own")
	}
}
