// Package schedule says which change of the fleet's size is due when: cron
// expressions in time zones, with what they set. It is pure: the time is an
// argument, and nothing is remembered, so that an outage at 08:30 loses nothing.
// It must not know autoscalers or the configuration file.
package schedule

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // small machines have no time zones of their own

	"github.com/robfig/cron/v3"
)

// Entry is one line of a schedule.
type Entry struct {
	Line  int    // of the configuration file, for messages
	Cron  string // minute hour day-of-month month day-of-week, or @daily and its like
	Zone  string // IANA name; "" is UTC
	Count *int   // the fleet shall have so many,
	Add   *int   // or so many more, or fewer. One of the two is set.
	From  string // first day, 2026-12-01 in Zone; "" has no beginning
	Until string // last day; "" has no end
}

func (e Entry) String() string {
	what := ""
	switch {
	case e.Count != nil:
		what = fmt.Sprintf("count %d", *e.Count)
	case e.Add != nil:
		what = fmt.Sprintf("add %+d", *e.Add)
	}
	return fmt.Sprintf("line %d: %q %s: %s", e.Line, e.Cron, cmp.Or(e.Zone, "UTC"), what)
}

// Firing is an entry at one of its times.
type Firing struct {
	At time.Time // in the entry's zone
	Entry
	local time.Time // what the clock on the wall was meant to show
}

// Error is one thing that is wrong with a schedule.
type Error struct {
	Line int // of the entry
	Msg  string
	// meet finds a time at which two entries clash, after a time if there is one; nil
	// is no clash. It is by the clock on the wall of the earlier line's zone.
	meet func(after time.Time) time.Time
}

func (e *Error) Error() string { return fmt.Sprintf("line %d: schedule: %s", e.Line, e.Msg) }

// Example says what is wrong, with a time to come at which it would be so.
func (e *Error) Example(now time.Time) string {
	if e.meet == nil {
		return e.Msg
	}
	return e.Msg + ", such as on " + e.meet(now).Format("2006-01-02 15:04")
}

// Schedule is entries that do not contradict each other.
type Schedule struct{ entries []*entry }

type entry struct {
	Entry
	spec        *cron.SpecSchedule // in UTC, for the clock on the wall
	zone        *time.Location
	from, until time.Time // by the clock on the wall; until is the first moment after it
}

// Parse checks entries, each alone and against the others. The error joins an
// *Error for each thing that is wrong.
func Parse(entries []Entry) (*Schedule, error) {
	s := &Schedule{}
	var errs []error
	for _, e := range entries {
		p, err := parse(e)
		if err != nil {
			errs = append(errs, &Error{Line: e.Line, Msg: err.Error()})
			continue
		}
		for _, other := range s.entries {
			if _, meet := other.meets(p, time.Time{}); meet {
				errs = append(errs, clash(p, other, other.meets))
			}
		}
		s.entries = append(s.entries, p)
	}
	return s, errors.Join(errs...)
}

func parse(e Entry) (*entry, error) {
	p := &entry{Entry: e}
	if (e.Count == nil) == (e.Add == nil) {
		return nil, errors.New("wants one of count and add")
	}
	if e.Count != nil && *e.Count < 0 {
		return nil, fmt.Errorf("count must not be negative, is %d", *e.Count)
	}
	if e.Add != nil && *e.Add == 0 {
		return nil, errors.New("add must not be 0, which changes nothing")
	}
	text := strings.TrimSpace(e.Cron)
	if strings.Contains(text, "TZ=") { // the library reads zones there, and panics at some
		return nil, errors.New("cron: the time zone goes into time_zone")
	}
	if strings.HasPrefix(text, "@every") || strings.HasPrefix(text, "@reboot") {
		return nil, fmt.Errorf("cron: %q is no time of day: write minute hour day month weekday", text)
	}
	if fields := strings.Fields(text); len(fields) == 5 {
		fields[4] = sundays(fields[4])
		text = strings.Join(fields, " ")
	}
	parsed, err := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("cron: %q is no expression such as \"30 8 * * 1-5\" (minute hour day month weekday): %w", e.Cron, err)
	}
	spec, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return nil, fmt.Errorf("cron: %q is no time of day", e.Cron)
	}
	spec.Location = time.UTC
	p.spec = spec
	if p.zone, err = time.LoadLocation(cmp.Or(e.Zone, "UTC")); err != nil || e.Zone == "Local" {
		return nil, fmt.Errorf("time_zone: %q is no time zone such as Europe/London", e.Zone)
	}
	for _, day := range []struct {
		name, text string
		into       *time.Time
		and        int
	}{{"from", e.From, &p.from, 0}, {"until", e.Until, &p.until, 1}} {
		if day.text == "" {
			continue
		}
		t, err := time.Parse(time.DateOnly, day.text)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is no date such as 2026-12-01", day.name, day.text)
		}
		*day.into = t.AddDate(0, 0, day.and)
	}
	if !p.from.IsZero() && !p.until.IsZero() && !p.from.Before(p.until) {
		return nil, fmt.Errorf("until %s is before from %s", e.Until, e.From)
	}
	for d := range days(p, p) {
		if p.onDay(d) {
			return p, nil
		}
	}
	return nil, fmt.Errorf("cron: %q never fires", e.Cron)
}

