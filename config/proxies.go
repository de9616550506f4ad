package config

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Proxies is the reverse proxies in front of the webservers.
type Proxies struct {
	Enabled         bool     `toml:"enabled" doc:"Whether there are reverse proxies: then DNS holds them, and they hold the webservers. All autoscalers of a fleet must say the same."`
	Kind            string   `toml:"kind" doc:"What the proxies run; original calls the original's two scripts." oneof:"nginx haproxy apache original"`
	Addresses       []string `toml:"addresses" doc:"The proxies, each as \"PUBLIC PRIVATE\", or one address that is both; left empty, they are the servers of the listing that are named rp-<region>-<build>-…." form:"addresspair" optional:"true"`
	Count           int      `toml:"count" doc:"How many proxies there are; when fewer are known, that is said. 0 expects one." min:"0" max:"20"`
	Upstream        string   `toml:"upstream" doc:"The name by which a proxy's own configuration refers to the webservers; left out, adt-<build>." form:"label" example:"\"adt-mybuild\""`
	File            string   `toml:"file" doc:"The file on a proxy that adt makes; left out, one that Debian's configuration of that kind includes, or for haproxy /etc/haproxy/adt/<build>.cfg." form:"remote" example:"\"/etc/nginx/conf.d/adt-mybuild.conf\""`
	ServerOptions   string   `toml:"server_options" doc:"What follows the address of each webserver in that file, in the words of its kind." form:"options" optional:"true" example:"\"max_fails=2 fail_timeout=10s\""`
	TestCommand     string   `toml:"test_command" doc:"Tests a proxy's configuration, as root." form:"command" example:"\"nginx -t\""`
	ReloadCommand   string   `toml:"reload_command" doc:"Makes a proxy use its changed configuration without losing a request, as root; it should start one that does not run." form:"command" example:"\"systemctl reload-or-restart nginx\""`
	AddCommand      string   `toml:"add_command" doc:"For original: adds the webserver whose address follows, as root." form:"command"`
	RemoveCommand   string   `toml:"remove_command" doc:"For original: removes the webserver whose address follows, as root." form:"command"`
	RootCommand     string   `toml:"root_command" doc:"What makes a command on a proxy run as root; ssh.sudo_password is on its standard input. Empty runs it as the login user." form:"command" optional:"true" example:"\"sudo -S -p ''\""`
	Path            string   `toml:"path" doc:"The file that health checks ask a proxy for; left out, website.head_file." form:"urlpath" example:"\"index.html\""`
	AcceptStatus    []int    `toml:"accept_status" doc:"HTTP status codes of a proxy that is up; 401 is one that asks for a password." min:"100" max:"599"`
	Strikes         int      `toml:"strikes" doc:"At so many failed checks in a row a proxy is taken out of DNS; it is never destroyed." min:"1" max:"10"`
	MinPublished    int      `toml:"min_published" doc:"So many proxies stay in DNS even if they fail." min:"1" max:"20"`
	Recheck         Duration `toml:"recheck" doc:"How often a proxy is asked whether it still has what it was given; otherwise it is logged in to only for a change." min:"1s" max:"7d"`
	RemovalDeadline Duration `toml:"removal_deadline" doc:"How long a webserver that a proxy may still have is kept from being destroyed." min:"1s" max:"7d"`
}

// What a proxy of the original has, below the server user's home.
const (
	originalAddIP    = "sh providerscripts/webserver/configuration/reverseproxy/AddNewIPToReverseProxyIPList.sh"
	originalRemoveIP = "sh providerscripts/webserver/configuration/reverseproxy/RemoveOldIPFromReverseProxyIPList.sh"
)

func defaultProxies() Proxies {
	return Proxies{
		Kind: "nginx", Addresses: []string{}, AddCommand: originalAddIP, RemoveCommand: originalRemoveIP,
		AcceptStatus: []int{200, 301, 302, 303, 401}, Strikes: 2, MinPublished: 1,
		Recheck: Duration(10 * time.Minute), RemovalDeadline: Duration(10 * time.Minute),
	}
}

// deriveProxies fills in what the kind and the build tell. Files and commands are
// Debian's.
func (c *Config) deriveProxies(isSet func(string) bool, from func(key, origin string)) {
	p := &c.Proxies
	text := func(key string, field *string, value, origin string) {
		if !isSet("proxies." + key) {
			*field = value
			from("proxies."+key, origin)
		}
	}
	text("upstream", &p.Upstream, "adt-"+c.Autoscaler.Build, "of autoscaler.build")
	text("path", &p.Path, c.Website.HeadFile, "as website.head_file")
	// disablereuse: a webserver may close a connection that apache keeps just when
	// the next request is sent there, and a POST is not sent twice.
	kinds := map[string]struct{ file, options, test, reload string }{
		"nginx":   {"/etc/nginx/conf.d/adt-%s.conf", "max_fails=2 fail_timeout=10s", "nginx -t", "systemctl reload-or-restart nginx"},
		"haproxy": {"/etc/haproxy/adt/%s.cfg", "check inter 5s ssl verify none", "haproxy -c -f /etc/haproxy/haproxy.cfg -f /etc/haproxy/adt", "systemctl reload-or-restart haproxy"},
		"apache":  {"/etc/apache2/conf-enabled/adt-%s.conf", "retry=10 disablereuse=on", "apachectl configtest", "systemctl reload-or-restart apache2"},
	}
	kind, file := kinds[p.Kind], "" // original has none of these
	if kind.file != "" {
		file = fmt.Sprintf(kind.file, c.Autoscaler.Build)
	}
	origin := "proxies.kind = \"" + p.Kind + "\""
	text("file", &p.File, file, origin)
	text("server_options", &p.ServerOptions, kind.options, origin)
	text("test_command", &p.TestCommand, kind.test, origin)
	text("reload_command", &p.ReloadCommand, kind.reload, origin)
	root := strings.TrimSpace(sudo)
	if p.Kind == "original" { // whose scripts look for their files in the user's home
		root = "sudo -S -E -p ''"
	}
	text("root_command", &p.RootCommand, root, origin)
}

// ProxyAddresses are the configured proxies; none where they are found by name.
func (p Proxies) ProxyAddresses() [][2]netip.Addr {
	var all [][2]netip.Addr
	for _, text := range p.Addresses {
		if public, private, err := addressPair(text); err == nil {
			all = append(all, [2]netip.Addr{public, private})
		}
	}
	return all
}

// addressPair reads "PUBLIC PRIVATE", or one address that is both.
func addressPair(text string) (public, private netip.Addr, err error) {
	words := strings.Fields(text)
	if len(words) < 1 || len(words) > 2 {
		return public, private, fmt.Errorf("must be \"PUBLIC PRIVATE\" or one address, is %s", describe(text))
	}
	for i, into := range []*netip.Addr{&public, &private} {
		if *into, err = netip.ParseAddr(words[min(i, len(words)-1)]); err != nil || into.Zone() != "" {
			return public, private, fmt.Errorf("must be IP addresses, is %s", describe(text))
		}
	}
	return public, private, nil
}

func (c *Config) checkProxies(p *problems) {
	x := c.Proxies
	if !x.Enabled {
		return
	}
	if n := len(x.Addresses); p.sound("proxies.addresses", "proxies.count") && n > 0 && x.Count > n {
		p.add("proxies.count", "is %d, and proxies.addresses names %d", x.Count, n)
	}
	if p.sound("proxies.min_published", "proxies.count") && x.Count > 0 && x.MinPublished > x.Count {
		p.add("proxies.min_published", "must be at most proxies.count (%d), is %d", x.Count, x.MinPublished)
	}
}
