package notify_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"adt/events"
	"adt/notify"
)

func rules() notify.Rules {
	return notify.Rules{Level: notify.Info, PerHour: 10, Remind: 24 * time.Hour, Lasting: 30 * time.Minute, Quiet: time.Hour, Keep: 72 * time.Hour, KeepCount: 100}
}

// telling plays a mail server, up or down, and cron.
type telling struct {
	t     *testing.T
	rules notify.Rules
	state notify.State
	now   time.Time
	down  bool
	ids   int
	got   []string // what arrived, one line for each message
	lost  []notify.Loss
}

func tell(t *testing.T, r notify.Rules) *telling {
	return &telling{t: t, rules: r, now: noon}
}

// tick decides, and delivers what is due.
func (p *telling) tick(found ...events.Event) {
	p.t.Helper()
	for i := range found {
		if found[i].Time.IsZero() {
			found[i].Time = p.now
		}
		if found[i].Level == "" {
			found[i].Level = events.LevelOf(found[i].Reason)
		}
	}
	before := fmt.Sprintf("%+v", p.state)
	next, lost := p.rules.Decide(p.now, p.state, found, []string{"ops"}, func() string { p.ids++; return fmt.Sprint(p.ids) })
	if after := fmt.Sprintf("%+v", p.state); after != before {
		p.t.Errorf("the old state was changed:\n%s\n%s", before, after)
	}
	p.state, p.lost = next, append(p.lost, lost...)
	m := p.state.Ways["ops"].Message
	if m == nil || m.Next.After(p.now) {
		return
	}
	p.state = notify.Trying(p.state, p.now, "ops", m.ID)
	if p.down {
		p.state = notify.Refused(p.state, "ops", m.ID, "down")
		return
	}
	p.state = notify.Delivered(p.state, p.now, "ops", m.ID)
	var words []string
	for _, n := range m.Notices {
		words = append(words, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", n.Kind, n.Level, n.Reason, n.Server)))
	}
	if m.Lost > 0 {
		words = append(words, fmt.Sprintf("%d lost", m.Lost))
	}
	p.got = append(p.got, p.now.Sub(noon).String()+": "+strings.Join(words, ", "))
}

// pass lets minutes pass with the same events in each.
func (p *telling) pass(length time.Duration, found ...events.Event) {
	p.t.Helper()
	for end := p.now.Add(length); p.now.Before(end); {
		p.now = p.now.Add(time.Minute)
		p.tick(slices.Clone(found)...)
	}
}

func (p *telling) want(lines ...string) {
	p.t.Helper()
	if diff := cmp.Diff(lines, p.got); diff != "" {
		p.t.Errorf("told (-want +got):\n%s", diff)
	}
	p.got = nil
}

func strike(server string) events.Event {
	return events.Event{Reason: events.Strike, Server: server, Autoscaler: 1, Text: "HTTPS: status 500"}
}

func event(reason events.Reason, server string) events.Event {
	return events.Event{Reason: reason, Server: server, Autoscaler: 1, Text: "why"}
}

// One mail per matter, not per tick; once a day while it goes on; once when it is over.
func TestAMatterIsToldOnce(t *testing.T) {
	p := tell(t, rules())
	p.pass(50*time.Hour, event(events.ObservationFailed, ""))
	p.want("1m0s: new INFO OBSERVATION_FAILED", "24h1m0s: still failing ERROR OBSERVATION_FAILED", "48h1m0s: still failing ERROR OBSERVATION_FAILED")
	p.pass(3 * time.Hour)
	p.want("51h0m0s: recovered ERROR OBSERVATION_FAILED")
	p.pass(48 * time.Hour)
	p.want()
	p.tick(event(events.ObservationFailed, ""))
	p.want("101h0m0s: new INFO OBSERVATION_FAILED")
	p.pass(48 * time.Hour) // seen once: nothing says that it was a state
	p.want()
}

// What did not happen again since it was told does not go on.
func TestOnlyWhatGoesOnIsToldAgain(t *testing.T) {
	r := rules()
	r.Quiet = 72 * time.Hour
	p := tell(t, r)
	p.tick(strike("a"))
	p.pass(48 * time.Hour)
	p.want("0s: new INFO STRIKE a")
}

func TestSeveralMattersOfATickAreOneMessage(t *testing.T) {
	p := tell(t, rules())
	p.tick(strike("a"), strike("b"), event(events.RebootFailed, ""), strike("a"))
	p.want("0s: new ERROR REBOOT_FAILED, new INFO STRIKE a, new INFO STRIKE b")
}

func TestRecoveryIsTold(t *testing.T) {
	for _, c := range []struct {
		name  string
		began events.Event
		ended events.Event
		want  string
	}{
		{"healthy again", strike("a"), event(events.ServerHealthy, "a"), "recovered INFO STRIKE a"},
		{"replaced", strike("a"), event(events.TerminationDone, "a"), "recovered INFO STRIKE a"},
		{"a failed step", event(events.TerminationFailed, "a"), event(events.TerminationDone, "a"), "recovered INFO TERMINATION_FAILED a"},
		{"building", event(events.BuildingStop, ""), event(events.Resumed, ""), "recovered MANDATORY BUILDING_STOPPED"},
		{"a build of another name", event(events.CreateFailed, "a"), event(events.BuildDone, "b"), "recovered INFO CREATE_FAILED"},
		{"a pause", event(events.Paused, ""), event(events.Resumed, ""), "recovered INFO PAUSED"},
		{"another server", strike("a"), event(events.ServerHealthy, "ab"), ""},
		{"somebody else's", strike("a"), events.Event{Reason: events.ServerHealthy, Server: "a", Autoscaler: 2}, ""},
	} {
		p := tell(t, rules())
		p.tick(c.began)
		p.got = nil
		p.now = p.now.Add(time.Minute)
		p.tick(c.ended)
		if c.want == "" {
			p.want()
			continue
		}
		if len(p.got) != 1 || p.got[0] != "1m0s: "+c.want {
			t.Errorf("%s: %q", c.name, p.got)
		}
		p.got = nil
		p.pass(48 * time.Hour)
		p.want()
	}
}

// What has no end is told once: nobody is to wait for a mail that says so.
func TestNewsHasNoEnd(t *testing.T) {
	for _, reason := range []events.Reason{events.TerminationStart, events.RecordCorrupt, events.LeaseTaken, events.ClockJumped, events.ServerVanished} {
		p := tell(t, rules())
		p.tick(event(reason, "a"))
		p.pass(10*time.Minute, event(reason, "a"))
		p.pass(48 * time.Hour)
		if len(p.got) != 1 || !strings.Contains(p.got[0], "new ") {
			t.Errorf("%s: %q", reason, p.got)
		}
	}
}

func TestLevels(t *testing.T) {
	for _, c := range []struct {
		asked notify.Level
		event events.Event
		lasts time.Duration
		want  []string
	}{
		{notify.Info, event(events.TerminationStart, "a"), 0, []string{"0s: new INFO TERMINATION_STARTED a"}},
		{notify.Info, event(events.TerminationPhase, "a"), 0, nil},
		{notify.Info, event(events.BuildDone, "a"), 0, nil},
		{notify.Error, event(events.TerminationStart, "a"), 0, nil},
		{notify.Error, strike("a"), 0, nil},
		{notify.Error, event(events.RebootFailed, ""), 0, []string{"0s: new ERROR REBOOT_FAILED"}},
		{notify.Error, event(events.ObservationFailed, ""), 29 * time.Minute, nil},
		{notify.Error, event(events.ObservationFailed, ""), 31 * time.Minute, []string{"30m0s: new ERROR OBSERVATION_FAILED"}},
		{notify.Error, event(events.LeaseTaken, ""), 45 * time.Minute, nil}, // each is news of its own
		{notify.Error, event(events.BuildingStop, ""), 0, []string{"0s: new MANDATORY BUILDING_STOPPED"}},
		{notify.Error, event(events.LowDisk, ""), 0, []string{"0s: new ERROR LOW_DISK"}}, // it lasted before it was an alarm
		{notify.Error, event(events.MonitorRecovered, ""), 0, []string{"0s: new ERROR MONITOR_RECOVERED"}},
		{notify.Mandatory, event(events.RebootFailed, ""), 0, nil},
		{notify.Mandatory, event(events.BuildingStop, ""), 0, []string{"0s: new MANDATORY BUILDING_STOPPED"}},
		{notify.Info, events.Event{Reason: "OF_LATER", Level: events.Warn}, 0, []string{"0s: new INFO OF_LATER"}},
	} {
		r := rules()
		r.Level = c.asked
		p := tell(t, r)
		p.tick(c.event)
		p.pass(c.lasts, c.event)
		if diff := cmp.Diff(c.want, p.got); diff != "" {
			t.Errorf("%s, asked for %s (-want +got):\n%s", c.event.Reason, c.asked, diff)
		}
	}
}

// What nobody was told of needs no all-clear.
func TestNoRecoveryOfTheUntold(t *testing.T) {
	r := rules()
	r.Level = notify.Error
	p := tell(t, r)
	p.tick(strike("a"))
	p.now = p.now.Add(time.Minute)
	p.tick(event(events.ServerHealthy, "a"))
	p.pass(10*time.Minute, event(events.ObservationFailed, ""))
	p.pass(48 * time.Hour)
	p.want()
}

// At most a number an hour; what is over is gathered, and the latest news of each
// matter are in the next one.
func TestPerHour(t *testing.T) {
	r := rules()
	r.PerHour = 2
	p := tell(t, r)
	for i := range 5 {
		p.now = noon.Add(time.Duration(i) * time.Minute)
		p.tick(strike(fmt.Sprint(i)))
	}
	p.now = noon.Add(10 * time.Minute)
	p.tick(event(events.ServerHealthy, "0"), event(events.ServerHealthy, "3"))
	p.want("0s: new INFO STRIKE 0", "1m0s: new INFO STRIKE 1")
	p.now = noon.Add(20 * time.Minute)
	p.tick(event(events.BuildingStop, "")) // mandatory: told at once, and takes the rest along
	p.want("20m0s: new MANDATORY BUILDING_STOPPED, new INFO STRIKE 2, new INFO STRIKE 4, recovered INFO STRIKE 0, came and went INFO STRIKE 3")
	p.now = noon.Add(30 * time.Minute)
	p.tick(strike("5"))
	p.want()
	p.pass(31 * time.Minute)
	p.want("1h1m0s: new INFO STRIKE 5") // two in the hour before: at 1 and at 20
}

// A mail server that is down for a day gets the first message when it is back and
// then one with all that came since: nothing is lost, and there is no flood.
func TestDownForADay(t *testing.T) {
	p := tell(t, rules())
	p.down = true
	p.tick(strike("first"))
	for i := range 24 {
		p.pass(time.Hour, event(events.StoreFailed, ""))
		p.tick(strike(fmt.Sprintf("%02d", i)), strike("flapping"))
		p.now = p.now.Add(time.Second)
		p.tick(event(events.ServerHealthy, "flapping"))
	}
	if m := p.state.Ways["ops"].Message; m == nil || m.Tries < 40 || m.Tries > 60 {
		t.Errorf("in a day it was tried %+v", m)
	}
	p.want()
	p.down = false
	p.pass(time.Hour, event(events.StoreFailed, ""))
	if len(p.got) != 2 || !strings.HasSuffix(p.got[0], ": new INFO STRIKE first") {
		t.Fatalf("told: %q", p.got)
	}
	for i := range 24 {
		if want := fmt.Sprintf("new INFO STRIKE %02d", i); strings.Count(p.got[1], want) != 1 {
			t.Errorf("%q is not there once: %s", want, p.got[1])
		}
	}
	for _, want := range []string{"new ERROR STORE_FAILED", "came and went INFO STRIKE flapping"} {
		if strings.Count(p.got[1], want) != 1 {
			t.Errorf("%q is not there once: %s", want, p.got[1])
		}
	}
	if len(p.lost) != 0 {
		t.Errorf("lost: %+v", p.lost)
	}
}

// What is given up is said, there and then and in the next message.
func TestGivenUp(t *testing.T) {
	r := rules()
	r.Keep, r.KeepCount = 2*time.Hour, 3
	p := tell(t, r)
	p.down = true
	p.tick(strike("a"), strike("b"))
	p.pass(time.Hour)
	p.tick(strike("c"), strike("d"), strike("e"), strike("f"), strike("g")) // two too many to wait
	p.pass(65 * time.Minute)
	if len(p.lost) != 1 || len(p.lost[0].Message.Notices) != 2 || p.lost[0].Message.Error != "down" {
		t.Fatalf("given up: %+v", p.lost)
	}
	p.down = false
	p.pass(time.Hour)
	p.want("2h7m0s: new INFO STRIKE e, new INFO STRIKE f, new INFO STRIKE g, 4 lost")
	p.pass(time.Hour)
	p.want()
}

func TestARecipientThatIsNoMore(t *testing.T) {
	p := tell(t, rules())
	p.down = true
	p.tick(strike("a"))
	next, lost := p.rules.Decide(p.now, p.state, nil, []string{"other"}, func() string { return "x" })
	if len(lost) != 1 || lost[0].Way != "ops" || len(next.Ways) != 1 {
		t.Errorf("%+v, %+v", lost, next)
	}
}

// A backlog of days is told as it was, once.
func TestFoundLate(t *testing.T) {
	p := tell(t, rules())
	ago := func(e events.Event, d time.Duration) events.Event {
		e.Time = noon.Add(-d)
		return e
	}
	p.tick(ago(strike("a"), 50*time.Hour), ago(strike("a"), 49*time.Hour), ago(event(events.TerminationStart, "b"), 40*time.Hour),
		ago(strike("c"), 30*time.Hour), ago(event(events.ServerHealthy, "c"), 29*time.Hour), ago(strike("d"), time.Minute))
	p.want("0s: new INFO TERMINATION_STARTED b, new INFO STRIKE d, came and went ERROR STRIKE a, came and went INFO STRIKE c")
}

// Errors of providers can be pages of HTML: the record keeps a line of each.
func TestLongTexts(t *testing.T) {
	p := tell(t, rules())
	e := strike("a")
	e.Text = strings.Repeat("<p>\n", 10_000)
	p.tick(e)
	p.tick(e)
	if got := p.state.Matters[0].Text; len(got) > 1000 || strings.Contains(got, "\n") {
		t.Errorf("%d characters: %.100q", len(got), got)
	}
}

// What notify records about itself is told to nobody, at whatever rate it comes:
// a message that fails must not beget another.
func TestNoRecursion(t *testing.T) {
	p := tell(t, rules())
	p.pass(48*time.Hour, event(events.NotifyFailed, ""), event(events.NotifyDropped, ""), event(events.NotifySent, ""))
	p.want()
	if len(p.state.Matters) != 0 {
		t.Errorf("%+v", p.state.Matters)
	}
}

// Whatever happens, nothing is lost without a word: each matter that was new
// arrives, each that was told to be new and ended is told to be over, no message
// comes twice, and no hour has more than allowed.
func TestRandomLives(t *testing.T) {
	lives := uint64(60)
	if testing.Short() {
		lives = 15
	}
	for seed := range lives {
		rng := rand.New(rand.NewPCG(7, seed))
		r := rules()
		r.PerHour, r.Quiet = 1+rng.IntN(4), 1000*time.Hour
		p := tell(t, r)
		open := map[string]bool{} // by what arrived
		var sent []time.Time
		began := map[string]bool{}
		for range 400 {
			p.now = p.now.Add(time.Duration(rng.IntN(600)) * time.Second)
			if rng.IntN(20) == 0 {
				p.down = !p.down
			}
			var found []events.Event
			for range rng.IntN(3) {
				name := fmt.Sprint(rng.IntN(6))
				if rng.IntN(2) == 0 {
					found = append(found, strike(name))
					began[name] = true
				} else {
					found = append(found, event(events.ServerHealthy, name))
				}
			}
			p.tick(found...)
			for range p.got {
				sent = append(sent, p.now)
			}
			follow(t, p, open)
		}
		p.down = false
		p.pass(4 * time.Hour)
		follow(t, p, open)
		for i := range sent {
			if i >= r.PerHour && sent[i].Sub(sent[i-r.PerHour]) < time.Hour {
				t.Errorf("seed %d: %d messages within %s", seed, r.PerHour+1, sent[i].Sub(sent[i-r.PerHour]))
			}
		}
		if len(p.state.Ways["ops"].Pending) != 0 || p.state.Ways["ops"].Message != nil || len(p.lost) != 0 {
			t.Errorf("seed %d: something waits or is lost: %+v", seed, p.state.Ways)
		}
		for name := range began {
			if _, heard := open[name]; !heard {
				t.Errorf("seed %d: nobody heard of %s", seed, name)
			}
		}
		if t.Failed() {
			return
		}
	}
}

// follow reads messages as a person does.
func follow(t *testing.T, p *telling, open map[string]bool) {
	t.Helper()
	for _, line := range p.got {
		_, line, _ = strings.Cut(line, ": ")
		for n := range strings.SplitSeq(line, ", ") {
			words := strings.Fields(n)
			name := words[len(words)-1]
			switch {
			case strings.HasPrefix(n, "new") && !open[name]:
				open[name] = true
			case strings.HasPrefix(n, "still failing") && open[name]:
			case strings.HasPrefix(n, "recovered") && open[name]:
				open[name] = false
			case strings.HasPrefix(n, "came and went") && !open[name]:
				open[name] = false
			default:
				t.Fatalf("%q, and it was %v", n, open[name])
			}
		}
	}
	p.got = nil
}
