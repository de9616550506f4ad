package healthcheck

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// State is what a verdict takes a member to be.
type State string

const (
	StateHealthy  State = "healthy"  // passed the whole ladder
	StateFailing  State = "failing"  // was online once, or its age is past its grace, and failed
	StateStalled  State = "stalled"  // failed, was never online, and should be by now
	StateGrace    State = "grace"    // failed, was never online, and need not be yet
	StateBuilding State = "building" // somebody's build; not judged
	StateUnknown  State = "unknown"  // not probed; not judged
)

// End is what shall become of a member for its health.
type End string

const (
	EndNone         End = ""
	EndTerminate    End = "terminate"
	EndReplaceFirst End = "replace-first" // build another one; this one ends when that is healthy
)

// Reason codes of the brakes.
const (
	BrakeSelfCheck = "SELF_CHECK" // so many fail that the fault is taken to be ours
	BrakeNoWitness = "NO_WITNESS" // nobody passed: nothing shows that our eyes work
	BrakeFloor     = "FLOOR"      // DNS would go below MinPublished
	BrakeBudget    = "BUDGET"     // enough terminations for health in this run
	BrakeGrace     = "GRACE"      // younger than its grace period
	BrakePaused    = "PAUSED"     // the operator said so
	BrakeInitial   = "INITIAL"    // built by the build machine, never terminated
	BrakeProtected = "PROTECTED"  // the operator said so, for this one
)

// Member is one own webserver, for Judge.
type Member struct {
	Name       string
	Result     Result // of this run's probe
	Probed     bool   // whether there is a Result
	Initial    bool   // an initial webserver (-init-)
	Protected  bool   // adt protect
	Published  bool   // in DNS now
	Building   bool   // being built, by anybody
	EverOnline bool   // passed once in its life
	Strikes    int    // failed checks in a row before this run
	Created    time.Time
}

// Limits are the configuration of the rules and what this run knows of the rest
// of the fleet.
type Limits struct {
	Strikes          int           // failed checks in a row that end a member; at least 1
	Grace            time.Duration // age below which nobody is terminated
	StalledAfter     time.Duration // age from which one never online is failing
	SelfCheckPercent int           // more of the judged failing than this, and
	SelfCheckMin     int           // at least so many of them: our own fault
	BudgetPercent    int           // of the members, terminations per run; at least 1
	MinPublished     int           // addresses that stay in DNS, fleet-wide
	WithdrawAt       int           // failed checks in a row that take a member out of DNS; at least 1
	NeverEnd         bool          // nobody is ended: reverse proxies, which adt does not make

	PauseTerminate bool
	PauseDNS       bool

	Published            int // addresses in DNS now, fleet-wide, after the purge
	TerminatingForHealth int // terminations for health in progress; they use up the budget
	WantReplacement      int // replacements in progress; one at a time
}

// Verdict is what shall be done about one member.
type Verdict struct {
	Name     string `json:"-"` // Member.Name
	State    State  `json:"state"`
	Strikes  int    `json:"strikes"` // the new count
	Publish  bool   `json:"publish"`
	Withdraw bool   `json:"withdraw"`
	End      End    `json:"end"`
	Brake    string `json:"brake"` // reason code of the rule that held something back, or ""
	Why      string `json:"why"`   // one line for people
}

