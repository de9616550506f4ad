package commands

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"adt/manual"
)

func manCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:      "man",
		Usage:     "print the manual page of adt or of one command",
		ArgsUsage: "[COMMAND]",
		Description: `EXAMPLES:
   adt man | man -l -              the overview
   adt man scale | man -l -        one command
   adt man --out /usr/local/share/man/man1   all pages, where man(1) finds them

   The pages are made from what --help shows.`,
		Flags: []cli.Flag{&cli.StringFlag{Name: "out", Usage: "write all pages into the folder `DIR`, as adt.1, adt-scale.1, …"}},
		Action: func(c *cli.Context) error {
			if c.IsSet("out") {
				if c.Args().Present() {
					return usagef("--out writes all pages: leave out %q", c.Args().First())
				}
				return writePages(c.App, c.String("out"))
			}
			if c.NArg() > 1 {
				return usagef("man wants one command at most, got %d: its page has those below it", c.NArg())
			}
			pages := manPages(c.App)
			name := strings.TrimSuffix("adt-"+c.Args().First(), "-")
			at := slices.IndexFunc(pages, func(p manual.Page) bool { return p.Name == name })
			if at < 0 {
				return usagef("there is no command %q (adt --help lists them)", c.Args().First())
			}
			_, err := fmt.Fprint(h.env.Stdout, pages[at].Roff())
			return err
		},
	}
}

func writePages(app *cli.App, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("writing the manual pages: %w", err)
	}
	for _, p := range manPages(app) {
		if err := os.WriteFile(filepath.Join(dir, p.Name+".1"), []byte(p.Roff()), 0o644); err != nil {
			return fmt.Errorf("writing the manual pages: %w", err)
		}
	}
	return nil
}

// manPages are the overview, and a page for each command that help lists.
func manPages(app *cli.App) []manual.Page {
	const title = "adt manual"
	source := "adt " + app.Version
	top := manual.Page{Name: app.Name, Summary: app.Usage, Source: source, Title: title, Synopsis: []string{app.UsageText}}
	described, rest := helpParts(app.Description)
	overview := manual.Part{Heading: "COMMANDS"}
	pages := []manual.Page{top}
	for _, cmd := range app.VisibleCommands() {
		if cmd.Name == "help" {
			continue
		}
		overview.Options = append(overview.Options, manual.Option{Term: app.Name + " " + cmd.Name, Text: cmd.Usage})
		pages = append(pages, commandPage(app.Name, cmd, source, title))
		pages[0].SeeAlso = append(pages[0].SeeAlso, app.Name+"-"+cmd.Name)
	}
	pages[0].Parts = append([]manual.Part{{Heading: "DESCRIPTION", Blocks: described}, overview, {Heading: "OPTIONS", Options: options(app.VisibleFlags())}}, rest...)
	pages[0].Parts = append(pages[0].Parts, environment()...)
	return pages
}

// environment is what help does not show: what adt finds around it.
func environment() []manual.Part {
	return []manual.Part{
		{Heading: "FILES", Options: []manual.Option{
			{Term: "~/adt.toml, /etc/adt/adt.toml", Text: "the configuration (adt config example explains every key)"},
			{Term: "~/runtime", Text: "the state: what one run leaves for the next"},
			{Term: "~/logs/events", Text: "what was decided and why, one JSON object a line (adt events)"},
		}},
		{Heading: "ENVIRONMENT", Options: []manual.Option{
			{Term: "ADT_CONFIG", Text: "the configuration file"},
			{Term: "NO_COLOR", Text: "when not empty, nothing on the terminal has colours"},
		}},
	}
}

