package commands

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"adt/config"
	"adt/events"
	"adt/lock"
	"adt/security/firewall"
)

func firewallCommand(h *host) *cli.Command {
	yes := &cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "change it without asking; it still wants adt firewall confirm"}
	return &cli.Command{
		Name:  "firewall",
		Usage: "what this machine lets in: set it, look at it, take it off",
		Description: `EXAMPLES:
   adt firewall setup --dry-run   the difference, in the tool's own words
   adt firewall setup             show it, ask, set it, and ask whether you can still log in
   adt firewall setup --yes       without asking; then, from a new login:
   adt firewall confirm           it is good; without this it is taken back after firewall.confirm
   adt firewall status            what holds and what differs; exit 1 when it is not active

   [firewall] in adt.toml says what is let in. All else that comes in is dropped, what
   goes out is not touched, and rules of others stay. A change that would not let in the
   SSH connection it is made on is refused.`,
		Subcommands: []*cli.Command{
			{
				Name: "setup", Usage: "make it what the configuration wants",
				Flags: []cli.Flag{dryRunFlag(), yes, jsonFlag(), &cli.BoolFlag{Name: "boot", Usage: "put back what was confirmed last, if anything (for @reboot)"}},
				Description: `EXAMPLES:
   adt firewall setup --dry-run
   adt firewall setup --yes && ssh root@this-machine adt firewall confirm
   adt firewall setup --boot      from cron, @reboot: nftables and iptables forget at a boot`,
				Action: func(c *cli.Context) error { return h.onFirewall(c, setupFirewall) },
			},
			{
				Name: "status", Usage: "show what holds and what differs", Flags: []cli.Flag{jsonFlag()},
				Description: "EXAMPLES:\n   adt firewall status\n   adt firewall status --json | jq .difference",
				Action:      func(c *cli.Context) error { return h.onFirewall(c, firewallStatus) },
			},
			{
				Name: "check", Usage: "say when it is not active or differs; silent otherwise (for cron)",
				Description: "EXAMPLES:\n   adt firewall check   every minute: an event when it is not active, and what was never confirmed is taken back",
				Action:      func(c *cli.Context) error { return h.onFirewall(c, checkFirewall) },
			},
			{
				Name: "confirm", Usage: "say that a change is good: it stays",
				Description: "EXAMPLES:\n   adt firewall confirm   from a new login, which shows that one is possible",
				Action:      func(c *cli.Context) error { return h.onFirewall(c, confirmFirewall) },
			},
			{
				Name: "rollback", Usage: "take a change that is not confirmed back at once",
				Flags:       []cli.Flag{&cli.BoolFlag{Name: "wait", Hidden: true}},
				Description: "EXAMPLES:\n   adt firewall rollback",
				Action:      func(c *cli.Context) error { return h.onFirewall(c, rollBackFirewall) },
			},
			{
				Name: "reset", Usage: "take adt's rules off: as it was before the first setup",
				Flags:       []cli.Flag{dryRunFlag(), yes},
				Description: "EXAMPLES:\n   adt firewall reset --dry-run\n   adt firewall reset --yes",
				Action:      func(c *cli.Context) error { return h.onFirewall(c, resetFirewall) },
			},
		},
	}
}

// onFirewall opens what the subcommands have in common. What fails is an event,
// which cron mails once an hour; a watcher is told in any case.
func (h *host) onFirewall(c *cli.Context, run func(context.Context, *wall, *cli.Context) error) error {
	s, err := h.openLocal(c, "firewall "+c.Command.Name)
	if err != nil {
		return err
	}
	g := &wall{localSite: s, h: h, run: firewall.System()}
	err = run(c.Context, g, c)
	var usage usageError
	var told toldError
	if err == nil || errors.As(err, &usage) || errors.As(err, &told) || c.Context.Err() != nil {
		return err
	}
	var inactive inactiveError
	switch {
	case errors.As(err, &inactive):
		return g.fail(h, events.FirewallInactive, err)
	case c.Command.Name == "check":
		return g.fail(h, events.FirewallFailed, err)
	}
	g.note(events.FirewallFailed, err.Error())
	return err
}

// inactiveError is what adt firewall check is for.
type inactiveError struct{ error }

// wall is this machine's firewall, and how adt remembers it.
type wall struct {
	*localSite
	h   *host
	run firewall.Run
}

