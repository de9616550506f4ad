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
	PostMortemTaken   Reason = "POST_MORTEM"
	PostMortemFailed  Reason = "POST_MORTEM_FAILED"
	DatabaseAllowed   Reason = "DATABASE_ALLOWED"
	DatabaseRevoked   Reason = "DATABASE_REVOKED"
	DatabaseRepaired  Reason = "DATABASE_REPAIRED"
	DatabaseLast      Reason = "DATABASE_LAST_ENTRY"
	DatabaseFailed    Reason = "DATABASE_FAILED"
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
	StoreNoBucket      Reason = "STORE_NO_BUCKET"
	StoreRefused       Reason = "STORE_REFUSED"
	StoreClock         Reason = "STORE_CLOCK"
	CopyBehind         Reason = "COPY_BEHIND"
	ForeignObject      Reason = "FOREIGN_OBJECT"
	StateFailed        Reason = "STATE_FAILED"
	RecordCorrupt      Reason = "RECORD_CORRUPT"
	ClockJumped        Reason = "CLOCK_JUMPED"
)

// Watching over adt itself.
const (
	RunUnrecorded Reason = "RUN_UNRECORDED"
	CronFault     Reason = "CRON_FAULT"
	MetricsFailed Reason = "METRICS_FAILED"
	HeartbeatLost Reason = "HEARTBEAT_LOST"
)

// Telling people.
const (
	NotifySent    Reason = "NOTIFY_SENT"
	NotifyFailed  Reason = "NOTIFY_FAILED"
	NotifyDropped Reason = "NOTIFY_DROPPED"
)

// The machine around it.
const (
	Housekeeping       Reason = "HOUSEKEEPING"
	HousekeepingFailed Reason = "HOUSEKEEPING_FAILED"
	AddressForgotten   Reason = "ADDRESS_FORGOTTEN"
	Overloaded         Reason = "OVERLOADED"
	CPUOverload        Reason = "CPU_OVERLOAD"
	HighLoad           Reason = "HIGH_LOAD"
	LowMemory          Reason = "LOW_MEMORY"
	LowDisk            Reason = "LOW_DISK"
	ClockUnsure        Reason = "CLOCK_UNSURE"
	NetworkTrouble     Reason = "NETWORK_TROUBLE"
	MonitorRecovered   Reason = "MONITOR_RECOVERED"
	MonitorFailed      Reason = "MONITOR_FAILED"
)

// Guarding this machine.
const (
	FirewallSet        Reason = "FIREWALL_SET"
	FirewallConfirmed  Reason = "FIREWALL_CONFIRMED"
	FirewallRolledBack Reason = "FIREWALL_ROLLED_BACK"
	FirewallReset      Reason = "FIREWALL_RESET"
	FirewallInactive   Reason = "FIREWALL_INACTIVE"
	FirewallDiffers    Reason = "FIREWALL_DIFFERS"
	FirewallFailed     Reason = "FIREWALL_FAILED"
	SSHLoginNew        Reason = "SSH_LOGIN_NEW"
	SSHAuditBegun      Reason = "SSH_AUDIT_BEGUN"
	SSHAuditFailed     Reason = "SSH_AUDIT_FAILED"
	PermissionsWrong   Reason = "PERMISSIONS_WRONG"
	PermissionsFixed   Reason = "PERMISSIONS_FIXED"
)

