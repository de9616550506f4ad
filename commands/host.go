package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
	"golang.org/x/crypto/ssh"

	"adt/autoscaler"
	"adt/cloudinit"
	"adt/config"
	"adt/events"
	"adt/healthcheck"
	"adt/lock"
	"adt/provider"
	"adt/proxy"
	"adt/remote"
	"adt/rundir"
)

// host is the machine that a command runs on.
type host struct {
	env Env
	cfg *config.Config // what a command has loaded; nil before
	run *run           // where the command is a tick
}

// load reads the configuration that the flags name.
func (h *host) load(c *cli.Context) (*config.Config, error) {
	path, err := config.Find(c.String("config"), h.env.Getenv)
	if err != nil {
		return nil, usageError{err}
	}
	h.cfg, err = h.loadFile(path)
	return h.cfg, err
}

func (h *host) loadFile(path string) (*config.Config, error) {
	cfg, err := config.Load(path, config.Env{Getenv: h.env.Getenv, Hostname: h.env.Hostname})
	if err != nil {
		return nil, usageError{err}
	}
	if _, err := scheduleOf(cfg); err != nil {
		return nil, err
	}
	return cfg, nil
}

// site is an installation, opened: its configuration and the autoscaler at
// work on it.
type site struct {
	*autoscaler.Autoscaler
	cfg    *config.Config
	log    *events.Log
	offset time.Duration // wall clock minus steady time
	guest  func(shard int) (*site, error)
	run    *run // where the command is a tick

	highest int // number of an autoscaler whose machine the provider has shown; 0 is none
}

// open puts an autoscaler together from the configuration, for a command that
// only an autoscaler can run.
func (h *host) open(c *cli.Context) (*site, error) {
	s, err := h.openAnywhere(c)
	if err == nil && s.Shard == 0 {
		return nil, usagef("adt %s runs on an autoscaler, and this is the build machine (autoscaler.number = 0 in %s)", c.Command.Name, s.cfg.Path)
	}
	return s, err
}

// openAnywhere is open for commands of the build machine too.
func (h *host) openAnywhere(c *cli.Context) (*site, error) {
	cfg, err := h.load(c)
	if err != nil {
		return nil, err
	}
	return h.openSite(c, cfg)
}

// openSite puts an autoscaler together. The command's name goes into the events.
func (h *host) openSite(c *cli.Context, cfg *config.Config) (*site, error) {
	log, err := events.Open(eventsFolder(cfg))
	if err != nil {
		return nil, err
	}
	s := &site{cfg: cfg, log: log}
	record := h.counted(s.recorder(h.logger(cfg), terminal(h.env.Stderr), c.Command.Name))
	dir, err := rundir.Open(cfg.RuntimeDir(), h.env.Step, func(name, aside string, cause error) {
		record(events.RecordCorrupt, "", fmt.Sprintf("%s was set aside as %s: %v", name, aside, cause))
	})
	if err != nil {
		return nil, err
	}
	instant, err := h.env.Clocks()
	if err != nil {
		return nil, err
	}
	offset, jumped, err := dir.Steady(instant)
	if err != nil {
		return nil, err
	}
	s.offset = offset
	if jumped != 0 {
		record(events.ClockJumped, "", fmt.Sprintf("the wall clock was set by %s; ages are reckoned without that", jumped.Round(time.Second)))
	}
	a, err := h.assemble(cfg, cfg.RuntimeDir(), record)
	if err != nil {
		return nil, err
	}
	steady, began := instant.Wall.Add(-offset), time.Now()
	// Not the wall clock: it may be set while we run.
	a.Now = func() time.Time { return steady.Add(time.Since(began)).Round(0) }
	a.Dir, a.Record, a.BootID, a.IntN = dir, record, instant.BootID, rand.IntN
	if cfg.Datastore.Driver == "s3" { // where the shell toolkit reads them
		a.Addresses = h.env.Addresses
	}
	s.Autoscaler = a
	s.run = h.run
	s.run.opened(c.Context, s)
	s.guest = func(shard int) (*site, error) {
		other := *cfg
		other.Autoscaler.Number = shard
		g := &site{cfg: &other, log: log, offset: offset}
		record := h.counted(g.recorder(h.logger(cfg), terminal(h.env.Stderr), c.Command.Name))
		folder := filepath.Join(cfg.RuntimeDir(), autoscaler.GuestFolder(shard))
		dir, err := rundir.Open(folder, h.env.Step, func(name, aside string, cause error) {
			record(events.RecordCorrupt, "", fmt.Sprintf("%s was set aside as %s: %v", name, aside, cause))
		})
		if err != nil {
			return nil, err
		}
		if g.Autoscaler, err = h.assemble(&other, folder, record); err != nil {
			return nil, err
		}
		g.Now, g.Dir, g.Home, g.Record, g.BootID, g.IntN = a.Now, dir, a.Dir, record, instant.BootID, rand.IntN
		return g, nil
	}
	return s, nil
}

