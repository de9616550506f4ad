package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// ban is an arrow that must not exist, however many packages are in between.
// Packages are patterns of path.Match.
type ban struct {
	who, except []string
	not, but    []string
	why         string
}

// bans is the house of CONTRIBUTING.md: arrows only go down.
func bans() []ban {
	ours := []string{"adt", "adt/*", "adt/*/*"}
	vendors := []string{"adt/provider/*", "adt/datastore/*"}
	suites := []string{"adt/*/*test"}
	top := []string{"adt", "adt/commands"}
	return []ban{
		{who: ours, except: top, not: []string{"adt/commands"},
			why: "the command line is the top of the house: what it calls must work without it"},
		{who: ours, except: top, not: []string{"github.com/urfave/cli/*"},
			why: "flags are turned into options in package commands and nowhere else"},
		{who: ours, except: append(top, vendors...), not: vendors, but: suites,
			why: "a vendor is picked in package commands; all else works with any of them"},
		{who: vendors, except: suites, not: ours, but: []string{"adt/provider", "adt/datastore", "adt/cloudinit", "adt/remote", "adt/provider/*", "adt/datastore/*"},
			why: "a vendor knows what is asked of it, user data and SSH connections, but nothing of who asks"},
		{who: vendors, not: vendors, but: suites,
			why: "vendors do not know each other: one must be removable without the others"},
		{who: suites, not: vendors, but: suites,
			why: "a conformance suite that knows a driver is no suite for the others"},
		{who: []string{"adt/lock", "adt/rundir", "adt/events", "adt/provider", "adt/datastore", "adt/schedule", "adt/history", "adt/runs", "adt/cron", "adt/metrics", "adt/heartbeat", "adt/dayfile", "adt/monitor", "adt/manual"}, not: ours, but: []string{"adt/dayfile"},
			why: "the ground of the house stands on nothing of ours"},
		{who: []string{"adt/config", "adt/cloudinit", "adt/remote"}, not: ours,
			why: "settings, user data and SSH connections mean the same without a fleet"},
		{who: []string{"adt/housekeeping"}, not: ours, but: []string{"adt/dayfile", "adt/lock"},
			why: "what is thrown away is known by its name and age alone, whatever it is"},
		{who: []string{"adt/postmortem"}, not: ours, but: []string{"adt/remote"},
			why: "what a server had to say is kept without knowing who destroys it, and why"},
		{who: []string{"adt/security/*"}, not: ours,
			why: "what guards this machine is told what is wanted, and means the same without a fleet"},
		{who: []string{"adt/healthcheck"}, not: ours, but: []string{"adt/remote"},
			why: "the ladder knows addresses and verdicts; vendors, records and profiles are the business of who calls it"},
		{who: []string{"adt/proxy"}, not: ours, but: []string{"adt/remote"},
			why: "a list of addresses is put on a machine; whose they are and who may be taken out is decided above"},
		{who: []string{"adt/autoscaler"}, not: []string{"adt/config", "adt/cloudinit", "github.com/rs/zerolog"},
			why: "the rules of the fleet are given settings, renderers and a recorder; where those come from is decided above"},
		{who: []string{"adt/notify"}, not: ours, but: []string{"adt/events", "adt/dayfile", "adt/rundir", "adt/lock"},
			why: "who tells people reads events; what they are about, and where settings are from, is the business of others"},
		{who: ours, except: append([]string{"adt/notify"}, top...), not: []string{"github.com/wneessen/go-mail"},
			why: "mail is sent in one place, or the limit of an hour holds for none"},
		{who: []string{"adt"}, not: append([]string{"testing"}, suites...),
			why: "what tests need must not be in the program"},
	}
}

// graph is what each package imports itself.
type graph map[string][]string

// broken returns one line for each package that breaks a ban: the way to what
// it must not know, and why not.
func (g graph) broken(bans []ban) []string {
	var out []string
	for _, b := range bans {
		for pkg := range g {
			if !matches(pkg, b.who) || matches(pkg, b.except) {
				continue
			}
			way := g.way(pkg, func(dep string) bool { return matches(dep, b.not) && !matches(dep, b.but) })
			if way != nil {
				out = append(out, fmt.Sprintf("%s: %s", strings.Join(way, " → "), b.why))
			}
		}
	}
	slices.Sort(out)
	return out
}

// way returns a shortest chain of imports to a package that is meant.
func (g graph) way(from string, meant func(string) bool) []string {
	seen := map[string]bool{from: true}
	for ways := [][]string{{from}}; len(ways) > 0; ways = ways[1:] {
		way := ways[0]
		for _, dep := range g[way[len(way)-1]] {
			if seen[dep] {
				continue
			}
			seen[dep] = true
			next := append(slices.Clone(way), dep)
			if meant(dep) {
				return next
			}
			ways = append(ways, next)
		}
	}
	return nil
}

