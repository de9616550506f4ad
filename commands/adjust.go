package commands

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"adt/config"
)

func adjustCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:  "adjust-scaling",
		Usage: "set how many webservers there shall be, step by step: for the build machine, with its many builds and clouds",
		Description: `EXAMPLES:
   adt adjust-scaling                                    asks: cloud host, build, website, region, autoscaler, number
   adt adjust-scaling --build shop --count 15 --yes      every answer is also a flag: nothing is asked
   adt adjust-scaling --build shop --autoscaler 2 --count 4
   adt adjust-scaling --builds /srv/adt --list           what there is to adjust

   Each build has one configuration, ~/.config/adt/<build>.toml, with autoscaler.number = 0.
   Where there is but one choice it is taken. It refuses a build that is not in production.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "builds", Usage: "the folder with a configuration for each build", DefaultText: "~/.config/adt"},
			&cli.StringFlag{Name: "cloudhost", Usage: "`NAME`, or the original's number: 1 digitalocean, 2 exoscale, 3 linode, 4 vultr"},
			&cli.StringFlag{Name: "build", Usage: "the build `IDENTIFIER`"},
			&cli.StringFlag{Name: "website", Usage: "the website's `URL`"},
			&cli.StringFlag{Name: "region", Usage: "the provider's `NAME` of the region"},
			&cli.StringFlag{Name: "autoscaler", Usage: "`K`, or all for the whole fleet"},
			&cli.IntFlag{Name: "count", Usage: "keep `N` webservers, not counting the initial ones"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask whether that is right"},
			&cli.BoolFlag{Name: "list", Usage: "list the builds and change nothing"},
			dryRunFlag(), jsonFlag(),
		},
		Action: func(c *cli.Context) error { return runAdjust(h, c) },
	}
}

// clouds is the original's numbering of cloud hosts.
func clouds() []string { return []string{"digitalocean", "exoscale", "linode", "vultr"} }

// facets are the questions by which a build is found, in the original's order.
func facets() []facet {
	return []facet{
		{"cloudhost", "Which cloud host?", func(c *config.Config) string { return c.Provider.Servers }},
		{"build", "Which build?", func(c *config.Config) string { return c.Autoscaler.Build }},
		{"website", "Which website?", func(c *config.Config) string { return c.Website.URL }},
		{"region", "Which region?", func(c *config.Config) string { return c.Autoscaler.Region }},
	}
}

type facet struct {
	flag, question string
	of             func(*config.Config) string
}

func runAdjust(h *host, c *cli.Context) error {
	builds, err := h.loadBuilds(c.String("builds"))
	if err != nil {
		return err
	}
	if c.Bool("list") {
		return listBuilds(h, c, builds)
	}
	p := &prompt{h: h, in: bufio.NewReader(h.env.Stdin), able: terminal(h.env.Stdin) && !c.Bool("json")}
	cfg, err := p.pickBuild(c, builds)
	if err != nil {
		return err
	}
	if !cfg.Autoscaler.Production {
		return usagef("%s is not in production (autoscaler.production in %s): its fleet is not adjusted", cfg.Autoscaler.Build, cfg.Path)
	}
	s, err := h.openSite(c, cfg)
	if err != nil {
		return err
	}
	if p.able {
		if err := showFleet(c.Context, h, s); err != nil {
			return err
		}
	}
	a, err := p.pickChange(c, s)
	if err != nil {
		return err
	}
	all, err := s.change(c.Context, a)
	if err != nil {
		return err
	}
	all.close()
	all.sayNotes(h)
	if !c.Bool("json") {
		fmt.Fprintf(h.env.Stdout, "%s at %s, %s, %s:\n%s", cfg.Autoscaler.Build, cfg.Provider.Servers, cfg.Autoscaler.Region, cfg.Website.URL, describe(all))
	}
	if c.Bool("dry-run") {
		if c.Bool("json") {
			return printJSON(h.env.Stdout, all)
		}
		fmt.Fprintln(h.env.Stdout, "nothing was changed (--dry-run)")
		return nil
	}
	if !c.Bool("yes") {
		yes, err := p.confirm(c.Context)
		if err != nil {
			return err
		}
		if !yes {
			fmt.Fprintln(h.env.Stdout, "nothing was changed")
			return nil
		}
	}
	// Worked out again: an answer may have taken long.
	all, err = s.change(c.Context, a)
	if err != nil {
		return err
	}
	defer all.close()
	err = s.tellAll(c.Context, &all, 0)
	s.recordProfile(all)
	if c.Bool("json") {
		return errors.Join(printJSON(h.env.Stdout, all), err)
	}
	if err == nil {
		fmt.Fprintln(h.env.Stdout, "done: the autoscalers take it up within a minute")
	}
	return err
}

// loadBuilds reads every configuration in the folder. One that is wrong hides no
// other.
func (h *host) loadBuilds(folder string) ([]*config.Config, error) {
	if folder == "" {
		folder = filepath.Join(h.env.Getenv("HOME"), ".config", "adt")
	}
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usagef("there is no folder %s: put a configuration for each build into it, as <build>.toml", folder)
	}
	if err != nil {
		return nil, fmt.Errorf("looking for builds: %w", err)
	}
	var builds []*config.Config
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".toml") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		cfg, err := h.loadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			fmt.Fprintf(h.env.Stderr, "adt: left out: %v\n", err)
			continue
		}
		builds = append(builds, cfg)
	}
	if len(builds) == 0 {
		return nil, usagef("%s holds no configuration <build>.toml that can be used", folder)
	}
	return builds, nil
}

func listBuilds(h *host, c *cli.Context, builds []*config.Config) error {
	type row struct {
		Build      string `json:"build"`
		CloudHost  string `json:"cloudhost"`
		Website    string `json:"website"`
		Region     string `json:"region"`
		Production bool   `json:"production"`
		File       string `json:"file"`
	}
	rows := []row{}
	for _, b := range builds {
		rows = append(rows, row{b.Autoscaler.Build, b.Provider.Servers, b.Website.URL, b.Autoscaler.Region, b.Autoscaler.Production, b.Path})
	}
	if c.Bool("json") {
		return printJSON(h.env.Stdout, rows)
	}
	for _, r := range rows {
		note := ""
		if !r.Production {
			note = "  (not in production)"
		}
		fmt.Fprintf(h.env.Stdout, "%s  %s  %s  %s%s\n", r.Build, r.CloudHost, r.Region, r.Website, note)
	}
	return nil
}

// showFleet says what there is: autoscalers that are provisioned, those that are
// at work, and those that are not, with their profiles.
func showFleet(ctx context.Context, h *host, s *site) error {
	machines, err := s.machines(ctx)
	if err != nil {
		fmt.Fprintf(h.env.Stderr, "adt: %v\n", err)
	}
	all, err := readShares(ctx, s)
	if err != nil {
		return err
	}
	defer all.close()
	if len(machines) > 0 {
		fmt.Fprintf(h.env.Stdout, "provisioned: %s\n", plural(len(machines), "autoscaler"))
	}
	for _, sh := range all.Shares {
		state := "operational"
		if sh.Absent != "" {
			state = "inactive: " + sh.Absent
		}
		if sh.Error != "" {
			state = "not reached: " + sh.Error
		}
		profile := "no profile"
		if sh.Before != nil {
			profile = fmt.Sprintf("profile %d", *sh.Before)
		}
		fmt.Fprintf(h.env.Stdout, "  autoscaler %d: %s, %s\n", sh.Autoscaler, profile, state)
	}
	return nil
}

// prompt asks a person. Each answer can be a flag instead.
type prompt struct {
	h    *host
	in   *bufio.Reader
	able bool // there is a person to ask
}

// pickBuild narrows the builds down to one.
func (p *prompt) pickBuild(c *cli.Context, builds []*config.Config) (*config.Config, error) {
	for _, f := range facets() {
		var choices []string
		for _, b := range builds {
			if v := f.of(b); !slices.Contains(choices, v) {
				choices = append(choices, v)
			}
		}
		slices.Sort(choices)
		answer := c.String(f.flag)
		if n, err := strconv.Atoi(answer); err == nil && f.flag == "cloudhost" && n >= 1 && n <= len(clouds()) {
			answer = clouds()[n-1]
		}
		switch {
		case c.IsSet(f.flag) && !slices.Contains(choices, answer):
			return nil, usagef("--%s %s: there is %s", f.flag, answer, strings.Join(choices, ", "))
		case c.IsSet(f.flag):
		case len(choices) == 1:
			answer = choices[0]
		default:
			var err error
			if answer, err = p.choose(c.Context, f.flag, f.question, choices); err != nil {
				return nil, err
			}
		}
		builds = slices.DeleteFunc(builds, func(b *config.Config) bool { return f.of(b) != answer })
	}
	if len(builds) > 1 {
		return nil, usagef("%s and %s are the same build: remove one of them", builds[0].Path, builds[1].Path)
	}
	return builds[0], nil
}

// pickChange asks for which autoscaler and how many.
func (p *prompt) pickChange(c *cli.Context, s *site) (ask, error) {
	var a ask
	n := s.cfg.Autoscaler.Count
	who := c.String("autoscaler")
	if !c.IsSet("autoscaler") {
		who = "all"
		if n > 1 && p.able {
			var choices []string // the number of a choice is that of its autoscaler
			for k := range n {
				choices = append(choices, strconv.Itoa(k+1))
			}
			choices = append(choices, "all")
			var err error
			if who, err = p.choose(c.Context, "autoscaler", "Which autoscaler?", choices); err != nil {
				return a, err
			}
		}
	}
	if who != "all" {
		k, err := strconv.Atoi(who)
		if err != nil || k < 1 || k > n {
			return a, usagef("--autoscaler must be all or 1 to %d, is %q", n, who)
		}
		a.autoscaler = k
	}
	count := c.Int("count")
	if !c.IsSet("count") {
		text, err := p.line(c.Context, "count", "How many webservers, besides the initial ones?")
		if err != nil {
			return a, err
		}
		if count, err = strconv.Atoi(text); err != nil {
			return a, usagef("%q is no whole number", text)
		}
	}
	if count < 0 {
		return a, usagef("--count must not be negative, is %d", count)
	}
	a.count = &count
	return a, nil
}

// choose shows numbered choices, and takes a number or a choice's name.
func (p *prompt) choose(ctx context.Context, flag, question string, choices []string) (string, error) {
	text := question
	for i, choice := range choices {
		text += fmt.Sprintf("\n  %d) %s", i+1, choice)
	}
	if !p.able {
		return "", usagef("--%s is wanted: one of %s", flag, strings.Join(choices, ", "))
	}
	for range 3 {
		answer, err := p.line(ctx, flag, text)
		if err != nil {
			return "", err
		}
		if slices.Contains(choices, answer) {
			return answer, nil
		}
		if n, err := strconv.Atoi(answer); err == nil && n >= 1 && n <= len(choices) {
			return choices[n-1], nil
		}
		fmt.Fprintf(p.h.env.Stdout, "%q is none of them\n", answer)
	}
	return "", usagef("no answer to: %s", question)
}

// line asks for a line. Ctrl-C ends a question like everything else; what reads is
// left behind then, and ends with the process.
func (p *prompt) line(ctx context.Context, flag, question string) (string, error) {
	if !p.able {
		return "", usagef("--%s is wanted (there is no terminal to ask on)", flag)
	}
	fmt.Fprintf(p.h.env.Stdout, "%s\n> ", question)
	answers := make(chan string, 1)
	go func() {
		text, _ := p.in.ReadString('\n')
		answers <- text
	}()
	select {
	case text := <-answers:
		if text == "" { // not even an empty line: the end of what there is to read
			fmt.Fprintln(p.h.env.Stdout)
			return "", usagef("no answer to: %s", strings.Split(question, "\n")[0])
		}
		return strings.TrimSpace(text), nil
	case <-ctx.Done():
		fmt.Fprintln(p.h.env.Stdout)
		fmt.Fprintln(p.h.env.Stderr, "nothing was changed")
		return "", toldError{ctx.Err()}
	}
}

func (p *prompt) confirm(ctx context.Context) (bool, error) {
	if !p.able {
		return false, usagef("--yes is wanted (there is no terminal to ask on)")
	}
	answer, err := p.line(ctx, "yes", "Is that right? (Y/N)")
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes"), err
}
