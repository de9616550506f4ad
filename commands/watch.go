package commands

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"adt/events"
	"adt/heartbeat"
	"adt/lock"
	"adt/runs"
)

// watch makes a tick leave a record of its runs, for adt cron check, and from the
// records of all the metrics, and tells its monitor. No fault of these is one of the
// run.
func watch(h *host, tick *cli.Command, name string) {
	action := tick.Action
	tick.Action = func(c *cli.Context) error {
		if !isTick(c) {
			return action(c)
		}
		r := h.beginRun(name)
		err := action(c)
		// Of two runs of a command, the one that has the lock tells how it goes.
		if errors.Is(err, lock.ErrHeld) {
			r.abandon()
		} else {
			r.end(c.Context, exitCode(c.Context, err))
		}
		return err
	}
}

// isTick reports whether a command was called as cron calls it: without flags that
// make it something else.
func isTick(c *cli.Context) bool {
	other := func(flag string) bool { return flag != "json" }
	return !c.Args().Present() && !slices.ContainsFunc(c.LocalFlagNames(), other)
}

// run is one run of a tick, while it lasts.
type run struct {
	h       *host
	command string
	folder  runs.Folder // "" where there is no place for records
	record  runs.Record
	site    *site          // nil before it is opened
	beat    *heartbeat.Run // nil where no monitor is to be told

	mu     sync.Mutex
	facts  facts
	totals map[string]int
}

func (h *host) beginRun(command string) *run {
	r := &run{h: h, command: command, record: runs.Record{Started: time.Now()}, totals: map[string]int{}}
	h.run = r
	r.place()
	if r.folder != "" {
		_ = r.folder.Begin(command, r.record.Started) // the end says why
	}
	return r
}

// place finds the runtime directory without the configuration, so that a run that
// could not read it is recorded too. The first run of all makes the directory.
func (r *run) place() {
	runtime := filepath.Join(r.h.env.Getenv("HOME"), "runtime")
	if info, err := os.Stat(runtime); err == nil && info.IsDir() && filepath.IsAbs(runtime) {
		r.folder = runsFolder(runtime)
	}
}

func runsFolder(runtime string) runs.Folder { return runs.Folder(filepath.Join(runtime, "runs")) }

func (r *run) abandon() {
	if r.beat != nil {
		r.beat.Abandon()
	}
}

func (r *run) end(ctx context.Context, exit int) {
	r.record.Ended, r.record.Exit = time.Now(), exit
	if r.site != nil {
		if left, known := quotaLeft(r.site.Servers); known {
			r.facts.Quota = &left
		}
	}
	r.leave()
	r.told(ctx, runs.Succeeded(exit)) // last, as it may take its time
}

// leave writes the record of the run and the metrics.
func (r *run) leave() {
	if r.place(); r.folder == "" {
		return
	}
	var err error
	if r.record.Facts, err = json.Marshal(r.facts); err == nil {
		r.record.Totals = r.totals
		err = r.folder.End(r.command, r.record)
	}
	r.fault(events.RunUnrecorded, err)
	if r.site != nil && r.site.cfg.Metrics.Textfile != "" {
		r.fault(events.MetricsFailed, r.writeMetrics())
	}
}

// fault is something around the run that failed; the run is none the worse for it.
func (r *run) fault(reason events.Reason, err error) {
	if err != nil {
		r.h.sayOnce(r.command, reason, err.Error())
	}
}

// sayOnce records an event, unless it was recorded within the hour.
func (h *host) sayOnce(command string, reason events.Reason, text string) {
	if h.cfg == nil {
		return // without a configuration nobody knows where to say it, and the command has failed
	}
	now := time.Now()
	log, err := events.Open(eventsFolder(h.cfg))
	if err != nil || log.Recent(now.Add(-quiet), now)[events.Matter{Reason: reason}] {
		return // the command says by itself that it cannot write
	}
	s := &site{cfg: h.cfg, log: log}
	s.recorder(h.logger(h.cfg), terminal(h.env.Stderr), command)(reason, "", text)
}
