package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Firewall is what this machine lets in.
type Firewall struct {
	Tool     string   `toml:"tool" doc:"What guards this machine: nftables, iptables or ufw; auto takes the one at work, or else the first that is installed." oneof:"auto nftables iptables ufw"`
	VPC      []string `toml:"vpc" doc:"The private network's ranges of addresses: SSH, port 443 and ping are let in from there. With this and ssh left empty adt sets no firewall." form:"range" optional:"true"`
	SSH      []string `toml:"ssh" doc:"From where else SSH is let in: the build machine outside of the VPC, your own address." form:"range" optional:"true"`
	Web      []string `toml:"web" doc:"From where else port 443 is let in." form:"range" optional:"true"`
	Ping     string   `toml:"ping" doc:"Who gets an answer to a ping; ufw answers all." oneof:"vpc all none"`
	Ports    []string `toml:"ports" doc:"Further ports: \"8080/tcp from 81.10.166.111/32\", or as in the original \"8080|ipv4|81.10.166.111/32\", with a fourth field DELETE to take one away; the lines AUTOSCALERPORTS: of runtime/firewallports.dat count too." form:"argument" optional:"true"`
	SSHPort  int      `toml:"ssh_port" doc:"The port of sshd on this machine; left out, ssh.port, or 22 with local servers." min:"1" max:"65535" example:"22"`
	Confirm  Duration `toml:"confirm" doc:"A change is taken back by itself after this, unless adt firewall confirm says that it is good." min:"1s" max:"1h"`
	Fail2ban bool     `toml:"fail2ban" doc:"Whether fail2ban, where it is installed, guards the SSH port: three failed logins in 10 minutes are an hour outside."`
}

// AuditSSH is which logins are worth a notice.
type AuditSSH struct {
	Known []string `toml:"known" doc:"Addresses and ranges that log in to this machine without a notice, besides firewall.vpc and firewall.ssh." form:"range" optional:"true"`
}

func defaultFirewall() Firewall {
	return Firewall{Tool: "auto", VPC: []string{}, SSH: []string{}, Web: []string{}, Ping: "vpc", Ports: []string{}, Confirm: Duration(2 * time.Minute), Fail2ban: true}
}

// checkRange says what is wrong with an address or a range of them.
func checkRange(v string) error {
	prefix, err := netip.ParsePrefix(v)
	addr, errAddr := netip.ParseAddr(v)
	if err == nil && !prefix.Addr().Is4In6() || errAddr == nil && addr.Zone() == "" {
		return nil
	}
	return fmt.Errorf("must be a range of addresses such as 10.0.0.0/16 or fd00::/64, or one address, is %s", describe(v))
}

// Private is what nobody but the owner may read: the files of the configuration
// at path that hold secrets, and the build key. It reads nothing but that file
// and looks at no mode, so that it also tells of files that Load refuses.
func Private(path string, env Env) ([]string, error) {
	var files []string
	add := func(file string) {
		if !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	cfg, err := peek(path, env, func(cfg *Config, text string) {
		file, named := strings.CutPrefix(text, "file:")
		switch {
		case strings.HasPrefix(text, "env:"):
		case !named:
			add(cfg.Path)
		default:
			file, _, _ = strings.Cut(file, "#")
			if file, err := cfg.expand(file); err == nil {
				add(file)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	key, err := cfg.key()
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(key); key != "" && err == nil {
		add(key)
	}
	return files, nil
}

// KeyPath is where the build key of the configuration at path is, whatever else is
// wrong with that; it is an error when it names no build.
func KeyPath(path string, env Env) (string, error) {
	cfg, err := peek(path, env, func(*Config, string) {})
	if err != nil {
		return "", err
	}
	key, err := cfg.key()
	if err == nil && key == "" {
		err = &Error{File: path, Key: "autoscaler.build", Msg: "is not set"}
	}
	return key, err
}

// IsUser reports whether a name may be that of the server user.
func IsUser(name string) bool { return checkForm("user", name) == nil }

// peek reads a configuration without its checks; secret is given each that is written
// in it.
func peek(path string, env Env, secret func(cfg *Config, text string)) (*Config, error) {
	data, _, err := readFile(path, sizeLimit)
	if err != nil {
		return nil, &Error{File: path, Msg: strings.TrimPrefix(err.Error(), path+": ")}
	}
	doc, top, err := parse(string(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	cfg := defaults()
	cfg.Path, cfg.Home = absolute, env.Getenv("HOME")
	doc.decode(nil, top, schema(&cfg), func(text string) (Secret, error) {
		secret(&cfg, text)
		return Secret{}, nil
	}, &problems{file: path, line: doc.line, bad: map[string]bool{}})
	return &cfg, nil
}

// key is the path of the build key; "" is not known.
func (c *Config) key() (string, error) {
	switch {
	case c.SSH.Key != "":
		key, err := c.expand(c.SSH.Key)
		if err != nil {
			return "", fmt.Errorf("%s: ssh.key: %w", c.Path, err)
		}
		return key, nil
	case c.Autoscaler.Build != "":
		return filepath.Join(c.Home, ".ssh", "id_ed25519_AGILE_DEPLOYMENT_BUILD_KEY_"+c.Autoscaler.Build), nil
	}
	return "", nil
}
