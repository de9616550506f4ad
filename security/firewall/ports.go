package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// forms says how a port is written.
const forms = `write "8080/tcp from 81.10.166.111/32", or the original's "8080|ipv4|81.10.166.111/32" (a fourth field DELETE takes it away)`

// ParsePort reads one of the operator's own ports, in either syntax:
//
//	8080/tcp from 81.10.166.111, fd00::/64
//	8080|ipv4|81.10.166.111/32
//	8080|ipv4|81.10.166.111/32|DELETE
//
// Ports may be ranges (8000-8010); the protocol is tcp if left out; a source may
// be any.
func ParsePort(text string) ([]Change, error) {
	if strings.Contains(text, "|") {
		c, err := parseOriginal(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		return c, nil
	}
	port, sources, ok := strings.Cut(text, " from ")
	if !ok {
		return nil, fmt.Errorf("%q does not say from where: %s", text, forms)
	}
	rule, err := parsePorts(strings.TrimSpace(port))
	if err != nil {
		return nil, fmt.Errorf("%q: %w", text, err)
	}
	var all []Change
	for source := range strings.SplitSeq(sources, ",") {
		prefixes, err := parseSource(strings.TrimSpace(source))
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		for _, rule.Source = range prefixes {
			all = append(all, Change{Rule: rule})
		}
	}
	return all, nil
}

func parseOriginal(text string) ([]Change, error) {
	fields := strings.Split(text, "|")
	if len(fields) < 3 || len(fields) > 4 {
		return nil, fmt.Errorf("has %d fields: %s", len(fields), forms)
	}
	remove := len(fields) == 4
	if remove && !strings.EqualFold(fields[3], "DELETE") {
		return nil, fmt.Errorf("the fourth field is %q, must be DELETE or left out", fields[3])
	}
	rule, err := parsePorts(fields[0])
	if err != nil {
		return nil, err
	}
	family := strings.ToLower(fields[1])
	if family != "ipv4" && family != "ipv6" {
		return nil, fmt.Errorf("the second field is %q, must be ipv4 or ipv6", fields[1])
	}
	sources, err := parseSource(fields[2])
	if err != nil {
		return nil, err
	}
	var all []Change
	for _, rule.Source = range sources {
		if rule.Source.Addr().Is4() == (family == "ipv4") {
			all = append(all, Change{Rule: rule, Delete: remove})
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s is no %s address", fields[2], map[string]string{"ipv4": "IPv4", "ipv6": "IPv6"}[family])
	}
	return all, nil
}

// parsePorts reads 8080, 8080/udp, 8000-8010/tcp or 8000:8010.
func parsePorts(text string) (Rule, error) {
	ports, protocol, given := strings.Cut(text, "/")
	if !given {
		protocol = TCP
	}
	if protocol != TCP && protocol != UDP {
		return Rule{}, fmt.Errorf("the protocol is %q, must be tcp or udp", protocol)
	}
	first, last, several := strings.Cut(strings.Replace(ports, ":", "-", 1), "-")
	if !several {
		last = first
	}
	a, errA := strconv.Atoi(first)
	b, errB := strconv.Atoi(last)
	if errors.Join(errA, errB) != nil || a < 1 || b < a || b > 65535 {
		return Rule{}, fmt.Errorf("%q is no port: write 1 to 65535, or a range such as 8000-8010", ports)
	}
	return Rule{For: ForPort, Protocol: protocol, First: a, Last: b}, nil
}

func parseSource(text string) ([]netip.Prefix, error) {
	if strings.EqualFold(text, "any") {
		return Everywhere(), nil
	}
	prefix, err := ParsePrefix(text)
	if err != nil {
		return nil, err
	}
	return []netip.Prefix{prefix}, nil
}

// ParsePrefix reads a range of addresses, or one address.
func ParsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil || prefix.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is no range of addresses: write 10.0.0.0/16, fd00::/64 or one address", text)
	}
	return prefix.Masked(), nil
}

// ParsePortsFile reads the lines AUTOSCALERPORTS: of the original's
// firewallports.dat; those of other machines are passed over. Its error names
// the line.
func ParsePortsFile(text string) ([]Change, error) {
	var all []Change
	n := 0
	for line := range strings.Lines(text) {
		n++
		entries, ok := strings.CutPrefix(strings.TrimSpace(line), "AUTOSCALERPORTS:")
		if !ok {
			continue
		}
		for _, entry := range strings.Fields(entries) {
			if !strings.Contains(entry, "|") { // of the other syntax one entry has several words
				return nil, fmt.Errorf("line %d: %q has no |: write 8080|ipv4|81.10.166.111/32", n, entry)
			}
			changes, err := ParsePort(entry)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			all = append(all, changes...)
		}
	}
	return all, nil
}
