package config

import "strings"

// sudo begins a command that needs root. The password, if one is configured,
// is read from standard input; -p leaves out the question.
const sudo = "sudo -S -p '' "

// These are the webserver scripts of the original, which the local
// cloud's servers have as well.
const (
	originalConfigure = "sh application/configuration/InitialiseConfigurationByApplication.sh"
	originalRestart   = "sh providerscripts/webserver/RestartWebserver.sh"
	originalShutdown  = "sh utilities/housekeeping/ShutdownThisWebserver.sh"
	originalLanguage  = "runtime/installedsoftware/InstallApplicationLanguage.sh"
)

// applicationConfig is the file that each application of the original cannot
// be without, below the web root.
func applicationConfig(application string) string {
	file := map[string]string{
		"joomla":    "configuration.php",
		"wordpress": "wp-config.php",
		"drupal":    "sites/default/settings.php",
		"moodle":    "config.php",
	}[application]
	if file == "" {
		return ""
	}
	return "/var/www/html/" + file
}

// preset fills in what build.preset stands for: the phases and commands of a
// webserver of the original, or of a plain one that has none of its scripts.
// What the file says itself stays.
func (c *Config) preset(isSet func(string) bool, from func(key, origin string)) {
	local, b := c.Provider.Servers == "local", &c.Build
	origin := "build.preset = \"" + b.Preset + "\""
	text := func(key string, field *string, value string) {
		if !isSet(key) && *field != value {
			*field = value
			from(key, origin)
		}
	}
	switch {
	case b.Preset == "plain":
		text("build.language_marker", &b.LanguageMarker, "")
		text("build.configure_command", &b.ConfigureCommand, "")
		text("build.restart_command", &b.RestartCommand, sudo+"systemctl restart nginx")
		text("scale.shutdown_command", &c.Scale.ShutdownCommand, sudo+"shutdown -h now")
		text("cloudinit.template", &c.CloudInit.Template, "plain")
	case !local:
		text("build.configure_command", &b.ConfigureCommand, sudo+originalConfigure)
		text("build.restart_command", &b.RestartCommand, sudo+originalRestart)
		text("scale.shutdown_command", &c.Scale.ShutdownCommand, sudo+originalShutdown)
		text("cloudinit.template", &c.CloudInit.Template, "original")
	}
	if file := applicationConfig(c.Website.Application); file != "" && !isSet("build.application_config") {
		b.ApplicationConfig = file
		from("build.application_config", "of website.application")
	}
}

// checkAccounts finds a vendor that is used without what opens its account.
func (c *Config) checkAccounts(p *problems) {
	uses := func(vendor string) bool { return c.Provider.Servers == vendor || c.Provider.DNS == vendor }
	if uses("digitalocean") {
		if p.sound("digitalocean.token") && c.DigitalOcean.Token.Reveal() == "" {
			p.add("digitalocean.token", "missing: write token = \"file:~/.adt-digitalocean-token\" and put the API token into that file, mode 0600")
		}
	}
	if uses("cloudflare") && p.sound("cloudflare.token", "cloudflare.global_key") {
		token, key := c.Cloudflare.Token.Reveal(), c.Cloudflare.Key.Reveal()
		switch {
		case token == "" && key == "":
			p.add("cloudflare.token", "missing: write token = \"file:~/.adt-cloudflare-token\" and put the API token into that file, mode 0600")
		case token == "" && c.Cloudflare.Email == "":
			p.add("cloudflare.email", "missing: a global key needs the account's email address")
		case token != "" && key != "":
			p.add("cloudflare.global_key", "there is a token as well: keep one of the two, the token is the safer")
		}
	}
	c.checkStore(p)
	c.checkDatabase(p)
}

// checkStore finds an S3 store without what opens it.
func (c *Config) checkStore(p *problems) {
	d := c.Datastore
	if d.Driver != "s3" {
		return
	}
	if p.sound("datastore.transport") && d.Transport == "ssh" {
		p.add("datastore.transport", "must be store with driver s3, is ssh")
	}
	if p.sound("datastore.endpoints") && len(d.Endpoints) == 0 {
		p.add("datastore.endpoints", "missing: write the store's address, such as [\"https://lon1.digitaloceanspaces.com\"]")
	}
	for _, key := range []struct {
		name  string
		value Secret
	}{{"datastore.access_key", d.AccessKey}, {"datastore.secret_key", d.SecretKey}} {
		n := len(strings.Split(key.value.Reveal(), "|"))
		switch {
		case !p.sound(key.name, "datastore.endpoints"):
		case key.value.Reveal() == "":
			p.add(key.name, "missing: the S3 store needs it")
		case n != 1 && n != len(d.Endpoints):
			p.add(key.name, "holds %d keys, for %d endpoints", n, len(d.Endpoints))
		}
	}
	if n := len(strings.Split(d.Region, "|")); p.sound("datastore.region", "datastore.endpoints") && n != 1 && n != len(d.Endpoints) {
		p.add("datastore.region", "holds %d regions, for %d endpoints", n, len(d.Endpoints))
	}
}
