package logins_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/crypto/ssh"

	"adt/security/logins"
)

func now() time.Time { return time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC) }

// needs skips the test where a program is missing, and fails it where that is
// in $ADT_REQUIRE.
func needs(t *testing.T, program, pkg string) string {
	t.Helper()
	for _, path := range []string{program, "/usr/sbin/" + program, "/lib/systemd/" + program} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	text := fmt.Sprintf("LEFT OUT: real records of logins: %s is not installed (apt install %s)", program, pkg)
	if slices.Contains(strings.Split(os.Getenv("ADT_REQUIRE"), ","), program) {
		t.Fatal(text)
	}
	fmt.Fprintln(os.Stderr, text)
	t.Skip(text)
	return ""
}

// none is a machine without a journal.
func none(files fstest.MapFS) logins.Records {
	return logins.Records{Files: files, Journal: func(context.Context, ...string) (string, error) {
		return "", errors.New("there is no journal here")
	}}
}

func say(all []logins.Login) []string {
	var out []string
	for _, l := range all {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", l.Time.Format(time.RFC3339), l.From, l.User, l.How)))
	}
	return out
}

func want(t *testing.T, got []logins.Login, want ...string) {
	t.Helper()
	if !slices.Equal(say(got), want) {
		t.Errorf("got %q\nwant %q", say(got), want)
	}
}

func TestAuthLog(t *testing.T) {
	t.Setenv("TZ", "UTC")
	log := `2026-11-25T08:00:00.123456+01:00 shop sshd[812]: Accepted publickey for agile from 203.0.113.5 port 51234 ssh2: ED25519 SHA256:abc
Nov 25 09:00:00 shop sshd-session[99]: Accepted password for root from 2001:db8::5 port 22 ssh2
Dec  3 09:00:00 shop sshd[99]: Accepted keyboard-interactive/pam for old from ::ffff:192.0.2.1 port 22 ssh2
Nov 25 09:00:01 shop sshd[99]: Failed password for invalid user x from 192.0.2.66 port 22 ssh2
Nov 25 09:00:01 shop sshd[99]: Invalid user Nov 25 09:00:01 shop sshd[99]: Accepted password for root from 192.0.2.67 port 22 from 192.0.2.66 port 5
Nov 25 09:00:01 shop other[99]: Accepted password for root from 192.0.2.68 port 22 ssh2
Nov 25 09:00:01 shop sshd[99]: Accepted password for root from somewhere port 22 ssh2
Nov 25 09:00:02 shop sshd[99]: Accepted password for half from 192.0.2.70 po`
	files := fstest.MapFS{"var/log/auth.log": {Data: []byte(log)}}
	got, at, err := none(files).Read(t.Context(), now(), logins.Position{})
	if err != nil {
		t.Fatal(err)
	}
	want(t, got, "2025-12-03T09:00:00Z 192.0.2.1 old keyboard-interactive/pam", "2026-11-25T07:00:00Z 203.0.113.5 agile publickey", "2026-11-25T09:00:00Z 2001:db8::5 root password")

	// From there on: the half line is whole now, and nothing comes twice.
	files["var/log/auth.log"].Data = []byte(log + "rt 22 ssh2\n")
	got, at, err = none(files).Read(t.Context(), now(), at)
	if err != nil {
		t.Fatal(err)
	}
	want(t, got, "2026-11-25T09:00:02Z 192.0.2.70 half password")
	if got, _, err = none(files).Read(t.Context(), now(), at); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	// Cut short, it is another file.
	files["var/log/auth.log"].Data = []byte("Nov 25 10:00:00 shop sshd[1]: Accepted password for new from 192.0.2.71 port 22 ssh2\n")
	if got, _, err = none(files).Read(t.Context(), now(), at); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
}

