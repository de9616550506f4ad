package commands

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/urfave/cli/v2"
	"golang.org/x/crypto/ssh"

	"adt/config"
)

func installCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:  "install",
		Usage: "make a bare Debian or Ubuntu machine an autoscaler: user, folders, adt.toml, build key, cron, firewall",
		Description: `EXAMPLES:
   adt install --dry-run          what is there already, and what would be done
   adt install                    do it; fill in the adt.toml that it names, then call it again
   adt install --server-user web  another server user than agile
   adt install --no-firewall      leave the firewall alone, whatever [firewall] says

   It is for root, and may be called as often as you like: what is there stays, adt.toml
   above all. Cron and firewall come when adt.toml is complete. Logs need no logrotate: they
   are files of a day, which adt housekeeping compresses and deletes.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "server-user", Value: "agile", Usage: "the `USER` in whose home adt.toml, state and logs are; made if missing"},
			&cli.BoolFlag{Name: "no-cron", Usage: "leave the crontab alone"},
			&cli.BoolFlag{Name: "no-firewall", Usage: "leave the firewall alone"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "change the firewall without asking; it still wants adt firewall confirm"},
			dryRunFlag(), jsonFlag(),
		},
		Action: func(c *cli.Context) error { return runInstall(h, c) },
	}
}

func uninstallCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:  "uninstall",
		Usage: "take back what adt install did: cron's lines, the firewall's rules, the program",
		Description: `EXAMPLES:
   adt uninstall --dry-run
   adt uninstall                  adt.toml, keys, state, logs and the server user stay

   The fleet goes on serving, and nobody looks after it. While webservers are being built or
   terminated it is refused, as they would be left on the bill: adt scale --count, wait, again.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "server-user", Value: "agile", Usage: "the `USER` whose installation it is"},
			&cli.BoolFlag{Name: "force", Usage: "also while something is being built or terminated"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "take the firewall's rules off without asking"},
			dryRunFlag(),
		},
		Action: func(c *cli.Context) error { return runUninstall(h, c) },
	}
}

// installedProgram is where cron finds adt. The Debian package has it in packagedProgram.
const (
	installedProgram = "/usr/local/bin/adt"
	packagedProgram  = "/usr/bin/adt"
)

// step is one thing that a machine needs to be an autoscaler.
type step struct {
	What   string `json:"what"`
	State  string `json:"state"` // there, to do, done or later
	Detail string `json:"detail"`

	do func() error // nil where it is there, or has to wait
}

// installer makes steps of what a machine lacks.
type installer struct {
	*host
	c    *cli.Context
	user string
	home string // of the user
	uid  int    // -1 while the user is not there
	gid  int
}

func (h *host) newInstaller(c *cli.Context) (*installer, error) {
	if h.env.Uid != 0 {
		return nil, usagef("adt %s is for root: sudo adt %[1]s", c.Command.Name)
	}
	in := &installer{host: h, c: c, user: c.String("server-user")}
	if !config.IsUser(in.user) {
		return nil, usagef("--server-user: %q is no name of a user", in.user)
	}
	in.lookUp()
	return in, nil
}

// lookUp finds the user and its home, or where that will be.
func (in *installer) lookUp() {
	in.home, in.uid, in.gid = "/home/"+in.user, -1, -1
	passwd, _ := fs.ReadFile(in.env.Root, "etc/passwd")
	for line := range strings.Lines(string(passwd)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) >= 6 && f[0] == in.user {
			in.home = f[5]
			in.uid, _ = strconv.Atoi(f[2])
			in.gid, _ = strconv.Atoi(f[3])
		}
	}
}

// path is where a file of this machine is.
func (in *installer) path(name string) string { return filepath.Join(in.env.Base, name) }

func (in *installer) exists(name string) bool {
	_, err := os.Lstat(in.path(name))
	return err == nil
}

// asUser is the host as cron and the server user see it: with that home, and the
// program where it will be.
func (in *installer) asUser() *host {
	env := in.env
	env.Getenv = func(name string) string {
		switch name {
		case "HOME":
			return in.path(in.home)
		case "ADT_CONFIG":
			return ""
		}
		return in.env.Getenv(name)
	}
	env.Program = func() (string, error) { return in.program() }
	return &host{env: env}
}

// program is where adt is called from now on.
func (in *installer) program() (string, error) {
	at, err := in.env.Program()
	if err == nil && at == packagedProgram {
		return at, nil
	}
	return installedProgram, err
}

func runInstall(h *host, c *cli.Context) error {
	in, err := h.newInstaller(c)
	if err != nil {
		return err
	}
	if err := in.supported(); err != nil {
		return err
	}
	var done []step
	// Each is looked at when those before it are done: the home follows from the user.
	for _, next := range []func() (step, error){in.copyProgram, in.makeUser, in.makeFolders, in.makeConfig, in.makeKey} {
		s, err := next()
		if err == nil && s.do != nil && !c.Bool("dry-run") {
			err = s.do()
			s.State = "done"
		}
		if err != nil {
			return in.stopped(done, fmt.Errorf("%s: %w", s.What, err))
		}
		done = append(done, s)
	}
	cfg, why := in.complete()
	wait := step{What: "cron", State: "later", Detail: why}
	if cfg == nil {
		done = append(done, wait, step{What: "firewall", State: "later", Detail: why})
	}
	if err := in.tell(done); err != nil || cfg == nil {
		return err
	}
	return errors.Join(in.cron(), in.firewall(cfg))
}

