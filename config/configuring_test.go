package config

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the list of keys into docs/configuring.md")

// TestConfiguring holds the list of keys in docs/configuring.md to the code:
// go test ./config -run Configuring -update
func TestConfiguring(t *testing.T) {
	const path, begin, end = "../docs/configuring.md", "<!-- keys -->\n", "<!-- /keys -->"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the keys", path)
	}
	want := before + begin + keyTables(t) + presetTable(t) + end + after
	if want == string(page) {
		return
	}
	if !*update {
		t.Fatalf("the keys in %s are not those of the code: go test ./config -run Configuring -update", path)
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// keyTables are all sections, each with a table of its keys.
func keyTables(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	cfg := defaults()
	for _, section := range schema(&cfg) {
		fmt.Fprintf(&b, "### [%s]\n\n%s\n\n| key | type | default | limits | meaning |\n|---|---|---|---|---|\n", section.key, section.doc)
		for _, s := range section.settings {
			if s.doc == "" {
				t.Errorf("%s has no doc", s.key)
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", s.name, kind(t, s), standard(t, s), bounds(s), cell(s.doc))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// cell is text in a table of Markdown. Outside of code < would begin a tag.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`).Replace(text)
}

func code(text string) string { return "`" + strings.ReplaceAll(text, "|", `\|`) + "`" }

// kind is the type of a key's value, for people.
func kind(t *testing.T, s setting) string {
	t.Helper()
	switch s.value.(type) {
	case *int:
		return "whole number"
	case *bool:
		return "true or false"
	case *string:
		return "text"
	case *Duration:
		return "length of time"
	case *Secret:
		return "secret"
	case *[]int:
		return "list of whole numbers"
	case *[]Duration:
		return "list of lengths of time"
	case *[]string:
		return "list of texts"
	}
	t.Errorf("%s: a %T has no name here", s.key, s.value)
	return ""
}

// standard is a key's default.
func standard(t *testing.T, s setting) string {
	t.Helper()
	switch {
	case s.required:
		return "required"
	case s.example != "":
		if _, secret := s.value.(*Secret); secret {
			return "none"
		}
		return "follows from others, such as " + code(s.example)
	}
	line, err := s.toml()
	if err != nil {
		t.Fatal(err)
	}
	_, value, _ := strings.Cut(line, " = ")
	return code(value)
}

// bounds are what a value must keep to.
func bounds(s setting) string {
	var all []string
	if s.min != "" || s.max != "" {
		all = append(all, s.min+" to "+s.max)
	}
	if len(s.oneof) > 0 {
		all = append(all, "one of "+code(strings.Join(s.oneof, "`, `")))
	}
	words := map[string]string{
		"label": "letters, digits, dashes", "user": "a user name", "host": "a host name", "urlpath": "a path of the website",
		"remote": "a path on the webserver", "url": "https://…", "address": "an IP address", "range4": "an IPv4 address or range", "range": "an address or range",
		"command": "a shell command", "argument": "one line", "path": "a path",
	}
	if s.form != "" {
		word, known := words[s.form]
		if !known {
			word = s.form
		}
		all = append(all, word)
	}
	_, list := s.value.(*[]string)
	switch {
	case list && s.optional:
		all = append(all, "may be empty, at most 100 entries")
	case list:
		all = append(all, "1 to 100 entries")
	case s.optional:
		all = append(all, "may be empty")
	}
	return strings.Join(all, "; ")
}

// presetTable is what follows from build.preset and provider.servers where the
// file does not say it.
func presetTable(t *testing.T) string {
	t.Helper()
	columns := []struct{ preset, servers string }{{"original", "local"}, {"original", "digitalocean"}, {"plain", "local"}, {"plain", "digitalocean"}}
	changed := map[string]bool{}
	values := make([]map[string]string, len(columns))
	for i, column := range columns {
		cfg := defaults()
		cfg.Build.Preset, cfg.Provider.Servers = column.preset, column.servers
		cfg.preset(func(string) bool { return false }, func(key, _ string) { changed[key] = true })
		values[i] = map[string]string{}
		for _, section := range schema(&cfg) {
			for _, s := range section.settings {
				if text, ok := s.value.(*string); ok {
					values[i][s.key] = *text
				}
			}
		}
	}
	var b strings.Builder
	b.WriteString("### What build.preset stands for\n\nA key of the file goes before it.\n\n| key |")
	for _, c := range columns {
		fmt.Fprintf(&b, " %s, servers %s |", c.preset, c.servers)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, key := range slices.Sorted(maps.Keys(changed)) {
		fmt.Fprintf(&b, "| `%s` |", key)
		for i := range columns {
			value := "empty"
			if v := values[i][key]; v != "" {
				value = code(v)
			}
			fmt.Fprintf(&b, " %s |", value)
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	return b.String()
}
