package commands_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"adt/commands"
	"adt/events"
)

// audited is an installation whose machine has only the given files.
type audited struct {
	t     *testing.T
	home  string
	files fstest.MapFS
}

func newAudited(t *testing.T) *audited {
	home := t.TempDir()
	config := fast + "[firewall]\nvpc = [\"10.0.0.0/16\"]\n[audit_ssh]\nknown = [\"192.0.2.100\"]\n"
	if err := errors.Join(os.WriteFile(filepath.Join(home, "adt.toml"), []byte(config), 0o600), os.WriteFile(filepath.Join(home, "key"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	return &audited{t, home, fstest.MapFS{}}
}

func (a *audited) login(addresses ...string) {
	text := ""
	if f := a.files["var/log/auth.log"]; f != nil {
		text = string(f.Data)
	}
	for _, address := range addresses {
		text += "2026-11-25T08:00:00Z shop sshd[812]: Accepted publickey for agile from " + address + " port 51234 ssh2: ED25519 SHA256:abc\n"
	}
	a.files["var/log/auth.log"] = &fstest.MapFile{Data: []byte(text)}
}

func (a *audited) run(code int, args ...string) (stdout, stderr string) {
	a.t.Helper()
	var out, errs strings.Builder
	env := commands.System()
	env.Args, env.Stdout, env.Stderr, env.Root = append([]string{"adt", "audit-ssh"}, args...), &out, &errs, a.files
	env.Getenv = func(name string) string { return map[string]string{"HOME": a.home}[name] }
	if got := commands.Main(a.t.Context(), env); got != code {
		a.t.Fatalf("audit-ssh %v: exit code %d, want %d\n%s%s", args, got, code, &out, &errs)
	}
	return out.String(), errs.String()
}

func (a *audited) silent(args ...string) {
	a.t.Helper()
	if out, errs := a.run(0, args...); out+errs != "" {
		a.t.Errorf("not silent: %s%s", out, errs)
	}
}

func (a *audited) events(reason events.Reason) []events.Event {
	a.t.Helper()
	log, err := events.Open(filepath.Join(a.home, "logs", "events"))
	if err != nil {
		a.t.Fatal(err)
	}
	all, err := log.Read(events.Filter{Reasons: []events.Reason{reason}})
	if err != nil {
		a.t.Fatal(err)
	}
	return all
}

func TestAuditSSH(t *testing.T) {
	a := newAudited(t)
	a.login("192.0.2.1", "10.0.0.9", "192.0.2.2", "192.0.2.1")
	a.silent() // the first look tells of nobody
	if begun := a.events(events.SSHAuditBegun); len(begun) != 1 || begun[0].Text != "2 addresses logged in before: 192.0.2.1, 192.0.2.2" {
		t.Errorf("%+v", begun)
	}
	a.silent()
	a.login("192.0.2.2", "192.0.2.100", "10.0.3.4", "127.0.0.1")
	a.silent()

	a.login("203.0.113.5", "203.0.113.5", "2001:db8::7")
	out, _ := a.run(0, "--dry-run")
	const line = "agile logged in from 203.0.113.5 by publickey at 2026-11-25T08:00:00Z, an address that was never seen before\n"
	if !strings.HasPrefix(out, line) || strings.Count(out, "\n") != 2 {
		t.Errorf("--dry-run: %q", out)
	}
	out, _ = a.run(0, "--json", "--dry-run")
	var report struct {
		First bool
		New   []struct{ Address, User, How string }
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.First || len(report.New) != 2 || report.New[1].Address != "2001:db8::7" {
		t.Errorf("%v: %s", err, out)
	}
	if n := len(a.events(events.SSHLoginNew)); n != 0 {
		t.Errorf("--dry-run left %d events", n)
	}
	if out, _ = a.run(0); !strings.HasPrefix(out, line) {
		t.Errorf("%q", out)
	}
	a.silent()
	if all := a.events(events.SSHLoginNew); len(all) != 2 || all[0].Server != "203.0.113.5" || all[0].Level != events.Warn {
		t.Errorf("%+v", all)
	}
	trail, err := os.ReadFile(filepath.Join(a.home, "runtime/ssh-audit/audit_trail"))
	if err != nil || strings.Count(string(trail), "\n") != 4 || !strings.Contains(string(trail), "SSH connection first initiated at 2026-11-25T08:00:00Z from IP address 203.0.113.5 (agile, publickey)\n") {
		t.Errorf("%v: %s", err, trail)
	}
	// The record is lost: the trail tells who was there.
	if err := os.Remove(filepath.Join(a.home, "runtime/ssh-audit/seen.json")); err != nil {
		t.Fatal(err)
	}
	a.silent()
	a.login("192.0.2.7")
	if out, _ = a.run(0); !strings.Contains(out, "192.0.2.7") || strings.Count(out, "\n") != 1 {
		t.Errorf("%q", out)
	}
}

// Without any record the operator hears of it, once an hour.
func TestAuditWithoutRecords(t *testing.T) {
	a := newAudited(t)
	if _, stderr := a.run(1); !strings.Contains(stderr, "SSH_AUDIT_FAILED") || !strings.Contains(stderr, "apt install rsyslog") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("%q", stderr)
	}
	if _, stderr := a.run(1); stderr != "" {
		t.Errorf("mailed every minute: %q", stderr)
	}
	a.login("192.0.2.1")
	a.silent()
	if len(a.events(events.SSHAuditBegun)) != 1 {
		t.Error("what could be read at last was no first look")
	}
}
