package commands

import "github.com/urfave/cli/v2"

func demoCommand(h *host) *cli.Command {
	return &cli.Command{Name: "demo", Usage: "see it all at work on this machine, without an account"}
}
