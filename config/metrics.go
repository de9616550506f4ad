package config

import "strings"

// Metrics is where figures for Prometheus go.
type Metrics struct {
	Textfile string `toml:"textfile" doc:"The file for the textfile collector of node_exporter, such as /var/lib/prometheus/node-exporter/adt.prom, written after each run of a tick; empty writes none. Its folder must be there." form:"path" optional:"true"`
}

// checkMetrics finds a file that nobody would read.
func (c *Config) checkMetrics(p *problems) {
	if file := c.Metrics.Textfile; p.sound("metrics.textfile") && file != "" && !strings.HasSuffix(file, ".prom") {
		p.add("metrics.textfile", "must end in .prom, as node_exporter reads no other files, is %s", file)
	}
}
