package events

// Level says who should look at an event.
type Level string

const (
	Info  Level = "INFO"  // the ordinary course of things
	Warn  Level = "WARN"  // something is held back or had to be worked around
	Error Level = "ERROR" // an operator is needed
)

// Reason is the code of an event: stable, for grep and for scripts.
type Reason string

// Deciding.
const (
	ProfileSet       Reason = "PROFILE_SET"
	NoProfile        Reason = "NO_PROFILE"
	CycleStarted     Reason = "CYCLE_STARTED"
	CycleEnded       Reason = "CYCLE_ENDED"
	CycleOverdue     Reason = "CYCLE_OVERDUE"
	CommandStored    Reason = "COMMAND_STORED"
	RebootStarted    Reason = "REBOOT_STARTED"
	RebootSkipped    Reason = "REBOOT_SKIPPED"
	RebootDone       Reason = "REBOOT_DONE"
	RebootFailed     Reason = "REBOOT_FAILED"
	Paused           Reason = "PAUSED"
	Resumed          Reason = "RESUMED"
	Protected        Reason = "PROTECTED"
	Unprotected      Reason = "UNPROTECTED"
	ReplaceRequested Reason = "REPLACE_REQUESTED"
)

// Sharing the work.
const (
	LeaseTaken     Reason = "LEASE_TAKEN"
	LeaseReturned  Reason = "LEASE_RETURNED"
	LeaseLost      Reason = "LEASE_LOST"
	LeasesRefused  Reason = "LEASES_REFUSED"
	BuildInherited Reason = "BUILD_INHERITED"
	BuildForgotten Reason = "BUILD_FORGOTTEN"
	Unverified     Reason = "UNVERIFIED"
	StoreSilent    Reason = "STORE_SILENT"
	ClockSkew      Reason = "CLOCK_SKEW"
	ScheduleFired  Reason = "SCHEDULE_FIRED"
)

// Building.
const (
	BuildStarted   Reason = "BUILD_STARTED"
	BuildPhase     Reason = "BUILD_PHASE"
	BuildAdopted   Reason = "BUILD_ADOPTED"
	BuildRepeated  Reason = "BUILD_REPEATED"
	BuildDone      Reason = "BUILD_DONE"
	BuildCondemned Reason = "BUILD_CONDEMNED"
	BuildDestroyed Reason = "BUILD_DESTROYED"
	CreateFailed   Reason = "CREATE_FAILED"
	Backoff        Reason = "BACKOFF"
	BuildingStop   Reason = "BUILDING_STOPPED"
	Maximum        Reason = "MAXIMUM"
)

// Judging and replacing.
const (
	ServerHealthy     Reason = "SERVER_HEALTHY"
	Strike            Reason = "STRIKE"
	Published         Reason = "PUBLISHED"
	Withdrawn         Reason = "WITHDRAWN"
	RecordPurged      Reason = "RECORD_PURGED"
	RecordHeld        Reason = "RECORD_HELD"
	TerminationStart  Reason = "TERMINATION_STARTED"
	TerminationPhase  Reason = "TERMINATION_PHASE"
	TerminationCancel Reason = "TERMINATION_CANCELLED"
	TerminationDone   Reason = "TERMINATION_DONE"
	TerminationFailed Reason = "TERMINATION_FAILED"
	OrphanFound       Reason = "ORPHAN_FOUND"
	ServerVanished    Reason = "SERVER_VANISHED"
	DuplicateName     Reason = "DUPLICATE_NAME"
)

// Reverse proxies.
const (
	ProxyUpdated     Reason = "PROXY_UPDATED"
	ProxyRefused     Reason = "PROXY_REFUSED"
	ProxyUnreachable Reason = "PROXY_UNREACHABLE"
	ProxyOverdue     Reason = "PROXY_OVERDUE"
	ProxyFailing     Reason = "PROXY_FAILING"
	ProxyDown        Reason = "PROXY_DOWN"
	ProxyUp          Reason = "PROXY_UP"
	ProxyMissing     Reason = "PROXY_MISSING"
	ProxyGone        Reason = "PROXY_GONE"
)

