package proxy_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"adt/proxy"
	"adt/remote"
	"adt/remote/remotetest"
)

// bench is a machine with a shell, on which the generated file lies in its home.
type bench struct {
	t      testing.TB
	server *remotetest.Server
	dialer *remote.Dialer
	proxy.Settings
}

// newBench is one whose test refuses a file with the word poison, and whose
// reload keeps what was loaded.
func newBench(t testing.TB, kind proxy.Kind) *bench {
	t.Helper()
	s := remotetest.Serve(t)
	return &bench{t: t, server: s, dialer: s.Dialer(t), Settings: proxy.Settings{
		Kind: kind, Upstream: "adt-shop", File: "conf/shop.conf", Port: 443,
		TestCommand:   "if grep -q poison conf/shop.conf; then echo warming up; echo '[emerg] poison in shop.conf'; false; fi",
		ReloadCommand: "[ ! -e jammed ] || { echo the reload failed; exit 1; }; cp conf/shop.conf loaded; echo x >>reloads",
		AddCommand:    "sh add.sh", RemoveCommand: "sh remove.sh",
	}}
}

func (b *bench) conn() *remote.Conn {
	b.t.Helper()
	conn, err := b.dialer.Dial(b.t.Context(), b.server.Addr)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	return conn
}

func (b *bench) apply(c proxy.Change) proxy.Reply {
	b.t.Helper()
	r, err := b.Apply(b.t.Context(), b.conn(), []byte("the password\n"), c)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *bench) read(name string) string {
	data, err := os.ReadFile(filepath.Join(b.server.Home, name))
	if err != nil {
		return ""
	}
	return string(data)
}

