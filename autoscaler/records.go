package autoscaler

import (
	"net/netip"
	"time"
)

// Names in the runtime directory. Those in capitals are the shell toolkit's.
const (
	scaleLock   = "autoscalelock.file"
	healthLock  = "deadoralivelock.file"
	stateLock   = "state.lock" // held for single changes to what several commands write
	authorised  = "AUTHORISED_TO_SCALE"
	cycleFile   = "NOT_AUTHORISED_TO_SCALE"
	buildPrefix = "AUTOSCALINGMONITOR:"
	endsFolder  = "terminating"
	serversFile = "servers.json"
	pausesFile  = "paused.json"
	guardsFile  = "protected.json"
	backoffFile = "backoff.json"
	rebootFile  = "reboot.json"
	knownHosts  = "known_hosts"
	hostKeySeed = "hostkey.json"
	storeFile   = "store.json"
	selfFile    = "addresses.json"
	proxiesFile = "proxies.json"
)

// Phase is how far a build or a termination has come.
type Phase string

// Phases of a build, in their order. A build that fails for good or passes a
// deadline is condemned instead, and its record goes when its server has gone.
const (
	Named      Phase = "named"      // the name is recorded, a create may have been sent
	Created    Phase = "created"    // the provider has the server
	Addressed  Phase = "addressed"  // it has its addresses, the host key is pinned
	Ready      Phase = "ready"      // its own set-up is through
	Configured Phase = "configured" // the application is configured
	Serving    Phase = "serving"    // it answers HTTPS
	InDNS      Phase = "published"  // it is in DNS
	Condemned  Phase = "condemned"
)

// Phases of a termination, in their order.
const (
	Waiting   Phase = "waiting"   // until a replacement serves
	Decided   Phase = "decided"   // to be taken out of DNS
	Draining  Phase = "withdrawn" // out of DNS; clients may still hold its address
	Drained   Phase = "drained"   // to be shut down
	Down      Phase = "shut-down" // to be destroyed
	Destroyed Phase = "destroyed" // until the listing no longer shows it
)

// BuildPhases and TerminationPhases are all phases in their order.
func BuildPhases() []Phase {
	return []Phase{Named, Created, Addressed, Ready, Configured, Serving, InDNS, Condemned}
}

func TerminationPhases() []Phase {
	return []Phase{Waiting, Decided, Draining, Drained, Down, Destroyed}
}

// Build is the record AUTOSCALINGMONITOR:<n>: one webserver on its way from a
// name to the public. All times are steady time (see rundir.Steady).
type Build struct {
	Version   int        `json:"version"`
	N         int        `json:"n"`
	Name      string     `json:"name"`
	Phase     Phase      `json:"phase"`
	Began     time.Time  `json:"began"`
	Since     time.Time  `json:"since"`                 // when the phase began
	Sent      time.Time  `json:"create_sent,omitempty"` // when the last create call was about to be sent
	ID        string     `json:"id,omitempty"`
	PublicIP  netip.Addr `json:"public_ip,omitzero"`
	PrivateIP netip.Addr `json:"private_ip,omitzero"`
	Why       string     `json:"why,omitempty"`     // why it was condemned
	Examined  time.Time  `json:"examined,omitzero"` // when its post-mortem began
}

// Cause is why a webserver is terminated.
type Cause string

const (
	Excess    Cause = "excess"    // above the profile
	Unhealthy Cause = "unhealthy" // too many strikes
	Replaced  Cause = "replaced"  // an operator asked for it
	Duplicate Cause = "duplicate" // bears the name of another
)

// Termination is the record terminating/<id>. Who creates it owns the server's
// end; it is created once, by whoever comes first.
type Termination struct {
	Version   int        `json:"version"`
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	PublicIP  netip.Addr `json:"public_ip,omitzero"`
	PrivateIP netip.Addr `json:"private_ip,omitzero"`
	Cause     Cause      `json:"cause"`
	Phase     Phase      `json:"phase"`
	Began     time.Time  `json:"began"`
	Since     time.Time  `json:"since"`
	Why       string     `json:"why,omitempty"`
	Created   time.Time  `json:"created,omitzero"`  // of the server, by the provider
	Examined  time.Time  `json:"examined,omitzero"` // when its post-mortem began
}

