package commands

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"adt/config"
	"adt/events"
	"adt/rundir"
)

// localSite is an installation, opened for what concerns this machine alone: no
// provider, no datastore and no key is needed for that.
type localSite struct {
	cfg *config.Config
	dir *rundir.Dir
	// record records an event and shows it as a tick under cron does: what is
	// wrong, once an hour. note records it alone, for commands that tell by themselves.
	record, note func(events.Reason, string)
}

// openLocal opens it. The command's name goes into the events.
func (h *host) openLocal(c *cli.Context, command string) (*localSite, error) {
	cfg, err := h.load(c)
	if err != nil {
		return nil, err
	}
	log, err := events.Open(eventsFolder(cfg))
	if err != nil {
		return nil, err
	}
	show := (&site{cfg: cfg, log: log}).recorder(h.logger(cfg), terminal(h.env.Stderr), command)
	record := func(reason events.Reason, text string) { show(reason, "", text) }
	note := func(reason events.Reason, text string) {
		e := events.Event{Time: time.Now(), Level: events.LevelOf(reason), Reason: reason, Autoscaler: cfg.Autoscaler.Number, Command: command, Text: text}
		if err := log.Add(e); err != nil { // what is going on must not end for that
			fmt.Fprintf(h.env.Stderr, "adt: %v\n", err)
		}
	}
	dir, err := rundir.Open(cfg.RuntimeDir(), h.env.Step, func(name, aside string, cause error) {
		record(events.RecordCorrupt, fmt.Sprintf("%s was set aside as %s: %v", name, aside, cause))
	})
	if err != nil {
		return nil, err
	}
	return &localSite{cfg, dir, record, note}, nil
}