// supported finds machines of another kind, and those without a cron.
func (in *installer) supported() error {
	release, err := fs.ReadFile(in.env.Root, "etc/os-release")
	var ids []string
	for line := range strings.Lines(string(release)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key == "ID" || key == "ID_LIKE" {
			ids = append(ids, strings.Fields(strings.Trim(value, `"'`))...)
		}
	}
	if err != nil || !slices.Contains(ids, "debian") && !slices.Contains(ids, "ubuntu") {
		return usagef("adt install knows Debian and Ubuntu, and /etc/os-release does not say that this is one: docs/installing.md says how to do it by hand")
	}
	for _, name := range []string{"usr/sbin/cron", "usr/sbin/crond", "usr/bin/crontab"} {
		if _, err := fs.Stat(in.env.Root, name); err == nil {
			return nil
		}
	}
	return errors.New("there is no cron: apt install cron, then again")
}

func (in *installer) tell(steps []step) error {
	if in.c.Bool("json") {
		return printJSON(in.env.Stdout, steps)
	}
	for _, s := range steps {
		fmt.Fprintf(in.env.Stdout, "%-6s  %-9s  %s\n", s.State, s.What, s.Detail)
	}
	return nil
}

// stopped tells what was done before an error.
func (in *installer) stopped(done []step, err error) error {
	return errors.Join(in.tell(done), err)
}

func (in *installer) copyProgram() (step, error) {
	s := step{What: "program", State: "there"}
	at, err := in.env.Program()
	if err != nil {
		return s, fmt.Errorf("where adt itself is: %w", err)
	}
	if strings.Contains(at, "/go-build") {
		return s, usagef("this adt is one of go run and gone after it: go build -o %s . first, and call that", installedProgram)
	}
	if at == packagedProgram || at == installedProgram {
		s.Detail = at
		return s, nil
	}
	s.Detail = installedProgram + ", a copy of " + at
	program, err := os.ReadFile(in.path(at))
	if err != nil {
		return s, err
	}
	if there, err := os.ReadFile(in.path(installedProgram)); err == nil && bytes.Equal(there, program) {
		return s, nil
	}
	s.State = "to do"
	s.do = func() error {
		if err := os.MkdirAll(filepath.Dir(in.path(installedProgram)), 0o755); err != nil {
			return err
		}
		// Not over the old one: that may be running.
		return renameio.WriteFile(in.path(installedProgram), program, 0o755, renameio.WithTempDir(filepath.Dir(in.path(installedProgram))), renameio.WithStaticPermissions(0o755))
	}
	return s, nil
}

func (in *installer) makeUser() (step, error) {
	s := step{What: "user", State: "there", Detail: in.user + ", at home in " + in.home}
	if in.uid >= 0 {
		return s, nil
	}
	s.State = "to do"
	s.do = func() error {
		if err := in.env.Command(in.c.Context, "useradd", "--create-home", "--home-dir", in.home, "--shell", "/bin/bash", in.user); err != nil {
			return err
		}
		if in.lookUp(); in.uid < 0 {
			return fmt.Errorf("useradd made no user %s", in.user)
		}
		return nil
	}
	return s, nil
}

func (in *installer) folders() []string { return []string{"runtime", "logs", ".ssh"} }

func (in *installer) makeFolders() (step, error) {
	s := step{What: "folders", State: "there"}
	var missing []string
	for _, name := range in.folders() {
		at := filepath.Join(in.home, name)
		s.Detail += ", " + at
		if !in.exists(at) {
			missing = append(missing, at)
		}
	}
	s.Detail = strings.TrimPrefix(s.Detail, ", ")
	if len(missing) == 0 {
		return s, nil
	}
	s.State = "to do"
	s.do = func() error {
		for _, at := range missing {
			if err := errors.Join(os.MkdirAll(in.path(at), 0o700), in.own(at)); err != nil {
				return err
			}
		}
		return nil
	}
	return s, nil
}

// own gives a file to the server user.
func (in *installer) own(name string) error {
	if in.uid < 0 {
		return nil
	}
	return os.Lchown(in.path(name), in.uid, in.gid)
}

func (in *installer) configFile() string { return filepath.Join(in.home, "adt.toml") }

func (in *installer) makeConfig() (step, error) {
	s := step{What: "adt.toml", State: "there", Detail: in.configFile()}
	if in.exists(in.configFile()) {
		return s, nil
	}
	s.State = "to do"
	s.Detail += ", every key explained; those marked REQUIRED are yours to fill in"
	s.do = func() error {
		var text bytes.Buffer
		if err := config.Example(&text); err != nil {
			return err
		}
		return in.createFile(in.configFile(), text.Bytes())
	}
	return s, nil
}

