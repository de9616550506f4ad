package autoscaler

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"adt/datastore"
	"adt/events"
	"adt/healthcheck"
	"adt/lock"
	"adt/postmortem"
	"adt/provider"
	"adt/remote"
	"adt/rundir"
	"adt/schedule"
)

// Settings are the operator's numbers and texts. Durations of 0 mean at once.
type Settings struct {
	Rules
	ConfigBucket string // of the datastore
	HostName     string // the A record's name
	TTL          time.Duration

	SSHPort          int
	AuthorizedKey    string // of the build key, for new webservers
	User             string
	SudoPassword     string // on standard input of commands; "" is none
	LanguageMarker   string
	ReadyMarker      string
	ConfigureCommand string // "" leaves the phase out
	ConfigureTimeout time.Duration
	ConfiguredMarker string
	RestartCommand   string
	ShutdownCommand  string // "" is none

	BuildDeadline time.Duration
	PhaseDeadline map[Phase]time.Duration // how long a build may stay in that phase
	Poll          time.Duration
	Settle        time.Duration // how long the listing may lag behind a create
	Backoff       []time.Duration
	MaxFailures   int
	Creates       int // how many create calls at once
	Budget        time.Duration
	Drain         time.Duration
	MissingAfter  time.Duration

	Limits healthcheck.Limits // the configured part

	Schedule    *schedule.Schedule // nil is none
	Autoscalers int                // how many share the fleet

	Lease            time.Duration // for how long a shard is held without a renewal; 0: nobody shares
	Holder           string        // what this machine calls itself in leases
	StaleAfter       time.Duration // for how long the last known profile holds while the store is silent
	RequireInstalled bool          // nothing is done before INSTALLED_SUCCESSFULLY is in the datastore

	Database Database

	RebootCommand []string // empty only writes an event
	CycleLimit    time.Duration
}

// Autoscaler is one autoscaler at work: its settings and what it works with.
type Autoscaler struct {
	Settings
	Servers  provider.Servers
	DNS      provider.DNS
	Profiles Profiles
	Dir      *rundir.Dir
	// Home is the runtime directory of this machine's own autoscaler, where the
	// shard is one that was taken over; nil is Dir.
	Home   *rundir.Dir
	SSH    *remote.Dialer
	Prober *healthcheck.Prober
	// Proxies are in front of the webservers; nil: DNS holds the webservers.
	Proxies *Proxies
	// UserData renders what a new webserver is given at its first boot.
	UserData func(name, hostKeyPEM string, hostKey ssh.PublicKey) ([]byte, error)
	// HostKey makes a server's SSH host key: the same for the same seed and name.
	HostKey func(seed []byte, name string) (pem string, public ssh.PublicKey, err error)
	// Scarce says why the provider shall be asked only for what heals, such as an
	// account's quota that is nearly spent; "" or nil is no such reason.
	Scarce func() string
	// PostMortem keeps what is learnt of a failed build's or sick webserver before
	// it is destroyed; nil keeps nothing.
	PostMortem *postmortem.Archive
	// Record takes the events.
	Record func(reason events.Reason, server, text string)
	// Addresses are this machine's own, to be published in the store; nil publishes
	// none.
	Addresses func() ([]netip.Addr, error)
	// AllowList is that of the managed database; nil is none.
	AllowList provider.AllowList
	// Machines looks for the fleet's machines with databases; nil looks for none.
	Machines func(context.Context) ([]provider.Server, error)
	Now      func() time.Time // steady time
	IntN     func(int) int    // random numbers, for names
	BootID   string

	listed  atomic.Pointer[[]Proxy] // the proxies of the last listing
	preview *Inventory              // of a dry run: the inventory as it would be written; nil otherwise
	hold    atomic.Pointer[string]  // why the datastore lets nothing be done in this run; nil is no such reason
	silent  atomic.Bool             // the datastore did not answer in this run
	board   *board                  // what Keep read; nil is to be read
	fence   *fence                  // nil where nobody shares

	admission admission
}

