package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh/knownhosts"

	"adt/provider/machinetest"
)

// typed runs adt with a standard input.
func (f *fleet) typed(input string, args ...string) result {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := f.Command(ctx, nil, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	_ = cmd.Run()
	return result{args: args, stdout: stdout.String(), stderr: stderr.String(), code: cmd.ProcessState.ExitCode()}
}

// TestAccess talks to Debian's own sshd through Debian's own ssh, and through adt
// run: only a machine that shows its pinned host key is talked to.
func TestAccess(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("ssh"); err != nil {
		text := "LEFT OUT: adt ssh: ssh is not installed (apt install openssh-client)"
		if slices.Contains(strings.Split(os.Getenv("ADT_REQUIRE"), ","), "sshd") {
			t.Fatal(text)
		}
		fmt.Fprintln(os.Stderr, text)
		t.Skip(text)
	}
	cloud := machinetest.New(t, machinetest.Options{})
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	f := newFleetAt(t, "local", nil)
	f.openAccount(cloud)
	f.account["ssh.port"], f.account["https.port"] = fmt.Sprint(machinetest.SSHPort), fmt.Sprint(machinetest.HTTPSPort)
	f.configure(settings{
		"autoscaler.user": fmt.Sprintf("%q", me.Username), "ssh.connect_timeout": `"20s"`,
		"healthcheck.deadline": `"30s"`, "scale.budget": `"50s"`, "provider.adopt": `false`,
	})
	f.Tick("scale", "--count", "2")
	f.Tick("scale")
	f.Tick("healthcheck")
	names := cloud.Names()
	if len(names) != 2 {
		t.Fatal(f.Story())
	}
	one, other := cloud.Machine(names[0]), cloud.Machine(names[1])

	// An agent, a configuration or another known_hosts file must not have a say.
	f.must(os.MkdirAll(f.path(".ssh"), 0o700))
	f.must(os.WriteFile(f.path(".ssh", "config"), []byte("Host *\n  Port 1\n  StrictHostKeyChecking no\n"), 0o600))
	if r := f.typed("pwd\n", "ssh", "webserver", one.Name); r.code != 0 || strings.TrimSpace(r.stdout) != one.Home {
		t.Errorf("%v", r)
	}
	if r := f.typed("exit 9\n", "ssh", "webserver", other.Name); r.code != 9 {
		t.Errorf("%v", r)
	}
	r := f.Run("run", "--all", "webserver", "--", "pwd")
	for _, m := range []*machinetest.Machine{one, other} {
		if !strings.Contains(r.stdout, m.Name+" | "+m.Home+"\n") {
			t.Errorf("%v", r)
		}
	}
	if r.code != 0 || !strings.Contains(r.stderr, "2 succeeded, 0 failed") {
		t.Errorf("%v", r)
	}

	// An impostor at the address gets no word.
	f.must(one.SSH(machinetest.OtherKey))
	mark := filepath.Join(one.Home, "been-here")
	if r := f.typed("touch been-here\n", "ssh", "webserver", one.Name); r.code != 255 || !strings.Contains(r.stderr, "Host key verification failed") {
		t.Errorf("%v", r)
	}
	r = f.Run("run", "--all", "--json", "webserver", "--", "touch", "been-here")
	var results []struct {
		Name, Error string
		OK          bool
	}
	f.must(json.Unmarshal([]byte(r.stdout), &results))
	for _, got := range results {
		if got.OK != (got.Name == other.Name) || got.Name == one.Name && !strings.Contains(got.Error, "host key not accepted") {
			t.Errorf("%v", r)
		}
	}
	if _, err := os.Stat(mark); err == nil || r.code != 1 || len(results) != 2 {
		t.Errorf("it was talked to: %v", r)
	}
}

// TestAccessToOthers: machines that adt has not built are talked to when the
// operator's known_hosts file has their key.
func TestAccessToOthers(t *testing.T) {
	t.Parallel()
	f := newFleetAt(t, "local", nil)
	for role, name := range map[string]string{"autoscaler": "NO-2-as-lon1-shop-x7Qp", "proxy": "rp-lon1-shop-x7Qp", "database": "db-lon1-shop-x7Qp"} {
		m := f.Foreign(name)
		f.must(os.Remove(f.path("runtime", "known_hosts"))) // of webservers alone
		pinned := f.path(".ssh", "known_hosts")
		if r := f.Run("run", role, "--", "pwd"); r.code != 1 || !strings.Contains(r.stderr, name+": it is not logged in to") || !strings.Contains(r.stderr, pinned) {
			t.Errorf("%v", r)
		}
		f.must(os.MkdirAll(f.path(".ssh"), 0o700))
		_, public := f.hostKey(name)
		f.must(os.WriteFile(pinned, []byte(knownhosts.Line([]string{knownhosts.Normalize(fmt.Sprintf("%s:2222", m.PrivateIP))}, public)+"\n"), 0o600))
		if r := f.Run("run", role, "--", "pwd"); r.code != 0 || !strings.HasSuffix(strings.TrimSpace(r.stdout), m.ID+"/home") {
			t.Errorf("%v", r)
		}
		f.Tick("run", "--public", role, "--", "pwd")
		if role == "autoscaler" {
			f.Tick("run", role, "2", "--", "pwd")
			if r := f.Run("run", role, "1", "--", "pwd"); r.code != 2 || !strings.Contains(r.stderr, "no autoscaler 1") {
				t.Errorf("%v", r)
			}
		}
		if r := f.typed("pwd\n", "ssh", role, name); r.code != 0 || !strings.HasSuffix(strings.TrimSpace(r.stdout), m.ID+"/home") {
			t.Errorf("%v", r)
		}
	}
}
