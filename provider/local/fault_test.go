package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"adt/provider"
)

func TestParseFault(t *testing.T) {
	for text, want := range map[string]Fault{
		"none":                         {},
		"":                             {},
		"http=500":                     {HTTP: "500"},
		"http=404, ssh=hang":           {HTTP: "404", SSH: "hang"},
		"slow=300ms":                   {HTTPSlow: 300 * time.Millisecond, SSHSlow: 300 * time.Millisecond},
		"http-slow=1s,blackhole":       {HTTPSlow: time.Second, Network: "blackhole"},
		"crash":                        {Machine: "crash"},
		"marker=missing,progress=old":  {Marker: "missing", Progress: "old"},
		"build=never,config=missing":   {Build: "never", Config: "missing"},
		"http=hang,ssh-slow=2s,freeze": {HTTP: "hang", SSHSlow: 2 * time.Second, Machine: "freeze"},
	} {
		if got, err := ParseFault(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"http=700", "http=1", "http", "slow=0", "slow=fast", "ssh=refuse,ssh=hang", "crash,freeze", "fire", "blackhole=1", ","} {
		if got, err := ParseFault(text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
	if _, err := ParseFault("fire"); !strings.Contains(err.Error(), "ssh=hang") || !strings.Contains(err.Error(), "slow=300ms") {
		t.Errorf("the error does not say what there is: %v", err)
	}
}

func TestFaultInTextAndJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pick := func(name string, values ...string) string { return rapid.SampledFrom(append(values, "")).Draw(t, name) }
		want := Fault{
			Network: pick("network", "blackhole", "refuse"), Machine: pick("machine", "crash", "freeze"),
			HTTP: pick("http", "hang", "refuse", "500", "301", "599"), SSH: pick("ssh", "dead", "hang", "refuse"),
			HTTPSlow: time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "http-slow")),
			SSHSlow:  time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "ssh-slow")),
			Marker:   pick("marker", "missing"), Config: pick("config", "missing"),
			Address: pick("address", "never"), Build: pick("build", "never"), Progress: pick("progress", "old"),
		}
		if got, err := ParseFault(want.String()); err != nil || got != want {
			t.Fatalf("%q: %+v, %v", want, got, err)
		}
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Fault
		if err := json.Unmarshal(text, &got); err != nil || got != want {
			t.Fatalf("%s: %+v, %v", text, got, err)
		}
	})
}

