// Package config is adt.toml: what the operator says once about an
// installation, with the defaults for everything left out. It reads and checks
// the file and reports all that is wrong at once. It must not know what the
// settings are used for, nor open anything but the file itself, the files that
// hold secrets, and the mode of the SSH key.
package config

import (
	"path/filepath"
	"strings"
	"time"
)

// Config is the effective configuration: the file's values, and a default for
// each key that the file leaves out.
//
// The struct tags are the schema. toml: the key. doc: one sentence for Example.
// min, max: limits of a number or duration, or of the entries of a list.
// oneof: the allowed texts, separated by spaces. form: what a text must look
// like (see checkForm). optional: may be empty. required: has no default.
// example: the default is worked out from other values; this is a sample of it.
type Config struct {
	Autoscaler   Autoscaler   `toml:"autoscaler" doc:"This machine and the webservers it keeps."`
	Website      Website      `toml:"website" doc:"The website that the webservers serve."`
	Provider     Provider     `toml:"provider" doc:"Where machines and DNS records come from."`
	DigitalOcean DigitalOcean `toml:"digitalocean" doc:"The account at DigitalOcean, used when servers or dns above is \"digitalocean\"."`
	Cloudflare   Cloudflare   `toml:"cloudflare" doc:"The account at Cloudflare, used when dns above is \"cloudflare\"."`
	Local        Local        `toml:"local" doc:"The cloud on this machine, used when servers or dns above is \"local\"."`
	CloudInit    CloudInit    `toml:"cloudinit" doc:"What a new webserver is given at its first boot."`
	Datastore    Datastore    `toml:"datastore" doc:"Where profiles and leases are kept."`
	Database     Database     `toml:"database" doc:"A managed database that lets in only whom it knows: adt adds the webservers and takes them off again."`
	SSH          SSH          `toml:"ssh" doc:"How webservers are logged in to, as the server user."`
	HTTPS        HTTPS        `toml:"https" doc:"How webservers are asked for the website."`
	Build        Build        `toml:"build" doc:"A webserver's way from a name to the public."`
	Scale        Scale        `toml:"scale" doc:"One run of adt scale."`
	HealthCheck  HealthCheck  `toml:"healthcheck" doc:"When a webserver is taken to be sick, and what may be done about it in one run."`
	Proxies      Proxies      `toml:"proxies" doc:"Reverse proxies in front of the webservers; adt neither makes nor destroys them."`
	Reboot       Reboot       `toml:"reboot" doc:"What adt reboot-if-done does after a cycle."`
	Metrics      Metrics      `toml:"metrics" doc:"Figures for Prometheus, of the fleet and of adt itself."`
	Heartbeat    Heartbeat    `toml:"heartbeat" doc:"Monitors of cron jobs, which raise the alarm when they hear nothing."`
	Cron         Cron         `toml:"cron" doc:"What adt cron install writes besides the commands."`
	Notify       Notify       `toml:"notify" doc:"Who is told what happens, by adt notify; nobody, unless a recipient is set below."`
	PostMortem   PostMortem   `toml:"postmortem" doc:"What is kept of a failed or sick webserver before it is destroyed, in logs/post-mortem."`
	Housekeeping Housekeeping `toml:"housekeeping" doc:"What adt housekeeping throws away, once a day."`
	Monitor      Monitor      `toml:"monitor" doc:"When adt monitor raises an alarm about this machine."`
	Firewall     Firewall     `toml:"firewall" doc:"What this machine lets in, see adt firewall."`
	AuditSSH     AuditSSH     `toml:"audit_ssh" doc:"Which logins to this machine adt audit-ssh is silent about."`

	// Schedule is the [[schedule]] tables, in the order of the file.
	Schedule []Schedule `toml:"-"`

	Path string `toml:"-"` // of the file, absolute
	Home string `toml:"-"` // $HOME

	origin map[string]string // key -> where its value is from, in words
}