func (b *bench) write(name, text string) {
	b.t.Helper()
	path := filepath.Join(b.server.Home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) wants(what string, got, want proxy.Reply) {
	b.t.Helper()
	if got.Outcome != want.Outcome || got.Total != want.Total || got.Said != want.Said {
		b.t.Errorf("%s: %+v, want %+v", what, got, want)
	}
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

func TestText(t *testing.T) {
	odd := append(addrs("10.0.0.10", "10.0.0.1", "10.0.0.10", "::ffff:10.0.0.2", "0.0.0.0", "224.0.0.1"),
		netip.MustParseAddr("fe80::1").WithZone("eth0; evil"), netip.Addr{})
	for kind, want := range map[proxy.Kind]string{
		proxy.Nginx: `# Made by adt, which overwrites it: the webservers of all autoscalers.
upstream adt-shop {
	server 10.0.0.1:443 max_fails=2;
	server 10.0.0.2:443 max_fails=2;
	server 10.0.0.10:443 max_fails=2;
}
`,
		proxy.HAProxy: `# Made by adt, which overwrites it: the webservers of all autoscalers.
backend adt-shop
	mode http
	balance roundrobin
	option redispatch 1
	retries 3
	server ws-10.0.0.1 10.0.0.1:443 max_fails=2
	server ws-10.0.0.2 10.0.0.2:443 max_fails=2
	server ws-10.0.0.10 10.0.0.10:443 max_fails=2
`,
		proxy.Apache: `# Made by adt, which overwrites it: the webservers of all autoscalers.
<Proxy "balancer://adt-shop">
	BalancerMember "https://10.0.0.1:443" max_fails=2
	BalancerMember "https://10.0.0.2:443" max_fails=2
	BalancerMember "https://10.0.0.10:443" max_fails=2
</Proxy>
`,
	} {
		b := newBench(t, kind)
		b.Options = "max_fails=2"
		b.wants(string(kind), b.apply(proxy.Change{Shard: 1, Want: odd}), proxy.Reply{Outcome: proxy.Updated, Total: 3})
		if got := b.read("conf/shop.conf"); got != want {
			t.Errorf("%s:\n%s\nwant:\n%s", kind, got, want)
		}
		if b.read("loaded") != want {
			t.Errorf("%s: it was not loaded", kind)
		}
		r, err := b.Look(t.Context(), b.conn(), nil, 1)
		if err != nil || len(r.Own) != 3 || r.Own[0] != odd[1] || r.Total != 3 {
			t.Errorf("%s: a look sees %+v, %v", kind, r, err)
		}
	}
}

// TestParts: autoscalers do not lose each other's webservers.
func TestParts(t *testing.T) {
	b := newBench(t, proxy.Nginx)
	b.apply(proxy.Change{Shard: 1, Want: addrs("10.0.0.1", "10.0.0.2")})
	b.wants("another's", b.apply(proxy.Change{Shard: 3, Want: addrs("10.0.3.1")}), proxy.Reply{Outcome: proxy.Updated, Total: 3})
	b.wants("the same", b.apply(proxy.Change{Shard: 3, Want: addrs("10.0.3.1")}), proxy.Reply{Outcome: proxy.Unchanged, Total: 3})
	if n := strings.Count(b.read("reloads"), "x"); n != 2 {
		t.Errorf("%d reloads for two changes", n)
	}
	b.wants("none of one", b.apply(proxy.Change{Shard: 1}), proxy.Reply{Outcome: proxy.Updated, Total: 1})
	if text := b.read("conf/shop.conf"); strings.Contains(text, "10.0.0.") || !strings.Contains(text, "10.0.3.1") {
		t.Error(text)
	}
	b.wants("too few", b.apply(proxy.Change{Shard: 3, Floor: 1}), proxy.Reply{Outcome: proxy.Floor, Total: 1})
	if !strings.Contains(b.read("loaded"), "10.0.3.1") {
		t.Error("the last one was taken out")
	}
	b.wants("none at all", b.apply(proxy.Change{Shard: 3}), proxy.Reply{Outcome: proxy.Updated, Total: 0})
	if text := b.read("loaded"); !strings.Contains(text, "127.0.0.1:9 down;") {
		t.Errorf("nginx would refuse:\n%s", text)
	}
	b.write("conf/shop.conf", "somebody's own idea\n")
	b.wants("edited by hand", b.apply(proxy.Change{Shard: 3, Want: addrs("10.0.3.1")}), proxy.Reply{Outcome: proxy.Updated, Total: 1})

	var wg sync.WaitGroup
	for shard := 1; shard <= 5; shard++ {
		wg.Go(func() {
			for n := 1; n <= 3; n++ {
				var want []netip.Addr
				for i := 1; i <= n; i++ {
					want = append(want, netip.AddrFrom4([4]byte{10, 1, byte(shard), byte(i)}))
				}
				b.apply(proxy.Change{Shard: shard, Want: want})
			}
		})
	}
	wg.Wait()
	if n := strings.Count(b.read("loaded"), "server 10.1."); n != 15 {
		t.Errorf("of 15 webservers of 5 autoscalers that wrote at once %d are there:\n%s", n, b.read("loaded"))
	}
}

// TestRollBack: what the proxy refuses is taken back, whatever was there before.
func TestRollBack(t *testing.T) {
	const said = "[emerg] poison in shop.conf"
	t.Run("to nothing", func(t *testing.T) {
		b := newBench(t, proxy.Nginx)
		b.Options = "poison"
		for range 2 {
			b.wants("poison", b.apply(proxy.Change{Shard: 1, Want: addrs("10.0.0.1")}), proxy.Reply{Outcome: proxy.Refused, Said: said})
			if text := b.read("conf/shop.conf"); text != "" {
				t.Error(text)
			}
		}
		if b.read("reloads") != "" {
			t.Error("it was loaded")
		}
	})
	t.Run("to the operator's", func(t *testing.T) {
		b := newBench(t, proxy.Nginx)
		b.write("conf/shop.conf", "upstream adt-shop { server 127.0.0.1:1 down; }\n")
		b.Options = "poison"
		b.wants("poison", b.apply(proxy.Change{Shard: 1, Want: addrs("10.0.0.1")}), proxy.Reply{Outcome: proxy.Refused, Said: said})
		if text := b.read("conf/shop.conf"); !strings.Contains(text, "127.0.0.1:1") {
			t.Error(text)
		}
	})
	t.Run("to the last good one", func(t *testing.T) {
		b := newBench(t, proxy.Nginx)
		b.apply(proxy.Change{Shard: 1, Want: addrs("10.0.0.1")})
		good := b.read("loaded")
		b.Options = "poison"
		b.wants("poison", b.apply(proxy.Change{Shard: 1, Want: addrs("10.0.0.2")}), proxy.Reply{Outcome: proxy.Refused, Total: 1, Said: said})
		b.Options = ""
		b.write("jammed", "")
		b.wants("a reload that fails", b.apply(proxy.Change{Shard: 1, Want: addrs("10.0.0.2")}), proxy.Reply{Outcome: proxy.NotLoaded, Total: 1, Said: "the reload failed"})
		if text := b.read("conf/shop.conf"); text != good {
			t.Errorf("%s\nwant:\n%s", text, good)
		}
		// Another autoscaler does not carry along what was refused.
		if err := os.Remove(filepath.Join(b.server.Home, "jammed")); err != nil {
			t.Fatal(err)
		}
		b.wants("another's", b.apply(proxy.Change{Shard: 2, Want: addrs("10.0.2.1")}), proxy.Reply{Outcome: proxy.Updated, Total: 2})
		if text := b.read("loaded"); strings.Contains(text, "10.0.0.2") || !strings.Contains(text, "10.0.0.1:") {
			t.Error(text)
		}
	})
	// A run that was killed after it put its file in place and before the test.
	t.Run("to the last good one, after a kill", func(t *testing.T) {
		b := newBench(t, proxy.Nginx)
		b.apply(proxy.Change{Shard: 1, Want: addrs("10.0.0.1")})
		good := b.read("loaded")
		b.write("conf/shop.conf", "poison\n")
		b.write("conf/shop.conf.d/1.new", "poison\n")
		b.write("jammed", "")
		b.wants("a reload that fails", b.apply(proxy.Change{Shard: 1, Want: addrs("10.0.0.2")}), proxy.Reply{Outcome: proxy.NotLoaded, Total: 1, Said: "the reload failed"})
		if text := b.read("conf/shop.conf"); text != good {
			t.Errorf("%s\nwant:\n%s", text, good)
		}
	})
}

// TestOriginal: the original's scripts get one address each, new ones first.
func TestOriginal(t *testing.T) {
	b := newBench(t, proxy.Original)
	b.RootCommand = "sh root.sh"
	b.write("root.sh", `IFS= read -r password; [ "$password" = "the password" ] || exit 1; exec "$@"`)
	b.write("add.sh", `echo "add $1" >>calls`)
	b.write("remove.sh", `echo "remove $1" >>calls; [ ! -e jammed ] || { echo "sed: no such file" >&2; exit 4; }`)
	steps := []struct {
		change proxy.Change
		reply  proxy.Reply
		calls  string
	}{
		{proxy.Change{Want: addrs("10.0.0.1", "10.0.0.2")}, proxy.Reply{Outcome: proxy.Updated, Total: 2}, "add 10.0.0.1\nadd 10.0.0.2\n"},
		{proxy.Change{Want: addrs("10.0.0.2", "10.0.0.3"), Had: addrs("10.0.0.1", "10.0.0.2")}, proxy.Reply{Outcome: proxy.Updated, Total: 2}, "add 10.0.0.3\nremove 10.0.0.1\n"},
		{proxy.Change{Want: addrs("10.0.0.2"), Had: addrs("10.0.0.2")}, proxy.Reply{Outcome: proxy.Unchanged, Total: 1}, ""},
		{proxy.Change{Want: addrs("10.0.0.2"), Had: addrs("10.0.0.2"), Again: true}, proxy.Reply{Outcome: proxy.Updated, Total: 1}, "add 10.0.0.2\n"},
		{proxy.Change{Had: addrs("10.0.0.2"), Floor: 1}, proxy.Reply{Outcome: proxy.Floor, Total: 1}, ""},
	}
	for _, s := range steps {
		b.write("calls", "")
		b.wants("original", b.apply(s.change), s.reply)
		if got := b.read("calls"); got != s.calls {
			t.Errorf("%+v: %q, want %q", s.change, got, s.calls)
		}
	}
	b.write("jammed", "")
	b.wants("a script that fails", b.apply(proxy.Change{Had: addrs("10.0.0.2")}),
		proxy.Reply{Outcome: proxy.Refused, Total: 1, Said: "sh remove.sh 10.0.0.2: exit status 4: sed: no such file"})
}

// TestFaults: what cannot be done is an error or an answer, and changes nothing.
func TestFaults(t *testing.T) {
	b := newBench(t, proxy.HAProxy)
	b.write("conf/shop.conf.d", "a file where the folder should be") // as a full disk, or a mistaken path
	if _, err := b.Apply(t.Context(), b.conn(), nil, proxy.Change{Shard: 1, Want: addrs("10.0.0.1")}); err == nil {
		t.Error("no error without a folder")
	}
	b = newBench(t, proxy.HAProxy)
	b.TestCommand = "echo 'Configuration file is valid'"
	if err := b.Test(t.Context(), b.conn(), nil); err != nil {
		t.Error(err)
	}
	b.TestCommand = "echo '[NOTICE] haproxy version is 2.6'; echo \"[ALERT] unknown keyword 'x'\" >&2; exit 1"
	if err := b.Test(t.Context(), b.conn(), nil); err == nil || err.Error() != "[ALERT] unknown keyword 'x'" {
		t.Error(err)
	}
	// A reload that leaves a daemon behind keeps nobody waiting, and no lock.
	b.TestCommand, b.ReloadCommand = "true", "sleep 20 & echo started"
	b.wants("a daemon", b.apply(proxy.Change{Shard: 1, Want: addrs("10.0.0.1")}), proxy.Reply{Outcome: proxy.Updated, Total: 1})
	b.wants("the next", b.apply(proxy.Change{Shard: 1, Want: addrs("10.0.0.2")}), proxy.Reply{Outcome: proxy.Updated, Total: 1})
}

func TestFingerprint(t *testing.T) {
	s := proxy.Settings{Kind: proxy.Nginx, Upstream: "adt-shop", File: "f", Port: 443}
	base := s.Fingerprint(1, addrs("10.0.0.1", "10.0.0.2"))
	if s.Fingerprint(1, addrs("10.0.0.2", "10.0.0.1", "10.0.0.1")) != base {
		t.Error("the order matters")
	}
	other := s
	other.Options = "backup"
	for what, sum := range map[string]string{
		"shard": s.Fingerprint(2, addrs("10.0.0.1", "10.0.0.2")), "addresses": s.Fingerprint(1, addrs("10.0.0.1")),
		"settings": other.Fingerprint(1, addrs("10.0.0.1", "10.0.0.2")),
	} {
		if sum == base {
			t.Errorf("another %s gives the same", what)
		}
	}
}
