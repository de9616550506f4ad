package notify_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"adt/events"
	"adt/lock"
	"adt/notify"
	"adt/notify/notifytest"
	"adt/rundir"
)

// site is an installation with a clock that the test moves.
type site struct {
	*notify.Notifier
	t    *testing.T
	home string
	now  time.Time
	ids  int
}

func newSite(t *testing.T, to ...notify.Recipient) *site {
	t.Helper()
	home := t.TempDir()
	log, err := events.Open(filepath.Join(home, "events"))
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, home: home, now: noon}
	dir, err := rundir.Open(filepath.Join(home, "runtime"), nil, func(name, aside string, cause error) { s.record(events.RecordCorrupt, "", name) })
	if err != nil {
		t.Fatal(err)
	}
	s.Notifier = &notify.Notifier{Rules: rules(), Sender: sender, Recipients: to, Dir: dir, Log: log, Now: func() time.Time { return s.now },
		ID: func() string { s.ids++; return fmt.Sprint("id", s.ids) }, Record: s.record}
	return s
}

func (s *site) record(reason events.Reason, server, text string) {
	s.t.Helper()
	if err := s.Log.Add(events.Event{Time: s.now.Add(s.offset()), Level: events.LevelOf(reason), Reason: reason, Autoscaler: 1, Server: server, Text: text}); err != nil {
		s.t.Error(err)
	}
}

func (s *site) offset() time.Duration {
	if s.Notifier == nil {
		return 0
	}
	return s.Offset
}

// tick runs a minute later.
func (s *site) tick() (notify.Report, error) {
	s.t.Helper()
	s.now = s.now.Add(time.Minute)
	return s.Run(s.t.Context())
}

func (s *site) sound() notify.Report {
	s.t.Helper()
	report, err := s.tick()
	if err != nil {
		s.t.Fatal(err)
	}
	return report
}

func (s *site) count(reason events.Reason) int {
	s.t.Helper()
	found, err := s.Log.Read(events.Filter{Reasons: []events.Reason{reason}})
	if err != nil {
		s.t.Fatal(err)
	}
	return len(found)
}

func TestATick(t *testing.T) {
	a := authority(t)
	mails, hooks := server(t, a, "starttls"), hook(t, a)
	m := mailTo(a, mails.Port(), "starttls")
	s := newSite(t, m, notify.Webhook{URL: hooks.URL, Roots: a.Pool, Timeout: patience})
	s.sound()
	path := filepath.Join(s.home, "runtime", "notify.json")
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	s.sound()
	if after, err := os.Stat(path); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("a tick with nothing new has written: %v", err)
	}
	s.record(events.Strike, "ws-a", "HTTPS: status 500")
	s.record(events.TerminationStart, "ws-b", "it is one too many")
	report := s.sound()
	if len(report.Sent) != 2 || len(mails.Mails()) != 1 || len(hooks.Bodies()) != 1 || s.count(events.NotifySent) != 2 {
		t.Fatalf("%+v, %d mails, %d posts", report, len(mails.Mails()), len(hooks.Bodies()))
	}
	got := mails.Mails()[0]
	if !strings.HasSuffix(got.Subject, "STRIKE ws-a, and 1 more") || !strings.Contains(got.Text, "TERMINATION_STARTED ws-b") || got.ID != "<adt-id1@example.com>" {
		t.Errorf("%+v", got)
	}
	s.record(events.Strike, "ws-a", "HTTPS: status 500")
	s.sound()
	s.record(events.ServerHealthy, "ws-a", "all checks passed")
	s.sound()
	s.sound()
	if all := mails.Mails(); len(all) != 2 || !strings.Contains(all[1].Text, "RECOVERED: INFO STRIKE ws-a") || !strings.Contains(all[1].Text, "over: SERVER_HEALTHY: all checks passed") {
		t.Errorf("%+v", all)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{notifytest.Password, "SECRET"} {
		if strings.Contains(string(data), secret) {
			t.Errorf("a secret is in the record: %s", data)
		}
	}
}

