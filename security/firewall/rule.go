// Package firewall is this machine's own firewall: which connections are let in,
// in the words of nftables, iptables or ufw, what of that is there already, and
// how it is made so. All else that comes in is dropped; what goes out is not
// touched. It must not know the fleet, the configuration, or who wants the rules;
// programs are run by a Run that it is given.
package firewall

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// What a rule is for.
const (
	ForSSH  = "ssh"
	ForWeb  = "web"
	ForPing = "ping"
	ForPort = "port" // one of the operator's own
)

// Protocols. Ping is ICMP's or ICMPv6's echo request, by the family of the source.
const (
	TCP  = "tcp"
	UDP  = "udp"
	Ping = "ping"
)

// Rule lets in what comes from one range of addresses.
type Rule struct {
	For      string       `json:"for"`
	Protocol string       `json:"protocol"`
	First    int          `json:"first,omitempty"` // the ports, both included; 0 for ping
	Last     int          `json:"last,omitempty"`
	Source   netip.Prefix `json:"source"` // of all IPv4 or all IPv6 it is /0
}

// String says the rule to people: tcp 22 from 10.0.0.0/16.
func (r Rule) String() string {
	source := r.Source.String()
	switch {
	case r.Source.Bits() == 0 && r.Source.Addr().Is4():
		source = "anywhere by IPv4"
	case r.Source.Bits() == 0:
		source = "anywhere by IPv6"
	case r.Source.IsSingleIP():
		source = r.Source.Addr().String()
	}
	if r.Protocol == Ping {
		return "ping from " + source
	}
	return fmt.Sprintf("%s %s from %s", r.Protocol, r.ports("-"), source)
}

func (r Rule) ports(between string) string {
	if r.First == r.Last {
		return strconv.Itoa(r.First)
	}
	return fmt.Sprintf("%d%s%d", r.First, between, r.Last)
}

// same reports whether both let in the same, whatever they are for.
func (r Rule) same(o Rule) bool {
	r.For = o.For
	return r == o
}

// Settings is what the operator wants, by the original's rules: SSH from the
// private network and from the build machine, the website and ping from the
// private network, and single ports besides.
type Settings struct {
	SSHPort       int
	VPC, SSH, Web []netip.Prefix
	Ping          string // who gets an answer: vpc, all or none
	Ports         []Change
}

// Change is one of the operator's own ports, or takes a rule away.
type Change struct {
	Rule   Rule
	Delete bool
}

// webPort is where websites are served.
const webPort = 443

// Everywhere is all IPv4 and all IPv6.
func Everywhere() []netip.Prefix {
	return []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
}

// Wanted works out the rules, each once, in a fixed order. A deletion takes away
// the rule that lets in the same, wherever that is from.
func Wanted(s Settings) []Rule {
	var all []Rule
	add := func(r Rule, sources []netip.Prefix) {
		for _, source := range sources {
			r.Source = source.Masked()
			all = append(all, r)
		}
	}
	add(Rule{For: ForSSH, Protocol: TCP, First: s.SSHPort, Last: s.SSHPort}, slices.Concat(s.VPC, s.SSH))
	add(Rule{For: ForWeb, Protocol: TCP, First: webPort, Last: webPort}, slices.Concat(s.VPC, s.Web))
	switch s.Ping {
	case "vpc":
		add(Rule{For: ForPing, Protocol: Ping}, s.VPC)
	case "all":
		add(Rule{For: ForPing, Protocol: Ping}, Everywhere())
	}
	for _, c := range s.Ports {
		if !c.Delete {
			all = append(all, c.Rule)
		}
	}
	for _, c := range s.Ports {
		if c.Delete {
			all = slices.DeleteFunc(all, c.Rule.same)
		}
	}
	slices.SortStableFunc(all, func(a, b Rule) int {
		return cmp.Or(slices.Index(order(), a.For)-slices.Index(order(), b.For), a.First-b.First, a.Last-b.Last,
			strings.Compare(a.Protocol, b.Protocol), a.Source.Addr().Compare(b.Source.Addr()), a.Source.Bits()-b.Source.Bits())
	})
	var once []Rule
	for _, r := range all {
		if !slices.ContainsFunc(once, r.same) {
			once = append(once, r)
		}
	}
	return once
}

func order() []string { return []string{ForSSH, ForWeb, ForPing, ForPort} }

// Admits reports whether the rules let in a new TCP connection from client to
// the port. This machine's own connections always come in.
func Admits(rules []Rule, client netip.Addr, port int) bool {
	client = client.Unmap().WithZone("")
	return client.IsLoopback() || slices.ContainsFunc(rules, func(r Rule) bool {
		return r.Protocol == TCP && r.First <= port && port <= r.Last && r.Source.Contains(client)
	})
}

// Connection is the SSH connection that a session runs on.
type Connection struct {
	Client netip.Addr
	Port   int // of this machine
}

// ParseConnection reads SSH_CONNECTION, as sshd sets it: client's address and
// port, server's address and port.
func ParseConnection(text string) (Connection, error) {
	fields := strings.Fields(text)
	if len(fields) != 4 {
		return Connection{}, fmt.Errorf("SSH_CONNECTION is %q, and not four fields as sshd writes them", text)
	}
	client, err := netip.ParseAddr(fields[0])
	if err != nil {
		return Connection{}, fmt.Errorf("SSH_CONNECTION is %q: its client is no address", text)
	}
	port, err := strconv.Atoi(fields[3])
	if err != nil {
		return Connection{}, fmt.Errorf("SSH_CONNECTION is %q: its last field is no port", text)
	}
	return Connection{client.Unmap().WithZone(""), port}, nil
}