// Autoscaler is this machine and the names of what it keeps.
type Autoscaler struct {
	Number        int    `toml:"number" doc:"Which autoscaler this is, or 0 for the build machine, which only gives commands; left out, it is read from the machine's host name NO-<number>-as-…." min:"0" max:"5" example:"1"`
	Count         int    `toml:"count" doc:"How many autoscalers share the fleet; one is enough for most." min:"1" max:"5"`
	Region        string `toml:"region" doc:"The provider's name of the region; part of every server name." required:"true" form:"label"`
	Build         string `toml:"build" doc:"The build identifier; part of every server name." required:"true" form:"label"`
	User          string `toml:"user" doc:"The server user on every machine; the first 4 characters are part of every server name." form:"user"`
	MaxWebservers int    `toml:"max_webservers" doc:"The most webservers that one autoscaler keeps (the original's MAXWEBSERVERS)." min:"1" max:"20"`
	Production    bool   `toml:"production" doc:"Whether this is a production fleet; adt adjust-scaling refuses any other, as the original does."`
	CountInitial  bool   `toml:"count_initial" doc:"Whether the initial webservers count towards the profile; by default the profile is on top of them."`
}

// Website is what the webservers serve.
type Website struct {
	URL         string   `toml:"url" doc:"The website's host name, such as www.example.com; without the first label it is the DNS zone." required:"true" form:"host"`
	HeadFile    string   `toml:"head_file" doc:"The file that health checks ask for: index.html for language HTML, index.php for PHP." form:"urlpath"`
	Application string   `toml:"application" doc:"The application that the webservers run; it tells build.application_config." oneof:"none joomla wordpress drupal moodle"`
	TTL         Duration `toml:"ttl" doc:"Time to live of the A records, in whole seconds; short, so that a sick webserver is soon forgotten." min:"1s" max:"1d"`
}

// Provider names the vendors.
type Provider struct {
	Servers string `toml:"servers" doc:"The vendor of the machines; local is a cloud on this machine." oneof:"local digitalocean"`
	DNS     string `toml:"dns" doc:"The vendor of the DNS records; left out, the vendor of the machines." oneof:"local digitalocean cloudflare" example:"\"local\""`
	Adopt   bool   `toml:"adopt" doc:"Whether servers and A records that bear the toolkit's names but no mark of adt count as ours: set it where the original has built the fleet. Foreign marks stay foreign."`
}

// DigitalOcean is an account there.
type DigitalOcean struct {
	Token        Secret `toml:"token" doc:"The API token, with the scopes to read and write droplets, domains, firewalls, tags and to read keys, images, sizes and VPCs: file:PATH, env:NAME or the token itself." example:"\"file:~/.adt-token\""`
	Size         string `toml:"size" doc:"The size of a webserver, by its slug." form:"label"`
	Image        string `toml:"image" doc:"The image of a webserver: a slug such as debian-13-x64 or ubuntu-24-04-x64, or the id of a snapshot." form:"label"`
	SSHKey       string `toml:"ssh_key" doc:"The name of the SSH key at DigitalOcean that new webservers get; left out, AGILE_TOOLKIT_PUBLIC_KEY-<build>." form:"argument" example:"\"AGILE_TOOLKIT_PUBLIC_KEY-mybuild\""`
	VPC          string `toml:"vpc" doc:"The name of the VPC in the region; empty takes the region's default." form:"argument" optional:"true"`
	Firewall     bool   `toml:"firewall" doc:"Whether new webservers are attached to the native firewall adt-webserver-<build> (the original's ACTIVEFIREWALLS 2 or 3)."`
	QuotaReserve int    `toml:"quota_reserve" doc:"With fewer API requests than this left in the hour, only what heals is asked for." min:"0" max:"5000"`
	APIURL       string `toml:"api_url" doc:"The address of the API." form:"url"`
}

