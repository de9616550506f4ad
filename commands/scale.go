package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"adt/autoscaler"
)

func scaleCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:  "scale",
		Usage: "set how many webservers there shall be; without a flag: build and terminate what is due (the cron tick)",
		Description: `EXAMPLES:
   adt scale                          what cron runs: build what is missing, drain what is too much
   adt scale --count 15               15 webservers, shared out over the autoscalers (15 over 3 is 5 each)
   adt scale --count 15 --wait        ... and watch until they all serve; Ctrl-C leaves the fleet at it
   adt scale --count 15 --wait --json | jq .state.reached
   adt scale --count 4 --autoscaler 2 only autoscaler 2's share
   adt scale --add 3                  3 more than now
   adt scale --count 6 --dry-run      what that would change
   adt scale --count 20 --hold 3h     ... and no schedule changes it for three hours
   adt scale --dry-run                what the next tick would do here

   It may be run on any autoscaler, or on the build machine (autoscaler.number = 0).
   Autoscalers that show no sign of life are left out, and said to be.
   A command that comes while a scaling cycle runs is stored and taken next.`,
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "count", Usage: "keep `N` webservers, not counting the initial ones"},
			&cli.IntFlag{Name: "add", Usage: "keep `N` more than now"},
			&cli.IntFlag{Name: "remove", Usage: "keep `N` fewer than now"},
			&cli.IntFlag{Name: "autoscaler", Usage: "set the share of autoscaler `K` alone"},
			&cli.DurationFlag{Name: "hold", Usage: "let no schedule change it for `TIME`; otherwise it holds until a schedule fires next"},
			&cli.BoolFlag{Name: "wait", Usage: "stay until the whole fleet serves what was asked for"},
			&cli.DurationFlag{Name: "timeout", Value: 30 * time.Minute, Usage: "with --wait: give up after `TIME`"},
			dryRunFlag(), jsonFlag(),
		},
		Action: func(c *cli.Context) error { return runScale(h, c) },
	}
}

// shortestHold is as fine as a schedule is.
const shortestHold = time.Minute

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
	case sets == 0 && c.IsSet("hold"):
		return usagef("--hold goes with --count, --add or --remove")
	case c.IsSet("hold") && c.Duration("hold") < shortestHold:
		return usagef("--hold must be at least 1m, is %s", c.Duration("hold"))
	case c.Bool("wait") && c.Bool("dry-run"):
		return usagef("--wait and --dry-run exclude each other")
	case c.IsSet("timeout") && !c.Bool("wait"):
		return usagef("--timeout goes with --wait")
	case c.Duration("timeout") <= 0:
		return usagef("--timeout must be more than 0, such as 30m, is %s", c.Duration("timeout"))
	}
	if sets == 0 && !c.Bool("wait") {
		s, err := h.open(c)
		if err != nil {
			return err
		}
		return scaleTick(h, c, s)
	}
	s, err := h.openAnywhere(c)
	if err != nil {
		return err
	}
	all, err := tellOrRead(h, c, s, sets > 0)
	if err == nil && c.Bool("wait") {
		ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
		defer cancel()
		all.State, err = waitForFleet(ctx, h, s)
	}
	if c.Bool("json") && all.Shares != nil {
		err = errors.Join(printJSON(h.env.Stdout, all), err)
	}
	return err
}

// tellOrRead sets the profile, or reads it where it is only to be waited for.
func tellOrRead(h *host, c *cli.Context, s *site, tell bool) (fleetShares, error) {
	if !tell {
		all, err := readShares(c.Context, s)
		if err == nil {
			all.close()
			all.sum()
		}
		return all, err
	}
	ask, err := askOf(c)
	if err != nil {
		return fleetShares{}, err
	}
	return setProfile(h, c, s, ask)
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
