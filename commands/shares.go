package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"adt/autoscaler"
	"adt/events"
	"adt/provider"
)

// ask is what an operator wants changed. Exactly one of count, add and remove
// is set.
type ask struct {
	count, add, remove *int
	autoscaler         int // 0 is the whole fleet
	hold               time.Duration
}

func askOf(c *cli.Context) (ask, error) {
	a := ask{hold: c.Duration("hold")}
	for name, into := range map[string]**int{"count": &a.count, "add": &a.add, "remove": &a.remove} {
		if c.IsSet(name) {
			n := c.Int(name)
			*into = &n
		}
	}
	if c.IsSet("autoscaler") {
		a.autoscaler = c.Int("autoscaler")
		if a.autoscaler < 1 {
			return a, usagef("--autoscaler must be at least 1, is %d", a.autoscaler)
		}
	}
	return a, nil
}

// share is one autoscaler's part of the fleet, and its change.
type share struct {
	Autoscaler int    `json:"autoscaler"`
	Before     *int   `json:"before"`             // null: there was none
	After      *int   `json:"after"`              // null: there still is none
	Absent     string `json:"absent,omitempty"`   // why it does not act itself
	LeftOut    string `json:"left_out,omitempty"` // why it gets nothing of the whole: it is absent
	Error      string `json:"error,omitempty"`    // why it was not told

	tell  bool      // it is to be told
	alive bool      // there is proof: a lease in force, or an answer
	set   time.Time // of the profile
	hold  time.Time // until then no schedule changes it
	store autoscaler.Profiles
}

// want is how many webservers it keeps in the end.
func (s share) want() int {
	if s.After == nil {
		return 0
	}
	return *s.After
}

// fleetShares is all autoscalers with their shares, and the way to tell them. As
// JSON it is what a command prints that sets a profile.
type fleetShares struct {
	Shares []share  `json:"autoscalers"`
	Fleet  int      `json:"fleet"`           // webservers in the end, besides the initial ones
	Notes  []string `json:"notes,omitempty"` // what the operator should know besides
	State  *watched `json:"state,omitempty"` // with --wait: how it was in the end
	// HeldUntil is, with --hold, when schedules may change it again.
	HeldUntil *time.Time `json:"held_until,omitempty"`

	close func()
}

// readShares asks for the profiles of all autoscalers: of as many as are
// configured, or more where the provider has shown more machines.
func readShares(ctx context.Context, s *site) (fleetShares, error) {
	n := max(s.cfg.Autoscaler.Count, s.highest)
	if s.cfg.Datastore.Transport == "ssh" {
		return s.readOverSSH(ctx, n)
	}
	peers, err := s.Peers(ctx, n)
	if err != nil {
		return fleetShares{}, err
	}
	all := fleetShares{Shares: make([]share, n), close: func() {}}
	for i, p := range peers {
		sh := share{Autoscaler: p.Number, store: s.Profiles, hold: p.Hold, alive: p.Number == s.Shard || p.Alive()}
		if p.Profile != nil {
			sh.Before, sh.After, sh.set = &p.Profile.Count, &p.Profile.Count, p.Profile.Set
		}
		if p.Dead() {
			sh.Absent = "no sign of life since " + p.KeptUntil.Add(-s.Lease).UTC().Format("15:04:05 UTC") + ", nobody keeps its webservers yet"
			if p.Keeper != p.Number && p.Keeper != 0 && !p.Now.After(p.KeptUntil) {
				sh.Absent = fmt.Sprintf("no sign of life, autoscaler %d keeps its webservers", p.Keeper)
			}
		}
		all.Shares[i] = sh
	}
	return all, nil
}

func (f *fleetShares) sum() {
	f.Fleet = 0
	for _, sh := range f.Shares {
		f.Fleet += sh.want()
	}
}

func (f fleetShares) sayNotes(h *host) {
	for _, note := range f.Notes {
		fmt.Fprintf(h.env.Stderr, "adt: %s\n", strings.ReplaceAll(note, "\n", "; "))
	}
}

