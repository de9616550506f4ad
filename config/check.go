package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// derive fills in what the file leaves out and other values tell.
func (c *Config) derive(isSet func(string) bool, hostname string, p *problems) {
	from := func(key, origin string) { c.origin[key] = origin }
	if !isSet("autoscaler.number") {
		c.Autoscaler.Number = hostNumber(hostname)
		from("autoscaler.number", "host name "+hostname)
		if c.Autoscaler.Number == 0 {
			p.add("autoscaler.number", "missing, and the host name %q does not tell it, as NO-<number>-as-… would: write a number from 1 to 5, or 0 on the build machine", hostname)
		}
	}
	if !isSet("provider.dns") {
		c.Provider.DNS = c.Provider.Servers
		from("provider.dns", "as provider.servers")
	}
	local := c.Provider.Servers == "local"
	port := func(key string, port *int, usual, ofLocal int) {
		if isSet(key) {
			return
		}
		*port = usual
		if local {
			*port = ofLocal
			from(key, "as local."+strings.ReplaceAll(key, ".", "_"))
		}
	}
	port("ssh.port", &c.SSH.Port, 22, c.Local.SSHPort)
	port("https.port", &c.HTTPS.Port, 443, c.Local.HTTPSPort)
	if !isSet("ssh.key") {
		c.SSH.Key = filepath.Join(c.Home, ".ssh", "id_ed25519_AGILE_DEPLOYMENT_BUILD_KEY_"+c.Autoscaler.Build)
		from("ssh.key", "of autoscaler.build")
	}
	if c.Scale.Drain == 0 {
		c.Scale.Drain = c.Website.TTL + Duration(30*time.Second)
		from("scale.drain", "website.ttl + 30s")
	}
	if !isSet("digitalocean.ssh_key") {
		c.DigitalOcean.SSHKey = "AGILE_TOOLKIT_PUBLIC_KEY-" + c.Autoscaler.Build
		from("digitalocean.ssh_key", "of autoscaler.build")
	}
	c.preset(isSet, from)
	c.deriveNotify(isSet, from)
	c.derivePostMortem(isSet, from)
	if !isSet("firewall.ssh_port") {
		c.Firewall.SSHPort = c.SSH.Port
		from("firewall.ssh_port", "as ssh.port")
		if local { // whose machines are processes; this one has an sshd of its own
			c.Firewall.SSHPort = 22
			from("firewall.ssh_port", "default")
		}
	}
	c.deriveProxies(isSet, from)
	if !isSet("reboot.command") {
		c.Reboot.Command = []string{"/usr/sbin/shutdown", "-r", "now"}
		if local {
			c.Reboot.Command = []string{}
			from("reboot.command", "none for local servers")
		}
	}
}

// hostNumber is k of an autoscaler's host name NO-<k>-as-…, as in the
// original; 0 if it is none. Some systems write host names in lower case.
func hostNumber(hostname string) int {
	fields := strings.Split(hostname, "-")
	if len(fields) < 4 || !strings.EqualFold(fields[0], "NO") || !strings.EqualFold(fields[2], "as") {
		return 0
	}
	if n, err := strconv.Atoi(fields[1]); err == nil && n >= 1 && n <= 5 && len(fields[1]) == 1 {
		return n
	}
	return 0
}

// checkAlone holds every value against its own rules. Those that derive will
// fill in have none yet.
func (c *Config) checkAlone(sections []section, isSet func(string) bool, p *problems) {
	for _, section := range sections {
		for _, s := range section.settings {
			if !p.sound(s.key) || s.example != "" && !isSet(s.key) {
				continue
			}
			if err := c.checkOne(s); err != nil {
				p.add(s.key, "%v", err)
			}
		}
	}
}

// checkOne applies the rules of the schema to one value. Paths are expanded,
// host names put in lower case.
func (c *Config) checkOne(s setting) error {
	switch v := s.value.(type) {
	case *int:
		return within(s, *v, strconv.Atoi)
	case *Duration:
		return within(s, *v, parseDuration)
	case *string:
		return c.checkText(s, v)
	case *[]int:
		return checkList(s, *v, func(item *int) error { return within(s, *item, strconv.Atoi) })
	case *[]Duration:
		return checkList(s, *v, func(item *Duration) error { return within(s, *item, parseDuration) })
	case *[]string:
		return checkList(s, *v, func(item *string) error {
			if *item == "" {
				return errors.New("must not be empty")
			}
			return checkForm(s.form, *item)
		})
	}
	return nil
}

func parseDuration(text string) (d Duration, err error) {
	err = d.UnmarshalText([]byte(text))
	return d, err
}

