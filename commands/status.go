package commands

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"adt/autoscaler"
	"adt/provider"
)

func statusCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show the fleet: what there shall be, what there is, what is on hold",
		Description: `EXAMPLES:
   adt status
   adt status --watch           again every 2 seconds, until Ctrl-C
   adt status --json | jq .fleet`,
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "show it again every 2 seconds"},
		},
		Action: func(c *cli.Context) error { return runStatus(h, c) },
	}
}

// status is what status --json prints.
type status struct {
	Autoscaler  int                         `json:"autoscaler"`
	Of          int                         `json:"of"`
	Website     string                      `json:"website"`
	Profile     *int                        `json:"profile"`              // of this autoscaler; null is none, or not known (see errors)
	LastKnown   *lastKnown                  `json:"last_known,omitempty"` // while the datastore does not answer
	Held        string                      `json:"held,omitempty"`       // why the datastore lets nobody scale
	Cycle       *autoscaler.Cycle           `json:"cycle"`                // null while none runs
	Paused      map[string]autoscaler.Pause `json:"paused"`
	Backoff     *autoscaler.Backoff         `json:"backoff"`
	Fleet       counts                      `json:"fleet"`
	Autoscalers []peerRow                   `json:"autoscalers"`
	Cost        *cost                       `json:"cost"`               // of the whole fleet; null when the vendor names no prices
	Quota       *int                        `json:"quota"`              // API requests left in this hour; null when the vendor does not count them
	Database    *autoscaler.Admitted        `json:"database,omitempty"` // its allow list, as last known; null where there is none
	Servers     []serverRow                 `json:"servers"`
	Proxies     []proxyRow                  `json:"proxies,omitempty"` // reverse proxies
	Errors      []string                    `json:"errors,omitempty"`  // what could not be asked
}

// counts is the whole fleet in numbers.
type counts struct {
	Profile     *int `json:"profile"` // of all autoscalers; null is not known
	Initial     int  `json:"initial"`
	Provisioned int  `json:"provisioned"` // exist at the provider, initial ones too
	Published   int  `json:"published"`   // of those, in DNS
	Building    int  `json:"building"`    // by this autoscaler
	Draining    int  `json:"draining"`    // being terminated by this autoscaler
	Failing     int  `json:"failing"`     // have strikes, of this autoscaler's
}

// lastKnown is what the datastore said last of this autoscaler's profile.
type lastKnown struct {
	Profile *int      `json:"profile"` // null is none
	Seen    time.Time `json:"seen"`
}

type serverRow struct {
	Name      string     `json:"name"`
	ID        string     `json:"id"`
	Shard     int        `json:"autoscaler"`
	State     string     `json:"state"`
	PublicIP  netip.Addr `json:"public_ip"`
	Published bool       `json:"published"`
	Strikes   int        `json:"strikes"`
	Protected bool       `json:"protected"`
	Created   time.Time  `json:"created,omitzero"`
	Detail    string     `json:"detail"`
}

func runStatus(h *host, c *cli.Context) error {
	s, err := h.openAnywhere(c)
	if err != nil {
		return err
	}
	for {
		st, err := readStatus(c.Context, s)
		if err != nil {
			return err
		}
		switch {
		case c.Bool("json"):
			err = printJSON(h.env.Stdout, st)
		default:
			if c.Bool("watch") && terminal(h.env.Stdout) {
				fmt.Fprint(h.env.Stdout, "\x1b[H\x1b[2J")
			}
			err = printStatus(h.env.Stdout, s, st)
		}
		if err != nil {
			return err
		}
		if !c.Bool("watch") {
			if len(st.Errors) > 0 {
				return fmt.Errorf("not all could be asked: %s", strings.Join(st.Errors, "; "))
			}
			return nil
		}
		select {
		case <-c.Context.Done():
			return nil // Ctrl-C is how watching ends
		case <-time.After(2 * time.Second):
		}
	}
}

