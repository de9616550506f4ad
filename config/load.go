package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Env is what Load takes from its surroundings.
type Env struct {
	Getenv   func(string) string
	Hostname string // of this machine; NO-<k>-as-… makes it autoscaler k
}

// sizeLimit is the largest file that is read, in bytes. A real one has a few KiB.
const sizeLimit = 1 << 20

// Find returns the path of the configuration: flag if not empty, else
// $ADT_CONFIG, else the first that exists of $HOME/adt.toml and
// /etc/adt/adt.toml. A path that was asked for is returned even if it does not
// exist, as another one is not what was meant.
func Find(flag string, getenv func(string) string) (string, error) {
	return findFile(flag, getenv, "/etc/adt/adt.toml")
}

func findFile(flag string, getenv func(string) string, system string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	if path := getenv("ADT_CONFIG"); path != "" {
		return path, nil
	}
	var places []string
	if home := getenv("HOME"); home != "" {
		places = append(places, filepath.Join(home, "adt.toml"))
	}
	places = append(places, system)
	for _, path := range places {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return path, nil // Load says what is wrong with it
		}
	}
	return "", fmt.Errorf("no configuration: looked at --config, $ADT_CONFIG, %s; make one with: adt config example > ~/adt.toml",
		strings.Join(places, ", "))
}

// Load reads and checks the configuration at path. Its error joins one *Error
// for each thing that is wrong, in the order of the file.
func Load(path string, env Env) (*Config, error) {
	if env.Getenv == nil {
		env.Getenv = func(string) string { return "" }
	}
	data, mode, err := readFile(path, sizeLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{File: path, Msg: "no such file; make one with: adt config example > " + path}
	}
	if err != nil {
		return nil, &Error{File: path, Msg: strings.TrimPrefix(err.Error(), path+": ")}
	}
	doc, top, err := parse(string(data))
	if err != nil {
		var at *Error
		if errors.As(err, &at) {
			at.File = path
		}
		return nil, err
	}
	p := &problems{file: path, line: doc.line, bad: map[string]bool{}}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, &Error{File: path, Msg: err.Error()}
	}
	cfg := defaults()
	cfg.Path, cfg.Home = absolute, env.Getenv("HOME")
	if !filepath.IsAbs(cfg.Home) {
		p.add("", "$HOME is %q, must be an absolute path: state, logs and ~/ are below it", cfg.Home)
		cfg.Home = ""
	}

	sections := schema(&cfg)
	secret := func(text string) (Secret, error) {
		s, err := readSecret(text, cfg.expand, env.Getenv)
		if err == nil && !strings.HasPrefix(text, "file:") && !strings.HasPrefix(text, "env:") && mode&0o077 != 0 {
			return Secret{}, fmt.Errorf(`is written here, and others may read this file (mode %04o): run chmod 600 %s, or write "file:PATH" or "env:NAME"`, mode, path)
		}
		return s, err
	}
	doc.decode(nil, top, sections, secret, p)
	cfg.Schedule = doc.schedules(top, p)

	cfg.origin = map[string]string{}
	isSet := func(key string) bool { _, ok := doc.values[key]; return ok }
	for _, section := range sections {
		for _, s := range section.settings {
			cfg.origin[s.key] = "default"
			if isSet(s.key) {
				cfg.origin[s.key] = fmt.Sprintf("line %d", doc.line(s.key))
			}
		}
	}
	cfg.checkAlone(sections, isSet, p)
	cfg.derive(isSet, env.Hostname, p)
	cfg.checkTogether(p)
	if err := p.err(); err != nil {
		return nil, err
	}
	return &cfg, nil
}

// expand makes a path of this machine absolute: ~/ is $HOME, and what is
// relative is so to the file that says it, as cron's working directory is
// nothing to rely on.
func (c *Config) expand(path string) (string, error) {
	rest, home := strings.CutPrefix(path, "~")
	switch {
	case strings.ContainsRune(path, 0):
		return "", errors.New("must not hold a NUL byte")
	case home && rest != "" && rest[0] != '/':
		return "", fmt.Errorf("begins with ~ of another user: write the whole path or ~/")
	case home && c.Home == "":
		return "", errors.New("begins with ~/, and $HOME is not set")
	case home:
		return filepath.Join(c.Home, rest), nil
	case filepath.IsAbs(path):
		return filepath.Clean(path), nil
	}
	return filepath.Join(filepath.Dir(c.Path), path), nil
}
