package commands

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"adt/config"
	"adt/cron"
)

// Crontab is where this machine's crontabs are changed. They are read through
// Env.Root, but for the user's own, which only the crontab program may.
type Crontab interface {
	// Own returns the user's own crontab; "" is none.
	Own(context.Context) (string, error)
	// SetOwn replaces it; "" removes it.
	SetOwn(ctx context.Context, text string) error
	// SetSystem replaces /etc/cron.d/<name>; "" removes it.
	SetSystem(name, text string) error
}

type systemCrontab struct{}

const crontabPatience = 10 * time.Second

func (systemCrontab) Own(ctx context.Context) (string, error) {
	out, err := runCrontab(ctx, "", "-l")
	// All of them say it so: "no crontab for root".
	if err != nil && strings.Contains(strings.ToLower(err.Error()), "no crontab for") {
		return "", nil
	}
	return out, err
}

func (systemCrontab) SetOwn(ctx context.Context, text string) error {
	if text == "" {
		_, err := runCrontab(ctx, "", "-r")
		return err
	}
	_, err := runCrontab(ctx, text, "-")
	return err
}

func runCrontab(ctx context.Context, stdin, arg string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, crontabPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "crontab", arg)
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &said
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", errors.New("there is no program crontab: install cron (apt install cron)")
	case err != nil:
		return "", fmt.Errorf("crontab %s: %v: %s", arg, err, strings.Join(strings.Fields(said.String()), " ")) //nolint:errorlint // an exit code of another program must not become ours
	}
	return out.String(), nil
}

// cronFolder is where cron looks for tables of packages. It passes over names with
// dots, so also over a file that is being written.
const cronFolder = "etc/cron.d"

func (systemCrontab) SetSystem(name, text string) error {
	return setSystem(filepath.Join("/", cronFolder), name, text)
}

func setSystem(folder, name, text string) error {
	path := filepath.Join(folder, name)
	var err error
	if text == "" {
		err = os.Remove(path)
	} else {
		err = renameio.WriteFile(path, []byte(text), 0o644, renameio.WithTempDir(folder), renameio.WithStaticPermissions(0o644))
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s may only be changed by root: call it as root, or with --user for your own crontab", path)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no folder %s: install cron (apt install cron)", folder)
	case err != nil:
		return fmt.Errorf("changing %s: %w", path, err)
	}
	return nil
}

// crontabs is all that cron reads on this machine, as far as the user may.
type crontabs struct {
	tables []cron.Table
	own    int // index of the user's own table, -1 where it cannot be told
	ownErr error
	users  map[string]string // name: home
}

// mine is what the user's own crontab is called.
func mine(user string) string { return "the crontab of " + user }

func (h *host) crontabs(ctx context.Context) crontabs {
	all := crontabs{own: -1, users: map[string]string{}}
	user := "this user"
	passwd, _ := fs.ReadFile(h.env.Root, "etc/passwd")
	for line := range strings.Lines(string(passwd)) {
		if f := strings.Split(line, ":"); len(f) >= 6 {
			all.users[f[0]] = f[5]
			if f[2] == strconv.Itoa(h.env.Uid) && user == "this user" {
				user = f[0]
			}
		}
	}
	add := func(name, owner, path string) {
		if text, err := fs.ReadFile(h.env.Root, path); err == nil {
			all.tables = append(all.tables, cron.Table{Name: name, Owner: owner, Text: string(text)})
		}
	}
	add("/etc/crontab", "", "etc/crontab")
	files, _ := fs.Glob(h.env.Root, cronFolder+"/*")
	for _, path := range files {
		if regexp.MustCompile(`^[A-Za-z0-9_-]+$`).MatchString(filepath.Base(path)) {
			add("/"+path, "", path)
		}
	}
	spools, _ := fs.Glob(h.env.Root, "var/spool/cron/crontabs/*") // root may
	for _, path := range spools {
		if owner := filepath.Base(path); owner != user {
			add(mine(owner), owner, path)
		}
	}
	text, err := h.env.Crontab.Own(ctx)
	if all.ownErr = err; err == nil {
		all.own = len(all.tables)
		all.tables = append(all.tables, cron.Table{Name: mine(user), Owner: user, Text: text})
	}
	return all
}

func (c crontabs) home(user string) string { return c.users[user] }

// table returns a table by its name; one that is not there is empty.
func (c crontabs) table(name string) cron.Table {
	if i := slices.IndexFunc(c.tables, func(t cron.Table) bool { return t.Name == name }); i >= 0 {
		return c.tables[i]
	}
	return cron.Table{Name: name}
}

// examineCron asks whether a cron is at work: without one no line is worth anything.
func examineCron(h *host) finding {
	names, _ := fs.Glob(h.env.Root, "proc/[0-9]*/comm")
	for _, name := range names {
		comm, err := fs.ReadFile(h.env.Root, name)
		if err == nil && slices.Contains([]string{"cron", "crond"}, strings.TrimSpace(string(comm))) {
			return fine("cron", "running, pid %s", strings.Split(name, "/")[1])
		}
	}
	return wrong("cron", "install and start it: apt install cron", "no cron is running")
}

// examineCrontab looks for what the fleet needs, wherever cron would run it.
func examineCrontab(ctx context.Context, h *host, cfg *config.Config) finding {
	var wanted, none []string
	all := h.crontabs(ctx)
	for _, e := range cronEntries(cfg, false) {
		wanted = append(wanted, e.Name())
		runs := func(j cron.Job) bool { return cron.Runs(j.Command, "adt", e.Args...) }
		if !slices.ContainsFunc(all.tables, func(t cron.Table) bool { return slices.ContainsFunc(t.Jobs(), runs) }) {
			none = append(none, e.Name())
		}
	}
	if len(none) > 0 {
		return wrong("crontab", "adt cron install", "no line runs adt %s", strings.Join(none, ", adt "))
	}
	return fine("crontab", "runs adt %s", strings.Join(wanted, ", adt "))
}