// Final reports whether the server may be destroyed already, so that nothing
// can be called off any more.
func (t Termination) Final() bool { return t.Phase == Down || t.Phase == Destroyed }

// Cycle is the record NOT_AUTHORISED_TO_SCALE: it exists while a scaling cycle
// runs, and holds the profile that the cycle works towards.
type Cycle struct {
	Version int       `json:"version"`
	Started time.Time `json:"started"`
	Profile int       `json:"profile"`
}

// Known is what adt remembers of one server of its own shard.
type Known struct {
	ID           string     `json:"id"`
	Name         string     `json:"name"`
	PublicIP     netip.Addr `json:"public_ip,omitzero"`
	PrivateIP    netip.Addr `json:"private_ip,omitzero"`
	FirstSeen    time.Time  `json:"first_seen"`
	Online       bool       `json:"online,omitempty"` // passed all checks at least once
	Strikes      int        `json:"strikes,omitempty"`
	State        string     `json:"state,omitempty"`  // the last verdict
	Detail       string     `json:"detail,omitempty"` // and why
	Checked      time.Time  `json:"checked,omitzero"`
	MissingSince time.Time  `json:"missing_since,omitzero"` // absent from the listings since
	MissingLooks int        `json:"missing_looks,omitempty"`
	// Where autoscalers take over from each other:
	Asked      bool `json:"asked,omitempty"`      // the store was asked for what others know of it
	Unverified bool `json:"unverified,omitempty"` // nobody left its SSH host key, so it cannot be judged
	Shared     bool `json:"shared,omitempty"`     // the store has its SSH host key, and that it was online
}

// Inventory is the record servers.json.
type Inventory struct {
	Version int              `json:"version"`
	Servers map[string]Known `json:"servers"` // by provider id
	// Gone holds the ids of servers that adt destroyed and saw gone, and when: a
	// stale listing may still bring them up.
	Gone map[string]time.Time `json:"gone,omitempty"`
	// Unlisted holds DNS addresses that belong to no listed server, and since
	// when.
	Unlisted map[netip.Addr]time.Time `json:"unlisted,omitempty"`
	// Reached is how large the shard was, see Observation.reached.
	Reached int `json:"reached,omitempty"`
}

// goneFor is for how long a listing that shows a destroyed server again is
// taken to be stale. After that the server exists, whatever was said before.
const goneFor = 10 * time.Minute

// departed reports whether a listed server is not there any more.
func (inv Inventory) departed(id string, now time.Time) bool {
	t, ok := inv.Gone[id]
	return ok && age(now, t) < goneFor
}

// depart forgets a server that was destroyed and seen gone.
func (inv *Inventory) depart(id string, now time.Time) {
	delete(inv.Servers, id)
	for old, t := range inv.Gone {
		if age(now, t) >= goneFor {
			delete(inv.Gone, old)
		}
	}
	inv.Gone[id] = now
}

// Backoff is the record backoff.json: it keeps failing builds from being
// repeated for ever.
type Backoff struct {
	Version  int       `json:"version"`
	Failures int       `json:"failures"` // waves of builds that failed in a row
	Failed   time.Time `json:"failed"`
	Until    time.Time `json:"until"`
	Stopped  bool      `json:"stopped,omitempty"` // until an operator resumes
}

// After returns the backoff once a build that began at began has failed at
// now. Builds that began together fail as one: only a build that began after
// the last failure counts again.
func (b Backoff) After(now, began time.Time, delays []time.Duration, most int) Backoff {
	if b.Failures > 0 && !began.After(b.Failed) {
		return b
	}
	b.Failures++
	b.Failed = now
	if len(delays) > 0 {
		b.Until = now.Add(delays[min(b.Failures, len(delays))-1])
	}
	b.Stopped = b.Failures >= most
	return b
}

// age is how long ago t was; never negative, so a time in the future (a clock
// set back across a boot) makes nothing overdue.
func age(now, t time.Time) time.Duration { return max(0, now.Sub(t)) }
