package autoscaler

import (
	"slices"
	"strings"
	"testing"
	"time"

	"adt/events"
	"adt/schedule"
)

// A firing changes a profile once, whoever looks how often; a store that cannot be
// written is told the next time.
func TestApplySchedule(t *testing.T) {
	day := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	ten, four := 10, 4
	plan, err := schedule.Parse([]schedule.Entry{{Line: 1, Cron: "30 8 * * *", Count: &ten}, {Line: 2, Cron: "0 12 * * *", Add: &four}})
	if err != nil {
		t.Fatal(err)
	}
	store := &objects{at: map[string]time.Time{"autoscaler-2/STATIC_SCALE:1": day}}
	var said []events.Reason
	a := &Autoscaler{
		Settings: Settings{Rules: Rules{Shard: 2}, Autoscalers: 3, Schedule: plan},
		Profiles: Profiles{Store: store, Bucket: "b"},
		Record:   func(r events.Reason, _, _ string) { said = append(said, r) },
	}
	look := func(now time.Time) int {
		t.Helper()
		store.clock = now
		b, err := a.Profiles.read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		o := Observation{Profile: b.posts[2].profile}
		a.applySchedule(t.Context(), &o, now)
		return o.Profile.Count
	}
	for _, c := range []struct {
		at   time.Duration
		want int
	}{
		{8 * time.Hour, 1}, {8*time.Hour + 30*time.Minute, 1}, // no clock is so exact
		{8*time.Hour + 31*time.Minute, 3}, {9 * time.Hour, 3}, // 10 over 3 is 4, 3, 3
		{12*time.Hour + time.Minute, 4}, {12*time.Hour + 2*time.Minute, 4}, {13 * time.Hour, 4}, // 4 over 3 is 2, 1, 1
	} {
		if got := look(day.Add(c.at)); got != c.want {
			t.Errorf("after %s the profile is %d, want %d", c.at, got, c.want)
		}
	}
	if want := []events.Reason{events.ScheduleFired, events.ScheduleFired}; !slices.Equal(said, want) {
		t.Errorf("said %v, want %v", said, want)
	}
	// A day and a half without a tick.
	if got := look(day.Add(36*time.Hour + time.Minute)); got != 4 {
		t.Errorf("after an outage the profile is %d, want 3 + 1", got)
	}
	// A store that cannot be written: it holds all the same, and is written later.
	store.fails = "put"
	if got := look(day.Add(56*time.Hour + 40*time.Minute)); got != 3 {
		t.Errorf("unwritten, the profile is %d, want 3", got)
	}
	store.fails = ""
	if got := look(day.Add(57 * time.Hour)); got != 3 || !slices.Contains(store.keys(), ProfileKey(2, 3)) {
		t.Errorf("written later, the profile is %d, the store has %v", got, store.keys())
	}
}

// A process that read the profile, slept, and lost its lease writes nothing of
// what follows from it; nor does one whose profile was changed by a command.
func TestAScheduleIsFenced(t *testing.T) {
	thirty := 30
	plan, err := schedule.Parse([]schedule.Entry{{Line: 1, Cron: "30 8 * * *", Count: &thirty}})
	if err != nil {
		t.Fatal(err)
	}
	for name, between := range map[string]func(*crew){
		"nothing":   func(*crew) {},
		"slept":     func(c *crew) { c.pass(time.Hour) },
		"a command": func(c *crew) { c.store.at[ProfileKey(1, 4)] = c.store.clock },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCrew(t)
			c.store.at[ProfileKey(1, 4)] = c.store.clock.Add(-24 * time.Hour)
			one := c.autoscaler(1)
			one.Schedule = plan
			if _, err := one.Keep(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := one.Prepare(one); err != nil {
				t.Fatal(err)
			}
			o := Observation{Profile: one.board.posts[1].profile}
			between(c)
			one.applySchedule(t.Context(), &o, one.board.now)
			want := ProfileKey(1, 4)
			if name == "nothing" {
				want = ProfileKey(1, 10)
			}
			if left := slices.DeleteFunc(c.store.keys(), func(k string) bool { return !strings.Contains(k, "STATIC_SCALE") }); !slices.Equal(left, []string{want}) {
				t.Errorf("the profile is %v, want %s", left, want)
			}
		})
	}
}
