package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"adt/autoscaler"
	"adt/remote"
)

func runCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "run a command on a machine of the fleet, or on all of a kind at once",
		ArgsUsage: "webserver|autoscaler|proxy|database [NAME|N] -- COMMAND [ARGUMENT...]",
		Description: `EXAMPLES:
   adt run webserver 2 -- uptime
   adt run --all webserver -- 'df -h / | tail -1'        one word is a line for the shell
   adt run --all webserver -- ls -l 'a file'             several are a command and its arguments
   adt run --all --json webserver -- nginx -v | jq '.[] | select(.ok | not)'

   Lines of several machines are not torn, each has its machine in front. The exit code is
   1 when the command failed anywhere. Host keys are verified as adt ssh does; the
   command gets no standard input.`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "run it on all machines of the kind"},
			&cli.DurationFlag{Name: "timeout", Value: time.Minute, Usage: "how long it may take on a machine, connecting included"},
			&cli.IntFlag{Name: "parallel", Value: 10, Usage: "on how many machines at once, with --all"},
			publicFlag(), dryRunFlag(), jsonFlag(),
		},
		Action: func(c *cli.Context) error { return runRun(h, c) },
	}
}

// ran is how a command ended on one machine.
type ran struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	OK      bool   `json:"ok"`
	Status  *int   `json:"status"` // the exit status; null: there is none, see error
	Error   string `json:"error,omitempty"`
	Stdout  string `json:"stdout"`
	Stderr  string `json:"stderr"`
	Cut     bool   `json:"cut,omitempty"` // there was more than 1 MiB of output
	Took    int64  `json:"took_ms"`
}

func runRun(h *host, c *cli.Context) error {
	machine, command, err := runArguments(c)
	if err != nil {
		return err
	}
	role, err := roleOf("run", machine[0])
	if err != nil {
		return err
	}
	s, err := h.openAnywhere(c)
	if err != nil {
		return err
	}
	all, err := s.targets(c.Context, role, c.Bool("public"))
	if err != nil {
		return err
	}
	chosen := all
	switch {
	case c.Bool("all") && len(all) == 0:
		return usagef("the provider has no machine of the kind %s", role)
	case !c.Bool("all"):
		t, err := h.pick(role, all, machine[1])
		if err != nil {
			return err
		}
		chosen = []target{t}
	}
	if c.Bool("dry-run") {
		fmt.Fprintf(h.env.Stdout, "%s\n", command)
		printTargets(h.env.Stdout, chosen)
		return nil
	}
	r := &runner{site: s, role: role, command: command, timeout: c.Duration("timeout"), asJSON: c.Bool("json"), alone: !c.Bool("all"), stdout: h.env.Stdout, stderr: h.env.Stderr}
	results := r.everywhere(c.Context, chosen, c.Int("parallel"))
	if err := c.Context.Err(); err != nil {
		return err
	}
	return r.report(results)
}

// runArguments takes the arguments apart: the kind and the name of the machine ("" is
// none), and the command as a line for the shell.
func runArguments(c *cli.Context) (machine [2]string, command string, err error) {
	args := c.Args().Slice()
	at := slices.Index(args, "--")
	if at < 0 || at == len(args)-1 {
		return machine, "", usagef("run wants a command after --: adt run webserver -- uptime")
	}
	if at > 2 {
		return machine, "", usagef("run wants a kind of machine and perhaps one name before --, got %q besides", args[2])
	}
	copy(machine[:], args[:at])
	switch {
	case c.Bool("all") && machine[1] != "":
		return machine, "", usagef("--all is all machines: leave %q out, or --all", machine[1])
	case c.Duration("timeout") <= 0:
		return machine, "", usagef("--timeout must be longer than 0s, is %s", c.Duration("timeout"))
	case c.Int("parallel") < 1:
		return machine, "", usagef("--parallel must be at least 1, is %d", c.Int("parallel"))
	}
	words := args[at+1:]
	if len(words) == 1 {
		return machine, words[0], nil
	}
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = shellWord(w)
	}
	return machine, strings.Join(quoted, " "), nil
}