func (a *Autoscaler) event(reason events.Reason, server, format string, args ...any) {
	a.Record(reason, server, fmt.Sprintf(format, args...))
}

// storeFault records that the datastore did not do what it was asked. Each kind of
// fault wants something else done, and is told by itself.
func (a *Autoscaler) storeFault(err error) {
	reason := events.StoreFailed
	switch {
	case errors.Is(err, datastore.ErrNoBucket):
		reason = events.StoreNoBucket
	case errors.Is(err, datastore.ErrUnauthorized):
		reason = events.StoreRefused
	case errors.Is(err, datastore.ErrClock):
		reason = events.StoreClock
	}
	a.event(reason, "", "%v", err)
}

// own reports whether a name is of this autoscaler's shard.
func (a *Autoscaler) own(name string) bool {
	n, ok := a.Fleet.Parse(name)
	return ok && n.Shard == a.Shard
}

// home is where pauses and protections are: one place for a machine.
func (a *Autoscaler) home() *rundir.Dir {
	if a.Home != nil {
		return a.Home
	}
	return a.Dir
}

// lock takes one of the two command locks.
func (a *Autoscaler) lock(name string) (func(), error) { return lock.Try(a.Dir.Path(name), time.Now()) }

// change runs do while no other process changes what several commands write.
func (a *Autoscaler) change(ctx context.Context, do func() error) error {
	release, err := lock.Wait(ctx, a.home().Path(stateLock))
	if err != nil {
		return err
	}
	defer release()
	return do()
}

// Builds returns the records of all builds.
func (a *Autoscaler) Builds() ([]Build, error) {
	names, err := a.Dir.Names("", buildPrefix)
	if err != nil {
		return nil, err
	}
	var out []Build
	for _, name := range names {
		n, err := strconv.Atoi(strings.TrimPrefix(name, buildPrefix))
		if err != nil {
			continue // not a name that adt or the shell toolkit gives
		}
		var b Build
		found, err := a.Dir.Read(name, &b)
		if err != nil {
			return nil, err
		}
		if found {
			b.N = n
			out = append(out, b)
		}
	}
	return out, nil
}

func buildFile(n int) string { return buildPrefix + strconv.Itoa(n) }

// Terminations returns the records of all terminations.
func (a *Autoscaler) Terminations() ([]Termination, error) {
	names, err := a.Dir.Names(endsFolder, "")
	if err != nil {
		return nil, err
	}
	var out []Termination
	for _, name := range names {
		var t Termination
		found, err := a.Dir.Read(endsFolder+"/"+name, &t)
		if err != nil {
			return nil, err
		}
		if found {
			out = append(out, t)
		}
	}
	return out, nil
}

func endFile(id string) string { return endsFolder + "/" + id }

// termination returns the record of one server's termination, if there is one.
func (a *Autoscaler) termination(id string) (Termination, bool, error) {
	var t Termination
	found, err := a.Dir.Read(endFile(id), &t)
	return t, found, err
}

// cycle returns the running cycle; nil is none.
func (a *Autoscaler) cycle() (*Cycle, error) {
	var c Cycle
	found, err := a.Dir.Read(cycleFile, &c)
	if err != nil || !found {
		return nil, err
	}
	return &c, nil
}

// Inventory returns what is remembered of the own servers, and whether
// anything ever was.
func (a *Autoscaler) Inventory() (Inventory, bool, error) {
	if a.preview != nil && a.preview.Version != 0 {
		return *a.preview, true, nil
	}
	inv := Inventory{}
	found, err := a.Dir.Read(serversFile, &inv)
	if !found {
		inv = Inventory{Version: rundir.Version}
	}
	if inv.Servers == nil {
		inv.Servers = map[string]Known{}
	}
	if inv.Gone == nil {
		inv.Gone = map[string]time.Time{}
	}
	if inv.Unlisted == nil {
		inv.Unlisted = map[netip.Addr]time.Time{}
	}
	return inv, found, err
}

