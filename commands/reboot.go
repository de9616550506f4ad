package commands

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"
)

func rebootCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:  "reboot-if-done",
		Usage: "when a scaling cycle took place and no build is left: take commands again and reboot (a cron tick)",
		Description: `EXAMPLES:
   adt reboot-if-done             what cron runs
   adt reboot-if-done --dry-run   say whether it would reboot, and with which command

   The command is reboot.command in the configuration. Nothing else of adt reboots.`,
		Flags: []cli.Flag{dryRunFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			s, err := h.open(c)
			if err != nil {
				return err
			}
			var did string
			if c.Bool("dry-run") {
				did, err = s.RebootPlan()
			} else {
				did, err = s.RebootIfDone(c.Context)
				err = errors.Join(err, endGuestCycles(c.Context, s))
			}
			if err != nil {
				return err
			}
			switch {
			case c.Bool("json"):
				return printJSON(h.env.Stdout, map[string]string{"action": did})
			case c.Bool("dry-run") && did == "":
				fmt.Fprintln(h.env.Stdout, "nothing is due")
			case c.Bool("dry-run"):
				fmt.Fprintln(h.env.Stdout, did)
			}
			return nil
		},
	}
}

// endGuestCycles ends the cycles of shards that were taken over; no reboot
// follows from them.
func endGuestCycles(ctx context.Context, s *site) error {
	shards, err := s.Guests()
	for _, shard := range shards {
		g, openErr := s.guest(shard)
		if openErr != nil {
			err = errors.Join(err, openErr)
			continue
		}
		_, endErr := g.RebootIfDone(ctx)
		err = errors.Join(err, endErr)
	}
	return err
}
