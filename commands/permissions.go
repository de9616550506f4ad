package commands

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"adt/config"
	"adt/events"
	"adt/security/permissions"
)

func permissionsCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:  "permissions",
		Usage: "say which private files others may read or change; --fix puts them right",
		Description: `EXAMPLES:
   adt permissions          a line for each file that is not as it shall be; exit 1 when there is one
   adt permissions --fix    put modes and owners right (owners only as root)
   adt permissions --json | jq -r '.[] | select(.fixed | not) | .path'

   Private are adt.toml when it holds secrets, the files that it takes secrets from, the
   SSH key, ~/.ssh, ~/runtime and ~/logs. Others may read but not change adt.toml without
   secrets, the home, known_hosts, a datastore that is a folder, templates and the site
   of new webservers. Links are not followed. Without --fix nothing is changed.`,
		Flags:  []cli.Flag{jsonFlag(), &cli.BoolFlag{Name: "fix", Usage: "put right what is wrong"}},
		Action: func(c *cli.Context) error { return runPermissions(h, c) },
	}
}

func runPermissions(h *host, c *cli.Context) error {
	path, err := config.Find(c.String("config"), h.env.Getenv)
	if err != nil {
		return usageError{err}
	}
	env := config.Env{Getenv: h.env.Getenv, Hostname: h.env.Hostname}
	private, err := config.Private(path, env)
	if err != nil {
		return usageError{err}
	}
	home := h.env.Getenv("HOME")
	if !filepath.IsAbs(home) {
		return usagef("$HOME is %q, must be an absolute path: state, logs and ~/ are below it", home)
	}
	// A configuration with open secrets is refused by all else, and must not be here.
	cfg, err := config.Load(path, env)
	if err != nil {
		cfg = &config.Config{Path: path, Home: home}
	}
	owners, err := ownersOf(home)
	if err != nil {
		return err
	}
	found, checkErr := permissions.Check(wantedModes(cfg, private), owners, c.Bool("fix"))
	s, err := h.localSite(cfg, c.Command.Name)
	if err != nil {
		return errors.Join(checkErr, err)
	}
	if c.Bool("json") {
		err = printJSON(h.env.Stdout, append([]permissions.Finding{}, found...))
	} else {
		printModes(h.env.Stdout, found, c.Bool("fix"))
	}
	var left, fixed []string
	for _, f := range found {
		if f.Fixed {
			fixed = append(fixed, f.Path)
		} else {
			left = append(left, f.Path)
		}
	}
	if len(fixed) > 0 {
		s.note(events.PermissionsFixed, some(fixed))
	}
	if len(left) == 0 || err != nil || checkErr != nil {
		return errors.Join(checkErr, err)
	}
	if terminal(h.env.Stderr) {
		s.note(events.PermissionsWrong, some(left))
	} else {
		s.record(events.PermissionsWrong, some(left)+": adt permissions --fix")
	}
	return toldError{errors.New("something is not private")}
}

// some names the first of many.
func some(paths []string) string {
	const enough = 3
	text := strings.Join(paths[:min(enough, len(paths))], ", ")
	if more := len(paths) - enough; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// ownersOf takes the home's owner for the one whom everything belongs to: cron
// may run adt as root in it.
func ownersOf(home string) (permissions.Owners, error) {
	info, err := os.Stat(home)
	if err != nil {
		return permissions.Owners{}, fmt.Errorf("$HOME: %w", err)
	}
	owner := os.Geteuid()
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		owner = int(st.Uid)
	}
	return permissions.Owners{Allowed: []int{0, owner, os.Geteuid()}, Owner: owner}, nil
}

// wantedModes is what shall hold of which files. A file that is named twice is
// held against what is said of it first.
func wantedModes(cfg *config.Config, private []string) []permissions.Want {
	const others, write = 0o077, 0o022
	var all []permissions.Want
	add := func(path string, forbidden os.FileMode, tree bool, why string) {
		if path != "" {
			all = append(all, permissions.Want{Path: path, Forbidden: forbidden, Tree: tree, Why: why})
		}
	}
	for _, path := range private {
		why := "it holds a secret"
		if path == cfg.SSH.Key {
			why = "it is the SSH key of the fleet"
		}
		add(path, others, false, why)
	}
	add(cfg.Path, write, false, "whoever changes it commands the fleet")
	in := func(name string) string { return filepath.Join(cfg.Home, name) }
	add(in(".ssh"), others, false, "SSH keys are kept there")
	add(cfg.RuntimeDir(), others, true, "state of the fleet, with SSH host keys")
	add(cfg.LogDir(), others, true, "logs tell addresses and names")
	add(cfg.Home, write, false, "whoever changes it can replace what is in it")
	add(cfg.Datastore.KnownHosts, write, false, "whoever changes it can pose as a machine")
	if cfg.Datastore.Driver == "file" {
		add(cfg.Datastore.Path, write, true, "whoever changes it commands the fleet")
	}
	for _, path := range []string{cfg.CloudInit.Folder, cfg.CloudInit.Site} {
		add(path, write, true, "new webservers are made from it")
	}
	return all
}

func printModes(w io.Writer, found []permissions.Finding, fix bool) {
	for _, f := range found {
		word, hint := "WRONG", ""
		if f.Fixed {
			word = "fixed"
		}
		if f.Hint != "" {
			hint = ": " + f.Hint
		}
		fmt.Fprintf(w, "%s  %s: %s (%s)%s\n", word, f.Path, f.Wrong, f.Why, hint)
	}
	if len(found) > 0 && !fix {
		fmt.Fprintln(w, "adt permissions --fix puts right what can be")
	}
}
