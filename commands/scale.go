package commands

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"adt/autoscaler"
	"adt/events"
)

func scaleCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:  "scale",
		Usage: "set how many webservers there shall be; without a flag: build and terminate what is due (the cron tick)",
		Description: `EXAMPLES:
   adt scale                          what cron runs: build what is missing, drain what is too much
   adt scale --count 15               15 webservers, shared out over the autoscalers (15 over 3 is 5 each)
   adt scale --count 15 --wait        ... and watch until they all serve
   adt scale --count 4 --autoscaler 2 only autoscaler 2's share
   adt scale --add 3                  3 more than now
   adt scale --count 6 --dry-run      what that would change
   adt scale --dry-run                what the next tick would do here

   A command that comes while a scaling cycle runs is stored and taken next.`,
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "count", Usage: "keep `N` webservers, not counting the initial ones"},
			&cli.IntFlag{Name: "add", Usage: "keep `N` more than now"},
			&cli.IntFlag{Name: "remove", Usage: "keep `N` fewer than now"},
			&cli.IntFlag{Name: "autoscaler", Usage: "set the share of autoscaler `K` alone"},
			&cli.BoolFlag{Name: "wait", Usage: "stay until the whole fleet serves what was asked for"},
			&cli.DurationFlag{Name: "timeout", Value: 30 * time.Minute, Usage: "with --wait: give up after `TIME`"},
			dryRunFlag(), jsonFlag(),
		},
		Action: func(c *cli.Context) error { return runScale(h, c) },
	}
}