// within checks a number or duration against the limits of the schema.
func within[T int | Duration](s setting, v T, parse func(string) (T, error)) error {
	low, errLow := parse(s.min)
	high, errHigh := parse(s.max)
	if err := errors.Join(errLow, errHigh); err != nil {
		return fmt.Errorf("the schema's limits: %w", err)
	}
	if v < low || v > high {
		return fmt.Errorf("must be %s to %s, is %v", s.min, s.max, v)
	}
	return nil
}

func checkList[T any](s setting, items []T, check func(*T) error) error {
	if len(items) == 0 && !s.optional {
		return errors.New("must have an entry")
	}
	if len(items) > 100 {
		return fmt.Errorf("must have at most 100 entries, has %d", len(items))
	}
	for i := range items {
		if err := check(&items[i]); err != nil {
			return fmt.Errorf("entry %d: %w", i+1, err)
		}
	}
	return nil
}

func (c *Config) checkText(s setting, v *string) error {
	switch {
	case *v == "" && s.required:
		return errors.New("required: " + strings.ToLower(s.doc[:1]) + strings.TrimSuffix(s.doc[1:], "."))
	case *v == "" && s.optional:
		return nil
	case *v == "":
		return errors.New("must not be empty; leave it out for the default")
	case len(s.oneof) > 0 && !slices.Contains(s.oneof, *v):
		return fmt.Errorf("must be %s, is %s", strings.Join(s.oneof, " or "), describe(*v))
	case s.form == "path":
		if c.Home == "" && strings.HasPrefix(*v, "~") {
			return nil // the missing $HOME is reported once
		}
		path, err := c.expand(*v)
		if err != nil {
			return err
		}
		*v = path
		return nil
	}
	if s.form == "host" { // DNS does not care for capitals, bucket names do
		*v = strings.ToLower(*v)
	}
	return checkForm(s.form, *v)
}

// checkForm says what is wrong with a text of the given form.
func checkForm(form, v string) error {
	is := func(pattern string) bool { return regexp.MustCompile(`^(?:` + pattern + `)$`).MatchString(v) }
	oneLine := !strings.ContainsFunc(v, unicode.IsControl)
	switch form {
	case "label":
		if !is(`[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?`) {
			return fmt.Errorf("must be letters, digits and dashes, a dash neither first nor last, is %s", describe(v))
		}
	case "user":
		if !is(`[A-Za-z_][A-Za-z0-9_.-]{0,31}`) {
			return fmt.Errorf("must be a user name of at most 32 letters, digits, dots, dashes and underscores, is %s", describe(v))
		}
		if strings.ContainsAny(v[:min(4, len(v))], "-_") { // vendors refuse the one, our names are split at the other
			return fmt.Errorf("must have neither - nor _ in its first 4 characters, which become part of server names, is %s", describe(v))
		}
	case "host":
		return checkHost(v)
	case "urlpath":
		if !oneLine || strings.HasPrefix(v, "/") || strings.ContainsAny(v, " ?#") {
			return fmt.Errorf("must be a path without leading /, blanks, ? and #, is %s", describe(v))
		}
	case "remote":
		if !oneLine || strings.HasPrefix(v, "~") {
			return fmt.Errorf("must be a path on the webserver on one line, without ~ as it is relative to the user's home, is %s", describe(v))
		}
	case "url":
		u, err := url.Parse(v)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return fmt.Errorf("must be an address such as https://api.example.com/, is %s", describe(v))
		}
		if host := u.Hostname(); u.Scheme == "http" && !isLoopback(host) {
			return fmt.Errorf("must begin with https://, as secrets go there, is %s", describe(v))
		}
		if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return errors.New("must have no user, ? and #")
		}
	case "address":
		if _, err := netip.ParseAddr(v); err != nil {
			return fmt.Errorf("must be an IP address, is %s", describe(v))
		}
	case "mail":
		return checkMail(v)
	case "server":
		return checkServer(v)
	case "range4":
		_, err := parseRange(v)
		return err
	case "range":
		return checkRange(v)
	case "addresspair":
		_, _, err := addressPair(v)
		return err
	case "options": // goes into a line of somebody else's configuration
		if !oneLine || strings.ContainsAny(v, "{};#\"'\\") {
			return fmt.Errorf("must be words without quotes, braces, ; and #, is %s", describe(v))
		}
	case "command", "argument":
		if !oneLine {
			return fmt.Errorf("must be on one line, is %s", describe(v))
		}
	}
	return nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback() || host == "localhost"
}

