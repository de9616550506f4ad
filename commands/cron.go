package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"adt/config"
	"adt/cron"
	"adt/events"
)

func cronCommand(h *host) *cli.Command {
	user := &cli.BoolFlag{Name: "user", Usage: "in your own crontab instead of /etc/cron.d/adt"}
	return &cli.Command{
		Name:  "cron",
		Usage: "put adt's lines into this machine's crontab, take them out, and say whether cron runs them",
		Subcommands: []*cli.Command{
			{
				Name:  "print",
				Usage: "show the lines that adt wants cron to have",
				Description: `EXAMPLES:
   adt cron print                 what adt cron install would put into /etc/cron.d/adt
   adt cron print --user          ... into your own crontab`,
				Flags:  []cli.Flag{user},
				Action: func(c *cli.Context) error { return runCronPrint(h, c) },
			},
			{
				Name:  "install",
				Usage: "put adt's lines into /etc/cron.d/adt, or into your own crontab",
				Description: `EXAMPLES:
   adt cron install --dry-run     the lines that would come and go
   adt cron install               /etc/cron.d/adt; as root
   adt cron install --user        your own crontab
   adt cron install --migrate     ... and make comments of the original's lines whose work adt does

   adt's lines are between two marks. What stands around them is yours and stays; settings
   above the marks (MAILTO, PATH, ...) hold for adt too. Once more changes nothing, or brings
   the lines up to date. A command that another line runs already is refused.`,
				Flags: []cli.Flag{user, dryRunFlag(),
					&cli.BoolFlag{Name: "migrate", Usage: "replace the lines of the original's scripts whose work adt does, and say which stay"}},
				Action: func(c *cli.Context) error { return runCronInstall(h, c) },
			},
			{
				Name:  "uninstall",
				Usage: "take adt's lines out again, and nothing else",
				Description: `EXAMPLES:
   adt cron uninstall --dry-run
   adt cron uninstall             out of /etc/cron.d/adt, which goes when nothing else is in it
   adt cron uninstall --user      out of your own crontab`,
				Flags:  []cli.Flag{user, dryRunFlag()},
				Action: func(c *cli.Context) error { return runCronUninstall(h, c) },
			},
			{
				Name:  "check",
				Usage: "say whether cron is at work, has adt's lines, and gets through with them",
				Description: `EXAMPLES:
   adt cron check                 a line for each thing; exit 1 when one is wrong
   adt cron check --json | jq '.[] | select(.ok | not)'

   Wrong are: no cron at work, a line that is missing, changed or there twice, and a command
   that has not succeeded for three of its intervals. It changes nothing.`,
				Flags:  []cli.Flag{jsonFlag()},
				Action: func(c *cli.Context) error { return runCronCheck(h, c) },
			},
		},
	}
}

// cronEntries is what cron shall start, in the order of its lines; root says that
// it does so as root.
func cronEntries(cfg *config.Config, root bool) []cron.Entry {
	const minutely = "* * * * *"
	entries := []cron.Entry{
		{When: minutely, Args: []string{"scale"}, Why: "build what is missing, drain and destroy what is too much"},
		// Not all autoscalers in the same second: they ask one provider.
		{When: minutely, Delay: time.Duration(cfg.Autoscaler.Number) * 10 * time.Second, Args: []string{"healthcheck"},
			Why: "probe the webservers, keep DNS to those that serve; 10 s times the autoscaler's number after the minute"},
		{When: minutely, Args: []string{"reboot-if-done"}, Why: "end a finished cycle, and run reboot.command"},
		{When: minutely, Delay: 40 * time.Second, Args: []string{"notify"}, Why: "mail what the others recorded, if [notify] names somebody"},
		{When: minutely, Args: []string{"monitor"}, Why: "raise an alarm about this machine itself"},
		{When: "30 3 * * *", Args: []string{"housekeeping"}, Why: "compress and delete what is old"},
		{When: cron.Boot, Args: []string{"housekeeping", "--boot"}, Why: "drop the markers of builds that nobody does"},
	}
	if root {
		entries = append(entries,
			cron.Entry{When: minutely, Args: []string{"audit-ssh"}, Why: "tell who logs in to this machine for the first time"},
			cron.Entry{When: "*/10 * * * *", Args: []string{"permissions"}, Quiet: true, Why: "find private files that others may read; an event tells"})
	}
	if root && len(cfg.Firewall.VPC)+len(cfg.Firewall.SSH) > 0 {
		entries = append(entries,
			cron.Entry{When: minutely, Args: []string{"firewall", "check"}, Why: "is the firewall active, and as [firewall] wants it?"},
			cron.Entry{When: cron.Boot, Args: []string{"firewall", "setup", "--boot"}, Why: "put back what a boot made it forget"})
	}
	return entries
}

