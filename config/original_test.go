package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// settingsOf is a settings file of an installation at DigitalOcean.
const settingsOf = `BUILDIDENTIFIER:b1
CLOUDHOST:digitalocean
REGION:lon1
SERVERUSER:XagileX
SERVERUSERPASSWORD:pass:word"1
WEBSITEURL:www.example.com
MAXWEBSERVERS:15
APPLICATION:wordpress
APPLICATIONLANGUAGE:PHP
TOKEN:dop_v1_secret
WSSERVERTYPE:s-2vcpu-4gb
BUILDOS:debian
BUILDOSVERSION:12
ACTIVEFIREWALLS:3
DNSCHOICE:digitalocean
DNSSECURITYKEY:dop_v1_secret
SSHPORT:1035
ALGORITHM:ed25519
SERVERTIMEZONECONTINENT:Europe
SERVERTIMEZONECITY:London
INFRASTRUCTUREREPOSITORYPROVIDER:github
INFRASTRUCTUREREPOSITORYOWNER:somebody
EMAILPASSWORD:mailsecret
S3SECRETKEY:s3secret
NO_WEBSERVERS:2
`

func hashed(string) (string, error) { return "$6$salt$hash", nil }

// imported loads what is made of the settings.
func imported(t *testing.T, text string) (*Config, Imported) {
	t.Helper()
	in, err := ImportOriginal(Original{Files: map[string][]byte{OriginalSettings: []byte(text), "buildstyles.dat": []byte("PHP:cli\n")}, Autoscalers: 2, Hash: hashed}, "secrets.toml")
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	m.write(t, "secrets.toml", string(in.SecretsFile()), 0o600)
	return m.mustLoad(t, string(in.TOML)), in
}

func TestImportOriginal(t *testing.T) {
	c, in := imported(t, settingsOf)
	got := map[string]any{
		"build": c.Autoscaler.Build, "region": c.Autoscaler.Region, "user": c.Autoscaler.User, "count": c.Autoscaler.Count,
		"max": c.Autoscaler.MaxWebservers, "url": c.Website.URL, "application": c.Website.Application, "head": c.Website.HeadFile,
		"servers": c.Provider.Servers, "dns": c.Provider.DNS, "adopt": c.Provider.Adopt, "token": c.DigitalOcean.Token.Reveal(),
		"size": c.DigitalOcean.Size, "image": c.DigitalOcean.Image, "firewall": c.DigitalOcean.Firewall, "vpc": c.DigitalOcean.VPC,
		"port": c.SSH.Port, "password": c.SSH.SudoPassword.Reveal(), "shared": c.SSH.SharedHostKey,
		"key": filepath.Base(c.SSH.Key), "zone": c.CloudInit.TimeZone, "repository": c.CloudInit.Repository,
		"hash": c.CloudInit.PasswordHash.Reveal(), "template": c.CloudInit.Template, "config": c.Build.ApplicationConfig,
		"ssh key": c.DigitalOcean.SSHKey,
	}
	for key, want := range map[string]any{
		"build": "b1", "region": "lon1", "user": "XagileX", "count": 2, "max": 15, "url": "www.example.com",
		"application": "wordpress", "head": "index.php", "servers": "digitalocean", "dns": "digitalocean", "adopt": true,
		"token": "dop_v1_secret", "size": "s-2vcpu-4gb", "image": "debian-12-x64", "firewall": true, "vpc": "adt-vpc",
		"port": 1035, "password": `pass:word"1`, "shared": true, "key": "id_ed25519_AGILE_DEPLOYMENT_BUILD_KEY_b1",
		"zone": "Europe/London", "repository": "https://github.com/somebody/adt-webserver-scripts.git", "hash": "$6$salt$hash",
		"template": "original", "config": "/var/www/html/wp-config.php", "ssh key": "AGILE_TOOLKIT_PUBLIC_KEY-b1",
	} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	told := map[string]bool{}
	var report strings.Builder
	for _, n := range in.Notes {
		report.WriteString(n.String() + "\n")
		told[n.Key] = true
	}
	for line := range strings.Lines(settingsOf) {
		if key, _, _ := strings.Cut(line, ":"); !told[key] {
			t.Errorf("nothing is said of %s", key)
		}
	}
	for _, secret := range []string{"dop_v1_secret", "word\"1", "mailsecret", "s3secret", "$6$"} {
		if strings.Contains(report.String(), secret) || strings.Contains(string(in.TOML), secret) {
			t.Errorf("%s is shown:\n%s\n%s", secret, &report, in.TOML)
		}
	}
	for _, want := range []string{
		"took    autoscaler_configuration_settings.dat:3 REGION:lon1 → autoscaler.region",
		"left    autoscaler_configuration_settings.dat:23 EMAILPASSWORD → mail needs EMAILPROVIDER ",
		"took    autoscaler_configuration_settings.dat:12 BUILDOS:debian → digitalocean.image = debian-12-x64",
		"left    buildstyles.dat all of it → it is given to new webservers as it is",
		"chosen  provider.adopt:true → ",
	} {
		if !strings.Contains(strings.ReplaceAll(report.String(), "chosen   ", "chosen  "), want) {
			t.Errorf("the report lacks %q:\n%s", want, &report)
		}
	}
}

