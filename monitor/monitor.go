// Package monitor is how the machine itself is: what it reads of CPU, memory, disks,
// clock and network, and when that is worth an alarm. It must not know fleets, nor
// whom an alarm is told.
package monitor

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Alarm is what may be wrong.
type Alarm string

const (
	Overloaded Alarm = "overloaded" // the CPU is busy enough for others to know
	CPU        Alarm = "cpu"        // and so busy that somebody should look
	Load       Alarm = "load"       // busy for a good part of an hour
	Memory     Alarm = "memory"
	Disk       Alarm = "disk" // room or inodes
	Clock      Alarm = "clock"
	Network    Alarm = "network"
)

// Alarms are all of them.
func Alarms() []Alarm { return []Alarm{Overloaded, CPU, Load, Memory, Disk, Clock, Network} }

// Sample is the machine at one moment, in percent. A nil pointer is not known.
type Sample struct {
	At        time.Time          `json:"at"`             // steady time
	Busy      *float64           `json:"busy,omitempty"` // of all cores, since the sample before
	Load      float64            `json:"load"`           // the load average of a minute, for each core; 1 is busy
	Available *float64           `json:"memory_available,omitempty"`
	Disks     map[string]float64 `json:"disks,omitempty"`          // used, by path
	Inodes    map[string]float64 `json:"inodes,omitempty"`         // used, by path
	Errors    *float64           `json:"network_errors,omitempty"` // of all packets, since the sample before
	Offline   bool               `json:"offline,omitempty"`        // there is no way out of this machine
	Unsynced  bool               `json:"unsynced,omitempty"`       // the kernel says that nobody sets the clock
	Skewed    bool               `json:"skewed,omitempty"`         // the clock differs from the datastore's
}

// Limits are the operator's. All but Window and Hour are in percent.
type Limits struct {
	Window     time.Duration // how long something must last; 0 is one sample
	Overloaded float64       // busy
	CPU        float64       // busy
	LoadBusy   float64       // busy, of a sample that counts as one
	LoadShare  float64       // of the samples of an hour
	Available  float64       // of memory, at most
	Disk       float64       // used
	Inodes     float64       // used
	Errors     float64       // of packets
	Synced     bool          // whether the clock must be set by somebody
}

// hour is what Load looks at, and how long samples are of use.
const hour = time.Hour

// fewest is the least number of samples that show that something lasts.
const fewest = 3

// Raised is an alarm that lasts.
type Raised struct {
	Since time.Time `json:"since"`
	Told  bool      `json:"told"` // an operator was told of it
}

// Change is news about an alarm.
type Change struct {
	Alarm Alarm
	Over  bool   // it is over; else it is there
	Text  string // what is so
}

// Keep returns the samples that are of use with one more.
func Keep(samples []Sample, next Sample) []Sample {
	kept := slices.DeleteFunc(slices.Clone(samples), func(s Sample) bool {
		return next.At.Sub(s.At) > hour || s.At.After(next.At) // the clock of another boot
	})
	return append(kept, next)
}

// Judge says which alarms there are now, and what of that is news. The last sample
// is of now. acknowledged are alarms of which somebody knows already: they are no
// news while they last, and nor is their end when nobody was told.
func Judge(now time.Time, samples []Sample, l Limits, before map[Alarm]Raised, acknowledged map[Alarm]bool) (after map[Alarm]Raised, news []Change) {
	after = map[Alarm]Raised{}
	for _, alarm := range Alarms() {
		old, was := before[alarm]
		bad, good := lasts(now, samples, l, alarm)
		switch {
		case bad || was && !good:
			r := old
			if !was {
				r.Since = now
			}
			if bad && !acknowledged[alarm] && !(was && alarm == Overloaded) { // that is for machines, who read it once
				r.Told = true
				news = append(news, Change{Alarm: alarm, Text: text(samples, l, alarm)})
			}
			after[alarm] = r
		case was && old.Told:
			news = append(news, Change{Alarm: alarm, Over: true, Text: text(samples, l, alarm)})
		}
	}
	return after, news
}

