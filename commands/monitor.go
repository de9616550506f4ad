package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"adt/config"
	"adt/events"
	"adt/lock"
	"adt/monitor"
	"adt/rundir"
)

func monitorCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:  "monitor",
		Usage: "look at this machine: CPU, memory, disks, clock, network (cron runs it every minute)",
		Description: `EXAMPLES:
   adt monitor             what cron runs; on a terminal it shows what it found
   adt monitor --dry-run   show it, and change nothing
   adt monitor --json | jq .alarms

   What lasts for monitor.window is an alarm: one event, and not again for monitor.acknowledge
   (24 h), or as long as the marker in ~/runtime is young (touch it to be left in peace, remove
   it to hear of it again): CPU_OVERLOAD_ACKNOWLEDGED, LOW_MEMORY_ACKNOWLEDGED, LOW_DISK_ACKNOWLEDGED
   and so on. An overloaded machine is in the datastore's overloadedips/ until it is over.`,
		Flags:  []cli.Flag{dryRunFlag(), jsonFlag()},
		Action: func(c *cli.Context) error { return runMonitor(h, c) },
	}
}

// monitorFile is the record of the monitor, below the runtime directory.
const monitorFile = "monitor.json"

// vigil is the record monitor.json.
type vigil struct {
	Version   int                              `json:"version"`
	Boot      string                           `json:"boot"` // of the counters
	Counters  monitor.Counters                 `json:"counters"`
	Samples   []monitor.Sample                 `json:"samples"` // of the last hour
	Alarms    map[monitor.Alarm]monitor.Raised `json:"alarms"`
	Published []string                         `json:"published"` // keys of the datastore
}

// alarmReason is the event of an alarm.
func alarmReason(a monitor.Alarm) events.Reason {
	return map[monitor.Alarm]events.Reason{
		monitor.Overloaded: events.Overloaded, monitor.CPU: events.CPUOverload, monitor.Load: events.HighLoad, monitor.Memory: events.LowMemory,
		monitor.Disk: events.LowDisk, monitor.Clock: events.ClockUnsure, monitor.Network: events.NetworkTrouble,
	}[a]
}

// marker is the file that says that somebody knows of an alarm. The first three are
// the original's.
func marker(a monitor.Alarm) string { return string(alarmReason(a)) + "_ACKNOWLEDGED" }

func monitorLimits(cfg *config.Config) monitor.Limits {
	m := cfg.Monitor
	return monitor.Limits{
		Window: m.Window.Std(), Overloaded: float64(m.CPUOverloaded), CPU: float64(m.CPU), LoadBusy: float64(m.LoadBusy), LoadShare: float64(m.LoadShare),
		Available: float64(m.MemoryAvailable), Disk: float64(m.Disk), Inodes: float64(m.Inodes), Errors: float64(m.NetworkErrors), Synced: m.Synchronised,
	}
}

// monitored is what monitor --json prints.
type monitored struct {
	Sample monitor.Sample                   `json:"sample"`
	Alarms map[monitor.Alarm]monitor.Raised `json:"alarms"`
}

func runMonitor(h *host, c *cli.Context) error {
	s, err := h.openAnywhere(c)
	if err != nil {
		return err
	}
	release, err := lock.Try(s.Dir.Path("monitor.lock"), time.Now())
	if err != nil {
		return err
	}
	defer release()
	dry := c.Bool("dry-run")
	now := s.Now()
	var rec vigil
	if _, err := s.Dir.Read(monitorFile, &rec); err != nil {
		return err
	}
	known, err := s.acknowledged(dry)
	if err != nil {
		return err
	}
	news, failed := h.look(s, now, &rec, known)
	if !dry {
		if failed != nil {
			s.Record(events.MonitorFailed, "", oneLine(failed))
		}
		failed = errors.Join(failed, h.tellAlarms(c.Context, s, &rec, news))
	}
	out := monitored{Sample: rec.Samples[len(rec.Samples)-1], Alarms: rec.Alarms}
	switch {
	case c.Bool("json"):
		err = printJSON(h.env.Stdout, out)
	case dry || terminal(h.env.Stdout):
		err = printMonitored(h.env.Stdout, out, now)
	}
	return recorded(err, failed, dry)
}