// wanted is the [firewall] of the configuration and the original's file, as
// rules. Nobody could log in with neither of vpc and ssh: that is no firewall.
func (g *wall) wanted() ([]firewall.Rule, error) {
	rules, err := firewallRules(g.cfg)
	if err != nil {
		return nil, err
	}
	if len(g.cfg.Firewall.VPC)+len(g.cfg.Firewall.SSH) == 0 {
		return nil, usagef(`%s says from nowhere that SSH is let in: write [firewall] with vpc = ["10.0.0.0/16"], the private network, or ssh = ["203.0.113.7"], your own address`, g.cfg.Path)
	}
	return rules, nil
}

// firewallRules turns the configuration into rules.
func firewallRules(cfg *config.Config) ([]firewall.Rule, error) {
	f := cfg.Firewall
	s := firewall.Settings{SSHPort: f.SSHPort, VPC: ranges(f.VPC), SSH: ranges(f.SSH), Web: ranges(f.Web), Ping: f.Ping}
	for i, text := range f.Ports {
		changes, err := firewall.ParsePort(text)
		if err != nil {
			return nil, usagef("%s: firewall.ports: entry %d: %w", cfg.Path, i+1, err)
		}
		s.Ports = append(s.Ports, changes...)
	}
	file := path.Join(cfg.RuntimeDir(), "firewallports.dat")
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the original's ports: %w", err)
	}
	changes, err := firewall.ParsePortsFile(string(text))
	if err != nil {
		return nil, usagef("%s: %w", file, err)
	}
	s.Ports = append(s.Ports, changes...)
	return firewall.Wanted(s), nil
}

// ranges reads what the configuration has checked.
func ranges(texts []string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		if p, err := firewall.ParsePrefix(text); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// tool finds the firewall that is at work, or shall be.
func (g *wall) tool(ctx context.Context) (string, firewall.Tool, error) {
	return g.pick(ctx, g.cfg.Firewall.Tool)
}

func (g *wall) pick(ctx context.Context, asked string) (string, firewall.Tool, error) {
	if os.Geteuid() != 0 {
		return "", nil, errors.New("the firewall is root's alone: run adt firewall as root")
	}
	active, err := firewall.Detect(ctx, g.run)
	if err != nil {
		return "", nil, err
	}
	name, err := firewall.Choose(asked, active, firewall.Installed)
	if err != nil {
		return "", nil, err
	}
	t, err := g.named(name)
	return name, t, err
}

func (g *wall) named(name string) (firewall.Tool, error) {
	return firewall.Named(name, g.run, g.h.env.Root)
}

// hold keeps other runs of adt firewall out. They take seconds.
func (g *wall) hold(ctx context.Context) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	release, err = lock.Wait(ctx, g.dir.Path("firewalllock.file"))
	if errors.Is(err, lock.ErrHeld) {
		return nil, fmt.Errorf("another adt firewall is at work and does not end: %s", g.dir.Path("firewalllock.file"))
	}
	return release, err
}

// session is the SSH connection that adt was called on, nil for none. sudo does
// not pass it on, so the processes above are asked as well.
func (g *wall) session() (*firewall.Connection, error) {
	text := g.h.env.Getenv("SSH_CONNECTION")
	for pid := os.Getppid(); text == "" && pid > 1; {
		environ, _ := fs.ReadFile(g.h.env.Root, fmt.Sprintf("proc/%d/environ", pid))
		for entry := range strings.SplitSeq(string(environ), "\x00") {
			if value, ok := strings.CutPrefix(entry, "SSH_CONNECTION="); ok {
				text = value
			}
		}
		stat, err := fs.ReadFile(g.h.env.Root, fmt.Sprintf("proc/%d/stat", pid))
		pid = 0
		if end := bytes.LastIndex(stat, []byte(") ")); err == nil && end >= 0 { // of the program's name, which may hold anything
			var state string
			_, _ = fmt.Sscan(string(stat[end+2:]), &state, &pid)
		}
	}
	if text == "" {
		return nil, nil
	}
	c, err := firewall.ParseConnection(text)
	return &c, err
}

// admits refuses rules that would lock out who sets them.
func (g *wall) admits(rules []firewall.Rule) error {
	c, err := g.session()
	if c == nil || err != nil {
		return err
	}
	if firewall.Admits(rules, c.Client, c.Port) {
		return nil
	}
	if c.Port != g.cfg.Firewall.SSHPort && firewall.Admits(rules, c.Client, g.cfg.Firewall.SSHPort) {
		return usagef("this session came in by port %d, and SSH is let in by port %d: set firewall.ssh_port = %d in %s", c.Port, g.cfg.Firewall.SSHPort, c.Port, g.cfg.Path)
	}
	return usagef("this session comes from %s, which would not be let in any more: add it to [firewall] in %s: ssh = [%s]",
		c.Client, g.cfg.Path, strings.Join(quoted(append(slices.Clone(g.cfg.Firewall.SSH), c.Client.String())), ", "))
}

