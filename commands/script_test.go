package commands_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"

	"adt/commands"
	"adt/provider/local"
)

// TestMain makes the test binary adt itself, for the scripts and for the
// servers of the local cloud that adt starts.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"adt": func() {
		ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) // as main does
		os.Exit(commands.Main(ctx, commands.System()))
	}})
}

// fast is a configuration in which nothing waits longer than it must.
const fast = `[autoscaler]
number = 1
region = "lon1"
build = "shop"
[website]
url = "www.example.com"
ttl = "1s"
[ssh]
key = "key"
[local]
boot = "0s"
build = "0s"
[build]
poll = "20ms"
settle = "300ms"
[scale]
drain = "1ms"
budget = "20s"
missing_after = "300ms"
[healthcheck]
grace = "0s"
stalled_after = "1s"
deadline = "5s"
`

// TestScripts runs testdata/script: each file is a session of an operator (or
// of cron) on a machine of its own, with $HOME, configuration and cloud.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: furnish,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "oneline": oneLine, "json": jsonPath, "setvar": setVar,
			"snapshot": snapshot, "unchanged": unchanged, "config": configure, "monitor": pinged,
			"post": postOffice, "arrived": arrived, "record": record, "secretly": secretly,
		},
		RequireUniqueNames: true,
	})
}

// furnish makes the machine of a script, and ends its cloud with it.
func furnish(env *testscript.Env) error {
	home := filepath.Join(env.WorkDir, "home")
	env.Setenv("HOME", home)
	env.Setenv("TZ", "UTC")
	env.Setenv("GORACE", "atexit_sleep_ms=0 halt_on_error=1") // the race detector would sleep a second before each exit
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	office := &post{}
	env.Values[post{}] = office
	env.Defer(office.close)
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return err
	}
	env.Defer(func() {
		cloud, err := local.Open(local.Config{Dir: filepath.Join(home, "cloud")})
		if err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			err = cloud.Clean(ctx)
		}
		if err != nil {
			env.T().Log("cleaning the cloud: ", err)
			env.T().FailNow()
		}
	})
	return errors.Join(
		os.WriteFile(filepath.Join(home, "key"), pem.EncodeToMemory(block), 0o600),
		os.WriteFile(filepath.Join(home, "adt.toml"), []byte(fast), 0o600),
	)
}

// exits runs a command and wants that exit code:
//
//	exits 2 adt scale --count nine
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARGUMENT...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := run(ts, args[1:]); got != want {
		ts.Fatalf("%s: exit code %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

func run(ts *testscript.TestScript, args []string) int {
	err := ts.Exec(args[0], args[1:]...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	ts.Check(err)
	return 0
}

// oneLine wants stderr to be a single line of the form "adt: message" that
// holds all the words: what is wrong, and what would be right.
func oneLine(ts *testscript.TestScript, neg bool, words []string) {
	text := ts.ReadFile("stderr")
	if neg || strings.Count(text, "\n") != 1 || !strings.HasPrefix(text, "adt: ") || strings.Contains(text, "error: ") {
		ts.Fatalf("stderr is not one line for an operator:\n%s", text)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			ts.Fatalf("stderr lacks %q: %s", w, text)
		}
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("stdout holds %q along with an error", out)
	}
}

// jsonPath wants a value in the last command's JSON. A path is keys and indexes
// with dots between; len is the length of what comes before it. Without a value
// the path has to exist.
//
//	json fleet.provisioned 2
//	json servers.0.name ws-lon1-shop-1-agil-init-1
//	json servers.len 2
func jsonPath(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: json PATH [VALUE]")
	}
	got, found := lookUp(ts, args[0])
	ok := found && (len(args) == 1 || got == args[1])
	if ok == neg {
		ts.Fatalf("%s is %q (found: %v) in %s", args[0], got, found, ts.ReadFile("stdout"))
	}
}

// setVar keeps a value of the last command's JSON:
//
//	setvar NAME servers.0.name
func setVar(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: setvar VARIABLE PATH")
	}
	got, found := lookUp(ts, args[1])
	if !found {
		ts.Fatalf("there is no %s in %s", args[1], ts.ReadFile("stdout"))
	}
	ts.Setenv(args[0], got)
}

func lookUp(ts *testscript.TestScript, path string) (string, bool) {
	var v any
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &v); err != nil {
		ts.Fatalf("stdout is no JSON: %v: %s", err, ts.ReadFile("stdout"))
	}
	for key := range strings.SplitSeq(path, ".") {
		switch at := v.(type) {
		case map[string]any:
			child, ok := at[key]
			if !ok {
				return "", false
			}
			v = child
		case []any:
			if key == "len" {
				return fmt.Sprint(len(at)), true
			}
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(at) {
				return "", false
			}
			v = at[i]
		case nil:
			return "0", key == "len"
		default:
			return "", false
		}
	}
	if text, ok := v.(string); ok {
		return text, true
	}
	data, err := json.Marshal(v)
	ts.Check(err)
	return string(data), true
}

// snapshot remembers all that a command could change; unchanged compares.
func snapshot(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Setenv("SNAPSHOT", fingerprint(ts))
}

func unchanged(ts *testscript.TestScript, neg bool, _ []string) {
	before, after := ts.Getenv("SNAPSHOT"), fingerprint(ts)
	if (before == after) == neg {
		ts.Fatalf("changed: %v, wanted: %v\nbefore:\n%s\nafter:\n%s", before != after, neg, before, after)
	}
}

// fingerprint lists state, datastore and cloud with their contents. Locks, the
// clock, the records of runs and the log of API calls change with every look.
func fingerprint(ts *testscript.TestScript) string {
	home := ts.Getenv("HOME")
	var b strings.Builder
	for _, part := range []string{"runtime", "datastore", "cloud"} {
		root := filepath.Join(home, part)
		ts.Check(filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			name, _ := filepath.Rel(home, path)
			switch base := filepath.Base(path); {
			case err != nil:
				return err
			case !e.Type().IsRegular(), strings.HasSuffix(base, ".lock") && filepath.Dir(name) == part,
				strings.HasSuffix(base, "lock.file"), base == "clock.json", filepath.Base(filepath.Dir(path)) == "runs", base == "calls.jsonl", base == "server.log":
				return nil
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%s %d %.8x\n", name, len(data), sha256.Sum256(data))
			return nil
		}))
	}
	return b.String()
}

// configure sets keys of adt.toml:
//
//	config autoscaler.count=3 build.max_failures=1
func configure(ts *testscript.TestScript, neg bool, args []string) {
	path := filepath.Join(ts.Getenv("HOME"), "adt.toml")
	text := ts.ReadFile(path)
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		section, key, dotted := strings.Cut(key, ".")
		if neg || !ok || !dotted {
			ts.Fatalf("usage: config SECTION.KEY=VALUE...")
		}
		head := "[" + section + "]\n"
		before, body, found := strings.Cut(text, head)
		if !found {
			before, body = text, ""
		}
		body, rest, _ := strings.Cut(body, "\n[")
		if rest != "" {
			rest = "\n[" + rest
		}
		lines := []string{key + " = " + value}
		for line := range strings.SplitSeq(strings.TrimSuffix(body, "\n"), "\n") {
			if line != "" && !strings.HasPrefix(line, key+" =") {
				lines = append(lines, line)
			}
		}
		if rest == "" {
			rest = "\n"
		}
		text = before + head + strings.Join(lines, "\n") + rest
	}
	ts.Check(os.WriteFile(path, []byte(text), 0o600))
}
