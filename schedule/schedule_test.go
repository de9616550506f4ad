package schedule

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func n(v int) *int { return &v }

func must(t testing.TB, entries ...Entry) *Schedule {
	t.Helper()
	s, err := Parse(entries)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func at(t testing.TB, text string) time.Time {
	t.Helper()
	v, err := time.Parse("2006-01-02 15:04 -0700", text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Clocks that are put forward or back: no firing is lost, and none comes twice.
func TestClockChanges(t *testing.T) {
	for _, c := range []struct {
		name, cron, zone, from, until string
		want                          []string
	}{
		{"London, the hour that is left out", "30 1 * * *", "Europe/London", "2026-03-28", "2026-03-30",
			[]string{"03-28 01:30 +0000", "03-29 02:00 +0100", "03-30 01:30 +0100"}},
		{"London, the hour that comes twice", "30 1 * * *", "Europe/London", "2026-10-24", "2026-10-26",
			[]string{"10-24 01:30 +0100", "10-25 01:30 +0100", "10-26 01:30 +0000"}},
		{"several in the hour that is left out are one", "*/20 1,2 * * *", "Europe/London", "2026-03-29", "2026-03-29",
			[]string{"03-29 02:00 +0100", "03-29 02:20 +0100", "03-29 02:40 +0100"}},
		{"New York", "30 2 * * *", "America/New_York", "2026-03-07", "2026-03-09",
			[]string{"03-07 02:30 -0500", "03-08 03:00 -0400", "03-09 02:30 -0400"}},
		{"Lord Howe moves by half an hour", "15 2 * * *", "Australia/Lord_Howe", "2026-10-03", "2026-10-05",
			[]string{"10-03 02:15 +1030", "10-04 02:30 +1100", "10-05 02:15 +1100"}},
		{"Lord Howe, back", "45 1 * * *", "Australia/Lord_Howe", "2026-04-04", "2026-04-06",
			[]string{"04-04 01:45 +1100", "04-05 01:45 +1100", "04-06 01:45 +1030"}},
		{"Apia had no 30 December 2011", "0 12 * * *", "Pacific/Apia", "2011-12-29", "2011-12-31",
			[]string{"12-29 12:00 -1000", "12-31 00:00 +1400", "12-31 12:00 +1400"}},
		{"no changes", "30 1 * * *", "Asia/Tokyo", "2026-03-29", "2026-03-30", []string{"03-29 01:30 +0900", "03-30 01:30 +0900"}},
		{"Sunday is 7 too", "0 8 * * 7", "", "2026-11-23", "2026-11-30", []string{"11-29 08:00 +0000"}},
		{"and the end of a range", "0 8 * * 6-7", "", "2026-11-23", "2026-11-30", []string{"11-28 08:00 +0000", "11-29 08:00 +0000"}},
	} {
		s := must(t, Entry{Cron: c.cron, Zone: c.zone, Count: n(1), From: c.from, Until: c.until})
		begin, _ := time.Parse(time.DateOnly, c.from)
		var got []string
		for _, f := range s.Next(begin.Add(-48*time.Hour), 10) {
			got = append(got, f.At.Format("01-02 15:04 -0700"))
		}
		if strings.Join(got, ", ") != strings.Join(c.want, ", ") {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestMistakes(t *testing.T) {
	for _, c := range []struct {
		entries []Entry
		want    []string
	}{
		{[]Entry{{Line: 3, Cron: "30 8 * *", Count: n(1)}}, []string{"line 3", "no expression such as"}},
		{[]Entry{{Line: 3, Cron: "30 25 * * *", Count: n(1)}}, []string{"line 3", "no expression"}},
		{[]Entry{{Line: 3, Cron: "@every 5m", Count: n(1)}}, []string{"no time of day"}},
		{[]Entry{{Line: 3, Cron: "TZ=0 1 2 3 4 5", Count: n(1)}}, []string{"goes into time_zone"}},
		{[]Entry{{Line: 3, Cron: "0 8 30 2 *", Count: n(1)}}, []string{"never fires"}},
		{[]Entry{{Line: 3, Cron: "0 8 * * *", Count: n(1), Add: n(1)}}, []string{"one of count and add"}},
		{[]Entry{{Line: 3, Cron: "0 8 * * *"}}, []string{"one of count and add"}},
		{[]Entry{{Line: 3, Cron: "0 8 * * *", Add: n(0)}}, []string{"add must not be 0"}},
		{[]Entry{{Line: 3, Cron: "0 8 * * *", Count: n(-1)}}, []string{"must not be negative"}},
		{[]Entry{{Line: 3, Cron: "0 8 * * *", Count: n(1), Zone: "Mars/Olympus"}}, []string{"no time zone such as"}},
		{[]Entry{{Line: 3, Cron: "0 8 * * *", Count: n(1), From: "tomorrow"}}, []string{"from", "no date such as"}},
		{[]Entry{{Line: 3, Cron: "0 8 * * *", Count: n(1), From: "2026-12-02", Until: "2026-12-01"}}, []string{"is before from"}},
		{[]Entry{{Line: 3, Cron: "0 8 29 2 *", Count: n(1), From: "2025-01-01", Until: "2025-12-31"}}, []string{"never fires"}},
		// Two that fire at once.
		{[]Entry{{Line: 3, Cron: "30 8 * * *", Count: n(1)}, {Line: 9, Cron: "*/15 8 * * 1-5", Count: n(2)}}, []string{"line 9", "line 3"}},
		{[]Entry{{Line: 3, Cron: "30 8 * * *", Count: n(1)}, {Line: 9, Cron: "30 8 * * *", Count: n(1)}}, []string{"line 9", "line 3"}},
		{[]Entry{{Line: 3, Cron: "0 0 1 1 *", Count: n(1)}, {Line: 9, Cron: "@monthly", Add: n(1)}}, []string{"line 9", "line 3"}},
		{[]Entry{{Line: 3, Cron: "0 8 * * *", Count: n(1)}, {Line: 9, Cron: "0 17 * * 1", Zone: "Asia/Tokyo", Count: n(2)}}, []string{"line 9", "line 3"}},
		{[]Entry{{Line: 3, Cron: "0 8 * * *", Count: n(1)}, {Line: 9, Cron: "0 9 * 7 *", Zone: "Europe/London", Count: n(2)}}, []string{"line 9", "line 3"}}, // in summer
	} {
		s, err := Parse(c.entries)
		if err == nil {
			err = s.Across()
		}
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v: %v lacks %q", c.entries, err, want)
			}
		}
	}
	fine := must(t, // none of these meet
		Entry{Cron: "30 8 * * 1-5", Count: n(1)}, Entry{Cron: "30 8 * * 6,7", Count: n(2)}, Entry{Cron: "30 9 * * *", Count: n(3)},
		Entry{Cron: "30 10 * * *", Count: n(4), Until: "2026-12-01"}, Entry{Cron: "30 10 * * *", Count: n(5), From: "2026-12-02"},
		Entry{Cron: "30 8 * * *", Count: n(6), Zone: "Asia/Tokyo"}, Entry{Cron: "45 9 * 1 *", Count: n(7), Zone: "Europe/Berlin"})
	if err := fine.Across(); err != nil {
		t.Error(err)
	}
}

// The example of a clash is one to come, where there is any.
func TestExample(t *testing.T) {
	now := at(t, "2026-11-25 09:00 +0000")
	for _, c := range []struct {
		a, b Entry
		want string
	}{
		{Entry{Cron: "30 8 * * *"}, Entry{Cron: "*/15 8 * * 1-5"}, "2026-11-26 08:30"},
		{Entry{Cron: "0 12 25 11 *"}, Entry{Cron: "0 12 * * *"}, "2026-11-25 12:00"},
		{Entry{Cron: "30 8 * * *", From: "2027-03-01"}, Entry{Cron: "30 8 * * *"}, "2027-03-01 08:30"},
		{Entry{Cron: "30 8 * * *", Until: "2025-12-31"}, Entry{Cron: "30 8 * * *", From: "2025-12-30"}, "2025-12-30 08:30"}, // none to come
		{Entry{Cron: "0 8 * * *"}, Entry{Cron: "0 17 * * 1", Zone: "Asia/Tokyo"}, "2026-11-30 08:00"},
		{Entry{Cron: "0 8 * * *", Until: "2025-12-31"}, Entry{Cron: "0 17 * * *", Zone: "Asia/Tokyo"}, "2024-01-01 08:00"},
	} {
		c.a.Line, c.b.Line, c.a.Count, c.b.Count = 3, 9, n(1), n(2)
		s, err := Parse([]Entry{c.a, c.b})
		if err == nil {
			err = s.Across()
		}
		var wrong *Error
		if !errors.As(err, &wrong) || wrong.Line != 9 || wrong.Example(now) != "fires at the same time as line 3, and only one of them can hold, such as on "+c.want {
			t.Errorf("%v: %q, want %s", c, wrong.Example(now), c.want)
		}
	}
}

// The profile that holds follows from when it was set and from now alone.
func TestSince(t *testing.T) {
	s := must(t, Entry{Cron: "30 8 * * *", Count: n(10)}, Entry{Cron: "0 12 * * *", Count: n(6)}, Entry{Cron: "30 17 * * *", Count: n(3)},
		Entry{Cron: "0 20 * * *", Add: n(4)}, Entry{Cron: "0 22 * * *", Add: n(-9)})
	share := func(total int) int { return (total + 1) / 2 } // of the first of two
	for _, c := range []struct {
		set, now string
		want     int
	}{
		{"2026-11-23 07:00 +0000", "2026-11-23 08:29 +0000", 7}, // a command holds
		{"2026-11-23 07:00 +0000", "2026-11-23 08:30 +0000", 5}, // until the next firing
		{"2026-11-23 08:31 +0000", "2026-11-23 11:59 +0000", 7}, // one that came after it holds
		{"2026-11-23 08:30 +0000", "2026-11-23 09:00 +0000", 7}, // that was the firing itself
		{"2026-11-20 07:00 +0000", "2026-11-23 09:00 +0000", 5}, // three days off
		{"2026-11-23 18:00 +0000", "2026-11-23 20:00 +0000", 9}, // 7 + 2
		{"2026-11-23 18:00 +0000", "2026-11-23 23:00 +0000", 4}, // 7 + 2 − 5
		{"2020-01-01 00:00 +0000", "2026-11-23 23:00 +0000", 0}, // 2 + 2 − 5, never below 0
		{"2020-01-01 00:00 +0000", "2026-11-24 08:45 +0000", 5}, //
		{"2026-11-24 08:45 +0000", "2026-11-23 08:45 +0000", 7}, // a clock that went back
	} {
		if got := Fold(7, s.Since(at(t, c.set), at(t, c.now)), share); got != c.want {
			t.Errorf("set at %s, it is %d at %s, want %d", c.set, got, c.now, c.want)
		}
	}
	if f, ok := s.Last(at(t, "2026-11-23 11:00 +0000")); !ok || *f.Count != 10 {
		t.Errorf("Last is %v, %v", f, ok)
	}
	leap := must(t, Entry{Cron: "0 0 29 2 *", Count: n(1)})
	if f, ok := leap.Last(at(t, "2027-11-23 11:00 +0000")); !ok || f.At.Year() != 2024 {
		t.Errorf("Last is %v, %v", f, ok)
	}
}

// Against a walk over every minute, in zones that do not change their clocks.
func TestEveryMinute(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		field := func(name string, low, high int) string {
			if rapid.Bool().Draw(t, name+" any") {
				return "*"
			}
			return fmt.Sprint(rapid.IntRange(low, high).Draw(t, name))
		}
		minute, hour, dom, month, dow := fmt.Sprint(rapid.IntRange(0, 59).Draw(t, "minute")), field("hour", 0, 23), field("dom", 1, 28), field("month", 1, 12), field("dow", 0, 6)
		zone := rapid.SampledFrom([]string{"UTC", "Asia/Tokyo", "Asia/Kolkata", "America/Phoenix"}).Draw(t, "zone")
		s, err := Parse([]Entry{{Cron: strings.Join([]string{minute, hour, dom, month, dow}, " "), Zone: zone, Count: n(1)}})
		if err != nil {
			t.Fatal(err)
		}
		loc, _ := time.LoadLocation(zone)
		from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(rapid.IntRange(0, 500_000).Draw(t, "from")) * time.Minute)
		fits := func(v int, f string) bool { return f == "*" || f == fmt.Sprint(v) }
		var want []time.Time
		for m := from.Add(time.Minute); m.Before(from.Add(72 * time.Hour)); m = m.Add(time.Minute) {
			l := m.In(loc)
			day := fits(l.Day(), dom) && fits(int(l.Weekday()), dow)
			if dom != "*" && dow != "*" {
				day = fits(l.Day(), dom) || fits(int(l.Weekday()), dow)
			}
			if fits(l.Minute(), minute) && fits(l.Hour(), hour) && fits(int(l.Month()), month) && day {
				want = append(want, m)
			}
		}
		got := s.entries[0].between(from, from.Add(72*time.Hour-time.Minute))
		if len(got) != len(want) {
			t.Fatalf("%d firings, want %d", len(got), len(want))
		}
		for i := range want {
			if !got[i].At.Equal(want[i]) {
				t.Fatalf("%v, want %v", got[i].At, want[i])
			}
		}
	})
}