// sundays writes 7 as 0, which the library does not know.
func sundays(field string) string {
	parts := strings.Split(field, ",")
	for i, part := range parts {
		switch {
		case part == "7":
			parts[i] = "0"
		case strings.HasSuffix(part, "-7"):
			parts[i] = strings.TrimSuffix(part, "7") + "6,0"
		}
	}
	return strings.Join(parts, ",")
}

// meets reports whether two entries fire at one time by one clock, and when after a
// time, or else when first. Those of different zones are left to Across.
func (e *entry) meets(o *entry, after time.Time) (found time.Time, ok bool) {
	if e.zone.String() != o.zone.String() || e.spec.Minute&o.spec.Minute == 0 || e.spec.Hour&o.spec.Hour == 0 {
		return time.Time{}, false
	}
	after = onWall(after, e.zone)
	for d := range days(e, o) {
		if !e.onDay(d) || !o.onDay(d) {
			continue
		}
		at := d.Add(first(e.spec.Hour&o.spec.Hour)*time.Hour + first(e.spec.Minute&o.spec.Minute)*time.Minute)
		if at.After(after) {
			return at, true
		}
		if !ok {
			found, ok = at, true
		}
	}
	return found, ok
}

// Across finds entries of different zones that fire at one time, which takes too
// long for every tick. Should there be some all the same, the later line holds.
func (s *Schedule) Across() error {
	var errs []error
	for i, e := range s.entries {
		for _, o := range s.entries[:i] {
			if e.zone.String() == o.zone.String() {
				continue
			}
			if _, meet := o.meetsAcross(e, time.Time{}); meet {
				errs = append(errs, clash(e, o, o.meetsAcross))
			}
		}
	}
	return errors.Join(errs...)
}

func clash(e, o *entry, meets func(*entry, time.Time) (time.Time, bool)) error {
	return &Error{Line: e.Line, Msg: fmt.Sprintf("fires at the same time as line %d, and only one of them can hold", o.Line), meet: func(after time.Time) time.Time {
		at, ok := meets(e, after)
		if !ok {
			at, _ = meets(e, time.Time{})
		}
		return at
	}}
}

// meetsAcross is meets for clocks of different zones, in the four years that hold
// each kind of day once: changes of the clocks are the same every year.
func (e *entry) meetsAcross(o *entry, after time.Time) (time.Time, bool) {
	begin := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, t := range []time.Time{e.from, onWall(after, e.zone)} {
		if t.After(begin) {
			begin = t
		}
	}
	end := begin.AddDate(4, 0, 0)
	for wall := e.spec.Next(begin.Add(-time.Minute)); wall.Before(end) && (e.until.IsZero() || wall.Before(e.until)); wall = e.spec.Next(wall) {
		if wall.IsZero() {
			break
		}
		at := instant(wall, e.zone).In(o.zone)
		there := time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, time.UTC)
		if o.spec.Minute&(1<<uint(at.Minute())) != 0 && o.spec.Hour&(1<<uint(at.Hour())) != 0 && o.onDay(there) &&
			!there.Before(o.from) && (o.until.IsZero() || there.Before(o.until)) {
			return wall, true
		}
	}
	return time.Time{}, false
}

// first is the lowest value of a field.
func first(bits uint64) time.Duration {
	n := time.Duration(0)
	for bits&1 == 0 {
		bits >>= 1
		n++
	}
	return n
}

// days are all kinds of days that both entries may fire on: after 28 years dates
// and weekdays fall together again.
func days(e, o *entry) iter.Seq[time.Time] {
	from, until := e.from, e.until
	if o.from.After(from) {
		from = o.from
	}
	if until.IsZero() || !o.until.IsZero() && o.until.Before(until) {
		until = o.until
	}
	if from.IsZero() {
		from = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
		if !until.IsZero() && until.Before(from.AddDate(28, 0, 0)) {
			from = until.AddDate(-28, 0, 0)
		}
	}
	if end := from.AddDate(28, 0, 0); until.IsZero() || until.After(end) {
		until = end
	}
	return func(yield func(time.Time) bool) {
		for d := from; d.Before(until) && yield(d); {
			d = d.AddDate(0, 0, 1)
		}
	}
}

// starred is the library's mark of a field that is a star.
const starred = 1 << 63

// onDay applies cron's rule: with both days given, either may fit.
func (e *entry) onDay(d time.Time) bool {
	if e.spec.Month&(1<<uint(d.Month())) == 0 {
		return false
	}
	dom, dow := e.spec.Dom&(1<<uint(d.Day())) != 0, e.spec.Dow&(1<<uint(d.Weekday())) != 0
	if e.spec.Dom&starred != 0 || e.spec.Dow&starred != 0 {
		return dom && dow
	}
	return dom || dow
}

