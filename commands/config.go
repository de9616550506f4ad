package commands

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"adt/config"
)

func configCommand(h *host) *cli.Command {
	return &cli.Command{
		Name:  "config",
		Usage: "check, show, begin or import the configuration file",
		Description: `EXAMPLES:
   adt config example > ~/adt.toml   a file with every key, its default and its meaning
   adt config check                  all that is wrong, each with file, line and key
   adt config show                   what holds, and where it comes from; secrets masked
   adt config import ~/runtime       begin from the settings of the original`,
		Subcommands: []*cli.Command{
			configImportCommand(h),
			{
				Name: "check", Usage: "say what is wrong with the configuration",
				Action: func(c *cli.Context) error {
					cfg, err := h.load(c)
					if err != nil {
						return err
					}
					if err := checkSchedule(cfg); err != nil {
						return err
					}
					if _, err := firewallRules(cfg); err != nil {
						return err
					}
					fmt.Fprintf(h.env.Stdout, "%s: good\n", cfg.Path)
					return nil
				},
			},
			{
				Name: "show", Usage: "print the configuration that holds, secrets masked", Flags: []cli.Flag{jsonFlag()},
				Action: func(c *cli.Context) error {
					cfg, err := h.load(c)
					if err != nil {
						return err
					}
					if c.Bool("json") {
						return config.ShowJSON(h.env.Stdout, cfg)
					}
					return config.Show(h.env.Stdout, cfg)
				},
			},
			{
				Name: "example", Usage: "print a configuration file with every key explained",
				Action: func(*cli.Context) error { return config.Example(h.env.Stdout) },
			},
		},
	}
}
