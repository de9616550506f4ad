package autoscaler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"adt/datastore"
	"adt/events"
	"adt/provider"
)

// Rules are the numbers that a plan keeps to.
type Rules struct {
	Fleet        Fleet
	Shard        int
	Max          int  // MAXWEBSERVERS: servers of this shard that exist or are being built, without initial ones
	CountInitial bool // the profile counts initial webservers too
}

// Observation is all that a plan knows.
type Observation struct {
	Servers      []provider.Server  // the whole listing, one entry an id
	Profile      *Profile           // of this shard; nil is none
	Stale        []datastore.Object // older profile objects, to be deleted
	Cycle        *Cycle             // nil while none runs
	Builds       []Build
	Terminations []Termination
	Known        map[string]Known // by id
	Protected    map[string]bool  // by name
	Backoff      Backoff
	PausedScale  string // why nothing may be scaled; "" is not paused
	PausedEnd    string // why nothing may be terminated
	Silent       string // why the datastore could not be asked: the profile is the last known; "" is not silent
	Scarce       string // why the provider is asked only for what heals; "" is not scarce
	Reached      int    // how large the shard was, see reached
}

// Kind is what an action does.
type Kind string

const (
	StartCycle Kind = "start-cycle" // take the profile as the goal of a cycle
	StartBuild Kind = "build"
	StartEnd   Kind = "terminate"
	Proceed    Kind = "proceed" // the replacement serves: end the one that waited
	Hold       Kind = "hold"    // something is wanted and a rule forbids it
	Note       Kind = "note"    // nothing is wanted, and this is why
)

// Action is one step of a plan. Which fields are set depends on Kind.
type Action struct {
	Kind   Kind          `json:"action"`
	N      int           `json:"n,omitempty"`      // StartBuild: number of the record
	Count  int           `json:"count,omitempty"`  // StartCycle: the profile
	ID     string        `json:"id,omitempty"`     // StartEnd, Proceed
	Name   string        `json:"server,omitempty"` // StartEnd, Proceed
	Cause  Cause         `json:"cause,omitempty"`  // StartEnd
	Reason events.Reason `json:"reason,omitempty"` // Hold, Note
	Why    string        `json:"why"`
}

// Plan decides what scaling is due. It is a pure function: the same arguments
// give the same plan, whatever the order of the listing.
func Plan(now time.Time, r Rules, o Observation) []Action {
	s := survey(r, o)
	actions := s.duplicates(r, o)

	var want int
	switch {
	case o.Cycle != nil:
		want = o.Cycle.Profile // a new command waits until the cycle has ended
	case o.Profile != nil:
		want = o.Profile.Count
	default:
		return append(actions, Action{Kind: Note, Reason: events.NoProfile,
			Why: fmt.Sprintf("autoscaler %d has no profile (adt scale --count N sets one)", r.Shard)})
	}
	s.drop(actions)

	missing := want - len(s.members) - len(s.building)
	switch {
	case missing > 0:
		actions = append(actions, s.build(now, r, o, want, missing)...)
	case len(s.members) > want:
		actions = append(actions, s.shrink(r, o, len(s.members)-want)...)
	}
	return append(actions, s.proceed(o, want)...)
}

// shardView is the servers of one shard, sorted by what they count as.
type shardView struct {
	members  []provider.Server // count towards the profile
	twins    []provider.Server // bear the name of a build that has another id
	building []Build           // on their way, and will count
	existing int               // all that exists or is being built, for the maximum
	listed   map[string]bool   // ids
	buildID  map[string]string // of builds, by name; "" is not known yet
}