// The original's mail settings, by which it sends none unless it has all of them.
func TestImportMail(t *testing.T) {
	const mail = "EMAILPROVIDER:2\nEMAILUSERNAME:apikey\nSYSTEMFROMEMAILADDRESS:adt@example.com\nSYSTEMTOEMAILADDRESS:ops@example.com, boss@example.com\n"
	c, in := imported(t, settingsOf+mail+"EMAILNOTIFICATIONLEVEL:ERROR\n")
	got := c.Notify.Mail
	if got.Host != "in-v3.mailjet.com" || got.Port != 587 || got.TLS != "starttls" || got.User != "apikey" || got.Password.Reveal() != "mailsecret" ||
		got.From != "adt@example.com" || strings.Join(got.To, " ") != "ops@example.com boss@example.com" || c.Notify.Level != "ERROR" {
		t.Errorf("%+v\n%s", c.Notify, in.TOML)
	}
	if strings.Contains(string(in.TOML), "mailsecret") {
		t.Error("the password is in adt.toml")
	}
	for _, lacks := range []string{
		strings.Replace(mail, "EMAILPROVIDER:2", "EMAILPROVIDER:9", 1),
		strings.Replace(mail, "EMAILUSERNAME:apikey", "EMAILUSERNAME:", 1),
		strings.Replace(mail, "adt@example.com", "nobody", 1),
		strings.Replace(mail, "boss@example.com", "boss", 1),
	} {
		if c, _ := imported(t, settingsOf+lacks); c.Notify.On() {
			t.Errorf("mail is sent by\n%s", lacks)
		}
	}
	c, _ = imported(t, settingsOf+strings.Replace(mail, "EMAILPROVIDER:2", "EMAILPROVIDER:3", 1))
	if c.Notify.Mail.Host != "email-smtp.eu-west-1.amazonaws.com" || c.Notify.Level != "INFO" {
		t.Errorf("%+v", c.Notify)
	}
}

