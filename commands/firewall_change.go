package commands

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"github.com/urfave/cli/v2"

	"adt/events"
	"adt/rundir"
	"adt/security/firewall"
)

// The records of the firewall: the change that nobody has confirmed yet, and what
// was confirmed last.
const (
	pendingFile   = "firewall-pending.json"
	confirmedFile = "firewall.json"
)

// pending is a change of the firewall that will be taken back.
type pending struct {
	Version  int             `json:"version"`
	ID       string          `json:"id"`
	Tool     string          `json:"tool"`
	Rules    []firewall.Rule `json:"rules"`
	Reset    bool            `json:"reset,omitempty"` // adt's rules were taken off
	Before   string          `json:"before"`          // what Restore brings back
	Deadline time.Time       `json:"deadline"`        // for people
	BootID   string          `json:"boot_id"`
	Uptime   time.Duration   `json:"uptime"` // at the deadline; the wall clock may be set meanwhile
}

// confirmed is the firewall that an operator said is good.
type confirmed struct {
	Version int             `json:"version"`
	Tool    string          `json:"tool"`
	Rules   []firewall.Rule `json:"rules"`
	First   string          `json:"first"` // what was there before the first setup
}

func setupFirewall(ctx context.Context, g *wall, c *cli.Context) error {
	if c.Bool("boot") {
		return bootFirewall(ctx, g)
	}
	out := g.h.env.Stdout
	r, rules, tool, err := g.look(ctx)
	if err != nil {
		return err
	}
	if r.Pending != nil {
		return usagef("a change from before is not confirmed yet: adt firewall confirm, or adt firewall rollback")
	}
	if err := g.admits(rules); err != nil {
		return err
	}
	if c.Bool("json") {
		if err := printJSON(out, r); err != nil {
			return err
		}
	} else if !r.Difference.None() {
		fmt.Fprintf(out, "%s, to be changed:\n", r.Tool)
		printDifference(out, r.Difference)
	}
	if c.Bool("dry-run") {
		if r.Difference.None() && !c.Bool("json") {
			fmt.Fprintf(out, "%s is as wanted\n", r.Tool)
		}
		return nil
	}
	if r.Difference.None() {
		if !c.Bool("json") {
			fmt.Fprintf(out, "%s is as wanted\n", r.Tool)
		}
		g.jails(g.jail(ctx, r.Tool))
		return g.marks(r.Active)
	}
	change := pending{Tool: r.Tool, Rules: rules}
	return g.change(ctx, c, change, "Change it now? Type yes: ", func() error {
		if err := tool.Apply(ctx, rules); err != nil {
			return err
		}
		state, err := tool.Read(ctx)
		if d := firewall.Compare(tool.Lines(rules), state); err == nil && !state.Active {
			err = fmt.Errorf("%s was set and is not active: %s", r.Tool, strings.Join(d.Problems, "; "))
		}
		if err != nil {
			return err
		}
		g.note(events.FirewallSet, fmt.Sprintf("%s lets in %d kinds of connections; taken back in %s unless confirmed", r.Tool, len(rules), g.cfg.Firewall.Confirm))
		g.jails(g.jail(ctx, r.Tool))
		return errors.Join(g.dir.Mark("FIREWALL-INITIALISED"), g.dir.Mark("KNICKERS_ARE_UP"))
	})
}

func resetFirewall(ctx context.Context, g *wall, c *cli.Context) error {
	name, tool, err := g.tool(ctx)
	if err != nil {
		return err
	}
	state, err := tool.Read(ctx)
	if err != nil {
		return err
	}
	var last confirmed
	there, err := g.dir.Read(confirmedFile, &last)
	if err != nil {
		return err
	}
	if last.Tool != name { // it is about another one
		there, last.First = false, ""
	}
	if len(state.Lines) == 0 && !there {
		fmt.Fprintf(g.h.env.Stdout, "%s has nothing of adt\n", name)
		return nil
	}
	fmt.Fprintf(g.h.env.Stdout, "%s, to be taken off:\n", name)
	printDifference(g.h.env.Stdout, firewall.Difference{Remove: state.Lines})
	if c.Bool("dry-run") {
		return nil
	}
	return g.change(ctx, c, pending{Tool: name, Reset: true}, "Take them off now? Type yes: ", func() error {
		if err := tool.Restore(ctx, last.First); err != nil {
			return err
		}
		g.note(events.FirewallReset, name+" is as it was before the first adt firewall setup")
		g.jails(g.unjail(ctx))
		return errors.Join(g.dir.Unmark("KNICKERS_ARE_UP"), g.dir.Unmark("FIREWALL-INITIALISED"), g.dir.Unmark("FIREWALL-ACTIVE"))
	})
}

