package firewall_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"adt/security/firewall"
)

func texts(rules []firewall.Rule) []string {
	var all []string
	for _, r := range rules {
		all = append(all, r.For+": "+r.String())
	}
	return all
}

func TestWanted(t *testing.T) {
	vpc := prefixes("10.116.0.0/20", "fd00::/64")
	for name, test := range map[string]struct {
		settings firewall.Settings
		want     []string
	}{
		"nothing": {firewall.Settings{SSHPort: 22}, nil},
		"the original's": {firewall.Settings{SSHPort: 1035, VPC: vpc, SSH: prefixes("203.0.113.7"), Ping: "vpc", Ports: changes(t, "8080|ipv4|81.10.166.111/32")}, []string{
			"ssh: tcp 1035 from 10.116.0.0/20", "ssh: tcp 1035 from 203.0.113.7", "ssh: tcp 1035 from fd00::/64",
			"web: tcp 443 from 10.116.0.0/20", "web: tcp 443 from fd00::/64",
			"ping: ping from 10.116.0.0/20", "ping: ping from fd00::/64",
			"port: tcp 8080 from 81.10.166.111",
		}},
		"each once": {firewall.Settings{SSHPort: 22, VPC: prefixes("10.0.0.5/16"), SSH: prefixes("10.0.0.0/16"), Ports: changes(t, "22 from 10.0.0.0/16", "22/udp from 10.0.0.0/16")}, []string{
			"ssh: tcp 22 from 10.0.0.0/16", "web: tcp 443 from 10.0.0.0/16", "port: udp 22 from 10.0.0.0/16",
		}},
		"ping for all": {firewall.Settings{SSHPort: 22, Ping: "all"}, []string{"ping: ping from anywhere by IPv4", "ping: ping from anywhere by IPv6"}},
		"deleted, in whatever order": {firewall.Settings{SSHPort: 22, VPC: prefixes("10.0.0.0/16"), Ping: "none",
			Ports: changes(t, "443|ipv4|10.0.0.0/16|DELETE", "8080|ipv4|any|delete", "8080 from any", "9000 from 10.0.0.1", "9000|ipv4|10.0.0.2|DELETE")}, []string{
			"ssh: tcp 22 from 10.0.0.0/16", "port: tcp 8080 from anywhere by IPv6", "port: tcp 9000 from 10.0.0.1",
		}},
		"ranges": {firewall.Settings{SSHPort: 22, Ports: changes(t, "8000-8010/udp from fd00::1, 10.0.0.1")}, []string{
			"port: udp 8000-8010 from 10.0.0.1", "port: udp 8000-8010 from fd00::1",
		}},
	} {
		if got := texts(firewall.Wanted(test.settings)); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q\nwant %q", name, got, test.want)
		}
	}
}

func TestParsePortMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "does not say from where",
		"8080":                         "does not say from where",
		"8080 from":                    "does not say from where",
		"8080 from ":                   `"" is no range of addresses`,
		"8080 from 10.0.0.0/33":        `"10.0.0.0/33" is no range`,
		"8080 from host":               `"host" is no range`,
		"http from any":                `"http" is no port`,
		"0 from any":                   `"0" is no port`,
		"65536 from any":               `"65536" is no port`,
		"20-10 from any":               `"20-10" is no port`,
		"8080/sctp from any":           `the protocol is "sctp"`,
		"8080|ipv4":                    "has 2 fields",
		"8080|ipv4|10.0.0.1|DELETE|x":  "has 5 fields",
		"8080|ipv4|10.0.0.1|REMOVE":    "must be DELETE or left out",
		"8080|ipv4|fd00::1":            "fd00::1 is no IPv4 address",
		"8080|ipv6|10.0.0.1/32":        "10.0.0.1/32 is no IPv6 address",
		"8080|ip|10.0.0.1":             "must be ipv4 or ipv6",
		"443|ipv4|cloudflare":          `"cloudflare" is no range`,
		"8080|ipv6|::ffff:10.0.0.0/99": "is no range",
		"8080 from ::ffff:10.0.0.0/96": "is no range",
		"8080 from fe80::1%eth0":       "is no range",
	} {
		got, err := firewall.ParsePort(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, %v; want %q", text, got, err, want)
		}
	}
}