// recorded puts errors together of which some are in the events: those went to
// stderr then, once an hour at most. A dry run records none.
func recorded(err, told error, dry bool) error {
	if told == nil || err != nil || dry {
		return errors.Join(err, told)
	}
	return toldError{told}
}

// look takes a sample and judges. What could not be read is in the error.
func (h *host) look(s *site, now time.Time, rec *vigil, known map[monitor.Alarm]bool) ([]monitor.Change, error) {
	if rec.Boot != s.BootID {
		rec.Counters = monitor.Counters{}
	}
	machine := monitor.Machine{Root: h.env.Root, Usage: h.env.DiskUsage, Sync: h.env.ClockUnsynced, Paths: []string{"/", s.cfg.Home}}
	sample, counters, err := machine.Read(rec.Counters)
	sample.At, sample.Skewed = now, s.clockSkewed()
	rec.Version, rec.Boot, rec.Counters, rec.Samples = rundir.Version, s.BootID, counters, monitor.Keep(rec.Samples, sample)
	var news []monitor.Change
	rec.Alarms, news = monitor.Judge(now, rec.Samples, monitorLimits(s.cfg), rec.Alarms, known)
	return news, err
}

// clockSkewed reports whether a tick of late found that the datastore's clock is
// another: nobody is asked for that.
func (s *site) clockSkewed() bool {
	const late = 10 * time.Minute
	now := time.Now()
	return s.log.Recent(now.Add(-late), now)[events.Matter{Reason: events.ClockSkew}]
}

// acknowledged are the alarms of which somebody knows. A marker that has run out is
// removed.
func (s *site) acknowledged(dry bool) (map[monitor.Alarm]bool, error) {
	known := map[monitor.Alarm]bool{}
	for _, a := range monitor.Alarms() {
		since, there, err := s.Dir.Exists(marker(a))
		if err != nil {
			return known, err
		}
		if !there {
			continue
		}
		if known[a] = time.Since(since) < s.cfg.Monitor.Acknowledge.Std(); known[a] || dry {
			continue
		}
		if err := s.Dir.Unmark(marker(a)); err != nil {
			return known, err
		}
	}
	return known, nil
}

// tellAlarms records what is new, for the next look and for people, and events of its
// own errors.
func (h *host) tellAlarms(ctx context.Context, s *site, rec *vigil, news []monitor.Change) error {
	_, overloaded := rec.Alarms[monitor.Overloaded]
	if s.Shard > 0 && (overloaded || len(rec.Published) > 0) {
		own, err := h.env.Addresses()
		if err != nil {
			s.Record(events.MonitorFailed, "", err.Error())
		} else {
			rec.Published = s.PublishOverload(ctx, own, overloaded, rec.Published)
		}
	}
	err := s.Dir.Write(monitorFile, rec)
	for _, n := range news {
		if n.Over {
			s.Record(events.MonitorRecovered, "", n.Text)
			continue
		}
		s.Record(alarmReason(n.Alarm), "", n.Text)
		if n.Alarm != monitor.Overloaded {
			err = errors.Join(err, s.Dir.Mark(marker(n.Alarm)))
		}
	}
	if err != nil {
		s.Record(events.StateFailed, "", oneLine(err))
	}
	return err
}

func printMonitored(w io.Writer, out monitored, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	percent := func(v *float64) string {
		if v == nil {
			return "not known yet"
		}
		return fmt.Sprintf("%.1f %%", *v)
	}
	s := out.Sample
	fmt.Fprintf(t, "CPU busy\t%s\nload for each core\t%.2f\nmemory available\t%s\n", percent(s.Busy), s.Load, percent(s.Available))
	for _, path := range slices.Sorted(maps.Keys(s.Disks)) {
		fmt.Fprintf(t, "disk of %s used\t%.1f %%, inodes %.1f %%\n", path, s.Disks[path], s.Inodes[path])
	}
	fmt.Fprintf(t, "clock\t%s\nnetwork\t%s, packets with errors %s\n",
		map[bool]string{true: "nobody sets it", false: "set by somebody"}[s.Unsynced], map[bool]string{true: "no way out", false: "up"}[s.Offline], percent(s.Errors))
	for _, a := range monitor.Alarms() {
		if r, there := out.Alarms[a]; there {
			fmt.Fprintf(t, "ALARM %s\tfor %s\n", a, now.Sub(r.Since).Round(time.Second))
		}
	}
	return t.Flush()
}
