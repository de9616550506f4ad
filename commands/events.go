package commands

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"adt/events"
)

func eventsCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:  "events",
		Usage: "show what was decided on this autoscaler, and why",
		Description: `EXAMPLES:
   adt events                                  the last 24 hours
   adt events --since 7d --reason STRIKE       strikes of a week
   adt events --since 2026-11-23 --server NAME one webserver's story
   adt events --follow                         as they come, until Ctrl-C
   adt events --json | jq .reason              one JSON object a line`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "since", Value: "24h", Usage: "only from `TIME` on: a length (90m, 7d), a date or an RFC 3339 time"},
			&cli.StringFlag{Name: "server", Usage: "only of the webserver `NAME`"},
			&cli.StringSliceFlag{Name: "reason", Usage: "only with the reason `CODE` (may be repeated)"},
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on with new ones as they come"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error { return runEvents(h, c) },
	}
}

func runEvents(h *host, c *cli.Context) error {
	since, err := parseSince(c.String("since"), time.Now())
	if err != nil {
		return err
	}
	filter := events.Filter{Since: since, Server: c.String("server")}
	for _, r := range c.StringSlice("reason") {
		r := events.Reason(strings.ToUpper(r))
		if !slices.ContainsFunc(events.Meanings(), func(m events.Meaning) bool { return m.Reason == r }) {
			return usagef("--reason: there is no %s; docs/operating.md lists them", r)
		}
		filter.Reasons = append(filter.Reasons, r)
	}
	cfg, err := h.load(c)
	if err != nil {
		return err
	}
	log, err := events.Open(eventsFolder(cfg))
	if err != nil {
		return err
	}
	cursor, err := log.End() // before reading, so that none is missed
	if err != nil {
		return err
	}
	found, err := log.Read(filter)
	if err != nil {
		return err
	}
	if err := printEvents(h.env.Stdout, found, c.Bool("json")); err != nil {
		return err
	}
	for c.Bool("follow") {
		select {
		case <-c.Context.Done():
			return nil // Ctrl-C is how following ends
		case <-time.After(200 * time.Millisecond):
		}
		found, err := cursor.Next(filter)
		if err != nil {
			return err
		}
		if err := printEvents(h.env.Stdout, found, c.Bool("json")); err != nil {
			return err
		}
	}
	return nil
}

func printEvents(w io.Writer, found []events.Event, asJSON bool) error {
	for _, e := range found {
		if asJSON {
			line, err := json.Marshal(e)
			if err != nil {
				return fmt.Errorf("printing an event: %w", err)
			}
			fmt.Fprintf(w, "%s\n", line)
			continue
		}
		server := e.Server
		if server == "" {
			server = "-"
		}
		fmt.Fprintf(w, "%s  %-5s  %-21s  %s  %s\n", e.Time.Local().Format(time.DateTime), e.Level, e.Reason, server, e.Text)
	}
	return nil
}

// parseSince reads a length before now, a date, or a time.
func parseSince(text string, now time.Time) (time.Time, error) {
	if d, err := parseLength(text); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.DateOnly, time.DateTime} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	return time.Time{}, usagef("%q is no time: give a length (90m, 7d), a date (2026-11-23) or an RFC 3339 time", text)
}
