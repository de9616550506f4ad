package events_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"adt/events"
)

var update = flag.Bool("update", false, "write the table of events into the README")

// TestREADME holds the README's table of events to the code:
// go test ./events -run README -update
func TestREADME(t *testing.T) {
	const path, begin, end = "../README.md", "<!-- events -->\n", "<!-- /events -->"
	readme, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(readme), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the events", path)
	}
	var table strings.Builder
	table.WriteString("| code | level | meaning |\n|---|---|---|\n")
	for _, m := range events.Meanings() {
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", m.Reason, m.Level, m.Text)
	}
	want := before + begin + table.String() + end + after
	if want == string(readme) {
		return
	}
	if !*update {
		t.Fatalf("the table of events in %s is not that of the code: go test ./events -run README -update", path)
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
