package commands

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/mail"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"adt/config"
	"adt/events"
	"adt/lock"
	"adt/notify"
	"adt/rundir"
)

func notifyCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:  "notify",
		Usage: "tell people what happened since the last run, by mail and webhook (a cron tick)",
		Description: `EXAMPLES:
   adt notify                what cron runs; nothing without [notify] in the configuration
   adt notify --dry-run      what would be told now, and to whom
   adt notify test           send a test message by every way, and say how it went
   adt notify status         what is going on, and what waits to be delivered

   Each matter is told once, again once a day while it goes on, and once when it is
   over. What cannot be delivered is kept in ~/runtime/notify.json and tried again.`,
		Flags:  []cli.Flag{dryRunFlag(), jsonFlag()},
		Action: func(c *cli.Context) error { return runNotify(h, c) },
		Subcommands: []*cli.Command{
			{
				Name:  "test",
				Usage: "send one test message to each recipient now; exit 1 when one does not take it",
				Description: `EXAMPLES:
   adt notify test
   adt notify test --dry-run     who would get it, and through which server`,
				Flags:  []cli.Flag{dryRunFlag(), jsonFlag()},
				Action: func(c *cli.Context) error { return testNotify(h, c) },
			},
			{
				Name:  "status",
				Usage: "show what is going on, and what waits for whom",
				Description: `EXAMPLES:
   adt notify status
   adt notify status --json | jq '.ways[] | select(.error)'`,
				Flags:  []cli.Flag{jsonFlag()},
				Action: func(c *cli.Context) error { return notifyStatus(h, c) },
			},
		},
	}
}

// openNotifier puts together what tells people. It needs no account and no
// datastore: it has to work when those do not.
func (h *host) openNotifier(c *cli.Context) (*notify.Notifier, *config.Config, error) {
	cfg, err := h.load(c)
	if err != nil {
		return nil, nil, err
	}
	to, err := recipients(cfg)
	if err != nil {
		return nil, nil, err
	}
	log, err := events.Open(eventsFolder(cfg))
	if err != nil {
		return nil, nil, err
	}
	s := &site{cfg: cfg, log: log}
	record := s.recorder(h.logger(cfg), terminal(h.env.Stderr), "notify")
	dir, err := rundir.Open(cfg.RuntimeDir(), h.env.Step, func(name, aside string, cause error) {
		record(events.RecordCorrupt, "", fmt.Sprintf("%s was set aside as %s: %v", name, aside, cause))
	})
	if err != nil {
		return nil, nil, err
	}
	instant, err := h.env.Clocks()
	if err != nil {
		return nil, nil, err
	}
	offset, jumped, err := dir.Steady(instant)
	if err != nil {
		return nil, nil, err
	}
	if jumped != 0 {
		record(events.ClockJumped, "", fmt.Sprintf("the wall clock was set by %s; ages are reckoned without that", jumped.Round(time.Second)))
	}
	steady, began := instant.Wall.Add(-offset), time.Now()
	n := cfg.Notify
	return &notify.Notifier{
		Rules: notify.Rules{
			Level: notify.Level(n.Level), PerHour: n.PerHour, Remind: n.Remind.Std(), Lasting: n.Lasting.Std(), Quiet: n.Quiet.Std(),
			Keep: n.Keep.Std(), KeepCount: n.KeepCount,
		},
		Sender:     notify.Sender{Website: cfg.Website.URL, Build: cfg.Autoscaler.Build, Autoscaler: cfg.Autoscaler.Number, Host: h.env.Hostname},
		Recipients: to, Dir: dir, Log: log, Offset: offset, ID: rand.Text, Record: record, Step: h.env.Step,
		Now: func() time.Time { return steady.Add(time.Since(began)).Round(0).UTC() },
	}, cfg, nil
}

// recipients are all who are told.
func recipients(cfg *config.Config) ([]notify.Recipient, error) {
	n := cfg.Notify
	if !n.On() {
		return nil, nil
	}
	roots, err := authorities(n.CA)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s: notify.ca: %w", cfg.Path, err)}
	}
	var all []notify.Recipient
	seen := map[string]bool{}
	for _, m := range mailers(cfg, roots) {
		if !seen[m.To] {
			seen[m.To] = true
			all = append(all, m)
		}
	}
	if !n.Webhook.IsZero() {
		all = append(all, notify.Webhook{URL: n.Webhook.Reveal(), Roots: roots, Timeout: n.Timeout.Std()})
	}
	return all, nil
}

