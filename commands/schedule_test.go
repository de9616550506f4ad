package commands

import (
	"fmt"
	"testing"
	"time"

	"adt/autoscaler"
	"adt/schedule"
)

// What would hold at a time to come is what the ticks of all autoscalers make of
// the profiles that there are.
func TestHoldsAt(t *testing.T) {
	now := time.Date(2026, 11, 25, 7, 0, 0, 0, time.UTC)
	ten, three, fewer := 10, 3, -4
	plan, err := schedule.Parse([]schedule.Entry{
		{Line: 4, Cron: "30 8 * * *", Count: &ten}, {Line: 7, Cron: "0 12 * * *", Add: &three}, {Line: 10, Cron: "0 18 * * *", Add: &fewer}})
	if err != nil {
		t.Fatal(err)
	}
	peer := func(k, count int, hold time.Duration) autoscaler.Peer {
		p := autoscaler.Peer{Number: k, Now: now}
		if count >= 0 {
			p.Profile = &autoscaler.Profile{Count: count, Set: now.Add(-time.Hour)}
		}
		if hold > 0 {
			p.Hold = now.Add(hold)
		}
		return p
	}
	const none = -1
	two := []autoscaler.Peer{peer(1, 2, 0), peer(2, 1, 0)}
	for _, c := range []struct {
		peers []autoscaler.Peer
		after time.Duration
		want  string
	}{
		{two, time.Hour, "3 by line 0"},
		{two, 90 * time.Minute, "10 by line 4"},
		{two, 6 * time.Hour, "13 by line 7"},
		{two, 12 * time.Hour, "9 by line 10"},
		{two, 26 * time.Hour, "10 by line 4"},
		{[]autoscaler.Peer{peer(1, 2, 3*time.Hour), peer(2, 1, 3*time.Hour)}, 2 * time.Hour, "3 by line 0"},
		{[]autoscaler.Peer{peer(1, 2, 3*time.Hour), peer(2, 1, 3*time.Hour)}, 4 * time.Hour, "10 by line 4"}, // what was held back
		{[]autoscaler.Peer{peer(1, none, 0), peer(2, none, 0)}, 2 * time.Hour, "10 by line 4"},
	} {
		got := holdsAt(c.peers, plan, now.Add(c.after))
		if got.Profile == nil || fmt.Sprintf("%d by line %d", *got.Profile, got.Line) != c.want || got.Why == "" {
			t.Errorf("after %s: %+v, want %s", c.after, got, c.want)
		}
	}
	adds, err := schedule.Parse([]schedule.Entry{{Line: 4, Cron: "30 8 * * *", Add: &three}})
	if err != nil {
		t.Fatal(err)
	}
	if got := holdsAt([]autoscaler.Peer{peer(1, none, 0)}, adds, now.Add(2*time.Hour)); got.Profile != nil {
		t.Errorf("an addition to nothing: %+v", got)
	}
}