func matches(pkg string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, pkg)
		return ok && err == nil
	})
}

func listPackages(t *testing.T) graph {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Imports", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, &stderr)
	}
	g := graph{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return g
		}
		if err != nil {
			t.Fatal(err)
		}
		g[p.ImportPath] = p.Imports
	}
}

func TestArrowsOnlyGoDown(t *testing.T) {
	g := listPackages(t)
	for _, pkg := range []string{"adt", "adt/commands", "adt/autoscaler", "adt/provider/local", "github.com/urfave/cli/v2"} {
		if _, ok := g[pkg]; !ok {
			t.Errorf("the list of packages lacks %s, so it proves nothing", pkg)
		}
	}
	for _, line := range g.broken(bans()) {
		t.Error(line)
	}
}

// A ban whose packages were renamed would forbid nothing.
func TestEveryBanIsAboutSomething(t *testing.T) {
	g := listPackages(t)
	for _, b := range bans() {
		for _, who := range b.who {
			found := false
			for pkg := range g {
				found = found || matches(pkg, []string{who}) && !matches(pkg, b.except)
			}
			if !found && who != "adt" {
				t.Errorf("no package is %s: %s", who, b.why)
			}
		}
	}
}

func TestBansBite(t *testing.T) {
	sound := func() graph {
		return graph{
			"adt":                       {"adt/commands", "os"},
			"adt/commands":              {"adt/autoscaler", "adt/config", "adt/provider/local", "adt/datastore/file", "adt/notify", "adt/security/firewall", "github.com/urfave/cli/v2"},
			"adt/notify":                {"adt/events", "adt/rundir", "adt/lock", "github.com/wneessen/go-mail"},
			"adt/autoscaler":            {"adt/healthcheck", "adt/provider", "adt/datastore", "adt/rundir", "adt/lock", "adt/events", "adt/remote", "adt/postmortem", "adt/proxy"},
			"adt/proxy":                 {"adt/remote"},
			"adt/healthcheck":           {"adt/remote"},
			"adt/postmortem":            {"adt/remote"},
			"adt/events":                {"adt/dayfile"},
			"adt/housekeeping":          {"adt/dayfile", "adt/lock"},
			"adt/provider/local":        {"adt/provider", "adt/cloudinit"},
			"adt/datastore/file":        {"adt/datastore"},
			"adt/provider/providertest": {"adt/provider", "testing"},
			"adt/security/firewall":     {"os/exec"},
			"adt/security/netnstest":    {"testing"},
		}
	}
	if got := sound().broken(bans()); len(got) != 0 {
		t.Fatalf("a sound house is refused: %q", got)
	}
	for _, arrow := range [][]string{ // the last of each must not be known to the first
		{"adt/autoscaler", "adt/commands"},
		{"adt/autoscaler", "github.com/urfave/cli/v2"},
		{"adt/autoscaler", "adt/provider/local"},
		{"adt/autoscaler", "adt/datastore/file"},
		{"adt/autoscaler", "adt/config"},
		{"adt/provider/local", "adt/autoscaler"},
		{"adt/provider/local", "adt/provider/vultr"},
		{"adt/provider/providertest", "adt/provider/local"},
		{"adt/lock", "adt/events"},
		{"adt/events", "adt/rundir"},
		{"adt/rundir", "adt/lock"},
		{"adt/cron", "adt/config"},
		{"adt/metrics", "adt/runs"},
		{"adt/heartbeat", "adt/config"},
		{"adt/provider", "adt/cloudinit"},
		{"adt/manual", "adt/commands"},
		{"adt/config", "adt/remote"},
		{"adt/postmortem", "adt/events"},
		{"adt/housekeeping", "adt/rundir"},
		{"adt/dayfile", "adt/events"},
		{"adt/healthcheck", "adt/provider"},
		{"adt/proxy", "adt/healthcheck"},
		{"adt/proxy", "adt/rundir"},
		{"adt/healthcheck", "adt/rundir"},
		{"adt/healthcheck", "github.com/someone/probe", "adt/autoscaler"}, // through another
		{"adt/commands", "adt/provider/providertest"},
		{"adt/config", "testing"},
		{"adt/notify", "adt/autoscaler"},
		{"adt/notify", "adt/config"},
		{"adt/autoscaler", "adt/notify"},
		{"adt/healthcheck", "github.com/wneessen/go-mail"},
		{"adt/security/firewall", "adt/config"},
		{"adt/security/firewall", "adt/events"},
		{"adt/autoscaler", "adt/security/netnstest"},
	} {
		g := sound()
		for i, pkg := range arrow[1:] {
			g[arrow[i]] = append(g[arrow[i]], pkg)
		}
		if got := g.broken(bans()); len(got) == 0 {
			t.Errorf("%s is not refused", strings.Join(arrow, " → "))
		}
	}
}
