// Package cron proves that adt does its work when the real cron starts it, from
// crontab.example or from what adt cron install writes: every minute, with cron's
// own environment, without a terminal, and silent unless something is wrong. It
// holds tests only, apart from package e2e since minutes pass in it.
package cron

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	_ "adt/commands" // for go test's cache: it is what the program is made of
	"adt/notify/notifytest"
	"adt/provider"
	"adt/provider/local"
)

// atWork bounds what takes cron no minute, and ticks each wait for n of its
// minutes, with room for a busy machine.
const atWork = 30 * time.Second

func ticks(n int) time.Duration { return time.Duration(n)*time.Minute + atWork }

// needs skips the test where cron cannot be had, and fails it where it must be
// (ADT_REQUIRE=cron, as .ci/run sets it for root).
func needs(t *testing.T) {
	t.Helper()
	lacks := ""
	switch {
	case os.Geteuid() != 0:
		lacks = "it is not root, who alone can put cron into a mount namespace of its own"
	default:
		for _, program := range []string{cronPath, "crontab", "unshare", "nsenter"} {
			if _, err := exec.LookPath(program); err != nil {
				lacks = fmt.Sprintf("%s is not installed (apt install cron util-linux)", program)
			}
		}
	}
	if lacks == "" && exec.CommandContext(t.Context(), "unshare", "--mount", "true").Run() != nil {
		lacks = "this machine does not allow a mount namespace (unshare --mount)"
	}
	text := "adt was NOT tried under the real cron: " + lacks
	switch {
	case lacks == "" && testing.Short():
		t.Skip("takes minutes")
	case lacks == "":
	case slices.Contains(strings.Split(os.Getenv("ADT_REQUIRE"), ","), "cron"):
		t.Fatal(text)
	default:
		fmt.Fprintln(os.Stderr, text)
		t.Skip(text)
	}
}

const cronPath = "/usr/sbin/cron"

const config = `
[autoscaler]
number = 1
region = "lon1"
build = "shop"
[website]
url = "www.example.com"
ttl = "1s"
[ssh]
key = "key"
[local]
boot = "0s"
build = "0s"
[build]
poll = "20ms"
settle = "1s"
[scale]
drain = "1ms"
[healthcheck]
grace = "0s"
[monitor]
window = "1h" # how busy the machine of a test is, is nobody's business
`

// site is an installation of adt in a home of its own.
type site struct {
	home, adt string
	cloud     *local.Cloud
}

func newSite(t *testing.T) *site {
	t.Helper()
	home := t.TempDir()
	s := &site{home: home, adt: filepath.Join(home, "bin", "adt")}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", s.adt, "adt")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(home, "key"), string(pem.EncodeToMemory(block)), 0o600)
	write(t, filepath.Join(home, "adt.toml"), config, 0o600)
	s.cloud, err = local.Open(local.Config{Dir: filepath.Join(home, "cloud")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), atWork)
		defer cancel()
		if err := s.cloud.Clean(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// openOffice starts a mail server, and has adt notify mail through it.
func (s *site) openOffice(t *testing.T) *notifytest.Server {
	t.Helper()
	authority, err := notifytest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	office, err := notifytest.NewServer(authority, "starttls")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(office.Stop)
	ca, err := authority.Write(s.home)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(s.home, "adt.toml"), config+fmt.Sprintf(
		"[notify]\nca = %q\n[notify.mail]\nto = [\"ops@example.com\"]\nfrom = \"adt@example.com\"\nhost = %q\nport = %d\nuser = %q\npassword = %q\n",
		ca, authority.Address, office.Port(), notifytest.User, notifytest.Password), 0o600)
	return office
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// run is adt, called by hand.
func (s *site) run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), s.adt, args...)
	cmd.Env = []string{"HOME=" + s.home, "PATH=/usr/bin:/bin"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("adt %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// serving returns the names of all servers that are in DNS and answer HTTPS.
// It takes no word of adt for it.
func (s *site) serving(ctx context.Context) ([]string, error) {
	servers, err := s.cloud.List(ctx)
	if err != nil {
		return nil, err
	}
	records, err := s.cloud.AllRecords()
	if err != nil {
		return nil, err
	}
	if len(records) != len(servers) {
		return nil, fmt.Errorf("%d servers and %d records", len(servers), len(records))
	}
	var names []string
	for _, r := range records {
		i := slices.IndexFunc(servers, func(srv provider.Server) bool { return srv.PublicIP == r.Address })
		if i < 0 {
			return nil, fmt.Errorf("no server has %s, which is in DNS", r.Address)
		}
		if err := answers(ctx, r.Address); err != nil {
			return nil, fmt.Errorf("%s: %w", servers[i].Name, err)
		}
		names = append(names, servers[i].Name)
	}
	slices.Sort(names)
	return names, nil
}

func answers(ctx context.Context, address netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	url := "https://" + net.JoinHostPort(address.String(), "8443") + "/index.html"
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // each server made its own certificate
		DisableKeepAlives: true,
	}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// await waits until check is content.
func await(t *testing.T, what string, patience time.Duration, check func() error) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	look := time.NewTicker(200 * time.Millisecond)
	defer look.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("%s: not within %s: %v", what, patience, err)
		case <-look.C:
		}
	}
}