func TestImportVariants(t *testing.T) {
	const cloudflare = "DNSCHOICE:cloudflare\nDNSUSERNAME:ops@example.com\n"
	global := strings.Repeat("0123456789abcdef", 2) + "01234"
	for name, c := range map[string]struct {
		more string
		is   func(*Config) bool
	}{
		"the last of two holds":     {"REGION:ams3\n", func(c *Config) bool { return c.Autoscaler.Region == "ams3" }},
		"an empty one says nothing": {"REGION:\n", func(c *Config) bool { return c.Autoscaler.Region == "lon1" }},
		"ends of Windows lines":     {"REGION:fra1\r\n", func(c *Config) bool { return c.Autoscaler.Region == "fra1" }},
		"a line that is none":       {"garbage\n\xff\xfe\n# REGION:x\n", func(c *Config) bool { return c.Autoscaler.Region == "lon1" }},
		"an unknown application":    {"APPLICATION:ghost\n", func(c *Config) bool { return c.Website.Application == "none" && c.Build.ApplicationConfig == "" }},
		"HTML":                      {"APPLICATIONLANGUAGE:HTML\n", func(c *Config) bool { return c.Website.HeadFile == "index.html" }},
		"ubuntu":                    {"BUILDOS:ubuntu\nBUILDOSVERSION:24.04\n", func(c *Config) bool { return c.DigitalOcean.Image == "ubuntu-24-04-x64" }},
		"no native firewall":        {"ACTIVEFIREWALLS:1\n", func(c *Config) bool { return !c.DigitalOcean.Firewall }},
		"a VPC of its own":          {"VPCNAME:mine\n", func(c *Config) bool { return c.DigitalOcean.VPC == "mine" }},
		"a snapshot": {"BUILDFROMSNAPSHOT:1\nSNAPSHOTID:12345\n", func(c *Config) bool {
			return c.DigitalOcean.Image == "12345" && c.CloudInit.Template == "original-snapshot"
		}},
		"a snapshot, not used": {"BUILDFROMSNAPSHOT:0\nSNAPSHOTID:12345\n", func(c *Config) bool {
			return c.DigitalOcean.Image == "debian-12-x64" && c.CloudInit.Template == "original"
		}},
		"cloudflare with a token": {cloudflare + "DNSSECURITYKEY:acc:::tok\n", func(c *Config) bool {
			return c.Provider.DNS == "cloudflare" && c.Cloudflare.Token.Reveal() == "acc:::tok" && c.Cloudflare.Email == "" && c.Website.TTL.Std() == 2*time.Minute
		}},
		"cloudflare with a global key": {cloudflare + "DNSSECURITYKEY:" + global + "\n", func(c *Config) bool {
			return c.Cloudflare.Key.Reveal() == global && c.Cloudflare.Email == "ops@example.com" && c.Cloudflare.Token.IsZero()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if c2, in := imported(t, settingsOf+c.more); !c.is(c2) {
				t.Errorf("%s\n%v", in.TOML, in.Notes)
			}
		})
	}
}

func TestImportRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                           "there is no BUILDIDENTIFIER",
		settingsOf + "CLOUDHOST:linode\n":            ":26: CLOUDHOST:linode: adt has no driver",
		settingsOf + "DNSCHOICE:vultr\n":             ":26: DNSCHOICE:vultr: adt has no driver",
		settingsOf + "MAXWEBSERVERS:many\n":          ":26: MAXWEBSERVERS:many: must be a number from 1 to 20",
		settingsOf + "SSHPORT:70000\n":               ":26: SSHPORT:70000: must be a port",
		strings.ReplaceAll(settingsOf, "TOKEN:", ""): "there is no TOKEN",
	} {
		_, err := ImportOriginal(Original{Files: map[string][]byte{OriginalSettings: []byte(text)}}, "s")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := ImportOriginal(Original{}, "s"); err == nil || !strings.Contains(err.Error(), OriginalSettings) {
		t.Errorf("without the file: %v", err)
	}
}

// TestImportWithoutHash: nobody's sudo is opened in silence.
func TestImportWithoutHash(t *testing.T) {
	in, err := ImportOriginal(Original{Files: map[string][]byte{OriginalSettings: []byte(settingsOf)},
		Hash: func(string) (string, error) { return "", errors.New("no such program") }}, "s")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range in.Notes {
		if n.Key == "cloudinit.password_hash" && n.Verdict == Left && strings.Contains(n.Why, "no such program") {
			return
		}
	}
	t.Errorf("nothing is said: %v", in.Notes)
}

