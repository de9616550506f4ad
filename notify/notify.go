// Package notify tells people what the events say, by mail and webhook: each
// matter once, again once a day while it goes on, and once when it is over. What
// is decided is decided by pure functions on one record, which is written before
// anything is sent; what cannot be delivered waits in it. It must not know the
// fleet, nor where its settings are from.
package notify

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"adt/events"
)

// State is the record notify.json: how far the events were read, what is going on,
// and what each way has yet to deliver. It is one file, so that no crash can move
// one without the others. Its times are steady (see rundir.Steady).
type State struct {
	Version  int             `json:"version"`
	Position events.Position `json:"position"`
	Looked   time.Time       `json:"looked"` // up to when events were read
	Matters  []Matter        `json:"matters"`
	Ways     map[string]Way  `json:"ways"`
}

// Matter is what was recorded about one thing until it is over.
type Matter struct {
	Reason     events.Reason `json:"reason"`
	Server     string        `json:"server,omitempty"`
	Autoscaler int           `json:"autoscaler,omitempty"`
	Severity   events.Level  `json:"severity"`
	First      time.Time     `json:"first"`
	Last       time.Time     `json:"last"`
	Count      int           `json:"count"`
	Text       string        `json:"text"` // of the last event
	Told       time.Time     `json:"told"` // zero is not yet
}

// about reports whether both are the same matter.
func (m Matter) about(other Matter) bool {
	return m.Reason == other.Reason && m.Server == other.Server && m.Autoscaler == other.Autoscaler
}

// Kind is what a notice says about its matter.
type Kind string

// The kinds of a notice.
const (
	New    Kind = "new"
	Still  Kind = "still failing"
	Over   Kind = "recovered"
	Passed Kind = "came and went"
)

// Notice is one thing to tell. Its matter is as it was then.
type Notice struct {
	Kind  Kind   `json:"kind"`
	Level Level  `json:"level"`
	Why   string `json:"why,omitempty"` // it is over
	Matter
}

// Way is what one recipient has yet to be told.
type Way struct {
	Pending []Notice    `json:"pending,omitempty"` // for the next message
	Message *Message    `json:"message,omitempty"` // being delivered
	Lost    int         `json:"lost,omitempty"`    // notices that were given up, to be said in the next message
	Sent    []time.Time `json:"sent,omitempty"`    // within the last hour
}

// Message is what is delivered at once. It is recorded before it is sent and
// keeps its id, so that one that was sent twice can be told by it.
type Message struct {
	ID      string    `json:"id"`
	Made    time.Time `json:"made"`
	Notices []Notice  `json:"notices"`
	Lost    int       `json:"lost,omitempty"` // notices given up before
	Tries   int       `json:"tries,omitempty"`
	Next    time.Time `json:"next"` // not tried before then
	Error   string    `json:"error,omitempty"`
}

// Loss is a message that was given up.
type Loss struct {
	Way     string
	Message Message
}

// Decide takes new events in, in the order of their writing and with steady times,
// and says what each way is to be told now. Nothing of the old state is changed.
// id makes the ids of messages.
func (r Rules) Decide(now time.Time, old State, found []events.Event, ways []string, id func() string) (State, []Loss) {
	s := State{Version: old.Version, Position: old.Position, Looked: now, Ways: map[string]Way{}}
	s.Matters = slices.Clone(old.Matters)
	var told []Notice
	for _, e := range found {
		if !own(e.Reason) {
			s.Matters, told = r.take(s.Matters, told, e)
		}
	}
	s.Matters, told = r.review(now, s.Matters, told)
	var lost []Loss
	for _, name := range ways {
		w := old.Ways[name].clone()
		if m := w.Message; m != nil && m.Tries > 0 && now.Sub(m.Made) >= r.Keep {
			lost = append(lost, Loss{name, *m})
			w.Lost += m.Lost + len(m.Notices)
			w.Message = nil
		}
		for _, n := range told {
			w.add(n)
		}
		if _, known := old.Ways[name]; !known {
			w.catchUp(r, now, s.Matters)
		}
		w.bound(r.KeepCount)
		r.compose(now, &w, id)
		s.Ways[name] = w
	}
	for _, name := range slices.Sorted(maps.Keys(old.Ways)) {
		w := old.Ways[name]
		if _, there := s.Ways[name]; there || w.Message == nil && len(w.Pending) == 0 {
			continue
		}
		m := Message{Notices: w.Pending}
		if w.Message != nil {
			m = *w.Message
		}
		lost = append(lost, Loss{name, m})
	}
	return s, lost
}

// take opens, goes on with, or ends matters as an event says.
func (r Rules) take(matters []Matter, told []Notice, e events.Event) ([]Matter, []Notice) {
	var open []Matter
	for _, m := range matters {
		if !m.ends(e) {
			open = append(open, m)
			continue
		}
		level, why := r.level(m), string(e.Reason)
		if e.Text != "" {
			why += ": " + oneLine(e.Text)
		}
		switch {
		case !m.Told.IsZero():
			told = append(told, Notice{Over, level, why, m})
		case level.atLeast(r.Level):
			told = append(told, Notice{Passed, level, why, m})
		}
	}
	rule := ruleOf(e.Reason)
	if e.Level == events.Info && !rule.told {
		return open, told
	}
	m := Matter{Reason: e.Reason, Server: e.Server, Autoscaler: e.Autoscaler, Severity: e.Level, First: e.Time, Last: e.Time, Count: 1, Text: oneLine(e.Text)}
	if rule.fleet {
		m.Server = ""
	}
	i := slices.IndexFunc(open, m.about)
	if i < 0 {
		return append(open, m), told
	}
	open[i].Last, open[i].Text = e.Time, oneLine(e.Text)
	open[i].Count++
	return open, told
}