// Cloudflare is an account there.
type Cloudflare struct {
	Token   Secret `toml:"token" doc:"The API token, plain or as <account>:::<token>, with the scopes to read zones and edit their DNS: file:PATH, env:NAME or the token itself." example:"\"file:~/.adt-cloudflare\""`
	Email   string `toml:"email" doc:"With global_key, the account's email address; with a token neither is needed." form:"argument" optional:"true"`
	Key     Secret `toml:"global_key" doc:"The account's global API key, if there is no token: file:PATH, env:NAME or the key itself." example:"\"file:~/.adt-cloudflare-key\""`
	Proxied bool   `toml:"proxied" doc:"Whether visitors reach the website through Cloudflare."`
	APIURL  string `toml:"api_url" doc:"The address of the API." form:"url"`
}

// CloudInit is what a new webserver is given at its first boot.
type CloudInit struct {
	Template     string   `toml:"template" doc:"The user data of new webservers: minimal (a user, its keys and the SSH host key), plain (nginx, with site, packages and run), original (the webserver scripts of the original), plain-snapshot and original-snapshot (from an image that has all of it), or the name of a file NAME.yaml in folder (adt cloud-init list)." form:"label"`
	Folder       string   `toml:"folder" doc:"The folder with own templates; one there goes before a built-in one of the same name." form:"path" optional:"true"`
	Site         string   `toml:"site" doc:"For plain: the folder with the website's files, given to every webserver; together at most 32 KiB." form:"path" optional:"true"`
	Packages     []string `toml:"packages" doc:"Further Debian packages to install." form:"argument" optional:"true"`
	Run          []string `toml:"run" doc:"For plain: shell commands that are run at the end of the first boot." form:"command" optional:"true"`
	Settings     []string `toml:"settings" doc:"For original: the settings files that a new webserver gets from this machine, by their paths below the home directory, here and there." form:"argument"`
	Repository   string   `toml:"repository" doc:"For original: where git finds the webserver scripts." form:"argument"`
	Branch       string   `toml:"branch" doc:"For original: the branch of the repository; empty is its default." form:"argument" optional:"true"`
	BuildCommand string   `toml:"build_command" doc:"For original: a shell command in the server user's home that builds the webserver; empty runs the repository's scripts in their usual order." form:"command" optional:"true"`
	TimeZone     string   `toml:"time_zone" doc:"The time zone of new webservers." form:"argument"`
	PasswordHash Secret   `toml:"password_hash" doc:"The crypt(3) hash of the server user's password, as mkpasswd prints it, if sudo needs one: file:PATH, env:NAME or the hash itself." example:"\"file:~/.adt-sudo-hash\""`
}

// Local is the cloud on this machine.
type Local struct {
	Path      string   `toml:"path" doc:"The folder that is the cloud." form:"path"`
	Token     Secret   `toml:"token" doc:"The API token, if the cloud asks for one: file:PATH, env:NAME or the token itself." example:"\"file:~/.adt-token\""`
	SSHPort   int      `toml:"ssh_port" doc:"The port on which its servers offer SSH; above 1023, so that no root is needed." min:"1" max:"65535"`
	HTTPSPort int      `toml:"https_port" doc:"The port on which its servers offer HTTPS; above 1023, so that no root is needed." min:"1" max:"65535"`
	Boot      Duration `toml:"boot" doc:"How long a server takes to boot; short, for demonstrations." min:"0s" max:"1d"`
	Build     Duration `toml:"build" doc:"How long a booted server takes to build itself; short, for demonstrations." min:"0s" max:"1d"`
	Latency   Duration `toml:"latency" doc:"How long each API call takes." min:"0s" max:"1m"`
}