// instant is when the clock on the wall of a zone shows a time. A time that a
// change of the clocks leaves out is the first moment after the change; of two
// that it shows twice it is the first.
func instant(wall time.Time, zone *time.Location) time.Time {
	offsetAt := func(t time.Time) time.Duration {
		_, seconds := t.In(zone).Zone()
		return time.Duration(seconds) * time.Second
	}
	var found time.Time
	before := offsetAt(wall.Add(-48 * time.Hour)) // zones have moved over the date line
	for _, offset := range []time.Duration{before, offsetAt(wall.Add(48 * time.Hour)), offsetAt(wall)} {
		t := wall.Add(-offset)
		if offsetAt(t) == offset && (found.IsZero() || t.Before(found)) {
			found = t
		}
	}
	if found.IsZero() {
		found, _ = wall.Add(-before).In(zone).ZoneBounds()
	}
	return found.In(zone)
}

// onWall is what the clock on the wall of a zone shows, written as UTC.
func onWall(t time.Time, zone *time.Location) time.Time {
	_, seconds := t.In(zone).Zone()
	return t.UTC().Add(time.Duration(seconds) * time.Second)
}

// between are the entry's firings with after < At <= upto, in their order.
func (e *entry) between(after, upto time.Time) []Firing {
	var out []Firing
	wall := onWall(after, e.zone).Add(-25 * time.Hour) // beyond any change of the clocks
	if start := e.from.Add(-time.Minute); start.After(wall) {
		wall = start
	}
	end := onWall(upto, e.zone).Add(25 * time.Hour)
	for {
		wall = e.spec.Next(wall)
		if wall.IsZero() || wall.After(end) || !e.until.IsZero() && !wall.Before(e.until) {
			return out
		}
		at := instant(wall, e.zone)
		if at.After(upto) {
			return out
		}
		if !at.After(after) {
			continue
		}
		if n := len(out); n > 0 && out[n-1].At.Equal(at) { // several left out by one change of the clocks
			out = out[:n-1]
		}
		out = append(out, Firing{At: at, Entry: e.Entry, local: wall})
	}
}

func order(a, b Firing) int {
	return cmp.Or(a.At.Compare(b.At), a.local.Compare(b.local), a.Line-b.Line)
}

// windows are how far back the most recent firing is looked for, one after
// another: most schedules fire every day.
func windows() []time.Duration {
	const day = 24 * time.Hour
	return []time.Duration{2 * time.Hour, 26 * time.Hour, 8 * day, 70 * day, 366 * day, 9 * 366 * day}
}

func (e *entry) last(now time.Time) (Firing, bool) {
	for _, w := range windows() {
		if f := e.between(now.Add(-w), now); len(f) > 0 {
			return f[len(f)-1], true
		}
	}
	return Firing{}, false
}

// Last is the most recent firing at or before now.
func (s *Schedule) Last(now time.Time) (Firing, bool) {
	var all []Firing
	for _, e := range s.entries {
		if f, ok := e.last(now); ok {
			all = append(all, f)
		}
	}
	if len(all) == 0 {
		return Firing{}, false
	}
	return slices.MaxFunc(all, order), true
}

// Next are the n firings after now.
func (s *Schedule) Next(now time.Time, n int) []Firing {
	var all []Firing
	for _, e := range s.entries {
		for _, w := range windows() {
			f := e.between(now, now.Add(w))
			if len(f) >= n || w == windows()[len(windows())-1] {
				all = append(all, f[:min(n, len(f))]...)
				break
			}
		}
	}
	slices.SortFunc(all, order)
	return all[:min(n, len(all))]
}

// reach is how far back additions are reckoned.
const reach = 366 * 24 * time.Hour

// Since are the firings after set, up to now, that matter for a profile that was
// set then: the last one with a count, and the additions after it.
func (s *Schedule) Since(set, now time.Time) []Firing {
	after := set
	if oldest := now.Add(-reach); after.Before(oldest) {
		after = oldest
	}
	var base Firing
	for _, e := range s.entries {
		if f, ok := e.last(now); ok && e.Count != nil && f.At.After(set) && (base.At.IsZero() || order(f, base) > 0) {
			base = f
		}
	}
	var out []Firing
	if !base.At.IsZero() {
		out = append(out, base)
		after = base.At.Add(-time.Second)
	}
	for _, e := range s.entries {
		if e.Add == nil {
			continue
		}
		for _, f := range e.between(after, now) {
			if base.At.IsZero() || order(f, base) > 0 {
				out = append(out, f)
			}
		}
	}
	slices.SortFunc(out, order)
	return out
}

// Fold is what one autoscaler's profile becomes by the firings; share is its part
// of a number of webservers of the whole fleet.
func Fold(profile int, firings []Firing, share func(total int) int) int {
	for _, f := range firings {
		switch {
		case f.Count != nil:
			profile = share(*f.Count)
		case *f.Add >= 0:
			profile += share(*f.Add)
		default:
			profile = max(0, profile-share(-*f.Add))
		}
	}
	return profile
}
