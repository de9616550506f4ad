package commands

import (
	"testing"
	"time"

	"adt/autoscaler"
	"adt/history"
	"adt/schedule"
)

// What an addition set is remembered by the history, when a command has changed
// the profile since.
func TestScheduledStill(t *testing.T) {
	day := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	six, two := 6, 2
	plan, err := schedule.Parse([]schedule.Entry{{Line: 1, Cron: "0 8 * * *", Count: &six}, {Line: 2, Cron: "0 12 * * *", Add: &two}})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{Autoscaler: &autoscaler.Autoscaler{Settings: autoscaler.Settings{Schedule: plan}}}
	log, err := history.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	known := func(n int) *int { return &n }
	for _, c := range []struct {
		after           time.Duration
		scheduled, want *int
	}{
		{9 * time.Hour, known(6), known(6)},
		{12 * time.Hour, nil, nil}, // not applied yet
		{12*time.Hour + 2*time.Minute, known(8), known(8)},
		{13 * time.Hour, nil, known(8)},
		{14 * time.Hour, known(3), known(8)},
		{32 * time.Hour, known(6), known(6)},
		{37 * time.Hour, nil, nil}, // nobody saw it
	} {
		now := day.Add(c.after)
		got, err := s.scheduledStill(log, c.scheduled, now)
		if err != nil || (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("after %s: %v, %v", c.after, got, err)
		}
		if _, err := log.Add(history.Sample{Time: now, Scheduled: got}); err != nil {
			t.Fatal(err)
		}
	}
	s.Schedule = nil
	if got, err := s.scheduledStill(log, nil, day.Add(37*time.Hour)); got != nil || err != nil {
		t.Errorf("without a schedule: %v, %v", got, err)
	}
}
