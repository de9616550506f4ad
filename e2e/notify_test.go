package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"adt/events"
	"adt/notify/notifytest"
)

// told is a fleet whose events go to a real mail server and a webhook.
type told struct {
	*fleet
	mails *notifytest.Server
	hooks *notifytest.Hook
	hours int // that have passed for adt notify
}

func newTold(t *testing.T) *told {
	t.Helper()
	authority, err := notifytest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	f := &told{fleet: newFleet(t, nil)}
	f.mails, err = notifytest.NewServer(authority, "starttls")
	f.must(err)
	t.Cleanup(f.mails.Stop)
	f.hooks, err = notifytest.NewHook(authority)
	f.must(err)
	t.Cleanup(f.hooks.Stop)
	ca, err := authority.Write(f.home)
	f.must(err)
	f.configure(settings{
		"notify.ca": strconv.Quote(ca), "notify.webhook": strconv.Quote(f.hooks.URL), "notify.timeout": `"1m"`,
		"notify.mail.to": `["ops@example.com"]`, "notify.mail.from": `"adt@example.com"`,
		"notify.mail.host": strconv.Quote(authority.Address), "notify.mail.port": fmt.Sprint(f.mails.Port()),
		"notify.mail.user": strconv.Quote(notifytest.User), "notify.mail.password": strconv.Quote(notifytest.Password),
	})
	return f
}

// later runs adt notify half an hour after the last run. The clock of a machine
// that has booted since is believed.
func (f *told) later(killAt int) result {
	f.t.Helper()
	f.hours++
	return f.RunWith([]string{
		envBootID + "=boot" + fmt.Sprint(f.hours), envClockOffset + "=" + fmt.Sprint(30*f.hours) + "m", envKillAt + "=" + fmt.Sprint(killAt),
	}, "notify")
}

func (f *told) sound() {
	f.t.Helper()
	if r := f.later(0); r.code != 0 {
		f.t.Fatal(r)
	}
}

func (f *told) happens(reason events.Reason, server string) {
	f.t.Helper()
	log, err := events.Open(f.path("logs", "events"))
	f.must(err)
	f.must(log.Add(events.Event{Time: time.Now(), Level: events.LevelOf(reason), Reason: reason, Autoscaler: 1, Server: server, Text: "why"}))
}

// copies are the messages of one way, by id.
type copies struct {
	texts map[string]string
	count map[string]int
}

func (c *copies) add(id, text string) {
	if c.texts == nil {
		c.texts, c.count = map[string]string{}, map[string]int{}
	}
	if c.count[id] == 0 {
		c.texts[id] = text
	}
	c.count[id]++
}

// arrived is what arrived by each way.
func (f *told) arrived() map[string]*copies {
	f.t.Helper()
	all := map[string]*copies{"mail to ops@example.com": {}, "webhook": {}}
	for _, m := range f.mails.Mails() {
		all["mail to ops@example.com"].add(m.ID, m.Text)
	}
	for _, b := range f.hooks.Bodies() {
		var body struct{ ID, Text string }
		f.must(json.Unmarshal(b, &body))
		all["webhook"].add(body.ID, body.Text)
	}
	return all
}

