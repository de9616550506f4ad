package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"adt/events"
	"adt/lock"
	"adt/rundir"
)

// The files in the runtime directory.
const (
	record   = "notify.json"
	lockFile = "notifylock.file"
)

// Recipient is one who is told.
type Recipient interface {
	Name() string
	Server() string // where letters go, without secrets
	// Deliver returns nil only when the other side has taken the letter; its error is
	// a *DeliveryError and holds no secret.
	Deliver(context.Context, Letter) error
}

// DeliveryError is a letter that was not taken.
type DeliveryError struct {
	Way  string
	Text string
	Hint string // what to do about it
	// cause is not unwrapped into texts: it may hold secrets.
	cause error
}

func (e *DeliveryError) Error() string { return e.Text }
func (e *DeliveryError) Unwrap() error { return e.cause }

// ErrUndelivered says that a message is kept for another try.
var ErrUndelivered = errors.New("a message was not delivered and is kept")

// Notifier is an installation's record and whom it tells.
type Notifier struct {
	Rules      Rules
	Sender     Sender
	Recipients []Recipient
	Dir        *rundir.Dir
	Log        *events.Log
	Now        func() time.Time // steady
	Offset     time.Duration    // wall clock minus steady time
	ID         func() string    // makes a message's id, which nobody else makes
	Record     func(reason events.Reason, server, text string)
	Step       func(string) // called before and after each delivery
}

// Report is what one run did.
type Report struct {
	Told    []Letter          `json:"-"`
	Sent    map[string]string `json:"sent"`    // way → subject
	Failed  map[string]string `json:"failed"`  // way → why; kept for another try
	Waiting int               `json:"waiting"` // messages and notices that wait
}

// Load returns the record. Without one what was recorded within Rules.Quiet is
// news: what is older is over.
func (n *Notifier) Load() (State, bool, error) {
	var s State
	found, err := n.Dir.Read(record, &s)
	if !found {
		s = State{Version: rundir.Version}
	}
	return s, found, err
}

// Plan reads the new events and decides, and changes nothing.
func (n *Notifier) Plan() (before, after State, lost []Loss, err error) {
	before, found, err := n.Load()
	if err != nil {
		return before, after, nil, err
	}
	now := n.Now()
	var filter events.Filter
	if !found {
		before.Looked = now.Add(-n.Rules.Quiet)
		filter.Since = before.Looked.Add(n.Offset)
	}
	cursor := n.Log.At(before.Position)
	fresh, err := cursor.Next(filter)
	if err != nil {
		return before, after, nil, err
	}
	for i, e := range fresh {
		// It was written since the last look, whatever the wall clock said then.
		at := e.Time.Add(-n.Offset)
		if at.Before(before.Looked) {
			at = before.Looked
		}
		if at.After(now) {
			at = now
		}
		fresh[i].Time = at.Round(0).UTC()
	}
	var ways []string
	for _, r := range n.Recipients {
		ways = append(ways, r.Name())
	}
	after, lost = n.Rules.Decide(now, before, fresh, ways, n.ID)
	after.Position = cursor.Position()
	return before, after, lost, nil
}

// Letter is a message in words.
func (n *Notifier) Letter(m Message) Letter { return Write(n.Sender, m, n.Offset) }

// Run is one tick: what is new is decided and recorded, and what is due is
// delivered. The error wraps lock.ErrHeld when another run is at work, and
// ErrUndelivered when a message has to be tried again.
func (n *Notifier) Run(ctx context.Context) (Report, error) {
	report := Report{Sent: map[string]string{}, Failed: map[string]string{}}
	release, err := lock.Try(n.Dir.Path(lockFile), n.Now())
	if err != nil {
		return report, err
	}
	defer release()
	before, state, lost, err := n.Plan()
	if err != nil {
		return report, err
	}
	due := n.due(state)
	for _, d := range due {
		state = state.trying(n.Now(), d.to.Name(), d.letter.ID)
	}
	// Before anything is sent: killed from here on, no event is told as news twice,
	// and none is lost.
	if changed(before, state) {
		if err := n.Dir.Write(record, state); err != nil {
			return report, err
		}
	}
	n.giveUp(lost)
	err = n.deliver(ctx, due, &state, &report)
	for _, w := range state.Ways {
		report.Waiting += len(w.Pending)
		if w.Message != nil {
			report.Waiting++
		}
	}
	return report, err
}

