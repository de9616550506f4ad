// Package commands is adt's command line: it turns flags into options, picks
// the drivers that the configuration names, and shows results. It is the only
// package that knows urfave/cli and the only one that imports vendors. It
// decides nothing about the fleet.
package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"adt/autoscaler"
	"adt/lock"
	"adt/monitor"
	"adt/rundir"
)

// Version is what adt --version says.
const Version = "0.1.0"

// Env is all that a run takes from the process around it.
type Env struct {
	Args     []string // with the program's name first
	Stdin    io.Reader
	Stdout   io.Writer
	Stderr   io.Writer
	Getenv   func(string) string
	Hostname string
	Clocks   func() (rundir.Instant, error)
	Root     fs.FS // the machine's files, to be read only
	Crontab  Crontab
	Uid      int                    // of the user
	Program  func() (string, error) // where this adt is
	// DiskUsage and ClockUnsynced are what adt monitor asks the kernel.
	DiskUsage     func(path string) (monitor.Usage, error)
	ClockUnsynced func() (bool, error)
	// Command runs a program of the system to its end.
	Command func(ctx context.Context, name string, args ...string) error
	// Base is what stands before the paths that adt install changes; "" is nothing.
	Base string
	// Exec turns this process into another program.
	Exec func(path string, args, environment []string) error
	// Addresses are those of this machine.
	Addresses func() ([]netip.Addr, error)
	// Dial, where set, is the way to the machines in place of the network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Step, where set, is called around every step that changes something;
	// tests end the process there.
	Step func(string)
}

// System is the environment of a real process.
func System() Env {
	host, _ := os.Hostname()
	return Env{Args: os.Args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Hostname: host,
		Clocks: rundir.ReadClocks, Root: os.DirFS("/"), Crontab: systemCrontab{}, Uid: os.Geteuid(), Program: os.Executable, Addresses: readAddresses,
		Exec: syscall.Exec, Command: runProgram, DiskUsage: monitor.DiskUsage, ClockUnsynced: monitor.ClockUnsynced}
}

// readAddresses returns the addresses of this machine's interfaces, without those
// that containers and virtual machines on it have.
func readAddresses() ([]netip.Addr, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("reading this machine's addresses: %w", err)
	}
	var all []netip.Addr
	for _, i := range interfaces {
		inside := slices.ContainsFunc([]string{"docker", "veth", "br-", "virbr", "cni", "podman"}, func(p string) bool { return strings.HasPrefix(i.Name, p) })
		if inside || i.Flags&net.FlagUp == 0 {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			return nil, fmt.Errorf("reading this machine's addresses: %w", err)
		}
		for _, a := range addresses {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				all = append(all, prefix.Addr().Unmap())
			}
		}
	}
	return all, nil
}

// terminal reports whether a person is at that stream.
func terminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Main runs one subcommand and returns the exit code.
func Main(ctx context.Context, env Env) int {
	err := newApp(env).RunContext(ctx, env.Args)
	var told toldError
	if err != nil && !errors.As(err, &told) {
		for line := range strings.SplitSeq(strings.TrimSpace(err.Error()), "\n") { // of each that is joined
			if !strings.HasPrefix(line, " ") { // else it goes on with the one before
				line = "adt: " + line
			}
			fmt.Fprintln(env.Stderr, line)
		}
	}
	return exitCode(ctx, err)
}

func newApp(env Env) *cli.App {
	h := &host{env: env}
	app := &cli.App{
		Name:      "adt",
		Usage:     "keeps a fleet of webservers at the size that was asked for",
		UsageText: "adt [--config FILE] COMMAND [flags]",
		Version:   Version,
		Writer:    env.Stdout,
		ErrWriter: env.Stderr,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "read the configuration from `FILE` (default: $ADT_CONFIG, ~/adt.toml, /etc/adt/adt.toml)"},
		},
		Description: "Run from cron every minute: scale, healthcheck and reboot-if-done look at the fleet,\n" +
			"do what is due, write down what they did, and exit. Try it without an account: adt demo\n\n" + exitTable,
		// The exit code is decided in one place, see exit.go.
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   onUsageError,
		// The help shows groups in the order of their names.
		Commands: slices.Concat(
			group("Fleet", scaleCommand(h), healthcheckCommand(h), rebootCommand(h), adjustCommand(h), scheduleCommand(h),
				pauseCommand(h), resumeCommand(h), protectCommand(h), unprotectCommand(h), replaceCommand(h)),
			group("Look", statusCommand(h), eventsCommand(h), historyCommand(h), postMortemCommand(h)),
			group("Reach", sshCommand(h), runCommand(h)),
			group("Set up", installCommand(h), uninstallCommand(h), configCommand(h), doctorCommand(h), cronCommand(h), cloudInitCommand(h), manCommand(h), completionCommand(h)),
			group("This machine", notifyCommand(h), monitorCommand(h), housekeepingCommand(h), firewallCommand(h), auditCommand(h), permissionsCommand(h)),
			group("Try", demoCommand(h), localCommand(h), localServerCommand(h)),
		),
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("there is no command %q (adt --help lists them)%s", c.Args().First(), suggest(c))
			}
			return cli.ShowAppHelp(c)
		},
	}
	for _, cmd := range app.Commands {
		harden(cmd)
		attend(h, cmd, cmd.Name)
		for _, sub := range cmd.Subcommands {
			attend(h, sub, cmd.Name+" "+sub.Name)
		}
	}
	app.Commands = append(app.Commands, completeCommand(h)) // not hardened: its words may be flags
	return app
}

