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

func TestProxiesByKind(t *testing.T) {
	type commands struct{ file, options, test, reload, root string }
	const root = "sudo -S -p ''"
	for name, test := range map[string]struct {
		text string
		want commands
	}{
		"nginx":    {"", commands{"/etc/nginx/conf.d/adt-b1.conf", "max_fails=2 fail_timeout=10s", "nginx -t", "systemctl reload-or-restart nginx", root}},
		"haproxy":  {"kind = \"haproxy\"\n", commands{"/etc/haproxy/adt/b1.cfg", "check inter 5s ssl verify none", "haproxy -c -f /etc/haproxy/haproxy.cfg -f /etc/haproxy/adt", "systemctl reload-or-restart haproxy", root}},
		"apache":   {"kind = \"apache\"\n", commands{"/etc/apache2/conf-enabled/adt-b1.conf", "retry=10 disablereuse=on", "apachectl configtest", "systemctl reload-or-restart apache2", root}},
		"original": {"kind = \"original\"\n", commands{root: "sudo -S -E -p ''"}},
		"keys of its own": {"kind = \"haproxy\"\nfile = \"/etc/x.cfg\"\nserver_options = \"\"\ntest_command = \"true\"\nreload_command = \"false\"\n",
			commands{"/etc/x.cfg", "", "true", "false", root}},
	} {
		t.Run(name, func(t *testing.T) {
			x := newMachine(t).mustLoad(t, with("[proxies]\n"+test.text)).Proxies
			if got := (commands{x.File, x.ServerOptions, x.TestCommand, x.ReloadCommand, x.RootCommand}); got != test.want {
				t.Errorf("got %+v\nwant %+v", got, test.want)
			}
			if x.Upstream != "adt-b1" || x.Path != "index.html" || x.Enabled {
				t.Errorf("%+v", x)
			}
		})
	}
}
