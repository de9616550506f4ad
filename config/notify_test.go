package config

import (
	"strings"
	"testing"
)

func TestNotifyPresets(t *testing.T) {
	for _, c := range []struct {
		text, host string
		port       int
		tls        string
	}{
		{`preset = "sendpulse"`, "smtp-pulse.com", 587, "starttls"},
		{`preset = "mailjet"`, "in-v3.mailjet.com", 587, "starttls"},
		{`preset = "ses"`, "email-smtp.eu-west-1.amazonaws.com", 587, "starttls"},
		{"preset = \"ses\"\nregion = \"us-east-1\"\ntls = \"tls\"", "email-smtp.us-east-1.amazonaws.com", 465, "tls"},
		{"preset = \"mailjet\"\nhost = \"proxy.example.com\"\nport = 2525", "proxy.example.com", 2525, "starttls"},
		{"host = \"127.0.0.1\"\ntls = \"none\"", "127.0.0.1", 25, "none"},
	} {
		m := newMachine(t)
		cfg := m.mustLoad(t, required+"[notify.mail]\nto = [\"ops@example.com\"]\nfrom = \"adt <adt@example.com>\"\n"+c.text+"\n")
		if got := cfg.Notify.Mail; got.Host != c.host || got.Port != c.port || got.TLS != c.tls || !cfg.Notify.On() {
			t.Errorf("%s: %+v", c.text, got)
		}
	}
	m := newMachine(t)
	if m.mustLoad(t, required).Notify.On() {
		t.Error("without a recipient it is on")
	}
	if !m.mustLoad(t, required+"[notify]\nwebhook = \"https://hooks.example.com/secret\"\n").Notify.On() {
		t.Error("with a webhook it is off")
	}
}

func TestNotifyMistakes(t *testing.T) {
	const whole = "[notify.mail]\nto = [\"ops@example.com\"]\nfrom = \"adt@example.com\"\nhost = \"smtp.example.com\"\n"
	for _, c := range []struct{ text, want string }{
		{"[notify.mail]\nhost = \"smtp.example.com\"\n", "notify.mail.to: missing"},
		{"[notify.mail]\nto = [\"ops@example.com\"]\nhost = \"smtp.example.com\"\n", "notify.mail.from: missing"},
		{"[notify.mail]\nto = [\"ops@example.com\"]\nfrom = \"adt@example.com\"\n", "notify.mail.host: missing"},
		{whole + "user = \"u\"\n", "notify.mail.password: missing"},
		{whole + "password = \"hunter2\"\n", "notify.mail.user: missing"},
		{whole + "tls = \"none\"\n", "notify.mail.tls: must be starttls or tls for smtp.example.com"},
		{whole + "tls = \"ssl\"\n", "must be starttls or tls or none"},
		{whole + "preset = \"gmail\"\n", "must be sendpulse or mailjet or ses"},
		{strings.Replace(whole, "smtp.example.com", "smtp.example.com:587", 1), "without port"},
		{strings.Replace(whole, "ops@example.com", "ops", 1), "entry 1: must be an address such as"},
		{strings.Replace(whole, "ops@example.com", `ops@example.com\r\nBcc: all@example.com`, 1), "entry 1: must be an address such as"},
		{"[notify]\nwebhook = \"http://hooks.example.com/hunter2\"\n", "notify.webhook: must begin with https://: it is a secret"},
		{"[notify]\nwebhook = \"hooks.example.com/hunter2\"\n", "must be an address that begins with https://"},
		{"[notify]\nwebhook = \"https://hooks.example.com/%zzhunter2\"\n", "must be an address that begins with https://"},
		{"[notify]\nper_hour = 0\n", "notify.per_hour: must be 1 to 1000"},
		{"[notify]\nlevel = \"WARN\"\n", "notify.level: must be INFO or ERROR or MANDATORY"},
	} {
		m := newMachine(t)
		_, err := m.load(t, required+c.text)
		faults := m.faults(err)
		if len(faults) != 1 || !strings.Contains(faults[0], c.want) {
			t.Errorf("%q: %q, want one with %q", c.text, faults, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter") {
			t.Errorf("a secret is in %q", err)
		}
	}
}
