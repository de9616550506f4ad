package commands_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"adt/commands"
)

// has reports whether a program is here. One that is in $ADT_REQUIRE must be.
func has(program string) (bool, error) {
	if _, err := exec.LookPath(program); err == nil {
		return true, nil
	}
	if slices.Contains(strings.Split(os.Getenv("ADT_REQUIRE"), ","), program) {
		return false, fmt.Errorf("required by $ADT_REQUIRE: %s is not installed", program)
	}
	return false, nil
}

// TestShells completes command lines in the real shells.
func TestShells(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if ok, err := has(shell); err != nil {
			t.Error(err)
		} else if !ok {
			fmt.Fprintf(os.Stderr, "LEFT OUT: completion in %s, which is not installed\n", shell)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/shells",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("GORACE", "atexit_sleep_ms=0 halt_on_error=1") // the race detector would sleep a second before each exit
			runtime := filepath.Join(env.WorkDir, "runtime")
			servers := `{"version": 1, "servers": {"1": {"name": "ws-lon1-shop-1-agil-AAAA"}, "2": {"name": "ws-lon1-shop-1-agil-BBBB"}}}`
			if err := os.Mkdir(runtime, 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(runtime, "servers.json"), []byte(servers), 0o600)
		},
		Condition: func(cond string) (bool, error) {
			program, ok := strings.CutPrefix(cond, "has:")
			if !ok {
				return false, fmt.Errorf("there is no condition %q", cond)
			}
			return has(program)
		},
	})
}

// TestManual holds each page against the programs that show it.
func TestManual(t *testing.T) {
	dir := t.TempDir()
	var stderr bytes.Buffer
	env := commands.System()
	env.Args, env.Stdout, env.Stderr = []string{"adt", "man", "--out", dir}, &stderr, &stderr
	if code := commands.Main(t.Context(), env); code != 0 {
		t.Fatalf("exit %d: %s", code, &stderr)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil || len(pages) < 15 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for name, args := range map[string][]string{
		"man":    {"--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"},
		"mandoc": {"-Tlint", "-W", "warning"},
	} {
		if ok, err := has(name); err != nil {
			t.Error(err)
			continue
		} else if !ok {
			fmt.Fprintf(os.Stderr, "LEFT OUT: manual pages in %s, which is not installed\n", name)
			continue
		}
		for _, page := range pages {
			cmd := exec.CommandContext(t.Context(), name, append(slices.Clone(args), page)...)
			var said bytes.Buffer
			cmd.Stderr = &said
			if name == "mandoc" { // what it finds is its output
				cmd.Stdout = &said
			}
			_ = cmd.Run() // what it finds is its exit code as well
			for line := range strings.Lines(said.String()) {
				if !strings.Contains(line, "missing date") { // it would make each build another page
					t.Errorf("%s: %s", name, line)
				}
			}
		}
	}
}