func mailers(cfg *config.Config, roots *x509.CertPool) []notify.Mail {
	m := cfg.Notify.Mail
	var all []notify.Mail
	for _, to := range m.To {
		if address, err := mail.ParseAddress(to); err == nil { // it was checked when it was loaded
			to = address.Address
		}
		all = append(all, notify.Mail{Host: m.Host, Port: m.Port, Security: m.TLS, User: m.User, Password: m.Password.Reveal(),
			From: m.From, To: to, Roots: roots, Timeout: cfg.Notify.Timeout.Std()})
	}
	return all
}

// authorities reads a file of certificates; nil is the system's.
func authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return pool, nil
}

// message is one that was or would be sent.
type message struct {
	To      string       `json:"to"`
	Level   notify.Level `json:"level"`
	Subject string       `json:"subject"`
	Text    string       `json:"text"`
}

func runNotify(h *host, c *cli.Context) error {
	n, cfg, err := h.openNotifier(c)
	if err != nil {
		return err
	}
	if !cfg.Notify.On() {
		if c.Bool("dry-run") || terminal(h.env.Stdout) {
			fmt.Fprintf(h.env.Stdout, "nobody is told: set notify.mail.to or notify.webhook in %s\n", cfg.Path)
		}
		if c.Bool("dry-run") {
			return nil
		}
		return n.Retire()
	}
	if c.Bool("dry-run") {
		return planNotify(h, c, n)
	}
	report, err := n.Run(c.Context)
	switch {
	case errors.Is(err, lock.ErrHeld):
		return err
	case errors.Is(err, notify.ErrUndelivered):
		err = toldError{err} // by an event, which goes to stderr once an hour
	case err != nil && c.Context.Err() == nil:
		n.Record(events.StateFailed, "", err.Error())
		err = toldError{err}
	}
	switch {
	case c.Bool("json"):
		return errors.Join(printJSON(h.env.Stdout, report), err)
	case terminal(h.env.Stdout):
		for _, way := range slices.Sorted(maps.Keys(report.Sent)) {
			fmt.Fprintf(h.env.Stdout, "%s: %s\n", way, report.Sent[way])
		}
	}
	return err
}

// planNotify says what would be told.
func planNotify(h *host, c *cli.Context, n *notify.Notifier) error {
	_, state, _, err := n.Plan()
	if err != nil {
		return err
	}
	all := []message{}
	for _, r := range n.Recipients {
		m := state.Ways[r.Name()].Message
		if m == nil || m.Next.After(n.Now()) {
			continue
		}
		l := n.Letter(*m)
		all = append(all, message{r.Name(), l.Level, l.Subject, l.Text})
	}
	if c.Bool("json") {
		return printJSON(h.env.Stdout, all)
	}
	for _, m := range all {
		fmt.Fprintf(h.env.Stdout, "%s: %s\n   %s\n", m.To, m.Subject, strings.ReplaceAll(strings.TrimSpace(m.Text), "\n", "\n   "))
	}
	if len(all) == 0 {
		fmt.Fprintln(h.env.Stdout, "nothing is to be told now")
	}
	return nil
}

// dry reports whether --dry-run was said, here or before the subcommand.
func dry(c *cli.Context) bool {
	return slices.ContainsFunc(c.Lineage(), func(c *cli.Context) bool { return c.Bool("dry-run") })
}

func testNotify(h *host, c *cli.Context) error {
	n, cfg, err := h.openNotifier(c)
	if err != nil {
		return err
	}
	if len(n.Recipients) == 0 {
		return usagef("nobody is told: set notify.mail.to or notify.webhook in %s", cfg.Path)
	}
	findings := make([]finding, len(n.Recipients))
	var wg sync.WaitGroup
	for i, r := range n.Recipients {
		if dry(c) {
			findings[i] = fine(r.Name(), "would be sent to %s", r.Server())
			continue
		}
		wg.Go(func() {
			err := r.Deliver(c.Context, notify.Trial(n.Sender, n.ID(), time.Now()))
			findings[i] = undelivered(r, err)
			if err == nil {
				findings[i] = fine(r.Name(), "taken by %s", r.Server())
			}
		})
	}
	wg.Wait()
	if err := c.Context.Err(); err != nil {
		return err
	}
	if c.Bool("json") {
		err = printJSON(h.env.Stdout, findings)
	} else {
		printFindings(h.env.Stdout, findings)
	}
	if err == nil && slices.ContainsFunc(findings, func(f finding) bool { return !f.OK }) {
		return toldError{errors.New("a message was not taken")}
	}
	return err
}