// change carries a change out, so that it is taken back when nobody confirms it,
// whatever becomes of this process: what was before is recorded, and a process of
// its own waits to bring it back, before anything is changed.
func (g *wall) change(ctx context.Context, c *cli.Context, p pending, question string, do func() error) error {
	able := terminal(g.h.env.Stdin)
	if !c.Bool("yes") {
		if !able {
			return usagef("there is no terminal to ask on: %s --yes, or --dry-run", c.Command.HelpName)
		}
		if !sayYes(ctx, g.h, question) {
			fmt.Fprintln(g.h.env.Stdout, "nothing was changed")
			return nil
		}
	}
	if err := g.begin(ctx, &p, do); err != nil {
		return err
	}
	if p.Reset {
		if tool, err := g.named(p.Tool); err != nil {
			return err
		} else if state, err := tool.Read(ctx); err != nil || !state.Active { // nobody is locked out of what is open
			if err := errors.Join(err, g.confirm(ctx)); err != nil {
				return err
			}
			fmt.Fprintln(g.h.env.Stdout, "taken off: everything is let in")
			return nil
		}
	}
	within := g.cfg.Firewall.Confirm
	if c.Bool("yes") {
		if !c.Bool("json") {
			fmt.Fprintf(g.h.env.Stdout, "changed; it is taken back in %s unless you say, from a new login: adt firewall confirm\n", within)
		}
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, within.Std())
	defer cancel()
	fmt.Fprintf(g.h.env.Stdout, "Changed. Try a new login now; it is taken back in %s, or at once for any other answer.\n", within)
	if sayYes(asking, g.h, "Is it good? Type yes: ") {
		return confirmFirewall(ctx, g, c)
	}
	fmt.Fprintln(g.h.env.Stdout)
	if err := g.takeBack(ctx, p.ID, "the answer was no, or none"); err != nil {
		return err
	}
	fmt.Fprintln(g.h.env.Stdout, "what was before is back")
	return nil
}

// begin records the change, starts who takes it back, and makes it.
func (g *wall) begin(ctx context.Context, p *pending, do func() error) error {
	release, err := g.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	tool, err := g.named(p.Tool)
	if err != nil {
		return err
	}
	if p.Before, err = tool.Save(ctx); err != nil {
		return err
	}
	p.Version, p.ID = rundir.Version, rand.Text()
	if err := g.until(p); err != nil {
		return err
	}
	if err := g.dir.Create(pendingFile, p); errors.Is(err, fs.ErrExist) {
		return usagef("a change from before is not confirmed yet: adt firewall confirm, or adt firewall rollback")
	} else if err != nil {
		return err
	}
	if err := g.watch(ctx); err != nil {
		return errors.Join(err, g.dir.Remove(pendingFile))
	}
	if err := do(); err != nil {
		back := context.WithoutCancel(ctx)
		if undo := g.restore(back, *p, "the change failed"); undo != nil {
			return fmt.Errorf("%w; and it could not be taken back: %w", err, undo)
		}
		return fmt.Errorf("%w; what was before is back", err)
	}
	// The change may have taken long: the time to confirm it begins now.
	return errors.Join(g.until(p), g.dir.Write(pendingFile, p))
}

// until sets the deadline of a change.
func (g *wall) until(p *pending) error {
	now, err := g.h.env.Clocks()
	if err != nil {
		return err
	}
	within := g.cfg.Firewall.Confirm.Std()
	p.BootID, p.Deadline, p.Uptime = now.BootID, now.Wall.Add(within), now.Uptime+within
	return nil
}

// watch starts the process that takes the change back at the deadline, in a
// session of its own: it outlives this one, and the connection it is on. It has
// begun to wait when watch returns.
func (g *wall) watch(ctx context.Context) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("starting the roll-back: %w", err)
	}
	cmd := exec.Command(program, "--config", g.cfg.Path, "firewall", "rollback", "--wait")
	cmd.Dir, cmd.Env = "/", append(os.Environ(), "HOME="+g.cfg.Home) // adt install looks after another user's home
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	ready, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("starting the roll-back: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the roll-back: %w", err)
	}
	go cmd.Wait() //nolint:errcheck // it is not waited for: it goes on when this process has ended
	said := make(chan error, 1)
	go func() {
		_, err := bufio.NewReader(ready).ReadString('\n')
		said <- err
	}()
	select {
	case err = <-said:
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(time.Minute):
		err = errors.New("it does not say that it waits")
	}
	if err != nil {
		_ = cmd.Process.Kill()
		return fmt.Errorf("starting the roll-back: %w", err)
	}
	return nil
}

