package commands

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"adt/autoscaler"
	"adt/events"
	"adt/provider/local"
)

func demoCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "see it all at work on this machine, without an account, in under two minutes",
		Description: `EXAMPLES:
   adt demo           three autoscalers, 2 + 15 webservers, a broken one, an outage, a scale down
   adt demo --keep    leave it running, and say how to go on by hand
   adt demo --clean   end what a kept or killed demo left behind

   Every webserver is a process with its own loopback address, a real SSH server and a
   real HTTPS server. Nothing leaves the machine. Exit 0 only if all was seen to happen.`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "keep", Usage: "leave the fleet running"},
			&cli.BoolFlag{Name: "clean", Usage: "end a fleet that was left, and remove its files"},
			&cli.StringFlag{Name: "dir", Usage: "put everything into `DIR` (default: adt-demo in the user's cache directory)"},
		},
		Action: func(c *cli.Context) error { return runDemo(h, c) },
	}
}

func runDemo(h *host, c *cli.Context) (err error) {
	if c.Bool("keep") && c.Bool("clean") {
		return usagef("--keep and --clean exclude each other")
	}
	dir, err := demoDir(c.String("dir"))
	if err != nil {
		return err
	}
	st := &stage{dir: dir, out: h.env.Stdout}
	if c.Bool("clean") {
		return st.clean(c.Context)
	}
	if _, err := os.Stat(dir); err == nil {
		return usagef("%s is there already, from an earlier demo: adt demo --clean removes it", dir)
	}
	began := time.Now()
	defer func() {
		if c.Bool("keep") {
			return
		}
		// Also after Ctrl-C: nothing may be left behind.
		err = errors.Join(err, st.clean(context.WithoutCancel(c.Context)))
	}()
	if err := st.build(c.Context); err != nil {
		return err
	}
	stop := st.tick(c.Context)
	defer stop()
	for _, act := range []struct {
		title string
		play  func(context.Context, *stage) error
	}{
		{"two initial webservers, as a build machine makes them", initialWebservers},
		{"adt scale --count 15 --wait, over three autoscalers", scaleUp},
		{"one webserver breaks: it answers HTTP 500", oneBreaks},
		{"autoscaler 1 loses its network", outage},
		{"adt scale --count 6 --wait, drained", scaleDown},
	} {
		fmt.Fprintf(st.out, "\n== %s\n", act.title)
		if err := act.play(c.Context, st); err != nil {
			return fmt.Errorf("demo: %s: %w", act.title, err)
		}
	}
	stop()
	if err := st.summary(); err != nil {
		return err
	}
	fmt.Fprintf(st.out, "\nall of it was seen, in %s\n", time.Since(began).Round(time.Second))
	if c.Bool("keep") {
		st.goOn()
	}
	return nil
}

func demoDir(flag string) (string, error) {
	if flag != "" {
		return filepath.Abs(flag)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", usagef("demo: no place for its files (%v): give --dir", err)
	}
	return filepath.Join(cache, "adt-demo"), nil
}

func initialWebservers(ctx context.Context, st *stage) error {
	for n := 1; n <= 2; n++ {
		if err := st.createInitial(ctx, n); err != nil {
			return err
		}
	}
	if err := st.await(ctx, 20*time.Second, "2 webservers in DNS", func() (bool, error) {
		records, err := st.cloud.AllRecords()
		return len(records) == 2, err
	}); err != nil {
		return err
	}
	st.saw("both pass their health checks and are in DNS")
	return nil
}

func scaleUp(ctx context.Context, st *stage) error {
	if err := st.show(ctx, 1, "scale", "--count", "15", "--wait", "--timeout", "60s"); err != nil {
		return err
	}
	perShard := map[int]int{}
	machines, err := st.cloud.Inspect(ctx)
	if err != nil {
		return err
	}
	for _, m := range machines {
		if n, ok := st.fleet().Parse(m.Name); ok && !n.Initial {
			perShard[n.Shard]++
		}
	}
	if len(machines) != 17 || perShard[1] != 5 || perShard[2] != 5 || perShard[3] != 5 {
		return fmt.Errorf("17 servers, 5 of each autoscaler, should exist: %d do, by autoscaler %v", len(machines), perShard)
	}
	st.saw("17 webservers serve HTTPS: 2 initial, and 5 of each autoscaler")
	return nil
}

func oneBreaks(ctx context.Context, st *stage) error {
	victim, err := st.oneOf(ctx, 2)
	if err != nil {
		return err
	}
	if err := st.show(ctx, 2, "local", "fault", victim.Name, "http=500"); err != nil {
		return err
	}
	for _, reason := range []events.Reason{events.Strike, events.Withdrawn, events.TerminationStart, events.TerminationDone} {
		if err := st.awaitEvent(ctx, 2, reason, victim.Name, 1); err != nil {
			return err
		}
	}
	st.saw("%s got its strikes, left DNS and was destroyed", victim.Name)
	if err := st.show(ctx, 2, "scale", "--wait", "--timeout", "30s"); err != nil {
		return err
	}
	st.saw("a new one was built in its place: 17 serve again")
	return nil
}

