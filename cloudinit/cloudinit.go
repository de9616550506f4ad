// Package cloudinit writes and reads the user data a webserver boots from: a
// cloud-config document with the keys of the real cloud-init, made from a
// template. It must not know vendors or fleets, and reads no files but those of
// the folders that it is handed.
package cloudinit

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml"
)

const (
	// Limit is how long user data may be, in bytes; DigitalOcean and others take
	// no more.
	Limit = 64 << 10

	// header is the first line by which cloud-init recognises a cloud-config.
	header = "#cloud-config\n"
)

// Webserver is what a webserver has to know at its first boot. Without one of
// the first five nobody could reach it; the others may be left zero.
type Webserver struct {
	Hostname       string
	User           string   // the server user; logs in over SSH by key alone
	AuthorizedKeys []string // public keys of that user, in authorized_keys form
	HostKeyPrivate string   // ed25519, OpenSSH PEM
	HostKeyPublic  string   // the same key in authorized_keys form

	PasswordHash string // crypt(3); sudo asks for that password, or for none if there is no hash
	TimeZone     string // such as Europe/Berlin; "" is the image's own
	SSHPort      int    // 0 is 22
	HTTPSPort    int    // 0 is 443
	HeadFile     string // what health checks ask for, relative to the web root; "" is index.html

	Packages []string          // Debian packages, besides those of the template
	Run      []string          // shell commands, run as root at the first boot; one that fails ends it
	Site     map[string][]byte // path relative to the web root → content

	// The following are for the webserver scripts of the original.
	Settings         map[string][]byte // path relative to the user's home → content, readable by the user only
	RepositoryURL    string            // of the scripts; cloned into the user's home
	RepositoryBranch string            // "" is the repository's own choice
	BuildCommand     string            // shell command, run as root in the user's home, in place of the scripts' own order
}

// Render makes the user data of w from the minimal template. What the machine
// could not be reached without is an error when it is missing.
func Render(w Webserver) ([]byte, error) {
	t, err := Builtin("minimal")
	if err != nil {
		return nil, err
	}
	return t.Render(w)
}

// document holds the keys of a cloud-config that are read back. ssh_deletekeys
// is among what templates set, so that an image's own host keys never answer in
// place of the pinned one.
type document struct {
	Hostname      string  `yaml:"hostname"`
	Users         []user  `yaml:"users"`
	SSHDeleteKeys bool    `yaml:"ssh_deletekeys"`
	SSHKeys       sshKeys `yaml:"ssh_keys"`
}

type user struct {
	Name              string   `yaml:"name"`
	SSHAuthorizedKeys []string `yaml:"ssh_authorized_keys"`
}

type sshKeys struct {
	Private string `yaml:"ed25519_private"`
	Public  string `yaml:"ed25519_public"`
}

// Parse reads user data back: the first five fields of a Webserver. Keys that
// it does not know are passed over; of several users it takes the first.
// Missing keys leave their fields empty.
func Parse(userData []byte) (Webserver, error) {
	if !bytes.HasPrefix(userData, []byte(header)) {
		return Webserver{}, errors.New("parse user data: the first line is not #cloud-config")
	}
	var doc document
	if err := yaml.Unmarshal(userData, &doc); err != nil {
		return Webserver{}, fmt.Errorf("parse user data: %w", err)
	}
	w := Webserver{
		Hostname:       doc.Hostname,
		HostKeyPrivate: doc.SSHKeys.Private,
		HostKeyPublic:  doc.SSHKeys.Public,
	}
	if len(doc.Users) > 0 {
		w.User, w.AuthorizedKeys = doc.Users[0].Name, doc.Users[0].SSHAuthorizedKeys
	}
	return w, nil
}

// complete finds what w lacks, and what could be mistaken for something else
// where it is read: the line of one key must not become two.
func (w Webserver) complete() error {
	for _, needed := range []struct{ name, value string }{
		{"hostname", w.Hostname},
		{"user", w.User},
		{"authorised keys", strings.Join(w.AuthorizedKeys, "")},
		{"private host key", w.HostKeyPrivate},
		{"public host key", w.HostKeyPublic},
	} {
		if strings.TrimSpace(needed.value) == "" {
			return fmt.Errorf("no %s", needed.name)
		}
	}
	for _, line := range []struct {
		name   string
		values []string
	}{
		{"hostname", []string{w.Hostname}},
		{"user", []string{w.User}},
		{"authorised keys", w.AuthorizedKeys},
		{"public host key", []string{w.HostKeyPublic}},
		{"password hash", []string{w.PasswordHash}},
		{"time zone", []string{w.TimeZone}},
		{"packages", w.Packages},
	} {
		for _, value := range line.values {
			if strings.ContainsFunc(strings.TrimSuffix(value, "\n"), unicode.IsControl) {
				return fmt.Errorf("control characters, such as the end of a line, in %s", line.name)
			}
		}
	}
	return nil
}
