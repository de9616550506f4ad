package notify

import (
	"slices"
	"time"

	"adt/events"
)

// Level is how much a message matters, in the words of the original, whose
// EMAILNOTIFICATIONLEVEL ERROR drops INFO.
type Level string

// The levels. An event of level ERROR is ERROR. One of level WARN is INFO, and
// ERROR once it has lasted for Rules.Lasting: what adt works around for minutes
// needs nobody, what it works around for hours does. Of events of level INFO only
// terminations are told, as in the original. MANDATORY is told whatever level is
// asked for and however many messages there were; it is for what stands still
// until somebody comes.
const (
	Info      Level = "INFO"
	Error     Level = "ERROR"
	Mandatory Level = "MANDATORY"
)

// atLeast reports whether a level is worth telling to who asked for another one.
func (l Level) atLeast(asked Level) bool { return l.rank() >= asked.rank() }

func (l Level) rank() int { return slices.Index([]Level{Info, Error, Mandatory}, l) }

// Rules is when what is told.
type Rules struct {
	Level   Level
	PerHour int           // messages, for each way
	Remind  time.Duration // after so long a matter that goes on is told again
	Lasting time.Duration // after so long a WARN counts as ERROR
	Quiet   time.Duration // a matter not seen for so long is over
	Keep    time.Duration // a message that nobody takes is given up after so long
	// KeepCount is how many notices may wait for one way.
	KeepCount int
}

// rule is what is known of a reason besides its level.
type rule struct {
	told  bool            // although its level is INFO
	once  bool            // it happens and does not last, so nobody waits for its end
	fleet bool            // it is one matter, whichever server it is about
	over  []events.Reason // what says that it is over
	level Level           // "" goes by the event's
}

// ruleOf returns what is known of a reason. One that has no row is a state: it
// lasts while it is recorded again and again.
func ruleOf(r events.Reason) rule {
	switch r {
	case events.TerminationStart:
		return rule{told: true, once: true}
	case events.Strike, events.OrphanFound, events.Unverified,
		events.BrakeInitial, events.BrakeProtected, events.BrakeFloor, events.BrakeBudget:
		return rule{over: []events.Reason{events.ServerHealthy, events.TerminationDone, events.ServerVanished}}
	case events.TerminationFailed:
		return rule{over: []events.Reason{events.TerminationDone, events.TerminationCancel}}
	case events.CreateFailed, events.BuildCondemned, events.Backoff:
		return rule{fleet: true, over: []events.Reason{events.BuildDone}}
	case events.BuildingStop:
		return rule{fleet: true, over: []events.Reason{events.Resumed, events.BuildDone}, level: Mandatory}
	case events.Paused, events.BrakePaused:
		return rule{fleet: true, over: []events.Reason{events.Resumed}}
	case events.CPUOverload, events.HighLoad, events.LowMemory, events.LowDisk, events.ClockUnsure, events.NetworkTrouble:
		return rule{once: true, level: Error} // it has lasted before it is an alarm, and is said again after a day
	case events.MonitorRecovered: // to who heard of the alarm
		return rule{told: true, once: true, level: Error}
	case events.ProxyRefused, events.ProxyUnreachable:
		return rule{over: []events.Reason{events.ProxyUpdated, events.ProxyGone}}
	case events.ProxyFailing, events.ProxyDown:
		return rule{over: []events.Reason{events.ProxyUp, events.ProxyGone}}
	case events.ProxyOverdue, events.ProxyGone:
		return rule{once: true}
	case events.FirewallInactive, events.FirewallDiffers, events.FirewallFailed:
		return rule{over: []events.Reason{events.FirewallSet, events.FirewallConfirmed}}
	case events.SSHLoginNew, events.FirewallReset, events.FirewallRolledBack:
		return rule{once: true, level: Error} // nobody may have wanted it
	case events.PermissionsWrong:
		return rule{over: []events.Reason{events.PermissionsFixed}}
	case events.RebootFailed:
		return rule{over: []events.Reason{events.RebootDone}}
	case events.BuildAdopted, events.BuildRepeated:
		return rule{fleet: true, once: true}
	case events.ServerVanished, events.LeaseTaken, events.LeaseReturned, events.LeaseLost, events.CycleOverdue,
		events.RecordCorrupt, events.ClockJumped:
		return rule{once: true}
	}
	return rule{}
}

// ends reports whether an event says that a matter is over.
func (m Matter) ends(e events.Event) bool {
	r := ruleOf(m.Reason)
	return slices.Contains(r.over, e.Reason) && m.Autoscaler == e.Autoscaler && (r.fleet || m.Server == e.Server)
}

// level is what a matter counts as by now.
func (r Rules) level(m Matter) Level {
	rule := ruleOf(m.Reason)
	switch {
	case rule.level != "":
		return rule.level
	case m.Severity == events.Error,
		m.Severity == events.Warn && !rule.once && m.Last.Sub(m.First) >= r.Lasting:
		return Error
	}
	return Info
}

// own are the events that package notify records itself. They are never told, or
// a message that fails would beget the next.
func own(r events.Reason) bool {
	return r == events.NotifySent || r == events.NotifyFailed || r == events.NotifyDropped
}
