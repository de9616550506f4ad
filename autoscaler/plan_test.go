package autoscaler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"adt/events"
	"adt/provider"
)

// own is a webserver of shard 1; older ones have lower numbers.
func own(n int) provider.Server { return named(n, shop.Name(1, fmt.Sprintf("%04d", n))) }

func named(n int, name string) provider.Server {
	return provider.Server{ID: fmt.Sprintf("l-%02d", n), Name: name, Created: noon.Add(time.Duration(n-100) * time.Minute)}
}

// online is what is known of webservers that passed their last check.
func online(servers ...provider.Server) map[string]Known {
	known := map[string]Known{}
	for _, s := range servers {
		known[s.ID] = Known{ID: s.ID, Name: s.Name, Online: true}
	}
	return known
}

// short writes a plan on one line.
func short(actions []Action) string {
	var words []string
	for _, a := range actions {
		w := string(a.Kind)
		switch a.Kind {
		case StartBuild:
			w += fmt.Sprint(":", a.N)
		case StartCycle:
			w += fmt.Sprint(":", a.Count)
		case StartEnd:
			w += fmt.Sprint(":", a.ID, ":", a.Cause)
		case Proceed:
			w += ":" + a.ID
		case Hold, Note:
			w += ":" + string(a.Reason)
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

func TestPlan(t *testing.T) {
	want := func(n int) *Profile { return &Profile{Count: n} }
	three := []provider.Server{own(1), own(2), own(3)}
	initial := named(9, shop.InitialName(1, 1))
	for name, c := range map[string]struct {
		o      Observation
		change func(*Rules)
		want   string
	}{
		"no profile":           {o: Observation{Servers: three}, want: "note:NO_PROFILE"},
		"profile of 0":         {o: Observation{Profile: want(0)}},
		"all there":            {o: Observation{Profile: want(3), Servers: three}},
		"from nothing":         {o: Observation{Profile: want(3)}, want: "start-cycle:3 build:1 build:2 build:3"},
		"one missing":          {o: Observation{Profile: want(4), Servers: three}, want: "start-cycle:4 build:1"},
		"on its way":           {o: Observation{Profile: want(4), Servers: three, Cycle: &Cycle{Profile: 4}, Builds: []Build{{N: 1, Name: "x"}}}},
		"in a cycle":           {o: Observation{Profile: want(4), Servers: three, Cycle: &Cycle{Profile: 4}}, want: "build:1"},
		"a command waits":      {o: Observation{Profile: want(9), Servers: three, Cycle: &Cycle{Profile: 3}}},
		"numbers in use":       {o: Observation{Profile: want(5), Cycle: &Cycle{Profile: 5}, Builds: []Build{{N: 2, Name: "x"}, {N: 4, Name: "y"}}}, want: "build:1 build:3 build:5"},
		"condemned is no gain": {o: Observation{Profile: want(1), Cycle: &Cycle{Profile: 1}, Builds: []Build{{N: 1, Name: "x", Phase: Condemned}}}, want: "build:2"},
		"build is listed":      {o: Observation{Profile: want(3), Servers: three, Cycle: &Cycle{Profile: 3}, Builds: []Build{{N: 1, Name: own(3).Name, ID: own(3).ID}}}},
		"build found by name":  {o: Observation{Profile: want(3), Servers: three, Cycle: &Cycle{Profile: 3}, Builds: []Build{{N: 1, Name: own(3).Name}}}},

		"initial ones are on top":      {o: Observation{Profile: want(1), Servers: []provider.Server{initial}}, want: "start-cycle:1 build:1"},
		"initial ones count":           {o: Observation{Profile: want(1), Servers: []provider.Server{initial}}, change: func(r *Rules) { r.CountInitial = true }},
		"initial ones never go":        {o: Observation{Profile: want(0), Servers: []provider.Server{initial}}, change: func(r *Rules) { r.CountInitial = true }, want: "hold:BRAKE_PROTECTED"},
		"shard 10 is foreign":          {o: Observation{Profile: want(0), Servers: []provider.Server{named(1, "ws-lon1-shop-10-agil-aaaa")}}},
		"another autoscaler's":         {o: Observation{Profile: want(0), Servers: []provider.Server{named(1, shop.Name(2, "aaaa"))}}},
		"the newest goes":              {o: Observation{Profile: want(2), Servers: three, Known: online(three...)}, want: "terminate:l-03:excess"},
		"never online goes before":     {o: Observation{Profile: want(2), Servers: three, Known: online(own(1), own(3))}, want: "terminate:l-02:excess"},
		"unhealthy goes first":         {o: Observation{Profile: want(1), Servers: three, Known: map[string]Known{"l-01": {Online: true, Strikes: 1}, "l-03": {Online: true}}}, want: "terminate:l-01:excess terminate:l-02:excess"},
		"protected stays":              {o: Observation{Profile: want(2), Servers: three, Known: online(three...), Protected: map[string]bool{own(3).Name: true}}, want: "terminate:l-02:excess"},
		"too many protected":           {o: Observation{Profile: want(0), Servers: three[:2], Protected: map[string]bool{own(1).Name: true}}, want: "hold:BRAKE_PROTECTED terminate:l-02:excess"},
		"ending counts no more":        {o: Observation{Profile: want(3), Servers: three, Terminations: []Termination{{ID: "l-01", Phase: Draining}}}, want: "start-cycle:3 build:1"},
		"builds are no excess":         {o: Observation{Profile: want(3), Servers: three, Cycle: &Cycle{Profile: 3}, Builds: []Build{{N: 1, Name: "x"}}}},
		"paused: none is built":        {o: Observation{Profile: want(4), Servers: three, PausedScale: "why"}, want: "hold:BRAKE_PAUSED"},
		"paused: none goes":            {o: Observation{Profile: want(2), Servers: three, PausedScale: "why"}, want: "hold:BRAKE_PAUSED"},
		"ends paused: none goes":       {o: Observation{Profile: want(2), Servers: three, PausedEnd: "why"}, want: "hold:BRAKE_PAUSED"},
		"ends paused: built all same":  {o: Observation{Profile: want(4), Servers: three, PausedEnd: "why"}, want: "start-cycle:4 build:1"},
		"scarce: nothing grows":        {o: Observation{Profile: want(5), Servers: three, Scarce: "why", Reached: 3}, want: "hold:BRAKE_QUOTA"},
		"scarce: what is lost heals":   {o: Observation{Profile: want(9), Servers: three, Scarce: "why", Reached: 4}, want: "hold:BRAKE_QUOTA start-cycle:9 build:1"},
		"scarce: healing, no growth":   {o: Observation{Profile: want(4), Servers: three, Scarce: "why", Reached: 4}, want: "start-cycle:4 build:1"},
		"scarce: builds count":         {o: Observation{Profile: want(9), Servers: three, Cycle: &Cycle{Profile: 9}, Builds: []Build{{N: 1, Name: "x"}}, Scarce: "why", Reached: 4}, want: "hold:BRAKE_QUOTA"},
		"scarce: none goes":            {o: Observation{Profile: want(2), Servers: three, Scarce: "why", Reached: 3}, want: "hold:BRAKE_QUOTA"},
		"scarce and no room":           {o: Observation{Profile: want(9), Servers: three, Scarce: "why", Reached: 5}, change: func(r *Rules) { r.Max = 4 }, want: "hold:BRAKE_QUOTA hold:MAXIMUM start-cycle:9 build:1"},
		"backoff":                      {o: Observation{Profile: want(4), Servers: three, Backoff: Backoff{Failures: 1, Until: noon.Add(1)}}, want: "hold:BACKOFF"},
		"backoff is over":              {o: Observation{Profile: want(4), Servers: three, Backoff: Backoff{Failures: 1, Until: noon}}, want: "start-cycle:4 build:1"},
		"building stopped":             {o: Observation{Profile: want(4), Servers: three, Backoff: Backoff{Failures: 5, Stopped: true}}, want: "hold:BUILDING_STOPPED"},
		"stopped building still ends":  {o: Observation{Profile: want(2), Servers: three, Backoff: Backoff{Failures: 5, Stopped: true}}, want: "terminate:l-03:excess"},
		"maximum":                      {o: Observation{Profile: want(6), Servers: three}, change: func(r *Rules) { r.Max = 4 }, want: "hold:MAXIMUM start-cycle:6 build:1"},
		"maximum counts those ending":  {o: Observation{Profile: want(3), Servers: three, Terminations: []Termination{{ID: "l-01", Phase: Draining}}}, change: func(r *Rules) { r.Max = 3 }, want: "hold:MAXIMUM"},
		"maximum counts the condemned": {o: Observation{Profile: want(1), Builds: []Build{{N: 1, Name: "x", Phase: Condemned}}}, change: func(r *Rules) { r.Max = 1 }, want: "hold:MAXIMUM"},
		"maximum leaves out initial":   {o: Observation{Profile: want(1), Servers: []provider.Server{initial}}, change: func(r *Rules) { r.Max = 1 }, want: "start-cycle:1 build:1"},
		"maximum counts both of a name": {o: Observation{Profile: want(4), Servers: []provider.Server{named(1, own(1).Name), named(2, own(1).Name)}, Cycle: &Cycle{Profile: 4},
			Builds: []Build{{N: 1, Name: own(1).Name}}}, change: func(r *Rules) { r.Max = 3 }, want: "hold:MAXIMUM build:2"},

		"of two of a name the newer goes": {o: Observation{Profile: want(1), Servers: []provider.Server{named(2, own(1).Name), named(1, own(1).Name)}}, want: "terminate:l-02:duplicate"},
		"also without a profile":          {o: Observation{Servers: []provider.Server{named(2, own(1).Name), named(1, own(1).Name)}}, want: "terminate:l-02:duplicate note:NO_PROFILE"},
		"a build's twin goes":             {o: Observation{Profile: want(1), Servers: []provider.Server{own(1), named(2, own(1).Name)}, Cycle: &Cycle{Profile: 1}, Builds: []Build{{N: 1, Name: own(1).Name, ID: "l-02"}}}, want: "terminate:l-01:duplicate"},
		"a twin, and ends are paused":     {o: Observation{Profile: want(1), Servers: []provider.Server{own(1), named(2, own(1).Name)}, Cycle: &Cycle{Profile: 1}, Builds: []Build{{N: 1, Name: own(1).Name, ID: "l-01"}}, PausedEnd: "why"}, want: "hold:BRAKE_PAUSED"},
		"a twin, and it is protected":     {o: Observation{Profile: want(1), Servers: []provider.Server{own(1), named(2, own(1).Name)}, Cycle: &Cycle{Profile: 1}, Builds: []Build{{N: 1, Name: own(1).Name, ID: "l-01"}}, Protected: map[string]bool{own(1).Name: true}}, want: "hold:DUPLICATE_NAME"},
		"protected ones of a name":        {o: Observation{Profile: want(2), Servers: []provider.Server{own(1), named(2, own(1).Name)}, Protected: map[string]bool{own(1).Name: true}}, want: "hold:DUPLICATE_NAME"},
		"initial ones of a name":          {o: Observation{Profile: want(2), Servers: []provider.Server{initial, named(8, initial.Name)}}, change: func(r *Rules) { r.CountInitial = true }, want: "hold:DUPLICATE_NAME"},

		"waits for its replacement": {o: Observation{Profile: want(3), Servers: three, Known: online(three...), Cycle: &Cycle{Profile: 3}, Terminations: []Termination{{ID: "l-01", Phase: Waiting}},
			Builds: []Build{{N: 1, Name: "x"}}}},
		"its replacement serves":  {o: Observation{Profile: want(2), Servers: three, Known: online(three...), Terminations: []Termination{{ID: "l-01", Phase: Waiting}}}, want: "proceed:l-01"},
		"its replacement is sick": {o: Observation{Profile: want(2), Servers: three, Known: online(own(2)), Terminations: []Termination{{ID: "l-01", Phase: Waiting}}}},
		"ends paused: it waits on": {o: Observation{Profile: want(2), Servers: three, Known: online(three...), PausedEnd: "why",
			Terminations: []Termination{{ID: "l-01", Phase: Waiting}}}},
		"it is gone by itself": {o: Observation{Profile: want(2), Servers: three[1:], PausedEnd: "why", Terminations: []Termination{{ID: "l-01", Phase: Waiting}}}, want: "proceed:l-01"},
	} {
		t.Run(name, func(t *testing.T) {
			r := Rules{Fleet: shop, Shard: 1, Max: 10}
			if c.change != nil {
				c.change(&r)
			}
			if got := short(Plan(noon, r, c.o)); got != c.want {
				t.Errorf("plan is %q, want %q", got, c.want)
			}
		})
	}
}

// A build whose own name looks like an initial webserver's is none.
func TestReached(t *testing.T) {
	two := []provider.Server{own(1), own(2)}
	for name, c := range map[string]struct {
		o    Observation
		want int
	}{
		"at rest":            {Observation{Profile: &Profile{Count: 2}, Servers: two, Reached: 5}, 2},
		"one was lost":       {Observation{Profile: &Profile{Count: 3}, Servers: two, Known: online(two...), Reached: 3}, 3},
		"it is growing":      {Observation{Profile: &Profile{Count: 3}, Servers: two, Known: online(own(1)), Builds: []Build{{N: 1, Name: "x"}}}, 1},
		"it has grown":       {Observation{Profile: &Profile{Count: 5}, Servers: two, Known: online(two...), Reached: 1}, 2},
		"it is shrinking":    {Observation{Profile: &Profile{Count: 1}, Servers: two, Known: online(two...), Reached: 2}, 2},
		"no profile":         {Observation{Servers: two, Known: online(two...)}, 2},
		"one is being ended": {Observation{Profile: &Profile{Count: 1}, Servers: two, Known: online(two...), Terminations: []Termination{{ID: "l-01"}}, Reached: 2}, 2},
	} {
		if got := c.o.reached(Rules{Fleet: shop, Shard: 1, Max: 10}); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestPlanBuildNamedInit(t *testing.T) {
	fleet := Fleet{Region: "lon1", Build: "shop-init-1", User4: "agil"}
	name := fleet.Name(1, "aaaa")
	o := Observation{Profile: &Profile{Count: 1}, Servers: []provider.Server{named(1, name), named(2, name)}}
	if got := short(Plan(noon, Rules{Fleet: fleet, Shard: 1, Max: 10}, o)); got != "terminate:l-02:duplicate" {
		t.Errorf("plan is %q", got)
	}
}

// world draws rules and an observation in which everything may come together.
func world(t *rapid.T) (Rules, Observation) {
	draw := func(label string, n int) int { return rapid.IntRange(0, n).Draw(t, label) }
	yes := func(label string, oneIn int) bool { return draw(label, oneIn-1) == oneIn-1 }
	r := Rules{
		Fleet: rapid.SampledFrom([]Fleet{shop, {"ch-gva-2", "test-init-1", "agil"}}).Draw(t, "fleet"),
		Shard: 1, Max: 1 + draw("max", 8), CountInitial: yes("count initial", 2),
	}
	o := Observation{Known: map[string]Known{}, Protected: map[string]bool{}}
	for i := range draw("servers", 12) {
		tail := fmt.Sprintf("%04d", draw("tail", 7))
		s := named(i, rapid.SampledFrom([]string{
			r.Fleet.Name(1, tail), r.Fleet.Name(1, tail), r.Fleet.Name(1, tail), r.Fleet.InitialName(1, i%2),
			r.Fleet.Name(2, tail), r.Fleet.Name(10, tail), "db-" + tail,
		}).Draw(t, "name"))
		s.Created = noon.Add(-time.Duration(draw("age", 3)) * time.Minute)
		o.Servers = append(o.Servers, s)
		// Only these ever have records.
		n, ok := r.Fleet.Parse(s.Name)
		mine := ok && n.Shard == r.Shard && !n.Initial
		switch {
		case mine && yes("build", 5):
			if !slices.ContainsFunc(o.Builds, func(b Build) bool { return b.Name == s.Name }) {
				id := rapid.SampledFrom([]string{s.ID, ""}).Draw(t, "build id")
				o.Builds = append(o.Builds, Build{N: len(o.Builds) + draw("gap", 2)*10, Name: s.Name, ID: id, Phase: rapid.SampledFrom([]Phase{Named, Serving, Condemned}).Draw(t, "build phase")})
			}
		case mine && yes("ending", 5):
			o.Terminations = append(o.Terminations, Termination{ID: s.ID, Name: s.Name, Phase: rapid.SampledFrom([]Phase{Waiting, Decided, Destroyed}).Draw(t, "end phase")})
		}
		if yes("protected", 5) {
			o.Protected[s.Name] = true
		}
		o.Known[s.ID] = Known{ID: s.ID, Name: s.Name, Online: !yes("never online", 4), Strikes: max(0, draw("strikes", 5)-4)}
	}
	for range draw("unlisted builds", 2) {
		n := 1000 + len(o.Builds)
		o.Builds = append(o.Builds, Build{N: n, Name: r.Fleet.Name(1, fmt.Sprint(n)), Phase: rapid.SampledFrom([]Phase{Named, Created, Condemned}).Draw(t, "phase")})
	}
	if yes("unlisted end", 4) {
		o.Terminations = append(o.Terminations, Termination{ID: "l-gone", Phase: Waiting})
	}
	if !yes("no profile", 6) {
		o.Profile = &Profile{Count: draw("profile", 8)}
	}
	if yes("cycle", 3) {
		o.Cycle = &Cycle{Profile: draw("cycle's profile", 8)}
	}
	if yes("scale paused", 5) {
		o.PausedScale = "scale is paused"
	}
	if yes("ends paused", 5) {
		o.PausedEnd = "terminate is paused"
	}
	if yes("backoff", 5) {
		o.Backoff = Backoff{Failures: 1, Until: noon.Add(time.Duration(draw("until", 2)-1) * time.Minute), Stopped: yes("stopped", 2)}
	}
	if yes("scarce", 5) {
		o.Scarce, o.Reached = "the quota is nearly spent", draw("reached", 8)
	}
	return r, o
}

// audit is an observation, counted in another way than Plan does.
type audit struct {
	existing int                        // servers and builds that the maximum bounds
	members  map[string]provider.Server // by id: count towards the profile
	twins    map[string]bool            // ids of servers with the name of a build that has another
	byName   map[string]int             // how many members bear a name
	mine     func(provider.Server) bool // may be terminated at all
	ends     map[string]Termination     // by id
	servers  map[string]provider.Server // by id
}

func auditOf(r Rules, o Observation) audit {
	a := audit{members: map[string]provider.Server{}, twins: map[string]bool{}, byName: map[string]int{}, ends: map[string]Termination{}, servers: map[string]provider.Server{}}
	for _, t := range o.Terminations {
		a.ends[t.ID] = t
	}
	a.mine = func(s provider.Server) bool {
		n, ok := r.Fleet.Parse(s.Name)
		return ok && n.Shard == r.Shard && !n.Initial && !o.Protected[s.Name]
	}
	matched := map[string]bool{} // names of builds that a listed server accounts for
	for _, s := range o.Servers {
		a.servers[s.ID] = s
		n, ok := r.Fleet.Parse(s.Name)
		if !ok || n.Shard != r.Shard || n.Initial && !r.CountInitial {
			continue
		}
		a.existing++
		i := slices.IndexFunc(o.Builds, func(b Build) bool { return b.Name == s.Name })
		_, ending := a.ends[s.ID]
		switch {
		case i >= 0 && (o.Builds[i].ID == s.ID || o.Builds[i].ID == ""):
			matched[s.Name] = true
		case ending:
		case i >= 0:
			a.twins[s.ID] = true
		default:
			a.members[s.ID] = s
			a.byName[s.Name]++
		}
	}
	for _, b := range o.Builds {
		if !matched[b.Name] {
			a.existing++
		}
	}
	return a
}

func TestPlanKeepsTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, o := world(t)
		a := auditOf(r, o)
		actions := Plan(noon, r, o)
		fail := func(act Action, why string) {
			t.Helper()
			t.Fatalf("%+v: %s\nin %s", act, why, short(actions))
		}
		builds, excess, cycles := 0, 0, 0
		numbers, ended := map[int]bool{}, map[string]bool{}
		for _, b := range o.Builds {
			numbers[b.N] = true
		}
		for _, act := range actions {
			switch act.Kind {
			case StartCycle:
				cycles++
				if o.Cycle != nil || o.Profile == nil || act.Count != o.Profile.Count {
					fail(act, "no cycle may begin")
				}
			case StartBuild:
				builds++
				switch {
				case numbers[act.N] || act.N < 1:
					fail(act, "the number is taken")
				case o.PausedScale != "" || o.Backoff.Stopped || noon.Before(o.Backoff.Until):
					fail(act, "nothing may be built")
				case o.Profile == nil && o.Cycle == nil:
					fail(act, "nobody said how many")
				}
				numbers[act.N] = true
			case StartEnd:
				s, listed := a.servers[act.ID]
				_, ending := a.ends[act.ID]
				switch {
				case !listed || s.Name != act.Name:
					fail(act, "no such server")
				case !a.mine(s):
					fail(act, "foreign, initial or protected")
				case ending || ended[act.ID]:
					fail(act, "ending already")
				case o.PausedEnd != "":
					fail(act, "terminating is paused")
				}
				ended[act.ID] = true
				if act.Cause == Duplicate {
					if a.byName[s.Name] < 2 && !a.twins[s.ID] {
						fail(act, "nobody else bears its name")
					}
					a.byName[s.Name]--
					continue
				}
				if _, member := a.members[act.ID]; !member || act.Cause != Excess || o.PausedScale != "" || o.Profile == nil && o.Cycle == nil {
					fail(act, "no reason")
				}
				excess++
			case Proceed:
				end, there := a.ends[act.ID]
				if _, listed := a.servers[act.ID]; !there || end.Phase != Waiting || listed && o.PausedEnd != "" {
					fail(act, "it does not wait, or terminating is paused")
				}
			}
		}
		if builds > max(0, r.Max-a.existing) {
			t.Fatalf("%d builds with %d there and at most %d: %s", builds, a.existing, r.Max, short(actions))
		}
		if builds > 0 && o.Cycle == nil && cycles != 1 {
			t.Fatalf("builds outside a cycle: %s", short(actions))
		}
		if o.Scarce != "" && (excess > 0 || builds > 0 && len(a.members)+builds > o.Reached) {
			t.Fatalf("more than what heals a fleet of %d: %s", o.Reached, short(actions))
		}
		if builds > 0 && excess > 0 {
			t.Fatalf("builds and terminates for one profile: %s", short(actions))
		}
		if o.Profile != nil || o.Cycle != nil {
			var want int
			if o.Cycle != nil {
				want = o.Cycle.Profile
			} else {
				want = o.Profile.Count
			}
			memberDuplicates := 0
			for id := range ended {
				if _, m := a.members[id]; m {
					memberDuplicates++
				}
			}
			memberDuplicates -= excess
			before := len(a.members) - memberDuplicates
			if after := before - excess; after < min(want, before) {
				t.Fatalf("shrinks to %d, want %d of %d: %s", after, want, before, short(actions))
			}
			if goodBuilds := len(o.Builds) + builds; builds > 0 && before+builds > want {
				t.Fatalf("%d members and %d builds for %d: %s", before, goodBuilds, want, short(actions))
			}
		}
		if o.PausedEnd == "" {
			left := map[string][]provider.Server{}
			for id, s := range a.members {
				if !ended[id] {
					left[s.Name] = append(left[s.Name], s)
				}
				if a.mine(s) && a.twins[id] && !ended[id] {
					t.Fatalf("the twin %s stays: %s", id, short(actions))
				}
			}
			for name, servers := range left {
				if len(servers) > 1 && a.mine(servers[0]) {
					t.Fatalf("%d servers are named %s still: %s", len(servers), name, short(actions))
				}
			}
		}
	})
}

func TestPlanIgnoresTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, o := world(t)
		mixed := o
		mixed.Servers = slices.Clone(o.Servers)
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		rng.Shuffle(len(mixed.Servers), func(i, j int) { mixed.Servers[i], mixed.Servers[j] = mixed.Servers[j], mixed.Servers[i] })
		before := slices.Clone(mixed.Servers)
		if diff := cmp.Diff(Plan(noon, r, o), Plan(noon, r, mixed)); diff != "" {
			t.Fatalf("another order, another plan:\n%s", diff)
		}
		if !slices.Equal(before, mixed.Servers) {
			t.Fatal("Plan changed the observation")
		}
	})
}