func survey(r Rules, o Observation) *shardView {
	s := &shardView{listed: map[string]bool{}, buildID: map[string]string{}}
	for _, b := range o.Builds {
		s.existing++
		if b.Phase != Condemned {
			s.building = append(s.building, b)
		}
		s.buildID[b.Name] = b.ID
	}
	ending, counted := map[string]bool{}, map[string]bool{}
	for _, t := range o.Terminations {
		ending[t.ID] = true
	}
	for _, srv := range o.Servers {
		name, ok := r.Fleet.Parse(srv.Name)
		if !ok || name.Shard != r.Shard {
			continue
		}
		s.listed[srv.ID] = true
		if id, ok := s.buildID[srv.Name]; ok && (id == "" || id == srv.ID) {
			if counted[srv.Name] { // which one is the build's is not known yet
				s.existing++
			}
			counted[srv.Name] = true
			continue // counted as a build
		} else if ok && !ending[srv.ID] {
			s.existing++
			s.twins = append(s.twins, srv)
			continue
		}
		if name.Initial && !r.CountInitial {
			continue
		}
		s.existing++
		if !ending[srv.ID] {
			s.members = append(s.members, srv)
		}
	}
	slices.SortFunc(s.members, func(a, b provider.Server) int { return strings.Compare(a.ID, b.ID) })
	return s
}

// reached is how large the shard is, or was before it lost webservers: what is
// missing up to there heals, what is beyond it grows. It falls only when the
// shard is at rest with a smaller profile.
func (o Observation) reached(r Rules) int {
	s := survey(r, o)
	if o.Profile != nil && len(s.members) == o.Profile.Count && len(o.Builds)+len(o.Terminations) == 0 {
		return len(s.members)
	}
	online := 0
	for _, m := range s.members {
		if o.Known[m.ID].Online {
			online++
		}
	}
	return max(o.Reached, online)
}

// duplicates ends the newer of two servers that bear one name: a create that
// was repeated although the first had succeeded unseen.
func (s *shardView) duplicates(r Rules, o Observation) []Action {
	var out []Action
	end := func(srv provider.Server, why string) {
		name, _ := r.Fleet.Parse(srv.Name)
		a := Action{Kind: StartEnd, ID: srv.ID, Name: srv.Name, Cause: Duplicate, Why: why}
		switch {
		case name.Initial || o.Protected[srv.Name]:
			a = Action{Kind: Hold, Name: srv.Name, Reason: events.DuplicateName, Why: why + "; it is initial or protected, an operator must choose"}
		case o.PausedEnd != "":
			a = Action{Kind: Hold, Name: srv.Name, Reason: events.BrakePaused, Why: why + "; " + o.PausedEnd}
		}
		out = append(out, a)
	}
	for _, t := range s.twins {
		end(t, fmt.Sprintf("server %s bears the name of the build that has server %s", t.ID, s.buildID[t.Name]))
	}
	byName := map[string][]provider.Server{}
	for _, m := range s.members {
		byName[m.Name] = append(byName[m.Name], m)
	}
	for _, twins := range byName {
		slices.SortFunc(twins, func(a, b provider.Server) int {
			return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
		})
		for _, t := range twins[1:] {
			end(t, fmt.Sprintf("server %s bears the same name as the older server %s", t.ID, twins[0].ID))
		}
	}
	slices.SortFunc(out, func(a, b Action) int { return strings.Compare(a.ID+a.Why, b.ID+b.Why) })
	return out
}

// drop takes those out of the members that the actions terminate.
func (s *shardView) drop(actions []Action) {
	for _, a := range actions {
		if a.Kind == StartEnd {
			s.members = slices.DeleteFunc(s.members, func(m provider.Server) bool { return m.ID == a.ID })
		}
	}
}