// cronPlan is what the configuration wants a crontab to hold.
func (h *host) cronPlan(cfg *config.Config, own bool) (cron.Plan, error) {
	if cfg.Autoscaler.Number == 0 {
		return cron.Plan{}, usagef("cron starts nothing on the build machine (autoscaler.number = 0 in %s)", cfg.Path)
	}
	program, err := h.env.Program()
	if err != nil {
		return cron.Plan{}, fmt.Errorf("where adt itself is: %w", err)
	}
	root := own && h.env.Uid == 0 || !own && cfg.Cron.User == "root"
	p := cron.Plan{Program: program, Home: cfg.Home, MailTo: cfg.Cron.MailTo, TimeZone: cfg.Cron.TimeZone, Entries: cronEntries(cfg, root)}
	if cfg.Path != filepath.Join(cfg.Home, "adt.toml") {
		p.Config = cfg.Path
	}
	if !own {
		p.User = cfg.Cron.User
	}
	if _, err := time.LoadLocation(p.TimeZone); err != nil {
		return p, usagef("cron.time_zone: %q is no time zone such as Europe/London", p.TimeZone)
	}
	if err := p.Check(); err != nil {
		return p, usageError{err}
	}
	return p, nil
}

func (h *host) loadCronPlan(c *cli.Context) (*config.Config, cron.Plan, error) {
	cfg, err := h.load(c)
	if err != nil {
		return nil, cron.Plan{}, err
	}
	p, err := h.cronPlan(cfg, c.Bool("user"))
	return cfg, p, err
}

func runCronPrint(h *host, c *cli.Context) error {
	_, p, err := h.loadCronPlan(c)
	if err == nil {
		_, err = io.WriteString(h.env.Stdout, p.Block())
	}
	return err
}

// systemTable is the file of adt in cronFolder.
const systemTable = "adt"

// edit is one table that is to be changed.
type edit struct {
	cron.Table
	text string // what it shall be
	set  func(text string) error
}

// edits says which tables are changed: the own one, and that of the system.
func (h *host) edits(ctx context.Context, all crontabs) (own, system *edit) {
	system = &edit{Table: all.table("/" + cronFolder + "/" + systemTable), set: func(text string) error { return h.env.Crontab.SetSystem(systemTable, text) }}
	system.text = system.Text
	if all.own >= 0 {
		own = &edit{Table: all.tables[all.own], set: func(text string) error { return h.env.Crontab.SetOwn(ctx, text) }}
		own.text = own.Text
	}
	return own, system
}

func runCronInstall(h *host, c *cli.Context) error {
	_, p, err := h.loadCronPlan(c)
	if err != nil {
		return err
	}
	if strings.Contains(p.Program, "/go-build") {
		return usagef("this adt is one of go run and gone after it: go build -o /usr/local/bin/adt . first, and call that")
	}
	all := h.crontabs(c.Context)
	own, system := h.edits(c.Context, all)
	target := system
	if c.Bool("user") {
		target = own
	}
	if own == nil && (c.Bool("user") || c.Bool("migrate")) {
		return all.ownErr
	}
	if err := refuseOthers(p, all, target.Name); err != nil {
		return err
	}
	var migrated []cron.Migrated
	if own != nil {
		text, found := p.Migrate(own.Table)
		if c.Bool("migrate") {
			own.text, migrated = text, found
		} else if text != own.Text {
			return usagef("%s runs the original's scripts, whose work adt would do again: adt cron install --migrate replaces their lines", replacedPlaces(found))
		}
	}
	if target.text, err = cron.Install(target.text, p.Block()); err != nil {
		return fmt.Errorf("%s: %w", target.Name, err)
	}
	// The original's lines go first: for a moment nobody scales, and never both.
	changed, err := h.apply(c.Bool("dry-run"), own, system)
	if err != nil {
		return err
	}
	for _, m := range migrated {
		if m.By != "" {
			fmt.Fprintf(h.env.Stdout, "%s: replaced by %s: %s\n", m.Place(), m.By, m.Text)
		} else {
			fmt.Fprintf(h.env.Stdout, "%s: stays, %s: %s\n", m.Place(), m.Why, m.Text)
		}
	}
	// As the original's crontab has it.
	if own != nil && target == own && regexp.MustCompile(`(?m)^\s*MAILTO\s*=\s*(""|'')?\s*$`).MatchString(own.text) && p.MailTo == "" {
		fmt.Fprintf(h.env.Stdout, "%s: MAILTO is empty, so nobody is mailed what goes wrong; cron.mailto in adt.toml sets it for adt's lines\n", own.Name)
	}
	if changed == 0 {
		fmt.Fprintf(h.env.Stdout, "%s has adt's lines already\n", target.Name)
	}
	if f := examineCron(h); !f.OK && !c.Bool("dry-run") {
		return fmt.Errorf("the lines are in %s, but %s: %s", target.Name, f.Detail, f.Hint)
	}
	return nil
}