// Brakes and faults.
const (
	BrakeSelfCheck     Reason = "BRAKE_SELF_CHECK"
	BrakeNoWitness     Reason = "BRAKE_NO_WITNESS"
	BrakeFloor         Reason = "BRAKE_FLOOR"
	BrakeBudget        Reason = "BRAKE_BUDGET"
	BrakeGrace         Reason = "BRAKE_GRACE"
	BrakePaused        Reason = "BRAKE_PAUSED"
	BrakeInitial       Reason = "BRAKE_INITIAL"
	BrakeProtected     Reason = "BRAKE_PROTECTED"
	BrakeQuota         Reason = "BRAKE_QUOTA"
	QuotaLeft          Reason = "QUOTA_LEFT"
	ProviderNote       Reason = "PROVIDER_NOTE"
	ObservationFailed  Reason = "OBSERVATION_FAILED"
	ListingImplausible Reason = "LISTING_IMPLAUSIBLE"
	DNSFailed          Reason = "DNS_FAILED"
	StoreFailed        Reason = "STORE_FAILED"
	StateFailed        Reason = "STATE_FAILED"
	RecordCorrupt      Reason = "RECORD_CORRUPT"
	ClockJumped        Reason = "CLOCK_JUMPED"
)

// Meaning is one row of the table in the README, which is made from it.
type Meaning struct {
	Reason Reason
	Level  Level
	Text   string
}

