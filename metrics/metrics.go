// Package metrics writes figures of the fleet and of adt's own runs in the text
// format of Prometheus, for the textfile collector of node_exporter. It must not
// know where the figures come from.
//
// The format is written by hand: the client library would cost each start of adt a
// millisecond and the program 4 MiB, for what are a few lines here.
package metrics

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Kind is how Prometheus takes a family.
type Kind string

const (
	Gauge   Kind = "gauge"
	Counter Kind = "counter"
)

// Family is the samples of one name.
type Family struct {
	Name   string
	Kind   Kind
	Labels []string // besides those of every sample
	Help   string
}

// Everywhere are the labels of every sample: a machine may have several fleets.
func Everywhere() []string { return []string{"build", "autoscaler"} }

// Families are all metrics that there are.
func Families() []Family {
	command := []string{"command"}
	return []Family{
		{"adt_info", Gauge, []string{"version", "website"}, "Which adt keeps which website; always 1."},
		{"adt_webservers_wanted", Gauge, nil, "The profile of this autoscaler: how many webservers it keeps, besides the initial ones."},
		{"adt_webservers_scheduled", Gauge, nil, "What the last firing of the schedule wants of this autoscaler."},
		{"adt_webservers_initial", Gauge, nil, "Initial webservers of the whole fleet."},
		{"adt_webservers_provisioned", Gauge, nil, "Webservers of the whole fleet at the provider, initial ones too."},
		{"adt_webservers_published", Gauge, nil, "Of these, those in DNS."},
		{"adt_webservers_failing", Gauge, nil, "Webservers of this autoscaler that failed their last health check."},
		{"adt_webserver_strikes", Gauge, []string{"webserver"}, "Failed health checks in a row."},
		{"adt_builds", Gauge, []string{"phase"}, "Webservers of this autoscaler being built, by the phase that they have reached."},
		{"adt_terminations", Gauge, []string{"phase"}, "Webservers of this autoscaler being terminated, by the phase that they have reached."},
		{"adt_build_failures_in_a_row", Gauge, nil, "Failed builds since the last one that succeeded."},
		{"adt_building_stopped", Gauge, nil, "Whether building has stopped until adt resume."},
		{"adt_paused", Gauge, []string{"what"}, "Whether an operator has put that on hold."},
		{"adt_brake_held", Gauge, []string{"brake"}, "Whether a brake held something back in the last run of scale or healthcheck."},
		{"adt_events_total", Counter, []string{"command", "reason"}, "Events recorded by the commands that cron starts."},
		{"adt_provider_calls_total", Counter, []string{"command", "call"}, "Calls of the providers of machines and DNS; one may take several requests."},
		{"adt_provider_call_failures_total", Counter, []string{"command", "call"}, "Of these, those that failed."},
		{"adt_provider_requests_left", Gauge, nil, "API requests that the account has left, as the vendor last said."},
		{"adt_datastore_failing", Gauge, nil, "Whether the datastore could not be read or written in the last run of scale or healthcheck."},
		{"adt_shard_kept", Gauge, []string{"shard"}, "Whether this autoscaler kept those webservers in its last run, by a lease where there are several."},
		{"adt_command_start_timestamp_seconds", Gauge, command, "When a run began last."},
		{"adt_command_end_timestamp_seconds", Gauge, command, "When a run ended last."},
		{"adt_command_success_timestamp_seconds", Gauge, command, "When a run succeeded last; held back by a brake or a pause counts."},
		{"adt_command_duration_seconds", Gauge, command, "How long the last run that ended took."},
		{"adt_command_exit_code", Gauge, command, "The exit code of the last run that ended."},
	}
}

// Sample is one figure. Values are those of the family's labels, in their order.
type Sample struct {
	Name   string
	Values []string
	Value  float64
}

// Write writes samples in the order of their families and labels. everywhere are the
// values of the labels that all have. What is not in Families, or is there twice, is
// a mistake of the caller and an error: node_exporter would refuse all of the file.
func Write(w io.Writer, everywhere []string, samples []Sample) error {
	if len(everywhere) != len(Everywhere()) {
		return fmt.Errorf("metrics: %d values for the labels %q", len(everywhere), Everywhere())
	}
	var b strings.Builder
	written := 0
	for _, f := range Families() {
		var of []Sample
		for _, s := range samples {
			if s.Name == f.Name {
				of = append(of, s)
			}
		}
		written += len(of)
		if len(of) == 0 {
			continue // a family without samples says nothing
		}
		slices.SortFunc(of, func(a, b Sample) int { return slices.Compare(a.Values, b.Values) })
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", f.Name, strings.ReplaceAll(f.Help, `\`, `\\`), f.Name, f.Kind)
		for i, s := range of {
			if len(s.Values) != len(f.Labels) || i > 0 && slices.Equal(of[i-1].Values, s.Values) {
				return fmt.Errorf("metrics: %s with %q, wants one sample for each of %q", s.Name, s.Values, f.Labels)
			}
			labels := slices.Concat(Everywhere(), f.Labels)
			for j, value := range slices.Concat(everywhere, s.Values) {
				labels[j] += `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(strings.ToValidUTF8(value, "�")) + `"`
			}
			fmt.Fprintf(&b, "%s{%s} %s\n", s.Name, strings.Join(labels, ","), strconv.FormatFloat(s.Value, 'g', -1, 64))
		}
	}
	if written != len(samples) {
		return errors.New("metrics: a sample of a name that is not in Families")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteFile replaces the file, whole and readable by all, as node_exporter runs as a
// user of its own. The folder must be there. It is not made durable: a minute later
// it is written again.
func WriteFile(path string, everywhere []string, samples []Sample) error {
	// node_exporter reads what ends in .prom, so a file that is being written does not.
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".")
	if err != nil {
		return fmt.Errorf("writing the metrics: %w", err)
	}
	err = Write(f, everywhere, samples)
	err = cmp.Or(err, f.Chmod(0o644))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("writing the metrics: %w", err)
	}
	return nil
}

// Bool is a truth as a value.
func Bool(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