// Datastore is where profiles and leases are kept.
type Datastore struct {
	Driver           string   `toml:"driver" doc:"The kind of store: file, a folder of this machine, or s3, buckets that all autoscalers and the build machine reach." oneof:"file s3"`
	Path             string   `toml:"path" doc:"For file: the store's folder." form:"path"`
	Transport        string   `toml:"transport" doc:"How adt scale --count reaches the other autoscalers: store (they share the datastore) or ssh (each has a folder of its own, and profiles are written there over SSH)." oneof:"store ssh"`
	Addresses        []string `toml:"addresses" doc:"For transport ssh: the addresses of the autoscalers, in the order of their numbers; left empty, they are asked of the provider by their names NO-<number>-as-…." form:"address" optional:"true"`
	KnownHosts       string   `toml:"known_hosts" doc:"For transport ssh: the file with the SSH host keys of the autoscalers." form:"path"`
	Endpoints        []string `toml:"endpoints" doc:"For s3: the address of the store. Of several, all get what is written, and the first is what is read and where leases are." form:"url" optional:"true"`
	Region           string   `toml:"region" doc:"For s3: the region in which requests are signed; empty suits most vendors. Of several endpoints, separated by |." form:"argument" optional:"true"`
	AccessKey        Secret   `toml:"access_key" doc:"For s3: the access key: file:PATH, env:NAME or the key itself. Of several endpoints with keys of their own, separated by |." example:"\"file:~/.adt-s3-access\""`
	SecretKey        Secret   `toml:"secret_key" doc:"For s3: the secret key, likewise." example:"\"file:~/.adt-s3-secret\""`
	Style            string   `toml:"style" doc:"For s3: where the bucket's name goes: path, virtual (in front of the host name), or auto." oneof:"auto path virtual"`
	CA               string   `toml:"ca" doc:"For s3: a file with the certificates (PEM) of an own authority; empty takes the system's." form:"path" optional:"true"`
	Timeout          Duration `toml:"timeout" doc:"For s3: how long one request may take." min:"100ms" max:"5m"`
	RequireInstalled bool     `toml:"require_installed" doc:"Whether nothing is done before INSTALLED_SUCCESSFULLY is in the config bucket, as in the original."`
	StaleAfter       Duration `toml:"stale_after" doc:"How long scaling goes on from the last known profile while the store is silent." min:"0s" max:"7d"`
	Takeover         bool     `toml:"takeover" doc:"Whether the autoscalers, where there are several, hold leases on their shards, and a living one keeps a dead one's webservers."`
	Lease            Duration `toml:"lease" doc:"After how long without a renewal a shard may be taken over; all autoscalers must have the same." min:"1s" max:"1d"`
}

// Schedule is one [[schedule]] table. Whether it makes sense is found out by
// package schedule.
type Schedule struct {
	Line     int    `toml:"-" json:"line"`
	Cron     string `toml:"cron" json:"cron"`
	TimeZone string `toml:"time_zone" json:"time_zone,omitempty"`
	Count    *int   `toml:"count" json:"count,omitempty"`
	Add      *int   `toml:"add" json:"add,omitempty"`
	From     string `toml:"from" json:"from,omitempty"`
	Until    string `toml:"until" json:"until,omitempty"`
}

// SSH is how webservers are logged in to.
type SSH struct {
	Port           int      `toml:"port" doc:"The port of sshd on the webservers; left out, 22, or local.ssh_port for local servers." min:"1" max:"65535" example:"22"`
	Key            string   `toml:"key" doc:"The private build key, readable by its owner only; left out, ~/.ssh/id_ed25519_AGILE_DEPLOYMENT_BUILD_KEY_<build>." form:"path" example:"\"~/.ssh/id_ed25519_AGILE_DEPLOYMENT_BUILD_KEY_mybuild\""`
	SudoPassword   Secret   `toml:"sudo_password" doc:"The server user's password for sudo, if it needs one: file:PATH, env:NAME or the password itself." example:"\"file:~/.adt-sudo\""`
	SharedHostKey  bool     `toml:"shared_host_key" doc:"Whether a webserver without a host key of its own in runtime/known_hosts shows the build key, as those do that the original has built."`
	NewHostKeys    string   `toml:"new_host_keys" doc:"The SSH host keys of new webservers: own (each has one that nobody else has) or build-key (all show the build key, as the original's do; it must be an ed25519 key)." oneof:"own build-key"`
	ConnectTimeout Duration `toml:"connect_timeout" doc:"How long connecting and logging in may take; machines of one network answer at once." min:"1ms" max:"10m"`
	CommandTimeout Duration `toml:"command_timeout" doc:"How long one command on a webserver may take." min:"1ms" max:"1h"`
}