// machines looks for the machines of the autoscalers at the provider. Where it
// knows none, as with machines of another account, none is missing.
func (s *site) machines(ctx context.Context) (map[int]provider.Server, error) {
	finder, ok := bare(s.Servers).(provider.Finder)
	if !ok {
		return nil, nil
	}
	found, err := finder.Find(ctx, func(name string) bool { _, ok := s.Fleet.ParseAutoscaler(name); return ok })
	if err != nil {
		return nil, fmt.Errorf("looking for the autoscalers: %w", err)
	}
	machines := map[int]provider.Server{}
	for _, m := range found {
		k, _ := s.Fleet.ParseAutoscaler(m.Name)
		machines[k] = m
	}
	return machines, nil
}

// setProfile works out every autoscaler's share, refuses what exceeds a
// maximum, and tells each. An error with shares is that not all were told.
func setProfile(h *host, c *cli.Context, s *site, a ask) (fleetShares, error) {
	all, err := s.change(c.Context, a)
	if err != nil {
		return fleetShares{}, err
	}
	defer all.close()
	all.sayNotes(h)
	switch {
	case !c.Bool("dry-run"):
		err = s.tellAll(c.Context, &all, a.hold)
		s.recordProfile(all)
	case a.hold > 0:
		until := time.Now().Add(a.hold)
		all.HeldUntil = &until
	}
	if c.Bool("json") {
		return all, err // printed when all is known
	}
	fmt.Fprint(h.env.Stdout, describe(all))
	if c.Bool("dry-run") {
		more := 0
		for _, sh := range all.Shares {
			more += sh.want()
			if sh.Before != nil {
				more -= *sh.Before
			}
		}
		fmt.Fprint(h.env.Stdout, s.describeChange(c.Context, more))
		fmt.Fprintln(h.env.Stdout, "nothing was changed (--dry-run)")
	}
	return all, err
}

func (s *site) recordProfile(all fleetShares) {
	s.Record(events.ProfileSet, "", strings.ReplaceAll(strings.TrimSuffix(describe(all), "\n"), "\n", "; "))
}

// change works out what each autoscaler gets.
func (s *site) change(ctx context.Context, a ask) (fleetShares, error) {
	var machines map[int]provider.Server
	var notes []string
	if s.cfg.Autoscaler.Count > 1 {
		var err error
		if machines, err = s.machines(ctx); err != nil { // the datastore knows as well who lives
			notes = append(notes, err.Error()+"; the number of autoscalers is that of the configuration")
		}
		for k := range machines {
			s.highest = max(s.highest, k)
		}
	}
	all, err := readShares(ctx, s)
	if err != nil {
		return all, err
	}
	all.Notes = notes
	for i, sh := range all.Shares {
		// A listing may lack what is there: it is no word against a sign of life.
		if _, there := machines[sh.Autoscaler]; len(machines) > 0 && !there && !sh.alive && sh.Absent == "" {
			all.Shares[i].Absent = "it has no machine at the provider"
		}
	}
	if present := slices.ContainsFunc(all.Shares, func(sh share) bool { return sh.Absent == "" }); !present {
		all.Notes = append(all.Notes, "no autoscaler shows a sign of life: nothing is done before one is back")
	}
	switch held, err := s.heldBack(ctx); {
	case err != nil:
		all.Notes = append(all.Notes, err.Error())
	case held != "":
		all.Notes = append(all.Notes, "nothing is scaled for now: "+held)
	}
	if err := a.apply(all.Shares, s.cfg.Autoscaler.MaxWebservers); err != nil {
		all.close()
		return all, err
	}
	all.sum()
	return all, nil
}

