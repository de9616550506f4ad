package firewall

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Run runs a program with text on its standard input and returns what it
// printed. A program that is not there is a *MissingError.
type Run func(ctx context.Context, stdin, program string, args ...string) (string, error)

// patience bounds one run of a program: ufw waits for another's lock.
const patience = time.Minute

// System runs programs of this machine. before is put in front of each, such as
// a program that changes the namespace.
func System(before ...string) Run {
	return func(ctx context.Context, stdin, program string, args ...string) (string, error) {
		path, err := lookPath(program)
		if err != nil {
			return "", err
		}
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		line := slices.Concat(before, []string{path}, args)
		cmd := exec.CommandContext(ctx, line[0], line[1:]...)
		// The tools' answers are read: they must not be in the operator's language.
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/"}
		cmd.Stdin = strings.NewReader(stdin)
		var out, errs strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			text := strings.Join(strings.Fields(errs.String()+" "+out.String()), " ")
			return "", fmt.Errorf("%s %s: %w: %.300s", program, strings.Join(args, " "), err, text)
		}
		return out.String(), nil
	}
}

// lookPath finds a program also where cron's PATH has nothing.
func lookPath(program string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	for _, folder := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(folder, program)); err == nil {
			return path, nil
		}
	}
	return "", &MissingError{Program: program}
}

// MissingError is a program that is not installed.
type MissingError struct{ Program string }

func (e *MissingError) Error() string {
	pkg := map[string]string{"nft": "nftables", "iptables": "iptables", "ip6tables": "iptables", "iptables-restore": "iptables", "ip6tables-restore": "iptables"}[e.Program]
	if pkg == "" {
		pkg = e.Program
	}
	return fmt.Sprintf("%s is not installed: apt install %s", e.Program, pkg)
}

// State is what a tool has of ours.
type State struct {
	Active   bool     `json:"active"` // what no rule lets in is dropped
	Lines    []string `json:"lines"`  // our rules, in the tool's words
	Others   []string `json:"-"`      // the operator's, where they are of the same kind
	Problems []string `json:"problems,omitempty"`
}

// Tool is one kind of firewall. Rules of others are left alone by all of its
// methods.
type Tool interface {
	// Lines are the rules, and what no machine can do without, in the tool's
	// words: equal lines are equal rules.
	Lines(rules []Rule) []string
	// Read finds out what is there.
	Read(ctx context.Context) (State, error)
	// Apply makes the rules all that is let in. When it fails, part may be done.
	Apply(ctx context.Context, rules []Rule) error
	// Save returns what Restore brings back; "" is that there was nothing of ours.
	Save(ctx context.Context) (string, error)
	Restore(ctx context.Context, saved string) error
}

// Names of the tools, in the order in which one is picked where none is at work.
func Names() []string { return []string{"nftables", "iptables", "ufw"} }

// Named returns the tool of that name. files is the root of the machine.
func Named(name string, run Run, files fs.FS) (Tool, error) {
	switch name {
	case "nftables":
		return &nftables{run}, nil
	case "iptables":
		return &iptables{run}, nil
	case "ufw":
		return &ufw{run, files}, nil
	}
	return nil, fmt.Errorf("there is no firewall tool %q: there are %s", name, strings.Join(Names(), ", "))
}

// Difference is what has to change for the rules to hold.
type Difference struct {
	Add      []string `json:"add"`
	Remove   []string `json:"remove"`
	Problems []string `json:"problems"`
}

// None reports whether nothing has to change.
func (d Difference) None() bool { return len(d.Add)+len(d.Remove)+len(d.Problems) == 0 }

// Compare holds what is there against the lines that are wanted.
func Compare(wanted []string, s State) Difference {
	d := Difference{Add: []string{}, Remove: []string{}, Problems: append([]string{}, s.Problems...)}
	if !s.Active && len(s.Problems) == 0 {
		d.Problems = append(d.Problems, "it is not active: everything is let in")
	}
	for _, line := range wanted {
		if !slices.Contains(s.Lines, line) && !slices.Contains(s.Others, line) {
			d.Add = append(d.Add, line)
		}
	}
	for _, line := range s.Lines {
		if !slices.Contains(wanted, line) {
			d.Remove = append(d.Remove, line)
		}
	}
	return d
}

// Active is a firewall that was found at work.
type Active struct {
	Tool string // one of Names, or what else it is
	What string // in words
	Off  string // how it is turned off
}