// HTTPS is how webservers are asked for the website.
type HTTPS struct {
	Port int `toml:"port" doc:"The HTTPS port of the webservers; left out, 443, or local.https_port for local servers." min:"1" max:"65535" example:"443"`
}

// Build is a webserver's way from a name to the public.
type Build struct {
	Preset            string     `toml:"preset" doc:"The phases and commands of a build: those of the original's webserver scripts, or of a plain webserver that has no such scripts; the keys below go before it." oneof:"original plain"`
	ReadyMarker       string     `toml:"ready_marker" doc:"The file on a webserver, relative to the user's home, that says the machine is built." form:"remote"`
	LanguageMarker    string     `toml:"language_marker" doc:"The file on a webserver that says the application's language is installed; empty is not waited for." form:"remote" optional:"true"`
	ConfigureCommand  string     `toml:"configure_command" doc:"Run on a webserver until configured_marker exists; empty leaves this phase out." form:"command" optional:"true"`
	ConfigureTimeout  Duration   `toml:"configure_timeout" doc:"How long configure_command may take in one run of scale, if that lasts so long; it is repeated until configured_marker exists." min:"1ms" max:"1h"`
	ConfiguredMarker  string     `toml:"configured_marker" doc:"The file on a webserver that says the application is configured." form:"remote"`
	RestartCommand    string     `toml:"restart_command" doc:"Restarts the web server between two tries to get the website from it; empty restarts nothing." form:"command" optional:"true"`
	ApplicationConfig string     `toml:"application_config" doc:"The application's configuration file on a webserver, without which it is not published; empty is not checked." form:"remote" optional:"true"`
	Deadline          Duration   `toml:"deadline" doc:"How long a whole build may take; then its server is destroyed (the original's limit of a stalled build)." min:"1ms" max:"1d"`
	Poll              Duration   `toml:"poll" doc:"How long to wait between two looks at a build (the original's pause)." min:"1ms" max:"1h"`
	Settle            Duration   `toml:"settle" doc:"How long after a create of unknown outcome the listing has to show the server before the create is repeated." min:"1ms" max:"1h"`
	Backoff           []Duration `toml:"backoff" doc:"How long to wait after the first, second, … failed build in a row; the last one counts for all further." min:"0s" max:"7d"`
	MaxFailures       int        `toml:"max_failures" doc:"After so many failed builds in a row building stops, until adt resume." min:"1" max:"100"`
	Phase             Phase      `toml:"phase" doc:"How long a build may stay in one phase."`
}

// Phase holds how long a build may stay in each phase after its creation.
type Phase struct {
	Created    Duration `toml:"created" doc:"From the name until the provider has made the server." min:"1ms" max:"1d"`
	Addressed  Duration `toml:"addressed" doc:"Until the server has its addresses; some vendors are slow at busy times." min:"1ms" max:"1d"`
	Ready      Duration `toml:"ready" doc:"Until ready_marker and language_marker exist; installing takes most of a build." min:"1ms" max:"1d"`
	Configured Duration `toml:"configured" doc:"Until configured_marker exists." min:"1ms" max:"1d"`
	Serving    Duration `toml:"serving" doc:"Until the website is served." min:"1ms" max:"1d"`
}