// refuseOthers is the error when another line runs one of the commands already.
func refuseOthers(p cron.Plan, all crontabs, target string) error {
	others := p.Others(all.tables, target, all.home)
	if len(others) == 0 {
		return nil
	}
	var places []string
	how := "take that out first"
	for _, j := range others {
		e, _ := p.Entry(j)
		places = append(places, fmt.Sprintf("%s runs adt %s", j.Place(), e.Name()))
		if j.Ours {
			how = "adt cron uninstall takes it out there, with --user out of a crontab of your own"
		}
	}
	return usagef("%s already: %s", strings.Join(places, ", "), how)
}

func replacedPlaces(found []cron.Migrated) string {
	var places []string
	for _, m := range found {
		if m.By != "" {
			places = append(places, m.Place())
		}
	}
	return strings.Join(places, ", ")
}

// apply makes the changes and shows them; those to nothing are left out. When one
// fails, those before it are undone: lines must not go and none come in their place.
func (h *host) apply(dry bool, edits ...*edit) (changed int, err error) {
	var done []*edit
	for _, e := range edits {
		if e == nil || e.text == e.Text {
			continue
		}
		if !dry {
			err = e.set(e.text)
		}
		if err != nil {
			for _, d := range done {
				err = errors.Join(err, d.set(d.Text))
			}
			return 0, err
		}
		done = append(done, e)
	}
	for _, e := range done {
		fmt.Fprintf(h.env.Stdout, "%s:\n%s", e.Name, cron.Diff(e.Text, e.text))
	}
	return len(done), nil
}

func runCronUninstall(h *host, c *cli.Context) error {
	all := h.crontabs(c.Context)
	own, target := h.edits(c.Context, all)
	if c.Bool("user") {
		if target = own; own == nil {
			return all.ownErr
		}
	}
	text, err := cron.Remove(target.Text)
	if err != nil {
		return fmt.Errorf("%s: %w", target.Name, err)
	}
	if strings.TrimSpace(text) == "" {
		text = "" // nothing of anybody's
	}
	if target.text = text; text == target.Text || strings.TrimSpace(target.Text) == "" {
		fmt.Fprintf(h.env.Stdout, "%s has no lines of adt cron install\n", target.Name)
		return nil
	}
	if _, err := h.apply(c.Bool("dry-run"), target); err != nil {
		return err
	}
	if own != nil {
		if lines := cron.Restorable(own.text); len(lines) > 0 {
			fmt.Fprintf(h.env.Stdout, "%s has %d lines of the original that adt made comments of (#replaced by adt#): crontab -e brings them back\n", own.Name, len(lines))
		}
	}
	return nil
}

func runCronCheck(h *host, c *cli.Context) error {
	cfg, p, err := h.loadCronPlan(c)
	if err != nil {
		return err
	}
	findings := h.checkCron(c.Context, cfg, p)
	var bad []string
	for _, f := range findings {
		if !f.OK {
			bad = append(bad, f.What+": "+f.Detail)
		}
	}
	if c.Bool("json") {
		if err := printJSON(h.env.Stdout, findings); err != nil {
			return err
		}
	} else {
		printFindings(h.env.Stdout, findings)
	}
	if len(bad) > 0 {
		h.sayOnce(c.Command.FullName(), events.CronFault, strings.Join(bad, "; "))
		return toldError{errors.New("something is wrong")}
	}
	return nil
}

// checkCron looks at cron, at the lines, and at what became of the runs.
func (h *host) checkCron(ctx context.Context, cfg *config.Config, p cron.Plan) []finding {
	all := h.crontabs(ctx)
	findings := []finding{examineCron(h)}
	if all.ownErr != nil {
		findings = append(findings, wrong("your crontab", "install cron, or see who may use it (/etc/cron.allow)", "%v", all.ownErr))
	}
	jobs := map[string][]cron.Job{}
	for _, j := range p.Others(all.tables, "", all.home) {
		e, _ := p.Entry(j)
		jobs[e.Name()] = append(jobs[e.Name()], j)
	}
	for _, e := range p.Entries {
		what := "adt " + e.Name()
		switch found := jobs[e.Name()]; len(found) {
		case 0:
			findings = append(findings, wrong(what, "adt cron install", "no line runs it for %s", p.Home))
		case 1:
			findings = append(findings, fine(what, "%s, %s", found[0].Place(), found[0].When))
			if e.When != cron.Boot {
				findings = append(findings, h.checkRuns(cfg, e, found[0]))
			}
		default:
			findings = append(findings, wrong(what, "take all but one out", "it is run by %s and %s", found[0].Place(), found[1].Place()))
		}
	}
	return append(findings, h.checkBlocks(cfg, all)...)
}