// What came between the last look and the rotation is found in the old file.
func TestRotation(t *testing.T) {
	root := t.TempDir()
	folder := filepath.Join(root, "var/log")
	log := filepath.Join(folder, "auth.log")
	add := func(address string) {
		t.Helper()
		f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fmt.Fprintf(f, "2026-11-25T08:00:00Z shop sshd[812]: Accepted publickey for agile from %s port 51234 ssh2\n", address)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	records := logins.Records{Files: os.DirFS(root)}
	add("192.0.2.1")
	_, at, err := records.Read(t.Context(), now(), logins.Position{})
	if err != nil {
		t.Fatal(err)
	}
	add("192.0.2.2")
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	add("192.0.2.3")
	got, _, err := records.Read(t.Context(), now(), at)
	if err != nil || len(got) != 2 || got[0].From != netip.MustParseAddr("192.0.2.2") || got[1].From != netip.MustParseAddr("192.0.2.3") {
		t.Errorf("%v, %v", say(got), err)
	}
}

// wtmp, written by the system's own program.
func TestWtmp(t *testing.T) {
	needs(t, "utmpdump", "util-linux")
	text := `[2] [00000] [~~  ] [reboot  ] [~           ] [6.1.0-28-amd64      ] [0.0.0.0        ] [2026-11-25T06:00:00,000000+00:00]
[7] [01234] [ts/0] [agile   ] [pts/0       ] [203.0.113.5         ] [203.0.113.5    ] [2026-11-25T08:00:00,000000+00:00]
[8] [01234] [ts/0] [        ] [pts/0       ] [                    ] [0.0.0.0        ] [2026-11-25T08:30:00,000000+00:00]
[7] [01235] [tty1] [root    ] [tty1        ] [                    ] [0.0.0.0        ] [2026-11-25T08:10:00,000000+00:00]
[7] [01236] [ts/1] [root    ] [pts/1       ] [2001:db8::5         ] [2001:db8::5    ] [2026-11-25T08:20:00,000000+00:00]
[7] [01237] [ts/2] [root    ] [pts/2       ] [tmux(99).%0         ] [0.0.0.0        ] [2026-11-25T08:20:00,000000+00:00]
`
	cmd := exec.CommandContext(t.Context(), "utmpdump", "-r")
	cmd.Stdin = strings.NewReader(text)
	data, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{"var/log/wtmp": {Data: append(data, 1, 2, 3)}} // and half a record
	got, at, err := none(files).Read(t.Context(), now(), logins.Position{})
	if err != nil {
		t.Fatal(err)
	}
	want(t, got, "2026-11-25T08:00:00Z 203.0.113.5 agile", "2026-11-25T08:20:00Z 2001:db8::5 root")
	if at.Read["var/log/wtmp"] != int64(len(data)) {
		t.Errorf("read to %v of %d", at.Read, len(data))
	}
}

// A journal of the real journald's form, read by the real journalctl.
func TestJournal(t *testing.T) {
	needs(t, "journalctl", "systemd")
	remote := needs(t, "systemd-journal-remote", "systemd-journal-remote")
	root := t.TempDir()
	folder := filepath.Join(root, "var/log/journal/0123456789abcdef0123456789abcdef")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	var entries strings.Builder
	for i, e := range []struct{ identifier, uid, message string }{
		{"sshd", "0", "Accepted publickey for agile from 203.0.113.5 port 51234 ssh2: ED25519 SHA256:abc"},
		{"sshd-session", "0", "Accepted password for root from 2001:db8::5 port 22 ssh2"},
		{"sshd", "1000", "Accepted password for root from 192.0.2.66 port 22 ssh2"}, // logger -t sshd
		{"sshd", "0", "Failed password for root from 192.0.2.67 port 22 ssh2"},
		{"cron", "0", "Accepted password for root from 192.0.2.68 port 22 ssh2"},
	} {
		fmt.Fprintf(&entries, "__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=0123456789abcdef0123456789abcdef\n_UID=%s\nSYSLOG_IDENTIFIER=%s\nMESSAGE=%s\n\n",
			now().Add(time.Duration(i-10)*time.Minute).UnixMicro(), i+1, e.uid, e.identifier, e.message)
	}
	cmd := exec.CommandContext(t.Context(), remote, "-o", filepath.Join(folder, "system.journal"), "-")
	cmd.Stdin = strings.NewReader(entries.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	records := logins.Records{Files: os.DirFS(root), Journal: logins.Journalctl("-D", folder)}
	got, at, err := records.Read(t.Context(), now(), logins.Position{})
	if err != nil {
		t.Fatal(err)
	}
	want(t, got, "2026-11-25T11:50:00Z 203.0.113.5 agile publickey", "2026-11-25T11:51:00Z 2001:db8::5 root password")
	// The next look overlaps a little; much later there is nothing more.
	if got, at, err = records.Read(t.Context(), now().Add(time.Hour), at); err != nil || len(got) != 2 {
		t.Errorf("%v, %v", say(got), err)
	}
	if got, _, err = records.Read(t.Context(), now().Add(2*time.Hour), at); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", say(got), err)
	}
}

func TestNoRecords(t *testing.T) {
	_, _, err := none(fstest.MapFS{}).Read(t.Context(), now(), logins.Position{})
	if !errors.Is(err, logins.ErrNone) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
}

// What cannot be read is said, the rest is read, and nothing is passed over.
func TestFaultyJournal(t *testing.T) {
	files := fstest.MapFS{
		"var/log/journal/x/system.journal": {}, "var/log/auth.log": {Data: []byte("2026-11-25T08:00:00Z shop sshd[812]: Accepted publickey for agile from 192.0.2.1 port 1 ssh2\n")},
	}
	last := logins.Position{Looked: now().Add(-time.Hour)}
	got, at, err := none(files).Read(t.Context(), now(), last)
	if err == nil || !strings.Contains(err.Error(), "no journal here") || len(got) != 1 || !at.Looked.Equal(last.Looked) {
		t.Errorf("%v, %v, %+v", err, say(got), at)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("Nov 25 09:00:00 shop sshd[99]: Accepted password for root from 2001:db8::5 port 22 ssh2\n"))
	f.Add(append([]byte{7, 0}, make([]byte, 400)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		files := fstest.MapFS{"var/log/auth.log": {Data: data}, "var/log/wtmp": {Data: data}}
		got, at, err := none(files).Read(t.Context(), now(), logins.Position{})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range got {
			if !l.From.IsValid() || strings.ContainsAny(l.How, "\n") {
				t.Errorf("%+v", l)
			}
		}
		if again, _, err := none(files).Read(t.Context(), now(), at); err != nil || len(again) != 0 {
			t.Errorf("twice: %v, %v", again, err)
		}
	})
}

// What the real sshd says of a login is understood.
func TestRealSSHD(t *testing.T) {
	sshd := needs(t, "sshd", "openssh-server")
	if os.Geteuid() == 0 { // sshd insists on it; Debian makes it when the service starts
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	folder := t.TempDir()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	in := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // to find a port
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	config := in("sshd_config", fmt.Sprintf("ListenAddress %s\nHostKey %s\nAuthorizedKeysFile %s\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\n",
		address, in("key", string(pem.EncodeToMemory(block))), in("authorized", string(ssh.MarshalAuthorizedKey(signer.PublicKey())))))
	log, err := os.Create(filepath.Join(folder, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(sshd, "-D", "-e", "-f", config)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); log.Close() })
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		client, err := ssh.Dial("tcp", address, &ssh.ClientConfig{User: me.Username, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(signer.PublicKey()), Timeout: 30 * time.Second})
		if err == nil {
			client.Close()
			break
		}
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(log.Name())
			t.Fatalf("%v\n%s", err, said)
		}
	}
	said, err := os.ReadFile(log.Name())
	if err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for line := range strings.Lines(string(said)) { // as syslog would write them
		fmt.Fprintf(&lines, "2026-11-25T08:00:00Z shop sshd[1]: %s\n", strings.TrimSpace(line))
	}
	got, _, err := none(fstest.MapFS{"var/log/auth.log": {Data: []byte(lines.String())}}).Read(t.Context(), now(), logins.Position{})
	if err != nil {
		t.Fatal(err)
	}
	want(t, got, "2026-11-25T08:00:00Z 127.0.0.1 "+me.Username+" publickey")
}