// Scale is one run of adt scale.
type Scale struct {
	Budget               Duration `toml:"budget" doc:"How long one run stays with its builds; below a minute, as cron starts the next one then." min:"1ms" max:"1h"`
	Drain                Duration `toml:"drain" doc:"How long a webserver goes on serving after it left DNS; 0s means website.ttl and 30 seconds more." min:"0s" max:"1d"`
	ShutdownCommand      string   `toml:"shutdown_command" doc:"Run on a webserver before it is destroyed; empty runs nothing." form:"command" optional:"true"`
	MissingAfter         Duration `toml:"missing_after" doc:"A known server absent from the listings for less than this makes the listing implausible." min:"1ms" max:"1d"`
	MaxConcurrentCreates int      `toml:"max_concurrent_creates" doc:"How many servers are ordered at once; vendors limit the rate of creates." min:"1" max:"20"`
}

// HealthCheck is when a webserver is taken to be sick, and the brakes.
type HealthCheck struct {
	Deadline         Duration `toml:"deadline" doc:"How long all probes of one webserver together may take." min:"1ms" max:"10m"`
	Strikes          int      `toml:"strikes" doc:"At so many failed checks in a row a webserver is terminated; the first one takes it out of DNS." min:"1" max:"10"`
	Grace            Duration `toml:"grace" doc:"A webserver younger than this is never terminated for its health." min:"0s" max:"1d"`
	StalledAfter     Duration `toml:"stalled_after" doc:"A webserver older than this that never was online, or is still being built, counts as failed." min:"1ms" max:"7d"`
	SelfCheckPercent int      `toml:"self_check_percent" doc:"When more than this share of the probed fails in one run, the fault is taken to be ours and nothing is done." min:"1" max:"100"`
	SelfCheckMin     int      `toml:"self_check_min" doc:"But only when at least so many fail: of two webservers one may well be sick." min:"1" max:"100"`
	BudgetPercent    int      `toml:"budget_percent" doc:"The share of the own webservers that one run may terminate for their health; one always may be." min:"0" max:"100"`
	MinPublished     int      `toml:"min_published" doc:"So many webservers stay in DNS even if they are sick." min:"0" max:"100"`
	OnlineMarkers    []string `toml:"online_markers" doc:"Files on a webserver of which any one says that it is online." form:"remote"`
	AcceptStatus     []int    `toml:"accept_status" doc:"HTTP status codes that count as serving." min:"100" max:"599"`
}

// Reboot is what follows a cycle.
type Reboot struct {
	Command    []string `toml:"command" doc:"The program and its arguments that reboot this machine; left out, shutdown -r now, or none for local servers; [] only writes an event." form:"argument" optional:"true" example:"[\"/usr/sbin/shutdown\", \"-r\", \"now\"]"`
	CycleLimit Duration `toml:"cycle_limit" doc:"A cycle older than this is given up; longer than build.deadline, so that no healthy build is cut off." min:"1ms" max:"2d"`
}

