package commands

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"adt/remote"
)

// sshKnownHosts is the file with the host keys that adt ssh has handed to ssh, below
// the runtime directory.
const sshKnownHosts = "ssh_known_hosts"

func sshCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:      "ssh",
		Usage:     "log in to a machine of the fleet, its pinned host key verified",
		ArgsUsage: "webserver|autoscaler|proxy|database [NAME|N]",
		Description: `EXAMPLES:
   adt ssh webserver                           which one, it asks
   adt ssh webserver ws-lon1-shop-1-agil-x7Qp
   adt ssh webserver 2                         the second oldest
   adt ssh autoscaler 1
   adt ssh --dry-run webserver 2               the ssh command that it would become

   It becomes the system's ssh, as the server user with the build key. The only host key
   that is accepted is the one that was pinned when the webserver was built; those of
   autoscalers, proxies and databases are looked up in datastore.known_hosts.`,
		Flags: []cli.Flag{publicFlag(), dryRunFlag()},
		Action: func(c *cli.Context) error {
			role, err := roleOf("ssh", c.Args().First())
			if err != nil {
				return err
			}
			if c.NArg() > 2 {
				return usagef("ssh wants one machine, got %q besides (adt run runs a command)", c.Args().Get(2))
			}
			s, err := h.openAnywhere(c)
			if err != nil {
				return err
			}
			all, err := s.targets(c.Context, role, c.Bool("public"))
			if err != nil {
				return err
			}
			t, err := h.pick(role, all, c.Args().Get(1))
			if err != nil {
				return err
			}
			key, err := s.hostKey(c.Context, role, t)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			known := s.Dir.Path(sshKnownHosts)
			args := sshArguments(s, t, known)
			if c.Bool("dry-run") {
				quoted := make([]string, len(args))
				for i, a := range args {
					quoted[i] = shellWord(a)
				}
				fmt.Fprintln(h.env.Stdout, strings.Join(quoted, " "))
				return nil
			}
			program, err := exec.LookPath("ssh")
			if err != nil {
				return fmt.Errorf("there is no ssh on this machine (apt install openssh-client): %w", err)
			}
			if err := remote.Pin(known, t.address, s.cfg.SSH.Port, key); err != nil {
				return err
			}
			return fmt.Errorf("running %s: %w", program, h.env.Exec(program, args, os.Environ()))
		},
	}
}

func publicFlag() cli.Flag {
	return &cli.BoolFlag{Name: "public", Usage: "go to the machine's public address, from outside the private network"}
}

// sshArguments leave nothing to configurations and agents of the machine: the same
// host key, login key and user everywhere.
func sshArguments(s *site, t target, known string) []string {
	return []string{
		"ssh", "-F", "none",
		"-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=" + known, "-o", "GlobalKnownHostsFile=/dev/null",
		"-o", "UpdateHostKeys=no", "-o", "CheckHostIP=no",
		"-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-i", s.cfg.SSH.Key,
		"-l", s.cfg.Autoscaler.User, "-p", strconv.Itoa(s.cfg.SSH.Port), "--", t.address.String(),
	}
}

// shellWord is a word for people to copy: in quotes only where it needs them.
func shellWord(text string) string {
	if text != "" && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=/.:@,+") == "" {
		return text
	}
	return remote.Quote(text)
}
