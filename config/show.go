package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/BurntSushi/toml"
)

// Example writes a complete adt.toml with every key, its meaning and its
// default. It becomes valid by filling in what is marked as required.
func Example(w io.Writer) error {
	var b bytes.Buffer
	b.WriteString(`# adt.toml: the settings of adt. Everything has a default but what is marked REQUIRED.
# A setting behind a "#" has a default that follows from others; to change it, take the "#" away.
# Durations are written "30s", "5m", "1h30m" or "2d". Paths begin with / or ~/, or are relative to this file.
# Secrets are written file:PATH, file:PATH#NAME (a line NAME = "secret" of that file) or env:NAME, or as they are in a file of mode 600.
# adt config check says what is wrong with this file, adt config show what is in force.
`)
	cfg := defaults()
	for _, section := range schema(&cfg) {
		fmt.Fprintf(&b, "\n# %s\n[%s]\n", section.doc, section.key)
		for _, s := range section.settings {
			line, err := s.toml()
			if err != nil {
				return err
			}
			if s.example != "" {
				line = "#" + s.name + " = " + s.example
			}
			comment := s.doc + s.limits()
			if s.required {
				comment = "REQUIRED. " + comment
			}
			b.WriteString(wrap(comment) + line + "\n")
		}
	}
	b.WriteString(`
# When the fleet changes its size by itself; one table for each line, as many as are wanted (adt schedule list).
# [[schedule]]
# cron = "30 8 * * 1-5"        # minute hour day month weekday
# time_zone = "Europe/London"  # UTC if left out
# count = 10                   # webservers of the whole fleet; or add = 3, or add = -3
# from = "2026-12-01"          # the first day; from and until may be left out
# until = "2026-12-24"
`)
	_, err := w.Write(b.Bytes())
	return err
}

// limits says what a number must be, for people.
func (s setting) limits() string {
	if _, number := s.value.(*int); !number {
		return ""
	}
	return fmt.Sprintf(" (%s to %s)", s.min, s.max)
}

// toml writes the setting as a line of the file, without its end.
func (s setting) toml() (string, error) {
	line, err := toml.Marshal(map[string]any{s.name: s.value})
	if err != nil {
		return "", fmt.Errorf("writing %s: %w", s.key, err)
	}
	return strings.TrimSuffix(string(line), "\n"), nil
}

// wrap makes comment lines of at most 110 characters.
func wrap(text string) string {
	var b strings.Builder
	line := "#"
	for _, word := range strings.Fields(text) {
		if len(line)+1+len(word) > 110 {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	return b.String() + line + "\n"
}

// Show writes the effective configuration as TOML, with what each value is
// from. Secrets are masked.
func Show(w io.Writer, c *Config) error {
	shown := *c
	var b bytes.Buffer
	fmt.Fprintf(&b, "# from %s\n", c.Path)
	for _, section := range schema(&shown) {
		fmt.Fprintf(&b, "\n[%s]\n", section.key)
		for _, s := range section.settings {
			line, err := s.toml()
			if err != nil {
				return err
			}
			if from := c.from(s); from != "" {
				line += "  # " + from
			}
			b.WriteString(line + "\n")
		}
	}
	for _, entry := range c.Schedule {
		fmt.Fprintf(&b, "\n[[schedule]]  # line %d\n", entry.Line)
		text, err := toml.Marshal(entry)
		if err != nil {
			return fmt.Errorf("writing the schedule: %w", err)
		}
		for line := range strings.Lines(string(text)) {
			if !strings.HasSuffix(line, "= \"\"\n") { // what was left out
				b.WriteString(line)
			}
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// from says where the value of a setting is from, and of a secret also where it
// is kept; "" for a configuration that was not loaded.
func (c *Config) from(s setting) string {
	origin := c.origin[s.key]
	if secret, ok := s.value.(*Secret); ok && !secret.IsZero() && secret.from != "" {
		origin += ", " + secret.from
	}
	return strings.Join(strings.Fields(origin), " ") // a path may hold a line break; a comment may not
}

// ShowJSON writes what Show does as one JSON object: "file", "config" with the
// sections of adt.toml, durations as text, and "from" by dotted key.
func ShowJSON(w io.Writer, c *Config) error {
	shown := *c
	config, from := map[string]any{}, map[string]string{}
	for _, section := range schema(&shown) {
		table := config
		for name := range strings.SplitSeq(section.key, ".") {
			if table[name] == nil {
				table[name] = map[string]any{}
			}
			table = table[name].(map[string]any) // made above; sections have no other parents
		}
		for _, s := range section.settings {
			table[s.name] = s.value
			from[s.key] = c.from(s)
		}
	}
	if len(c.Schedule) > 0 {
		config["schedule"] = c.Schedule
	}
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(map[string]any{"file": c.Path, "config": config, "from": from})
}