// group gives commands a place in the help.
func group(name string, commands ...*cli.Command) []*cli.Command {
	for _, c := range commands {
		c.Category = name
	}
	return commands
}

// attend does to what cron runs what its runs need.
func attend(h *host, cmd *cli.Command, name string) {
	if slices.Contains(crons(), name) {
		watch(h, cmd, name)
		hush(cmd, !terminal(h.env.Stderr))
	}
}

// suggest names a command that begins like the one that was typed.
func suggest(c *cli.Context) string {
	typed := c.Args().First()
	for _, cmd := range c.App.VisibleCommands() {
		if len(typed) >= 2 && strings.HasPrefix(cmd.Name, typed[:2]) {
			return fmt.Sprintf("; did you mean %q?", cmd.Name)
		}
	}
	return ""
}

// onUsageError puts what package flag says into one line that says what would
// be right.
func onUsageError(c *cli.Context, err error, _ bool) error {
	help := "adt --help"
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != c.App.Name {
		help = c.Command.HelpName + " --help"
	}
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		return usagef("there is no flag --%s (%s lists them)", strings.TrimPrefix(name, "-"), help)
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		return usagef("--%s wants a value (%s)", strings.TrimPrefix(name, "-"), help)
	}
	for _, form := range []string{"invalid value %q for flag -%s", "invalid boolean value %q for -%s"} {
		var value, name string
		if n, _ := fmt.Sscanf(text, form, &value, &name); n == 2 && c.Command != nil {
			name = strings.TrimSuffix(name, ":")
			return usagef("--%s: %q is no %s", name, value, wanted(c.Command.Flags, name))
		}
	}
	return usageError{err}
}

// wanted says in words what a flag takes.
func wanted(flags []cli.Flag, name string) string {
	for _, f := range flags {
		if !slices.Contains(f.Names(), name) {
			continue
		}
		switch f.(type) {
		case *cli.IntFlag:
			return "whole number"
		case *cli.DurationFlag:
			return "length of time such as 90s or 30m"
		case *cli.TimestampFlag:
			return "time such as 2026-12-24T12:00:00Z"
		case *cli.BoolFlag:
			return "true or false"
		}
	}
	return "value for it"
}

// harden gives a command and its subcommands what cli leaves open: usage
// errors as ours, and no stray arguments or flags behind arguments, which cli
// would silently ignore.
func harden(cmd *cli.Command) {
	cmd.OnUsageError = onUsageError
	for _, sub := range cmd.Subcommands {
		harden(sub)
	}
	if action := cmd.Action; action != nil && len(cmd.Subcommands) == 0 {
		cmd.Action = func(c *cli.Context) error {
			for _, arg := range c.Args().Slice() {
				if arg == "--" {
					break // what follows is somebody else's
				}
				if strings.HasPrefix(arg, "-") && arg != "-" {
					return usagef("%s: flags come before arguments: put %s first", c.Command.FullName(), arg)
				}
			}
			if cmd.ArgsUsage == "" && c.Args().Present() {
				return usagef("%s takes no argument, got %q", c.Command.FullName(), c.Args().First())
			}
			return action(c)
		}
	}
	if own := cmd.Action; len(cmd.Subcommands) > 0 {
		cmd.Action = func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("%s has no subcommand %q (adt %s --help lists them)", c.Command.FullName(), c.Args().First(), cmd.Name)
			}
			if own != nil {
				return own(c)
			}
			return cli.ShowSubcommandHelp(c)
		}
	}
}

// hush marks what a tick under cron has recorded as an event: that went to
// stderr then, once an hour at most, and is not to be mailed every minute. Other
// commands do not show their events, so all their errors are printed.
func hush(tick *cli.Command, unwatched bool) {
	action := tick.Action
	tick.Action = func(c *cli.Context) error {
		err := action(c)
		var elsewhere *autoscaler.HeldError
		if unwatched && errors.As(err, &elsewhere) {
			return toldError{err}
		}
		for _, recorded := range []error{lock.ErrHeld, autoscaler.ErrNotObserved, autoscaler.ErrImplausible} {
			if unwatched && errors.Is(err, recorded) {
				return toldError{err}
			}
		}
		return err
	}
}

// oneArg returns the single argument of a command.
func oneArg(c *cli.Context, what string) (string, error) {
	if c.NArg() != 1 {
		return "", usagef("%s wants one %s, got %d: %s %s", c.Command.Name, what, c.NArg(), c.Command.HelpName, c.Command.ArgsUsage)
	}
	return c.Args().First(), nil
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print the result as JSON"}
}

func dryRunFlag() cli.Flag {
	return &cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "say what would be done, and do nothing"}
}