// awaitServing waits until so many serve, and none of those that must not, and
// returns their names.
func (s *site) awaitServing(t *testing.T, number int, without string, patience time.Duration) (names []string) {
	t.Helper()
	await(t, fmt.Sprintf("%d webservers that serve", number), patience, func() (err error) {
		names, err = s.serving(t.Context())
		if err == nil && (len(names) != number || slices.Contains(names, without)) {
			err = fmt.Errorf("those are %q", names)
		}
		return err
	})
	return names
}

// event is what this test reads of a line of adt events --json.
type event struct {
	Reason string `json:"reason"`
	Server string `json:"server"`
}

func (s *site) count(t *testing.T, reason string) int {
	t.Helper()
	var all []event
	for line := range strings.Lines(s.run(t, "events", "--reason", reason, "--json")) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, e)
	}
	return len(all)
}

// lines returns crontab.example as it is for this site: with its PATH and its
// HOME, as the file says that they are to be set.
func (s *site) lines(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "crontab.example"))
	if err != nil {
		t.Fatal(err)
	}
	out := string(text)
	for pattern, line := range map[string]string{
		`(?m)^PATH=/usr/local/bin:`:   "PATH=" + filepath.Dir(s.adt) + ":",
		`(?m)^#HOME=/home/[a-z0-9]+$`: "HOME=" + s.home,
	} {
		re := regexp.MustCompile(pattern)
		if n := len(re.FindAllString(out, -1)); n != 1 {
			t.Fatalf("crontab.example has %d lines like %s, want 1", n, pattern)
		}
		out = re.ReplaceAllLiteralString(out, line)
	}
	return out
}

// private starts cron with nothing of the machine's own: other tables, another
// spool, another sendmail, and no pid file outside.
const private = `
cd "$1"
mount --bind cron.d /etc/cron.d
mount --bind crontab.empty /etc/crontab
mount --bind spool /var/spool/cron
mount --bind sbin /usr/sbin
mount -t tmpfs none /run
crontab crontab.all
crontab crontab.mine
exec /usr/sbin/cron -f
`

// daemon is a real cron that runs, in a mount namespace of its own.
type daemon struct {
	pid  int
	mail string // the folder of what it has mailed
	dir  string // with cron.d in it
}

// startCron starts the real cron with the given table as root's own.
func (s *site) startCron(t *testing.T, table string) daemon {
	t.Helper()
	dir := t.TempDir()
	mail := filepath.Join(dir, "mail")
	for _, d := range []string{mail, filepath.Join(dir, "spool", "crontabs")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "cron.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(cronPath)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "sbin", "cron"), string(program), 0o755)
	write(t, filepath.Join(dir, "sbin", "sendmail"), fmt.Sprintf("#!/bin/sh\ncat >$(mktemp '%s/XXXXXX')\n", mail), 0o755)
	write(t, filepath.Join(dir, "crontab.empty"), "", 0o644)
	// crontab refuses a table with a mistake in it, so the scheduled lines are
	// shown to it too.
	write(t, filepath.Join(dir, "crontab.all"), regexp.MustCompile(`(?m)^#([0-9*])`).ReplaceAllString(table, "$1"), 0o600)
	write(t, filepath.Join(dir, "crontab.mine"), table, 0o600)

	cmd := exec.Command("unshare", "--mount", "sh", "-euc", private, "sh", dir)
	// Not for the jobs, whose environment cron makes: for endJobs to find its forks.
	cmd.Env = []string{"HOME=" + s.home, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		select {
		case err := <-ended:
			said, _ := os.ReadFile(log.Name())
			t.Errorf("cron ended by itself: %v\n%s", err, said)
		default:
			_ = cmd.Process.Kill()
			<-ended
		}
		if err := errors.Join(log.Close(), s.endJobs()); err != nil {
			t.Error(err)
		}
	})
	await(t, "cron", atWork, func() error {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
		if err == nil && strings.TrimSpace(string(comm)) != "cron" {
			said, _ := os.ReadFile(log.Name())
			err = fmt.Errorf("%s is at work, it has said %s", comm, said)
		}
		return err
	})
	// cron compares times of whole seconds: what is changed in the second of its last
	// look it does not see.
	looked := time.Now().Unix()
	await(t, "the next second", atWork, func() error {
		if time.Now().Unix() == looked {
			return errors.New("it is the same")
		}
		return nil
	})
	return daemon{pid: cmd.Process.Pid, mail: mail, dir: dir}
}