func quoted(texts []string) []string {
	out := make([]string, len(texts))
	for i, text := range texts {
		out[i] = fmt.Sprintf("%q", text)
	}
	return out
}

// firewallReport is what status --json prints, and setup --json of the change.
type firewallReport struct {
	Tool       string              `json:"tool"`
	Active     bool                `json:"active"`
	Rules      []ruleRow           `json:"rules"`
	Difference firewall.Difference `json:"difference"`
	Pending    *time.Time          `json:"pending,omitempty"` // when an unconfirmed change is taken back
}

type ruleRow struct {
	For   string `json:"for"`
	Rule  string `json:"rule"`
	Holds bool   `json:"holds"`
}

func (g *wall) look(ctx context.Context) (firewallReport, []firewall.Rule, firewall.Tool, error) {
	rules, err := g.wanted()
	if err != nil {
		return firewallReport{}, nil, nil, err
	}
	name, tool, err := g.tool(ctx)
	if err != nil {
		return firewallReport{}, nil, nil, err
	}
	state, err := tool.Read(ctx)
	if err != nil {
		return firewallReport{}, nil, nil, err
	}
	r := firewallReport{Tool: name, Active: state.Active, Rules: []ruleRow{}, Difference: firewall.Compare(tool.Lines(rules), state)}
	base := tool.Lines(nil)
	for _, rule := range rules {
		holds := state.Active
		for _, line := range tool.Lines([]firewall.Rule{rule}) {
			holds = holds && (slices.Contains(base, line) || slices.Contains(state.Lines, line) || slices.Contains(state.Others, line))
		}
		r.Rules = append(r.Rules, ruleRow{rule.For, rule.String(), holds})
	}
	var p pending
	if there, err := g.dir.Read(pendingFile, &p); err != nil {
		return r, nil, nil, err
	} else if there {
		r.Pending = &p.Deadline
	}
	return r, rules, tool, nil
}

func firewallStatus(ctx context.Context, g *wall, c *cli.Context) error {
	r, _, _, err := g.look(ctx)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		err = printJSON(g.h.env.Stdout, r)
	} else {
		printFirewall(g.h.env.Stdout, r)
	}
	if err == nil && !r.Active {
		return toldError{errors.New("the firewall is not active")}
	}
	return err
}

func printFirewall(w io.Writer, r firewallReport) {
	fmt.Fprintf(w, "%s: %s\n", r.Tool, map[bool]string{true: "active", false: "NOT ACTIVE"}[r.Active])
	for _, row := range r.Rules {
		fmt.Fprintf(w, "%-5s  %-4s  %s\n", map[bool]string{true: "ok", false: "LACKS"}[row.Holds], row.For, row.Rule)
	}
	if !r.Difference.None() {
		fmt.Fprintln(w, "not as wanted:")
		printDifference(w, r.Difference)
	}
	if r.Pending != nil {
		fmt.Fprintf(w, "not confirmed: taken back at %s (adt firewall confirm)\n", r.Pending.Format(time.TimeOnly))
	}
}

func printDifference(w io.Writer, d firewall.Difference) {
	for _, group := range []struct {
		sign  string
		lines []string
	}{{"!", d.Problems}, {"+", d.Add}, {"-", d.Remove}} {
		for _, line := range group.lines {
			fmt.Fprintf(w, "  %s %s\n", group.sign, line)
		}
	}
}

func checkFirewall(ctx context.Context, g *wall, _ *cli.Context) error {
	release, err := g.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := g.overdue(ctx); err != nil {
		return err
	}
	if len(g.cfg.Firewall.VPC)+len(g.cfg.Firewall.SSH) == 0 {
		return nil // no firewall is wanted
	}
	r, _, _, err := g.look(ctx)
	if err != nil {
		return err
	}
	if err := g.marks(r.Active); err != nil {
		return err
	}
	switch {
	case !r.Active:
		return inactiveError{fmt.Errorf("%s: %s", r.Tool, strings.Join(r.Difference.Problems, "; "))}
	case !r.Difference.None() && r.Pending == nil:
		g.record(events.FirewallDiffers, fmt.Sprintf("%s: %d rules are missing, %d are too many: adt firewall status", r.Tool, len(r.Difference.Add), len(r.Difference.Remove)))
	}
	return nil
}

// sayYes asks whoever is at the terminal; all but a yes is a no.
func sayYes(ctx context.Context, h *host, question string) bool {
	fmt.Fprint(h.env.Stdout, question)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(h.env.Stdin).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		return false
	case word := <-answer:
		return word == "yes"
	}
}