// onShards runs one command on the own shard, and at the same time on those of
// autoscalers that have died. What is returned of run is that of the own shard;
// where that is somebody else's for now, the error is an *autoscaler.HeldError.
func onShards[R any](ctx context.Context, s *site, run func(context.Context, *site) (R, error)) (R, error) {
	var report R
	kept, held := s.Keep(ctx)
	s.run.kept(kept)
	var own error
	var wg sync.WaitGroup
	errs := make([]error, len(kept))
	for i, shard := range kept {
		wg.Go(func() {
			g := s
			if shard != s.Shard {
				if g, errs[i] = s.guest(shard); errs[i] != nil {
					return
				}
			}
			if errs[i] = g.Prepare(s.Autoscaler); errs[i] != nil {
				return
			}
			if shard == s.Shard {
				report, own = run(ctx, g)
				return
			}
			if _, err := run(ctx, g); err != nil && !errors.Is(err, lock.ErrHeld) {
				errs[i] = fmt.Errorf("for autoscaler %d: %w", shard, err)
			}
		})
	}
	wg.Wait()
	return report, errors.Join(errors.Join(errs...), own, held)
}

// assemble picks the drivers and turns the configuration into settings; record
// takes what the drivers find worth an event. runtime is the folder of the
// records.
func (h *host) assemble(cfg *config.Config, runtime string, record func(events.Reason, string, string)) (*autoscaler.Autoscaler, error) {
	signer, err := remote.LoadKey(cfg.SSH.Key)
	if err != nil {
		return nil, usageError{fmt.Errorf("ssh.key: %w", err)}
	}
	servers, dns, err := drivers(cfg, func(text string) { record(events.ProviderNote, "", text) })
	if err != nil {
		return nil, err
	}
	list, err := openAllowList(cfg, servers)
	if err != nil {
		return nil, err
	}
	store, err := openStore(cfg, func(err error) { record(events.CopyBehind, "", err.Error()) })
	if err != nil {
		return nil, err
	}
	dialer := &remote.Dialer{
		User: cfg.Autoscaler.User, Port: cfg.SSH.Port, Signer: signer,
		KnownHosts:     filepath.Join(runtime, "known_hosts"),
		ConnectTimeout: cfg.SSH.ConnectTimeout.Std(), CommandTimeout: cfg.SSH.CommandTimeout.Std(),
	}
	if cfg.SSH.SharedHostKey {
		dialer.SharedHostKey = signer.PublicKey()
	}
	dialer.DialContext = h.env.Dial
	if d, ok := servers.(dials); ok {
		dialer.DialContext = d.DialContext
	}
	authorized := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	render := sync.OnceValues(func() (renderer, error) { return userData(cfg, authorized) })
	a := &autoscaler.Autoscaler{
		Proxies:  h.proxies(cfg, dialer),
		Settings: h.settings(cfg),
		Servers:  stepServers{servers, h.step, h.run.called},
		DNS:      stepDNS{dns, h.step, h.run.called},
		Profiles: autoscaler.Profiles{Store: store, Bucket: cfg.ScalingBucket()},
		SSH:      dialer,
		Scarce:   scarcity(cfg, servers),
		Prober: &healthcheck.Prober{
			SSH: dialer, HTTPSPort: cfg.HTTPS.Port, Host: cfg.Website.URL, HeadPath: cfg.Website.HeadFile,
			AcceptStatus: cfg.HealthCheck.AcceptStatus, OnlineMarkers: cfg.HealthCheck.OnlineMarkers,
			ApplicationConfig: cfg.Build.ApplicationConfig, Deadline: cfg.HealthCheck.Deadline.Std(),
			DialContext: dialer.DialContext,
		},
		HostKey:    hostKeys(cfg, signer),
		PostMortem: h.postMortems(cfg),
		UserData: func(name, pem string, public ssh.PublicKey) ([]byte, error) {
			render, err := render() // not before a server is made: nothing else depends on it
			if err != nil {
				return nil, err
			}
			return render(name, pem, public)
		},
	}
	if list != nil {
		a.AllowList = stepAllowList{list, h.step}
		a.Machines = databases(servers, a.Fleet)
	}
	return a, nil
}

// databases looks for the machines of the fleet that are databases, where the
// vendor can.
func databases(servers provider.Servers, fleet autoscaler.Fleet) func(context.Context) ([]provider.Server, error) {
	finder, ok := servers.(provider.Finder)
	if !ok {
		return nil
	}
	return func(ctx context.Context) ([]provider.Server, error) { return finder.Find(ctx, fleet.DatabaseName) }
}

