package cron

import (
	"fmt"
	"regexp"
	"strings"
)

// original is what becomes of a line of the crontab that the original's
// InitialiseCron.sh writes, by the name of the script that it runs.
type original struct {
	script string
	by     string // the command of adt that does it instead; "" is none
	why    string
}

// originals are the scripts of the original's crontab, of all its versions that
// are known. A line goes when the plan has the command that does its work.
func originals() []original {
	return []original{
		{"PerformScalingFromCron.sh", "scale", "adt scale"},
		{"AutoscaleFromCron.sh", "scale", "adt scale"},
		{"DeadOrAliveFromCron.sh", "healthcheck", "adt healthcheck"},
		{"RecordNumberOfWebserversRunning.sh", "healthcheck", "adt history"},
		// It deletes lock files by their age, also those that adt holds.
		{"RemoveExpiredLocks.sh", "scale", "adt, whose locks end with their holder"},
		{"AuditSSHConnections.sh", "audit-ssh", "adt audit-ssh"},
		{"EnforcePermissions.sh", "permissions", "adt permissions"},
		{"MonitorForOverload.sh", "monitor", "adt monitor"},
		{"LoadMonitoring.sh", "monitor", "adt monitor"},
		{"RemoveExpiredLogs.sh", "housekeeping", "adt housekeeping"},
		{"SetupFirewallFromCron.sh", "firewall", "adt firewall"},
		{"MonitorFirewall.sh", "firewall", "adt firewall"},
		{"DailyScaleUp.sh", "", "it goes on setting the profile; a [[schedule]] in adt.toml does that and loses nothing"},
		{"DailyScaleDown.sh", "", "it goes on setting the profile; a [[schedule]] in adt.toml does that and loses nothing"},
		{"ScalingUpdateEvent.sh", "", "it goes on setting the profile; a [[schedule]] in adt.toml does that and loses nothing"},
		{"MonitorCron.sh", "", "nothing that cron starts can tell that it does not (adt cron check, or heartbeat in adt.toml, can)"},
		{"UpdateIPs.sh", "", "it publishes the build machine's address too"},
	}
}

// Migrated is a line of the original's and what becomes of it.
type Migrated struct {
	Job
	By  string // what does it instead; "" where it stays
	Why string // why it stays
}

// replacedMark is what a line begins with that is not run any more. It says how the
// way back is.
const replacedMark = "#replaced by adt# "

// Migrate makes comments of those lines of the original that the plan's commands do
// instead. Each line of the original is reported; other lines are not looked at.
func (p Plan) Migrate(t Table) (table string, found []Migrated) {
	text := strings.Split(t.Text, "\n")
	for _, j := range t.Jobs() {
		m, ok := p.original(j)
		if !ok {
			continue
		}
		if m.By != "" {
			text[j.Line-1] = replacedMark + text[j.Line-1]
		}
		found = append(found, m)
	}
	return strings.Join(text, "\n"), found
}

// original tells what a job of the original is, if it is one: it runs a script
// below the folders that all versions have.
func (p Plan) original(j Job) (Migrated, bool) {
	m := regexp.MustCompile(`/(?:cron|autoscaler|utilities|providerscripts|security|services|installation|application)/(?:[\w.-]+/)*([\w-]+\.sh)\b(.*)`).FindStringSubmatch(j.Command)
	if m == nil {
		return Migrated{}, false
	}
	script, args := m[1], m[2]
	for _, o := range originals() {
		if !strings.EqualFold(o.script, script) { // DailyScaleup.sh is DailyScaleUp.sh in others
			continue
		}
		switch {
		case script == "RemoveExpiredLocks.sh" && strings.Contains(args, "reboot"):
			return Migrated{Job: j, Why: "at boot no lock is held, and it removes those of the scripts that stay"}, true
		case o.by == "":
			return Migrated{Job: j, Why: o.why}, true
		case p.has(o.by):
			return Migrated{Job: j, By: o.why}, true
		}
	}
	return Migrated{Job: j, Why: fmt.Sprintf("no line of adt does what %s does", script)}, true
}

func (p Plan) has(command string) bool {
	for _, e := range p.Entries {
		if len(e.Args) > 0 && e.Args[0] == command {
			return true
		}
	}
	return false
}

// Restorable returns the lines that Migrate made comments of.
func Restorable(table string) (lines []string) {
	for line := range strings.SplitSeq(table, "\n") {
		if rest, ok := strings.CutPrefix(line, replacedMark); ok {
			lines = append(lines, rest)
		}
	}
	return lines
}