func (s *shardView) build(now time.Time, r Rules, o Observation, want, missing int) []Action {
	hold := func(reason events.Reason, why string, args ...any) []Action {
		return []Action{{Kind: Hold, Reason: reason, Why: fmt.Sprintf("%d missing of %d; ", missing, want) + fmt.Sprintf(why, args...)}}
	}
	switch {
	case o.PausedScale != "":
		return hold(events.BrakePaused, "%s", o.PausedScale)
	case o.Backoff.Stopped:
		return hold(events.BuildingStop, "%d builds in a row failed, none begins until `adt resume`", o.Backoff.Failures)
	case now.Before(o.Backoff.Until):
		return hold(events.Backoff, "builds failed, the next begins in %s", o.Backoff.Until.Sub(now).Round(time.Second))
	}
	var out []Action
	if o.Scarce != "" {
		heals := max(0, min(missing, o.Reached-len(s.members)-len(s.building)))
		if heals < missing {
			out = hold(events.BrakeQuota, "%s: %d of them make the fleet larger than it was, and wait", o.Scarce, missing-heals)
		}
		missing = heals
	}
	room := max(0, r.Max-s.existing)
	if room < missing {
		out = append(out, hold(events.Maximum, "autoscaler.max_webservers is %d and %d exist or are being built", r.Max, s.existing)...)
	}
	number := min(missing, room)
	if number == 0 {
		return out
	}
	if o.Cycle == nil {
		out = append(out, Action{Kind: StartCycle, Count: want,
			Why: fmt.Sprintf("%d of %d webservers are there, %d being built: %d to build", len(s.members), want, len(s.building), number)})
	}
	used := map[int]bool{}
	for _, b := range o.Builds {
		used[b.N] = true
	}
	for n := 1; number > 0; n++ {
		if !used[n] {
			out = append(out, Action{Kind: StartBuild, N: n, Why: "missing"})
			number--
		}
	}
	return out
}

// shrink chooses who goes: unhealthy first, then never online, then the
// newest. Initial and protected webservers never go.
func (s *shardView) shrink(r Rules, o Observation, excess int) []Action {
	for _, paused := range []string{o.PausedScale, o.PausedEnd} {
		if paused != "" {
			return []Action{{Kind: Hold, Reason: events.BrakePaused, Why: fmt.Sprintf("%d above the profile; %s", excess, paused)}}
		}
	}
	if o.Scarce != "" {
		return []Action{{Kind: Hold, Reason: events.BrakeQuota, Why: fmt.Sprintf("%d above the profile; %s", excess, o.Scarce)}}
	}
	var candidates []provider.Server
	for _, m := range s.members {
		if name, _ := r.Fleet.Parse(m.Name); !name.Initial && !o.Protected[m.Name] {
			candidates = append(candidates, m)
		}
	}
	rank := func(m provider.Server) int {
		k := o.Known[m.ID]
		switch {
		case k.Strikes > 0:
			return 0
		case !k.Online:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(candidates, func(a, b provider.Server) int {
		return cmp.Or(rank(a)-rank(b), b.Created.Compare(a.Created), strings.Compare(b.ID, a.ID))
	})
	var out []Action
	if len(candidates) < excess {
		out = append(out, Action{Kind: Hold, Reason: events.BrakeProtected,
			Why: fmt.Sprintf("%d above the profile, %d of them may be terminated: the others are protected or initial", excess, len(candidates))})
	}
	why := []string{"it is unhealthy", "it was never online", "it is the newest"}
	for _, c := range candidates[:min(excess, len(candidates))] {
		out = append(out, Action{Kind: StartEnd, ID: c.ID, Name: c.Name, Cause: Excess,
			Why: fmt.Sprintf("%d above the profile; %s", excess, why[rank(c)])})
	}
	return out
}

// proceed lets those go that waited for their replacement, once as many serve
// as there shall be, and those that are gone already.
func (s *shardView) proceed(o Observation, want int) []Action {
	serving := 0
	for _, m := range s.members {
		if k := o.Known[m.ID]; k.Online && k.Strikes == 0 {
			serving++
		}
	}
	var out []Action
	for _, t := range o.Terminations {
		switch {
		case t.Phase != Waiting:
		case !s.listed[t.ID]:
			out = append(out, Action{Kind: Proceed, ID: t.ID, Name: t.Name, Why: "it is gone from the listing"})
		case serving >= want && len(s.building) == 0 && o.PausedEnd == "":
			out = append(out, Action{Kind: Proceed, ID: t.ID, Name: t.Name, Why: fmt.Sprintf("%d of %d serve without it", serving, want)})
		}
	}
	return out
}
