package cloudinit

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"
)

// demands are the keys by which a document does what a Webserver asks for.
type demands struct {
	Packages   []string `yaml:"packages"`
	RunCmd     []any    `yaml:"runcmd"`
	WriteFiles []struct {
		Path     string `yaml:"path"`
		Content  string `yaml:"content"`
		Encoding string `yaml:"encoding"`
	} `yaml:"write_files"`
}

// check reads user data back and compares it with w.
func (w Webserver) check(data []byte) error {
	if !bytes.HasPrefix(data, []byte(header)) {
		return errors.New("the first line must be #cloud-config, with nothing before or behind it")
	}
	if len(data) > Limit {
		return fmt.Errorf("%d bytes are too long: at most %d; mind the site and what the webserver can fetch itself", len(data), Limit)
	}
	var doc document
	var asked demands
	files, err := parser.ParseBytes(data, 0)
	if err == nil && len(files.Docs) != 1 {
		return fmt.Errorf("%d YAML documents, must be one", len(files.Docs))
	}
	for _, into := range []any{&doc, &asked} {
		if err == nil {
			err = yaml.Unmarshal(data, into)
		}
	}
	if err != nil {
		return w.badYAML(data, err)
	}
	if err := w.identical(doc); err != nil {
		return err
	}
	return w.satisfied(asked)
}

// badYAML says what is wrong in which line. The YAML library would show the
// lines around it, and with them secrets.
func (w Webserver) badYAML(data []byte, err error) error {
	var wrong yaml.Error
	if !errors.As(err, &wrong) || wrong.GetToken() == nil {
		return fmt.Errorf("no valid YAML: %s", yaml.FormatError(err, false, false))
	}
	n := wrong.GetToken().Position.Line
	lines := strings.Split(string(data), "\n")
	shown := ""
	if 0 < n && n <= len(lines) {
		shown = fmt.Sprintf(" (%.60q)", w.discreet(strings.TrimSpace(lines[n-1])))
	}
	return fmt.Errorf("no valid YAML: line %d of what it renders%s: %s", n, shown, wrong.GetMessage())
}

// identical compares that without which the machine is out of reach.
func (w Webserver) identical(doc document) error {
	switch {
	case doc.Hostname != w.Hostname:
		return errors.New("hostname is not the server's name")
	case len(doc.Users) == 0 || doc.Users[0].Name != w.User:
		return errors.New("the first of users is not the server user")
	case !slices.Equal(doc.Users[0].SSHAuthorizedKeys, w.AuthorizedKeys):
		return errors.New("ssh_authorized_keys of the first of users are not the authorised keys")
	case doc.SSHKeys.Private != w.HostKeyPrivate || doc.SSHKeys.Public != w.HostKeyPublic:
		return errors.New("ssh_keys are not the pinned host key")
	case !doc.SSHDeleteKeys:
		return errors.New("ssh_deletekeys must be true, or the image's host keys answer in place of the pinned one")
	}
	return nil
}

// satisfied finds what w asks for and the template passes over: an operator
// who set it would wait for it in vain.
func (w Webserver) satisfied(found demands) error {
	for _, p := range w.Packages {
		if !slices.Contains(found.Packages, p) {
			return fmt.Errorf("it does not install packages (%s)", p)
		}
	}
	commands := fmt.Sprint(found.RunCmd...)
	for _, command := range slices.Concat(w.Run, []string{w.RepositoryURL, w.BuildCommand}) {
		word, err := shell(command)
		if err != nil || !strings.Contains(commands, command) && !strings.Contains(commands, word) {
			return fmt.Errorf("its runcmd does not use %q", command)
		}
	}
	return w.written(found)
}

// written compares the files of w with write_files.
func (w Webserver) written(found demands) error {
	contents := map[string]string{}
	for _, f := range found.WriteFiles {
		content, err := decode(f.Content, f.Encoding)
		if err != nil {
			return fmt.Errorf("write_files, %s: %w", f.Path, err)
		}
		name := path.Clean(f.Path)
		if _, twice := contents[name]; twice {
			return fmt.Errorf("write_files has %s twice", name)
		}
		contents[name] = content
	}
	wanted := map[string]string{}
	for name, content := range w.Site {
		wanted[path.Join("/var/www/html", name)] = string(content)
	}
	for name, content := range w.Settings {
		wanted[path.Join("/home", w.User, name)] = string(content)
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if got, ok := contents[name]; !ok || got != wanted[name] {
			return fmt.Errorf("its write_files does not make %s as it should be", name)
		}
	}
	return nil
}

// decode undoes an encoding of write_files.
func decode(content, encoding string) (string, error) {
	switch encoding {
	case "":
		return content, nil
	case "b64", "base64", "gz+b64", "gzip+base64", "gz+base64", "gzip+b64":
	default:
		return "", fmt.Errorf("the encoding %q is not known", encoding)
	}
	data, err := base64.StdEncoding.DecodeString(content)
	if err != nil || !strings.HasPrefix(encoding, "gz") {
		return string(data), err
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return "", err
	}
	data, err = io.ReadAll(z)
	return string(data), err
}

// discreet is a message without the secrets of w: all of it goes if it holds a
// part of one.
func (w Webserver) discreet(message string) string {
	secrets := strings.Split(w.HostKeyPrivate, "\n")
	secrets = append(secrets, w.PasswordHash)
	for _, content := range w.Settings {
		secrets = append(secrets, strings.Split(string(content), "\n")...)
	}
	for _, s := range secrets {
		// What is short is in any message.
		if s = strings.TrimSpace(s); len(s) >= 8 && strings.Contains(message, s) {
			return "not shown, as it holds a secret"
		}
	}
	return message
}
