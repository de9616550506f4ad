package commands

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"adt/events"
	"adt/lock"
	"adt/rundir"
	"adt/security/logins"
)

func auditCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:  "audit-ssh",
		Usage: "one notice for each address that logs in to this machine for the first time (for cron)",
		Description: `EXAMPLES:
   adt audit-ssh             each new address is a line and an event (SSH_LOGIN_NEW); silent otherwise
   adt audit-ssh --dry-run   who is new, without remembering it
   adt audit-ssh --json | jq -r '.new[].address'

   It reads the journal, /var/log/auth.log and /var/log/wtmp, whichever there are. The
   first run notes who logged in before, in one event. Addresses of firewall.vpc,
   firewall.ssh and audit_ssh.known are never new. runtime/ssh-audit/audit_trail tells
   who came when.`,
		Flags: []cli.Flag{dryRunFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			s, err := h.openLocal(c, c.Command.Name)
			if err != nil {
				return err
			}
			release, err := lock.Try(s.dir.Path("auditlock.file"), time.Now())
			if errors.Is(err, lock.ErrHeld) {
				return toldError{err} // the other one does it
			}
			if err != nil {
				return err
			}
			defer release()
			a := &audit{s, logins.Records{Files: h.env.Root, Journal: logins.Journalctl()}}
			report, err := a.run(c.Context, time.Now(), c.Bool("dry-run"))
			if err := a.show(h, c, report); err != nil {
				return err
			}
			if err != nil && c.Context.Err() == nil {
				return s.fail(h, events.SSHAuditFailed, err)
			}
			return err
		},
	}
}

type audit struct {
	*localSite
	records logins.Records
}

const (
	seenFile   = "ssh-audit/seen.json"
	auditTrail = "ssh-audit/audit_trail"
)

// seen is who has logged in so far.
type seen struct {
	Version   int             `json:"version"`
	Addresses []netip.Addr    `json:"addresses"`
	Position  logins.Position `json:"position"`
}

type auditReport struct {
	First bool       `json:"first"` // the first look: nobody was known before
	New   []loginRow `json:"new"`
}

type loginRow struct {
	Address netip.Addr `json:"address"`
	User    string     `json:"user"`
	How     string     `json:"how,omitempty"`
	Time    time.Time  `json:"time"`
}

func (r loginRow) String() string {
	how := ""
	if r.How != "" {
		how = " by " + r.How
	}
	return fmt.Sprintf("%s logged in from %s%s at %s, an address that was never seen before", r.User, r.Address, how, r.Time.Format(time.RFC3339))
}

// run finds the new addresses, and records each before it is remembered: killed
// in between, it is told twice and not never.
func (a *audit) run(ctx context.Context, now time.Time, dry bool) (auditReport, error) {
	var before seen
	there, err := a.dir.Read(seenFile, &before)
	if err != nil {
		return auditReport{}, err
	}
	trail, err := os.ReadFile(a.dir.Path(auditTrail))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return auditReport{}, fmt.Errorf("reading the audit trail: %w", err)
	}
	all, position, readErr := a.records.Read(ctx, now, before.Position)
	report := auditReport{First: !there, New: news(all, slices.Concat(before.Addresses, addresses(string(trail))), a.known(), now)}
	if dry || ctx.Err() != nil {
		return report, readErr
	}
	if readErr != nil && report.First && len(all) == 0 {
		return report, readErr // so that the first look at what can be read is one
	}
	text := string(trail)
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	var names []string
	for _, row := range report.New {
		before.Addresses = append(before.Addresses, row.Address)
		names = append(names, row.Address.String())
		text += fmt.Sprintf("SSH connection first initiated at %s from IP address %s (%s)\n", row.Time.Format(time.RFC3339), row.Address, strings.TrimSuffix(row.User+", "+row.How, ", "))
		if !report.First {
			a.noteOf(events.SSHLoginNew, row.Address.String(), row.String())
		}
	}
	if report.First {
		a.note(events.SSHAuditBegun, fmt.Sprintf("%d addresses logged in before: %s", len(names), strings.Join(names, ", ")))
	}
	if len(report.New) > 0 {
		if err := a.dir.WriteText(auditTrail, text); err != nil {
			return report, errors.Join(readErr, err)
		}
	}
	return report, errors.Join(readErr, a.dir.Write(seenFile, seen{rundir.Version, before.Addresses, position}))
}

// known are the ranges whose logins are no news.
func (a *audit) known() []netip.Prefix {
	return ranges(slices.Concat(a.cfg.Firewall.VPC, a.cfg.Firewall.SSH, a.cfg.AuditSSH.Known))
}

// news are the first logins from addresses that are neither known nor seen.
func news(all []logins.Login, seen []netip.Addr, known []netip.Prefix, now time.Time) []loginRow {
	rows := []loginRow{}
	for _, l := range all {
		isKnown := slices.ContainsFunc(known, func(p netip.Prefix) bool { return p.Contains(l.From) })
		if isKnown || l.From.IsLoopback() || slices.Contains(seen, l.From) {
			continue
		}
		seen = append(seen, l.From)
		if l.Time.IsZero() {
			l.Time = now.UTC().Truncate(time.Second)
		}
		rows = append(rows, loginRow{l.From, l.User, l.How, l.Time})
	}
	return rows
}

// addresses are those that a trail names, in whatever words: the original's has
// an address alone on a line, or a sentence with it.
func addresses(trail string) []netip.Addr {
	var all []netip.Addr
	for word := range strings.FieldsSeq(trail) {
		if addr, err := netip.ParseAddr(strings.Trim(word, ",;()")); err == nil {
			all = append(all, addr.Unmap().WithZone(""))
		}
	}
	return all
}

func (a *audit) show(h *host, c *cli.Context, r auditReport) error {
	if c.Bool("json") {
		if r.New == nil {
			r.New = []loginRow{}
		}
		return printJSON(h.env.Stdout, r)
	}
	if r.First && !c.Bool("dry-run") {
		return nil // who came before is no news; the event names them
	}
	for _, row := range r.New {
		fmt.Fprintln(h.env.Stdout, row)
	}
	return nil
}
