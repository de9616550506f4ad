package proxy

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"adt/remote"
)

// Outcome is what became of a change.
type Outcome string

const (
	Updated   Outcome = "updated"    // the proxy uses it
	Unchanged Outcome = "unchanged"  // it did so before
	Refused   Outcome = "refused"    // the configuration test failed; the proxy goes on as before
	NotLoaded Outcome = "not-loaded" // the reload failed; what was there before was loaded again
	Floor     Outcome = "floor"      // the proxy would have had too few webservers left; nothing was changed
	Busy      Outcome = "busy"       // another autoscaler is at it
)

// Reply is what a proxy says.
type Reply struct {
	Outcome Outcome
	Total   int          // webservers that it has of all autoscalers now
	Own     []netip.Addr // of Look: those of the one autoscaler
	Said    string       // of Refused and NotLoaded: the first line that tells why
}

//go:embed apply.sh
var script string

// Change is what one autoscaler wants a proxy to have of its webservers.
type Change struct {
	Shard int
	Want  []netip.Addr
	Had   []netip.Addr // what the proxy may have of them now; Original is told the difference
	Again bool         // Original is told all of Want once more
	Floor int          // a change that leaves the proxy with fewer webservers in all is not made; 0 is none
}

// Apply makes a proxy have the webservers of one autoscaler, and those of the
// others as they are. What it could not make certain is an error: then the proxy
// has the webservers from before, or those, or is without use of a file that is
// not tested yet; Apply again settles that.
func (s Settings) Apply(ctx context.Context, conn *remote.Conn, password []byte, c Change) (Reply, error) {
	if s.Kind == Original {
		return s.tellOriginal(ctx, conn, password, c)
	}
	return s.run(ctx, conn, password, "apply", c)
}

// Look asks a proxy what it has, and changes nothing. Original cannot tell: then
// the reply has no Own.
func (s Settings) Look(ctx context.Context, conn *remote.Conn, password []byte, shard int) (Reply, error) {
	if s.Kind == Original {
		return Reply{}, nil
	}
	return s.run(ctx, conn, password, "look", Change{Shard: shard})
}

// Test runs the proxy's own configuration test on what is there. The error has
// the line that tells most.
func (s Settings) Test(ctx context.Context, conn *remote.Conn, password []byte) error {
	if s.Kind == Original {
		return nil
	}
	out, err := conn.Run(ctx, s.asRoot("PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; export PATH; ("+s.TestCommand+") 2>&1"), password)
	var exit *remote.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	if line := firstError(string(out) + exit.Stderr); line != "" {
		return errors.New(line)
	}
	return exit
}

func (s Settings) asRoot(command string, args ...string) string {
	words := []string{"/bin/sh", "-c", remote.Quote(command), "adt"}
	for _, a := range args {
		words = append(words, remote.Quote(a))
	}
	return strings.TrimSpace(s.RootCommand + " " + strings.Join(words, " "))
}

func (s Settings) run(ctx context.Context, conn *remote.Conn, password []byte, mode string, c Change) (Reply, error) {
	f := s.frame()
	command := s.asRoot(script, mode, s.File, strconv.Itoa(c.Shard), strconv.Itoa(c.Floor), f.head, f.none, f.foot, s.part(c.Want), s.TestCommand, s.ReloadCommand)
	out, err := conn.Run(ctx, command, password)
	if err != nil {
		return Reply{}, err
	}
	return parseReply(string(out))
}

// parseReply reads the script's answer; a login shell may have said something
// before it.
func parseReply(out string) (Reply, error) {
	var r Reply
	lines := strings.Split(out, "\n")
	at := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "adt-proxy ") })
	if at < 0 {
		return r, errors.New("the proxy's shell gave no answer")
	}
	if n, err := fmt.Sscanf(lines[at], "adt-proxy %s %d", &r.Outcome, &r.Total); n != 2 {
		return r, fmt.Errorf("the answer %q: %w", lines[at], err)
	}
	rest := lines[at+1:]
	switch r.Outcome {
	case Refused, NotLoaded:
		r.Said = firstError(strings.Join(rest, "\n"))
	case "held":
		for _, line := range rest {
			if a, ok := addressIn(line); ok {
				r.Own = append(r.Own, a)
			}
		}
	}
	return r, nil
}

// addressIn finds the webserver in a line of a part.
func addressIn(line string) (netip.Addr, bool) {
	for word := range strings.FieldsSeq(line) {
		word = strings.TrimPrefix(strings.Trim(word, `";`), "https://")
		if at, err := netip.ParseAddrPort(word); err == nil {
			return at.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// tellOriginal calls the original's scripts, which take one address and cannot be
// asked what they know. What is new comes first: a proxy is never left without.
func (s Settings) tellOriginal(ctx context.Context, conn *remote.Conn, password []byte, c Change) (Reply, error) {
	want, had := tidy(c.Want), tidy(c.Had)
	r := Reply{Outcome: Unchanged, Total: len(want)}
	if len(want) < c.Floor && len(want) < len(had) {
		return Reply{Outcome: Floor, Total: len(had)}, nil
	}
	tell := func(command string, a netip.Addr) error {
		line := strings.TrimSpace(s.RootCommand + " " + command + " " + remote.Quote(a.String()))
		_, err := conn.Run(ctx, line, password)
		var exit *remote.ExitError
		if errors.As(err, &exit) {
			r = Reply{Outcome: Refused, Total: len(had), Said: fmt.Sprintf("%s %s: %v", command, a, exit)}
			return nil
		}
		if err == nil && r.Outcome == Unchanged {
			r.Outcome = Updated
		}
		return err
	}
	for _, a := range want {
		if c.Again || !slices.Contains(had, a) {
			if err := tell(s.AddCommand, a); err != nil || r.Outcome == Refused {
				return r, err
			}
		}
	}
	for _, a := range had {
		if !slices.Contains(want, a) {
			if err := tell(s.RemoveCommand, a); err != nil || r.Outcome == Refused {
				return r, err
			}
		}
	}
	return r, nil
}
