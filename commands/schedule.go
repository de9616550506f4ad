package commands

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"adt/autoscaler"
	"adt/config"
	"adt/schedule"
)

// scheduleOf checks the [[schedule]] tables; nil is none.
func scheduleOf(cfg *config.Config) (*schedule.Schedule, error) {
	if len(cfg.Schedule) == 0 {
		return nil, nil
	}
	entries := make([]schedule.Entry, len(cfg.Schedule))
	for i, s := range cfg.Schedule {
		entries[i] = schedule.Entry{Line: s.Line, Cron: s.Cron, Zone: s.TimeZone, Count: s.Count, Add: s.Add, From: s.From, Until: s.Until}
	}
	plan, err := schedule.Parse(entries)
	if err != nil {
		return nil, inFile(cfg.Path, err)
	}
	return plan, nil
}

// checkSchedule is scheduleOf with what takes too long for every tick, and with what
// is no reason for a tick to do nothing: it keeps to the maximum by itself.
func checkSchedule(cfg *config.Config) error {
	plan, err := scheduleOf(cfg)
	if err != nil || plan == nil {
		return err
	}
	if err := errors.Join(plan.Across(), withinMaximum(cfg)); err != nil {
		return inFile(cfg.Path, err)
	}
	return nil
}

// withinMaximum refuses entries that want more than all autoscalers may keep.
func withinMaximum(cfg *config.Config) error {
	var errs []error
	for _, s := range cfg.Schedule {
		what, n := "count", 0
		switch {
		case s.Count != nil:
			n = *s.Count
		case s.Add != nil:
			what, n = "add", *s.Add
		}
		if err := fits(n, cfg.Autoscaler.Count, cfg.Autoscaler.MaxWebservers); err != nil {
			errs = append(errs, &schedule.Error{Line: s.Line, Msg: what + ": " + err.Error()})
		}
	}
	return errors.Join(errs...)
}

// inFile makes usage errors of the errors of a schedule: a line for each.
func inFile(path string, err error) error {
	var errs []error
	var add func(error)
	add = func(err error) {
		var wrong *schedule.Error
		switch joined, ok := err.(interface{ Unwrap() []error }); {
		case ok:
			for _, e := range joined.Unwrap() {
				add(e)
			}
		case errors.As(err, &wrong):
			errs = append(errs, &config.Error{File: path, Line: wrong.Line, Key: "schedule", Msg: wrong.Example(time.Now())})
		default:
			errs = append(errs, err)
		}
	}
	add(err)
	return usageError{errors.Join(errs...)}
}

func scheduleCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:  "schedule",
		Usage: "the [[schedule]] tables of the configuration: when the fleet changes its size by itself",
		Subcommands: []*cli.Command{{
			Name:  "list",
			Usage: "show the next ten firings, what holds now, and why",
			Description: `EXAMPLES:
   adt schedule list
   adt schedule list --at 2026-12-24T12:00:00Z    and what would hold then
   adt schedule list --json | jq .next

   Each tick works out what should hold from the most recent firing, so that a reboot or
   an outage loses none. A command (adt scale --count N) holds until the next firing, or
   for as long as --hold says. A time that a change of the clocks leaves out fires right
   after it; one that comes twice fires the first time.`,
			Flags: []cli.Flag{
				&cli.TimestampFlag{Name: "at", Layout: time.RFC3339, Usage: "show what would hold at `TIME` and what comes after it, such as 2026-12-24T12:00:00Z"},
				jsonFlag(),
			},
			Action: func(c *cli.Context) error { return listSchedule(h, c) },
		}},
	}
}

// scheduled is what schedule list --json prints.
type scheduled struct {
	Now  holding   `json:"now"`
	At   *foreseen `json:"at,omitempty"` // with --at
	Next []firing  `json:"next"`         // after now, or after that time
}

// foreseen is what would hold at a time if no command changed it.
type foreseen struct {
	Time time.Time `json:"time"`
	holding
}

type holding struct {
	Profile *int       `json:"profile"` // of the fleet; null is none
	Set     *time.Time `json:"set"`
	Why     string     `json:"why"`
	Line    int        `json:"line,omitempty"` // of the entry that set it
}

type firing struct {
	At   time.Time `json:"at"`
	Line int       `json:"line"`
	Cron string    `json:"cron"`
	Does string    `json:"does"`
}

