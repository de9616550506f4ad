package commands

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"adt/autoscaler"
	"adt/healthcheck"
)

func healthcheckCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:  "healthcheck",
		Usage: "probe this autoscaler's webservers, keep DNS to those that serve, replace the dead (a cron tick)",
		Description: `EXAMPLES:
   adt healthcheck             what cron runs
   adt healthcheck --dry-run   probe and judge, show the verdicts, change nothing

   The ladder: TCP, SSH and the online marker, HTTPS status, application config, own
   build not stuck. One failed check takes a webserver out of DNS, two in a row
   terminate it. Brakes hold that back when the fault may be on this side.`,
		Flags:  []cli.Flag{dryRunFlag(), jsonFlag()},
		Action: func(c *cli.Context) error { return runHealthcheck(h, c) },
	}
}

func runHealthcheck(h *host, c *cli.Context) error {
	s, err := h.open(c)
	if err != nil {
		return err
	}
	var report autoscaler.HealthReport
	if c.Bool("dry-run") {
		report, err = s.HealthPlan(c.Context)
	} else {
		report, err = onShards(c.Context, s, func(ctx context.Context, s *site) (autoscaler.HealthReport, error) { return s.Health(ctx) })
		if err == nil {
			s.keepHistory(report.Figures)
			s.run.saw(report.Figures)
		}
	}
	if err != nil {
		return err
	}
	switch {
	case c.Bool("json"):
		err = printJSON(h.env.Stdout, report)
	case c.Bool("dry-run") || terminal(h.env.Stdout):
		err = printVerdicts(h.env.Stdout, report, s.Proxies != nil)
	}
	if err == nil && report.Held {
		return errHeldBack
	}
	return err
}

// public heads the column that says whether visitors come to a webserver.
func public(proxies bool) string {
	if proxies {
		return "IN PROXIES"
	}
	return "IN DNS"
}

func printVerdicts(w io.Writer, r autoscaler.HealthReport, proxies bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "WEBSERVER\tVERDICT\tSTRIKES\t%s\tTOOK\tACTION\tWHY\n", public(proxies))
	for _, c := range r.Checked {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", c.Server, c.State, c.Strikes, yesNo(c.Published), c.Took.Round(time.Millisecond), verdictAction(c.Verdict), c.Why)
	}
	for _, address := range r.Purged {
		fmt.Fprintf(t, "%s\tgone\t\tyes\t\tpurge\tno server has this address\n", address)
	}
	if len(r.Proxies) > 0 {
		fmt.Fprintln(t, "\nPROXY\tVERDICT\tSTRIKES\tIN DNS\tTOOK\tACTION\tWHY")
	}
	for _, c := range r.Proxies {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", c.Name, c.State, c.Strikes, yesNo(c.Published), c.Took.Round(time.Millisecond), verdictAction(c.Verdict), c.Why)
	}
	return t.Flush()
}

func verdictAction(c healthcheck.Verdict) string {
	var do []string
	if c.Publish {
		do = append(do, "publish")
	}
	if c.Withdraw {
		do = append(do, "withdraw")
	}
	if c.End != "" {
		do = append(do, string(c.End))
	}
	if c.Brake != "" {
		do = append(do, "held:"+c.Brake)
	}
	if len(do) == 0 {
		return "-"
	}
	return strings.Join(do, ",")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