func runScale(h *host, c *cli.Context) error {
	sets := 0
	for _, f := range []string{"count", "add", "remove"} {
		if c.IsSet(f) {
			sets++
			if c.Int(f) < 0 {
				return usagef("--%s must not be negative, is %d", f, c.Int(f))
			}
		}
	}
	switch {
	case sets > 1:
		return usagef("--count, --add and --remove exclude each other")
	case sets == 0 && c.IsSet("autoscaler"):
		return usagef("--autoscaler goes with --count, --add or --remove")
	case c.Bool("wait") && c.Bool("dry-run"):
		return usagef("--wait and --dry-run exclude each other")
	case c.IsSet("timeout") && !c.Bool("wait"):
		return usagef("--timeout goes with --wait")
	}
	s, err := h.open(c)
	if err != nil {
		return err
	}
	if sets == 0 && !c.Bool("wait") {
		return scaleTick(h, c, s)
	}
	if sets > 0 {
		if err := setProfile(h, c, s); err != nil {
			return err
		}
	}
	if !c.Bool("wait") {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
	defer cancel()
	return waitForFleet(ctx, h, s)
}

// scaleTick is what cron runs.
func scaleTick(h *host, c *cli.Context, s *site) error {
	var report autoscaler.Report
	var err error
	if c.Bool("dry-run") {
		report, err = s.ScalePlan(c.Context)
	} else {
		report, err = onShards(c.Context, s, func(ctx context.Context, s *site) (autoscaler.Report, error) { return s.Scale(ctx) })
	}
	s.logQuota()
	if err != nil {
		return err
	}
	switch {
	case c.Bool("json"):
		shown := struct {
			autoscaler.Report
			Cost *cost `json:"cost,omitempty"` // of a dry run: what it would change
		}{Report: report}
		if c.Bool("dry-run") {
			if shown.Cost, err = s.costOfChange(c.Context, grows(report.Actions)); err != nil {
				return err
			}
		}
		if err := printJSON(h.env.Stdout, shown); err != nil {
			return err
		}
	case c.Bool("dry-run"):
		printPlan(h.env.Stdout, s, report)
		fmt.Fprint(h.env.Stdout, s.describeChange(c.Context, grows(report.Actions)))
	}
	if c.Context.Err() != nil {
		return c.Context.Err()
	}
	if report.Held {
		return errHeldBack
	}
	return nil
}

func printPlan(w io.Writer, s *site, r autoscaler.Report) {
	fmt.Fprintf(w, "autoscaler %d: %d builds and %d terminations in progress\n", s.Shard, r.Builds, r.Ends)
	if len(r.Actions) == 0 {
		fmt.Fprintln(w, "nothing else is due")
	}
	for _, a := range r.Actions {
		what := strings.TrimSpace(strings.Join([]string{string(a.Kind), a.Name, string(a.Reason)}, " "))
		fmt.Fprintf(w, "  %-40s %s\n", what, a.Why)
	}
}

// share is the change of one autoscaler's profile.
type share struct {
	Autoscaler int  `json:"autoscaler"`
	Before     *int `json:"before"` // null: there was none
	After      int  `json:"after"`
}

// setProfile works out every autoscaler's share, refuses what exceeds a
// maximum, and stores the new profiles.
func setProfile(h *host, c *cli.Context, s *site) error {
	shares, err := readShares(c.Context, s)
	if err != nil {
		return err
	}
	if err := changeShares(c, s, shares); err != nil {
		return err
	}
	if !c.Bool("dry-run") {
		for _, sh := range shares {
			if err := s.Profiles.Set(c.Context, sh.Autoscaler, sh.After); err != nil {
				return err
			}
		}
		s.Record(events.ProfileSet, "", strings.ReplaceAll(strings.TrimSuffix(describe(shares), "\n"), "\n", "; "))
	}
	if c.Bool("json") {
		return printJSON(h.env.Stdout, shares)
	}
	fmt.Fprint(h.env.Stdout, describe(shares))
	if c.Bool("dry-run") {
		more := 0
		for _, sh := range shares {
			more += sh.After
			if sh.Before != nil {
				more -= *sh.Before
			}
		}
		fmt.Fprint(h.env.Stdout, s.describeChange(c.Context, more))
		fmt.Fprintln(h.env.Stdout, "nothing was changed (--dry-run)")
	}
	return nil
}

func readShares(ctx context.Context, s *site) ([]share, error) {
	shares := make([]share, s.cfg.Autoscaler.Count)
	for i := range shares {
		p, _, err := s.Profiles.Get(ctx, i+1)
		if err != nil {
			return nil, err
		}
		shares[i] = share{Autoscaler: i + 1}
		if p != nil {
			shares[i].Before, shares[i].After = &p.Count, p.Count
		}
	}
	return shares, nil
}

// changeShares applies the flags to the shares. It drops none: --autoscaler
// leaves the others as they are.
func changeShares(c *cli.Context, s *site, all []share) error {
	changed := all
	if c.IsSet("autoscaler") {
		k := c.Int("autoscaler")
		if k < 1 || k > len(all) {
			return usagef("--autoscaler must be 1 to %d (autoscaler.count in %s), is %d", len(all), s.cfg.Path, k)
		}
		changed = all[k-1 : k]
	}
	total := 0
	for _, sh := range changed {
		total += sh.After
	}
	switch {
	case c.IsSet("count"):
		total = c.Int("count")
	case c.IsSet("add"):
		total += c.Int("add")
	case c.Int("remove") > total:
		return usagef("--remove %d: the profile is %d", c.Int("remove"), total)
	default:
		total -= c.Int("remove")
	}
	most := s.cfg.Autoscaler.MaxWebservers
	if total > most*len(changed) {
		return usagef("%d webservers are too many: %d autoscalers × %d each (autoscaler.max_webservers) is %d", total, len(changed), most, most*len(changed))
	}
	for i, n := range autoscaler.Split(total, len(changed)) {
		changed[i].After = n
	}
	return nil
}

func describe(shares []share) string {
	var b strings.Builder
	total := 0
	for _, sh := range shares {
		before := "none"
		if sh.Before != nil {
			before = fmt.Sprint(*sh.Before)
		}
		fmt.Fprintf(&b, "autoscaler %d: %s → %d\n", sh.Autoscaler, before, sh.After)
		total += sh.After
	}
	fmt.Fprintf(&b, "fleet: %d webservers, besides the initial ones\n", total)
	return b.String()
}
