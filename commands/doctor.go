package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"adt/cloudinit"
	"adt/config"
	"adt/provider"
	"adt/remote"
)

func doctorCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "say whether this machine and the accounts have all that adt needs, and what to do if not",
		Description: `EXAMPLES:
   adt doctor                                  a line for each thing; exit 1 when one is wrong
   adt doctor --json | jq '.[] | select(.ok | not)'

   adt doctor --fix                            make what is missing and safe to make: the datastore's buckets

   Without --fix it changes nothing, except that it makes and removes one object in an
   S3 datastore to see whether leases are possible there.`,
		Flags: []cli.Flag{jsonFlag(), &cli.BoolFlag{Name: "fix", Usage: "make the buckets that are missing"}},
		Action: func(c *cli.Context) error {
			findings := examine(c.Context, h, c)
			if c.Bool("json") {
				if err := printJSON(h.env.Stdout, findings); err != nil {
					return err
				}
			} else {
				printFindings(h.env.Stdout, findings)
			}
			if c.Context.Err() != nil {
				return c.Context.Err()
			}
			for _, f := range findings {
				if !f.OK {
					return toldError{errors.New("something is wrong")}
				}
			}
			return nil
		},
	}
}

// finding is one line of adt doctor.
type finding struct {
	What   string `json:"what"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"` // what to do about it
}

func fine(what, format string, args ...any) finding {
	return finding{What: what, OK: true, Detail: fmt.Sprintf(format, args...)}
}

func wrong(what, hint, format string, args ...any) finding {
	return finding{What: what, Detail: fmt.Sprintf(format, args...), Hint: hint}
}

func printFindings(w io.Writer, findings []finding) {
	wide, bad := 0, 0
	for _, f := range findings {
		wide = max(wide, len(f.What))
	}
	for _, f := range findings {
		word, hint := "ok  ", ""
		if !f.OK {
			word = "FAIL"
			bad++
			if f.Hint != "" {
				hint = ": " + f.Hint
			}
		}
		fmt.Fprintf(w, "%s  %-*s  %s%s\n", word, wide, f.What, strings.ReplaceAll(f.Detail, "\n", "; "), hint)
	}
	if bad == 0 {
		fmt.Fprintln(w, "all is well")
	} else {
		fmt.Fprintf(w, "%d of %d are wrong\n", bad, len(findings))
	}
}

// examine looks at everything, in the order in which it would be put right.
func examine(ctx context.Context, h *host, c *cli.Context) []finding {
	cfg, err := h.load(c)
	if err == nil {
		err = checkSchedule(cfg)
	}
	if err != nil {
		return append([]finding{wrong("configuration", "put that right first (adt config example explains every key)", "%v", err)}, examineCron(h), examineCrontab(ctx, h, &config.Config{}))
	}
	all := []finding{fine("configuration", "%s", cfg.Path), examineKey(cfg), examineUserData(cfg)}
	all = append(all, examineVendors(ctx, h, cfg)...)
	all = append(all, examineDatabase(ctx, cfg)...)
	all = append(all, examineStore(ctx, cfg, c.Bool("fix"))...)
	all = append(all, examineFolder("runtime", cfg.RuntimeDir()), examineFolder("logs", cfg.LogDir()), examineDisk(cfg.Home), examineClock())
	all = append(all, examineNotify(ctx, cfg)...)
	if cfg.Autoscaler.Number == 0 {
		return append(all, fine("cron", "not asked: nothing runs from it on the build machine"))
	}
	return append(all, examineCron(h), examineCrontab(ctx, h, cfg))
}

func examineKey(cfg *config.Config) finding {
	signer, err := remote.LoadKey(cfg.SSH.Key)
	if err != nil {
		return wrong("SSH key", "put the build key there, mode 0600 (adt config show tells where ssh.key is from)", "%v", err)
	}
	return fine("SSH key", "%s, %s", cfg.SSH.Key, signer.PublicKey().Type())
}