// defaults returns the configuration of an empty file. What depends on other
// values is left zero, for derive.
func defaults() Config {
	const second, minute = Duration(time.Second), Duration(time.Minute)
	return Config{
		Autoscaler: Autoscaler{Count: 1, User: "agile", MaxWebservers: 10, Production: true},
		Website:    Website{HeadFile: "index.html", Application: "none", TTL: 60 * second},
		Provider:   Provider{Servers: "local"},
		Local: Local{
			Path: "~/cloud", SSHPort: 2222, HTTPSPort: 8443,
			Boot: 2 * second, Build: 3 * second,
		},
		DigitalOcean: DigitalOcean{Size: "s-1vcpu-2gb", Image: "debian-13-x64", QuotaReserve: 500, APIURL: "https://api.digitalocean.com/"},
		Cloudflare:   Cloudflare{Proxied: true, APIURL: "https://api.cloudflare.com/client/v4"},
		CloudInit: CloudInit{
			Template: "minimal", Packages: []string{}, Run: []string{}, TimeZone: "Etc/UTC",
			Settings:   []string{"runtime/webserver_configuration_settings.dat", "runtime/buildstyles.dat"},
			Repository: "https://github.com/wintersys-projects/adt-webserver-scripts.git",
		},
		Datastore: Datastore{
			Driver: "file", Path: "~/datastore", Transport: "store", Addresses: []string{}, KnownHosts: "~/.ssh/known_hosts", Endpoints: []string{}, Style: "auto",
			Timeout: 10 * second, StaleAfter: 60 * minute, Takeover: true, Lease: 10 * minute,
		},
		Database: Database{Driver: "none", Addresses: "private", Ranges: []string{}, Recheck: 10 * minute},
		SSH:      SSH{NewHostKeys: "own", ConnectTimeout: 5 * second, CommandTimeout: 20 * second},
		Build: Build{
			Preset:           "original",
			ReadyMarker:      "runtime/WEBSERVER_READY",
			LanguageMarker:   originalLanguage,
			ConfigureCommand: originalConfigure,
			ConfigureTimeout: 40 * second,
			ConfiguredMarker: "runtime/INITIAL_CONFIG_SET",
			RestartCommand:   originalRestart,
			Deadline:         30 * minute,
			Poll:             5 * second,
			Settle:           60 * second,
			Backoff:          []Duration{5 * minute, 10 * minute, 20 * minute, 30 * minute},
			MaxFailures:      5,
			Phase: Phase{
				Created: 5 * minute, Addressed: 15 * minute, Ready: 10 * minute,
				Configured: 15 * minute, Serving: 5 * minute,
			},
		},
		Scale: Scale{
			Budget:               50 * second,
			ShutdownCommand:      originalShutdown,
			MissingAfter:         3 * minute,
			MaxConcurrentCreates: 10,
		},
		HealthCheck: HealthCheck{
			Deadline: 20 * second, Strikes: 2, Grace: 10 * minute, StalledAfter: 30 * minute,
			SelfCheckPercent: 45, SelfCheckMin: 3, BudgetPercent: 10, MinPublished: 1,
			OnlineMarkers: []string{"runtime/AUTOSCALED_WEBSERVER_ONLINE", "runtime/INITIAL_BUILD_WEBSERVER_ONLINE"},
			AcceptStatus:  []int{200, 301, 302, 303},
		},
		Proxies:      defaultProxies(),
		Reboot:       Reboot{CycleLimit: 35 * minute},
		Heartbeat:    Heartbeat{Style: "path", Timeout: 5 * second},
		Cron:         Cron{User: "root"},
		Notify:       notifyDefaults(),
		PostMortem:   PostMortem{Deadline: 20 * second, MaxKiB: 256},
		Housekeeping: housekeepingDefaults(),
		Monitor:      monitorDefaults(),
		Firewall:     defaultFirewall(),
		AuditSSH:     AuditSSH{Known: []string{}},
	}
}

// RuntimeDir is where the state files are, laid out as in the original.
func (c *Config) RuntimeDir() string { return filepath.Join(c.Home, "runtime") }

// LogDir is where events and logs are, laid out as in the original.
func (c *Config) LogDir() string { return filepath.Join(c.Home, "logs") }

// Zone is the DNS zone: the website's URL without its first label, as the
// original has it.
func (c *Config) Zone() string {
	_, zone, _ := strings.Cut(c.Website.URL, ".")
	return zone
}

// Shared reports whether autoscalers hold leases: there are several, and they
// have one store.
func (c *Config) Shared() bool {
	return c.Autoscaler.Count > 1 && c.Datastore.Takeover && c.Datastore.Transport == "store"
}

// ScalingBucket names the bucket of the scaling profiles, as in the original.
func (c *Config) ScalingBucket() string {
	return dashes(c.Website.URL) + "-scaling-" + c.Provider.Servers + "-" + c.Autoscaler.Region
}

// ConfigBucket names the bucket of the config datastore, as in the original.
func (c *Config) ConfigBucket() string {
	user := c.Autoscaler.User
	return dashes(c.Website.URL) + "-config-" + dashes(strings.ToLower(user[:min(4, len(user))]))
}

func dashes(name string) string { return strings.ReplaceAll(name, ".", "-") }