func listSchedule(h *host, c *cli.Context) error {
	s, err := h.openAnywhere(c)
	if err != nil {
		return err
	}
	if s.Schedule == nil {
		return usagef("there is no [[schedule]] in %s (adt config example shows one)", s.cfg.Path)
	}
	if err := checkSchedule(s.cfg); err != nil {
		return err
	}
	now := time.Now()
	peers, err := s.Peers(c.Context, s.cfg.Autoscaler.Count)
	out := scheduled{Now: holding{Why: fmt.Sprint(err)}, Next: []firing{}}
	if err == nil {
		out.Now = holdsNow(peers, s.Schedule, now)
	}
	from := now
	if at := c.Timestamp("at"); at != nil {
		from = *at
		out.At = &foreseen{Time: from}
		switch {
		case from.Before(now):
			out.At.Why = "that is past: adt history shows what was"
		case err != nil:
			out.At.Why = err.Error()
		default:
			out.At.holding = holdsAt(peers, s.Schedule, from)
		}
	}
	for _, f := range s.Schedule.Next(from, 10) {
		out.Next = append(out.Next, firing{At: f.At, Line: f.Line, Cron: f.Cron, Does: does(f)})
	}
	if c.Bool("json") {
		return printJSON(h.env.Stdout, out)
	}
	return printSchedule(h.env.Stdout, out)
}

func does(f schedule.Firing) string {
	if f.Count != nil {
		return fmt.Sprintf("count %d", *f.Count)
	}
	return fmt.Sprintf("add %+d", *f.Add)
}

// holdsNow says which profile holds and where it is from.
func holdsNow(peers []autoscaler.Peer, plan *schedule.Schedule, now time.Time) holding {
	var total int
	var set, held time.Time
	for _, p := range peers {
		if p.Profile == nil {
			continue
		}
		total += p.Profile.Count
		if p.Profile.Set.After(set) {
			set = p.Profile.Set
		}
		if p.Hold.After(held) {
			held = p.Hold
		}
	}
	last, fired := plan.Last(now)
	if set.IsZero() {
		if fired {
			return holding{Why: fmt.Sprintf("none was set yet: the next tick applies line %d", last.Line)}
		}
		return holding{Why: "none was set yet, and nothing has fired"}
	}
	out := holding{Profile: &total, Set: &set}
	switch {
	case held.After(now):
		out.Why = "a command holds it until " + held.UTC().Format("2006-01-02 15:04 MST")
	case fired && last.At.After(set):
		out.Line, out.Why = last.Line, fmt.Sprintf("the next tick applies line %d, which has fired since", last.Line)
	case fired && appliedBy(last, total, set):
		out.Line, out.Why = last.Line, fmt.Sprintf("line %d of the schedule", last.Line)
	default:
		out.Why = "a command, until the next firing"
	}
	return out
}

// holdsAt works out, as the ticks of all autoscalers will, which profile holds at a
// time to come.
func holdsAt(peers []autoscaler.Peer, plan *schedule.Schedule, at time.Time) holding {
	total, known := 0, false
	out := holding{Why: "nothing fires before that"}
	for i, p := range peers {
		profile, set := 0, time.Time{}
		if p.Profile != nil {
			profile, set, known = p.Profile.Count, p.Profile.Set, true
		}
		var fired []schedule.Firing
		if p.Hold.After(at) {
			out.Why = "a command holds it until " + p.Hold.UTC().Format("2006-01-02 15:04 MST")
		} else {
			fired = plan.Since(set, at)
		}
		if p.Profile == nil { // what is to be added to nothing
			fired = slices.DeleteFunc(fired, func(f schedule.Firing) bool { return f.Count == nil })
		}
		total += schedule.Fold(profile, fired, func(n int) int { return autoscaler.Split(n, len(peers))[i] })
		if len(fired) > 0 {
			known = true
			out.Line = fired[len(fired)-1].Line
			out.Why = fmt.Sprintf("line %d of the schedule, unless a command changes it", out.Line)
		}
	}
	if known {
		out.Profile = &total
	}
	return out
}

// appliedBy reports whether a profile looks like the doing of a firing.
func appliedBy(f schedule.Firing, total int, set time.Time) bool {
	const promptly = 10 * time.Minute
	return f.Count != nil && *f.Count == total || f.Add != nil && set.Sub(f.At) < promptly
}

func printSchedule(w io.Writer, s scheduled) error {
	profile := "none"
	if s.Now.Profile != nil {
		profile = fmt.Sprintf("%d, set %s", *s.Now.Profile, s.Now.Set.UTC().Format("2006-01-02 15:04 MST"))
	}
	fmt.Fprintf(w, "now: %s (%s)\n", profile, s.Now.Why)
	if s.At != nil {
		profile = "none"
		if s.At.Profile != nil {
			profile = fmt.Sprint(*s.At.Profile)
		}
		fmt.Fprintf(w, "at %s: %s (%s)\n", s.At.Time.UTC().Format("2006-01-02 15:04 MST"), profile, s.At.Why)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nNEXT\tUTC\tSETS\tLINE\tCRON")
	for _, f := range s.Next {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\n", f.At.Format("Mon 2006-01-02 15:04 MST"), f.At.UTC().Format("15:04"), f.Does, f.Line, f.Cron)
	}
	return t.Flush()
}
