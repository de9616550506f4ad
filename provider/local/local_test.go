package local

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"adt/cloudinit"
	"adt/provider"
)

// TestMain lets the test binary be what the tests start: a server, or a client
// that dies at a step.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "local-server" {
		exitWith(Serve(context.Background(), os.Args[2]))
	}
	if len(os.Args) == 3 && os.Args[1] == "mortal-client" {
		exitWith(mortalClient(os.Args[2]))
	}
	os.Exit(m.Run())
}

func exitWith(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// newCloud opens a cloud of its own, which is gone at the end of the test.
func newCloud(t *testing.T, config Config) *Cloud {
	t.Helper()
	if config.Dir == "" {
		config.Dir = filepath.Join(t.TempDir(), "cloud")
	}
	cloud, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			logs, _ := filepath.Glob(cloud.server("*", logFile))
			for _, path := range logs {
				if text, _ := os.ReadFile(path); len(text) > 0 {
					t.Logf("%s:\n%s", path, text)
				}
			}
		}
		if err := cloud.Clean(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return cloud
}

// another opens the same cloud again, as a client with that name.
func (c *Cloud) another(t *testing.T, change func(*Config)) *Cloud {
	t.Helper()
	config := c.config
	change(&config)
	cloud, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	return cloud
}

// eventually waits for something that has to come about.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := every(ctx, 5*time.Millisecond, func() (bool, error) { return happened(), nil }); err != nil {
		t.Fatalf("never: %s", what)
	}
}

// visitor is somebody with a key to the servers that were made for it.
type visitor struct {
	signer   ssh.Signer
	hostKey  ssh.PublicKey
	userData []byte
}

func newVisitor(t *testing.T, hostname string) visitor {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	hostPrivate, hostPublic, err := cloudinit.NewHostKey([]byte("a seed for the tests alone"), hostname)
	if err != nil {
		t.Fatal(err)
	}
	userData, err := cloudinit.Render(cloudinit.Webserver{
		Hostname: hostname, User: "anna",
		AuthorizedKeys: []string{string(ssh.MarshalAuthorizedKey(signer.PublicKey()))},
		HostKeyPrivate: hostPrivate, HostKeyPublic: string(ssh.MarshalAuthorizedKey(hostPublic)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return visitor{signer, hostPublic, userData}
}

func (v visitor) config(timeout time.Duration) *ssh.ClientConfig {
	return &ssh.ClientConfig{
		User: "anna", Auth: []ssh.AuthMethod{ssh.PublicKeys(v.signer)},
		HostKeyCallback: ssh.FixedHostKey(v.hostKey), Timeout: timeout,
	}
}

// login dials with a deadline for the whole of the handshake.
func (v visitor) login(address netip.Addr, timeout time.Duration) (*ssh.Client, error) {
	target := netip.AddrPortFrom(address, 2222).String()
	conn, err := net.DialTimeout("tcp", target, timeout)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(timeout))
	c, chans, reqs, err := ssh.NewClientConn(conn, target, v.config(timeout))
	if err != nil {
		conn.Close()
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	return ssh.NewClient(c, chans, reqs), nil
}

// run runs a command and returns what it printed, with errors in the text.
func (v visitor) run(t *testing.T, address netip.Addr, command string) string {
	t.Helper()
	client, err := v.login(address, 10*time.Second)
	if err != nil {
		return "login: " + err.Error()
	}
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		return "session: " + err.Error()
	}
	out, err := session.CombinedOutput(command)
	if err != nil {
		return string(out) + err.Error()
	}
	return string(out)
}

// machine returns what the server really is.
func (c *Cloud) machine(t *testing.T, id string) Machine {
	t.Helper()
	machines, err := c.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range machines {
		if m.ID == id {
			return m
		}
	}
	t.Fatalf("no machine %s", id)
	panic("unreachable")
}

// start creates a server and waits until it has come that far.
func (c *Cloud) start(t *testing.T, name string, phase Phase) (Machine, visitor) {
	t.Helper()
	v := newVisitor(t, name)
	server, err := c.Create(t.Context(), provider.Spec{Name: name, UserData: v.userData})
	if err != nil {
		t.Fatal(err)
	}
	return c.await(t, server.ID, phase), v
}

func (c *Cloud) await(t *testing.T, id string, phase Phase) (m Machine) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s is %s", id, phase), func() bool {
		m = c.machine(t, id)
		return m.Phase == phase
	})
	return m
}