func commandPage(app string, cmd *cli.Command, source, title string) manual.Page {
	p := manual.Page{Name: app + "-" + cmd.Name, Summary: cmd.Usage, Source: source, Title: title, SeeAlso: []string{app}}
	text, rest := helpParts(cmd.Description)
	below := manual.Part{Heading: "SUBCOMMANDS"}
	for _, sub := range cmd.VisibleCommands() {
		if sub.Name != "help" {
			p.Synopsis = append(p.Synopsis, synopsis(app+" "+cmd.Name, sub))
			below.Options = append(below.Options, manual.Option{Term: cmd.Name + " " + sub.Name, Text: sub.Usage})
			for _, o := range options(sub.VisibleFlags()) {
				o.Term = cmd.Name + " " + sub.Name + " " + o.Term
				below.Options = append(below.Options, o)
			}
			subText, subRest := helpParts(sub.Description)
			text, rest = append(text, subText...), append(rest, subRest...)
		}
	}
	if len(p.Synopsis) == 0 {
		p.Synopsis = []string{synopsis(app, cmd)}
	}
	add := func(part manual.Part) {
		if len(part.Blocks)+len(part.Options) > 0 {
			p.Parts = append(p.Parts, part)
		}
	}
	add(manual.Part{Heading: "DESCRIPTION", Blocks: text})
	add(below)
	add(manual.Part{Heading: "OPTIONS", Options: options(cmd.VisibleFlags())})
	for _, part := range together(rest) {
		add(part)
	}
	return p
}

// together joins the parts of one heading.
func together(parts []manual.Part) (out []manual.Part) {
	for _, part := range parts {
		at := slices.IndexFunc(out, func(p manual.Part) bool { return p.Heading == part.Heading })
		if at < 0 {
			out = append(out, part)
			continue
		}
		out[at].Blocks = append(out[at].Blocks, part.Blocks...)
	}
	return out
}

func synopsis(above string, cmd *cli.Command) string {
	text := above + " " + cmd.Name
	if len(cmd.VisibleFlags()) > 0 {
		text += " [flags]"
	}
	if cmd.ArgsUsage != "" {
		text += " " + cmd.ArgsUsage
	}
	return text
}

// helpParts divides a help text. Lines such as "EXAMPLES:" are headings; below
// that one, what is no command line describes the command.
func helpParts(text string) (described []manual.Block, rest []manual.Part) {
	heading := ""
	for paragraph := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		lines := strings.Split(strings.Trim(paragraph, "\n"), "\n")
		if first := lines[0]; regexp.MustCompile(`^[A-Z][A-Z ]+:$`).MatchString(first) {
			heading = strings.TrimSuffix(first, ":")
			lines = lines[1:]
		}
		body := unindent(lines)
		if body == "" {
			continue
		}
		verbatim := regexp.MustCompile(`(?m)\S {2,}\S|^ `).MatchString(body)
		switch {
		case heading == "EXAMPLES" && regexp.MustCompile(`(?m)^\s*adt `).MatchString(body):
			rest = append(rest, manual.Part{Heading: heading, Blocks: []manual.Block{{Text: body, Verbatim: true}}})
		case heading == "" || heading == "EXAMPLES":
			described = append(described, manual.Block{Text: body, Verbatim: verbatim})
		default:
			rest = append(rest, manual.Part{Heading: heading, Blocks: []manual.Block{{Text: body, Verbatim: verbatim}}})
		}
	}
	return described, together(rest)
}

// unindent takes away what all lines have in front.
func unindent(lines []string) string {
	least := -1
	for _, l := range lines {
		if n := len(l) - len(strings.TrimLeft(l, " ")); strings.TrimSpace(l) != "" && (least < 0 || n < least) {
			least = n
		}
	}
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = l[min(len(l), max(least, 0)):]
	}
	return strings.Trim(strings.Join(out, "\n"), "\n")
}

// options are flags as a manual shows them.
func options(flags []cli.Flag) (out []manual.Option) {
	for _, f := range flags {
		doc, ok := f.(cli.DocGenerationFlag)
		if !ok || f.Names()[0] == "help" || f.Names()[0] == "version" {
			continue
		}
		usage, value := doc.GetUsage(), ""
		if parts := strings.SplitN(usage, "`", 3); len(parts) == 3 {
			usage, value = parts[0]+parts[1]+parts[2], " "+parts[1]
		}
		var terms []string
		for _, name := range f.Names() {
			dashes := "--"
			if len(name) == 1 {
				dashes = "-"
			}
			terms = append(terms, dashes+name+value)
		}
		if doc.TakesValue() && !slices.Contains([]string{"", `""`, "0", "0s"}, doc.GetDefaultText()) {
			usage += " (default: " + strings.Trim(doc.GetDefaultText(), `"`) + ")"
		}
		out = append(out, manual.Option{Term: strings.Join(terms, ", "), Text: usage})
	}
	return out
}