// lasts reports whether something was wrong through the whole window, or right.
func lasts(now time.Time, samples []Sample, l Limits, alarm Alarm) (bad, good bool) {
	if alarm == Load {
		bad = busyHour(now, samples, l)
		return bad, !bad
	}
	recent := slices.DeleteFunc(slices.Clone(samples), func(s Sample) bool { return now.Sub(s.At) > l.Window })
	known, wrong := 0, 0
	for _, s := range recent {
		over, ok := l.exceeds(s, alarm)
		if !ok {
			continue
		}
		known++
		if over {
			wrong++
		}
	}
	// After a gap a few samples do not show what was before.
	enough := known > 0 && (l.Window == 0 || known >= fewest && now.Sub(recent[0].At) >= l.Window/2)
	return enough && wrong == known, enough && wrong == 0
}

// busyHour is the original's hourly rule: too many of the samples are too busy. It
// wants half an hour of them.
func busyHour(now time.Time, samples []Sample, l Limits) bool {
	n, busy := 0, 0
	for _, s := range samples {
		if s.Busy == nil || now.Sub(s.At) > hour {
			continue
		}
		n++
		if *s.Busy >= l.LoadBusy {
			busy++
		}
	}
	return n >= 30 && float64(busy)*100 > l.LoadShare*float64(n)
}

// exceeds holds one sample against a limit; ok is false where it is not known.
func (l Limits) exceeds(s Sample, alarm Alarm) (over, ok bool) {
	least := func(v *float64, limit float64) (bool, bool) { return v != nil && *v >= limit, v != nil }
	switch alarm {
	case Overloaded:
		return least(s.Busy, l.Overloaded)
	case CPU:
		return least(s.Busy, l.CPU)
	case Memory:
		return s.Available != nil && *s.Available <= l.Available, s.Available != nil
	case Disk:
		return len(l.full(s)) > 0, len(s.Disks) > 0
	case Clock:
		return s.Skewed || l.Synced && s.Unsynced, true
	case Network:
		return s.Offline || s.Errors != nil && *s.Errors >= l.Errors, true
	}
	return false, false
}

// full says which disks are.
func (l Limits) full(s Sample) (full []string) {
	for path, used := range s.Disks {
		if used >= l.Disk {
			full = append(full, fmt.Sprintf("%s is %.0f %% full", path, used))
		}
	}
	for path, used := range s.Inodes {
		if used >= l.Inodes {
			full = append(full, fmt.Sprintf("%.0f %% of the inodes of %s are used", used, path))
		}
	}
	slices.Sort(full)
	return full
}

// text says how it is, by the last sample, and where the limit is.
func text(samples []Sample, l Limits, alarm Alarm) string {
	s := samples[len(samples)-1]
	value := func(v *float64) float64 {
		if v == nil {
			return 0
		}
		return *v
	}
	switch alarm {
	case Overloaded:
		return fmt.Sprintf("the CPU is %.0f %% busy (limit %.0f %%)", value(s.Busy), l.Overloaded)
	case CPU:
		return fmt.Sprintf("the CPU is %.0f %% busy (limit %.0f %%), the load is %.1f for each core", value(s.Busy), l.CPU, s.Load)
	case Load:
		return fmt.Sprintf("the CPU is %.0f %% busy now; the limit is %.0f %% busy in %.0f %% of the minutes of an hour", value(s.Busy), l.LoadBusy, l.LoadShare)
	case Memory:
		return fmt.Sprintf("%.0f %% of the memory is available (limit %.0f %%)", value(s.Available), l.Available)
	case Disk:
		if full := l.full(s); len(full) > 0 {
			return strings.Join(full, ", ") + fmt.Sprintf(" (limit %.0f %%)", l.Disk)
		}
		return "there is room on all disks"
	case Clock:
		switch {
		case s.Skewed:
			return "the clock differs from the datastore's (CLOCK_SKEW): look at timedatectl"
		case s.Unsynced:
			return "nobody sets the clock: apt install systemd-timesyncd or chrony, and look at timedatectl"
		}
		return "the clock is right"
	default:
		switch {
		case s.Offline:
			return "there is no default route through an interface that is up: look at ip route and ip link"
		case s.Errors != nil && *s.Errors >= l.Errors:
			return fmt.Sprintf("%.1f %% of the packets had errors (limit %.1f %%)", *s.Errors, l.Errors)
		}
		return "the network is up"
	}
}