func rollBackFirewall(ctx context.Context, g *wall, c *cli.Context) error {
	var p pending
	there, err := g.dir.Read(pendingFile, &p)
	if err != nil {
		return err
	}
	waits := c.Bool("wait")
	if !there {
		if waits {
			return errors.New("nothing waits for a confirmation")
		}
		return usagef("nothing waits for a confirmation, so there is nothing to take back")
	}
	if waits {
		return g.wait(ctx, p.ID)
	}
	if err := g.takeBack(ctx, p.ID, "an operator took it back"); err != nil {
		return err
	}
	fmt.Fprintln(g.h.env.Stdout, "what was before is back")
	return nil
}

// wait takes that change back when nobody has confirmed it at its deadline, or
// when the process is told to end before. It has no terminal, so nobody hangs up
// on it.
func (g *wall) wait(ctx context.Context, id string) error {
	signal.Ignore(syscall.SIGHUP)
	fmt.Fprintln(g.h.env.Stdout, "waiting")
	if out, ok := g.h.env.Stdout.(*os.File); ok {
		_ = out.Close() // whoever started it may have ended: nobody reads on
	}
	if !g.stillPending(ctx, id) {
		return nil
	}
	if ctx.Err() != nil {
		return g.takeBack(ctx, id, "the process that waits for its confirmation was told to end")
	}
	return g.takeBack(ctx, id, fmt.Sprintf("nobody confirmed it within %s", g.cfg.Firewall.Confirm))
}

// takeBack takes that change back, if it was neither confirmed nor taken back
// meanwhile. The end of the process is no reason to leave it half done.
func (g *wall) takeBack(ctx context.Context, id, why string) error {
	ctx = context.WithoutCancel(ctx)
	release, err := g.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	var p pending
	if there, err := g.dir.Read(pendingFile, &p); err != nil || !there || p.ID != id {
		return err
	}
	return g.restore(ctx, p, why)
}

// stillPending waits for the deadline, or the end of ctx, and reports whether the
// change is unconfirmed then. It looks at the record every second, where the
// deadline may move, so as not to stay on for nothing.
func (g *wall) stillPending(ctx context.Context, id string) bool {
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		settled, due := g.due(ctx, id)
		if settled {
			return false
		}
		if due {
			return true
		}
		select {
		case <-ctx.Done():
			return true
		case <-look.C:
		}
	}
}

// due reports whether a change is settled, or its deadline has passed. It waits
// while one is being made, after which the deadline is another.
func (g *wall) due(ctx context.Context, id string) (settled, due bool) {
	var p pending
	if there, err := g.dir.Read(pendingFile, &p); err == nil && (!there || p.ID != id) {
		return true, false
	}
	release, err := g.hold(ctx)
	if err != nil {
		return false, false
	}
	defer release()
	if there, err := g.dir.Read(pendingFile, &p); err != nil || !there {
		return err == nil, false
	}
	now, err := g.h.env.Clocks()
	return false, err == nil && now.Uptime >= p.Uptime
}

// restore brings back what was before a change. The record stays when that
// fails: the next adt firewall check tries again.
func (g *wall) restore(ctx context.Context, p pending, why string) error {
	tool, err := g.named(p.Tool)
	if err != nil {
		return err
	}
	if err := tool.Restore(ctx, p.Before); err != nil {
		return err
	}
	if err := g.dir.Remove(pendingFile); err != nil {
		return err
	}
	state, err := tool.Read(ctx)
	if err == nil {
		err = g.marks(state.Active)
	}
	g.note(events.FirewallRolledBack, fmt.Sprintf("%s is as before the change: %s", p.Tool, why))
	return err
}

// overdue takes back what its own process did not: it was killed, or the machine
// was switched off.
func (g *wall) overdue(ctx context.Context) error {
	const slack = 15 * time.Second // for the process whose task it is
	var p pending
	there, err := g.dir.Read(pendingFile, &p)
	if err != nil || !there {
		return err
	}
	now, err := g.h.env.Clocks()
	if err != nil {
		return err
	}
	if now.BootID == p.BootID && now.Uptime < p.Uptime+slack {
		return nil
	}
	return g.restore(ctx, p, "it was not confirmed, and found so later")
}

func confirmFirewall(ctx context.Context, g *wall, _ *cli.Context) error {
	if err := g.confirm(ctx); err != nil {
		return err
	}
	fmt.Fprintln(g.h.env.Stdout, "confirmed: it stays as it is")
	return nil
}