// checkBlocks compares what adt cron install has written with what it would write
// now.
func (h *host) checkBlocks(cfg *config.Config, all crontabs) (findings []finding) {
	for i, t := range all.tables {
		_, block, _, err := cron.Split(t.Text)
		if err != nil {
			findings = append(findings, wrong(t.Name, "adt cron install writes what belongs there", "%v", err))
		}
		own := i == all.own
		if block == "" || !own && t.Name != "/"+cronFolder+"/"+systemTable {
			continue
		}
		if jobs := (cron.Table{Owner: t.Owner, Text: block}).Jobs(); len(jobs) > 0 && jobs[0].Home != cfg.Home {
			continue // another installation's
		}
		hint := "adt cron install"
		if own {
			hint += " --user"
		}
		p, err := h.cronPlan(cfg, own)
		if err != nil {
			findings = append(findings, wrong(t.Name, "", "%v", err))
			continue
		}
		if diff := cron.Diff(block, p.Block()); diff != "" {
			findings = append(findings, wrong(t.Name, hint+", when it should not be so", "its lines are not what adt cron print shows: %s", strings.TrimSpace(diff)))
		}
		if !own {
			findings = append(findings, h.checkMode(t.Name)...)
		}
	}
	return findings
}

// checkMode finds what makes cron pass over a file without a word.
func (h *host) checkMode(name string) []finding {
	info, err := fs.Stat(h.env.Root, strings.TrimPrefix(name, "/"))
	folder, folderErr := fs.Stat(h.env.Root, cronFolder)
	if err != nil || folderErr != nil {
		return nil // it was read a moment ago
	}
	if info.Mode().Perm()&0o022 != 0 {
		return []finding{wrong(name, "chmod 644 "+name, "others may write it (mode %04o), so cron does not read it", info.Mode().Perm())}
	}
	of, ok := info.Sys().(*syscall.Stat_t)
	root, known := folder.Sys().(*syscall.Stat_t)
	if ok && known && of.Uid != root.Uid {
		return []finding{wrong(name, "chown root: "+name, "it belongs to user %d, so cron does not read it", of.Uid)}
	}
	return nil
}

// changed is when a job's table was changed last. The users' own cannot be looked at
// one by one.
func (h *host) changed(j cron.Job) time.Time {
	name, ok := strings.CutPrefix(j.Table, "/")
	if !ok {
		name = "var/spool/cron/crontabs"
	}
	info, err := fs.Stat(h.env.Root, name)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// checkRuns finds a command that has not succeeded for three intervals of its line.
func (h *host) checkRuns(cfg *config.Config, e cron.Entry, j cron.Job) finding {
	what := e.Name() + " runs"
	interval, err := cron.Interval(j.When)
	if err != nil {
		return wrong(what, "write minute hour day month weekday", "%v", err)
	}
	last := runsFolder(cfg.RuntimeDir()).Last(e.Name())
	limit := 3*interval + e.Delay + cfg.Scale.Budget.Std() // no run need take longer than the budget
	now := time.Now()
	if since := now.Sub(last.Succeeded); !last.Succeeded.IsZero() && since <= limit {
		return fine(what, "the last one that succeeded ended %s ago, after %s", since.Round(time.Second), last.Ended.Sub(last.Started).Round(time.Millisecond))
	}
	young := func(since time.Duration) bool { return since >= 0 && since <= limit }
	if instant, err := h.env.Clocks(); err == nil && young(instant.Uptime) {
		return fine(what, "this machine has booted %s ago", instant.Uptime.Round(time.Second))
	}
	if last.Begun.IsZero() && young(now.Sub(h.changed(j))) {
		return fine(what, "none yet, and the line is new")
	}
	text := "none has ever succeeded"
	if !last.Succeeded.IsZero() {
		text = fmt.Sprintf("none has succeeded for %s, and three intervals are %s", now.Sub(last.Succeeded).Round(time.Second), limit.Round(time.Second))
	}
	switch {
	case last.Begun.IsZero() || now.Sub(last.Begun) > limit:
		return wrong(what, "cron does not start it: see what cron logs (journalctl -u cron, /var/log/syslog), and whether the line's user and program are there", "%s; none has begun", text)
	case last.Begun.After(last.Ended):
		return wrong(what, fmt.Sprintf("is one stuck? see adt events --since 1h, and ps for adt %s", e.Name()), "%s; one began %s ago and has not ended", text, now.Sub(last.Begun).Round(time.Second))
	}
	return wrong(what, fmt.Sprintf("call adt %s by hand, and see adt events --since 1h", e.Name()), "%s; the last one ended %s ago with exit code %d", text, now.Sub(last.Ended).Round(time.Second), last.Exit)
}
