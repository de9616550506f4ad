package commands

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"adt/config"
	"adt/events"
	"adt/postmortem"
)

func postMortemFolder(cfg *config.Config) string { return filepath.Join(cfg.LogDir(), "post-mortem") }

// story is how far back a post-mortem's events go.
const story = 7 * 24 * time.Hour

// postMortems is the archive that the configuration asks for; nil is none.
func (h *host) postMortems(cfg *config.Config) *postmortem.Archive {
	if cfg.PostMortem.Deadline == 0 {
		return nil
	}
	return &postmortem.Archive{
		Folder: postMortemFolder(cfg), Deadline: cfg.PostMortem.Deadline.Std(),
		Limit: cfg.PostMortem.MaxKiB << 10, Files: cfg.PostMortem.Files,
		// Not before there is something to mask: most ticks have nothing.
		Secrets: sync.OnceValue(func() []string { return append(cfg.Secrets(), settingsSecrets(cfg)...) }),
		Step:    h.env.Step,
		Events:  func(server string) []byte { return tellStory(cfg, server) },
	}
}

// settingsSecrets are the passwords in the settings files that webservers get: what
// runs there may print them.
func settingsSecrets(cfg *config.Config) []string {
	line := regexp.MustCompile(`(?m)^[A-Z0-9_]*(?:PASSWORD|SECRET|TOKEN|KEY)[A-Z0-9_]*[:=](.+)$`)
	var all []string
	for _, name := range cfg.CloudInit.Settings {
		data, err := os.ReadFile(filepath.Join(cfg.Home, name))
		if err != nil {
			continue // a webserver without it has none of its secrets
		}
		for _, m := range line.FindAllSubmatch(data, -1) {
			all = append(all, strings.Trim(string(m[1]), "\"' \t\r"))
		}
	}
	return all
}

// tellStory is the events of one server, one JSON object a line.
func tellStory(cfg *config.Config, server string) []byte {
	log, err := events.Open(eventsFolder(cfg))
	if err != nil {
		return nil // what follows fails for the same reason, and says so
	}
	found, err := log.Read(events.Filter{Since: time.Now().Add(-story), Server: server})
	if err != nil {
		return nil
	}
	var text []byte
	for _, e := range found {
		line, err := json.Marshal(e)
		if err != nil {
			continue
		}
		text = append(append(text, line...), '\n')
	}
	return text
}

func postMortemCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:  "post-mortem",
		Usage: "what failed and sick webservers had to say before they were destroyed",
		Subcommands: []*cli.Command{
			{
				Name:  "list",
				Usage: "list them, the oldest first",
				Description: `EXAMPLES:
   adt post-mortem list
   adt post-mortem list --json | jq '.[] | select(.answered | not) | .name'`,
				Flags:  []cli.Flag{jsonFlag()},
				Action: func(c *cli.Context) error { return listPostMortems(h, c) },
			},
			{
				Name:      "show",
				Usage:     "show one, or one of its files",
				ArgsUsage: "NAME [FILE]",
				Description: `EXAMPLES:
   adt post-mortem show ws-lon1-shop-1-agil-x7Qp
   adt post-mortem show ws-lon1-shop-1-agil-x7Qp journal.txt | less

   records.json is what the provider and adt knew, events.jsonl the webserver's story;
   all else is from the webserver itself. Passwords and keys are masked.`,
				Flags:  []cli.Flag{jsonFlag()},
				Action: func(c *cli.Context) error { return showPostMortem(h, c) },
			},
		},
	}
}

// archive is the post-mortems of a configuration, to be read.
func (h *host) archive(c *cli.Context) (*postmortem.Archive, error) {
	cfg, err := h.load(c)
	if err != nil {
		return nil, err
	}
	return &postmortem.Archive{Folder: postMortemFolder(cfg)}, nil
}

func listPostMortems(h *host, c *cli.Context) error {
	archive, err := h.archive(c)
	if err != nil {
		return err
	}
	all, err := archive.List()
	if err != nil {
		return err
	}
	if c.Bool("json") {
		if all == nil {
			all = []postmortem.Report{}
		}
		return printJSON(h.env.Stdout, all)
	}
	if len(all) == 0 {
		fmt.Fprintln(h.env.Stdout, "there are none: no webserver had to be destroyed for its health")
		return nil
	}
	t := tabwriter.NewWriter(h.env.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHEN\tWEBSERVER\tANSWERED\tFILES\tSIZE\tWHY")
	for _, r := range all {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\n", r.Began.Local().Format(time.DateTime), r.Name, yesNo(r.Answered), len(r.Files), kib(size(r)), r.Why)
	}
	return t.Flush()
}

func size(r postmortem.Report) (bytes int64) {
	for _, f := range r.Files {
		bytes += f.Bytes
	}
	return bytes
}

func kib(bytes int64) string { return fmt.Sprintf("%d KiB", (bytes+1023)/1024) }

func showPostMortem(h *host, c *cli.Context) error {
	if n := c.NArg(); n < 1 || n > 2 {
		return usagef("post-mortem show wants a webserver's name, and perhaps a file's, got %d arguments", n)
	}
	archive, err := h.archive(c)
	if err != nil {
		return err
	}
	name, file := c.Args().Get(0), c.Args().Get(1)
	r, err := archive.Report(name)
	if errors.Is(err, fs.ErrNotExist) {
		return usagef("there is no post-mortem of %s (adt post-mortem list shows all)", name)
	}
	if err != nil {
		return err
	}
	if file == "" {
		if c.Bool("json") {
			return printJSON(h.env.Stdout, r)
		}
		return printPostMortem(h.env.Stdout, r)
	}
	text, err := archive.Read(name, file)
	if errors.Is(err, fs.ErrNotExist) {
		return usagef("the post-mortem of %s has no file %s (adt post-mortem show %s lists them)", name, file, name)
	}
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(h.env.Stdout, map[string]string{"name": name, "file": file, "text": string(text)})
	}
	_, err = h.env.Stdout.Write(text)
	return err
}

func printPostMortem(w io.Writer, r postmortem.Report) error {
	fmt.Fprintf(w, "%s, server %s, %s\n%s\n", r.Name, r.ID, r.PublicIP, r.Why)
	if r.Finished.IsZero() {
		fmt.Fprintln(w, "it is not finished: the next adt scale goes on, or adt was killed and the webserver is gone")
	}
	for _, fault := range r.Faults {
		fmt.Fprintf(w, "not had: %s\n", fault)
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FILE\tSIZE")
	for _, f := range r.Files {
		fmt.Fprintf(t, "%s\t%s\n", f.Name, kib(f.Bytes))
	}
	return t.Flush()
}