// Meaning is one row of the table in docs/operating.md, which is made from it.
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
		{PostMortemTaken, Info, "what a webserver had to say before it is destroyed was kept in `logs/post-mortem` (`adt post-mortem show NAME`)"},
		{PostMortemFailed, Warn, "a post-mortem could not be written (no room for logs?); the webserver is destroyed all the same"},
		{DatabaseAllowed, Info, "an address was added to the managed database's allow list"},
		{DatabaseRevoked, Info, "an address that adt had added was taken off the managed database's allow list"},
		{DatabaseRepaired, Warn, "somebody had taken an address that is needed off the managed database's allow list; it was added again"},
		{DatabaseLast, Info, "the last entry of the managed database's allow list stays, though nobody needs it: an empty list would let everybody in"},
		{DatabaseFailed, Warn, "the managed database's allow list could not be read or written: new webservers wait for it, all else goes on"},
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
		{BrakePaused, Warn, "something was due and is paused (`adt resume`), or forbidden by the datastore (SWITCH_OFF_SCALING is there, or INSTALLED_SUCCESSFULLY is not)"},
		{BrakeInitial, Warn, "an initial webserver fails its checks; adt never terminates those, an operator must look"},
		{BrakeProtected, Warn, "a protected webserver fails its checks; an operator must look"},
		{BrakeQuota, Warn, "the account's API requests are nearly spent: only what heals the fleet is asked for, until the provider's next hour"},
		{QuotaLeft, Info, "how many API requests the account has left, recorded once an hour"},
		{ProviderNote, Warn, "a provider's driver found something that an operator should know"},
		{ObservationFailed, Warn, "the provider could not be asked; nothing was planned"},
		{ListingImplausible, Warn, "the provider's listing contradicts what is known; nothing was planned from it"},
		{DNSFailed, Warn, "a DNS call failed; it is tried again"},
		{StoreFailed, Warn, "the datastore could not be read or written"},
		{StoreNoBucket, Warn, "a bucket of the datastore is missing (`adt doctor --fix` makes it)"},
		{StoreRefused, Warn, "the datastore refuses the keys, or these may not do that (`adt doctor`)"},
		{StoreClock, Warn, "the datastore refuses requests because this machine's clock is wrong"},
		{CopyBehind, Warn, "a further endpoint of the datastore could not be written: it lacks what the first one has"},
		{ForeignObject, Warn, "an object where profiles are is none that adt can read: it is neither obeyed nor deleted"},
		{StateFailed, Error, "a state file could not be read or written; nothing was done that depends on it"},
		{RecordCorrupt, Error, "a state file was garbage and was set aside; the run goes on from what the provider says"},
		{ClockJumped, Warn, "the wall clock was set; ages are reckoned without the jump"},
		{RunUnrecorded, Warn, "a command could not leave the record of its run that `adt cron check` reads; the run itself went on"},
		{CronFault, Warn, "`adt cron check` found that cron does not run adt as it should"},
		{HeartbeatLost, Warn, "a monitor of cron jobs could not be told of a run; the run itself went on"},
		{MetricsFailed, Warn, "the file of metrics could not be written; the run itself went on"},
		{NotifySent, Info, "a message of `adt notify` was delivered"},
		{NotifyFailed, Warn, "a message could not be delivered; it is kept and tried again (`adt notify status`)"},
		{NotifyDropped, Error, "a message was given up after `notify.keep`, or nobody is configured any more to get it"},
		{Housekeeping, Info, "old logs, post-mortems and records were deleted or compressed"},
		{HousekeepingFailed, Warn, "something old could not be deleted or compressed; the next run tries again"},
		{AddressForgotten, Info, "the datastore's address of a server that is gone was deleted"},
		{Overloaded, Info, "this machine's CPU is busy for long: the datastore has it in `overloadedips/`"},
		{CPUOverload, Warn, "this machine's CPU is nearly fully busy for long; said again after `monitor.acknowledge`, as the five below"},
		{HighLoad, Warn, "this machine's CPU was nearly fully busy for a good part of an hour"},
		{LowMemory, Warn, "this machine has little memory left"},
		{LowDisk, Warn, "a disk of this machine is nearly full, or has few inodes left: `adt housekeeping` makes room"},
		{ClockUnsure, Warn, "nobody sets this machine's clock, or it is wrong"},
		{NetworkTrouble, Warn, "this machine has no way out, or many packets have errors"},
		{MonitorRecovered, Info, "what this machine's monitor raised an alarm about is over"},
		{MonitorFailed, Warn, "the monitor could not read something about this machine"},
		{FirewallSet, Info, "this machine's firewall was set; it waits for `adt firewall confirm`, or it was put back after a boot"},
		{FirewallConfirmed, Info, "an operator said that a change of the firewall is good"},
		{FirewallRolledBack, Warn, "a change of the firewall was not confirmed in time, or failed: what was before is back"},
		{FirewallReset, Warn, "adt's rules were taken off this machine's firewall"},
		{FirewallInactive, Error, "this machine's firewall is not active, everything is let in: `adt firewall setup`"},
		{FirewallDiffers, Warn, "this machine's firewall is active and not as `adt.toml` wants it: `adt firewall status`"},
		{FirewallFailed, Error, "the firewall could not be read or set: no tool, two at once, or a command that failed"},
		{SSHLoginNew, Warn, "somebody logged in to this machine from an address that was never seen before"},
		{SSHAuditBegun, Info, "the first look at this machine's logins: the addresses of before count as seen"},
		{SSHAuditFailed, Error, "this machine's records of logins could not be read"},
		{PermissionsWrong, Error, "others may read or change files that are private: `adt permissions`"},
		{PermissionsFixed, Info, "modes and owners of private files were put right"},
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