// examineUserData renders what a new webserver would get.
func examineUserData(cfg *config.Config) finding {
	const what = "user data"
	wrong := func(err error) finding {
		return wrong(what, "adt cloud-init render shows it when it is right", "%v", err)
	}
	signer, err := remote.LoadKey(cfg.SSH.Key)
	if err != nil {
		return finding{What: what, Detail: "not rendered without the SSH key", Hint: "see the line above"}
	}
	render, err := userData(cfg, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))))
	if err != nil {
		return wrong(err)
	}
	name := fleetOf(cfg).Name(cfg.Autoscaler.Number, "aaaa")
	pem, public, err := hostKeys(cfg, signer)(make([]byte, 32), name)
	if err != nil {
		return wrong(err)
	}
	data, err := render(name, pem, public)
	if err != nil {
		return wrong(err)
	}
	return fine(what, "template %s, %d of at most %d bytes", cfg.CloudInit.Template, len(data), cloudinit.Limit)
}

// doctorPatience bounds what is asked of one vendor.
const doctorPatience = 30 * time.Second

func examineVendors(ctx context.Context, h *host, cfg *config.Config) []finding {
	if cfg.Provider.Servers == "local" && missing(cfg.Local.Path) {
		return []finding{fine("servers", "a local cloud, made on its first use in %s", cfg.Local.Path)}
	}
	servers, dns, err := drivers(cfg, nil)
	if err != nil {
		return []finding{wrong("provider", "put that right in "+cfg.Path, "%v", err)}
	}
	var all []finding
	ask := func(vendor any) {
		ctx, cancel := context.WithTimeout(ctx, doctorPatience)
		defer cancel()
		if e, ok := vendor.(provider.Examiner); ok {
			for _, f := range e.Examine(ctx) {
				all = append(all, finding{f.What, f.OK, f.Detail, f.Hint})
			}
		}
	}
	ask(servers)
	if any(servers) != any(dns) {
		ask(dns)
	}
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	listed, err := servers.List(ctx)
	if err != nil {
		all = append(all, wrong("servers", "see the lines above, or the provider's status page", "%v", err))
	} else {
		fleet, own := fleetOf(cfg), 0
		for _, s := range listed {
			if _, ok := fleet.Parse(s.Name); ok {
				own++
			}
		}
		all = append(all, fine("servers", "%s of this fleet at %s", plural(own, "webserver"), cfg.Provider.Servers))
	}
	if records, err := dns.Records(ctx, cfg.Website.URL); err != nil {
		all = append(all, wrong("DNS", "see the lines above; the zone "+cfg.Zone()+" must be at "+cfg.Provider.DNS, "%v", err))
	} else {
		all = append(all, fine("DNS", "%s has %d A records", cfg.Website.URL, len(records)))
	}
	return append(all, examineProxies(ctx, h, cfg, listed)...)
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// examineFolder asks whether files could be written, without writing one. A
// folder that is not there yet is made by the first tick.
func examineFolder(what, dir string) finding {
	for at := dir; ; at = filepath.Dir(at) {
		err := unix.Access(at, unix.W_OK|unix.X_OK)
		switch {
		case err == nil && at == dir:
			return fine(what, "%s", dir)
		case err == nil:
			return fine(what, "%s, made by the first tick", dir)
		case !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at):
			return wrong(what, "make it writable for the user whose crontab runs adt", "%s: %v", at, err)
		}
	}
}

// What has to be free for state files and logs.
const (
	enoughSpace  = 100 << 20 // bytes
	enoughInodes = 1000
)

func examineDisk(dir string) finding {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return wrong("disk space", "is $HOME right?", "%s: %v", dir, err)
	}
	free := st.Bavail * uint64(st.Bsize)
	switch {
	case free < enoughSpace:
		return wrong("disk space", "make room: without it no decision can be recorded, and none is taken", "%d MiB are free in %s, want %d", free>>20, dir, enoughSpace>>20)
	case st.Files > 0 && st.Ffree < enoughInodes:
		return wrong("disk space", "delete files: no new ones can be made", "%d inodes are free in %s, want %d", st.Ffree, dir, enoughInodes)
	}
	return fine("disk space", "%d MiB are free", free>>20)
}

func examineClock() finding {
	state, err := unix.Adjtimex(&unix.Timex{}) // no modes: it only reads
	if err != nil {
		return wrong("clock", "", "%v", err)
	}
	if state == unix.TIME_ERROR {
		return wrong("clock", "run a time service, such as systemd-timesyncd or chrony", "the kernel says that nobody keeps it right")
	}
	return fine("clock", "kept right")
}