// Meanings is every reason with its level and what it means, in the order in
// which a reader meets them.
func Meanings() []Meaning {
	return []Meaning{
		{ProfileSet, Info, "an operator set how many webservers an autoscaler shall keep"},
		{NoProfile, Info, "no profile was ever set for this autoscaler; nothing is scaled"},
		{CycleStarted, Info, "a scaling cycle began: webservers are missing and will be built"},
		{CommandStored, Info, "the profile changed while a cycle runs; it is taken when the cycle has ended"},
		{CycleEnded, Info, "no build is left; the next command is welcome"},
		{CycleOverdue, Error, "the cycle was older than `reboot.cycle_limit` and was ended with builds left; they go on"},
		{RebootStarted, Info, "the configured reboot command was run"},
		{RebootSkipped, Info, "a reboot was due and none is configured (the default on the local cloud)"},
		{RebootDone, Info, "the machine has booted since the reboot was asked for"},
		{RebootFailed, Error, "the reboot command failed; it is tried three times"},
		{Paused, Warn, "an operator paused something, or adt did because it could not read what was paused or protected"},
		{Resumed, Info, "a pause, or the stop after failed builds, was lifted"},
		{Protected, Info, "a webserver was protected from termination"},
		{Unprotected, Info, "the protection was lifted"},
		{ReplaceRequested, Info, "a webserver shall be replaced: a new one is built first"},
		{LeaseTaken, Warn, "an autoscaler does not renew its lease: its webservers are kept from here until it is back"},
		{LeaseReturned, Warn, "this autoscaler is back and takes its own webservers over again"},
		{LeaseLost, Warn, "the lease on webservers ran out or was taken in the middle of a run; nothing more was done to them"},
		{LeasesRefused, Error, "the datastore ignores the condition that leases rest on: autoscalers do not take over from each other"},
		{BuildInherited, Info, "a build that another autoscaler began goes on here"},
		{BuildForgotten, Info, "the record of a build was dropped, since another autoscaler kept the webservers meanwhile"},
		{Unverified, Warn, "nobody left the SSH host key of a webserver that was taken over: it is kept and not judged"},
		{StoreSilent, Warn, "the datastore does not answer: missing webservers are built by the last known profile, nothing is terminated"},
		{ClockSkew, Warn, "this machine's clock differs from the datastore's"},
		{ScheduleFired, Info, "a schedule set how many webservers an autoscaler shall keep"},
		{BuildStarted, Info, "a name was chosen and recorded; the create call comes next"},
		{BuildPhase, Info, "a build reached its next phase"},
		{BuildAdopted, Warn, "a create call whose outcome was unknown had made the server after all; it was found by its name"},
		{BuildRepeated, Warn, "a create call whose outcome was unknown had made nothing; it is repeated under the same name"},
		{BuildDone, Info, "a new webserver serves"},
		{CreateFailed, Warn, "the provider refused or failed to create a server"},
		{BuildCondemned, Warn, "a build failed for good or passed a deadline; its server, if any, will be destroyed"},
		{BuildDestroyed, Info, "the server of a condemned build is gone"},
		{Backoff, Warn, "builds failed; no new one begins before the time given"},
		{BuildingStop, Error, "too many builds failed in a row; none begins until `adt resume`"},
		{Maximum, Warn, "more webservers are wanted than `autoscaler.max_webservers` allows"},
		{ServerHealthy, Info, "a webserver passed all checks for the first time, or again after strikes"},
		{Strike, Warn, "a webserver failed its health check"},
		{Published, Info, "an address was added to DNS, or a webserver to what the proxies shall have"},
		{Withdrawn, Info, "an address was taken out of DNS, or a webserver out of what the proxies shall have"},
		{RecordPurged, Info, "a DNS record whose server is gone was removed"},
		{RecordHeld, Warn, "a DNS record belongs to no listed server; it is kept until that is certain"},
		{TerminationStart, Info, "it was decided to terminate a webserver, and why"},
		{TerminationPhase, Info, "a termination reached its next phase"},
		{TerminationCancel, Info, "a termination was called off before its server was destroyed"},
		{TerminationDone, Info, "a terminated server is gone from the provider's listing"},
		{TerminationFailed, Warn, "a step of a termination failed; it is tried again"},
		{OrphanFound, Warn, "a server bears this autoscaler's name, never passed a check and is in no record; health checks decide its fate"},
		{ServerVanished, Warn, "a known server was missing from the listing for `scale.missing_after` and did not answer: it is gone"},
		{DuplicateName, Warn, "two servers bear one name; the newer one is terminated"},
		{ProxyUpdated, Info, "a reverse proxy uses a changed list of webservers"},
		{ProxyRefused, Error, "a reverse proxy's configuration test or reload failed with the changed list; it goes on with the one before, and is told again"},
		{ProxyUnreachable, Warn, "a reverse proxy could not be logged in to or gave no answer; it is told again"},
		{ProxyOverdue, Error, "a reverse proxy may still have a webserver after `proxies.removal_deadline`; the webserver is terminated all the same"},
		{ProxyFailing, Warn, "a reverse proxy failed its health check"},
		{ProxyDown, Error, "a reverse proxy was taken out of DNS"},
		{ProxyUp, Info, "a reverse proxy passed its check for the first time, or again after strikes"},
		{ProxyMissing, Warn, "fewer reverse proxies are known than there should be (`proxies.count`)"},
		{ProxyGone, Warn, "a reverse proxy is not configured any more, or was missing from the listing for `scale.missing_after` and did not answer: it is told nothing any more"},
		{BrakeSelfCheck, Warn, "too many webservers failed at once: the fault is taken to be on this side, nothing is withdrawn or terminated"},
		{BrakeNoWitness, Warn, "no webserver passed in this run, so nothing shows that this side's network works: a replacement is built before anything is terminated"},
		{BrakeFloor, Warn, "DNS would hold fewer than `healthcheck.min_published` webservers: the best of the failing ones stays until a replacement serves"},
		{BrakeBudget, Warn, "enough webservers are being terminated for health already; this one waits for its turn"},
		{BrakeGrace, Info, "a webserver is too young to be terminated"},
		{BrakePaused, Warn, "something was due and is paused (`adt resume`, or SWITCH_OFF_SCALING in the datastore)"},
		{BrakeInitial, Warn, "an initial webserver fails its checks; adt never terminates those, an operator must look"},
		{BrakeProtected, Warn, "a protected webserver fails its checks; an operator must look"},
		{BrakeQuota, Warn, "the account's API requests are nearly spent: only what heals the fleet is asked for, until the provider's next hour"},
		{QuotaLeft, Info, "how many API requests the account has left, recorded once an hour"},
		{ProviderNote, Warn, "a provider's driver found something that an operator should know"},
		{ObservationFailed, Warn, "the provider could not be asked; nothing was planned"},
		{ListingImplausible, Warn, "the provider's listing contradicts what is known; nothing was planned from it"},
		{DNSFailed, Warn, "a DNS call failed; it is tried again"},
		{StoreFailed, Warn, "the datastore could not be read or written"},
		{StateFailed, Error, "a state file could not be read or written; nothing was done that depends on it"},
		{RecordCorrupt, Error, "a state file was garbage and was set aside; the run goes on from what the provider says"},
		{ClockJumped, Warn, "the wall clock was set; ages are reckoned without the jump"},
	}
}

// LevelOf returns the level of a reason.
func LevelOf(r Reason) Level {
	for _, m := range Meanings() {
		if m.Reason == r {
			return m.Level
		}
	}
	return Error // an unlisted reason is a mistake of ours, and a test finds it
}
