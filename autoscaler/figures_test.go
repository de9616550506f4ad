package autoscaler

import (
	"fmt"
	"testing"
	"time"

	"adt/schedule"
)

// Profile and schedule are of the whole fleet, as what is provisioned is. What an
// addition set shows when all autoscalers have applied it.
func TestFleetFigures(t *testing.T) {
	at := time.Date(2026, 11, 23, 8, 30, 0, 0, time.UTC)
	profile := func(count int, set time.Duration) *Profile { return &Profile{Count: count, Set: at.Add(set)} }
	ten, three := 10, 3
	count, add := &schedule.Firing{At: at, Entry: schedule.Entry{Count: &ten}}, &schedule.Firing{At: at, Entry: schedule.Entry{Add: &three}}
	for name, c := range map[string]struct {
		profiles []*Profile
		fired    *schedule.Firing
		want     string
	}{
		"nothing is known":        {nil, nil, "- -"},
		"none was set":            {[]*Profile{nil, nil}, count, "- 10"},
		"shares":                  {[]*Profile{profile(4, 0), profile(3, 0), nil}, nil, "7 -"},
		"a command after a count": {[]*Profile{profile(4, time.Hour), profile(3, time.Hour)}, count, "7 10"},
		"an addition, applied":    {[]*Profile{profile(4, time.Minute), profile(4, 2*time.Minute)}, add, "8 8"},
		"not by all of them yet":  {[]*Profile{profile(4, time.Minute), profile(3, -time.Hour)}, add, "7 -"},
		"a command after one":     {[]*Profile{profile(4, time.Hour), profile(3, time.Hour)}, add, "7 -"},
		"one has none":            {[]*Profile{profile(4, time.Minute), nil}, add, "4 4"},
	} {
		var f Figures
		f.want(c.profiles, c.fired)
		text := func(n *int) string {
			if n == nil {
				return "-"
			}
			return fmt.Sprint(*n)
		}
		if got := text(f.Profile) + " " + text(f.Scheduled); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// The profiles of the others are on the board that was read for the leases.
func TestFiguresAskNobody(t *testing.T) {
	c := newCrew(t)
	for k, key := range []string{ProfileKey(1, 4), ProfileKey(2, 3), ProfileKey(3, 3), ProfileKey(4, 9)} {
		c.store.at[key] = c.store.clock.Add(time.Duration(k) * time.Second)
	}
	two := c.autoscaler(2)
	if _, err := two.Keep(t.Context()); err != nil {
		t.Fatal(err)
	}
	asked := len(c.store.log)
	f, err := two.figures(&health{}, c.store.clock)
	if err != nil || f.Profile == nil || *f.Profile != 10 || len(c.store.log) != asked {
		t.Errorf("%+v, %v, asked %v", f, err, c.store.log[asked:])
	}
}