// Judge makes the verdict on every member, in the order of their names. It is the
// rules of health and nothing else: no clock but now, no order of the input
// matters, and nothing is remembered between runs but what the caller keeps of
// the verdicts (strikes, EverOnline).
//
//   - Passing clears the strikes and publishes. Failing adds one; the first
//     withdraws (or the one that reaches Limits.WithdrawAt), the one that reaches
//     Limits.Strikes ends.
//   - A server in the making (being built, or never online and younger than both
//     Grace and StalledAfter allow) is left alone.
//   - Brakes hold back what may be our own mistake; Verdict.Brake names the one.
//     Where several apply, it is the one that held back the end.
//
// The floor counts on what is published in the same run: publish before
// withdrawing, and do not withdraw when publishing failed.
func Judge(now time.Time, members []Member, limits Limits) []Verdict {
	limits.Strikes = max(1, limits.Strikes)
	cases := make([]*patient, len(members))
	for i, m := range members {
		cases[i] = admit(now, m, limits)
	}
	slices.SortFunc(cases, func(a, b *patient) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), byStrikes(a, b))
	})

	sick := failing(cases)
	if selfCheck(cases, sick, limits) {
		for _, c := range sick {
			c.hold(BrakeSelfCheck, fmt.Sprintf("%d fail at once: the fault is taken to be ours", len(sick)))
		}
		sick = nil
	}
	for _, c := range sick {
		c.strike(limits)
	}
	slices.SortFunc(sick, byRung)
	withdraw(sick, limits.Published+publish(cases, limits), limits)
	slices.SortFunc(sick, byStrikes)
	end(sick, len(members), witnessed(members), limits)

	verdicts := make([]Verdict, len(cases))
	for i, c := range cases {
		c.verdict.Why = strings.Join(c.why, "; ")
		verdicts[i] = c.verdict
	}
	return verdicts
}

// patient is a member with its verdict in the making.
type patient struct {
	Member
	verdict Verdict
	why     []string
	young   bool // age below Grace, or unknown
	due     bool // has all the strikes that end it
	kept    bool // stays in DNS though failing, for the floor
}

// admit finds a member's state. An unknown age, or one of less than nothing
// because a clock was set, counts as young: it protects.
func admit(now time.Time, m Member, limits Limits) *patient {
	age := now.Sub(m.Created)
	if m.Created.IsZero() {
		age = -1
	}
	c := &patient{Member: m, young: age < 0 || age < limits.Grace}
	c.verdict = Verdict{Name: m.Name, Strikes: max(0, m.Strikes)}
	inMaking := !m.EverOnline && (age < 0 || age < max(limits.Grace, limits.StalledAfter))
	switch {
	case m.Building:
		c.found(StateBuilding, "being built")
	case !m.Probed || m.Result.Rung == NotProbed:
		c.found(StateUnknown, cmp.Or(m.Result.Detail, "not probed"))
	case m.Result.Rung == Passed:
		c.found(StateHealthy, cmp.Or(m.Result.Detail, "passed"))
		c.verdict.Strikes = 0
	case inMaking:
		c.found(StateGrace, c.ailment())
		c.why = append(c.why, "not online yet, and too young for a strike")
	case !m.EverOnline:
		c.found(StateStalled, c.ailment())
		c.why = append(c.why, "was never online")
	default:
		c.found(StateFailing, c.ailment())
	}
	return c
}

func (c *patient) found(state State, why string) {
	c.verdict.State = state
	c.why = append(c.why, why)
}

func (c *patient) ailment() string {
	return cmp.Or(c.Result.Detail, "fails at "+c.Result.Rung.String())
}

func (c *patient) hold(brake, why string) {
	c.verdict.Brake = brake
	c.why = append(c.why, why+" ("+brake+")")
}

func (c *patient) strike(limits Limits) {
	c.verdict.Strikes = min(c.verdict.Strikes+1, limits.Strikes)
	c.due = c.verdict.Strikes == limits.Strikes
	c.why = append(c.why, fmt.Sprintf("strike %d of %d", c.verdict.Strikes, limits.Strikes))
}

func failing(cases []*patient) []*patient {
	var sick []*patient
	for _, c := range cases {
		if c.verdict.State == StateFailing || c.verdict.State == StateStalled {
			sick = append(sick, c)
		}
	}
	return sick
}

// selfCheck reports whether too many of the judged fail in one run. Those in the
// making are not counted on either side: their failing is expected.
func selfCheck(cases, sick []*patient, limits Limits) bool {
	judged := len(sick)
	for _, c := range cases {
		if c.verdict.State == StateHealthy {
			judged++
		}
	}
	return len(sick) >= max(1, limits.SelfCheckMin) && len(sick)*100 > limits.SelfCheckPercent*judged
}

