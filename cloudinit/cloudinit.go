// Package cloudinit writes and reads the user data a webserver boots from: a
// cloud-config document with the keys of the real cloud-init. It must not know
// vendors, fleets or files.
package cloudinit

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
)

// header is the first line by which cloud-init recognises a cloud-config.
const header = "#cloud-config\n"

// Webserver is what a webserver has to know at its first boot.
type Webserver struct {
	Hostname       string
	User           string   // the server user; logs in over SSH by key alone
	AuthorizedKeys []string // public keys of that user, in authorized_keys form
	HostKeyPrivate string   // ed25519, OpenSSH PEM
	HostKeyPublic  string   // the same key in authorized_keys form
}

type document struct {
	Hostname      string  `yaml:"hostname,omitempty"`
	Users         []user  `yaml:"users,omitempty"`
	SSHDeleteKeys bool    `yaml:"ssh_deletekeys"`
	SSHKeys       sshKeys `yaml:"ssh_keys,omitempty"`
}

type user struct {
	Name              string   `yaml:"name"`
	Sudo              string   `yaml:"sudo,omitempty"`
	Shell             string   `yaml:"shell,omitempty"`
	SSHAuthorizedKeys []string `yaml:"ssh_authorized_keys,omitempty"`
}

type sshKeys struct {
	Private string `yaml:"ed25519_private,omitempty"`
	Public  string `yaml:"ed25519_public,omitempty"`
}

// Render makes the user data of w. ssh_deletekeys is set, so that an image's
// own host keys never answer in place of the pinned one. What the machine
// could not be reached without is an error when it is missing.
func Render(w Webserver) ([]byte, error) {
	for _, field := range []struct{ name, value string }{
		{"hostname", w.Hostname},
		{"user", w.User},
		{"authorised keys", strings.Join(w.AuthorizedKeys, "")},
		{"private host key", w.HostKeyPrivate},
		{"public host key", w.HostKeyPublic},
	} {
		if strings.TrimSpace(field.value) == "" {
			return nil, fmt.Errorf("render user data of %q: no %s", w.Hostname, field.name)
		}
	}
	body, err := yaml.MarshalWithOptions(document{
		Hostname: w.Hostname,
		Users: []user{{
			Name:              w.User,
			Sudo:              "ALL=(ALL) NOPASSWD:ALL",
			Shell:             "/bin/bash",
			SSHAuthorizedKeys: w.AuthorizedKeys,
		}},
		SSHDeleteKeys: true,
		SSHKeys:       sshKeys{Private: w.HostKeyPrivate, Public: w.HostKeyPublic},
	}, yaml.UseLiteralStyleIfMultiline(true))
	if err != nil {
		return nil, fmt.Errorf("render user data of %q: %w", w.Hostname, err)
	}
	data := append([]byte(header), body...)
	// The YAML library leaves some texts unquoted that it cannot read back
	// ("? !"); a machine that boots from such a document is out of reach.
	if read, err := Parse(data); err != nil || !reflect.DeepEqual(read, w) {
		return nil, fmt.Errorf("render user data of %q: a user or key that cannot be written in YAML", w.Hostname)
	}
	return data, nil
}

// Parse reads user data back. Keys that it does not know are passed over; of
// several users it takes the first. Missing keys leave their fields empty.
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