func TestParsePortsFile(t *testing.T) {
	got, err := firewall.ParsePortsFile("WEBSERVERPORTS:80|ipv4|10.0.0.1\nAUTOSCALERPORTS:8080|ipv4|81.10.166.111/32 8443|ipv6|fd00::1  9000|ipv4|10.0.0.1|DELETE\r\n\nAUTOSCALERPORTS:\nDATABASEPORTS:x\n")
	if err != nil || len(got) != 3 || got[1].Rule.String() != "tcp 8443 from fd00::1" || !got[2].Delete {
		t.Errorf("%v, %v", got, err)
	}
	for text, want := range map[string]string{
		"\n\nAUTOSCALERPORTS:8080":             `line 3: "8080" has no |`,
		"AUTOSCALERPORTS:8080|ipv4|10.0.0.300": "line 1:",
	} {
		if got, err := firewall.ParsePortsFile(text); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func FuzzParsePort(f *testing.F) {
	for _, seed := range []string{"8080|ipv4|81.10.166.111/32", "8080/tcp from any", "1-2|ipv6|::1|DELETE", "1:2 from 1.2.3.4,::"} {
		f.Add(seed)
	}
	tool, err := firewall.Named("nftables", nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all, err := firewall.ParsePort(text)
		if (err == nil) != (len(all) > 0) {
			t.Fatalf("%v, %v", all, err)
		}
		for _, c := range all {
			r := c.Rule
			if r.First < 1 || r.Last > 65535 || r.First > r.Last || !r.Source.IsValid() || r.Source != r.Source.Masked() {
				t.Errorf("%+v", r)
			}
			if !firewall.Admits([]firewall.Rule{{Protocol: firewall.TCP, First: r.First, Last: r.Last, Source: r.Source}}, r.Source.Addr(), r.First) {
				t.Errorf("%v does not let in its own source", r)
			}
			for _, line := range tool.Lines([]firewall.Rule{r}) {
				if strings.ContainsAny(line, "\n;\"") { // what reaches nft is of our making
					t.Errorf("line %q", line)
				}
			}
		}
	})
}

func TestAdmits(t *testing.T) {
	rules := firewall.Wanted(firewall.Settings{SSHPort: 1035, VPC: prefixes("10.0.0.0/16", "fd00::/64"), Ports: changes(t, "1035/udp from 192.0.2.1", "1030-1040 from 192.0.2.2")})
	for _, test := range []struct {
		connection string
		want       bool
	}{
		{"10.0.7.7 51234 10.0.0.1 1035", true},
		{"::ffff:10.0.7.7 51234 ::ffff:10.0.0.1 1035", true},
		{"10.1.0.1 51234 10.0.0.1 1035", false},
		{"10.0.7.7 51234 10.0.0.1 22", false},
		{"fd00::9 51234 fd00::1 1035", true},
		{"fe80::1%eth0 51234 fe80::2%eth0 1035", false},
		{"192.0.2.1 51234 10.0.0.1 1035", false},
		{"192.0.2.2 51234 10.0.0.1 1035", true},
		{"127.0.0.1 51234 127.0.0.1 4711", true},
		{"::1 51234 ::1 22", true},
	} {
		c, err := firewall.ParseConnection(test.connection)
		if err != nil || firewall.Admits(rules, c.Client, c.Port) != test.want {
			t.Errorf("%s: %v, want %v", test.connection, err, test.want)
		}
	}
	for _, text := range []string{"", "10.0.0.1 1 10.0.0.2", "host 1 10.0.0.2 22", "10.0.0.1 1 10.0.0.2 ssh"} {
		if c, err := firewall.ParseConnection(text); err == nil {
			t.Errorf("%q: %v", text, c)
		}
	}
}

func TestChooseAmongTheInstalled(t *testing.T) {
	has := func(programs ...string) func(string) bool {
		return func(p string) bool { return slices.Contains(programs, p) }
	}
	for _, test := range []struct {
		asked     string
		installed []string
		want      string
	}{
		{"auto", []string{"ufw", "iptables"}, "iptables"},
		{"auto", []string{"ufw"}, "ufw"},
		{"auto", nil, "no firewall is installed, neither nftables nor iptables nor ufw: apt install nftables"},
		{"ufw", []string{"nft"}, "ufw is not installed: apt install ufw"},
		{"nftables", nil, "nft is not installed: apt install nftables"},
	} {
		got, err := firewall.Choose(test.asked, nil, has(test.installed...))
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s of %v: %q", test.asked, test.installed, got)
		}
	}
}

func TestMissingProgram(t *testing.T) {
	_, err := firewall.System()(t.Context(), "", "no-such-program")
	var missing *firewall.MissingError
	if !errors.As(err, &missing) || missing.Program != "no-such-program" {
		t.Errorf("%v", err)
	}
	if _, err := firewall.Named("pf", nil, nil); err == nil || !strings.Contains(err.Error(), "nftables, iptables, ufw") {
		t.Errorf("%v", err)
	}
}

// To ufw 0.0.0.0/0 is IPv6 as well: one family alone is written in halves.
func TestUfwAnywhere(t *testing.T) {
	tool, err := firewall.Named("ufw", nil, fstest.MapFS{})
	if err != nil {
		t.Fatal(err)
	}
	for port, want := range map[string][]string{
		"80 from any":       {"allow 80/tcp"},
		"80|ipv4|0.0.0.0/0": {"allow from 0.0.0.0/1 to any port 80 proto tcp", "allow from 128.0.0.0/1 to any port 80 proto tcp"},
		"80/udp from ::/0":  {"allow from ::/1 to any port 80 proto udp", "allow from 8000::/1 to any port 80 proto udp"},
	} {
		if got := tool.Lines(firewall.Wanted(firewall.Settings{Ports: changes(t, port)})); !slices.Equal(got, want) {
			t.Errorf("%s: %q", port, got)
		}
	}
	if everywhere := firewall.Everywhere(); everywhere[0] != netip.MustParsePrefix("0.0.0.0/0") || everywhere[1] != netip.MustParsePrefix("::/0") {
		t.Error(everywhere)
	}
}
