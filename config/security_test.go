package config

import (
	"path/filepath"
	"slices"
	"testing"
)

// Private names the files also where Load refuses them.
func TestPrivate(t *testing.T) {
	m := newMachine(t)
	m.write(t, "token", "t", 0o644)
	m.write(t, "key", "k", 0o644)
	env := Env{Getenv: func(name string) string { return map[string]string{"HOME": m.home}[name] }}
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"nothing":  {"", nil},
		"files":    {"[digitalocean]\ntoken = \"file:token\"\n[cloudflare]\ntoken = \"file:~/token#cf\"\n[ssh]\nkey = \"~/key\"\nsudo_password = \"env:SUDO\"\n", []string{"token", "key"}},
		"written":  {"[ssh]\nsudo_password = \"s\"\n", []string{"adt.toml"}},
		"no key":   {"[ssh]\nkey = \"nowhere\"\n", nil},
		"mistaken": {"[ssh]\nport = \"x\"\nkey = \"key\"\n[digitalocen]\ntoken = \"file:token\"\n", []string{"key"}},
	} {
		path := m.write(t, "adt.toml", test.text, 0o644)
		got, err := Private(path, env)
		var want []string
		for _, file := range test.want {
			want = append(want, filepath.Join(m.home, file))
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	if _, err := Private(filepath.Join(m.home, "none"), env); err == nil {
		t.Error("no file, and no error")
	}
	if _, err := Private(m.write(t, "bad.toml", "[", 0o600), env); err == nil {
		t.Error("no TOML, and no error")
	}
}

func TestRange(t *testing.T) {
	for text, ok := range map[string]bool{
		"10.0.0.0/16": true, "10.0.0.1": true, "fd00::/64": true, "::1": true, "0.0.0.0/0": true,
		"": false, "host": false, "10.0.0.0/33": false, "fe80::1%eth0": false, "::ffff:10.0.0.0/104": false, "10.0.0.0/16 ": false,
	} {
		if err := checkRange(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}