func TestParseAPIFault(t *testing.T) {
	for _, op := range Ops() {
		for _, kind := range apiFaultKinds() {
			want := APIFault{Kind: kind.name, Slow: time.Second, Times: 3}
			got, err := ParseAPIFault(op, want.String())
			if strings.Contains(join(kind.ops, " ")+" ", string(op)+" ") {
				if err != nil || got != want {
					t.Errorf("%s %s: %+v, %v", op, want, got, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), "unauthorized") {
				t.Errorf("%s %s: %v", op, want, err)
			}
		}
		if got, err := ParseAPIFault(op, "none"); err != nil || got != (APIFault{}) || got.String() != "none" {
			t.Errorf("none: %+v, %v", got, err)
		}
	}
	for _, text := range []string{"error,hang", "times=0", "times=2", "slow=-1s", "slow", "fire"} {
		if got, err := ParseAPIFault(OpList, text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
	if _, err := ParseAPIFault("reboot", "error"); err == nil || !strings.Contains(err.Error(), "remove-record") {
		t.Errorf("unknown call: %v", err)
	}
}

// breakServer sets a fault by its text form.
func (c *Cloud) breakServer(t *testing.T, id, text string) {
	t.Helper()
	fault, err := ParseFault(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetServerFault(t.Context(), id, fault); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

const moment = 400 * time.Millisecond // long enough to tell silence from an answer

func TestServerFaults(t *testing.T) {
	cloud := newCloud(t, Config{ApplicationConfig: "config.php"})
	server, v := cloud.start(t, "ws-lon-b1-1-anna-init-1", Built)
	address := server.PrivateIP

	timeout := func(err error) bool {
		var e net.Error
		return errors.As(err, &e) && e.Timeout()
	}
	dial := func(port int) error {
		conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(server.PublicIP, uint16(port)).String(), moment)
		if err == nil {
			conn.Close()
		}
		return err
	}
	inOrder := func(t *testing.T) {
		t.Helper()
		if got := v.run(t, address, "ls runtime | sort; ls *.php"); got !=
			"INITIAL_BUILD_WEBSERVER_ONLINE\nINITIAL_CONFIG_SET\nWEBSERVER_READY\ninstalledsoftware\nconfig.php\n" {
			t.Errorf("in order, but over SSH: %s", got)
		}
		if got := status(address, "/config.php"); got != "200" {
			t.Errorf("in order, but over HTTPS: %s", got)
		}
	}
	inOrder(t)
	sshWorks := func(t *testing.T) {
		t.Helper()
		if got := v.run(t, address, "echo on"); got != "on\n" {
			t.Errorf("SSH: %s", got)
		}
	}
	httpsWorks := func(t *testing.T) {
		t.Helper()
		if got := status(address, "/"); got != "200" {
			t.Errorf("HTTPS: %s", got)
		}
	}

	for text, check := range map[string]func(t *testing.T){
		"http=500": func(t *testing.T) {
			if got := status(address, "/"); got != "500" {
				t.Error(got)
			}
			sshWorks(t)
		},
		"http=401": func(t *testing.T) {
			response, err := get(address, http.MethodHead, "/", 5*time.Second)
			if err != nil || response.StatusCode != 401 || response.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%v, %v", response, err)
			}
		},
		"http=301": func(t *testing.T) {
			response, err := get(address, http.MethodHead, "/", 5*time.Second)
			if err != nil || response.StatusCode != 301 || response.Header.Get("Location") == "" {
				t.Errorf("%v, %v", response, err)
			}
		},
		"http=hang": func(t *testing.T) {
			if _, err := get(address, http.MethodHead, "/", moment); !timeout(err) {
				t.Error(err)
			}
			sshWorks(t)
		},
		"http=refuse": func(t *testing.T) {
			if err := dial(8443); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Error(err)
			}
			sshWorks(t)
		},
		"http-slow=1h": func(t *testing.T) {
			if _, err := get(address, http.MethodHead, "/", moment); !timeout(err) {
				t.Error(err)
			}
		},
		"slow=10ms": func(t *testing.T) {
			sshWorks(t)
			httpsWorks(t)
		},
		"ssh=dead": func(t *testing.T) {
			if _, err := v.login(address, 5*time.Second); err == nil || timeout(err) {
				t.Error(err)
			}
			httpsWorks(t)
		},
		"ssh=hang": func(t *testing.T) {
			if err := dial(2222); err != nil {
				t.Error(err)
			}
			if _, err := v.login(address, moment); !timeout(err) {
				t.Error(err)
			}
			httpsWorks(t)
		},
		"ssh-slow=1h": func(t *testing.T) {
			if _, err := v.login(address, moment); !timeout(err) {
				t.Error(err)
			}
		},
		"ssh=refuse": func(t *testing.T) {
			if err := dial(2222); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Error(err)
			}
			httpsWorks(t)
		},
		"refuse": func(t *testing.T) {
			for _, port := range []int{2222, 8443} {
				if err := dial(port); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("port %d: %v", port, err)
				}
			}
		},
		"blackhole": func(t *testing.T) {
			for _, port := range []int{2222, 8443} {
				if err := dial(port); !timeout(err) {
					t.Errorf("port %d: %v", port, err)
				}
			}
		},
		"freeze": func(t *testing.T) {
			if err := dial(2222); err != nil {
				t.Error(err)
			}
			if _, err := v.login(address, moment); !timeout(err) {
				t.Error(err)
			}
			if _, err := get(address, http.MethodHead, "/", moment); !timeout(err) {
				t.Error(err)
			}
		},
		"marker=missing": func(t *testing.T) {
			if got := v.run(t, address, "ls runtime/*ONLINE || touch runtime/AUTOSCALED_WEBSERVER_ONLINE"); strings.Contains(got, "\nruntime") {
				t.Error(got)
			}
			// Made under the fault, it is gone for the next visitor.
			if got := v.run(t, address, "ls runtime/*ONLINE"); !strings.Contains(got, "status 2") {
				t.Error(got)
			}
			httpsWorks(t)
		},
		"config=missing": func(t *testing.T) {
			if got := status(address, "/config.php"); got != "404" {
				t.Error(got)
			}
			httpsWorks(t)
		},
		"build=never": func(t *testing.T) {
			if got := v.run(t, address, "ls runtime/WEBSERVER_READY"); !strings.Contains(got, "status 2") {
				t.Error(got)
			}
		},
		"progress=old": func(t *testing.T) {
			if got := v.run(t, address, "find runtime/BUILD_IN_PROGRESS -mmin +60"); got != "runtime/BUILD_IN_PROGRESS\n" {
				t.Error(got)
			}
		},
	} {
		t.Run(text, func(t *testing.T) {
			cloud.breakServer(t, server.ID, text)
			check(t)
			if text == "marker=missing" {
				// Put back what the check itself has left.
				defer func() { v.run(t, address, "rm runtime/AUTOSCALED_WEBSERVER_ONLINE") }()
			}
			cloud.breakServer(t, server.ID, "none")
			if text != "marker=missing" {
				inOrder(t)
			}
		})
	}
	inOrder(t)

	t.Run("another fault in place of one", func(t *testing.T) {
		cloud.breakServer(t, server.ID, "blackhole")
		cloud.breakServer(t, server.ID, "http=refuse")
		sshWorks(t)
		cloud.breakServer(t, server.ID, "blackhole")
		cloud.breakServer(t, server.ID, "freeze")
		cloud.breakServer(t, server.ID, "none")
		inOrder(t)
	})
	t.Run("crash", func(t *testing.T) {
		cloud.breakServer(t, server.ID, "crash")
		if m := cloud.machine(t, server.ID); m.Alive || m.Fault.Machine != "crash" {
			t.Errorf("%+v", m)
		}
		if err := dial(2222); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Error(err)
		}
		cloud.breakServer(t, server.ID, "none") // has no effect, and is no error
	})
	t.Run("no such server", func(t *testing.T) {
		for _, id := range []string{"l-none", "../" + serversDir + "/" + server.ID, ""} {
			if err := cloud.SetServerFault(t.Context(), id, Fault{}); !errors.Is(err, provider.ErrNotFound) {
				t.Errorf("%q: %v", id, err)
			}
		}
	})
}