// undelivered is the line about a message that was not taken.
func undelivered(r notify.Recipient, err error) finding {
	var failed *notify.DeliveryError
	if errors.As(err, &failed) {
		return wrong(r.Name(), failed.Hint, "%s", failed.Text)
	}
	return wrong(r.Name(), "", "%v", err)
}

// notifying is what adt notify status shows.
type notifying struct {
	Matters []matter  `json:"matters"`
	Ways    []waiting `json:"ways"`
}

type matter struct {
	Reason     events.Reason `json:"reason"`
	Severity   events.Level  `json:"severity"`
	Server     string        `json:"server,omitempty"`
	Autoscaler int           `json:"autoscaler"`
	First      time.Time     `json:"first"`
	Last       time.Time     `json:"last"`
	Count      int           `json:"count"`
	Told       bool          `json:"told"`
	Text       string        `json:"text"`
}

type waiting struct {
	To      string     `json:"to"`
	Server  string     `json:"server"`
	Sent    int        `json:"sent"`    // messages within the last hour
	Waiting int        `json:"waiting"` // notices
	Tries   int        `json:"tries"`   // of the message on its way
	Next    *time.Time `json:"next,omitempty"`
	Error   string     `json:"error,omitempty"`
}

func notifyStatus(h *host, c *cli.Context) error {
	n, cfg, err := h.openNotifier(c)
	if err != nil {
		return err
	}
	state, _, err := n.Load()
	if err != nil {
		return err
	}
	out := notifying{Matters: []matter{}, Ways: []waiting{}}
	for _, m := range state.Matters {
		out.Matters = append(out.Matters, matter{m.Reason, m.Severity, m.Server, m.Autoscaler, m.First.Add(n.Offset), m.Last.Add(n.Offset), m.Count, !m.Told.IsZero(), m.Text})
	}
	for _, r := range n.Recipients {
		w := state.Ways[r.Name()]
		line := waiting{To: r.Name(), Server: r.Server(), Waiting: len(w.Pending)}
		for _, t := range w.Sent {
			if n.Now().Sub(t) < time.Hour {
				line.Sent++
			}
		}
		if m := w.Message; m != nil {
			next := m.Next.Add(n.Offset)
			line.Waiting, line.Tries, line.Next, line.Error = line.Waiting+len(m.Notices), m.Tries, &next, m.Error
		}
		out.Ways = append(out.Ways, line)
	}
	switch {
	case c.Bool("json"):
		return printJSON(h.env.Stdout, out)
	case !cfg.Notify.On():
		fmt.Fprintf(h.env.Stdout, "nobody is told: set notify.mail.to or notify.webhook in %s\n", cfg.Path)
		return nil
	}
	return printNotifying(h.env.Stdout, out)
}

func printNotifying(w io.Writer, s notifying) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(s.Matters) == 0 {
		fmt.Fprintln(t, "nothing is going on")
	} else {
		fmt.Fprintln(t, "GOING ON\tSERVER\tSINCE\tLAST\tTIMES\tTOLD\tLAST SAID")
	}
	for _, m := range s.Matters {
		server := m.Server
		if server == "" {
			server = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", m.Reason, server, m.First.UTC().Format("2006-01-02 15:04"), m.Last.UTC().Format("15:04 MST"), m.Count, yesNo(m.Told), m.Text)
	}
	fmt.Fprintln(t, "\nTO\tTHROUGH\tSENT THIS HOUR\tWAITS\tTRIES\tNEXT TRY\tLAST ERROR")
	for _, l := range s.Ways {
		next, why := "-", "-"
		if l.Next != nil {
			next = l.Next.UTC().Format("15:04:05 MST")
		}
		if l.Error != "" {
			why = l.Error
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%s\t%s\n", l.To, l.Server, l.Sent, l.Waiting, l.Tries, next, why)
	}
	return t.Flush()
}
