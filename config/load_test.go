package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const required = `[autoscaler]
region = "lon1"
build = "b1"
[website]
url = "www.example.com"
`

// machine is a home directory with a build key in it.
type machine struct {
	home, host string
	vars       map[string]string
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	m := &machine{home: t.TempDir(), host: "NO-1-as-lon1-b1-x"}
	m.vars = map[string]string{"HOME": m.home}
	m.write(t, ".ssh/id_ed25519_AGILE_DEPLOYMENT_BUILD_KEY_b1", "key", 0o600)
	return m
}

func (m *machine) getenv(name string) string { return m.vars[name] }
func (m *machine) env() Env                  { return Env{Getenv: m.getenv, Hostname: m.host} }

// write makes a file below the home directory with exactly this mode.
func (m *machine) write(t testing.TB, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(m.home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // the umask has no say
		t.Fatal(err)
	}
	return path
}

func (m *machine) load(t testing.TB, text string) (*Config, error) {
	t.Helper()
	return Load(m.write(t, "adt.toml", text, 0o600), m.env())
}

func (m *machine) mustLoad(t testing.TB, text string) *Config {
	t.Helper()
	cfg, err := m.load(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// faults returns err's lines, with ~ for the home directory.
func (m *machine) faults(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(strings.ReplaceAll(err.Error(), m.home, "~"), "\n")
}

// expected is what required loads as.
func expected(m *machine) Config {
	want := defaults()
	want.Autoscaler.Number, want.Autoscaler.Region, want.Autoscaler.Build = 1, "lon1", "b1"
	want.Website.URL = "www.example.com"
	want.Provider.DNS = "local"
	want.DigitalOcean.SSHKey = "AGILE_TOOLKIT_PUBLIC_KEY-b1"
	want.Local.Path, want.Datastore.Path = filepath.Join(m.home, "cloud"), filepath.Join(m.home, "datastore")
	want.Datastore.KnownHosts = filepath.Join(m.home, ".ssh/known_hosts")
	want.SSH.Port, want.HTTPS.Port = 2222, 8443
	want.SSH.Key = filepath.Join(m.home, ".ssh/id_ed25519_AGILE_DEPLOYMENT_BUILD_KEY_b1")
	want.Scale.Drain = Duration(90 * time.Second)
	want.Reboot.Command = []string{}
	want.Notify.Mail.Port = 587
	want.PostMortem.Files = []string{"logs/cloud-init-output.log", "logs/webserver-error.log"}
	want.Firewall.SSHPort = 22
	want.Proxies.Upstream, want.Proxies.File = "adt-b1", "/etc/nginx/conf.d/adt-b1.conf"
	want.Proxies.ServerOptions, want.Proxies.Path = "max_fails=2 fail_timeout=10s", "index.html"
	want.Proxies.TestCommand, want.Proxies.ReloadCommand = "nginx -t", "systemctl reload-or-restart nginx"
	want.Proxies.RootCommand = "sudo -S -p ''"
	want.Path, want.Home = filepath.Join(m.home, "adt.toml"), m.home
	return want
}

func diff(want Config, got *Config) string {
	return cmp.Diff(want, *got, cmpopts.IgnoreUnexported(Config{}))
}

func TestDefaults(t *testing.T) {
	m := newMachine(t)
	if d := diff(expected(m), m.mustLoad(t, required)); d != "" {
		t.Error(d)
	}
}

func TestValues(t *testing.T) {
	m := newMachine(t)
	m.write(t, "key", "key", 0o400)
	m.write(t, "token", "from a file\n", 0o600)
	m.vars["SUDO"] = "from the environment"
	got := m.mustLoad(t, `
autoscaler = { number = 2, count = 3, region = "ch-gva-2", build = "test-gb", user = "Xagile.1", max_webservers = 20, count_initial = true }
website.url = "WWW.Example.Com"
website.ttl = "120s"
[local]
path = "/srv/cloud/"
token = "file:~/token"
ssh_port = 3333
[datastore]
path = "store"
[ssh]
key = "~/key"
sudo_password = "env:SUDO"
[build]
configure_command = ""
backoff = [
  "1d", # one day
  "0s",
]
[build.phase]
created = "2m"
[scale]
drain = "10s"
[healthcheck]
accept_status = [200]
[reboot]
command = ["reboot"]
`)
	want := expected(m)
	want.Autoscaler = Autoscaler{Number: 2, Count: 3, Region: "ch-gva-2", Build: "test-gb", User: "Xagile.1", MaxWebservers: 20, CountInitial: true, Production: true}
	want.DigitalOcean.SSHKey = "AGILE_TOOLKIT_PUBLIC_KEY-test-gb"
	want.Proxies.Upstream, want.Proxies.File = "adt-test-gb", "/etc/nginx/conf.d/adt-test-gb.conf"
	want.Website.TTL = Duration(2 * time.Minute)
	want.Local.Path, want.Local.Token, want.Local.SSHPort = "/srv/cloud", NewSecret("from a file"), 3333
	want.Datastore.Path = filepath.Join(m.home, "store")
	want.SSH.Port, want.SSH.Key, want.SSH.SudoPassword = 3333, filepath.Join(m.home, "key"), NewSecret("from the environment")
	want.Build.ConfigureCommand = ""
	want.Build.Backoff = []Duration{Duration(24 * time.Hour), 0}
	want.Build.Phase.Created = Duration(2 * time.Minute)
	want.Scale.Drain = Duration(10 * time.Second)
	want.HealthCheck.AcceptStatus = []int{200}
	want.Reboot.Command = []string{"reboot"}
	if d := diff(want, got); d != "" {
		t.Error(d)
	}
	for what, pair := range map[string][2]string{
		"zone":           {got.Zone(), "example.com"},
		"scaling bucket": {got.ScalingBucket(), "www-example-com-scaling-local-ch-gva-2"},
		"config bucket":  {got.ConfigBucket(), "www-example-com-config-xagi"},
		"runtime":        {got.RuntimeDir(), filepath.Join(m.home, "runtime")},
		"logs":           {got.LogDir(), filepath.Join(m.home, "logs")},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %q, want %q", what, pair[0], pair[1])
		}
	}
}

// with adds lines to the required ones; they begin at line 6.
func with(lines string) string { return required + lines }

func TestFaults(t *testing.T) {
	edit := func(old, new string) string { return strings.Replace(required, old, new, 1) }
	tests := map[string]struct {
		text string
		want []string // without "~/adt.toml"
	}{
		"empty": {"", []string{
			": autoscaler.region: required: the provider's name of the region; part of every server name",
			": autoscaler.build: required: the build identifier; part of every server name",
			": website.url: required: the website's host name, such as www.example.com; without the first label it is the DNS zone",
		}},
		"required but empty": {edit(`"lon1"`, `""`), []string{
			":2: autoscaler.region: required: the provider's name of the region; part of every server name",
		}},

		"unknown key":            {with("[scale]\nfrobnicate = 1\n"), []string{":7: scale.frobnicate: unknown key"}},
		"unknown, near miss":     {with("[scale]\nbuget = \"1s\"\n"), []string{":7: scale.buget: unknown key; did you mean scale.budget?"}},
		"unknown, dashes":        {with("[scale]\nMissing-After = \"1s\"\n"), []string{":7: scale.Missing-After: unknown key; did you mean scale.missing_after?"}},
		"unknown, case":          {with("[scale]\nBudget = \"1s\"\n"), []string{":7: scale.Budget: unknown key; did you mean scale.budget?"}},
		"unknown, other tables":  {with("[datastore]\ndeadline = \"1s\"\n"), []string{":7: datastore.deadline: unknown key; did you mean build.deadline or healthcheck.deadline or postmortem.deadline?"}},
		"unknown, other table":   {with("[scale]\nstrikes = 1\n"), []string{":7: scale.strikes: unknown key; did you mean healthcheck.strikes or proxies.strikes?"}},
		"unknown table":          {with("[helthcheck]\nstrikes = 1\n"), []string{":6: helthcheck: unknown key; did you mean healthcheck?"}},
		"unknown inner table":    {with("[build.phases]\n"), []string{":6: build.phases: unknown key; did you mean build.phase?"}},
		"unknown outer table":    {with("[phase]\n"), []string{":6: phase: unknown key; did you mean build.phase?"}},
		"unknown implicit table": {with("\n[frob.nicate]\nx = 1"), []string{":7: frob: unknown key"}},
		"unknown table list":     {with("[[frob]]\n"), []string{":6: frob: unknown key"}},
		"unknown quoted":         {with("\"a.b\\n[c]\" = 1\n"), []string{":6: website.\"a.b\\n[c]\": unknown key"}},
		"unknown dotted":         {"scale.frob = 1\n" + required, []string{":1: scale.frob: unknown key"}},
		"unknown inline":         {"scale = { budget = \"1s\", frob = 1 }\n" + required, []string{":1: scale.frob: unknown key"}},
		"table is a value":       {"scale = 1\n" + required, []string{":1: scale: must be a table: write [scale]"}},
		"table is a list":        {with("[[scale]]\n"), []string{":6: scale: must be one table: write [scale], not [[scale]]"}},

		"text wanted":           {with("head_file = 1\n"), []string{":6: website.head_file: must be text in quotes, is 1"}},
		"number wanted":         {with("[healthcheck]\nstrikes = \"2\"\n"), []string{":7: healthcheck.strikes: must be a whole number without quotes, is \"2\""}},
		"whole number wanted":   {with("[healthcheck]\nstrikes = 2.5\n"), []string{":7: healthcheck.strikes: must be a whole number without quotes, is 2.5"}},
		"bool wanted":           {edit(`build = "b1"`, "build = \"b1\"\ncount_initial = 1"), []string{":4: autoscaler.count_initial: must be true or false, is 1"}},
		"list wanted":           {with("[build]\nbackoff = \"1s\"\n"), []string{":7: build.backoff: must be a list in [ ], is \"1s\""}},
		"list entry":            {with("[build]\nbackoff = [\"1s\",\n 2]\n"), []string{":7: build.backoff: entry 2: 2 has no unit: write \"2s\""}},
		"list of texts":         {with("[healthcheck]\nonline_markers = [1979-05-27]\n"), []string{":7: healthcheck.online_markers: entry 1: must be text in quotes, is a date"}},
		"list of numbers":       {with("[healthcheck]\naccept_status = [[200]]\n"), []string{":7: healthcheck.accept_status: entry 1: must be a whole number without quotes, is a list"}},
		"a table for a value":   {with("[scale]\nbudget = {a = 1}\n"), []string{":7: scale.budget: must be a duration such as \"30s\", is a table"}},
		"a secret of no text":   {with("[ssh]\nsudo_password = 31337\n"), []string{":7: ssh.sudo_password: must be text in quotes"}},
		"duration, bare number": {with("[scale]\nbudget = 30\n"), []string{":7: scale.budget: 30 has no unit: write \"30s\""}},
		"duration, bare text":   {with("[scale]\nbudget = \"30\"\n"), []string{":7: scale.budget: \"30\" has no unit: write \"30s\""}},
		"duration, garbage":     {with("[scale]\nbudget = \"soon\"\n"), []string{":7: scale.budget: \"soon\" is no duration: write \"30s\", \"5m\", \"1h30m\" or \"2d\""}},
		"duration, too long":    {with("[scale]\nbudget = \"999999d\"\n"), []string{":7: scale.budget: \"999999d\" is longer than 290 years"}},

		"number range":      {with("[healthcheck]\nstrikes = 0\n"), []string{":7: healthcheck.strikes: must be 1 to 10, is 0"}},
		"duration range":    {with("[scale]\nbudget = \"0s\"\n"), []string{":7: scale.budget: must be 1ms to 1h, is 0s"}},
		"negative duration": {with("[scale]\ndrain = \"-1m\"\n"), []string{":7: scale.drain: must be 0s to 1d, is -1m"}},
		"list range":        {with("[healthcheck]\naccept_status = [200, 20]\n"), []string{":7: healthcheck.accept_status: entry 2: must be 100 to 599, is 20"}},
		"empty list":        {with("[build]\nbackoff = []\n"), []string{":7: build.backoff: must have an entry"}},
		"empty entry":       {with("[reboot]\ncommand = [\"\"]\n"), []string{":7: reboot.command: entry 1: must not be empty"}},
		"long list":         {with("[healthcheck]\naccept_status = [" + strings.Repeat("200,", 101) + "]\n"), []string{":7: healthcheck.accept_status: must have at most 100 entries, has 101"}},
		"empty text":        {with("head_file = \"\"\n"), []string{":6: website.head_file: must not be empty; leave it out for the default"}},
		"account": {with("[provider]\nservers = \"digitalocean\"\ndns = \"cloudflare\"\n"), []string{
			": digitalocean.token: missing: write token = \"file:~/.adt-digitalocean-token\" and put the API token into that file, mode 0600",
			": cloudflare.token: missing: write token = \"file:~/.adt-cloudflare-token\" and put the API token into that file, mode 0600",
		}},
		"global key alone": {with("[provider]\ndns = \"cloudflare\"\n[cloudflare]\nglobal_key = \"k\"\n"), []string{
			": cloudflare.email: missing: a global key needs the account's email address"}},
		"token and key": {with("[provider]\ndns = \"cloudflare\"\n[cloudflare]\ntoken = \"t\"\nglobal_key = \"k\"\n"), []string{
			":10: cloudflare.global_key: there is a token as well: keep one of the two, the token is the safer"}},
		"API in clear text": {with("[cloudflare]\napi_url = \"http://api.example.com/\"\n"), []string{
			":7: cloudflare.api_url: must begin with https://, as secrets go there, is \"http://api.example.com/\""}},
		"API nowhere": {with("[digitalocean]\napi_url = \"api.example.com\"\n"), []string{
			":7: digitalocean.api_url: must be an address such as https://api.example.com/, is \"api.example.com\""}},
		"vendor":            {with("[provider]\nservers = \"example\"\n"), []string{":7: provider.servers: must be local or digitalocean, is \"example\""}},
		"label":             {edit(`"b1"`, `"b_1"`), []string{":3: autoscaler.build: must be letters, digits and dashes, a dash neither first nor last, is \"b_1\""}},
		"label, dash first": {edit(`"lon1"`, `"-lon1"`), []string{":2: autoscaler.region: must be letters, digits and dashes, a dash neither first nor last, is \"-lon1\""}},
		"user":              {edit(`build = "b1"`, "build = \"b1\"\nuser = \"a b\""), []string{":4: autoscaler.user: must be a user name of at most 32 letters, digits, dots, dashes and underscores, is \"a b\""}},
		"user with a dash":  {edit(`build = "b1"`, "build = \"b1\"\nuser = \"a-bcde\""), []string{":4: autoscaler.user: must have neither - nor _ in its first 4 characters, which become part of server names, is \"a-bcde\""}},
		"url with scheme":   {edit("www.", "https://www."), []string{":5: website.url: must be a host name alone, without https://, port or path, is \"https://www.example.com\""}},
		"url without dot":   {edit("www.example.com", "localhost"), []string{":5: website.url: must have a dot, as the DNS zone is what follows the first one, is \"localhost\""}},
		"url, address":      {edit("www.example.com", "10.0.0.1"), []string{":5: website.url: must be a host name, not an address, is \"10.0.0.1\""}},
		"url, empty label":  {edit("www.example.com", "www..com"), []string{":5: website.url: must be a host name such as www.example.com, is \"www..com\""}},
		"head file":         {with("head_file = \"/index.php\"\n"), []string{":6: website.head_file: must be a path without leading /, blanks, ? and #, is \"/index.php\""}},
		"remote path":       {with("[build]\nready_marker = \"~/x\"\n"), []string{":7: build.ready_marker: must be a path on the webserver on one line, without ~ as it is relative to the user's home, is \"~/x\""}},
		"command":           {with("[build]\nrestart_command = \"a\\nb\"\n"), []string{":7: build.restart_command: must be on one line, is \"a\\nb\""}},
		"path of another":   {with("[local]\npath = \"~root/x\"\n"), []string{":7: local.path: begins with ~ of another user: write the whole path or ~/"}},
		"path with NUL":     {with("[local]\npath = \"x\\u0000\"\n"), []string{":7: local.path: must not hold a NUL byte"}},

		"number over count":   {"[autoscaler]\nnumber = 3\ncount = 2\n" + strings.TrimPrefix(required, "[autoscaler]\n"), []string{":3: autoscaler.count: must be at least 3, as this is autoscaler 3 (line 2), is 2"}},
		"names too long":      {edit(`"b1"`, `"`+strings.Repeat("b", 50)+`"`) + "[ssh]\nkey = \"~/.ssh/id_ed25519_AGILE_DEPLOYMENT_BUILD_KEY_b1\"\n", []string{":3: autoscaler.build: and the region must be 10 characters shorter together: server names have at most 63"}},
		"ttl not whole":       {with("ttl = \"1500ms\"\n"), []string{":6: website.ttl: must be whole seconds, is 1.5s"}},
		"equal ports":         {with("[local]\nhttps_port = 2222\n"), []string{":7: local.https_port: must not be local.ssh_port, is 2222 as well"}},
		"bad port, once":      {with("[local]\nhttps_port = 0\n"), []string{":7: local.https_port: must be 1 to 65535, is 0"}},
		"other SSH port":      {with("[ssh]\nport = 22\n"), []string{":7: ssh.port: must be local.ssh_port (2222) for local servers, is 22; leave it out"}},
		"other HTTPS port":    {with("[https]\nport = 443\n"), []string{":7: https.port: must be local.https_port (8443) for local servers, is 443; leave it out"}},
		"phase over deadline": {with("[build.phase]\nready = \"31m\"\n"), []string{":7: build.phase.ready: must be at most build.deadline (30m), is 31m"}},
		"poll over deadline":  {with("[build]\npoll = \"31m\"\n"), []string{":7: build.poll: must be at most build.deadline (30m), is 31m"}},
		"settle over phase":   {with("[build]\nsettle = \"6m\"\n"), []string{":7: build.settle: must be at most build.phase.created (5m), is 6m"}},
		"cycle limit too low": {with("[reboot]\ncycle_limit = \"30m\"\n"), []string{":7: reboot.cycle_limit: must be longer than build.deadline (30m), is 30m"}},
		"proxies, addresses": {with("[proxies]\naddresses = [\"192.0.2.1 10.0.0.1\", \"192.0.2.1 10.0.0.1 x\", \"fe80::1%;evil\"]\n"), []string{
			":7: proxies.addresses: entry 2: must be \"PUBLIC PRIVATE\" or one address, is \"192.0.2.1 10.0.0.1 x\""}},
		"proxies, a zone":      {with("[proxies]\naddresses = [\"fe80::1%;evil\"]\n"), []string{":7: proxies.addresses: entry 1: must be IP addresses, is \"fe80::1%;evil\""}},
		"proxies, options":     {with("[proxies]\nserver_options = \"down; } evil {\"\n"), []string{":7: proxies.server_options: must be words without quotes, braces, ; and #, is \"down; } evil {\""}},
		"proxies, kind":        {with("[proxies]\nkind = \"squid\"\n"), []string{":7: proxies.kind: must be nginx or haproxy or apache or original, is \"squid\""}},
		"proxies, count":       {with("[proxies]\nenabled = true\naddresses = [\"10.0.0.1\"]\ncount = 2\n"), []string{":9: proxies.count: is 2, and proxies.addresses names 1"}},
		"proxies, floor":       {with("[proxies]\nenabled = true\ncount = 1\nmin_published = 2\n"), []string{":9: proxies.min_published: must be at most proxies.count (1), is 2"}},
		"proxies, no floor":    {with("[proxies]\nmin_published = 0\n"), []string{":7: proxies.min_published: must be 1 to 20, is 0"}},
		"deadline over limits": {with("[build]\ndeadline = \"1h\"\n"), []string{": reboot.cycle_limit: must be longer than build.deadline (1h), is 35m"}},

		"syntax":               {with("x = = 1\n"), []string{":6: not valid TOML: expected value but found '=' instead (at website.x)"}},
		"syntax, quoted":       {with("x = yes\n"), []string{":6: not valid TOML: expected value but found something else instead (at website.x)"}},
		"syntax, twice":        {with("url = \"a.b\"\n"), []string{":6: not valid TOML: Key 'website.url' has already been defined. (at website.url)"}},
		"syntax, open text":    {with("x = \"\n"), []string{":6: not valid TOML: strings cannot contain newlines (at website.x)"}},
		"syntax, NUL":          {"\x00\x00", []string{":1: not valid TOML: files cannot contain NULL bytes; probably using UTF-16; TOML files must be UTF-8"}},
		"syntax, UTF-8":        {"a = \"\xff\"\n", []string{":1: not valid TOML: invalid UTF-8 byte: 0xff (at a)"}},
		"syntax, secret":       {with("[ssh]\nsudo_password = hunter2\n"), []string{":7: not valid TOML at sudo_password: write its value in quotes, on one line, as in sudo_password = \"file:~/.adt-sudo\""}},
		"syntax, secret digit": {with("[local]\ntoken = 0123\n"), []string{":7: not valid TOML at token: write its value in quotes, on one line, as in token = \"file:~/.adt-token\""}},

		"secret without name": {with("[ssh]\nsudo_password = \"env:\"\n"), []string{":7: ssh.sudo_password: env: lacks a name: write \"env:NAME\""}},
		"secret not set":      {with("[ssh]\nsudo_password = \"env:NOPE\"\n"), []string{":7: ssh.sudo_password: the environment variable NOPE is not set"}},
		"secret without path": {with("[ssh]\nsudo_password = \"file:\"\n"), []string{":7: ssh.sudo_password: file: lacks a path: write \"file:PATH\""}},
		"secret file missing": {with("[ssh]\nsudo_password = \"file:~/nope\"\n"), []string{":7: ssh.sudo_password: cannot read its file: ~/nope: no such file or directory"}},
		"secret file empty":   {with("[ssh]\nsudo_password = \"file:~/empty\"\n"), []string{":7: ssh.sudo_password: its file ~/empty is empty"}},
		"secret file open":    {with("[ssh]\nsudo_password = \"file:open\"\n"), []string{":7: ssh.sudo_password: others may read its file (mode 0640): run chmod 600 ~/open"}},
		"secret is a folder":  {with("[ssh]\nsudo_password = \"file:~/.ssh\"\n"), []string{":7: ssh.sudo_password: cannot read its file: ~/.ssh: is a directory, not a file"}},
		"secret is no file":   {with("[ssh]\nsudo_password = \"file:/dev/null\"\n"), []string{":7: ssh.sudo_password: cannot read its file: /dev/null: is not a regular file"}},
		"secret is too large": {with("[ssh]\nsudo_password = \"file:~/large\"\n"), []string{":7: ssh.sudo_password: cannot read its file: ~/large: is larger than 65536 bytes"}},

		"key missing": {with("[ssh]\nkey = \"~/nope\"\n"), []string{":7: ssh.key: cannot read the build key: ~/nope: no such file or directory"}},
		"key open":    {with("[ssh]\nkey = \"~/open\"\n"), []string{":7: ssh.key: others may read the build key (mode 0640): run chmod 600 ~/open"}},
		"key default": {edit("b1", "b2"), []string{": ssh.key: cannot read the build key: ~/.ssh/id_ed25519_AGILE_DEPLOYMENT_BUILD_KEY_b2: no such file or directory"}},

		"several, in order": {with("[scale]\nbudget = 1\nfrob = 1\n[build]\npoll = \"0s\"\n[local]\nssh_port = 0\n") + "[[ssh]]\n", []string{
			":7: scale.budget: 1 has no unit: write \"1s\"",
			":8: scale.frob: unknown key",
			":10: build.poll: must be 1ms to 1h, is 0s",
			":12: local.ssh_port: must be 1 to 65535, is 0",
			":13: ssh: must be one table: write [ssh], not [[ssh]]",
		}},
		"lines in long texts": {"\"[frob]\" = \"\"\"\n[scale]\nbudget = 1\n\"\"\"\nx = '''\n\n'''\n" + required, []string{
			":1: \"[frob]\": unknown key",
			":5: x: unknown key",
		}},
		"CRLF": {strings.ReplaceAll(with("ttl = '''\n\n9s'''\n[scale]\nbudget = 1\n"), "\n", "\r\n"), []string{
			":6: website.ttl: \"\\r\\n9s\" is no duration: write \"30s\", \"5m\", \"1h30m\" or \"2d\"",
			":10: scale.budget: 1 has no unit: write \"1s\"",
		}},
		"BOM": {"\ufeff" + with("x = '''\n\n'''\n"), []string{":6: website.x: unknown key"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.write(t, "empty", "\n", 0o600)
			m.write(t, "open", "secret", 0o640)
			m.write(t, "large", strings.Repeat("x", secretLimit+1), 0o600)
			cfg, err := m.load(t, test.text)
			want := make([]string, len(test.want))
			for i, line := range test.want {
				want[i] = "~/adt.toml" + line
			}
			if d := cmp.Diff(want, m.faults(err)); d != "" {
				t.Error(d)
			}
			if cfg != nil {
				t.Error("a faulty configuration was returned")
			}
			// Without the test's own directory: its name is random, and has held
			// one of these.
			for _, secret := range []string{"hunter", "0123", "31337"} {
				if got := strings.Join(m.faults(err), "\n"); strings.Contains(got, secret) {
					t.Errorf("%s holds a secret", got)
				}
			}
		})
	}
}

func TestErrorFields(t *testing.T) {
	m := newMachine(t)
	_, err := m.load(t, with("[healthcheck]\nstrikes = 0\n"))
	var got *Error
	if !errors.As(err, &got) {
		t.Fatalf("%v is no *Error", err)
	}
	want := Error{File: filepath.Join(m.home, "adt.toml"), Line: 7, Key: "healthcheck.strikes", Msg: "must be 1 to 10, is 0"}
	if *got != want {
		t.Errorf("got %+v, want %+v", *got, want)
	}
}

func TestFaultsAreBounded(t *testing.T) {
	m := newMachine(t)
	keys := required
	for i := range 300 {
		keys += strings.Repeat("x", i+1) + " = 1\n"
	}
	_, err := m.load(t, keys)
	got := m.faults(err)
	if len(got) != problemLimit+1 || got[problemLimit] != "~/adt.toml: and 250 more faults" {
		t.Errorf("%d lines, the last %q", len(got), got[len(got)-1])
	}
}

func TestLiteralSecretNeedsClosedFile(t *testing.T) {
	m := newMachine(t)
	text := with("[local]\ntoken = \"hunter2\"\n")
	_, err := Load(m.write(t, "adt.toml", text, 0o644), m.env())
	want := []string{`~/adt.toml:7: local.token: is written here, and others may read this file (mode 0644): run chmod 600 ~/adt.toml, or write "file:PATH" or "env:NAME"`}
	if d := cmp.Diff(want, m.faults(err)); d != "" {
		t.Error(d)
	}
	if got := m.mustLoad(t, text).Local.Token.Reveal(); got != "hunter2" {
		t.Errorf("token is %q", got)
	}
	m.vars["TOKEN"] = "hunter2" // a reference may stand in an open file
	if _, err := Load(m.write(t, "adt.toml", with("[local]\ntoken = \"env:TOKEN\"\n"), 0o644), m.env()); err != nil {
		t.Error(err)
	}
}

func TestNumberFromHostName(t *testing.T) {
	for host, want := range map[string]int{
		"NO-1-as-lon1-b-x": 1, "NO-5-as-ch-gva-2-b-x": 5, "no-2-as-lon1-b-x": 2,
		"": 0, "laptop": 0, "NO-6-as-lon1-b-x": 0, "NO-0-as-lon1-b-x": 0, "NO-12-as-lon1-b-x": 0,
		"NO-01-as-lon1-b-x": 0, "NO--as-x": 0, "NO-+1-as-x": 0, "ws-1-as-lon1-b-x": 0, "NO-1-ws-lon1-b": 0,
	} {
		if got := hostNumber(host); got != want {
			t.Errorf("%q is autoscaler %d, want %d", host, got, want)
		}
	}
	m := newMachine(t)
	m.host = "laptop"
	_, err := m.load(t, required)
	want := []string{`~/adt.toml: autoscaler.number: missing, and the host name "laptop" does not tell it, as NO-<number>-as-… would: write a number from 1 to 5, or 0 on the build machine`}
	if d := cmp.Diff(want, m.faults(err)); d != "" {
		t.Error(d)
	}
	m.host = "NO-2-as-lon1-b1-x"
	_, err = m.load(t, required)
	want = []string{`~/adt.toml: autoscaler.count: must be at least 2, as this is autoscaler 2 (host name NO-2-as-lon1-b1-x), is 1`}
	if d := cmp.Diff(want, m.faults(err)); d != "" {
		t.Error(d)
	}
}

func TestHomeIsNeeded(t *testing.T) {
	m := newMachine(t)
	for _, home := range []string{"", "relative"} {
		m.vars["HOME"] = home
		_, err := m.load(t, required)
		want := []string{`~/adt.toml: $HOME is "` + home + `", must be an absolute path: state, logs and ~/ are below it`}
		if d := cmp.Diff(want, m.faults(err)); d != "" {
			t.Error(d)
		}
	}
	if _, err := Load(m.write(t, "adt.toml", required, 0o600), Env{Hostname: m.host}); err == nil {
		t.Error("no environment at all, and no error")
	}
}

func TestUnusableFiles(t *testing.T) {
	m := newMachine(t)
	for name, test := range map[string]struct{ path, want string }{
		"missing":   {filepath.Join(m.home, "nope.toml"), "~/nope.toml: no such file; make one with: adt config example > ~/nope.toml"},
		"directory": {filepath.Join(m.home, ".ssh"), "~/.ssh: is a directory, not a file"},
		"device":    {"/dev/zero", "/dev/zero: is not a regular file"},
		"huge":      {m.write(t, "huge.toml", strings.Repeat("#\n", sizeLimit/2)+"#", 0o600), "~/huge.toml: is larger than 1048576 bytes"},
		"no folder": {filepath.Join(m.home, "adt.toml/x"), "~/adt.toml/x: not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			m.write(t, "adt.toml", required, 0o600)
			_, err := Load(test.path, m.env())
			if d := cmp.Diff([]string{test.want}, m.faults(err)); d != "" {
				t.Error(d)
			}
		})
	}
	t.Run("unreadable", func(t *testing.T) {
		if os.Geteuid() == 0 {
			t.Skip("root reads everything")
		}
		_, err := Load(m.write(t, "closed.toml", required, 0), m.env())
		if d := cmp.Diff([]string{"~/closed.toml: permission denied"}, m.faults(err)); d != "" {
			t.Error(d)
		}
	})
	t.Run("as large as may be", func(t *testing.T) {
		m.mustLoad(t, required+strings.Repeat("#", sizeLimit-len(required)))
	})
	t.Run("deeply nested", func(t *testing.T) {
		if _, err := m.load(t, "a = "+strings.Repeat("[", sizeLimit/8)); err == nil {
			t.Error("no error")
		}
	})
}