// beside runs a command where cron sees its files.
func (s *site) beside(t *testing.T, d daemon, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "nsenter", append([]string{fmt.Sprintf("--mount=/proc/%d/ns/mnt", d.pid), "--"}, args...)...)
	cmd.Env = []string{"HOME=" + s.home, "PATH=/usr/bin:/bin"}
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", cmd, err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// endJobs ends what cron had started and left: a tick, or one that sleeps
// until its second. It looks until nothing is left, as a fork may be under way.
func (s *site) endJobs() error {
	for deadline := time.Now().Add(atWork); time.Now().Before(deadline); runtime.Gosched() {
		jobs, err := s.jobs()
		if len(jobs) == 0 || err != nil {
			return err
		}
		for _, pid := range jobs {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("ending the job %d: %w", pid, err)
			}
		}
	}
	return errors.New("jobs of cron do not end")
}

// jobs returns the processes that have the site's home in their environment.
func (s *site) jobs() (pids []int, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		environment, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "environ"))
		if err == nil && slices.Contains(strings.Split(string(environment), "\x00"), "HOME="+s.home) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func mails(t *testing.T, dir string) (out []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(text))
	}
	return out
}

func TestFleetUnderCron(t *testing.T) {
	needs(t)
	t.Parallel() // it mostly waits for the next minute
	s := newSite(t)
	s.run(t, "scale", "--count", "2")
	s.run(t, "scale")
	s.run(t, "reboot-if-done") // ends the cycle, so that the next command is taken at once
	s.awaitServing(t, 2, "", atWork)

	office := s.openOffice(t)
	mail := s.startCron(t, s.lines(t)).mail
	s.run(t, "scale", "--count", "4")
	four := s.awaitServing(t, 4, "", ticks(1))

	victim := four[0]
	s.run(t, "local", "fault", victim, "crash")
	if sent := mails(t, mail); len(sent) > 0 {
		t.Errorf("all was well, and cron mailed\n%s", strings.Join(sent, "\n"))
	}
	// Two strikes, a minute apart, and the next tick builds.
	s.awaitServing(t, 4, victim, ticks(4))
	await(t, "the end of the cycle by reboot-if-done", ticks(2), func() error {
		if n := s.count(t, "REBOOT_SKIPPED"); n < 2 { // the first was by hand
			return fmt.Errorf("%d times so far", n)
		}
		return nil
	})

	await(t, "what adt notify mails, by STARTTLS", ticks(1), func() error {
		var all strings.Builder
		for _, m := range office.Mails() {
			all.WriteString(m.Text)
		}
		told := func(what string) int { return strings.Count(all.String(), what+victim) }
		// On a machine that is very busy one run may find its beginning and its end.
		passed := told("CAME AND WENT: INFO STRIKE ")
		if told("NEW: INFO STRIKE ")+passed != 1 || told("RECOVERED: INFO STRIKE ")+passed != 1 || told("NEW: INFO TERMINATION_STARTED ") != 1 {
			return fmt.Errorf("told was\n%s", &all)
		}
		return nil
	})

	sent := mails(t, mail)
	if len(sent) == 0 {
		t.Error("a webserver died, and nobody was written to")
	}
	for _, m := range sent {
		header, body, _ := strings.Cut(m, "\n\n")
		if !strings.Contains(header, "adt healthcheck") || !strings.Contains(body, `"STRIKE"`) || !strings.Contains(body, victim) ||
			strings.Count(strings.TrimSpace(body), "\n") > 0 {
			t.Errorf("not just the one line on the strike of %s was mailed:\n%s", victim, m)
		}
	}
	if n := s.count(t, "STRIKE"); n != 2 {
		t.Errorf("%d strikes, want 2 (so the second one was not mailed again)", n)
	}
}

