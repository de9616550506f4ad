package firewall_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"adt/security/firewall"
	"adt/security/netnstest"
)

// tools are the real ones, by the program that each needs.
func tools() map[string]string {
	return map[string]string{"nftables": "nft", "iptables": "iptables", "ufw": "ufw"}
}

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		p, err := firewall.ParsePrefix(text)
		if err != nil {
			panic(err)
		}
		all = append(all, p)
	}
	return all
}

func changes(t testing.TB, texts ...string) []firewall.Change {
	t.Helper()
	var all []firewall.Change
	for _, text := range texts {
		c, err := firewall.ParsePort(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c...)
	}
	return all
}

// onEach runs a test with each real tool, on a machine of its own.
func onEach(t *testing.T, test func(t *testing.T, tool firewall.Tool, machine, peer *netnstest.Machine)) {
	for name, program := range tools() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			machine, peer := netnstest.New(t, program)
			tool, err := firewall.Named(name, firewall.System(machine.Enter()...), machine.Files())
			if err != nil {
				t.Fatal(err)
			}
			test(t, tool, machine, peer)
		})
	}
}

func read(t *testing.T, tool firewall.Tool) firewall.State {
	t.Helper()
	s, err := tool.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func differs(t *testing.T, tool firewall.Tool, rules []firewall.Rule) firewall.Difference {
	t.Helper()
	return firewall.Compare(tool.Lines(rules), read(t, tool))
}

// Real connections, by IPv4 and IPv6: what the rules let in comes in, all else
// does not, and afterwards everything is as it was.
func TestRulesHold(t *testing.T) {
	onEach(t, func(t *testing.T, tool firewall.Tool, machine, peer *netnstest.Machine) {
		isUfw := strings.Contains(t.Name(), "ufw")
		rules := firewall.Wanted(firewall.Settings{
			SSHPort: 1022, VPC: prefixes("10.77.0.0/24", "fd77::/64"), SSH: prefixes(netnstest.PeerOutside6), Ping: "vpc",
			Ports: changes(t, "8080|ipv4|198.51.100.2/32", "9000-9002/tcp from any", "9100 from 0.0.0.0/0", "7000|ipv4|10.77.0.2", "7000|ipv4|10.77.0.2/32|DELETE"),
		})
		machine.Listen(1022, 443, 8080, 8081, 9001, 9003, 9100, 7000)
		inside4, outside4 := [2]string{netnstest.PeerInside4, netnstest.Inside4}, [2]string{netnstest.PeerOutside4, netnstest.Outside4}
		inside6, outside6 := [2]string{netnstest.PeerInside6, netnstest.Inside6}, [2]string{netnstest.PeerOutside6, netnstest.Outside6}
		try := func(way [2]string, open bool, ports ...int) {
			t.Helper()
			for _, port := range ports {
				peer.Reaches(open, way[0], way[1], port)
			}
		}
		everything := func() {
			t.Helper()
			for _, way := range [][2]string{inside4, outside4, inside6, outside6} {
				try(way, true, 1022, 443, 8080, 8081, 9001, 9003, 9100, 7000)
				peer.Answers(true, way[0], way[1])
			}
		}
		everything()
		before, err := tool.Save(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if d := differs(t, tool, rules); len(d.Add) != len(tool.Lines(rules)) || len(d.Problems) == 0 {
			t.Errorf("before anything was set: %+v", d)
		}

		if err := tool.Apply(t.Context(), rules); err != nil {
			t.Fatal(err)
		}
		for _, m := range []*netnstest.Machine{machine, peer} {
			m.Sh("ip neigh flush all") // so that both have to find each other once more
		}
		if d := differs(t, tool, rules); !d.None() {
			t.Errorf("set, and still different: %+v", d)
		}
		if s := read(t, tool); !s.Active {
			t.Errorf("set, and not active: %+v", s)
		}
		try(inside4, true, 1022, 443, 9001, 9100)
		try(inside4, false, 8080, 8081, 9003, 7000)
		try(inside6, true, 1022, 443, 9001)
		try(inside6, false, 8080, 8081, 9003, 9100)
		try(outside4, true, 8080, 9001, 9100)
		try(outside4, false, 1022, 443, 8081, 9003, 7000)
		try(outside6, true, 1022, 9001)
		try(outside6, false, 443, 8080, 8081, 9100)
		peer.Answers(true, inside4[0], inside4[1])
		peer.Answers(true, inside6[0], inside6[1])
		if !isUfw { // which answers everybody, whatever the rules say
			peer.Answers(false, outside4[0], outside4[1])
			peer.Answers(false, outside6[0], outside6[1])
		}
		// What this machine begins gets its answers.
		peer.Listen(5000)
		machine.Reaches(true, outside4[1], outside4[0], 5000)
		machine.Reaches(true, outside6[1], outside6[0], 5000)
		machine.Listen(6000)
		machine.Reaches(true, "127.0.0.1", "127.0.0.1", 6000)
		machine.Reaches(true, "::1", "::1", 6000)

		// A rule is taken away, another comes.
		fewer := firewall.Wanted(firewall.Settings{SSHPort: 1022, VPC: prefixes("10.77.0.0/24"), Ping: "none", Ports: changes(t, "8081 from 198.51.100.2")})
		if d := differs(t, tool, fewer); len(d.Add) == 0 || len(d.Remove) == 0 {
			t.Errorf("other rules, and no difference: %+v", d)
		}
		middle, err := tool.Save(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := tool.Apply(t.Context(), fewer); err != nil {
			t.Fatal(err)
		}
		try(inside4, true, 1022, 443)
		try(outside4, true, 8081)
		try(outside4, false, 8080, 9001)
		try(inside6, false, 1022, 443, 9001)
		try(outside6, false, 1022)

		// Back by one, and by all.
		if err := tool.Restore(t.Context(), middle); err != nil {
			t.Fatal(err)
		}
		if d := differs(t, tool, rules); !d.None() {
			t.Errorf("restored, and different: %+v", d)
		}
		try(outside4, true, 8080, 9001)
		try(outside6, true, 1022)
		try(outside4, false, 8081, 1022)
		for range 2 {
			if err := tool.Restore(t.Context(), before); err != nil {
				t.Fatal(err)
			}
			everything()
		}
		if s := read(t, tool); s.Active || len(s.Lines) > 0 {
			t.Errorf("taken away, and left behind: %+v", s)
		}
	})
}

// Rules of others are there before, during and after; what they deny stays denied.
func TestForeignRulesStay(t *testing.T) {
	foreign := map[string]struct{ make, show string }{
		"nftables": {`nft -f - <<'E'
table inet mine {
chain c {
type filter hook input priority -5
tcp dport 443 ip saddr 10.77.0.2 drop
}
}
E`, "nft -s list table inet mine"},
		"iptables": {"iptables -A INPUT -p tcp -s 10.77.0.2 --dport 443 -j DROP; iptables -N mine; iptables -A mine -j RETURN", "iptables -S | grep -v adt-input"},
		"ufw":      {"ufw deny from 10.77.0.2 to any port 443 proto tcp; ufw allow 2222/tcp comment 'the operator'; ufw allow from 10.77.0.0/24 to any port 1022 proto tcp", "ufw show added | grep -v \"'adt'\""},
	}
	onEach(t, func(t *testing.T, tool firewall.Tool, machine, peer *netnstest.Machine) {
		_, name, _ := strings.Cut(t.Name(), "/")
		rules := firewall.Wanted(firewall.Settings{SSHPort: 1022, VPC: prefixes("10.77.0.0/24", "fd77::/64"), Ping: "vpc"})
		machine.Sh(foreign[name].make)
		before := machine.Sh(foreign[name].show)
		machine.Listen(443, 1022)
		if err := tool.Apply(t.Context(), rules); err != nil {
			t.Fatal(err)
		}
		if d := differs(t, tool, rules); !d.None() {
			t.Errorf("set, and still different: %+v", d)
		}
		if got := machine.Sh(foreign[name].show); got != before {
			t.Errorf("changed:\n%s\nwas:\n%s", got, before)
		}
		peer.Reaches(true, netnstest.PeerInside4, netnstest.Inside4, 1022)
		peer.Reaches(true, netnstest.PeerInside6, netnstest.Inside6, 443)
		peer.Reaches(false, netnstest.PeerInside4, netnstest.Inside4, 443)
		if err := tool.Restore(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if got := machine.Sh(foreign[name].show); got != before {
			t.Errorf("changed by taking ours away:\n%s\nwas:\n%s", got, before)
		}
	})
}

// What somebody did to our rules is seen, and put right.
func TestTampering(t *testing.T) {
	rules := firewall.Wanted(firewall.Settings{SSHPort: 1022, VPC: prefixes("10.77.0.0/24"), Ping: "vpc"})
	for _, test := range []struct {
		tool, does string
		active     bool // still
	}{
		{"nftables", "nft flush ruleset", false},
		{"nftables", "nft add rule inet adt input tcp dport 81 accept", true},
		{"nftables", "nft insert rule inet adt input counter ct mark 7 accept", true},
		{"nftables", "nft flush chain inet adt input", true},
		{"nftables", "nft 'add chain inet adt input { policy accept; }'", false},
		{"nftables", "nft 'table inet adt { flags dormant; }'", false},
		{"iptables", "iptables -F INPUT", false},
		{"iptables", "ip6tables -F INPUT", false},
		{"iptables", "ip6tables -F adt-input", false},
		{"iptables", "iptables -I INPUT -j ACCEPT", false},
		{"iptables", "iptables -D adt-input -j DROP", false},
		{"iptables", "iptables -A adt-input -p tcp --dport 81 -j ACCEPT", true},
		{"iptables", "iptables -I adt-input -p tcp --dport 81 -m comment --comment 'let me in' -j ACCEPT", true},
		{"ufw", "ufw disable", false},
		{"ufw", "ufw default allow incoming", false},
		{"ufw", "ufw delete allow from 10.77.0.0/24 to any port 1022 proto tcp", true},
	} {
		t.Run(test.tool+"/"+test.does, func(t *testing.T) {
			t.Parallel()
			machine, _ := netnstest.New(t, tools()[test.tool])
			tool, err := firewall.Named(test.tool, firewall.System(machine.Enter()...), machine.Files())
			if err != nil {
				t.Fatal(err)
			}
			if err := tool.Apply(t.Context(), rules); err != nil {
				t.Fatal(err)
			}
			machine.Sh(test.does)
			s := read(t, tool)
			d := firewall.Compare(tool.Lines(rules), s)
			if s.Active != test.active || d.None() {
				t.Errorf("active: %v, want %v; difference %+v", s.Active, test.active, d)
			}
			if !s.Active && len(d.Problems) == 0 {
				t.Error("it does not say why it is not active")
			}
			if strings.Contains(test.does, "-I INPUT -j ACCEPT") {
				return // the operator's own rule stays, and is told of
			}
			if err := tool.Apply(t.Context(), rules); err != nil {
				t.Fatal(err)
			}
			if d := differs(t, tool, rules); !d.None() || !read(t, tool).Active {
				t.Errorf("set again, and different: %+v", d)
			}
		})
	}
}

// Which firewalls are at work is found out, and two of them are refused.
func TestDetect(t *testing.T) {
	const nft = "nft 'table inet filter { chain input { type filter hook input priority 0; policy drop; }; }'"
	const ufw = "ufw --force enable"
	ours := func(tool string) string { return "set " + tool }
	for name, test := range map[string]struct {
		does []string
		want []string
		pick map[string]string // tool that is asked for: what is picked, or words of the refusal
	}{
		"nothing": {nil, nil, map[string]string{"auto": "nftables", "iptables": "iptables", "ufw": "ufw"}},
		"ufw":     {[]string{ufw}, []string{"ufw"}, map[string]string{"auto": "ufw", "ufw": "ufw", "nftables": `two firewalls would be at work: ufw is active (ufw disable), and firewall.tool is "nftables"`}},
		"a table of the operator": {[]string{nft}, []string{"the nftables table inet filter"},
			map[string]string{"auto": "another firewall is at work: the nftables table inet filter drops", "nftables": "another firewall is at work"}},
		"a harmless table": {[]string{"nft 'table inet t { chain input { type filter hook input priority 0; policy accept; }; }'"}, nil, map[string]string{"auto": "nftables"}},
		"iptables' policy": {[]string{"iptables -P INPUT DROP"}, []string{"iptables"}, map[string]string{"auto": "iptables", "iptables": "iptables", "nftables": "iptables drops by its INPUT policy"}},
		"ours, nftables":   {[]string{ours("nftables")}, []string{"nftables"}, map[string]string{"auto": "nftables", "ufw": "nftables has adt's table inet adt"}},
		"ours, iptables":   {[]string{ours("iptables")}, []string{"iptables"}, map[string]string{"auto": "iptables", "nftables": "iptables has adt's chain adt-input"}},
		"ours, ufw":        {[]string{ours("ufw")}, []string{"ufw"}, map[string]string{"auto": "ufw"}},
		"two": {[]string{ours("nftables"), ufw}, []string{"ufw", "nftables"},
			map[string]string{"auto": "two firewalls are at work: ufw is active (ufw disable) and nftables has adt's table inet adt (nft delete table inet adt)", "ufw": "two firewalls are at work"}},
		"two of ours": {[]string{ours("iptables"), ours("ufw")}, []string{"ufw", "iptables"}, map[string]string{"auto": "ufw is active (ufw disable) and iptables has adt's chain"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			machine, _ := netnstest.New(t, "nft", "iptables", "ufw")
			run := firewall.System(machine.Enter()...)
			for _, does := range test.does {
				name, isOurs := strings.CutPrefix(does, "set ")
				if !isOurs {
					machine.Sh(does)
					continue
				}
				tool, err := firewall.Named(name, run, machine.Files())
				if err != nil {
					t.Fatal(err)
				}
				if err := tool.Apply(t.Context(), firewall.Wanted(firewall.Settings{SSHPort: 22, VPC: prefixes("10.77.0.0/24")})); err != nil {
					t.Fatal(err)
				}
			}
			active, err := firewall.Detect(t.Context(), run)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, a := range active {
				got = append(got, a.Tool)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("at work: %q, want %q", got, test.want)
			}
			for asked, want := range test.pick {
				picked, err := firewall.Choose(asked, active, firewall.Installed)
				if err != nil && !strings.Contains(err.Error(), want) || err == nil && picked != want {
					t.Errorf("%s: picked %q, %v; want %s", asked, picked, err, want)
				}
			}
		})
	}
}