// apply changes the shares that are asked for, and marks them as to be told. Of the
// whole fleet those who are absent are left out, and their shares become 0: who
// keeps their webservers drains them while the others build. Where all are absent
// none is, so that they find their shares when they are back.
func (a ask) apply(all []share, most int) error {
	var changed []*share
	total := 0
	present := slices.ContainsFunc(all, func(sh share) bool { return sh.Absent == "" })
	for i := range all {
		sh := &all[i]
		if a.autoscaler != 0 && a.autoscaler != sh.Autoscaler {
			continue
		}
		total += sh.want()
		if a.autoscaler == 0 && present && sh.Absent != "" {
			sh.LeftOut = sh.Absent
			if sh.Before != nil { // else it never had any
				sh.After, sh.tell = new(int), true
			}
			continue
		}
		changed = append(changed, sh)
	}
	if len(changed) == 0 {
		return usagef("--autoscaler must be 1 to %d (autoscaler.count), is %d", len(all), a.autoscaler)
	}
	switch {
	case a.count != nil:
		total = *a.count
	case a.add != nil:
		total += *a.add
	case *a.remove > total:
		return usagef("--remove %d: the profile is %d: remove %d at most", *a.remove, total, total)
	default:
		total -= *a.remove
	}
	if err := fits(total, len(changed), most); err != nil {
		return usageError{err}
	}
	for i, n := range autoscaler.Split(total, len(changed)) {
		changed[i].After, changed[i].tell = &n, true
	}
	return nil
}

// fits refuses what exceeds the maximum of that many autoscalers.
func fits(total, autoscalers, most int) error {
	if total <= most*autoscalers {
		return nil
	}
	return fmt.Errorf("%s are too many: %s × %d each (autoscaler.max_webservers) is %d", plural(total, "webserver"), plural(autoscalers, "autoscaler"), most, most*autoscalers)
}

// tellAll stores the new profiles. One that cannot be told keeps none of the
// others from it; the same command again repairs that.
func (s *site) tellAll(ctx context.Context, all *fleetShares, hold time.Duration) error {
	var errs []error
	for i := range all.Shares {
		sh := &all.Shares[i]
		if !sh.tell {
			continue
		}
		err := errors.New(sh.Error)
		if sh.Error == "" {
			err = s.tellOne(ctx, sh, hold)
		}
		if err != nil {
			sh.Error = err.Error()
			errs = append(errs, fmt.Errorf("autoscaler %d was not told: %w (the same command again repairs that)", sh.Autoscaler, err))
		}
		if err == nil && hold > 0 {
			all.HeldUntil = &sh.hold
		}
	}
	return errors.Join(errs...)
}

func (s *site) tellOne(ctx context.Context, sh *share, hold time.Duration) error {
	if hold > 0 || !sh.hold.IsZero() {
		until := time.Time{}
		if hold > 0 {
			now, _, err := sh.store.Store.Now(ctx)
			if err != nil {
				return err
			}
			until = now.Add(hold)
		}
		if err := sh.store.Hold(ctx, sh.Autoscaler, until); err != nil {
			return err
		}
		sh.hold = until
	}
	return sh.store.Set(ctx, sh.Autoscaler, sh.want())
}

// plural writes a number of things.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func describe(all fleetShares) string {
	var b strings.Builder
	for _, sh := range all.Shares {
		change := "none"
		switch {
		case sh.Before != nil:
			change = fmt.Sprintf("%d → %d", *sh.Before, sh.want())
		case sh.After != nil:
			change = fmt.Sprintf("none → %d", *sh.After)
		}
		fmt.Fprintf(&b, "autoscaler %d: %s", sh.Autoscaler, change)
		switch {
		case sh.LeftOut != "":
			fmt.Fprintf(&b, " (left out: %s)", sh.LeftOut)
		case sh.Absent != "":
			fmt.Fprintf(&b, " (absent: %s)", sh.Absent)
		}
		switch {
		case sh.Error == "":
		case sh.tell:
			fmt.Fprintf(&b, " (NOT TOLD: %s)", sh.Error)
		default:
			fmt.Fprintf(&b, " (not reached: %s)", sh.Error)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "fleet: %s, besides the initial ones\n", plural(all.Fleet, "webserver"))
	if all.HeldUntil != nil {
		fmt.Fprintf(&b, "no schedule changes it before %s\n", all.HeldUntil.UTC().Format("2006-01-02 15:04 MST"))
	}
	return b.String()
}
