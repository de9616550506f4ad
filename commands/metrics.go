package commands

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"adt/autoscaler"
	"adt/events"
	"adt/lock"
	"adt/metrics"
	"adt/runs"
)

// facts is what a run leaves in its record for the metrics.
type facts struct {
	Figures *autoscaler.Figures   `json:"figures,omitempty"` // of a health check
	Events  map[events.Reason]int `json:"events,omitempty"`  // that were recorded
	Quota   *int                  `json:"quota,omitempty"`   // API requests left
	Kept    []int                 `json:"kept,omitempty"`    // shards
}

// What the counts of a record's Totals begin with.
const (
	eventCount   = "event "
	callCount    = "call "
	failureCount = "failure "
)

// Each run is counted by several goroutines; a command that is no tick has no run.

func (r *run) recorded(reason events.Reason) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.facts.Events == nil {
		r.facts.Events = map[events.Reason]int{}
	}
	r.facts.Events[reason]++
	r.totals[eventCount+string(reason)]++
}

func (r *run) called(call string, err error) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.totals[callCount+call]++
	if err != nil {
		r.totals[failureCount+call]++
	}
}

func (r *run) kept(shards []int) {
	if r != nil {
		r.facts.Kept = shards
	}
}

func (r *run) saw(f autoscaler.Figures) {
	if r != nil {
		r.facts.Figures = &f
	}
}

// counted makes the events of a run count.
func (h *host) counted(record func(events.Reason, string, string)) func(events.Reason, string, string) {
	if h.run == nil {
		return record
	}
	return func(reason events.Reason, server, text string) {
		h.run.recorded(reason)
		record(reason, server, text)
	}
}

// metricsPatience bounds the wait for another tick that writes the file.
const metricsPatience = 2 * time.Second

// writeMetrics writes the file of metrics from the records of all commands. It asks
// neither a provider nor the datastore.
func (r *run) writeMetrics() error {
	ctx, cancel := context.WithTimeout(context.Background(), metricsPatience)
	defer cancel()
	// One after the other: who reads the records last has all of them.
	release, err := lock.Wait(ctx, r.site.Dir.Path("metrics.lock"))
	if errors.Is(err, lock.ErrHeld) {
		return nil // the others write it every minute
	}
	if err != nil {
		return err
	}
	defer release()
	state, err := r.site.Recall(ctx)
	if err != nil {
		return err
	}
	last := map[string]runs.Last{}
	for _, tick := range ticks() {
		last[tick] = r.folder.Last(tick)
	}
	cfg := r.site.cfg
	everywhere := []string{cfg.Autoscaler.Build, strconv.Itoa(cfg.Autoscaler.Number)}
	samples := append(fleetSamples(cfg.Autoscaler.Count, last, state), runSamples(last)...)
	samples = append(samples, metrics.Sample{Name: "adt_info", Values: []string{Version, cfg.Website.URL}, Value: 1})
	return metrics.WriteFile(cfg.Metrics.Textfile, everywhere, samples)
}

// fleetSamples is what the last runs and the runtime directory know of the fleet.
func fleetSamples(autoscalers int, last map[string]runs.Last, state autoscaler.State) (samples []metrics.Sample) {
	add := func(name string, value float64, values ...string) {
		samples = append(samples, metrics.Sample{Name: name, Values: values, Value: value})
	}
	found := map[string]facts{}
	for command, l := range last {
		var f facts
		_ = json.Unmarshal(l.Facts, &f) // what is not known is left out
		found[command] = f
	}
	if f := found["healthcheck"].Figures; f != nil {
		for name, value := range map[string]*int{"wanted": f.Profile, "scheduled": f.Scheduled, "initial": &f.Initial, "provisioned": &f.Provisioned, "published": &f.Published, "failing": &f.Failing} {
			if value != nil {
				add("adt_webservers_"+name, float64(*value))
			}
		}
	}
	for _, k := range state.Known {
		if !slices.ContainsFunc(samples, func(s metrics.Sample) bool { return s.Name == "adt_webserver_strikes" && s.Values[0] == k.Name }) {
			add("adt_webserver_strikes", float64(k.Strikes), k.Name) // of two that bear one name the first will do
		}
	}
	for _, phase := range autoscaler.BuildPhases() {
		n := 0
		for _, b := range state.Builds {
			n += int(metrics.Bool(b.Phase == phase))
		}
		add("adt_builds", float64(n), string(phase))
	}
	for _, phase := range autoscaler.TerminationPhases() {
		n := 0
		for _, t := range state.Terminations {
			n += int(metrics.Bool(t.Phase == phase))
		}
		add("adt_terminations", float64(n), string(phase))
	}
	add("adt_build_failures_in_a_row", float64(state.Backoff.Failures))
	add("adt_building_stopped", metrics.Bool(state.Backoff.Stopped))
	for _, what := range autoscaler.Pausable() {
		_, on := state.Paused[what]
		add("adt_paused", metrics.Bool(on), what)
	}
	scale, health := found["scale"], found["healthcheck"]
	had := func(reason events.Reason) float64 {
		return metrics.Bool(scale.Events[reason]+health.Events[reason] > 0)
	}
	for _, m := range events.Meanings() {
		if brake, ok := strings.CutPrefix(string(m.Reason), "BRAKE_"); ok {
			add("adt_brake_held", had(m.Reason), strings.ToLower(brake))
		}
	}
	add("adt_datastore_failing", had(events.StoreFailed))
	newer := scale
	if last["healthcheck"].Ended.After(last["scale"].Ended) {
		newer = health
	}
	for shard := 1; shard <= autoscalers; shard++ {
		add("adt_shard_kept", metrics.Bool(slices.Contains(newer.Kept, shard)), strconv.Itoa(shard))
	}
	if newer.Quota != nil {
		add("adt_provider_requests_left", float64(*newer.Quota))
	}
	return samples
}

// runSamples is what the records of the runs say.
func runSamples(last map[string]runs.Last) (samples []metrics.Sample) {
	add := func(name string, value float64, values ...string) {
		samples = append(samples, metrics.Sample{Name: name, Values: values, Value: value})
	}
	at := func(name string, t time.Time, command string) {
		if !t.IsZero() {
			add(name, float64(t.UnixMilli())/1000, command)
		}
	}
	for command, l := range last {
		at("adt_command_start_timestamp_seconds", l.Begun, command)
		at("adt_command_end_timestamp_seconds", l.Ended, command)
		at("adt_command_success_timestamp_seconds", l.Succeeded, command)
		if !l.Ended.IsZero() {
			add("adt_command_duration_seconds", l.Ended.Sub(l.Started).Seconds(), command)
			add("adt_command_exit_code", float64(l.Exit), command)
		}
		for what, n := range l.Totals {
			for prefix, name := range map[string]string{eventCount: "adt_events_total", callCount: "adt_provider_calls_total", failureCount: "adt_provider_call_failures_total"} {
				if value, ok := strings.CutPrefix(what, prefix); ok {
					add(name, float64(n), command, value)
				}
			}
		}
	}
	return samples
}