// TestServerDownForADay: the real thing, with an hour between two ticks.
func TestServerDownForADay(t *testing.T) {
	a := authority(t)
	mails := server(t, a, "tls")
	mails.Stop()
	s := newSite(t, mailTo(a, mails.Port(), "tls"))
	s.record(events.Strike, "ws-first", "HTTPS: status 500")
	for i := range 24 {
		s.record(events.TerminationStart, fmt.Sprintf("ws-%02d", i), "why")
		if report, err := s.tick(); !errors.Is(err, notify.ErrUndelivered) || len(report.Failed) != 1 || report.Waiting == 0 {
			t.Fatalf("%+v, %v", report, err)
		}
		s.now = s.now.Add(time.Hour)
	}
	if n := s.count(events.NotifyFailed); n != 24 {
		t.Errorf("%d events", n)
	}
	if err := mails.Start(); err != nil {
		t.Fatal(err)
	}
	s.sound()
	s.sound()
	s.sound()
	got := mails.Mails()
	if len(got) != 2 {
		t.Fatalf("%d mails", len(got))
	}
	if !strings.Contains(got[0].Text, "STRIKE ws-first") || !strings.Contains(got[0].Text, "Failed tries before this one: 24, the last: "+a.Address+":") {
		t.Errorf("%s", got[0].Text)
	}
	for i := range 24 {
		name := fmt.Sprintf("TERMINATION_STARTED ws-%02d\n", i)
		if n := strings.Count(got[0].Text+got[1].Text, name); n != 1 {
			t.Errorf("%s is told %d times", name, n)
		}
	}
}

// TestOneWayDoesNotHoldAnother: a silent mail server and a refused recipient keep
// nobody else waiting.
func TestOneWayDoesNotHoldAnother(t *testing.T) {
	a := authority(t)
	mails, hooks := server(t, a, "starttls"), hook(t, a)
	mails.Refuse("gone@example.com", 550, "no such user")
	good, gone := mailTo(a, mails.Port(), "starttls"), mailTo(a, mails.Port(), "starttls")
	gone.To = "gone@example.com"
	s := newSite(t, gone, good, notify.Webhook{URL: hooks.URL, Roots: a.Pool, Timeout: patience})
	hooks.Answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	s.record(events.Strike, "ws-a", "why")
	report, err := s.tick()
	if !errors.Is(err, notify.ErrUndelivered) || len(report.Sent) != 1 || len(report.Failed) != 2 || len(mails.Mails()) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	hooks.Answer(nil)
	mails.Refuse("gone@example.com", 0, "")
	s.now = s.now.Add(time.Hour)
	s.sound()
	if got := mails.Mails(); len(got) != 2 || got[1].To != "gone@example.com" || len(hooks.Bodies()) != 1 {
		t.Errorf("%+v, %d posts", got, len(hooks.Bodies()))
	}
}

// TestNoRecordNoFlood: where the outcome cannot be written down, the message does
// not go out every minute, and its second copy can be known by its id.
func TestNoRecordNoFlood(t *testing.T) {
	a := authority(t)
	mails := server(t, a, "starttls")
	s := newSite(t, mailTo(a, mails.Port(), "starttls"))
	path := filepath.Join(s.home, "runtime", "notify.json")
	mails.After(func(notifytest.Mail) error { // a folder of that name cannot be replaced by a file
		return errors.Join(os.Rename(path, path+".kept"), os.Mkdir(path, 0o700))
	})
	s.record(events.Strike, "ws-a", "why")
	if _, err := s.tick(); err == nil {
		t.Fatal("no word of a record that was not written")
	}
	if _, err := s.tick(); err == nil || len(mails.Mails()) != 1 {
		t.Fatalf("with an unreadable record: %v, %d mails", err, len(mails.Mails()))
	}
	mails.After(nil)
	if err := errors.Join(os.Remove(path), os.Rename(path+".kept", path)); err != nil {
		t.Fatal(err)
	}
	s.sound() // the second after the first try
	s.sound()
	all := mails.Mails()
	if len(all) != 2 || all[0].ID != all[1].ID || !strings.Contains(all[1].Text, "so this may be its second copy") {
		t.Errorf("%+v", all)
	}
}

