package commands

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"adt/provider/local"
)

// localServerCommand is the body of the local cloud's server processes.
func localServerCommand(*host) *cli.Command {
	return &cli.Command{
		Name: "local-server", Hidden: true, ArgsUsage: "DIR",
		Usage: "be a server of the local cloud (started by it, not by hand)",
		Action: func(c *cli.Context) error {
			dir, err := oneArg(c, "directory")
			if err != nil {
				return err
			}
			return local.Serve(c.Context, dir)
		},
	}
}

func localCommand(h *host) *cli.Command {
	withCloud := func(do func(*cli.Context, *local.Cloud) error) cli.ActionFunc {
		return func(c *cli.Context) error {
			cfg, err := h.load(c)
			if err != nil {
				return err
			}
			cloud, err := openCloud(cfg)
			if err != nil {
				return err
			}
			return do(c, cloud)
		}
	}
	return &cli.Command{
		Name:  "local",
		Usage: "look at the local cloud, and break it on purpose",
		Description: `EXAMPLES:
   adt local list                     the servers as they really are
   adt local dns                      the A records
   adt local fault NAME http=500      break a webserver (none heals it)
   adt local fault --api list=partial break the provider's API
   adt local outage --of 1 all        cut autoscaler 1's network (none restores it)
   adt local clean                    end all servers and remove the cloud

` + local.FaultHelp(),
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list the servers as they really are", Flags: []cli.Flag{jsonFlag()}, Action: withCloud(func(c *cli.Context, cloud *local.Cloud) error {
				machines, err := cloud.Inspect(c.Context)
				if err != nil {
					return err
				}
				if c.Bool("json") {
					return printMachines(h.env.Stdout, machines)
				}
				t := tabwriter.NewWriter(h.env.Stdout, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "ID\tNAME\tPUBLIC\tPRIVATE\tPHASE\tPID\tFAULT")
				for _, m := range machines {
					fmt.Fprintf(t, "%s\t%s\t%v\t%v\t%s\t%d\t%s\n", m.ID, m.Name, m.PublicIP, m.PrivateIP, m.Phase, m.PID, m.Fault)
				}
				return t.Flush()
			})},
			{Name: "dns", Usage: "list the A records", Action: withCloud(func(c *cli.Context, cloud *local.Cloud) error {
				records, err := cloud.AllRecords()
				if err != nil {
					return err
				}
				for _, r := range records {
					fmt.Fprintf(h.env.Stdout, "%s\t%d\tA\t%s\n", r.Name, int(r.TTL.Seconds()), r.Address)
				}
				return nil
			})},
			{Name: "fault", Usage: "break a server, or with --api the provider's API", ArgsUsage: "NAME FAULT | OPERATION=FAULT",
				Flags: []cli.Flag{&cli.BoolFlag{Name: "api", Usage: "break an API operation: list=error"}},
				Action: withCloud(func(c *cli.Context, cloud *local.Cloud) error {
					if c.Bool("api") {
						return apiFault(c, cloud)
					}
					return serverFault(c, cloud)
				})},
			{Name: "outage", Usage: "cut an autoscaler's network: all, api, dial or none", ArgsUsage: "all|api|dial|none",
				Flags: []cli.Flag{&cli.StringFlag{Name: "of", Value: "1", Usage: "autoscaler `K`"}},
				Action: withCloud(func(c *cli.Context, cloud *local.Cloud) error {
					what, err := oneArg(c, "outage")
					if err != nil {
						return err
					}
					outages := map[string]local.Outage{"all": local.OutageAll, "api": local.OutageAPI, "dial": local.OutageDial, "none": local.OutageNone}
					outage, ok := outages[what]
					if !ok {
						return usagef("there is no outage %q: choose from all, api, dial and none", what)
					}
					return cloud.SetOutage(c.Context, c.String("of"), outage)
				})},
			{Name: "clean", Usage: "end all servers and remove the cloud", Action: withCloud(func(c *cli.Context, cloud *local.Cloud) error {
				return cloud.Clean(c.Context)
			})},
		},
	}
}

// machineRow is a server as local list --json prints it.
type machineRow struct {
	ID        string      `json:"id"`
	Name      string      `json:"name"`
	PublicIP  netip.Addr  `json:"public_ip"`
	PrivateIP netip.Addr  `json:"private_ip"`
	Created   time.Time   `json:"created"`
	Phase     local.Phase `json:"phase"`
	PID       int         `json:"pid"` // 0 before it started
	Fault     local.Fault `json:"fault"`
}

func printMachines(w io.Writer, machines []local.Machine) error {
	rows := make([]machineRow, len(machines))
	for i, m := range machines {
		rows[i] = machineRow{m.ID, m.Name, m.PublicIP, m.PrivateIP, m.Created, m.Phase, m.PID, m.Fault}
	}
	return printJSON(w, rows)
}

func serverFault(c *cli.Context, cloud *local.Cloud) error {
	if c.NArg() != 2 {
		return usagef("fault wants a server's name or id and a fault: adt local fault NAME http=500\n%s", local.FaultHelp())
	}
	fault, err := local.ParseFault(c.Args().Get(1))
	if err != nil {
		return usageError{err}
	}
	machines, err := cloud.Inspect(c.Context)
	if err != nil {
		return err
	}
	for _, m := range machines {
		if m.Name == c.Args().First() || m.ID == c.Args().First() {
			return cloud.SetServerFault(c.Context, m.ID, fault)
		}
	}
	return usagef("there is no server %s (adt local list)", c.Args().First())
}

func apiFault(c *cli.Context, cloud *local.Cloud) error {
	arg, err := oneArg(c, "OPERATION=FAULT")
	if err != nil {
		return err
	}
	op, text, _ := strings.Cut(arg, "=")
	fault, err := local.ParseAPIFault(local.Op(op), text)
	if err != nil {
		return usageError{err}
	}
	return cloud.SetAPIFault(c.Context, local.Op(op), fault)
}
