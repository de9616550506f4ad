package config

import "testing"

func TestPresets(t *testing.T) {
	const vendor = "[provider]\nservers = \"digitalocean\"\n[digitalocean]\ntoken = \"t\"\n"
	type commands struct{ language, configure, restart, shutdown, template, config string }
	for name, test := range map[string]struct {
		text string
		want commands
	}{
		"original, local": {"", commands{originalLanguage, originalConfigure, originalRestart, originalShutdown, "minimal", ""}},
		"original": {vendor, commands{originalLanguage, sudo + originalConfigure, sudo + originalRestart,
			sudo + originalShutdown, "original", ""}},
		"plain": {vendor + "[build]\npreset = \"plain\"\n", commands{"", "", sudo + "systemctl restart nginx",
			sudo + "shutdown -h now", "plain", ""}},
		"a key of its own": {vendor + "[build]\npreset = \"plain\"\nrestart_command = \"true\"\n[cloudinit]\ntemplate = \"mine\"\n",
			commands{"", "", "true", sudo + "shutdown -h now", "mine", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newMachine(t).mustLoad(t, with(test.text))
			got := commands{c.Build.LanguageMarker, c.Build.ConfigureCommand, c.Build.RestartCommand,
				c.Scale.ShutdownCommand, c.CloudInit.Template, c.Build.ApplicationConfig}
			if got != test.want {
				t.Errorf("got %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestApplicationTellsItsConfig(t *testing.T) {
	for application, want := range map[string]string{
		"none": "", "joomla": "/var/www/html/configuration.php", "wordpress": "/var/www/html/wp-config.php",
		"drupal": "/var/www/html/sites/default/settings.php", "moodle": "/var/www/html/config.php",
	} {
		c := newMachine(t).mustLoad(t, with("application = \""+application+"\"\n"))
		if c.Build.ApplicationConfig != want {
			t.Errorf("%s: %q, want %q", application, c.Build.ApplicationConfig, want)
		}
	}
}