// readStatus gathers what it can: a status is most wanted when something does
// not answer.
func readStatus(ctx context.Context, s *site) (status, error) {
	st := status{Autoscaler: s.Shard, Of: s.cfg.Autoscaler.Count, Website: s.HostName, Servers: []serverRow{}}
	fault := func(err error) { st.Errors = append(st.Errors, err.Error()) }
	state, err := s.Recall(ctx)
	if err != nil {
		return st, err
	}
	st.Cycle, st.Paused = state.Cycle, state.Paused
	if state.Backoff.Failures > 0 {
		st.Backoff = &state.Backoff
	}
	if s.Shard > 0 { // the build machine lets nobody in
		if st.Database, err = s.Admitted(); err != nil {
			return st, err
		}
	}
	if !st.readPeers(ctx, s, fault) && !state.LastSeen.IsZero() {
		st.LastKnown = &lastKnown{Seen: state.LastSeen}
		if state.LastProfile != nil {
			st.LastKnown.Profile = &state.LastProfile.Count
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	inDNS := map[netip.Addr]bool{}
	if records, err := s.DNS.Records(ctx, s.HostName); err != nil {
		fault(err)
	} else {
		for _, r := range records {
			inDNS[r.Address] = true
		}
	}
	servers, err := s.Servers.List(ctx)
	if err != nil {
		fault(err)
	}
	st.Proxies = proxyRows(s.ProxiesIn(servers), state.Proxies, inDNS)
	var members []provider.Server
	for _, srv := range servers {
		n, ok := s.Fleet.Parse(srv.Name)
		if !ok {
			continue
		}
		members = append(members, srv)
		k := state.Known[srv.ID]
		isPublic := inDNS[srv.PublicIP] || holds(state.Proxies, srv.PrivateIP)
		st.Servers = append(st.Servers, serverRow{
			Name: srv.Name, ID: srv.ID, Shard: n.Shard, State: k.State, PublicIP: srv.PublicIP, Published: isPublic,
			Strikes: k.Strikes, Protected: state.Protected[srv.Name], Created: srv.Created, Detail: k.Detail,
		})
		st.Fleet.Provisioned++
		if n.Initial {
			st.Fleet.Initial++
		}
		if isPublic {
			st.Fleet.Published++
		}
		if k.Strikes > 0 {
			st.Fleet.Failing++
		}
	}
	if s.Proxies != nil {
		st.Fleet.Published = reached(state.Proxies)
	}
	st.Cost = costOf(members)
	if left, known := quotaLeft(s.Servers); known {
		st.Quota = &left
	}
	mergeBuilds(&st, s.Shard, state.Builds)
	mergeEnds(&st, state.Terminations)
	slices.SortFunc(st.Servers, func(a, b serverRow) int { return strings.Compare(a.Name+a.ID, b.Name+b.ID) })
	return st, nil
}

// peerRow is one autoscaler in a status.
type peerRow struct {
	Autoscaler int        `json:"autoscaler"`
	Profile    *int       `json:"profile"`                      // null is none
	Keeper     int        `json:"keeper,omitempty"`             // who keeps its webservers, by a lease
	Until      *time.Time `json:"kept_until,omitempty"`         // when that ends unless it is renewed
	Held       *time.Time `json:"profile_held_until,omitempty"` // from schedules
	Dead       bool       `json:"dead,omitempty"`               // it showed signs of life before, and does not now
}

// readPeers reports whether the datastore answered.
func (st *status) readPeers(ctx context.Context, s *site, fault func(error)) bool {
	peers, err := s.Peers(ctx, s.cfg.Autoscaler.Count)
	if err != nil {
		fault(err)
		return false
	}
	if st.Held, err = s.heldBack(ctx); err != nil {
		fault(err)
	}
	st.Fleet.Profile = new(int)
	for _, p := range peers {
		row := peerRow{Autoscaler: p.Number, Keeper: p.Keeper, Dead: p.Dead()}
		if p.Profile != nil {
			row.Profile = &p.Profile.Count
			*st.Fleet.Profile += p.Profile.Count
		}
		if !p.KeptUntil.IsZero() {
			row.Until = &p.KeptUntil
		}
		if !p.Hold.IsZero() {
			row.Held = &p.Hold
		}
		if p.Number == s.Shard {
			st.Profile = row.Profile
		}
		st.Autoscalers = append(st.Autoscalers, row)
	}
	return true
}

// heldBack says why the datastore lets nobody scale; "" is no such reason, or that
// each autoscaler has a datastore of its own and this machine is none.
func (s *site) heldBack(ctx context.Context) (string, error) {
	if s.cfg.Datastore.Transport == "ssh" && s.Shard == 0 {
		return "", nil
	}
	return s.Forbidden(ctx)
}

// profileText is the profile for people.
func (st status) profileText(now time.Time) string {
	number := func(n *int) string {
		if n == nil {
			return "none"
		}
		return fmt.Sprint(*n)
	}
	switch {
	case st.Fleet.Profile == nil && st.LastKnown != nil:
		return fmt.Sprintf("not known (last known %s, %s ago)", number(st.LastKnown.Profile), now.Sub(st.LastKnown.Seen).Round(time.Second))
	case st.Fleet.Profile == nil:
		return "not known"
	case st.Autoscaler == 0:
		return number(st.Fleet.Profile)
	case st.Profile == nil:
		return "none (adt scale --count N sets one)"
	}
	return fmt.Sprintf("%d of %d", *st.Profile, *st.Fleet.Profile)
}

// printPeers shows who keeps what, where there are several.
func printPeers(w io.Writer, rows []peerRow) {
	for _, r := range rows {
		if len(rows) == 1 && r.Held == nil {
			return
		}
		profile := "no profile"
		if r.Profile != nil {
			profile = fmt.Sprintf("profile %d", *r.Profile)
		}
		fmt.Fprintf(w, "autoscaler %d: %s", r.Autoscaler, profile)
		switch {
		case r.Keeper == 0:
		case r.Dead && r.Keeper == r.Autoscaler:
			fmt.Fprintf(w, ", DEAD: its lease ran out at %s", r.Until.UTC().Format("15:04:05 UTC"))
		case r.Dead:
			fmt.Fprintf(w, ", DEAD: kept by autoscaler %d until %s", r.Keeper, r.Until.UTC().Format("15:04:05 UTC"))
		default:
			fmt.Fprintf(w, ", alive, lease until %s", r.Until.UTC().Format("15:04:05 UTC"))
		}
		if r.Held != nil {
			fmt.Fprintf(w, ", held from schedules until %s", r.Held.UTC().Format("2006-01-02 15:04 UTC"))
		}
		fmt.Fprintln(w)
	}
}

// mergeBuilds shows builds in their rows, or in rows of their own while they
// have no server.
func mergeBuilds(st *status, shard int, builds []autoscaler.Build) {
	for _, b := range builds {
		st.Fleet.Building++
		row := slices.IndexFunc(st.Servers, func(r serverRow) bool { return r.ID == b.ID || b.ID == "" && r.Name == b.Name })
		if row < 0 {
			st.Servers = append(st.Servers, serverRow{Name: b.Name, Shard: shard, Created: b.Began})
			row = len(st.Servers) - 1
		}
		st.Servers[row].State, st.Servers[row].Detail = "building", string(b.Phase)
		if b.Why != "" {
			st.Servers[row].Detail += ": " + b.Why
		}
	}
}

func mergeEnds(st *status, ends []autoscaler.Termination) {
	for _, t := range ends {
		st.Fleet.Draining++
		if row := slices.IndexFunc(st.Servers, func(r serverRow) bool { return r.ID == t.ID }); row >= 0 {
			st.Servers[row].State, st.Servers[row].Detail = "draining", fmt.Sprintf("%s (%s)", t.Phase, t.Cause)
		}
	}
}

func printStatus(w io.Writer, s *site, st status) error {
	now := s.Now()
	f := st.Fleet
	if st.Autoscaler == 0 {
		fmt.Fprintf(w, "%s: build machine, %s\n", st.Website, plural(st.Of, "autoscaler"))
	} else {
		fmt.Fprintf(w, "%s: autoscaler %d of %d\n", st.Website, st.Autoscaler, st.Of)
	}
	fmt.Fprintf(w, "profile %s, besides %d initial; provisioned %d, published %d\n", st.profileText(now), f.Initial, f.Provisioned, f.Published)
	fmt.Fprintf(w, "here: building %d, draining %d, failing %d\n", f.Building, f.Draining, f.Failing)
	printPeers(w, st.Autoscalers)
	if st.Held != "" {
		fmt.Fprintf(w, "NOTHING IS SCALED: %s\n", st.Held)
	}
	if st.Cost != nil {
		fmt.Fprintf(w, "it costs %s\n", st.Cost)
	}
	if st.Quota != nil {
		fmt.Fprintf(w, "%d API requests are left in this hour\n", *st.Quota)
	}
	if st.Database != nil {
		printDatabase(w, *st.Database, now)
	}
	if st.Cycle != nil {
		fmt.Fprintf(w, "cycle towards %d, for %s\n", st.Cycle.Profile, now.Sub(st.Cycle.Started).Round(time.Second))
	}
	for _, what := range autoscaler.Pausable() {
		if p, ok := st.Paused[what]; ok {
			until := ""
			if !p.Until.IsZero() {
				until = fmt.Sprintf(" for %s more", p.Until.Sub(now).Round(time.Second))
			}
			fmt.Fprintf(w, "PAUSED %s%s: %s\n", what, until, p.Reason)
		}
	}
	switch b := st.Backoff; {
	case b == nil:
	case b.Stopped:
		fmt.Fprintf(w, "BUILDING STOPPED after %d failures (adt resume)\n", b.Failures)
	case now.Before(b.Until):
		fmt.Fprintf(w, "BACKOFF: the next build begins in %s\n", b.Until.Sub(now).Round(time.Second))
	}
	for _, e := range st.Errors {
		fmt.Fprintf(w, "NOT ASKED: %s\n", e)
	}
	if err := printProxies(w, st.Proxies); err != nil || len(st.Servers) == 0 {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\nWEBSERVER\tAUTOSCALER\tSTATE\tADDRESS\t%s\tSTRIKES\tAGE\tDETAIL\n", public(s.Proxies != nil))
	for _, r := range st.Servers {
		address, state := "-", r.State
		if r.PublicIP.IsValid() {
			address = r.PublicIP.String()
		}
		if state == "" {
			state = "-" // another autoscaler's, or not checked yet
		}
		if r.Protected {
			state += " (protected)"
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%d\t%s\t%s\n", r.Name, r.Shard, state, address, visited(s, r), r.Strikes,
			time.Since(r.Created).Round(time.Second), r.Detail)
	}
	return t.Flush()
}

// printDatabase shows what is known of the managed database's allow list.
func printDatabase(w io.Writer, d autoscaler.Admitted, now time.Time) {
	if d.Checked.IsZero() {
		fmt.Fprint(w, "database: its allow list was not read yet")
	} else {
		fmt.Fprintf(w, "database: %d entries allowed, %d of them added here, read %s ago", d.Entries, d.Ours, now.Sub(d.Checked).Round(time.Second))
	}
	if d.Waiting > 0 {
		fmt.Fprintf(w, ", %d to be taken off", d.Waiting)
	}
	fmt.Fprintln(w)
	if d.Failing != "" {
		fmt.Fprintf(w, "DATABASE: %s; tried again in %s\n", d.Failing, max(0, d.Until.Sub(now)).Round(time.Second))
	}
}