// runner runs one command on machines.
type runner struct {
	*site
	role    autoscaler.Role
	command string
	timeout time.Duration
	asJSON  bool
	alone   bool // on one machine: its output as it is
	stdout  io.Writer
	stderr  io.Writer
	mu      sync.Mutex // of the writers
}

// everywhere returns how it went on each machine, in their order, with at most so
// many at work at once.
func (r *runner) everywhere(ctx context.Context, on []target, most int) []ran {
	width := 0
	for _, t := range on {
		width = max(width, len(t.name))
	}
	results := make([]ran, len(on))
	gate := make(chan struct{}, most)
	var wg sync.WaitGroup
	for i, t := range on {
		wg.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			results[i] = r.on(ctx, t, fmt.Sprintf("%-*s | ", width, t.name))
		})
	}
	wg.Wait()
	return results
}

// on runs it on one machine.
func (r *runner) on(ctx context.Context, t target, prefix string) ran {
	result := ran{Name: t.name, Address: t.address.String()}
	began := time.Now()
	err := func() error {
		key, err := r.hostKey(ctx, r.role, t)
		if err != nil {
			return err
		}
		stdout, stderr, end := r.writers(prefix, &result)
		return errors.Join(r.session(ctx, t, &remote.Dialer{
			User: r.SSH.User, Port: r.SSH.Port, Signer: r.SSH.Signer, SharedHostKey: key,
			ConnectTimeout: min(r.timeout, r.cfg.SSH.ConnectTimeout.Std()), DialContext: r.SSH.DialContext,
		}, stdout, stderr), end())
	}()
	took := time.Since(began)
	result.Took = took.Milliseconds()
	var exit *remote.ExitError
	switch {
	case err == nil:
		result.OK, result.Status = true, new(int)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &exit) && exit.Status == 124 && took >= r.timeout:
		result.Error = fmt.Sprintf("not done within %s (--timeout)", r.timeout)
	case exit != nil:
		result.Status, result.Error = &exit.Status, exit.Error()
	default:
		result.Error = err.Error()
	}
	return result
}

func (r *runner) session(ctx context.Context, t target, dialer *remote.Dialer, stdout, stderr io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	conn, err := dialer.Dial(ctx, t.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Stream(ctx, r.timeout, r.command, stdout, stderr)
}

// writers are where the output of one machine goes; end writes what is left.
func (r *runner) writers(prefix string, result *ran) (stdout, stderr io.Writer, end func() error) {
	switch {
	case r.asJSON:
		var out, errs kept
		return &out, &errs, func() error {
			result.Stdout, result.Stderr, result.Cut = out.String(), errs.String(), out.cut || errs.cut
			return nil
		}
	case r.alone:
		return r.stdout, r.stderr, func() error { return nil }
	}
	out, errs := &lines{mu: &r.mu, to: r.stdout, prefix: prefix}, &lines{mu: &r.mu, to: r.stderr, prefix: prefix}
	return out, errs, func() error { return errors.Join(out.flush(), errs.flush()) }
}

// report says what came of it, on standard error as the output is not adt's.
func (r *runner) report(results []ran) error {
	failed := slices.DeleteFunc(slices.Clone(results), func(one ran) bool { return one.OK })
	if r.asJSON {
		if err := printJSON(r.stdout, results); err != nil {
			return err
		}
	}
	if r.alone {
		if len(failed) > 0 {
			return fmt.Errorf("%s: %s", failed[0].Name, failed[0].Error)
		}
		return nil
	}
	if !r.asJSON {
		fmt.Fprintf(r.stderr, "adt: %s: %d succeeded, %d failed\n", r.role, len(results)-len(failed), len(failed))
		for _, f := range failed {
			fmt.Fprintf(r.stderr, "adt: %s: %s\n", f.Name, f.Error)
		}
	}
	if len(failed) > 0 {
		return toldError{fmt.Errorf("%d of %d failed", len(failed), len(results))}
	}
	return nil
}