// confirm makes the change that waits for it one that stays.
func (g *wall) confirm(ctx context.Context) error {
	release, err := g.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	var p pending
	there, err := g.dir.Read(pendingFile, &p)
	if err != nil {
		return err
	}
	if !there {
		return usagef("nothing waits for a confirmation: it was confirmed or taken back (adt events)")
	}
	// From here on it is not taken back, whatever happens to the rest.
	if err := g.dir.Remove(pendingFile); err != nil {
		return err
	}
	if p.Reset {
		err = g.dir.Remove(confirmedFile)
	} else {
		err = g.remember(p)
	}
	if err != nil {
		return err
	}
	g.note(events.FirewallConfirmed, p.Tool+" stays as it is")
	tool, err := g.named(p.Tool)
	if err != nil {
		return err
	}
	state, err := tool.Read(ctx)
	if err != nil {
		return err
	}
	return g.marks(state.Active)
}

// remember keeps what was confirmed, for the next boot, and what was before the
// first time, for reset.
func (g *wall) remember(p pending) error {
	var last confirmed
	there, err := g.dir.Read(confirmedFile, &last)
	if err != nil {
		return err
	}
	next := confirmed{Version: rundir.Version, Tool: p.Tool, Rules: p.Rules, First: p.Before}
	if there && last.Tool == p.Tool {
		next.First = last.First
	}
	return g.dir.Write(confirmedFile, next)
}

// bootFirewall puts back what was confirmed last: nobody can be locked out by
// what was good before the boot.
func bootFirewall(ctx context.Context, g *wall) error {
	release, err := g.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := g.overdue(ctx); err != nil {
		return err
	}
	var last confirmed
	if there, err := g.dir.Read(confirmedFile, &last); err != nil || !there {
		return err
	}
	name, tool, err := g.pick(ctx, last.Tool)
	if err != nil {
		return err
	}
	state, err := tool.Read(ctx)
	if err != nil {
		return err
	}
	if state.Active && firewall.Compare(tool.Lines(last.Rules), state).None() {
		return g.marks(true)
	}
	if err := tool.Apply(ctx, last.Rules); err != nil {
		return err
	}
	g.note(events.FirewallSet, fmt.Sprintf("%s: %d rules that were confirmed are back", name, len(last.Rules)))
	return g.marks(true)
}

// marks leaves the original's markers: it is active, and drops by default.
func (g *wall) marks(active bool) error {
	mark := g.dir.Unmark
	if active {
		mark = g.dir.Mark
	}
	return errors.Join(mark("FIREWALL-ACTIVE"), mark("KNICKERS_ARE_UP"))
}

// jail gives fail2ban, where it is installed, a jail for the SSH port.
func (g *wall) jail(ctx context.Context, tool string) error {
	if !g.cfg.Firewall.Fail2ban {
		return nil
	}
	if _, err := fs.Stat(g.h.env.Root, filepath.Dir(firewall.JailPath)); err != nil {
		return nil //nolint:nilerr // it is not installed
	}
	_, errLog := fs.Stat(g.h.env.Root, "var/log/auth.log")
	text := firewall.Jail(tool, g.cfg.Firewall.SSHPort, ranges(slices.Concat(g.cfg.Firewall.VPC, g.cfg.Firewall.SSH)), errLog == nil)
	if is, err := fs.ReadFile(g.h.env.Root, firewall.JailPath); err == nil && string(is) == text {
		return nil
	}
	if err := renameio.WriteFile("/"+firewall.JailPath, []byte(text), 0o644); err != nil {
		return fmt.Errorf("fail2ban's jail: %w", err)
	}
	return g.reloadJails(ctx)
}

// jails tells what went wrong with fail2ban: no reason to go without a firewall.
func (g *wall) jails(err error) {
	if err != nil {
		g.note(events.FirewallFailed, err.Error())
		fmt.Fprintf(g.h.env.Stderr, "adt: %v\n", err)
	}
}

func (g *wall) unjail(ctx context.Context) error {
	err := os.Remove("/" + firewall.JailPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("fail2ban's jail: %w", err)
	}
	return g.reloadJails(ctx)
}

// reloadJails tells a fail2ban that runs.
func (g *wall) reloadJails(ctx context.Context) error {
	if _, err := g.run(ctx, "", "fail2ban-client", "ping"); err != nil {
		return nil //nolint:nilerr // it does not run, and reads the file when it starts
	}
	if _, err := g.run(ctx, "", "fail2ban-client", "reload"); err != nil {
		return fmt.Errorf("fail2ban does not take its jail for the SSH port: %w", err)
	}
	return nil
}
