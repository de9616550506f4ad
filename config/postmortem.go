package config

// PostMortem is what is kept of a webserver before it is destroyed.
type PostMortem struct {
	Deadline Duration `toml:"deadline" doc:"How long fetching the logs of a failed or sick webserver may take before it is destroyed; 0s fetches nothing." min:"0s" max:"10m"`
	MaxKiB   int      `toml:"max_kib" doc:"How much of each file is kept, in KiB: its end." min:"1" max:"1000"`
	Files    []string `toml:"files" doc:"The files on a webserver whose ends are kept, besides its journal, its processes (without arguments) and its disk usage; those that are not there are passed over." form:"remote" optional:"true" example:"[\"/var/log/cloud-init-output.log\", \"/var/log/nginx/error.log\"]"`
}

// derivePostMortem names the logs of Debian's and Ubuntu's web servers, or those
// of the servers of the local cloud.
func (c *Config) derivePostMortem(isSet func(string) bool, from func(key, origin string)) {
	if isSet("postmortem.files") {
		return
	}
	c.PostMortem.Files = []string{
		"/var/log/cloud-init-output.log", "/var/log/cloud-init.log",
		"/var/log/nginx/error.log", "/var/log/apache2/error.log", "/var/log/lighttpd/error.log",
	}
	if c.Provider.Servers == "local" {
		c.PostMortem.Files = []string{"logs/cloud-init-output.log", "logs/webserver-error.log"}
		from("postmortem.files", "of local servers")
	}
}
