package config

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func example(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	if err := Example(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// filled is the example with the required values of load_test.go.
func filled(t testing.TB) string {
	example := strings.NewReplacer("\nregion = \"\"", "\nregion = \"lon1\"", "\nbuild = \"\"", "\nbuild = \"b1\"", "\nurl = \"\"", "\nurl = \"www.example.com\"").Replace(example(t))
	before, after, _ := strings.Cut(example, "[datastore]") // which has a region of its own
	return before + "[datastore]" + strings.Replace(after, "\nregion = \"lon1\"", "\nregion = \"\"", 1)
}

func TestExampleIsTheDefaults(t *testing.T) {
	m := newMachine(t)
	if d := diff(expected(m), m.mustLoad(t, filled(t))); d != "" {
		t.Error(d)
	}
}

func TestExampleNamesEveryKey(t *testing.T) {
	text := example(t)
	cfg := defaults()
	for _, section := range schema(&cfg) {
		if section.doc == "" || !strings.Contains(text, "\n["+section.key+"]\n") {
			t.Errorf("section %s is missing or has no doc", section.key)
		}
		for _, s := range section.settings {
			if !regexp.MustCompile(`(?m)^#?` + s.name + ` = .`).MatchString(text) {
				t.Errorf("%s is missing", s.key)
			}
			if !strings.HasSuffix(s.doc, ".") {
				t.Errorf("the doc of %s is no sentence: %q", s.key, s.doc)
			}
		}
	}
	if got := strings.Count(text, "# REQUIRED. "); got != 3 {
		t.Errorf("%d keys are marked as required, want 3", got)
	}
}

// What stands behind a "#" must be right when the "#" is taken away. Ports and
// the reboot are those of real machines, so they are left out here.
func TestExampleSamplesAreValid(t *testing.T) {
	m := newMachine(t)
	m.write(t, ".adt-token", "t", 0o600)
	m.write(t, ".adt-sudo", "s", 0o600)
	for _, secret := range []string{".adt-cloudflare", ".adt-cloudflare-key", ".adt-sudo-hash", ".adt-s3-access", ".adt-s3-secret", ".adt-mail-password"} {
		m.write(t, secret, "other", 0o600)
	}
	for _, address := range []string{".adt-ping-scale", ".adt-ping-healthcheck", ".adt-ping-reboot"} {
		m.write(t, address, "https://hc-ping.com/uuid", 0o600)
	}
	m.write(t, ".adt-webhook", "https://hooks.example.com/secret", 0o600)
	m.write(t, ".ssh/id_ed25519_AGILE_DEPLOYMENT_BUILD_KEY_mybuild", "key", 0o600)
	text := regexp.MustCompile(`(?m)^#([a-z_]+ = )`).ReplaceAllString(filled(t), "$1")
	text = regexp.MustCompile(`(?m)^port = .*$`).ReplaceAllString(text, "")
	cfg := m.mustLoad(t, text)
	if cfg.Local.Token.Reveal() != "t" || cfg.SSH.SudoPassword.Reveal() != "s" || len(cfg.Reboot.Command) != 3 {
		t.Errorf("the samples were not taken: %+v", cfg)
	}
}

func TestShow(t *testing.T) {
	m := newMachine(t)
	m.vars["SUDO"] = "hunter3"
	text := with("head_file = \"é\\\"b\\\".php\"\n[local]\ntoken = \"hunter2\"\n[ssh]\nsudo_password = \"env:SUDO\"\n[scale]\nbudget = \"40s\"\n")
	cfg := m.mustLoad(t, text)
	var b strings.Builder
	if err := Show(&b, cfg); err != nil {
		t.Fatal(err)
	}
	shown := b.String()
	for _, want := range []string{
		"# from " + cfg.Path + "\n",
		"number = 1  # host name NO-1-as-lon1-b1-x\n",
		"head_file = \"é\\\"b\\\".php\"  # line 6\n",
		"token = \"***\"  # line 8, written in the file\n",
		"sudo_password = \"***\"  # line 10, env:SUDO\n",
		"budget = \"40s\"  # line 12\n",
		"drain = \"1m30s\"  # website.ttl + 30s\n",
		"backoff = [\"5m\", \"10m\", \"20m\", \"30m\"]  # default\n",
		"\n[build.phase]\ncreated = \"5m\"  # default\n",
		"port = 2222  # as local.ssh_port\n",
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("lacks %q", want)
		}
	}
	if strings.Contains(shown, "hunter") {
		t.Error("shows a secret")
	}
	again := m.mustLoad(t, shown) // what is shown is an adt.toml itself, but for the secrets
	again.Local.Token, again.SSH.SudoPassword = cfg.Local.Token, cfg.SSH.SudoPassword
	if d := diff(*cfg, again); d != "" {
		t.Error(d)
	}
}

func TestShowJSON(t *testing.T) {
	m := newMachine(t)
	cfg := m.mustLoad(t, with("[local]\ntoken = \"hunter2\"\n"))
	var b strings.Builder
	if err := ShowJSON(&b, cfg); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "hunter") {
		t.Error("shows a secret")
	}
	var got struct {
		File   string
		Config struct {
			Build struct {
				Backoff []string
				Phase   map[string]string
			}
			Local map[string]any
		}
		From map[string]string
	}
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"5m", "10m", "20m", "30m"}, got.Config.Build.Backoff); d != "" {
		t.Error(d)
	}
	if got.File != cfg.Path || got.Config.Build.Phase["ready"] != "10m" || got.Config.Local["token"] != "***" || got.From["local.token"] != "line 7, written in the file" {
		t.Errorf("got %+v", got)
	}
}
