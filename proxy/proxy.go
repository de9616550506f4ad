// Package proxy tells a reverse proxy which webservers it passes requests to:
// the text for nginx, haproxy and apache, and how it is put in place over SSH,
// tested, loaded and taken back. It must not know fleets, vendors, DNS or state
// files.
package proxy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Kind is the software of a proxy.
type Kind string

const (
	Nginx    Kind = "nginx"
	HAProxy  Kind = "haproxy"
	Apache   Kind = "apache"
	Original Kind = "original" // whatever the original's two scripts deal with
)

// Settings say what proxies are like. All of a fleet are alike.
type Settings struct {
	Kind     Kind
	Upstream string // by which the proxy's own configuration refers to the webservers
	File     string // that is generated; a relative path begins at the login user's home
	Port     int    // of HTTPS on the webservers
	Options  string // what follows each address, in the proxy's words

	TestCommand   string // says with its exit status whether the configuration is right
	ReloadCommand string // makes the proxy use it, without losing a request

	AddCommand, RemoveCommand string // of Original; the address follows

	RootCommand string // what a command is given to, to be run as root; "" runs it as the login user
}

// usable reports whether an address may be written into a configuration. A zone
// can hold any text.
func usable(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast()
}

// tidy is the usable addresses, each once, in their order.
func tidy(addresses []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range addresses {
		if a = a.Unmap(); usable(a) {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// part is one autoscaler's webservers, a line for each.
func (s Settings) part(addresses []netip.Addr) string {
	var b strings.Builder
	for _, a := range tidy(addresses) {
		at := netip.AddrPortFrom(a, uint16(s.Port)).String()
		var words []string
		switch s.Kind {
		case Nginx:
			words = []string{"server", at}
		case HAProxy:
			words = []string{"server", "ws-" + a.String(), at}
		case Apache:
			words = []string{"BalancerMember", `"https://` + at + `"`}
		}
		if s.Options != "" {
			words = append(words, s.Options)
		}
		b.WriteString("\t" + strings.Join(words, " "))
		if s.Kind == Nginx {
			b.WriteByte(';')
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// frame is what goes around the parts of all autoscalers; none stands for them
// where there is no webserver at all.
type frame struct{ head, none, foot string }

func (s Settings) frame() frame {
	const note = "# Made by adt, which overwrites it: the webservers of all autoscalers.\n"
	switch s.Kind {
	case Nginx: // which refuses an upstream without servers
		return frame{note + "upstream " + s.Upstream + " {\n", "\tserver 127.0.0.1:9 down;\n", "}\n"}
	case HAProxy:
		// redispatch: a request that could not be delivered goes to another webserver.
		return frame{note + "backend " + s.Upstream + "\n\tmode http\n\tbalance roundrobin\n\toption redispatch 1\n\tretries 3\n", "", ""}
	case Apache:
		return frame{note + `<Proxy "balancer://` + s.Upstream + "\">\n", "", "</Proxy>\n"}
	}
	return frame{}
}

// Fingerprint changes with all that a proxy would be told about one
// autoscaler's webservers.
func (s Settings) Fingerprint(shard int, addresses []netip.Addr) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d\n%#v\n%#v\n%s", shard, s, s.frame(), s.part(addresses)))
	if s.Kind == Original {
		sum = sha256.Sum256(fmt.Appendf(nil, "%d\n%v", shard, tidy(addresses)))
	}
	return hex.EncodeToString(sum[:8])
}

// firstError picks the line that tells most of what a configuration test said:
// warnings and greetings may come before it.
func firstError(said string) string {
	var lines []string
	for line := range strings.Lines(said) {
		if line = strings.Join(strings.Fields(strings.ToValidUTF8(line, "?")), " "); line != "" {
			lines = append(lines, line)
		}
	}
	for i, line := range lines {
		lower := strings.ToLower(line)
		for _, word := range []string{"[emerg]", "[alert]", "[crit]", "error", "not found", "failed", "invalid"} {
			switch {
			case !strings.Contains(lower, word):
			case strings.HasSuffix(line, ":") && i+1 < len(lines): // apache says where, and then what
				return shorten(line + " " + lines[i+1])
			default:
				return shorten(line)
			}
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return shorten(lines[0])
}

func shorten(line string) string {
	const most = 300
	if len(line) > most {
		return strings.ToValidUTF8(line[:most], "") + "…"
	}
	return line
}