// outage cuts autoscaler 1 off, wholly and then from its webservers alone, and
// holds the cloud's own record against it: it may destroy nothing. The others
// see what they see: a machine too slow for their probes has them act, rightly.
func outage(ctx context.Context, st *stage) error {
	before, err := st.cloud.Audit(ctx)
	if err != nil {
		return err
	}
	cut := func(what string, reason events.Reason, runs int) error {
		if err := st.show(ctx, 1, "local", "outage", "--of", "1", what); err != nil {
			return err
		}
		return st.awaitNewEvents(ctx, 1, reason, runs)
	}
	if err := cut("all", events.ObservationFailed, 4); err != nil {
		return err
	}
	st.saw("the provider does not answer: four runs planned nothing")
	own := 0
	machines, err := st.cloud.Inspect(ctx)
	if err != nil {
		return err
	}
	for _, m := range machines {
		if n, ok := st.fleet().Parse(m.Name); ok && n.Shard == 1 {
			own++
		}
	}
	if err := cut("dial", events.BrakeSelfCheck, 3*own); err != nil {
		return err
	}
	st.saw("the provider answers and no webserver does: the brake held for three runs")
	if err := st.show(ctx, 1, "local", "outage", "--of", "1", "none"); err != nil {
		return err
	}
	after, err := st.cloud.Audit(ctx)
	if err != nil {
		return err
	}
	for _, e := range after[len(before):] {
		if e.Client == "1" {
			return fmt.Errorf("autoscaler 1 changed something during its outage: %+v", e)
		}
	}
	st.saw("autoscaler 1 destroyed nothing and took nothing out of DNS")
	if err := st.show(ctx, 1, "scale", "--wait", "--timeout", "30s"); err != nil {
		return err
	}
	st.saw("the network is back, the fleet is as before")
	return nil
}

func scaleDown(ctx context.Context, st *stage) error {
	before, err := st.cloud.Audit(ctx)
	if err != nil {
		return err
	}
	if err := st.show(ctx, 1, "scale", "--count", "6", "--wait", "--timeout", "60s"); err != nil {
		return err
	}
	after, err := st.cloud.Audit(ctx)
	if err != nil {
		return err
	}
	withdrawn := map[string]time.Time{}
	drained := 0
	for _, e := range after[len(before):] {
		switch address := e.Address.String(); e.Op {
		case local.RecordRemoved:
			withdrawn[address] = e.Time
		case local.Destroyed:
			left, ok := withdrawn[address]
			if !ok || e.Time.Sub(left) < demoDrain {
				return fmt.Errorf("%s was destroyed %s after it left DNS, before it was drained", e.Name, e.Time.Sub(left))
			}
			drained++
		}
	}
	if drained != 9 {
		return fmt.Errorf("9 webservers should have gone, %d did", drained)
	}
	st.saw("9 left DNS, were drained for %s and destroyed: 8 serve", demoDrain)
	return nil
}

// summary counts what the three logs of decisions hold.
func (st *stage) summary() error {
	count := map[events.Reason]int{}
	for k := 1; k <= demoAutoscalers; k++ {
		found, err := st.events(k, events.Filter{})
		if err != nil {
			return err
		}
		for _, e := range found {
			count[e.Reason]++
		}
	}
	fmt.Fprintf(st.out, "\n== what the events say\n")
	for _, m := range events.Meanings() {
		if n := count[m.Reason]; n > 0 {
			fmt.Fprintf(st.out, "%5d  %-21s %s\n", n, m.Reason, m.Text)
		}
	}
	for reason, want := range map[events.Reason]int{events.BuildDone: 16, events.TerminationDone: 10} {
		if count[reason] != want {
			return fmt.Errorf("demo: %d events %s, want %d", count[reason], reason, want)
		}
	}
	return nil
}

func (st *stage) goOn() {
	fmt.Fprintf(st.out, `
The fleet is left running. Go on by hand, as autoscaler 1:

   export HOME=%[1]s PATH=%[2]s:$PATH
   adt status
   adt scale --count 9
   while sleep 1; do %[3]s; done &      # what cron does on the three autoscalers
   adt events --follow
   adt local fault NAME crash           # NAME from adt status

and at the end:

   adt demo --clean --dir %[4]s
`, st.home(1), filepath.Join(st.dir, "bin"), filepath.Join(st.dir, "tick"), st.dir)
}

// clean ends all servers and removes all files, of this or an earlier demo.
func (st *stage) clean(ctx context.Context) error {
	if _, err := os.Stat(st.dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	entries, err := os.ReadDir(st.dir)
	if err != nil {
		return fmt.Errorf("demo: cleaning: %w", err)
	}
	for _, e := range entries {
		if !slices.Contains([]string{"bin", "cloud", "datastore", "tick"}, e.Name()) && !strings.HasPrefix(e.Name(), "as") {
			return usagef("%s holds %s, which no demo made: nothing was removed", st.dir, e.Name())
		}
	}
	cloud, err := local.Open(local.Config{Dir: st.cloudDir()})
	if err != nil {
		return fmt.Errorf("demo: cleaning: %w", err)
	}
	if err := cloud.Clean(ctx); err != nil {
		return fmt.Errorf("demo: cleaning: %w", err)
	}
	if err := os.RemoveAll(st.dir); err != nil {
		return fmt.Errorf("demo: cleaning: %w", err)
	}
	return nil
}

func (st *stage) fleet() autoscaler.Fleet {
	return autoscaler.Fleet{Region: demoRegion, Build: demoBuild, User4: autoscaler.User4(demoUser)}
}