// get asks the server for a page, in one connection of its own.
func get(address netip.Addr, method, path string, timeout time.Duration) (*http.Response, error) {
	client := http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // self-signed
			DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequest(method, fmt.Sprintf("https://%s%s", netip.AddrPortFrom(address, 8443), path), nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	return response, response.Body.Close()
}

// status is the answer to a HEAD of the page, or the error as text.
func status(address netip.Addr, path string) string {
	response, err := get(address, http.MethodHead, path, 5*time.Second)
	if err != nil {
		return err.Error()
	}
	return response.Status[:3]
}

func TestServerComesUp(t *testing.T) {
	cloud := newCloud(t, Config{ApplicationConfig: "public/wp-config.php"})
	server, v := cloud.start(t, "ws-lon-b1-1-anna-x9Kd", Built)

	if !server.Alive || !server.Addressed() {
		t.Fatalf("built, but %+v", server)
	}
	private, public := server.PrivateIP.As4(), server.PublicIP.As4()
	if private[0] != 127 || private[1] < 64 || private[1] >= 128 || public[1] != private[1]+64 || [2]byte(public[2:]) != [2]byte(private[2:]) {
		t.Errorf("private %s, public %s", server.PrivateIP, server.PublicIP)
	}
	for _, address := range []netip.Addr{server.PrivateIP, server.PublicIP} {
		if got := v.run(t, address, "ls runtime/WEBSERVER_READY runtime/installedsoftware/*"); got !=
			"runtime/WEBSERVER_READY\nruntime/installedsoftware/InstallApplicationLanguage.sh\n" {
			t.Errorf("on %s: %s", address, got)
		}
		if got := status(address, "/index.html"); got != "503" {
			t.Errorf("before it is configured: %s", got)
		}
	}
	if got := v.run(t, server.PrivateIP, "ls runtime/INITIAL_CONFIG_SET"); !strings.Contains(got, "status 2") {
		t.Errorf("configured unasked: %s", got)
	}
	if got := v.run(t, server.PrivateIP, "sudo sh "+configureScript+" && sh "+restartScript); got != "" {
		t.Errorf("configure: %s", got)
	}
	if got := v.run(t, server.PrivateIP, "cd runtime && ls INITIAL_CONFIG_SET *ONLINE && ls ../public"); got !=
		"AUTOSCALED_WEBSERVER_ONLINE\nINITIAL_CONFIG_SET\nwp-config.php\n" {
		t.Errorf("configured: %s", got)
	}
	for path, want := range map[string]string{"/index.html": "200", "/": "200", "/public/wp-config.php": "200", "/other": "404"} {
		if got := status(server.PublicIP, path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	response, err := get(server.PublicIP, http.MethodGet, "/", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if got := response.Header.Get("X-Served-By"); got != server.Name {
		t.Errorf("X-Served-By: %q", got)
	}
	certificate := response.TLS.PeerCertificates[0]
	if err := errors.Join(certificate.VerifyHostname(server.Name), certificate.VerifyHostname(server.PrivateIP.String()),
		certificate.VerifyHostname(server.PublicIP.String())); err != nil {
		t.Error(err)
	}
}

func TestInitialServerConfiguresItself(t *testing.T) {
	cloud := newCloud(t, Config{})
	server, v := cloud.start(t, "ws-lon-b1-1-anna-init-2", Built)
	if got := v.run(t, server.PrivateIP, "cd runtime && ls *SET *ONLINE"); got != "INITIAL_BUILD_WEBSERVER_ONLINE\nINITIAL_CONFIG_SET\n" {
		t.Error(got)
	}
	if got := status(server.PrivateIP, "/index.html"); got != "200" {
		t.Error(got)
	}
}

func TestServerRefusesBeforeItHasBooted(t *testing.T) {
	cloud := newCloud(t, Config{Boot: time.Hour})
	server, v := cloud.start(t, "a", Addressed)
	if _, err := v.login(server.PrivateIP, 5*time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("SSH: %v", err)
	}
	if _, err := get(server.PublicIP, "HEAD", "/", 5*time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("HTTPS: %v", err)
	}
}

func TestServerAnswersBeforeItIsBuilt(t *testing.T) {
	cloud := newCloud(t, Config{Build: time.Hour})
	server, v := cloud.start(t, "a", Booted)
	if got := v.run(t, server.PrivateIP, "ls runtime"); !strings.Contains(got, "status 2") {
		t.Errorf("a runtime directory before the build: %s", got)
	}
}

func TestSSH(t *testing.T) {
	cloud := newCloud(t, Config{})
	server, v := cloud.start(t, "a", Built)
	client, err := v.login(server.PrivateIP, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	run := func(command, input string) (stdout, stderr string, err error) {
		session, err := client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		var out, errOut bytes.Buffer
		session.Stdin, session.Stdout, session.Stderr = strings.NewReader(input), &out, &errOut
		err = session.Run(command)
		return out.String(), errOut.String(), err
	}
	stdout, stderr, err := run("cat; echo oops >&2; exit 7", "hello\n")
	var exit *ssh.ExitError
	if stdout != "hello\n" || stderr != "oops\n" || !errors.As(err, &exit) || exit.ExitStatus() != 7 {
		t.Errorf("%q, %q, %v", stdout, stderr, err)
	}
	stdout, _, err = run(`echo "$USER"; [ "$HOME" = "$(pwd -P)" ] && echo home`, "")
	if stdout != "anna\nhome\n" || err != nil {
		t.Errorf("%q, %v", stdout, err)
	}
	if stdout, _, err = run("sudo -S -p '' -- sh -c 'cat; echo as root'", "secret\nrest\n"); stdout != "rest\nas root\n" || err != nil {
		t.Errorf("sudo: %q, %v", stdout, err)
	}
	if stdout, _, err = run("head -c 3000000 /dev/zero; sleep 1000 &", ""); len(stdout) != 3000000 || err != nil {
		t.Errorf("%d bytes with a process in the background, %v", len(stdout), err)
	}
	if _, _, err = run("kill -KILL $$", ""); !errors.As(err, &exit) || exit.ExitStatus() != 137 {
		t.Errorf("killed: %v", err)
	}
	if stdout, _, err = run("", "echo typed\n"); err != nil || stdout != "typed\n" {
		t.Errorf("a shell: %q, %v", stdout, err)
	}

	stranger := newVisitor(t, "a")
	if _, err := stranger.login(server.PrivateIP, 10*time.Second); err == nil || !strings.Contains(err.Error(), "unable to authenticate") {
		t.Errorf("another key: %v", err)
	}
	other := v.config(10 * time.Second)
	other.User = "root"
	if _, err := ssh.Dial("tcp", netip.AddrPortFrom(server.PrivateIP, 2222).String(), other); err == nil {
		t.Error("another user was let in")
	}
	v.hostKey = newVisitor(t, "b").hostKey
	if _, err := v.login(server.PrivateIP, 10*time.Second); err == nil || !strings.Contains(err.Error(), "host key mismatch") {
		t.Errorf("another host key: %v", err)
	}
}

func TestSSHEndsWhatAVisitorLeftRunning(t *testing.T) {
	cloud := newCloud(t, Config{})
	server, v := cloud.start(t, "a", Built)
	client, err := v.login(server.PrivateIP, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Start("sleep 1000 & echo $!; wait"); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	client.Close()
	eventually(t, "the process of a closed session ends", func() bool { return !running(pid) })
}

// running tells a living process from none and from one not yet reaped.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(stat[bytes.LastIndexByte(stat, ')'):], []byte(") Z"))
}

func TestServerWithoutUserDataLetsNobodyIn(t *testing.T) {
	cloud := newCloud(t, Config{})
	v := newVisitor(t, "a")
	server, err := cloud.Create(t.Context(), provider.Spec{Name: "a", UserData: []byte("#!/bin/sh\n")})
	if err != nil {
		t.Fatal(err)
	}
	m := cloud.await(t, server.ID, Built)
	config := v.config(10 * time.Second)
	config.HostKeyCallback = ssh.InsecureIgnoreHostKey()
	for _, user := range []string{"anna", ""} {
		config.User = user
		if _, err := ssh.Dial("tcp", netip.AddrPortFrom(m.PrivateIP, 2222).String(), config); err == nil {
			t.Errorf("user %q was let in", user)
		}
	}
}

func TestServerPowersOff(t *testing.T) {
	cloud := newCloud(t, Config{})
	server, v := cloud.start(t, "a", Built)
	if got := v.run(t, server.PrivateIP, "sudo sh "+shutdownScript); got != "" {
		t.Errorf("shut down: %s", got)
	}
	cloud.await(t, server.ID, Off)
	eventually(t, "the machine is off", func() bool { return !cloud.machine(t, server.ID).Alive })
	servers, err := cloud.List(t.Context())
	if err != nil || len(servers) != 1 {
		t.Errorf("listed %v, %v; a machine that is off is still there", servers, err)
	}
	if m := cloud.machine(t, server.ID); m.Alive {
		t.Error("the listing has switched it on again")
	}
	if err := cloud.Destroy(t.Context(), server.ID); err != nil {
		t.Error(err)
	}
}

func TestCrashedServerStaysListed(t *testing.T) {
	cloud := newCloud(t, Config{})
	server, _ := cloud.start(t, "a", Built)
	if err := syscall.Kill(server.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the machine is dead", func() bool { return !cloud.machine(t, server.ID).Alive })
	for range 2 {
		servers, err := cloud.List(t.Context())
		if err != nil || len(servers) != 1 || servers[0].PublicIP != server.PublicIP {
			t.Errorf("listed %v, %v", servers, err)
		}
	}
	if m := cloud.machine(t, server.ID); m.Alive || m.PID != server.PID {
		t.Errorf("restarted: %+v", m)
	}
	if err := cloud.Destroy(t.Context(), server.ID); err != nil {
		t.Error(err)
	}
	if err := cloud.Destroy(t.Context(), server.ID); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("destroyed twice: %v", err)
	}
}

func TestServerEndsWithItsDirectory(t *testing.T) {
	cloud := newCloud(t, Config{})
	server, _ := cloud.start(t, "a", Built)
	if err := os.RemoveAll(cloud.server(server.ID)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process ends", func() bool { return !running(server.PID) })
}

func TestServeRefusesToBeASecond(t *testing.T) {
	cloud := newCloud(t, Config{})
	server, _ := cloud.start(t, "a", Built)
	if err := Serve(t.Context(), cloud.server(server.ID)); err == nil {
		t.Error("a server was started twice")
	}
}

// An order of the mortal client, given as its argument.
type order struct {
	Dir, Step, Name, Destroy string
	Publish                  bool
}

// mortalClient does what it is ordered to, and dies by SIGKILL at the step.
func mortalClient(text string) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	cloud, err := Open(Config{Dir: o.Dir, Client: "mortal"})
	if err != nil {
		return err
	}
	cloud.at = func(step string) {
		if step == o.Step {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	switch {
	case o.Publish:
		return cloud.AddRecord(context.Background(), "www.example.com", netip.MustParseAddr("127.130.1.1"), time.Minute)
	case o.Destroy != "":
		return cloud.Destroy(context.Background(), o.Destroy)
	}
	_, err = cloud.Create(context.Background(), provider.Spec{Name: o.Name})
	return err
}

// die runs a mortal client and checks that it was killed, if it was to be.
func die(t *testing.T, o order) {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program, "mortal-client", string(text)).CombinedOutput()
	var exit *exec.ExitError
	killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	if killed != (o.Step != "") {
		t.Fatalf("client %s: %v\n%s", text, err, out)
	}
}

func (c *Cloud) audited(t *testing.T) (ops []string) {
	t.Helper()
	entries, err := c.Audit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		ops = append(ops, e.Op+" "+e.Name)
	}
	return ops
}

func TestClientKilledWhileCreating(t *testing.T) {
	for _, step := range []string{"intended", "changed", "logged", "furnished", "powered", ""} {
		t.Run("at "+step, func(t *testing.T) {
			t.Parallel()
			cloud := newCloud(t, Config{})
			die(t, order{Dir: cloud.config.Dir, Step: step, Name: "a"})

			servers, err := cloud.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if step == "intended" {
				if ops := cloud.audited(t); len(servers) != 0 || len(ops) != 0 {
					t.Errorf("nothing was made, but there are %v and %v", servers, ops)
				}
				if left, _ := os.ReadDir(cloud.path(serversDir)); len(left) != 0 {
					t.Errorf("left over: %v", left)
				}
				return
			}
			if len(servers) != 1 || servers[0].Name != "a" {
				t.Fatalf("listed: %v", servers)
			}
			if m := cloud.await(t, servers[0].ID, Built); !m.Alive {
				t.Errorf("built and not alive: %+v", m)
			}
			if ops := cloud.audited(t); fmt.Sprint(ops) != "[create a]" {
				t.Errorf("audit: %q", ops)
			}
			if _, err := os.Stat(cloud.path(pendingFile)); err == nil {
				t.Error("a pending change is left")
			}
		})
	}
}

func TestClientKilledWhileDestroying(t *testing.T) {
	for _, step := range []string{"killed", "intended", "changed", "logged", "gone", ""} {
		t.Run("at "+step, func(t *testing.T) {
			t.Parallel()
			cloud := newCloud(t, Config{})
			server, _ := cloud.start(t, "a", Built)
			die(t, order{Dir: cloud.config.Dir, Step: step, Destroy: server.ID})

			servers, err := cloud.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if step == "killed" || step == "intended" {
				// The machine is dead and still there.
				if len(servers) != 1 || cloud.machine(t, server.ID).Alive {
					t.Errorf("listed: %v", servers)
				}
				if err := cloud.Destroy(t.Context(), server.ID); err != nil {
					t.Error(err)
				}
			} else if len(servers) != 0 {
				t.Errorf("listed: %v", servers)
			}
			if ops := cloud.audited(t); fmt.Sprint(ops) != "[create a destroy a]" {
				t.Errorf("audit: %q", ops)
			}
			if left, _ := os.ReadDir(cloud.path(serversDir)); len(left) != 0 {
				t.Errorf("left over: %v", left)
			}
			if running(server.PID) {
				t.Error("the process is left")
			}
		})
	}
}

func TestClientKilledWhilePublishing(t *testing.T) {
	for step, want := range map[string]string{
		"intended": "[]", "changed": "[record-add www.example.com]", "logged": "[record-add www.example.com]",
	} {
		t.Run("at "+step, func(t *testing.T) {
			t.Parallel()
			cloud := newCloud(t, Config{})
			die(t, order{Dir: cloud.config.Dir, Step: step, Publish: true})
			records, err := cloud.Records(t.Context(), "www.example.com")
			if err != nil || len(records) != strings.Count(want, "www") {
				t.Errorf("records %v, %v", records, err)
			}
			if ops := cloud.audited(t); fmt.Sprint(ops) != want {
				t.Errorf("audit: %q, want %s", ops, want)
			}
		})
	}
}

func TestManyClientsAtOnce(t *testing.T) {
	cloud := newCloud(t, Config{Boot: time.Hour})
	const each, clients = 5, 4
	errs := make(chan error, each*clients)
	for k := range clients {
		client := cloud.another(t, func(c *Config) { c.Client = fmt.Sprint(k) })
		for i := range each {
			go func() {
				_, err := client.Create(t.Context(), provider.Spec{Name: fmt.Sprintf("ws-%d-%d", k, i)})
				errs <- err
			}()
		}
	}
	for range each * clients {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	var servers []provider.Server
	eventually(t, "all have addresses", func() bool {
		var err error
		if servers, err = cloud.List(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, s := range servers {
			if !s.Addressed() {
				return false
			}
		}
		return len(servers) == each*clients
	})
	seen := map[any]bool{}
	for _, s := range servers {
		for _, key := range []any{s.ID, s.Name, s.PrivateIP, s.PublicIP} {
			if seen[key] {
				t.Errorf("twice: %v", key)
			}
			seen[key] = true
		}
	}
	if ops := cloud.audited(t); len(ops) != each*clients {
		t.Errorf("audit: %q", ops)
	}
}

func TestCleanLeavesNothing(t *testing.T) {
	cloud := newCloud(t, Config{})
	server, v := cloud.start(t, "a", Built)
	frozen, _ := cloud.start(t, "b", Built)
	if err := cloud.SetServerFault(t.Context(), frozen.ID, Fault{Machine: "freeze"}); err != nil {
		t.Fatal(err)
	}
	// Something that was started on a machine and has left its process group.
	client, err := v.login(server.PrivateIP, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Start("set -m; sleep 1000 & echo $!; wait"); err != nil {
		t.Fatal(err)
	}
	var child int
	if _, err := fmt.Fscan(out, &child); err != nil {
		t.Fatal(err)
	}
	// And one whose client is only just making it.
	if err := os.MkdirAll(cloud.server(makingPrefix+"l-x", homeDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := cloud.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all processes are gone", func() bool {
		return !running(server.PID) && !running(frozen.PID) && !running(child)
	})
	if _, err := os.Stat(cloud.config.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
	if _, err := cloud.List(t.Context()); err == nil {
		t.Error("a cloud that is gone can be listed")
	}
}

func TestOnlyACloudIsCleaned(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	if err := os.MkdirAll(filepath.Join(dir, "servers"), 0o700); err != nil {
		t.Fatal(err)
	}
	precious := filepath.Join(dir, "thesis.txt")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "thesis.txt") {
		t.Errorf("opened: %v", err)
	}
	cloud := &Cloud{config: Config{Dir: dir}, at: func(string) {}}
	if err := cloud.Clean(t.Context()); err == nil || !strings.Contains(err.Error(), "thesis.txt") {
		t.Errorf("cleaned: %v", err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}

func TestToken(t *testing.T) {
	cloud := newCloud(t, Config{})
	if err := os.WriteFile(cloud.path(tokenFile), []byte("secret-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cloud.List(t.Context()); !errors.Is(err, provider.ErrUnauthorized) || strings.Contains(err.Error(), "secret-1") {
		t.Errorf("without a token: %v", err)
	}
	if _, err := cloud.another(t, func(c *Config) { c.Token = "secret-1" }).List(t.Context()); err != nil {
		t.Errorf("with the token: %v", err)
	}
}

func TestAuditNamesTheRecordThatWasRemoved(t *testing.T) {
	cloud := newCloud(t, Config{})
	ctx := t.Context()
	for _, address := range []string{"127.128.0.1", "127.128.0.2", "127.128.0.3"} {
		if err := cloud.AddRecord(ctx, "www.example.com", netip.MustParseAddr(address), time.Second); err != nil {
			t.Fatal(err)
		}
	}
	records, err := cloud.AllRecords()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := cloud.RemoveRecord(ctx, r.ID); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := cloud.Audit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range entries[3:] {
		if e.Op != RecordRemoved || e.ID != records[i].ID || e.Address != records[i].Address {
			t.Errorf("%+v, want the removal of %+v", e, records[i])
		}
	}
}
