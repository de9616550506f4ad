package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

func TestSecretIsNeverPrinted(t *testing.T) {
	type holder struct {
		Open   Secret
		hidden Secret // fmt asks no methods of this one
	}
	s := NewSecret("hunter2")
	h := holder{Open: s, hidden: s}
	var prints []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%20s"} {
		for _, v := range []any{s, &s, h, &h, []Secret{s}, map[string]Secret{"k": s}, h.hidden} {
			prints = append(prints, fmt.Sprintf(verb, v))
		}
	}
	asJSON, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	asTOML, err := toml.Marshal(map[string]any{"k": s})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", s, "holder", h)
	prints = append(prints, string(asJSON), string(asTOML), log.String(), fmt.Sprint(s), fmt.Errorf("%v", s).Error())
	for _, print := range prints {
		if strings.Contains(print, "hunter2") || strings.Contains(print, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("%q gives the secret away", print)
		}
	}
	if got := fmt.Sprintf("%v %s %#v", s, s, s); got != "*** *** ***" {
		t.Errorf("masked as %q", got)
	}
	if s.Reveal() != "hunter2" {
		t.Errorf("Reveal gives %q", s.Reveal())
	}
}

func TestUnsetSecret(t *testing.T) {
	for _, s := range []Secret{{}, NewSecret("")} {
		if got := fmt.Sprintf("%v%s%#v", s, s, s); got != "" || s.Reveal() != "" || !s.IsZero() {
			t.Errorf("an unset secret prints %q, reveals %q", got, s.Reveal())
		}
		if s.Equal(NewSecret("x")) || !s.Equal(Secret{}) {
			t.Error("unset is not equal to unset alone")
		}
	}
}

func TestSecretFile(t *testing.T) {
	m := newMachine(t)
	for text, want := range map[string]string{
		"s": "s", "s\n": "s", "s\r\n": "s", " s \n": " s ", "a\nb\n": "a\nb", "file:x": "file:x", "env:HOME": "env:HOME",
	} {
		m.write(t, "s", text, 0o600)
		cfg := m.mustLoad(t, with("[ssh]\nsudo_password = \"file:s\"\n"))
		if got := cfg.SSH.SudoPassword.Reveal(); got != want {
			t.Errorf("%q is read as %q, want %q", text, got, want)
		}
	}
	if cfg := m.mustLoad(t, with("[ssh]\nsudo_password = \"\"\n")); !cfg.SSH.SudoPassword.IsZero() {
		t.Error("an empty secret is set")
	}
}