func TestServersCanBeHungForVisitorsWhoWait(t *testing.T) {
	cloud := newCloud(t, Config{})
	server, v := cloud.start(t, "ws-init-1", Built)
	cloud.breakServer(t, server.ID, "http=hang,ssh-slow=1h")
	answers := make(chan string, 2)
	go func() {
		_, err := get(server.PrivateIP, http.MethodHead, "/", time.Minute)
		answers <- fmt.Sprint("HTTPS ", err)
	}()
	go func() { answers <- "SSH " + v.run(t, server.PrivateIP, "echo on") }()
	cloud.breakServer(t, server.ID, "none")
	for range 2 {
		if answer := <-answers; strings.HasPrefix(answer, "SSH") && answer != "SSH on\n" {
			t.Error(answer) // who waits for SSH is let in when the fault ends
		}
	}
}

// Who orders a fault calls until it is in effect, and may call once more.
func TestAFaultOutlastsASecondCall(t *testing.T) {
	cloud := newCloud(t, Config{})
	server, _ := cloud.start(t, "ws-init-1", Built)
	cloud.breakServer(t, server.ID, "http-slow=1h")
	pid := cloud.machine(t, server.ID).PID
	answer := make(chan error, 1)
	go func() {
		_, err := get(server.PrivateIP, http.MethodHead, "/", 2*moment)
		answer <- err
	}()
	for {
		select {
		case err := <-answer:
			if e := net.Error(nil); !errors.As(err, &e) || !e.Timeout() {
				t.Errorf("a call cut the fault short: %v", err)
			}
			return
		case <-time.After(5 * time.Millisecond):
			if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestAPIFaults(t *testing.T) {
	cloud := newCloud(t, Config{Boot: time.Hour})
	ctx := t.Context()
	set := func(t *testing.T, op Op, text string) {
		t.Helper()
		fault, err := ParseAPIFault(op, text)
		if err != nil {
			t.Fatal(err)
		}
		if err := cloud.SetAPIFault(ctx, op, fault); err != nil {
			t.Fatal(err)
		}
	}
	var ids []string
	for i := range 4 {
		server, err := cloud.Create(ctx, provider.Spec{Name: fmt.Sprint("ws-", i)})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, server.ID)
		if err := cloud.AddRecord(ctx, "www.example.com", netip.AddrFrom4([4]byte{127, 128, 0, byte(i)}), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	names := func(t *testing.T) string {
		t.Helper()
		servers, err := cloud.List(ctx)
		if err != nil {
			return err.Error()
		}
		var names []string
		for _, s := range servers {
			names = append(names, strings.TrimPrefix(s.Name, "ws-"))
		}
		return strings.Join(names, " ")
	}
	calls := map[Op]func(ctx context.Context) error{
		OpList:    func(ctx context.Context) error { _, err := cloud.List(ctx); return err },
		OpCreate:  func(ctx context.Context) error { _, err := cloud.Create(ctx, provider.Spec{Name: "no"}); return err },
		OpDestroy: func(ctx context.Context) error { return cloud.Destroy(ctx, ids[0]) },
		OpRecords: func(ctx context.Context) error { _, err := cloud.Records(ctx, "www.example.com"); return err },
		OpAddRecord: func(ctx context.Context) error {
			return cloud.AddRecord(ctx, "a.b", netip.MustParseAddr("127.0.0.9"), 0)
		},
		OpRemoveRecord: func(ctx context.Context) error { return cloud.RemoveRecord(ctx, "r-none") },
	}
	for op, call := range calls {
		for text, want := range map[string]error{
			"error": provider.ErrTemporary, "unauthorized": provider.ErrUnauthorized,
			"rate-limited": provider.ErrRateLimited, "quota": provider.ErrQuota,
		} {
			set(t, op, text+",times=1")
			if err := call(ctx); !errors.Is(err, want) || !strings.HasPrefix(err.Error(), "local: ") {
				t.Errorf("%s %s: %v", op, text, err)
			}
		}
		set(t, op, "hang")
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		if err := call(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s hang: %v", op, err)
		}
		cancel()
		set(t, op, "none")
	}
	if got := names(t); got != "0 1 2 3" {
		t.Errorf("calls that failed did something: %s", got)
	}

	set(t, OpList, "stale")
	created, err := cloud.Create(ctx, provider.Spec{Name: "ws-4"})
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t); got != "0 1 2 3" {
		t.Errorf("stale: %s", got)
	}
	for text, want := range map[string]string{
		"partial": "0 1", "empty": "", "duplicate": "0 1 2 3 4 0 1 2 3 4", "slow=1ms": "0 1 2 3 4",
	} {
		if set(t, OpList, text); names(t) != want {
			t.Errorf("%s: %s, want %s", text, names(t), want)
		}
	}
	set(t, OpList, "none")
	set(t, OpRecords, "partial")
	if records, err := cloud.Records(ctx, "www.example.com"); err != nil || len(records) != 2 {
		t.Errorf("part of the records: %v, %v", records, err)
	}
	set(t, OpRecords, "none")

	set(t, OpDestroy, "lie")
	if err := cloud.Destroy(ctx, created.ID); err != nil || names(t) != "0 1 2 3 4" {
		t.Errorf("lie: %v, %s", err, names(t))
	}
	set(t, OpDestroy, "after,times=1")
	if err := cloud.Destroy(ctx, created.ID); !errors.Is(err, provider.ErrTemporary) || names(t) != "0 1 2 3" {
		t.Errorf("after: %v, %s", err, names(t))
	}
	set(t, OpCreate, "after,times=2")
	for range 2 {
		if s, err := cloud.Create(ctx, provider.Spec{Name: "ws-5"}); !errors.Is(err, provider.ErrTemporary) || s.ID == "" {
			t.Errorf("after: %+v, %v", s, err)
		}
	}
	if s, err := cloud.Create(ctx, provider.Spec{Name: "ws-6"}); err != nil || s.ID == "" {
		t.Errorf("when the times are used up: %v", err)
	}
	set(t, OpCreate, "after-lost")
	if s, err := cloud.Create(ctx, provider.Spec{Name: "ws-7"}); !errors.Is(err, provider.ErrTemporary) || s != (provider.Server{}) {
		t.Errorf("after-lost: %+v, %v", s, err)
	}
	if got := names(t); got != "0 1 2 3 5 5 6 7" {
		t.Errorf("made under faults: %s", got)
	}
	if err := cloud.SetAPIFault(ctx, OpList, APIFault{Kind: "lie"}); err == nil {
		t.Error("a listing was made to lie by a fault it does not have")
	}
}

func TestServerThatIsNeverReady(t *testing.T) {
	cloud := newCloud(t, Config{})
	if err := cloud.SetAPIFault(t.Context(), OpCreate, APIFault{Kind: "never-ready", Times: 1}); err != nil {
		t.Fatal(err)
	}
	server, v := cloud.start(t, "a", Booted)
	if got := v.run(t, server.PrivateIP, "ls runtime/WEBSERVER_READY"); !strings.Contains(got, "status 2") {
		t.Error(got)
	}
	cloud.breakServer(t, server.ID, "none")
	cloud.await(t, server.ID, Built)
}

func TestServerThatGetsNoAddress(t *testing.T) {
	cloud := newCloud(t, Config{})
	if err := cloud.SetAPIFault(t.Context(), OpCreate, APIFault{Kind: "never-addressed", Times: 2}); err != nil {
		t.Fatal(err)
	}
	first, err := cloud.Create(t.Context(), provider.Spec{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := cloud.Create(t.Context(), provider.Spec{Name: "b"})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "its process runs", func() bool { return cloud.machine(t, first.ID).PID != 0 })
	if m := cloud.machine(t, first.ID); !m.Alive || m.Phase != Starting || m.PublicIP.IsValid() {
		t.Errorf("%+v", m)
	}
	if err := cloud.Destroy(t.Context(), first.ID); err != nil {
		t.Error(err)
	}
	cloud.breakServer(t, second.ID, "none")
	if m := cloud.await(t, second.ID, Built); !m.Addressed() {
		t.Errorf("%+v", m)
	}
}

func TestOutage(t *testing.T) {
	cloud := newCloud(t, Config{Client: "1"})
	server, _ := cloud.start(t, "a", Built)
	other := cloud.another(t, func(c *Config) { c.Client = "2" })
	address := netip.AddrPortFrom(server.PrivateIP, 2222).String()
	for outage, want := range map[Outage]struct{ api, dial bool }{
		OutageAll: {}, OutageAPI: {dial: true}, OutageDial: {api: true}, OutageNone: {true, true},
	} {
		if err := cloud.SetOutage(t.Context(), "1", outage); err != nil {
			t.Fatal(err)
		}
		check := func(what string, c *Cloud, works bool, err error) {
			if works != (err == nil) {
				t.Errorf("outage %q: %s of client %s: %v", outage, what, c.config.Client, err)
			}
			if err != nil && (!errors.Is(err, provider.ErrTemporary) || !errors.Is(err, syscall.ENETUNREACH)) {
				t.Errorf("outage %q: %s: %v", outage, what, err)
			}
		}
		for _, c := range []*Cloud{cloud, other} {
			_, err := c.List(t.Context())
			check("listing", c, want.api || c == other, err)
			conn, err := c.DialContext(t.Context(), "tcp", address)
			check("dial", c, want.dial || c == other, err)
			if err == nil {
				conn.Close()
			}
		}
	}
	if err := cloud.SetOutage(t.Context(), "1", "weather"); err == nil {
		t.Error("an unknown outage was taken")
	}
}

func TestCallsAreCounted(t *testing.T) {
	cloud := newCloud(t, Config{Client: "1"})
	other := cloud.another(t, func(c *Config) { c.Client = "2" })
	for range 2 {
		if _, err := cloud.List(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := other.Records(t.Context(), "a.b"); err != nil {
		t.Fatal(err)
	}
	calls, err := cloud.Calls()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range calls {
		got = append(got, c.Client+" "+string(c.Op))
		if c.PID != os.Getpid() {
			t.Errorf("pid %d", c.PID)
		}
	}
	if fmt.Sprint(got) != "[1 list 1 list 2 records]" {
		t.Error(got)
	}
}

func TestLatencyEndsWithTheContext(t *testing.T) {
	cloud := newCloud(t, Config{Latency: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := cloud.List(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