// witnessed reports whether any probe passed; one of a build shows as well that
// our own network works.
func witnessed(members []Member) bool {
	return slices.ContainsFunc(members, func(m Member) bool { return m.Probed && m.Result.Rung == Passed })
}

// publish puts the healthy into DNS and returns how many.
func publish(cases []*patient, limits Limits) int {
	n := 0
	for _, c := range cases {
		switch {
		case c.verdict.State != StateHealthy || c.Published:
		case limits.PauseDNS:
			c.hold(BrakePaused, "not published: DNS is paused")
		default:
			c.verdict.Publish = true
			c.why = append(c.why, "into DNS")
			n++
		}
	}
	return n
}

// withdraw takes the sick, worst first, out of DNS as far as the floor allows:
// those that climbed highest stay.
func withdraw(sick []*patient, published int, limits Limits) {
	spare := max(0, published-max(0, limits.MinPublished))
	for _, c := range sick {
		switch {
		case !c.Published || c.verdict.Strikes < limits.WithdrawAt:
		case limits.PauseDNS:
			c.hold(BrakePaused, "stays in DNS: DNS is paused")
		case spare == 0:
			c.kept = true
			c.hold(BrakeFloor, fmt.Sprintf("stays in DNS: %d must", limits.MinPublished))
		default:
			spare--
			c.verdict.Withdraw = true
			c.why = append(c.why, "out of DNS")
		}
	}
}

// end decides which of the due go, worst first. One whose going might be a
// mistake, since nobody passed or DNS needs it, is replaced first; one such at a
// time.
func end(sick []*patient, members int, witnessed bool, limits Limits) {
	budget := max(1, members*limits.BudgetPercent/100) - limits.TerminatingForHealth
	replacing := limits.WantReplacement > 0
	for _, c := range sick {
		if !c.due || limits.NeverEnd {
			continue
		}
		switch {
		case c.Initial:
			c.hold(BrakeInitial, "not terminated: an initial webserver")
		case c.Protected:
			c.hold(BrakeProtected, "not terminated: protected")
		case c.young:
			c.hold(BrakeGrace, "not terminated: too young")
		case limits.PauseTerminate:
			c.hold(BrakePaused, "not terminated: terminating is paused")
		case limits.PauseDNS && c.Published:
			c.hold(BrakePaused, "not terminated: it is in DNS, which is paused")
		case c.kept || !witnessed:
			brake, why := BrakeNoWitness, "nobody passed"
			if c.kept {
				brake, why = BrakeFloor, "DNS needs it"
			}
			if replacing {
				c.hold(brake, "not terminated: "+why+", a replacement is under way")
				continue
			}
			replacing = true
			c.verdict.End = EndReplaceFirst
			c.hold(brake, "replaced before it is terminated: "+why)
		case budget <= 0:
			c.hold(BrakeBudget, "not terminated in this run: enough others are")
		default:
			budget--
			c.verdict.End = EndTerminate
			c.why = append(c.why, "terminated")
		}
	}
}

// byRung orders the worst first as visitors feel it: lowest rung, then most
// strikes, then highest age.
func byRung(a, b *patient) int {
	return cmp.Or(cmp.Compare(a.Result.Rung, b.Result.Rung), byStrikes(a, b))
}

// byStrikes orders the surest first: most strikes, then lowest rung, then highest
// age. What follows makes the order total.
func byStrikes(a, b *patient) int {
	return cmp.Or(
		cmp.Compare(b.verdict.Strikes, a.verdict.Strikes),
		cmp.Compare(a.Result.Rung, b.Result.Rung),
		a.Created.Compare(b.Created),
		cmp.Compare(a.Name, b.Name),
		a.Result.Target.Address.Compare(b.Result.Target.Address),
	)
}