// remember changes the inventory; change reports whether it did.
func (a *Autoscaler) remember(ctx context.Context, change func(*Inventory) bool) error {
	return a.change(ctx, func() error {
		inv, _, err := a.Inventory()
		if err != nil || !change(&inv) {
			return err
		}
		if a.preview != nil {
			*a.preview = inv
			return nil
		}
		return a.Dir.Write(serversFile, inv)
	})
}

// seed is what all SSH host keys of new webservers are derived from. With it a
// build that was killed between pinning the key and creating the server
// repeats with the same key, and no private host key is ever stored.
func (a *Autoscaler) seed() ([]byte, error) {
	var rec struct {
		Version int    `json:"version"`
		Seed    []byte `json:"seed"`
	}
	for {
		found, err := a.Dir.Read(hostKeySeed, &rec)
		if err != nil {
			return nil, err
		}
		if found && len(rec.Seed) >= 32 {
			return rec.Seed, nil
		}
		if found {
			return nil, fmt.Errorf("%s holds no usable seed: move it away, adt makes a new one", a.Dir.Path(hostKeySeed))
		}
		rec.Version, rec.Seed = rundir.Version, make([]byte, 32)
		_, _ = rand.Read(rec.Seed) // never fails
		if err := a.Dir.Create(hostKeySeed, rec); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
}

// Objects of the config bucket that hold everything back.
const (
	switchKey    = "SWITCH_OFF_SCALING"
	installedKey = "INSTALLED_SUCCESSFULLY"
)

// forbidden says why the datastore lets nothing be scaled or terminated: the
// switch is there, or the mark of a finished installation is not; "" is neither.
func (a *Autoscaler) forbidden(ctx context.Context) (string, error) {
	off, err := a.inConfig(ctx, switchKey)
	if err != nil {
		return "", err
	}
	if off {
		return switchKey + " is in the datastore", nil
	}
	if !a.RequireInstalled {
		return "", nil
	}
	installed, err := a.inConfig(ctx, installedKey)
	if err != nil || installed {
		return "", err
	}
	return installedKey + " is not in the datastore (datastore.require_installed)", nil
}

func (a *Autoscaler) inConfig(ctx context.Context, key string) (bool, error) {
	objects, err := a.Profiles.Store.List(ctx, a.ConfigBucket, key)
	if err != nil {
		return false, fmt.Errorf("looking for %s: %w", key, err)
	}
	return slices.ContainsFunc(objects, func(o datastore.Object) bool { return o.Key == key }), nil
}

// addressKeys are the datastore's objects for a server, by the shell toolkit's
// names.
func addressKeys(public, private netip.Addr) []string {
	var keys []string
	if private.IsValid() {
		keys = append(keys, "webserverips/"+private.String(), "beingbuiltips/"+private.String(), "beenonline/"+private.String(), hostKeyKey(private))
	}
	if public.IsValid() {
		keys = append(keys, "webserverpublicips/"+public.String())
	}
	return keys
}

// storeTimeout bounds what is told the store at the end of a step, also when the
// run's own time is over: who takes over has to know it.
const storeTimeout = 10 * time.Second

// note writes address objects for other machines to read, and reports whether
// the store has them all. That it has not is an event and stops nothing: the
// health check repeats what others need (shareHealthy).
func (a *Autoscaler) note(ctx context.Context, keys ...string) bool {
	return a.each(ctx, keys, func(ctx context.Context, key string) error {
		return a.Profiles.Store.Put(ctx, a.ConfigBucket, key, nil)
	})
}

func (a *Autoscaler) forget(ctx context.Context, keys ...string) bool {
	return a.each(ctx, keys, func(ctx context.Context, key string) error {
		return a.Profiles.Store.Delete(ctx, a.ConfigBucket, key)
	})
}

// each does something to keys of the store, if the shard is ours still: of a
// machine that has the same address now, somebody else may have told the store.
func (a *Autoscaler) each(ctx context.Context, keys []string, do func(context.Context, string) error) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := a.mayAct(ctx); err != nil {
		return false
	}
	all := true
	for _, key := range keys {
		if err := do(ctx, key); err != nil {
			all = false
			a.storeFault(err)
		}
	}
	return all
}