func TestFind(t *testing.T) {
	m := newMachine(t)
	system := filepath.Join(t.TempDir(), "adt.toml")
	find := func(flag string) (string, error) { return findFile(flag, m.getenv, system) }
	want := func(flag, path string) {
		t.Helper()
		if got, err := find(flag); got != path || err != nil {
			t.Errorf("found %q (%v), want %q", got, err, path)
		}
	}
	_, err := find("")
	if err == nil {
		t.Fatal("found one where there is none")
	}
	if got, want := strings.ReplaceAll(err.Error(), system, "SYSTEM"), "no configuration: looked at --config, $ADT_CONFIG, "+m.home+"/adt.toml, SYSTEM; make one with: adt config example > ~/adt.toml"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := os.WriteFile(system, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want("", system)
	own := m.write(t, "adt.toml", "", 0o600)
	want("", own)
	m.vars["ADT_CONFIG"] = "/from/the/environment"
	want("", "/from/the/environment")
	want("/from/the/flag", "/from/the/flag")
	if got, err := Find("", m.getenv); got != "/from/the/environment" || err != nil {
		t.Errorf("found %q (%v)", got, err)
	}
	m.vars = nil
	want("", system)
}

func FuzzLoad(f *testing.F) {
	var example strings.Builder
	if err := Example(&example); err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{"", required, example.String(), "\ufeff" + required, with("[ssh]\nsudo_password = \"env:HOME\"\n"), "a.b.c = 1\n[[d]]\n", "x = {a = [1, {b = 2}]}\n", "[build]\nbackoff = ['1d', 2]\n"} {
		f.Add([]byte(seed))
	}
	m := newMachine(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := m.load(t, string(data))
		if (cfg == nil) == (err == nil) {
			t.Fatalf("configuration %v with error %v", cfg, err)
		}
		if err == nil {
			var b strings.Builder
			if err := errors.Join(Show(&b, cfg), ShowJSON(&b, cfg)); err != nil {
				t.Fatal(err)
			}
			return
		}
		for _, line := range strings.Split(err.Error(), "\n") {
			if !strings.HasPrefix(line, m.home) {
				t.Errorf("line %q does not begin with the file", line)
			}
		}
		var fault *Error
		if !errors.As(err, &fault) || fault.Line < 0 || fault.Line > 1+strings.Count(string(data), "\n") {
			t.Errorf("%v is in line %d", err, fault.Line)
		}
	})
}
