package events_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"adt/events"
)

var update = flag.Bool("update", false, "write the table of events into docs/operating.md")

// TestAdvice: each reason has a word on what to do, and no other has.
func TestAdvice(t *testing.T) {
	advice := events.Advice()
	var without []string
	for _, m := range events.Meanings() {
		text, there := advice[m.Reason]
		switch {
		case !there:
			without = append(without, string(m.Reason))
		case !strings.HasSuffix(text, "."):
			t.Errorf("%s: %q is no sentence", m.Reason, text)
		case m.Level == events.Error && strings.HasPrefix(text, "Nothing"):
			t.Errorf("%s is an ERROR, which needs an operator, and its advice is %q", m.Reason, text)
		}
		delete(advice, m.Reason)
	}
	if len(without) > 0 {
		t.Errorf("events/advice.go says nothing of what to do about %s", strings.Join(without, ", "))
	}
	for reason := range advice {
		t.Errorf("there is advice about %s, which is no reason", reason)
	}
}

// TestOperating holds the table of events in docs/operating.md to the code:
// go test ./events -run Operating -update
func TestOperating(t *testing.T) {
	const path, begin, end = "../docs/operating.md", "<!-- events -->\n", "<!-- /events -->"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the events", path)
	}
	advice := events.Advice()
	var table strings.Builder
	table.WriteString("| code | level | what it means | what to do |\n|---|---|---|---|\n")
	for _, m := range events.Meanings() {
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", m.Reason, m.Level, sentence(m.Text), advice[m.Reason])
	}
	want := before + begin + table.String() + end + after
	if want == string(page) {
		return
	}
	if !*update {
		t.Fatalf("the table of events in %s is not that of the code: go test ./events -run Operating -update", path)
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// sentence makes one of a meaning.
func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] + "." }
