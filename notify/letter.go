package notify

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"

	"adt/events"
)

// Sender is whose events are told.
type Sender struct {
	Website    string `json:"website"`
	Build      string `json:"build"`
	Autoscaler int    `json:"autoscaler"` // its number
	Host       string `json:"host"`
}

func (s Sender) String() string {
	if s.Autoscaler == 0 {
		return s.Website + ", build machine"
	}
	return fmt.Sprintf("%s, autoscaler %d", s.Website, s.Autoscaler)
}

// place says in the first line of a text where it is from.
func (s Sender) place() string {
	return fmt.Sprintf("%s, build %s (%s)\n", s, s.Build, s.Host)
}

// Letter is a message as people and programs read it.
type Letter struct {
	ID      string
	Made    time.Time // wall clock
	Level   Level
	Subject string // one line
	Text    string
	JSON    []byte
}

// listed is how many notices a text tells one by one.
const listed = 50

// Write turns a message into words. offset is the wall clock minus the steady time.
func Write(from Sender, m Message, offset time.Duration) Letter {
	l := Letter{ID: m.ID, Made: m.Made.Add(offset), Level: Info}
	for _, n := range m.Notices {
		if n.Level.rank() > l.Level.rank() {
			l.Level = n.Level
		}
	}
	l.Subject = fmt.Sprintf("adt %s: %s %s", from, l.Level, headline(m.Notices))
	var b strings.Builder
	b.WriteString(from.place())
	for _, n := range m.Notices[:min(listed, len(m.Notices))] {
		b.WriteString("\n" + n.text(from.Autoscaler, offset))
	}
	if more := len(m.Notices) - listed; more > 0 {
		fmt.Fprintf(&b, "\nand %d more\n", more)
	}
	if m.Lost > 0 {
		fmt.Fprintf(&b, "\n%d older notices could not be delivered in time and were given up.\n", m.Lost)
	}
	if m.Tries > 0 {
		fmt.Fprintf(&b, "\nThis message was made at %s. Failed tries before this one: %d, the last: %s\n", stamp(l.Made), m.Tries, oneLine(m.Error))
	}
	b.WriteString("\nadt status, adt events and adt notify status tell more.\n")
	l.Text = b.String()
	l.JSON = l.encode(from, m, offset)
	return l
}

// headline is what a message is about, in a few words.
func headline(notices []Notice) string {
	n := notices[0]
	words := string(n.Reason)
	if n.Server != "" {
		words += " " + n.Server
	}
	if n.Kind != New {
		words += " " + string(n.Kind)
	}
	if more := len(notices) - 1; more > 0 {
		words += fmt.Sprintf(", and %d more", more)
	}
	return oneLine(words)
}

func (n Notice) text(autoscaler int, offset time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s %s", strings.ToUpper(string(n.Kind)), n.Level, n.Reason)
	if n.Server != "" {
		b.WriteString(" " + oneLine(n.Server))
	}
	if n.Autoscaler != autoscaler {
		fmt.Fprintf(&b, " (webservers of autoscaler %d)", n.Autoscaler)
	}
	fmt.Fprintf(&b, "\n   %s\n", meaning(n.Reason))
	if n.Text != "" {
		fmt.Fprintf(&b, "   last said: %s\n", oneLine(n.Text))
	}
	fmt.Fprintf(&b, "   %s", stamp(n.First.Add(offset)))
	if n.Count > 1 {
		fmt.Fprintf(&b, " to %s, %d times", stamp(n.Last.Add(offset)), n.Count)
	}
	if n.Why != "" {
		fmt.Fprintf(&b, "; over: %s", oneLine(n.Why))
	}
	b.WriteString("\n")
	return b.String()
}

func meaning(r events.Reason) string {
	for _, m := range events.Meanings() {
		if m.Reason == r {
			return m.Text
		}
	}
	return "an event of another version of adt"
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }

// textLimit bounds what one event may say in a message, in characters.
const textLimit = 500

// oneLine makes a line of what may hold anything: names and errors come from
// providers and webservers.
func oneLine(text string) string {
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "?"), func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }), " ")
	if runes := []rune(text); len(runes) > textLimit {
		return string(runes[:textLimit]) + "…"
	}
	return text
}

// item is a notice in a webhook's JSON.
type item struct {
	Kind       Kind          `json:"kind"`
	Level      Level         `json:"level"`
	Reason     events.Reason `json:"reason"`
	Server     string        `json:"server,omitempty"`
	Autoscaler int           `json:"autoscaler"`
	First      time.Time     `json:"first"`
	Last       time.Time     `json:"last"`
	Count      int           `json:"count"`
	Text       string        `json:"text"`
	Over       string        `json:"over,omitempty"`
}

// encode makes the body of a webhook. Its text is as Slack wants it: there &, <
// and > are markup.
func (l Letter) encode(from Sender, m Message, offset time.Duration) []byte {
	body := struct {
		Text string `json:"text"`
		ID   string `json:"id"`
		Sender
		Level   Level     `json:"level"`
		Made    time.Time `json:"made"`
		Subject string    `json:"subject"`
		Lost    int       `json:"lost"`
		Matters []item    `json:"matters"`
	}{Text: slack(l.Subject + "\n" + l.Text), ID: l.ID, Sender: from, Level: l.Level, Made: l.Made.UTC(), Subject: l.Subject, Lost: m.Lost, Matters: []item{}}
	for _, n := range m.Notices {
		body.Matters = append(body.Matters, item{n.Kind, n.Level, n.Reason, n.Server, n.Autoscaler,
			n.First.Add(offset).UTC(), n.Last.Add(offset).UTC(), n.Count, n.Text, n.Why})
	}
	data, _ := json.Marshal(body) // texts, numbers and times can be written
	return data
}

func slack(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}

// Trial is the letter of adt notify test.
func Trial(from Sender, id string, now time.Time) Letter {
	l := Letter{ID: id, Made: now, Level: Mandatory}
	l.Subject = fmt.Sprintf("adt %s: a test", from)
	l.Text = from.place() + fmt.Sprintf("\nadt notify test sent this at %s. Messages arrive.\n", stamp(now))
	l.JSON = l.encode(from, Message{}, 0)
	return l
}