// Retire ends it where nobody is told any more: what waited is given up, and who
// is told again one day begins anew. Without a record it does nothing.
func (n *Notifier) Retire() error {
	if _, there, err := n.Dir.Exists(record); !there || err != nil {
		return err
	}
	release, err := lock.Try(n.Dir.Path(lockFile), n.Now())
	if err != nil {
		return err
	}
	defer release()
	state, _, err := n.Load()
	if err != nil {
		return err
	}
	_, lost := n.Rules.Decide(n.Now(), state, nil, nil, n.ID)
	n.giveUp(lost)
	return n.Dir.Remove(record)
}

func (n *Notifier) giveUp(lost []Loss) {
	for _, l := range lost {
		n.Record(events.NotifyDropped, "", fmt.Sprintf("%s: a message with %d notices was given up after %d tries: %s", l.Way, len(l.Message.Notices), l.Message.Tries, oneLine(orNobody(l.Message.Error))))
	}
}

func orNobody(why string) string {
	if why == "" {
		return "nobody is configured to get it"
	}
	return why
}

// changed reports whether there is something to write down.
func changed(a, b State) bool {
	a.Looked = b.Looked
	left, errLeft := json.Marshal(a)
	right, errRight := json.Marshal(b)
	return errors.Join(errLeft, errRight) != nil || string(left) != string(right)
}

// delivery is a message that is to be sent now.
type delivery struct {
	to     Recipient
	letter Letter
}

func (n *Notifier) due(s State) []delivery {
	var all []delivery
	for _, r := range n.Recipients {
		if m := s.Ways[r.Name()].Message; m != nil && !m.Next.After(n.Now()) {
			all = append(all, delivery{r, n.Letter(*m)})
		}
	}
	return all
}

// deliver tries what is due, all ways at once, so that a silent one keeps none
// from the others. Each outcome is recorded as it comes.
func (n *Notifier) deliver(ctx context.Context, due []delivery, state *State, report *Report) error {
	type outcome struct {
		delivery
		err error
	}
	outcomes := make(chan outcome)
	for _, d := range due {
		report.Told = append(report.Told, d.letter)
		go func() {
			n.step("tell " + d.to.Name())
			err := d.to.Deliver(ctx, d.letter)
			n.step("told " + d.to.Name())
			outcomes <- outcome{d, err}
		}()
	}
	var errs []error
	for range due {
		o := <-outcomes
		if o.err != nil && ctx.Err() != nil {
			errs = append(errs, ctx.Err()) // it was cut off, and that is nobody's fault
			continue
		}
		way, next := o.to.Name(), *state
		if o.err == nil {
			next = next.delivered(n.Now(), way, o.letter.ID)
		} else {
			next = next.refused(way, o.letter.ID, o.err.Error())
		}
		*state = next
		if err := n.Dir.Write(record, next); err != nil {
			errs = append(errs, err)
		}
		if o.err == nil {
			report.Sent[way] = o.letter.Subject
			n.Record(events.NotifySent, "", way+": "+o.letter.Subject)
			continue
		}
		report.Failed[way] = o.err.Error()
		again := next.Ways[way].Message.Next.Add(n.Offset)
		n.Record(events.NotifyFailed, "", fmt.Sprintf("%s: %v (%s); tried again from %s on", way, o.err, hinted(o.err), again.UTC().Format("15:04:05 MST")))
		errs = append(errs, ErrUndelivered)
	}
	return errors.Join(slices.Compact(errs)...)
}

// hinted is what to do about a letter that was not taken.
func hinted(err error) string {
	var failed *DeliveryError
	if errors.As(err, &failed) {
		return failed.Hint
	}
	return "it is kept"
}

func (n *Notifier) step(name string) {
	if n.Step != nil {
		n.Step(name)
	}
}
