package config

import (
	"net/url"
)

// Heartbeat is the monitors that are told of runs. Whoever has the address of one can
// keep it quiet, so they are secrets.
type Heartbeat struct {
	Scale        Secret   `toml:"scale" doc:"The address at which a monitor of cron jobs is told of each adt scale, such as https://hc-ping.com/<uuid>: file:PATH, env:NAME or the address itself." example:"\"file:~/.adt-ping-scale\""`
	HealthCheck  Secret   `toml:"healthcheck" doc:"The same for adt healthcheck." example:"\"file:~/.adt-ping-healthcheck\""`
	RebootIfDone Secret   `toml:"reboot_if_done" doc:"The same for adt reboot-if-done." example:"\"file:~/.adt-ping-reboot\""`
	Style        string   `toml:"style" doc:"How the address says what is told: path (URL/start, URL, URL/fail, as for healthchecks.io), query (URL?state=run, complete, fail, as for Cronitor) or plain (URL, after a success only)." oneof:"path query plain"`
	Timeout      Duration `toml:"timeout" doc:"How long a monitor may keep a run, in all, when that has done its work." min:"100ms" max:"30s"`
	CA           string   `toml:"ca" doc:"A file with the certificates (PEM) of an own authority, for a monitor of your own; empty takes the system's." form:"path" optional:"true"`
}

// URL is the address for a command; unset, nobody is told.
func (h Heartbeat) URL(command string) Secret {
	switch command {
	case "scale":
		return h.Scale
	case "healthcheck":
		return h.HealthCheck
	case "reboot-if-done":
		return h.RebootIfDone
	}
	return Secret{}
}

// checkHeartbeat finds what is no address, without showing it.
func (c *Config) checkHeartbeat(p *problems) {
	for key, secret := range map[string]Secret{"scale": c.Heartbeat.Scale, "healthcheck": c.Heartbeat.HealthCheck, "reboot_if_done": c.Heartbeat.RebootIfDone} {
		if key = "heartbeat." + key; secret.IsZero() || !p.sound(key) {
			continue
		}
		u, err := url.Parse(secret.Reveal())
		if err != nil || u.Host == "" || u.Fragment != "" || u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
			p.add(key, "must be an address that begins with https://, such as https://hc-ping.com/<uuid>, and is not shown here")
		}
	}
}