// original is a crontab as the original's InitialiseCron.sh leaves it, with a line of
// the operator's; %s is a folder.
const original = `MAILTO=''
*/2 * * * * export HOME=/home/X1 && touch %[1]s/original; /home/X1/cron/PerformScalingFromCron.sh
*/3 * * * * export HOME=/home/X1 && touch %[1]s/original; /home/X1/cron/DeadOrAliveFromCron.sh
* * * * * touch %[1]s/mine
`

// What adt cron install writes, cron runs, along with what was there; adt cron check
// sees it; and after adt cron uninstall it ends.
func TestInstall(t *testing.T) {
	needs(t)
	t.Parallel()
	s := newSite(t)
	s.run(t, "scale", "--count", "1")
	marks := t.TempDir()
	d := s.startCron(t, fmt.Sprintf(original, marks))
	adt := func(code int, args ...string) string {
		t.Helper()
		out, got := s.beside(t, d, append([]string{s.adt}, args...)...)
		if got != code {
			t.Fatalf("adt %s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, out)
		}
		return out
	}
	const table = "cron.d/adt"
	write(t, filepath.Join(d.dir, table), fmt.Sprintf("MAILTO=ops\n* * * * * root touch %s/beside\n", marks), 0o644)
	adt(1, "cron", "check")
	adt(2, "cron", "install") // the original's lines are there
	adt(0, "cron", "install", "--migrate")
	own, _ := s.beside(t, d, "crontab", "-l")
	if !strings.Contains(own, "\n#replaced by adt# */2") || !strings.Contains(own, "\n* * * * * touch") {
		t.Errorf("the crontab is\n%s", own)
	}
	if out := adt(0, "cron", "install", "--migrate"); !strings.Contains(out, "already") {
		t.Errorf("the second time it said\n%s", out)
	}

	s.awaitServing(t, 1, "", ticks(2))
	await(t, "three ticks that succeeded", ticks(2), func() error {
		for _, tick := range []string{"scale", "healthcheck", "reboot-if-done"} {
			record, err := os.ReadFile(filepath.Join(s.home, "runtime", "runs", tick+".json"))
			if err != nil || !strings.Contains(string(record), `"succeeded"`) {
				return fmt.Errorf("%s: %s, %w", tick, record, err)
			}
		}
		return nil
	})
	out := adt(0, "cron", "check")
	for _, line := range []string{"all is well", "scale runs  *the last one that succeeded", "healthcheck runs  *the last one that succeeded", "reboot-if-done runs  *the last one that succeeded"} {
		if !regexp.MustCompile(line).MatchString(out) {
			t.Errorf("adt cron check lacks %q:\n%s", line, out)
		}
	}
	for mark, want := range map[string]bool{"mine": true, "beside": true, "original": false} {
		if _, err := os.Stat(filepath.Join(marks, mark)); (err == nil) != want {
			t.Errorf("%s has run: %v, want %v", mark, err == nil, want)
		}
	}
	if sent := mails(t, d.mail); len(sent) > 0 {
		t.Errorf("all was well, and cron mailed\n%s", strings.Join(sent, "\n"))
	}

	// The own crontab instead.
	adt(2, "cron", "install", "--user")
	adt(0, "cron", "uninstall")
	if text, err := os.ReadFile(filepath.Join(d.dir, table)); err != nil || strings.Contains(string(text), "adt ") || !strings.Contains(string(text), "MAILTO=ops\n") {
		t.Errorf("left is %s, %v", text, err)
	}
	adt(1, "cron", "check")
	begun := filepath.Join(s.home, "runtime", "runs", "scale.begun.json")
	adt(0, "cron", "install", "--user")
	last, err := os.ReadFile(begun) // a tick of the old lines may be under way until the next one
	if err != nil {
		t.Fatal(err)
	}
	await(t, "a tick from the own crontab", ticks(2), func() error {
		now, err := os.ReadFile(begun)
		if err == nil && string(now) == string(last) {
			err = errors.New("none has begun")
		}
		return err
	})
	adt(0, "cron", "check")
	adt(0, "cron", "uninstall", "--user")
	if own, _ := s.beside(t, d, "crontab", "-l"); strings.Contains(own, "adt scale") || !strings.Contains(own, "\n* * * * * touch") {
		t.Errorf("the crontab is\n%s", own)
	}
}
