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
	// noteOf is note about an address or a server.
	noteOf func(reason events.Reason, server, text string)
}

// openLocal opens it. The command's name goes into the events.
func (h *host) openLocal(c *cli.Context, command string) (*localSite, error) {
	cfg, err := h.load(c)
	if err != nil {
		return nil, err
	}
	return h.localSite(cfg, command)
}

func (h *host) localSite(cfg *config.Config, command string) (*localSite, error) {
	log, err := events.Open(eventsFolder(cfg))
	if err != nil {
		return nil, err
	}
	show := (&site{cfg: cfg, log: log}).recorder(h.logger(cfg), terminal(h.env.Stderr), command)
	record := func(reason events.Reason, text string) { show(reason, "", text) }
	noteOf := func(reason events.Reason, server, text string) {
		e := events.Event{Time: time.Now(), Level: events.LevelOf(reason), Reason: reason, Autoscaler: cfg.Autoscaler.Number, Command: command, Server: server, Text: text}
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
	note := func(reason events.Reason, text string) { noteOf(reason, "", text) }
	return &localSite{cfg, dir, record, note, noteOf}, nil
}

// fail makes an event of what went wrong in a command for cron, and returns what
// ends it: somebody at the terminal is told each time, cron once an hour.
func (s *localSite) fail(h *host, reason events.Reason, err error) error {
	if terminal(h.env.Stderr) {
		s.note(reason, err.Error())
		return err
	}
	s.record(reason, err.Error())
	return toldError{err}
}