// Detect finds the firewalls that are at work, adt's and others'. A program that
// is not installed guards nothing.
func Detect(ctx context.Context, run Run) ([]Active, error) {
	var all []Active
	status, err := optional(run(ctx, "", "ufw", "status"))
	if err != nil {
		return nil, err
	}
	withUfw := strings.Contains(status, "Status: active")
	if withUfw {
		all = append(all, Active{"ufw", "ufw is active", "ufw disable"})
	}
	if state, err := run(ctx, "", "firewall-cmd", "--state"); err == nil && strings.TrimSpace(state) == "running" {
		all = append(all, Active{"firewalld", "firewalld runs", "systemctl disable --now firewalld"})
	}
	chains, err := optional(run(ctx, "", "nft", "-j", "list", "chains"))
	if err != nil {
		return nil, err
	}
	tables, err := nftGuards(chains)
	if err != nil {
		return nil, err
	}
	for _, table := range tables {
		name, what := "nftables", "nftables has adt's table inet adt"
		switch {
		case table == "ip filter" || table == "ip6 filter": // where iptables keeps its rules: asked below
			continue
		case table != "inet adt":
			name = "the nftables table " + table
			what = name + " drops what it does not know"
		}
		all = append(all, Active{name, what, "nft delete table " + table})
	}
	// Other kernels may lack what the program wants: then it guards nothing either.
	if rules, err := run(ctx, "", "iptables", "-w", "-S"); err == nil {
		all = append(all, iptablesGuards(rules, withUfw)...)
	}
	return all, nil
}

func iptablesGuards(rules string, withUfw bool) []Active {
	switch {
	case strings.Contains(rules, "-A INPUT -j "+chain):
		return []Active{{"iptables", "iptables has adt's chain " + chain, "iptables -D INPUT -j " + chain + ", and the same with ip6tables"}}
	case strings.Contains(rules, "-P INPUT DROP") && !withUfw: // which works by iptables
		return []Active{{"iptables", "iptables drops by its INPUT policy", "iptables -P INPUT ACCEPT"}}
	}
	return nil
}

// optional makes nothing of a program that is not installed.
func optional(out string, err error) (string, error) {
	var missing *MissingError
	if errors.As(err, &missing) {
		return "", nil
	}
	return out, err
}

// nftGuards returns the tables that drop by default what comes in, each once.
func nftGuards(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	var listing struct {
		Nftables []struct {
			Chain *nftChain `json:"chain"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal([]byte(text), &listing); err != nil {
		return nil, fmt.Errorf("nft -j list chains: %w", err)
	}
	var tables []string
	for _, item := range listing.Nftables {
		if c := item.Chain; c != nil && c.Hook == "input" && c.Policy == "drop" && !slices.Contains(tables, c.Family+" "+c.Table) {
			tables = append(tables, c.Family+" "+c.Table)
		}
	}
	return tables, nil
}

// Choose picks the tool: the one that is named, or with auto the one at work,
// or else the first that is installed. Two firewalls at once are refused: what
// one lets in the other drops, and nobody finds out why.
func Choose(name string, active []Active, installed func(program string) bool) (string, error) {
	var tools []string
	var said []string
	for _, a := range active {
		if !slices.Contains(tools, a.Tool) {
			tools = append(tools, a.Tool)
			said = append(said, fmt.Sprintf("%s (%s)", a.What, a.Off))
		}
	}
	programs := map[string]string{"nftables": "nft", "iptables": "iptables", "ufw": "ufw"}
	switch {
	case len(tools) > 1:
		return "", fmt.Errorf("two firewalls are at work: %s: turn off one of them", strings.Join(said, " and "))
	case len(tools) == 1 && !slices.Contains(Names(), tools[0]):
		return "", fmt.Errorf("another firewall is at work: %s: turn it off, or leave this machine to it", said[0])
	case len(tools) == 1 && name != "auto" && name != tools[0]:
		return "", fmt.Errorf("two firewalls would be at work: %s, and firewall.tool is %q: turn the one off, or set firewall.tool = %q", said[0], name, tools[0])
	case len(tools) == 1:
		return tools[0], nil
	case name != "auto" && !installed(programs[name]):
		return "", &MissingError{programs[name]}
	case name != "auto":
		return name, nil
	}
	for _, tool := range Names() {
		if installed(programs[tool]) {
			return tool, nil
		}
	}
	return "", errors.New("no firewall is installed, neither nftables nor iptables nor ufw: apt install nftables")
}

// Installed reports whether a program is on this machine.
func Installed(program string) bool {
	_, err := lookPath(program)
	return err == nil
}