// TestNotifyKilledAtEachStep: adt notify dies of SIGKILL at each recorded step,
// and everybody is told everything all the same. A second copy of a message comes
// only where it died while that was being sent, and bears the same id.
func TestNotifyKilledAtEachStep(t *testing.T) {
	f := newTold(t)
	f.happens(events.Strike, "ws-a")
	f.sound()
	steps := len(f.Steps())
	if steps < 10 {
		t.Fatalf("only %d steps: %v", steps, f.Steps())
	}
	several(t, upTo(steps+1), func(n int) string { return fmt.Sprintf("step-%d", n) }, func(t *testing.T, n int) {
		f := newTold(t)
		f.sound()
		f.happens(events.Strike, "ws-a")
		f.happens(events.TerminationStart, "ws-c")
		first := f.later(n)
		f.happens(events.ServerHealthy, "ws-a")
		f.happens(events.Strike, "ws-b")
		second := f.later(n)
		if !first.killed && !second.killed && n < steps-2 {
			t.Errorf("it was not killed at step %d of %d", n, steps)
		}
		for range 4 {
			f.sound()
		}
		cut := map[string]bool{} // ways that were being told when it died
		for _, s := range f.Steps() {
			if way, ok := strings.CutPrefix(s.what, "tell "); ok && f.died(s.pid) {
				cut[way] = true
			}
		}
		for way, got := range f.arrived() {
			var all string
			for id, text := range got.texts {
				all += text
				if n := got.count[id]; n > 1 && (!cut[way] || n > 3) {
					t.Errorf("%s: %d copies of %s, cut off: %v", way, n, id, cut)
				}
			}
			begun := strings.Count(all, "NEW: INFO STRIKE ws-a\n") + strings.Count(all, "CAME AND WENT: INFO STRIKE ws-a\n")
			ended := strings.Count(all, "RECOVERED: INFO STRIKE ws-a\n") + strings.Count(all, "CAME AND WENT: INFO STRIKE ws-a\n")
			if begun != 1 || ended != 1 || strings.Count(all, "NEW: INFO STRIKE ws-b\n") != 1 || strings.Count(all, "NEW: INFO TERMINATION_STARTED ws-c\n") != 1 {
				t.Errorf("%s was told:\n%s", way, all)
			}
		}
		if lost := f.Events(events.NotifyDropped, events.NotifyFailed, events.RecordCorrupt); len(lost) != 0 {
			t.Errorf("%+v", lost)
		}
	})
}

// died reports whether a run ended before it had written down what became of its
// messages: its last step is not the end of a write.
func (f *told) died(pid int) bool {
	f.t.Helper()
	var of []string
	for _, s := range f.Steps() {
		if s.pid == pid {
			of = append(of, s.what)
		}
	}
	tell := slices.IndexFunc(of, func(s string) bool { return strings.HasPrefix(s, "tell ") })
	wrote := 0
	for _, s := range of[max(0, tell):] {
		if s == "wrote notify.json" {
			wrote++
		}
	}
	return tell >= 0 && wrote < 2 // one for each way
}

// TestAFleetsMail: what people get when a webserver breaks and is replaced, and
// when the provider cannot be asked.
func TestAFleetsMail(t *testing.T) {
	f := newTold(t)
	f.Tick("scale", "--count", "1")
	f.Settle(1)
	f.Tick("notify")
	if got := f.mails.Mails(); len(got) != 0 {
		t.Fatalf("all is well, and this was mailed: %+v", got)
	}
	broken := f.Members()[0]
	f.Break(broken.ID, "http=500")
	f.Run("healthcheck")
	f.Tick("notify")
	f.Settle(1)
	f.Tick("notify")
	f.Tick("notify")
	var subjects, texts []string
	for _, m := range f.mails.Mails() {
		subjects, texts = append(subjects, m.Subject), append(texts, m.Text)
	}
	all := strings.Join(texts, "\n")
	for _, want := range []string{"NEW: INFO STRIKE " + broken.Name, "RECOVERED: INFO STRIKE " + broken.Name, "NEW: INFO TERMINATION_STARTED " + broken.Name} {
		if n := strings.Count(all, want); n != 1 {
			t.Errorf("%q was told %d times:\n%s\n%s", want, n, strings.Join(subjects, "\n"), all)
		}
	}
	if !strings.Contains(all, "over: TERMINATION_DONE: gone after ") {
		t.Errorf("it is not said how it ended:\n%s", all)
	}
	if len(subjects) > 3 || len(f.hooks.Bodies()) != len(subjects) {
		t.Errorf("%d mails, %d posts: %q", len(subjects), len(f.hooks.Bodies()), subjects)
	}
	if text, err := os.ReadFile(f.path("runtime", "notify.json")); err != nil || strings.Contains(string(text), notifytest.Password) {
		t.Errorf("%v: %s", err, text)
	}
}
