package commands

import (
	"crypto/rand"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
	"golang.org/x/crypto/ssh"

	"adt/autoscaler"
	"adt/cloudinit"
	"adt/config"
	"adt/remote"
)

// firstBoot is what the configuration says of every new webserver: the template
// of its user data, and a webserver that lacks only a name and a host key.
type firstBoot struct {
	template  *cloudinit.Template
	webserver cloudinit.Webserver
}

// readFirstBoot reads the template called name and the site; authorized is the
// key that logs in.
func readFirstBoot(cfg *config.Config, name, authorized string) (firstBoot, error) {
	c := cfg.CloudInit
	folder, err := folderOf(cfg)
	if err != nil {
		return firstBoot{}, err
	}
	template, err := cloudinit.Load(folder, c.Folder, name)
	switch {
	case err != nil && name == c.Template:
		return firstBoot{}, fmt.Errorf("cloudinit.template: %w", err)
	case err != nil:
		return firstBoot{}, err
	}
	w := cloudinit.Webserver{
		User: cfg.Autoscaler.User, AuthorizedKeys: []string{authorized},
		PasswordHash: c.PasswordHash.Reveal(), TimeZone: c.TimeZone,
		SSHPort: cfg.SSH.Port, HTTPSPort: cfg.HTTPS.Port, HeadFile: cfg.Website.HeadFile,
		Packages: c.Packages, Run: c.Run,
	}
	if strings.HasPrefix(name, "original") {
		w.RepositoryURL, w.RepositoryBranch, w.BuildCommand = c.Repository, c.Branch, c.BuildCommand
		if w.Settings, err = readSettings(cfg); err != nil {
			return firstBoot{}, fmt.Errorf("cloudinit.settings: %w", err)
		}
	}
	if c.Site != "" {
		if w.Site, err = cloudinit.ReadSite(os.DirFS(c.Site)); err != nil {
			return firstBoot{}, fmt.Errorf("cloudinit.site: %s: %w", c.Site, err)
		}
	}
	return firstBoot{template, w}, nil
}

// readSettings are the files that the webserver scripts of the original expect:
// the settings, and the build key, with which its machines reach each other.
func readSettings(cfg *config.Config) (map[string][]byte, error) {
	files := map[string][]byte{}
	add := func(from, to string) error {
		content, err := os.ReadFile(from)
		files[to] = content
		return err
	}
	for _, path := range cfg.CloudInit.Settings {
		if err := add(filepath.Join(cfg.Home, path), path); err != nil {
			return nil, err
		}
	}
	key := ".ssh/" + filepath.Base(cfg.SSH.Key)
	if err := add(cfg.SSH.Key, key); err != nil {
		return nil, err
	}
	return files, nil
}

// folderOf is the folder with own templates, nil without one.
func folderOf(cfg *config.Config) (fs.FS, error) {
	path := cfg.CloudInit.Folder
	if path == "" {
		return nil, nil
	}
	if _, err := os.ReadDir(path); err != nil {
		return nil, fmt.Errorf("cloudinit.folder: %w", err)
	}
	return os.DirFS(path), nil
}

// of is the webserver with that name and host key.
func (b firstBoot) of(name, hostKeyPEM string, public ssh.PublicKey) cloudinit.Webserver {
	w := b.webserver
	w.Hostname, w.HostKeyPrivate = name, hostKeyPEM
	w.HostKeyPublic = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))
	return w
}

// renderer makes the user data of the webserver with that name and host key.
type renderer func(name, hostKeyPEM string, public ssh.PublicKey) ([]byte, error)

// userData returns what makes the user data of a new webserver. It reads the
// template and the site, once.
func userData(cfg *config.Config, authorized string) (renderer, error) {
	boot, err := readFirstBoot(cfg, cfg.CloudInit.Template, authorized)
	if err != nil {
		return nil, err
	}
	return func(name, hostKeyPEM string, public ssh.PublicKey) ([]byte, error) {
		return boot.template.Render(boot.of(name, hostKeyPEM, public))
	}, nil
}

func cloudInitCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:  "cloud-init",
		Usage: "show what a new webserver is given at its first boot",
		Description: `EXAMPLES:
   adt cloud-init render                       the user data of a new webserver; secrets left out
   adt cloud-init render --template plain      the same with another template
   adt cloud-init list                         the templates, and where each is from
   adt cloud-init show plain > mine/plain.yaml begin a template of one's own in cloudinit.folder

A template is a text/template of Go. {{template "identity" .}} writes the user, the keys and
the host key, without which adt refuses it; adt cloud-init show plain shows more.`,
		Subcommands: []*cli.Command{
			{
				Name: "render", Usage: "print the user data of a new webserver; nobody is asked, nothing is made",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "template", Usage: "use the template `NAME` (default: cloudinit.template)"},
					&cli.StringFlag{Name: "name", Usage: "of a webserver called `SERVER` (default: a name as new ones get it)"},
					&cli.BoolFlag{Name: "show-secrets", Usage: "print the password hash, and a private host key made for this print, instead of a note in their places"},
				},
				Action: h.renderUserData,
			},
			{
				Name: "list", Usage: "list the templates, and where each is from", Flags: []cli.Flag{jsonFlag()},
				Action: h.listTemplates,
			},
			{
				Name: "show", Usage: "print a template as it is written", ArgsUsage: "NAME",
				Action: func(c *cli.Context) error {
					name, err := oneArg(c, "template")
					if err != nil {
						return err
					}
					cfg, err := h.load(c)
					if err != nil {
						return err
					}
					folder, err := folderOf(cfg)
					if err != nil {
						return usageError{err}
					}
					source, _, err := cloudinit.Find(folder, cfg.CloudInit.Folder, name)
					if err != nil {
						return usageError{err}
					}
					_, err = fmt.Fprint(h.env.Stdout, source)
					return err
				},
			},
		},
	}
}

func (h *host) renderUserData(c *cli.Context) error {
	cfg, err := h.load(c)
	if err != nil {
		return err
	}
	fleet, name := fleetOf(cfg), c.String("name")
	example := fleet.Name(cfg.Autoscaler.Number, autoscaler.RandomTail(mathrand.IntN))
	if !c.IsSet("name") {
		name = example
	}
	if _, ours := fleet.Parse(name); !ours {
		return usagef("--name: %q is no name of this fleet; such a name is %s", name, example)
	}
	template := cfg.CloudInit.Template
	if c.IsSet("template") {
		template = c.String("template")
	}
	signer, err := remote.LoadKey(cfg.SSH.Key)
	if err != nil {
		return usageError{fmt.Errorf("ssh.key: %w", err)}
	}
	boot, err := readFirstBoot(cfg, template, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))))
	if err != nil {
		return usageError{err}
	}
	seed := make([]byte, 32)
	_, _ = rand.Read(seed) // never fails
	pem, public, err := cloudinit.NewHostKey(seed, name)
	if err != nil {
		return err
	}
	webserver := boot.of(name, pem, public)
	data, err := boot.template.Render(webserver)
	if err == nil && !c.Bool("show-secrets") {
		// Only now, as the limit of its length is that of the real one.
		data, err = boot.template.Render(veiled(webserver))
	}
	if err != nil {
		return usageError{err}
	}
	_, err = h.env.Stdout.Write(data)
	return err
}

// veiled is a webserver with a note in the place of each secret.
func veiled(w cloudinit.Webserver) cloudinit.Webserver {
	const note = "left out; --show-secrets prints it"
	w.HostKeyPrivate = "-----BEGIN OPENSSH PRIVATE KEY-----\n" + note + "\n-----END OPENSSH PRIVATE KEY-----\n"
	if w.PasswordHash != "" {
		w.PasswordHash = note
	}
	settings := make(map[string][]byte, len(w.Settings))
	for path := range w.Settings {
		settings[path] = []byte(note + "\n")
	}
	w.Settings = settings
	return w
}

func (h *host) listTemplates(c *cli.Context) error {
	cfg, err := h.load(c)
	if err != nil {
		return err
	}
	folder, err := folderOf(cfg)
	if err != nil {
		return usageError{err}
	}
	type row struct {
		Name string `json:"name"`
		From string `json:"from"`
		Used bool   `json:"used"`
	}
	rows := []row{}
	for _, name := range cloudinit.Names(folder) {
		_, origin, err := cloudinit.Find(folder, cfg.CloudInit.Folder, name)
		if err != nil {
			return usageError{err}
		}
		rows = append(rows, row{name, origin, name == cfg.CloudInit.Template})
	}
	if c.Bool("json") {
		return printJSON(h.env.Stdout, rows)
	}
	t := tabwriter.NewWriter(h.env.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TEMPLATE\tFROM\tUSED")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%s\n", r.Name, r.From, map[bool]string{true: "yes", false: "-"}[r.Used])
	}
	return t.Flush()
}