// proxies are the reverse proxies, logged in to as webservers are; their host keys
// are this machine's to know, also where it keeps another autoscaler's webservers.
func (h *host) proxies(cfg *config.Config, webservers *remote.Dialer) *autoscaler.Proxies {
	c := cfg.Proxies
	if !c.Enabled {
		return nil
	}
	dialer := &remote.Dialer{
		User: webservers.User, Port: webservers.Port, Signer: webservers.Signer, SharedHostKey: webservers.SharedHostKey,
		KnownHosts:     filepath.Join(cfg.RuntimeDir(), "known_hosts"),
		ConnectTimeout: webservers.ConnectTimeout, CommandTimeout: webservers.CommandTimeout, DialContext: webservers.DialContext,
	}
	x := &autoscaler.Proxies{
		Settings: proxy.Settings{
			Kind: proxy.Kind(c.Kind), Upstream: c.Upstream, File: c.File, Port: cfg.HTTPS.Port, Options: c.ServerOptions,
			TestCommand: c.TestCommand, ReloadCommand: c.ReloadCommand, AddCommand: c.AddCommand, RemoveCommand: c.RemoveCommand,
			RootCommand: c.RootCommand,
		},
		SSH: dialer,
		Prober: &healthcheck.Prober{
			SSH: dialer, HTTPSPort: cfg.HTTPS.Port, Host: cfg.Website.URL, HeadPath: c.Path, AcceptStatus: c.AcceptStatus,
			Deadline: cfg.HealthCheck.Deadline.Std(), DialContext: dialer.DialContext,
		},
		Count: c.Count, Strikes: c.Strikes, MinPublished: c.MinPublished,
		Recheck: c.Recheck.Std(), RemovalDeadline: c.RemovalDeadline.Std(), Step: h.step,
	}
	for _, pair := range c.ProxyAddresses() {
		x.Fixed = append(x.Fixed, autoscaler.Proxy{Name: pair[0].String(), PublicIP: pair[0], PrivateIP: pair[1]})
	}
	return x
}

// hostKeys makes the SSH host keys of new webservers.
func hostKeys(cfg *config.Config, buildKey ssh.Signer) func(seed []byte, name string) (string, ssh.PublicKey, error) {
	if cfg.SSH.NewHostKeys == "own" {
		return cloudinit.NewHostKey
	}
	return func([]byte, string) (string, ssh.PublicKey, error) {
		if kind := buildKey.PublicKey().Type(); kind != ssh.KeyAlgoED25519 {
			return "", nil, fmt.Errorf("ssh.new_host_keys: the build key is of the kind %s, must be %s", kind, ssh.KeyAlgoED25519)
		}
		pem, err := os.ReadFile(cfg.SSH.Key)
		return string(pem), buildKey.PublicKey(), err
	}
}

// dials is a vendor whose machines are reached in a way of its own.
type dials interface {
	DialContext(context.Context, string, string) (conn, error)
}

// settings turns what the operator wrote into what the domain wants.
func (h *host) settings(cfg *config.Config) autoscaler.Settings {
	plan, _ := scheduleOf(cfg) // it was checked when it was loaded
	lease := time.Duration(0)
	if cfg.Shared() {
		lease = cfg.Datastore.Lease.Std()
	}
	drain := cfg.Scale.Drain.Std()
	if drain == 0 {
		drain = cfg.Website.TTL.Std() + 30*time.Second
	}
	backoff := make([]time.Duration, len(cfg.Build.Backoff))
	for i, d := range cfg.Build.Backoff {
		backoff[i] = d.Std()
	}
	check := cfg.HealthCheck
	return autoscaler.Settings{
		Rules: autoscaler.Rules{
			Fleet: fleetOf(cfg),
			Shard: cfg.Autoscaler.Number, Max: cfg.Autoscaler.MaxWebservers, CountInitial: cfg.Autoscaler.CountInitial,
		},
		ConfigBucket: cfg.ConfigBucket(), HostName: cfg.Website.URL, TTL: cfg.Website.TTL.Std(),
		SSHPort: cfg.SSH.Port, SudoPassword: cfg.SSH.SudoPassword.Reveal(),
		ReadyMarker: cfg.Build.ReadyMarker, LanguageMarker: cfg.Build.LanguageMarker,
		ConfigureCommand: cfg.Build.ConfigureCommand, ConfigureTimeout: cfg.Build.ConfigureTimeout.Std(), ConfiguredMarker: cfg.Build.ConfiguredMarker,
		RestartCommand: cfg.Build.RestartCommand, ShutdownCommand: cfg.Scale.ShutdownCommand,
		BuildDeadline: cfg.Build.Deadline.Std(),
		PhaseDeadline: map[autoscaler.Phase]time.Duration{
			autoscaler.Named:      cfg.Build.Phase.Created.Std(),
			autoscaler.Created:    cfg.Build.Phase.Addressed.Std(),
			autoscaler.Addressed:  cfg.Build.Phase.Ready.Std(),
			autoscaler.Ready:      cfg.Build.Phase.Configured.Std(),
			autoscaler.Configured: cfg.Build.Phase.Serving.Std(),
		},
		Poll: cfg.Build.Poll.Std(), Settle: cfg.Build.Settle.Std(), Backoff: backoff, MaxFailures: cfg.Build.MaxFailures,
		Creates: cfg.Scale.MaxConcurrentCreates, Budget: cfg.Scale.Budget.Std(), Drain: drain, MissingAfter: cfg.Scale.MissingAfter.Std(),
		Limits: healthcheck.Limits{
			Strikes: check.Strikes, Grace: check.Grace.Std(), StalledAfter: check.StalledAfter.Std(),
			SelfCheckPercent: check.SelfCheckPercent, SelfCheckMin: check.SelfCheckMin,
			BudgetPercent: check.BudgetPercent, MinPublished: check.MinPublished,
		},
		Schedule: plan, Autoscalers: cfg.Autoscaler.Count,
		Lease: lease, Holder: h.holder(), StaleAfter: cfg.Datastore.StaleAfter.Std(), RequireInstalled: cfg.Datastore.RequireInstalled,
		Database:      databaseOf(cfg),
		RebootCommand: cfg.Reboot.Command, CycleLimit: cfg.Reboot.CycleLimit.Std(),
	}
}