// review tells what is new, what goes on, and what has not been seen for long.
func (r Rules) review(now time.Time, matters []Matter, told []Notice) ([]Matter, []Notice) {
	var open []Matter
	for _, m := range matters {
		level := r.level(m)
		switch over := now.Sub(m.Last) >= r.Quiet; {
		case over && !m.Told.IsZero():
			// What was recorded once, with nothing that would say when it is over, is news
			// and no state.
			if m.Count > 1 && !ruleOf(m.Reason).once {
				told = append(told, Notice{Over, level, "it is recorded no more", m})
			}
			continue
		case over: // it was found late
			kind := Passed
			if m.Count == 1 || ruleOf(m.Reason).once {
				kind = New
			}
			if level.atLeast(r.Level) {
				told = append(told, Notice{kind, level, "", m})
			}
			continue
		case m.Told.IsZero() && level.atLeast(r.Level):
			told = append(told, Notice{New, level, "", m})
			m.Told = now
		case !m.Told.IsZero() && now.Sub(m.Told) >= r.Remind && m.Last.After(m.Told):
			told = append(told, Notice{Still, level, "", m})
			m.Told = now
		}
		open = append(open, m)
	}
	return open, told
}

func (w Way) clone() Way {
	w.Pending, w.Sent = slices.Clone(w.Pending), slices.Clone(w.Sent)
	if w.Message != nil {
		m := *w.Message
		w.Message = &m
	}
	return w
}

// add puts a notice among those that wait. Of one matter only the latest news
// wait, and what began and ended meanwhile is told as that.
func (w *Way) add(n Notice) {
	i := slices.IndexFunc(w.Pending, func(p Notice) bool { return p.about(n.Matter) })
	if i < 0 {
		w.Pending = append(w.Pending, n)
		return
	}
	before := w.Pending[i].Kind
	switch {
	case before == New && n.Kind == Over:
		n.Kind = Passed
	case before == New && n.Kind == Still:
		n.Kind = New
	case before == Over && n.Kind == New: // they know of it, and not that it had ended
		n.Kind = Still
	case before == Over && n.Kind == Passed:
		n.Kind = Over
	}
	w.Pending[i] = n
}

// catchUp tells a new recipient what others were told before and goes on.
func (w *Way) catchUp(r Rules, now time.Time, matters []Matter) {
	for _, m := range matters {
		if !m.Told.IsZero() && m.Told.Before(now) && !ruleOf(m.Reason).once {
			w.add(Notice{Still, r.level(m), "", m})
		}
	}
}

// bound gives the oldest notices up where too many wait.
func (w *Way) bound(most int) {
	if extra := len(w.Pending) - most; extra > 0 {
		w.Pending = slices.Delete(w.Pending, 0, extra)
		w.Lost += extra
	}
}

// compose makes a message of all that waits, where none is on its way and the hour
// has room for one. So a mail server that was down for a day gets what was to be
// sent first, and then one message with the rest.
func (r Rules) compose(now time.Time, w *Way, id func() string) {
	w.Sent = slices.DeleteFunc(w.Sent, func(t time.Time) bool { return now.Sub(t) >= time.Hour })
	mandatory := slices.ContainsFunc(w.Pending, func(n Notice) bool { return n.Level == Mandatory })
	if w.Message != nil || len(w.Pending) == 0 || len(w.Sent) >= r.PerHour && !mandatory {
		return
	}
	slices.SortStableFunc(w.Pending, func(a, b Notice) int {
		return cmp.Or(cmp.Compare(a.Kind.rank(), b.Kind.rank()), cmp.Compare(b.Level.rank(), a.Level.rank()), a.First.Compare(b.First))
	})
	w.Message = &Message{ID: id(), Made: now, Notices: w.Pending, Lost: w.Lost, Next: now}
	w.Pending, w.Lost = nil, 0
}

func (k Kind) rank() int { return slices.Index([]Kind{New, Still, Over, Passed}, k) }

// The pauses between two tries to deliver a message: doubled from the first on,
// each a little less than whole minutes since cron looks once a minute.
const (
	firstPause = time.Minute
	mostPause  = 32 * time.Minute
	shy        = 10 * time.Second
)

// cut is what stands for the outcome of a try until that is known.
const cut = "adt was ended while it was being sent, so this may be its second copy"

// trying is the state before a way's message is sent. It is written down first: a
// disk that takes no record must not let the same message go out every minute.
func (s State) trying(now time.Time, name, id string) State {
	return s.change(name, id, func(w *Way) {
		m := w.Message
		m.Error, m.Next = cut, now.Add(min(mostPause, firstPause<<min(m.Tries, 10))-shy)
		m.Tries++
	})
}

// delivered is the state after a way took its message.
func (s State) delivered(now time.Time, name, id string) State {
	return s.change(name, id, func(w *Way) {
		w.Message = nil
		w.Sent = append(w.Sent, now)
	})
}

// refused is the state after a way did not take its message.
func (s State) refused(name, id, why string) State {
	return s.change(name, id, func(w *Way) { w.Message.Error = why })
}

func (s State) change(name, id string, to func(*Way)) State {
	w := s.Ways[name].clone()
	if w.Message == nil || w.Message.ID != id {
		return s
	}
	to(&w)
	s.Ways = maps.Clone(s.Ways)
	s.Ways[name] = w
	return s
}
