package commands

import (
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"adt/autoscaler"
	"adt/events"
)

//go:embed completion
var completionScripts embed.FS

// shells are those that a completion is there for.
func shells() []string { return []string{"bash", "zsh", "fish"} }

func completionCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print what makes a shell complete commands, flags and webservers",
		ArgsUsage: "bash|zsh|fish",
		Description: `EXAMPLES:
   eval "$(adt completion bash)"       in ~/.bashrc
   eval "$(adt completion zsh)"        in ~/.zshrc, after compinit
   adt completion fish | source        in ~/.config/fish/config.fish

   Webservers are completed from the state files in ~/runtime; nobody is asked.
   The Debian package brings all three.`,
		Action: func(c *cli.Context) error {
			shell, err := oneArg(c, "shell")
			if err != nil {
				return err
			}
			if !slices.Contains(shells(), shell) {
				return usagef("there is no completion for %q, only for %s", shell, strings.Join(shells(), ", "))
			}
			script, err := completionScripts.ReadFile("completion/adt." + shell)
			if err != nil {
				return err
			}
			_, err = h.env.Stdout.Write(script)
			return err
		},
	}
}

// completeCommand is what those scripts ask: complete -- WORD..., the last of
// which is to be completed. It prints a line for each possible word: the word, a
// tab, what it means; or ":files" where the shell's files are meant.
func completeCommand(h *host) *cli.Command {
	return &cli.Command{
		Name: "complete", Hidden: true, SkipFlagParsing: true, ArgsUsage: "-- WORD...",
		Usage: "say how a command line may go on (asked by adt completion's scripts)",
		Action: func(c *cli.Context) error {
			words := c.Args().Slice()
			if len(words) > 0 && words[0] == "--" {
				words = words[1:]
			}
			for _, w := range candidates(h, c.App, words) {
				if w.means == "" {
					fmt.Fprintln(h.env.Stdout, w.word)
				} else {
					fmt.Fprintf(h.env.Stdout, "%s\t%s\n", w.word, w.means)
				}
			}
			return nil
		},
	}
}

// candidate is a word that a command line may go on with.
type candidate struct{ word, means string }

// files says that the shell's own completion of files is meant.
func files() []candidate { return []candidate{{word: ":files"}} }

// candidates are what the last word may become.
func candidates(h *host, app *cli.App, words []string) []candidate {
	if len(words) == 0 {
		words = []string{""}
	}
	done, current := words[:len(words)-1], words[len(words)-1]
	flags, below := app.VisibleFlags(), app.VisibleCommands()
	path, wants := "", cli.Flag(nil) // the commands so far; a flag that waits for its value
	arguments := 0
	for _, word := range done {
		switch {
		case wants != nil:
			wants = nil
		case strings.HasPrefix(word, "-"):
			wants = valueFlag(flags, word)
		case len(below) == 0:
			arguments++
		default:
			at := slices.IndexFunc(below, func(c *cli.Command) bool { return c.HasName(word) })
			if at < 0 {
				return nil // no such command: there is nothing to go on with
			}
			path = strings.TrimSpace(path + " " + word)
			flags, below = below[at].VisibleFlags(), below[at].VisibleCommands()
		}
	}
	var all []candidate
	switch {
	case wants != nil:
		all = values(wants)
	case strings.HasPrefix(current, "-"):
		all = flagWords(flags)
	case len(below) > 0:
		for _, c := range below {
			all = append(all, candidate{c.Name, c.Usage})
		}
	default:
		all = argumentsOf(h, app, path, arguments)
	}
	return slices.DeleteFunc(all, func(c candidate) bool { return c.word != ":files" && !strings.HasPrefix(c.word, current) })
}

// valueFlag is the flag of that word, if the next word is its value.
func valueFlag(flags []cli.Flag, word string) cli.Flag {
	name := strings.TrimLeft(word, "-")
	for _, f := range flags {
		if doc, ok := f.(cli.DocGenerationFlag); ok && doc.TakesValue() && slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil // also of --name=value
}

func flagWords(flags []cli.Flag) (all []candidate) {
	for _, f := range flags {
		means := ""
		if doc, ok := f.(cli.DocGenerationFlag); ok {
			means = strings.ReplaceAll(doc.GetUsage(), "`", "")
		}
		all = append(all, candidate{"--" + f.Names()[0], means})
	}
	return all
}

// values are what a flag takes, where that can be said.
func values(f cli.Flag) []candidate {
	if f.Names()[0] == "reason" {
		if _, several := f.(*cli.StringSliceFlag); several { // of events; of a pause it is words
			var all []candidate
			for _, m := range events.Meanings() {
				all = append(all, candidate{string(m.Reason), m.Text})
			}
			return all
		}
	}
	if doc, ok := f.(cli.DocGenerationFlag); ok && (strings.Contains(doc.GetUsage(), "`FILE`") || strings.Contains(doc.GetUsage(), "`DIR`")) {
		return files()
	}
	return nil
}

// argumentsOf are what a command takes after its flags; n of them are there.
func argumentsOf(h *host, app *cli.App, path string, n int) (all []candidate) {
	switch {
	case path == "pause" || path == "resume":
		for _, what := range append(autoscaler.Pausable(), "all") {
			all = append(all, candidate{word: what})
		}
	case n > 0: // those below take one
	case path == "replace" || path == "protect" || path == "unprotect":
		for _, name := range webserverNames(h, path == "unprotect") {
			all = append(all, candidate{word: name})
		}
	case path == "completion":
		for _, shell := range shells() {
			all = append(all, candidate{word: shell})
		}
	case path == "man":
		for _, c := range app.VisibleCommands() {
			all = append(all, candidate{c.Name, c.Usage})
		}
	case path == "config import" || path == "local":
		return files()
	}
	return all
}

// webserverNames reads the state files and nothing else: it asks nobody, makes
// nothing, and what cannot be read has no names.
func webserverNames(h *host, guarded bool) (names []string) {
	runtime := filepath.Join(h.env.Getenv("HOME"), "runtime")
	read := func(path string, into any) {
		if data, err := os.ReadFile(path); err == nil {
			_ = json.Unmarshal(data, into)
		}
	}
	if guarded {
		var rec struct{ Protected map[string]json.RawMessage }
		read(filepath.Join(runtime, "protected.json"), &rec)
		for name := range rec.Protected {
			names = append(names, name)
		}
		slices.Sort(names)
		return names
	}
	inventories := []string{filepath.Join(runtime, "servers.json")}
	guests, _ := filepath.Glob(filepath.Join(runtime, "shards", "*", "servers.json"))
	for _, path := range append(inventories, guests...) {
		var inv autoscaler.Inventory
		read(path, &inv)
		for _, k := range inv.Servers {
			names = append(names, k.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
