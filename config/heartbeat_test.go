package config

import (
	"strings"
	"testing"
)

func TestHeartbeat(t *testing.T) {
	m := newMachine(t)
	m.write(t, "ping", "https://hc-ping.com/uuid\n", 0o600)
	cfg := m.mustLoad(t, with("[heartbeat]\nscale = \"file:~/ping\"\nreboot_if_done = \"http://127.0.0.1:8000/ping/slug\"\n"))
	for command, want := range map[string]string{"scale": "https://hc-ping.com/uuid", "healthcheck": "", "reboot-if-done": "http://127.0.0.1:8000/ping/slug", "status": ""} {
		if got := cfg.Heartbeat.URL(command).Reveal(); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	for _, address := range []string{"hunter2", "http://hunter2.example.com/", "ftp://hunter2/", "https:///hunter2", "https://hunter2/#x", "https://hunter2:port/", "https://hunter2/%zz"} {
		_, err := m.load(t, with("[heartbeat]\nhealthcheck = \""+address+"\"\n"))
		faults := m.faults(err)
		if len(faults) != 1 || !strings.Contains(faults[0], "heartbeat.healthcheck: must be an address that begins with https://") || strings.Contains(faults[0], "hunter2") {
			t.Errorf("%s: %q", address, faults)
		}
	}
}

func TestMetricsFileIsOneThatIsRead(t *testing.T) {
	m := newMachine(t)
	if cfg := m.mustLoad(t, with("[metrics]\ntextfile = \"~/adt.prom\"\n")); cfg.Metrics.Textfile != m.home+"/adt.prom" {
		t.Error(cfg.Metrics.Textfile)
	}
	_, err := m.load(t, with("[metrics]\ntextfile = \"/var/lib/adt\"\n"))
	if faults := m.faults(err); len(faults) != 1 || !strings.Contains(faults[0], "metrics.textfile: must end in .prom") {
		t.Errorf("%q", faults)
	}
}
