package commands

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/urfave/cli/v2"

	"adt/config"
)

func configImportCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:      "import",
		Usage:     "make adt.toml and a secrets file from the settings of the original's autoscaler scripts",
		ArgsUsage: "DIR",
		Description: `EXAMPLES:
   adt config import ~/runtime                      ~/adt.toml and ~/adt-secrets.toml, and what became of each line
   adt config import --autoscalers 3 ~/runtime      of a fleet that three autoscalers share
   adt config import --dry-run ~/runtime            say it, print adt.toml, write nothing

   DIR is the original's runtime directory. Nothing else is changed or asked: docs/migrating.md has
   the steps that follow.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write the configuration to `FILE` (default: ~/adt.toml)"},
			&cli.StringFlag{Name: "secrets", Usage: "write the secrets to `FILE`, mode 0600 (default: adt-secrets.toml beside the configuration)"},
			&cli.IntFlag{Name: "autoscalers", Value: 1, Usage: "`N` autoscalers share the fleet, 1 to 5"},
			&cli.IntFlag{Name: "number", Usage: "this is autoscaler `K` (default: what the host name NO-<k>-as-… says)"},
			&cli.BoolFlag{Name: "force", Usage: "replace files that are there"},
			dryRunFlag(), jsonFlag(),
		},
		Action: func(c *cli.Context) error { return h.importOriginal(c) },
	}
}

func (h *host) importOriginal(c *cli.Context) error {
	dir, err := oneArg(c, "directory")
	if err != nil {
		return err
	}
	if n := c.Int("autoscalers"); n < 1 || n > 5 {
		return usagef("--autoscalers: must be from 1 to 5, got %d", n)
	}
	if n := c.Int("number"); c.IsSet("number") && (n < 1 || n > c.Int("autoscalers")) {
		return usagef("--number: must be from 1 to %d, the number of autoscalers, got %d", c.Int("autoscalers"), n)
	}
	output, secrets, err := h.importPaths(c)
	if err != nil {
		return err
	}
	original := config.Original{Files: map[string][]byte{}, Autoscalers: c.Int("autoscalers"), Number: c.Int("number"), Hash: hasher(c.Context)}
	for _, name := range config.OriginalFiles() {
		data, err := os.ReadFile(filepath.Join(dir, name))
		switch {
		case err == nil:
			original.Files[name] = data
		case !errors.Is(err, fs.ErrNotExist):
			return usageError{err}
		}
	}
	imported, err := config.ImportOriginal(original, filepath.Base(secrets))
	if err != nil {
		return usageError{fmt.Errorf("%s: %w", dir, err)}
	}
	if filepath.Dir(secrets) != filepath.Dir(output) {
		if imported, err = config.ImportOriginal(original, secrets); err != nil {
			return usageError{err}
		}
	}
	if !c.Bool("dry-run") && !c.Bool("force") {
		for _, path := range []string{output, secrets} {
			if !missing(path) {
				return usagef("%s is there already: --force replaces it, --output FILE writes elsewhere", path)
			}
		}
	}
	if err := h.tryImport(imported, output, secrets, c.Bool("dry-run")); err != nil {
		return err
	}
	return h.reportImport(c, imported, output, secrets)
}

func (h *host) importPaths(c *cli.Context) (output, secrets string, err error) {
	if output = c.String("output"); output == "" {
		home := h.env.Getenv("HOME")
		if home == "" {
			return "", "", usagef("$HOME is not set: say --output FILE")
		}
		output = filepath.Join(home, "adt.toml")
	}
	if output, err = filepath.Abs(output); err != nil {
		return "", "", usageError{err}
	}
	if secrets = c.String("secrets"); secrets == "" {
		secrets = filepath.Join(filepath.Dir(output), "adt-secrets.toml")
	}
	secrets, err = filepath.Abs(secrets)
	return output, secrets, err
}

// tryImport writes both files beside their places, loads them, and moves them
// in place when they are good: the secrets first, as the other one names them.
func (h *host) tryImport(imported config.Imported, output, secrets string, dryRun bool) error {
	trial, err := os.MkdirTemp(filepath.Dir(output), ".adt-import-")
	if err != nil {
		return usageError{err}
	}
	defer os.RemoveAll(trial)
	tried := filepath.Join(trial, filepath.Base(output))
	text := imported.TOML
	if filepath.Dir(secrets) != filepath.Dir(output) { // the trial finds its own
		text = []byte(strings.ReplaceAll(string(text), "file:"+secrets+"#", "file:"+filepath.Base(secrets)+"#"))
	}
	if err := os.WriteFile(filepath.Join(trial, filepath.Base(secrets)), imported.SecretsFile(), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(tried, text, 0o600); err != nil {
		return err
	}
	if _, err := config.Load(tried, config.Env{Getenv: h.env.Getenv, Hostname: h.env.Hostname}); err != nil {
		return usageError{fmt.Errorf("nothing was written, as the result would not be good: %s", strings.ReplaceAll(err.Error(), tried, output))}
	}
	if dryRun {
		return nil
	}
	if err := renameio.WriteFile(secrets, imported.SecretsFile(), 0o600, renameio.IgnoreUmask()); err != nil {
		return err
	}
	return renameio.WriteFile(output, imported.TOML, 0o600, renameio.IgnoreUmask())
}

func (h *host) reportImport(c *cli.Context, imported config.Imported, output, secrets string) error {
	if c.Bool("json") {
		return printJSON(h.env.Stdout, struct {
			Config  string        `json:"config"`
			Secrets string        `json:"secrets"`
			Written bool          `json:"written"`
			TOML    string        `json:"toml"`
			Notes   []config.Note `json:"notes"`
		}{output, secrets, !c.Bool("dry-run"), string(imported.TOML), imported.Notes})
	}
	for _, n := range imported.Notes {
		fmt.Fprintln(h.env.Stdout, n)
	}
	if c.Bool("dry-run") {
		_, err := fmt.Fprintf(h.env.Stdout, "\n%s\nnothing was written (--dry-run)\n", imported.TOML)
		return err
	}
	_, err := fmt.Fprintf(h.env.Stdout, "\nwrote %s and %s; next: adt config check, adt doctor, adt scale --dry-run\n", output, secrets)
	return err
}

// hasher makes sha512crypt hashes with openssl, which gets the password on
// standard input.
func hasher(ctx context.Context) func(string) (string, error) {
	return func(password string) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, "openssl", "passwd", "-6", "-stdin")
		cmd.Stdin = strings.NewReader(password + "\n")
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("openssl passwd: %w", err)
		}
		return strings.TrimSpace(string(out)), nil
	}
}
