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
	"adt/config"
	"adt/events"
	"adt/housekeeping"
	"adt/lock"
)

func housekeepingCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:  "housekeeping",
		Usage: "delete and compress what is old: logs, events, post-mortems, files set aside (cron runs it once a day)",
		Description: `EXAMPLES:
   adt housekeeping             what cron runs
   adt housekeeping --dry-run   what is due, and why
   adt housekeeping --boot      what cron runs at @reboot: markers of builds that nobody does

   How long what is kept is in the section [housekeeping] of adt.toml. An address is deleted from
   the datastore only if it was ours and a fresh listing has not had it for
   housekeeping.addresses_after; a listing that fails or is empty deletes none.`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "boot", Usage: "after a boot: only markers that no record belongs to"},
			dryRunFlag(), jsonFlag(),
		},
		Action: func(c *cli.Context) error { return runHousekeeping(h, c) },
	}
}

// tidied is what housekeeping --json prints.
type tidied struct {
	Actions   []housekeeping.Action `json:"actions"`
	Markers   []string              `json:"markers"`        // removed from the runtime directory
	Addresses []string              `json:"addresses"`      // keys deleted from the datastore
	Left      string                `json:"left,omitempty"` // why no address could be taken to be gone
	DryRun    bool                  `json:"dry_run"`
}

func runHousekeeping(h *host, c *cli.Context) error {
	s, err := h.openAnywhere(c)
	if err != nil {
		return err
	}
	dry, boot := c.Bool("dry-run"), c.Bool("boot")
	if !dry {
		release, err := lock.Try(s.Dir.Path("housekeeping.lock"), time.Now())
		if err != nil {
			return err
		}
		defer release()
	}
	out := tidied{Actions: []housekeeping.Action{}, Markers: []string{}, Addresses: []string{}, DryRun: dry}
	var errs []error
	if !boot {
		errs = append(errs, s.tidyFiles(&out, dry, h.step))
	}
	if s.Shard > 0 {
		errs = append(errs, s.tidyMarkers(&out, dry, boot))
	}
	if s.Shard > 0 && !boot {
		errs = append(errs, s.tidyAddresses(c.Context, &out, dry))
	}
	if !dry {
		s.tellTidied(out)
	}
	switch {
	case c.Bool("json"):
		err = printJSON(h.env.Stdout, out)
	case dry || terminal(h.env.Stdout):
		printTidied(h.env.Stdout, out)
	}
	return recorded(err, errors.Join(errs...), dry)
}

func limitsOf(cfg *config.Config) housekeeping.Limits {
	k := cfg.Housekeeping
	return housekeeping.Limits{
		Compress: k.CompressAfter.Std(), Logs: k.KeepLogs.Std(), History: k.KeepHistory.Std(), PostMortems: k.KeepPostMortems.Std(),
		Corrupt: k.KeepCorrupt.Std(), Guests: k.KeepGuests.Std(), PostMortemBytes: int64(k.MaxPostMortemsMiB) << 20,
	}
}

// tidyFiles does what is due, one after the other: what fails keeps nothing else.
func (s *site) tidyFiles(out *tidied, dry bool, step func(string)) error {
	items, err := housekeeping.Survey(s.cfg.LogDir(), s.cfg.RuntimeDir())
	if err != nil && !dry {
		s.Record(events.HousekeepingFailed, "", oneLine(err))
	}
	due := housekeeping.Plan(time.Now(), items, limitsOf(s.cfg))
	if dry {
		out.Actions = append(out.Actions, due...)
		return err
	}
	errs := []error{err}
	for _, action := range due {
		err := housekeeping.Act(action, step)
		switch {
		case errors.Is(err, lock.ErrHeld):
			continue // it is in use after all
		case err != nil:
			errs = append(errs, err)
			s.Record(events.HousekeepingFailed, "", oneLine(err))
			continue
		}
		out.Actions = append(out.Actions, action)
	}
	return errors.Join(errs...)
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func (s *site) tidyMarkers(out *tidied, dry, boot bool) error {
	look := s.DropMarkers
	if dry {
		look = s.StaleMarkers
	}
	markers, err := look(boot)
	if errors.Is(err, lock.ErrHeld) {
		return nil // a scale is at work, and tidies up behind itself
	}
	if err != nil && !dry {
		s.Record(events.HousekeepingFailed, "", oneLine(err))
	}
	out.Markers = append(out.Markers, markers...)
	return err
}

// tidyAddresses is for what nobody else removes. While the provider or the store does
// not answer there is nothing to be done, and the next day comes.
func (s *site) tidyAddresses(ctx context.Context, out *tidied, dry bool) error {
	after := s.cfg.Housekeeping.AddressesAfter.Std()
	if after == 0 {
		return nil
	}
	keys, err := s.ForgetGone(ctx, after, dry)
	out.Addresses = append(out.Addresses, keys...)
	switch {
	case errors.Is(err, autoscaler.ErrNoAgreement):
		out.Left = err.Error()
		return nil // the ticks say so where it lasts
	case err != nil && !dry:
		s.Record(events.HousekeepingFailed, "", oneLine(err))
	}
	return err
}

// tellTidied records what was done, if anything was.
func (s *site) tellTidied(out tidied) {
	var deleted, compressed int
	var freed int64
	for _, a := range out.Actions {
		if a.Do == housekeeping.Compress {
			compressed++
			continue
		}
		deleted++
		freed += a.Bytes
	}
	if deleted+compressed+len(out.Markers)+len(out.Addresses) == 0 {
		return
	}
	s.Record(events.Housekeeping, "", fmt.Sprintf("deleted %d files or folders (%s), compressed %d, removed %d markers and %d addresses",
		deleted, kib(freed), compressed, len(out.Markers), len(out.Addresses)))
}

func printTidied(w io.Writer, out tidied) {
	for _, a := range out.Actions {
		fmt.Fprintf(w, "%s %s: %s (%s)\n", a.Do, a.Path, a.Why, kib(a.Bytes))
	}
	for _, m := range out.Markers {
		fmt.Fprintf(w, "delete marker %s: no build has it\n", m)
	}
	for _, a := range out.Addresses {
		fmt.Fprintf(w, "delete address %s from the datastore: its server is gone\n", a)
	}
	if out.Left != "" {
		fmt.Fprintf(w, "addresses in the datastore are left: %s\n", out.Left)
	}
	if len(out.Actions)+len(out.Markers)+len(out.Addresses) == 0 {
		fmt.Fprintln(w, "nothing is due")
	}
}