// createFile makes a private file of the server user's, whole or not at all.
func (in *installer) createFile(name string, content []byte) error {
	at := in.path(name)
	f, err := os.CreateTemp(filepath.Dir(at), ".adt-install-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if in.uid >= 0 {
		if err := os.Lchown(f.Name(), in.uid, in.gid); err != nil {
			return err
		}
	}
	return os.Link(f.Name(), at) // unlike a rename it replaces nothing
}

// complete returns the configuration, or why it is none yet.
func (in *installer) complete() (*config.Config, string) {
	if !in.exists(in.configFile()) {
		return nil, "when " + in.configFile() + " is filled in: adt install again"
	}
	cfg, err := in.asUser().loadFile(in.path(in.configFile()))
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return nil, "when adt.toml is complete: adt install again (" + first + ")"
	}
	return cfg, ""
}

func (in *installer) makeKey() (step, error) {
	s := step{What: "build key", State: "later", Detail: "when adt.toml names the build: adt install again"}
	if !in.exists(in.configFile()) {
		return s, nil
	}
	at, err := config.KeyPath(in.path(in.configFile()), config.Env{Getenv: in.asUser().env.Getenv, Hostname: in.env.Hostname})
	if err != nil {
		return s, nil //nolint:nilerr // what is wrong with it is told of once, see complete
	}
	name := strings.TrimPrefix(at, in.env.Base)
	s.Detail = name
	if in.exists(name) {
		s.State = "there"
		return s, nil
	}
	s.State = "to do"
	s.Detail += "; its .pub is to be known to the vendor (adt doctor says by which name)"
	s.do = func() error { return in.newKey(name) }
	return s, nil
}

func (in *installer) newKey(name string) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(private, "adt build key")
	if err != nil {
		return err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return err
	}
	// The public half first: a private one without it would count as made.
	if err := os.Remove(in.path(name + ".pub")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := in.createFile(name+".pub", ssh.MarshalAuthorizedKey(key)); err != nil {
		return err
	}
	return in.createFile(name, pem.EncodeToMemory(block))
}

func (in *installer) cron() error {
	if in.c.Bool("no-cron") {
		return nil
	}
	out := in.asUser()
	if in.c.Bool("json") { // what is printed is for people
		out.env.Stdout = out.env.Stderr
	}
	return runCronInstall(out, in.c)
}

func (in *installer) firewall(cfg *config.Config) error {
	if in.c.Bool("no-firewall") || len(cfg.Firewall.VPC)+len(cfg.Firewall.SSH) == 0 {
		return nil
	}
	h := in.asUser()
	if in.c.Bool("json") {
		h.env.Stdout = h.env.Stderr
	}
	return h.onFirewall(in.c, setupFirewall)
}

func runUninstall(h *host, c *cli.Context) error {
	in, err := h.newInstaller(c)
	if err != nil {
		return err
	}
	if busy := in.busy(); len(busy) > 0 && !c.Bool("force") {
		return usagef("refused: %d webservers are being built or terminated, and would be left on the bill (%s): wait until adt status shows none, or --force", len(busy), busy[0])
	}
	user := in.asUser()
	if err := runCronUninstall(user, c); err != nil {
		return err
	}
	if in.exists(filepath.Join(in.home, "runtime", "firewall.json")) {
		if err := user.onFirewall(c, resetFirewall); err != nil {
			return err
		}
	}
	if in.exists(installedProgram) {
		if !c.Bool("dry-run") {
			if err := os.Remove(in.path(installedProgram)); err != nil {
				return fmt.Errorf("removing the program: %w", err)
			}
		}
		fmt.Fprintf(h.env.Stdout, "removed: %s\n", installedProgram)
	}
	fmt.Fprintf(h.env.Stdout, "kept: the user %s with adt.toml, keys, state and logs in %s\n", in.user, in.home)
	if c.Bool("dry-run") {
		fmt.Fprintln(h.env.Stdout, "nothing was changed (--dry-run)")
	}
	return nil
}

// busy is the records of what is on its way.
func (in *installer) busy() []string {
	var all []string
	for _, pattern := range []string{"AUTOSCALINGMONITOR:*", "terminating/*", "shards/*/AUTOSCALINGMONITOR:*", "shards/*/terminating/*"} {
		found, _ := filepath.Glob(filepath.Join(in.path(in.home), "runtime", pattern))
		for _, name := range found {
			if base := filepath.Base(name); !strings.HasPrefix(base, ".") && !strings.Contains(base, ".corrupt-") {
				all = append(all, strings.TrimPrefix(name, in.env.Base))
			}
		}
	}
	return all
}

// runProgram runs a program of the system to its end.
func runProgram(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("there is no program %s", name)
	}
	if err != nil {
		return fmt.Errorf("%s: %v: %s", name, err, strings.Join(strings.Fields(string(out)), " ")) //nolint:errorlint // an exit code of another program must not become ours
	}
	return nil
}
