package commands

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"adt/autoscaler"
	"adt/config"
	"adt/events"
	"adt/history"
)

func historyCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:  "history",
		Usage: "draw what the fleet was like: how many were wanted, there, in DNS, being built, failing",
		Description: `EXAMPLES:
   adt history                         the last day, here in the terminal
   adt history --since 7d
   adt history --since 2026-12-01 --until 2026-12-25 --svg december.svg
   adt history --since 30d --csv - | gnuplot ...
   adt history --since 1h --json

   Every health check of an autoscaler adds a sample, at most one a minute, to its
   ~/logs/history; the build machine has none. Profile, schedule, provisioned and published
   are of the whole fleet; building, draining and failing are this autoscaler's own. Several
   autoscalers without leases do not know each other's profiles, and have no such line.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "since", Value: "1d", Usage: "begin `TIME` ago (90m, 36h, 7d), or at a date"},
			&cli.StringFlag{Name: "until", Usage: "end `TIME` ago, or at a date (default: now)"},
			&cli.StringFlag{Name: "svg", Usage: "draw it into `FILE` as SVG"},
			&cli.StringFlag{Name: "png", Usage: "draw it into `FILE` as PNG"},
			&cli.StringFlag{Name: "csv", Usage: "write it to `FILE` as CSV; - is standard output"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error { return runHistory(h, c) },
	}
}

func historyFolder(cfg *config.Config) string { return filepath.Join(cfg.LogDir(), "history") }

// keepHistory adds a sample. That it cannot is no reason for a tick to fail.
func (s *site) keepHistory(f autoscaler.Figures) {
	now := time.Now()
	log, err := history.Open(historyFolder(s.cfg))
	if err == nil {
		f.Scheduled, err = s.scheduledStill(log, f.Scheduled, now)
	}
	if err == nil {
		_, err = log.Add(history.Sample{
			Time: now, Profile: f.Profile, Scheduled: f.Scheduled, Initial: f.Initial, Provisioned: f.Provisioned,
			Published: f.Published, Building: f.Building, Draining: f.Draining, Failing: f.Failing,
		})
	}
	if err != nil {
		s.Record(events.StateFailed, "", err.Error())
	}
}

// scheduledStill is what the schedule set. After an addition nothing but the history
// remembers that once a command has changed the profile.
func (s *site) scheduledStill(log *history.Log, scheduled *int, now time.Time) (*int, error) {
	if s.Schedule == nil {
		return nil, nil
	}
	fired, ok := s.Schedule.Last(now)
	if !ok || fired.Add == nil {
		return scheduled, nil
	}
	last, ok, err := log.Last()
	if err != nil || !ok || last.Scheduled == nil || last.Time.Before(fired.At) {
		return scheduled, err
	}
	return last.Scheduled, nil
}

func runHistory(h *host, c *cli.Context) error {
	cfg, err := h.load(c)
	if err != nil {
		return err
	}
	now := time.Now()
	since, err := moment("since", c.String("since"), now)
	if err != nil {
		return err
	}
	until := now
	if c.IsSet("until") {
		if until, err = moment("until", c.String("until"), now); err != nil {
			return err
		}
	}
	if !since.Before(until) {
		return usagef("--since %s is not before --until", c.String("since"))
	}
	log, err := history.Open(historyFolder(cfg))
	if err != nil {
		return err
	}
	samples, err := log.Read(since, until)
	if err != nil {
		return err
	}
	title := fmt.Sprintf("%s, autoscaler %d: %s to %s", cfg.Website.URL, cfg.Autoscaler.Number, since.UTC().Format("2006-01-02 15:04"), until.UTC().Format("2006-01-02 15:04 MST"))
	wrote := false
	for _, out := range []struct {
		flag  string
		write func(*bytes.Buffer) error
	}{
		{"svg", func(b *bytes.Buffer) error { return history.WriteSVG(b, title, samples, since, until) }},
		{"png", func(b *bytes.Buffer) error { return history.WritePNG(b, title, samples, since, until) }},
		{"csv", func(b *bytes.Buffer) error { return history.WriteCSV(b, samples) }},
	} {
		path := c.String(out.flag)
		if path == "" {
			continue
		}
		wrote = true
		var b bytes.Buffer
		if err := out.write(&b); err != nil {
			return err
		}
		if path == "-" {
			if _, err := h.env.Stdout.Write(b.Bytes()); err != nil {
				return err
			}
		} else if err := renameio.WriteFile(path, b.Bytes(), 0o644); err != nil {
			return fmt.Errorf("--%s %s: %w", out.flag, path, cause(err))
		}
	}
	switch {
	case c.Bool("json"):
		if samples == nil {
			samples = []history.Sample{}
		}
		return printJSON(h.env.Stdout, samples)
	case wrote:
	case len(samples) == 0 && cfg.Autoscaler.Number == 0:
		fmt.Fprintln(h.env.Stdout, "there are no samples on the build machine: adt healthcheck adds them, on each autoscaler; run adt history there")
	case len(samples) == 0:
		fmt.Fprintf(h.env.Stdout, "there are no samples from %s on: each adt healthcheck adds one\n", since.UTC().Format("2006-01-02 15:04 MST"))
	default:
		watched := terminal(h.env.Stdout)
		width := 80
		if f, ok := h.env.Stdout.(*os.File); ok && watched {
			if w, _, err := term.GetSize(int(f.Fd())); err == nil {
				width = w
			}
		}
		fmt.Fprintf(h.env.Stdout, "%s\n%s", title, history.Terminal(samples, since, until, width-8, 12, watched && h.env.Getenv("NO_COLOR") == ""))
	}
	return nil
}

// cause is an error of the file system without the name of a temporary file.
func cause(err error) error {
	var opening *fs.PathError
	var moving *os.LinkError
	switch {
	case errors.As(err, &opening):
		return opening.Err
	case errors.As(err, &moving):
		return moving.Err
	}
	return err
}

// moment reads a length of time before now, days included, or a date.
func moment(flag, text string, now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02T15:04", time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return now, usagef("--%s: %q is neither a length of time such as 36h or 7d nor a date such as 2026-12-01", flag, text)
}