// TestPlanConverges applies plan after plan to a fleet, lets builds fail and
// servers fall sick for a while, and wants the profile in the end.
func TestPlanConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, o := world(t)
		if o.Profile == nil {
			o.Profile = &Profile{Count: rapid.IntRange(0, 8).Draw(t, "profile")}
		}
		o.PausedScale, o.PausedEnd, o.Scarce, o.Backoff = "", "", "", Backoff{}
		// Room for the replacements of those that wait: with fewer, they wait for ever.
		r.Max = max(o.Profile.Count, len(o.Servers)+len(o.Builds)) + len(o.Terminations) + 1
		next := 500
		apply := func(actions []Action, troubled bool) (acted bool) {
			for _, act := range actions {
				switch act.Kind {
				case StartCycle:
					o.Cycle = &Cycle{Profile: act.Count}
				case StartBuild:
					next++
					o.Builds = append(o.Builds, Build{N: act.N, Name: r.Fleet.Name(1, fmt.Sprintf("%04d", next)), Phase: Named})
				case StartEnd:
					o.Terminations = append(o.Terminations, Termination{ID: act.ID, Name: act.Name, Phase: Decided})
				case Proceed:
					for i := range o.Terminations {
						if o.Terminations[i].ID == act.ID {
							o.Terminations[i].Phase = Decided
						}
					}
				default:
					continue
				}
				acted = true
			}
			happens := func(label string) bool { return !troubled || rapid.Bool().Draw(t, label) }
			o.Terminations = slices.DeleteFunc(o.Terminations, func(end Termination) bool {
				if end.Phase == Waiting || !happens("ended") {
					return false
				}
				o.Servers = slices.DeleteFunc(o.Servers, func(s provider.Server) bool { return s.ID == end.ID })
				return true
			})
			o.Builds = slices.DeleteFunc(o.Builds, func(b Build) bool {
				if !happens("built") {
					return false
				}
				i := slices.IndexFunc(o.Servers, func(s provider.Server) bool { return s.Name == b.Name && (b.ID == "" || s.ID == b.ID) })
				switch failed := b.Phase == Condemned || troubled && rapid.Bool().Draw(t, "build failed"); {
				case failed && i >= 0:
					o.Servers = slices.Delete(o.Servers, i, i+1)
				case !failed && i < 0:
					next++
					o.Servers = append(o.Servers, named(next, b.Name))
				}
				return true
			})
			for _, s := range o.Servers { // the health check's part
				strikes := 0
				if troubled && rapid.Bool().Draw(t, "sick") {
					strikes = 1
				}
				o.Known[s.ID] = Known{ID: s.ID, Name: s.Name, Online: true, Strikes: strikes}
			}
			if o.Cycle != nil && len(o.Builds) == 0 {
				o.Cycle = nil
				acted = true
			}
			return acted
		}
		for range rapid.IntRange(0, 4).Draw(t, "troubled ticks") {
			apply(Plan(noon, r, o), true)
		}
		var plans []string
		for tick := 0; ; tick++ {
			actions := Plan(noon, r, o)
			plans = append(plans, short(actions))
			settled := len(o.Builds)+len(o.Terminations) == 0
			if !apply(actions, false) && settled {
				break
			}
			if tick > 12 {
				t.Fatalf("no end: %q, builds %+v, terminations %+v", plans, o.Builds, o.Terminations)
			}
		}
		members, guarded := 0, 0
		for _, s := range o.Servers {
			n, ok := r.Fleet.Parse(s.Name)
			switch {
			case !ok || n.Shard != r.Shard, n.Initial && !r.CountInitial:
			case n.Initial || o.Protected[s.Name]:
				guarded++
				members++
			default:
				members++
			}
		}
		if want := max(o.Profile.Count, guarded); members != want {
			t.Fatalf("%d webservers in the end, want %d (%d of them guarded): %q", members, want, guarded, plans)
		}
	})
}

// TestPlanSaysWhy: an operator reads the plan, so each line of it has a reason.
func TestPlanSaysWhy(t *testing.T) {
	codes := map[events.Reason]bool{}
	for _, m := range events.Meanings() {
		codes[m.Reason] = true
	}
	rapid.Check(t, func(t *rapid.T) {
		r, o := world(t)
		for _, a := range Plan(noon, r, o) {
			if a.Why == "" || (a.Kind == Hold || a.Kind == Note) != (a.Reason != "") || a.Reason != "" && !codes[a.Reason] {
				t.Fatalf("%+v", a)
			}
		}
	})
}