func TestSecretsOfOneFile(t *testing.T) {
	m := newMachine(t)
	path := m.write(t, "secrets.toml", "A = \"first\"\nB = \"se#cond\"\nEMPTY = \"\"\nN = 1\n", 0o600)
	for ref, want := range map[string]string{"A": "first", "B": "se#cond"} {
		c := m.mustLoad(t, with("[local]\ntoken = \"file:secrets.toml#"+ref+"\"\n"))
		if c.Local.Token.Reveal() != want {
			t.Errorf("%s is %q", ref, c.Local.Token.Reveal())
		}
	}
	for _, ref := range []string{"C", "EMPTY", "N", ""} {
		if _, err := m.load(t, with("[local]\ntoken = \"file:secrets.toml#"+ref+"\"\n")); err == nil || !strings.Contains(err.Error(), "has no line "+ref+" = ") {
			t.Errorf("%q: %v", ref, err)
		}
	}
	if err := os.WriteFile(path, []byte("secretvalue\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := m.load(t, with("[local]\ntoken = \"file:secrets.toml#A\"\n")); err == nil || strings.Contains(err.Error(), "secretvalue") {
		t.Errorf("%v", err)
	}
	m.write(t, "secrets.toml", "A = \"first\"\n", 0o644)
	if _, err := m.load(t, with("[local]\ntoken = \"file:secrets.toml#A\"\n")); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("readable by others: %v", err)
	}
}

// FuzzImportOriginal: whatever is imported without an error is TOML that can be
// read, and every secret comes back as it was.
func FuzzImportOriginal(f *testing.F) {
	f.Add(settingsOf)
	f.Add(settingsOf + "DNSCHOICE:cloudflare\nDNSSECURITYKEY:a:::b\n")
	f.Fuzz(func(t *testing.T, text string) {
		in, err := ImportOriginal(Original{Files: map[string][]byte{OriginalSettings: []byte(text)}, Hash: hashed}, "s")
		if err != nil {
			return
		}
		if _, _, err := parse(string(in.TOML)); err != nil {
			t.Fatalf("%v in\n%s", err, in.TOML)
		}
		for name, secret := range in.Secrets {
			got, err := named("s", name, in.SecretsFile())
			if err != nil || got.Reveal() != secret {
				t.Fatalf("%s: %q became %q, %v", name, secret, got.Reveal(), err)
			}
		}
	})
}

// The S3 datastore is taken as a whole or not at all.
func TestImportStore(t *testing.T) {
	c, _ := imported(t, settingsOf+"S3HOSTBASE:lon1.example.com|ams3.example.com\nS3ACCESSKEY:one|two\nS3LOCATION:eu-1|eu-2\n")
	d := c.Datastore
	if d.Driver != "s3" || strings.Join(d.Endpoints, " ") != "https://lon1.example.com https://ams3.example.com" || d.AccessKey.Reveal() != "one|two" ||
		d.SecretKey.Reveal() != "s3secret" || d.Region != "eu-1|eu-2" || !d.RequireInstalled {
		t.Errorf("%+v", d)
	}
	if c, _ := imported(t, settingsOf); c.Datastore.Driver != "file" {
		t.Errorf("half of the settings: %+v", c.Datastore)
	}
}

func TestImportProxies(t *testing.T) {
	c, _ := imported(t, settingsOf+"NOREVERSEPROXY:2\n")
	if p := c.Proxies; !p.Enabled || p.Kind != "original" || p.Count != 2 || p.AddCommand != originalAddIP {
		t.Errorf("%+v", p)
	}
	c, in := imported(t, settingsOf+"NOREVERSEPROXY:0\n")
	if c.Proxies.Enabled {
		t.Error("there are none")
	}
	if n := in.Notes[slices.IndexFunc(in.Notes, func(n Note) bool { return n.Key == "NOREVERSEPROXY" })]; n.Verdict != Left || n.Why != "there are no reverse proxies" {
		t.Errorf("%+v", n)
	}
	if _, err := ImportOriginal(Original{Files: map[string][]byte{OriginalSettings: []byte(settingsOf + "NOREVERSEPROXY:many\n")}}, "s"); err == nil || !strings.Contains(err.Error(), "NOREVERSEPROXY:many: must be a number from 0 to 5") {
		t.Error(err)
	}
}
