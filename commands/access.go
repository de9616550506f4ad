package commands

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"golang.org/x/crypto/ssh"

	"adt/autoscaler"
	"adt/provider"
	"adt/remote"
)

// target is a machine that an operator may talk to.
type target struct {
	name    string
	number  int // by which it may be called
	private netip.Addr
	address netip.Addr // where it is logged in to
}

func rolesUsage() string {
	var all []string
	for _, r := range autoscaler.Roles() {
		all = append(all, string(r))
	}
	return strings.Join(all, ", ")
}

// roleOf reads which kind of machine is meant.
func roleOf(command, text string) (autoscaler.Role, error) {
	if text == "" {
		return "", usagef("%s wants to know what kind of machine: %s", command, rolesUsage())
	}
	role := autoscaler.Role(text)
	if !slices.Contains(autoscaler.Roles(), role) {
		return "", usagef("%s: there is no kind of machine %q: choose from %s", command, text, rolesUsage())
	}
	return role, nil
}

// targets lists the machines of a role, as the provider has them now: autoscalers by
// their number, all others from 1 by their age.
func (s *site) targets(ctx context.Context, role autoscaler.Role, public bool) ([]target, error) {
	found, err := s.find(ctx, role)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(x, y provider.Server) int {
		return cmp.Or(x.Created.Compare(y.Created), strings.Compare(x.Name, y.Name), strings.Compare(x.ID, y.ID))
	})
	all := make([]target, len(found))
	for i, m := range found {
		all[i] = target{name: m.Name, number: i + 1, private: m.PrivateIP, address: m.PrivateIP}
		if public {
			all[i].address = m.PublicIP
		}
		if role == autoscaler.RoleAutoscaler {
			all[i].number, _ = s.Fleet.ParseAutoscaler(m.Name)
		}
	}
	if role == autoscaler.RoleAutoscaler {
		slices.SortStableFunc(all, func(x, y target) int { return x.number - y.number })
	}
	return all, nil
}

func (s *site) find(ctx context.Context, role autoscaler.Role) ([]provider.Server, error) {
	if role == autoscaler.RoleWebserver {
		servers, err := s.Servers.List(ctx)
		if err != nil {
			return nil, fmt.Errorf("looking for webservers: %w", err)
		}
		return slices.DeleteFunc(servers, func(m provider.Server) bool { return !s.Fleet.Is(role, m.Name) }), nil
	}
	finder, ok := bare(s.Servers).(provider.Finder)
	if !ok {
		return nil, usagef("provider.servers = %q cannot look for a machine of the kind %s", s.cfg.Provider.Servers, role)
	}
	servers, err := finder.Find(ctx, func(name string) bool { return s.Fleet.Is(role, name) })
	if err != nil {
		return nil, fmt.Errorf("looking for a machine of the kind %s: %w", role, err)
	}
	return servers, nil
}

// errSeveral says that it has to be asked which one is meant.
var errSeveral = errors.New("several match")

// choose picks the one that is meant: by name, by address or by number; the only
// one where nothing was said.
func choose(role autoscaler.Role, all []target, said string) (target, error) {
	if len(all) == 0 {
		return target{}, usagef("the provider has no machine of the kind %s", role)
	}
	if said == "" {
		if len(all) > 1 {
			return target{}, errSeveral
		}
		return all[0], nil
	}
	number, err := strconv.Atoi(said)
	if err != nil {
		number = -1
	}
	for _, t := range all {
		if t.name == said || t.number == number || t.private.IsValid() && t.private.String() == said {
			return t, nil
		}
	}
	return target{}, usagef("the provider has no %s %s (adt ssh %s lists them)", role, said, role)
}

// pick is choose with a question where it is open and somebody is at the terminal.
func (h *host) pick(role autoscaler.Role, all []target, said string) (target, error) {
	t, err := choose(role, all, said)
	if !errors.Is(err, errSeveral) {
		return t, err
	}
	printTargets(h.env.Stderr, all)
	if !terminal(h.env.Stdin) {
		return t, usagef("there are %d machines of the kind %s: say which, by name or number", len(all), role)
	}
	answers := bufio.NewReader(h.env.Stdin)
	const tries = 3
	for range tries {
		fmt.Fprintf(h.env.Stderr, "which %s? ", role)
		line, readErr := answers.ReadString('\n')
		said = strings.TrimSpace(line)
		if said != "" {
			if t, err = choose(role, all, said); err == nil {
				return t, nil
			}
			fmt.Fprintln(h.env.Stderr, err)
		}
		if readErr != nil {
			fmt.Fprintln(h.env.Stderr) // nobody has ended the line of the question
			break
		}
	}
	return t, usagef("no %s was chosen", role)
}

func printTargets(w io.Writer, all []target) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, m := range all {
		address := "no address yet"
		if m.address.IsValid() {
			address = m.address.String()
		}
		fmt.Fprintf(t, "%3d  %s\t%s\n", m.number, m.name, address)
	}
	_ = t.Flush()
}

// hostKey is the SSH host key by which a machine is known. There is always one, or
// an error that says what to do: a machine is not logged in to on its word.
func (s *site) hostKey(ctx context.Context, role autoscaler.Role, t target) (ssh.PublicKey, error) {
	if !t.address.IsValid() {
		return nil, errors.New("it has no address yet")
	}
	if role == autoscaler.RoleWebserver && t.private.IsValid() {
		key, err := s.KnownHostKey(ctx, t.private)
		if !errors.Is(err, remote.ErrUnknownHost) {
			return key, err
		}
	}
	port := s.cfg.SSH.Port
	for _, address := range []netip.Addr{t.address, t.private} {
		if !address.IsValid() {
			continue
		}
		key, err := remote.Pinned(s.cfg.Datastore.KnownHosts, address, port)
		if !errors.Is(err, remote.ErrUnknownHost) {
			return key, err
		}
	}
	if s.SSH.SharedHostKey != nil {
		return s.SSH.SharedHostKey, nil
	}
	return nil, fmt.Errorf("it is not logged in to, as its SSH host key is not known: look at it on the machine's console (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), "+
		"compare it with what ssh-keyscan -p %d %s | ssh-keygen -lf - says, and add that line of ssh-keyscan to %s", port, t.address, s.cfg.Datastore.KnownHosts)
}
