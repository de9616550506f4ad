package commands

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"adt/autoscaler"
	"adt/config"
)

func pauseCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:      "pause",
		Usage:     "put scale, terminate, dns or all on hold on this autoscaler",
		ArgsUsage: "[scale|terminate|dns|all]...",
		Description: `EXAMPLES:
   adt pause --reason "moving the database"            everything, until adt resume
   adt pause --for 2h --reason "looking at ws-…" terminate
   adt resume

   scale       nothing new is built, nothing above the profile goes (builds go on)
   terminate   no server is destroyed
   dns         nothing is published or withdrawn`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "reason", Usage: "why, in `WORDS`; shown by status and in every event that it holds back"},
			&cli.StringFlag{Name: "for", Usage: "resume by itself after `TIME` (30m, 2h, 1d)"},
		},
		Action: func(c *cli.Context) error {
			what, err := pausables(c)
			if err != nil {
				return err
			}
			reason := strings.TrimSpace(c.String("reason"))
			if reason == "" {
				return usagef(`pause wants a reason: adt pause --reason "why" %s`, strings.Join(c.Args().Slice(), " "))
			}
			var length time.Duration
			if c.IsSet("for") {
				if length, err = parseLength(c.String("for")); err != nil || length <= 0 {
					return usagef("--for: %q is no length of time: write 30m, 2h or 1d", c.String("for"))
				}
			}
			s, err := h.open(c)
			if err != nil {
				return err
			}
			if err := s.Pause(c.Context, what, reason, length); err != nil {
				return err
			}
			fmt.Fprintf(h.env.Stdout, "paused: %s\n", strings.Join(what, ", "))
			return nil
		},
	}
}

func resumeCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:      "resume",
		Usage:     "lift pauses, and the stop after failed builds",
		ArgsUsage: "[scale|terminate|dns|all]...",
		Description: `EXAMPLES:
   adt resume                    everything
   adt resume terminate          termination alone
   adt resume --accept-listing   believe the provider that known servers are gone

   --accept-listing is for when somebody deleted many servers by hand and adt holds
   the listing for a lie (LISTING_IMPLAUSIBLE).`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "accept-listing", Usage: "forget known servers that the provider does not list now"},
		},
		Action: func(c *cli.Context) error {
			what, err := pausables(c)
			if err != nil {
				return err
			}
			s, err := h.open(c)
			if err != nil {
				return err
			}
			if c.Bool("accept-listing") {
				gone, err := s.AcceptListing(c.Context)
				if err != nil {
					return err
				}
				fmt.Fprintf(h.env.Stdout, "forgotten: %d servers that the provider does not list\n", len(gone))
				return nil
			}
			lifted, err := s.Resume(c.Context, what)
			if err != nil {
				return err
			}
			if len(lifted) == 0 {
				fmt.Fprintln(h.env.Stdout, "nothing was paused")
				return nil
			}
			fmt.Fprintf(h.env.Stdout, "resumed: %s\n", strings.Join(lifted, ", "))
			return nil
		},
	}
}

// pausables reads what is to be paused or resumed; nothing named is all.
func pausables(c *cli.Context) ([]string, error) {
	all := autoscaler.Pausable()
	if !c.Args().Present() || slices.Contains(c.Args().Slice(), "all") {
		return all, nil
	}
	for _, a := range c.Args().Slice() {
		if !slices.Contains(all, a) {
			return nil, usagef("%s: there is no %q: choose from %s and all", c.Command.Name, a, strings.Join(all, ", "))
		}
	}
	return c.Args().Slice(), nil
}

// parseLength reads a length of time as the configuration does: 90s, 2h, 7d.
func parseLength(text string) (time.Duration, error) {
	var d config.Duration
	err := d.UnmarshalText([]byte(text))
	return d.Std(), err
}

func protectCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:      "protect",
		Usage:     "keep a webserver from ever being terminated",
		ArgsUsage: "NAME",
		Description: `EXAMPLES:
   adt protect ws-lon1-shop-1-agil-x7Qp     it stays, whatever the checks say (a failing one leaves DNS)
   adt unprotect ws-lon1-shop-1-agil-x7Qp`,
		Action: func(c *cli.Context) error { return guard(h, c, true) },
	}
}

func unprotectCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:        "unprotect",
		Usage:       "lift the protection of a webserver",
		ArgsUsage:   "NAME",
		Description: "EXAMPLES:\n   adt unprotect ws-lon1-shop-1-agil-x7Qp",
		Action:      func(c *cli.Context) error { return guard(h, c, false) },
	}
}

func guard(h *host, c *cli.Context, on bool) error {
	name, err := oneArg(c, "webserver's name")
	if err != nil {
		return err
	}
	s, err := h.open(c)
	if err != nil {
		return err
	}
	if n, ok := s.Fleet.Parse(name); !ok || n.Shard != s.Shard {
		return usagef("%s is no webserver of autoscaler %d (adt status lists them)", name, s.Shard)
	}
	if err := s.Protect(c.Context, name, on); err != nil {
		return err
	}
	fmt.Fprintf(h.env.Stdout, "%s: %s\n", name, map[bool]string{true: "protected", false: "not protected"}[on])
	return nil
}

func replaceCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:      "replace",
		Usage:     "replace a webserver: build a new one first, then drain and terminate it",
		ArgsUsage: "NAME",
		Description: `EXAMPLES:
   adt replace ws-lon1-shop-1-agil-x7Qp
   adt replace ws-lon1-shop-1-agil-x7Qp && adt events --follow`,
		Action: func(c *cli.Context) error {
			name, err := oneArg(c, "webserver's name")
			if err != nil {
				return err
			}
			s, err := h.open(c)
			if err != nil {
				return err
			}
			if err := s.Replace(c.Context, name); err != nil {
				return err
			}
			fmt.Fprintf(h.env.Stdout, "%s will be replaced: a new one is built first\n", name)
			return nil
		},
	}
}