func databaseOf(cfg *config.Config) autoscaler.Database {
	d := cfg.Database
	out := autoscaler.Database{
		Private: d.Addresses != "public", Public: d.Addresses != "private",
		Ranges: d.Prefixes(), Recheck: d.Recheck.Std(), Adopt: d.Adopt,
	}
	if d.MultiRegion {
		out.Regions = cfg.RegionsBucket()
	}
	return out
}

// holder is this machine in leases: two that were given one number by mistake
// must not take each other for themselves.
func (h *host) holder() string { return h.env.Hostname + ":" + h.env.Getenv("HOME") }

func fleetOf(cfg *config.Config) autoscaler.Fleet {
	return autoscaler.Fleet{Region: cfg.Autoscaler.Region, Build: cfg.Autoscaler.Build, User4: autoscaler.User4(cfg.Autoscaler.User)}
}

// logger writes for people on a terminal, and JSON otherwise. Under cron only
// what somebody should know reaches stderr, since cron mails it.
func (h *host) logger(*config.Config) zerolog.Logger {
	if terminal(h.env.Stderr) {
		out := zerolog.ConsoleWriter{Out: h.env.Stderr, TimeFormat: time.TimeOnly, NoColor: h.env.Getenv("NO_COLOR") != ""}
		return zerolog.New(out).With().Timestamp().Logger()
	}
	return zerolog.New(h.env.Stderr).Level(zerolog.WarnLevel).With().Timestamp().Logger()
}

// quiet is for how long a matter that was said is not said again on stderr
// while nobody watches. It is recorded every time.
const quiet = time.Hour

// recorder writes events to the log of decisions and shows them on stderr. It
// is safe for concurrent use.
func (s *site) recorder(log zerolog.Logger, watched bool, command string) func(events.Reason, string, string) {
	var mu sync.Mutex
	var said map[events.Matter]bool // read at the first event that may be said
	levels := map[events.Level]zerolog.Level{events.Info: zerolog.InfoLevel, events.Warn: zerolog.WarnLevel, events.Error: zerolog.ErrorLevel}
	return func(reason events.Reason, server, text string) {
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		e := events.Event{Time: now, Level: events.LevelOf(reason), Reason: reason,
			Autoscaler: s.cfg.Autoscaler.Number, Command: command, Server: server, Text: text}
		// A tick tells a watcher all it does, and cron what is wrong; other
		// commands print their result.
		tick := slices.Contains(crons(), command)
		show := watched && tick
		if !show && (tick && e.Level == events.Warn || e.Level == events.Error) {
			if said == nil {
				said = s.log.Told(now.Add(-quiet), now)
			}
			matter := events.Matter{Reason: reason, Server: server}
			show, said[matter] = !said[matter], true
		}
		e.Told = show
		if err := s.log.Add(e); err != nil {
			log.Error().Err(err).Str("reason", string(reason)).Msg(text)
			return
		}
		if !show {
			return
		}
		entry := log.WithLevel(levels[e.Level]).Str("reason", string(reason))
		if server != "" {
			entry = entry.Str("server", server)
		}
		entry.Msg(text)
	}
}

func (h *host) step(name string) {
	if h.env.Step != nil {
		h.env.Step(name)
	}
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("printing the result: %w", err)
	}
	return nil
}

func eventsFolder(cfg *config.Config) string { return filepath.Join(cfg.LogDir(), "events") }