// TestGarbageRecord: what happened in the last hour is told anew.
func TestGarbageRecord(t *testing.T) {
	a := authority(t)
	mails := server(t, a, "starttls")
	s := newSite(t, mailTo(a, mails.Port(), "starttls"))
	s.record(events.Strike, "ws-old", "why")
	s.now = s.now.Add(2 * time.Hour)
	s.record(events.Strike, "ws-new", "why")
	if err := os.WriteFile(filepath.Join(s.home, "runtime", "notify.json"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.sound()
	s.sound()
	if got := mails.Mails(); len(got) != 1 || !strings.Contains(got[0].Text, "ws-new") || strings.Contains(got[0].Text, "ws-old") || !strings.Contains(got[0].Text, "RECORD_CORRUPT") {
		t.Errorf("%+v", got)
	}
}

// TestTheClockIsSet: a wall clock that jumps ends no matter and gives no message up.
func TestTheClockIsSet(t *testing.T) {
	a := authority(t)
	mails := server(t, a, "starttls")
	mails.Stop()
	s := newSite(t, mailTo(a, mails.Port(), "starttls"))
	s.record(events.Strike, "ws-a", "why")
	_, _ = s.tick()
	for _, jump := range []time.Duration{365 * 24 * time.Hour, -365 * 24 * time.Hour} {
		s.record(events.Strike, "ws-a", "why") // by the clock as it was
		s.Offset = jump
		_, _ = s.tick()
	}
	if err := mails.Start(); err != nil {
		t.Fatal(err)
	}
	s.now = s.now.Add(10 * time.Minute)
	s.sound()
	s.sound()
	if got := mails.Mails(); len(got) != 1 || !strings.Contains(got[0].Text, "NEW: INFO STRIKE ws-a") || s.count(events.NotifyDropped) != 0 {
		t.Errorf("%+v", got)
	}
	s.now = s.now.Add(time.Hour)
	s.sound()
	if got := mails.Mails(); len(got) != 2 || !strings.Contains(got[1].Text, "RECOVERED: INFO STRIKE ws-a") {
		t.Errorf("%+v", got)
	}
}

func TestOneRunAtATime(t *testing.T) {
	s := newSite(t)
	release, err := lock.Try(filepath.Join(s.home, "runtime", "notifylock.file"), noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.tick(); !errors.Is(err, lock.ErrHeld) {
		t.Errorf("%v", err)
	}
	release()
	s.sound()
}

// TestEndedRun: a run that is interrupted keeps its message and blames nobody.
func TestEndedRun(t *testing.T) {
	a := authority(t)
	hooks := hook(t, a)
	ctx, cancel := context.WithCancel(t.Context())
	hooks.Answer(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // a return is an answer, which may still arrive
	})
	s := newSite(t, notify.Webhook{URL: hooks.URL, Roots: a.Pool, Timeout: patience})
	s.record(events.Strike, "ws-a", "why")
	if _, err := s.Run(ctx); !errors.Is(err, context.Canceled) || s.count(events.NotifyFailed) != 0 {
		t.Errorf("%v", err)
	}
	hooks.Answer(nil)
	s.sound()
	if len(hooks.Bodies()) != 1 {
		t.Errorf("%d posts", len(hooks.Bodies()))
	}
}

func TestARecipientIsTakenAway(t *testing.T) {
	a := authority(t)
	mails := server(t, a, "starttls")
	mails.Stop()
	s := newSite(t, mailTo(a, mails.Port(), "starttls"))
	s.record(events.Strike, "ws-a", "why")
	_, _ = s.tick()
	s.Recipients = nil
	s.sound()
	s.sound()
	found, err := s.Log.Read(events.Filter{Reasons: []events.Reason{events.NotifyDropped}})
	if err != nil || len(found) != 1 || !strings.Contains(found[0].Text, "mail to ops@example.com") {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestRetire(t *testing.T) {
	a := authority(t)
	mails := server(t, a, "starttls")
	mails.Stop()
	s := newSite(t, mailTo(a, mails.Port(), "starttls"))
	if err := s.Retire(); err != nil {
		t.Error(err)
	}
	s.record(events.Strike, "ws-a", "why")
	_, _ = s.tick()
	if err := errors.Join(s.Retire(), s.Retire()); err != nil {
		t.Error(err)
	}
	if n := s.count(events.NotifyDropped); n != 1 {
		t.Errorf("given up: %d", n)
	}
	if _, err := os.Stat(filepath.Join(s.home, "runtime", "notify.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the record: %v", err)
	}
}

// TestANewRecipient: who is added, or whose address was put right, hears what goes on.
func TestANewRecipient(t *testing.T) {
	a := authority(t)
	mails := server(t, a, "starttls")
	m := mailTo(a, mails.Port(), "starttls")
	s := newSite(t, m)
	s.record(events.Strike, "ws-a", "why")
	s.record(events.TerminationStart, "ws-b", "why")
	s.sound()
	m.To = "boss@example.com"
	s.Recipients = append(s.Recipients, m)
	s.record(events.Strike, "ws-c", "why")
	s.sound()
	s.sound()
	for _, mail := range mails.Mails()[1:] {
		again := strings.Contains(mail.Text, "STILL FAILING: INFO STRIKE ws-a")
		if again != (mail.To == "boss@example.com") || !strings.Contains(mail.Text, "NEW: INFO STRIKE ws-c") || strings.Contains(mail.Text, "ws-b") {
			t.Errorf("%s: %s", mail.To, mail.Text)
		}
	}
	if n := len(mails.Mails()); n != 3 {
		t.Errorf("%d mails", n)
	}
}