// checkHost says what is wrong with a website's host name. The zone is the
// name without its first label, so there must be two.
func checkHost(v string) error {
	if strings.ContainsAny(v, ":/") {
		return fmt.Errorf("must be a host name alone, without https://, port or path, is %s", describe(v))
	}
	if _, err := netip.ParseAddr(v); err == nil {
		return fmt.Errorf("must be a host name, not an address, is %s", describe(v))
	}
	labels := strings.Split(v, ".")
	label := regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	for _, l := range labels {
		if !label.MatchString(l) || len(v) > 253 {
			return fmt.Errorf("must be a host name such as www.example.com, is %s", describe(v))
		}
	}
	if len(labels) < 2 {
		return fmt.Errorf("must have a dot, as the DNS zone is what follows the first one, is %s", describe(v))
	}
	return nil
}

// nameLimit is the longest host name, in bytes; server names become host names.
const nameLimit = 63

// checkTogether finds values that are right alone but not with each other.
func (c *Config) checkTogether(p *problems) {
	a, b := c.Autoscaler, c.Build
	if p.sound("autoscaler.number", "autoscaler.count") && a.Number > a.Count {
		p.add("autoscaler.count", "must be at least %d, as this is autoscaler %d (%s), is %d", a.Number, a.Number, c.origin["autoscaler.number"], a.Count)
	}
	if p.sound("autoscaler.region", "autoscaler.build") {
		longest := len("ws-" + a.Region + "-" + a.Build + "-5-user-init-99")
		if longest > nameLimit {
			p.add("autoscaler.build", "and the region must be %d characters shorter together: server names have at most %d", longest-nameLimit, nameLimit)
		}
	}
	if p.sound("website.ttl") && c.Website.TTL.Std()%time.Second != 0 {
		p.add("website.ttl", "must be whole seconds, is %s", c.Website.TTL)
	}
	if p.sound("local.ssh_port", "local.https_port") && c.Local.SSHPort == c.Local.HTTPSPort {
		p.add("local.https_port", "must not be local.ssh_port, is %d as well", c.Local.HTTPSPort)
	}
	if c.Provider.Servers == "local" && p.sound("ssh.port", "local.ssh_port") && c.SSH.Port != c.Local.SSHPort {
		p.add("ssh.port", "must be local.ssh_port (%d) for local servers, is %d; leave it out", c.Local.SSHPort, c.SSH.Port)
	}
	if c.Provider.Servers == "local" && p.sound("https.port", "local.https_port") && c.HTTPS.Port != c.Local.HTTPSPort {
		p.add("https.port", "must be local.https_port (%d) for local servers, is %d; leave it out", c.Local.HTTPSPort, c.HTTPS.Port)
	}
	if p.sound("ssh.key") && (p.sound("autoscaler.build") || c.origin["ssh.key"] != "of autoscaler.build") && c.Home != "" {
		c.checkKey(p)
	}

	c.checkAccounts(p)
	c.checkMetrics(p)
	c.checkHeartbeat(p)
	c.checkNotify(p)
	c.checkProxies(p)
	atMost := func(key string, d Duration, limitKey string, limit Duration) {
		if p.sound(key, limitKey) && d > limit {
			p.add(key, "must be at most %s (%s), is %s", limitKey, limit, d)
		}
	}
	atMost("build.phase.created", b.Phase.Created, "build.deadline", b.Deadline)
	atMost("build.phase.addressed", b.Phase.Addressed, "build.deadline", b.Deadline)
	atMost("build.phase.ready", b.Phase.Ready, "build.deadline", b.Deadline)
	atMost("build.phase.configured", b.Phase.Configured, "build.deadline", b.Deadline)
	atMost("build.phase.serving", b.Phase.Serving, "build.deadline", b.Deadline)
	atMost("build.poll", b.Poll, "build.deadline", b.Deadline)
	// A settle beyond the phase would never see its create repeated.
	atMost("build.settle", b.Settle, "build.phase.created", b.Phase.Created)
	if p.sound("build.deadline", "reboot.cycle_limit") && c.Reboot.CycleLimit <= b.Deadline {
		p.add("reboot.cycle_limit", "must be longer than build.deadline (%s), is %s", b.Deadline, c.Reboot.CycleLimit)
	}
}

// checkKey looks at the private key as ssh does: it must be there, and no one
// else's to read.
func (c *Config) checkKey(p *problems) {
	_, mode, err := readFile(c.SSH.Key, secretLimit)
	switch {
	case err != nil:
		p.add("ssh.key", "cannot read the build key: %v", err)
	case mode&0o077 != 0:
		p.add("ssh.key", "others may read the build key (mode %04o): run chmod 600 %s", mode, c.SSH.Key)
	}
}
