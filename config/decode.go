package config

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// document is a parsed file. The decoder of the library stops at the first
// value of a wrong type, so the values are taken one by one here.
type document struct {
	source string
	meta   toml.MetaData
	values map[string]toml.Primitive // of every key met by decode
}

// parse returns a syntax error as an *Error without its file.
func parse(source string) (*document, map[string]toml.Primitive, error) {
	source = strings.TrimPrefix(source, "\ufeff") // so that positions fit
	var top map[string]toml.Primitive
	meta, err := toml.Decode(source, &top)
	var syntax toml.ParseError
	if errors.As(err, &syntax) {
		return nil, nil, &Error{Line: syntax.Position.Line, Msg: syntaxMessage(source, syntax)}
	}
	if err != nil {
		return nil, nil, &Error{Msg: err.Error()}
	}
	return &document{source: source, meta: meta, values: map[string]toml.Primitive{}}, top, nil
}

// syntaxMessage leaves out what the library quotes from the file: a password
// written without quotes would be in it.
func syntaxMessage(source string, e toml.ParseError) string {
	line := ""
	if lines := strings.Split(source, "\n"); e.Position.Line > 0 && e.Position.Line <= len(lines) {
		line = lines[e.Position.Line-1]
	}
	for _, section := range schema(new(Config)) {
		for _, s := range section.settings {
			if _, secret := s.value.(*Secret); secret && (strings.Contains(line, s.name) || strings.Contains(e.LastKey, s.name)) {
				return fmt.Sprintf("not valid TOML at %s: write its value in quotes, on one line, as in %s = %s", s.name, s.name, s.example)
			}
		}
	}
	msg := regexp.MustCompile(`(?s)".*"`).ReplaceAllString(e.Message, "something else")
	msg = strings.Join(strings.Fields(msg), " ")
	if e.LastKey != "" {
		msg += " (at " + e.LastKey + ")"
	}
	return "not valid TOML: " + msg
}

// line returns the line of key in the file, from 1, or 0 if it is not there.
func (d *document) line(key string) int {
	value, ok := d.values[key]
	if !ok {
		return 0
	}
	return d.valueLine(value)
}

// valueLine asks the library for the line: it keeps the positions to itself,
// but tells them in errors, and so the value is decoded into one.
func (d *document) valueLine(value toml.Primitive) int {
	var at toml.ParseError
	if !errors.As(d.meta.PrimitiveDecode(value, &refusal{}), &at) {
		return 0
	}
	pos := at.Position
	if pos.Line == 0 { // a table that only its own tables mention
		first := 0
		for _, child := range d.table(value) {
			if line := d.valueLine(child); line > 0 && (first == 0 || line < first) {
				first = line
			}
		}
		return first
	}
	// The position of a text of several lines is its beginning, but the line
	// given is its last.
	end := min(pos.Start+pos.Len, len(d.source))
	return pos.Line - strings.Count(d.source[min(pos.Start, end):end], "\n")
}

// refusal takes no value.
type refusal struct{}

func (*refusal) UnmarshalTOML(any) error { return errors.New("refused") }

func (d *document) value(p toml.Primitive) any {
	var v any
	_ = d.meta.PrimitiveDecode(p, &v) // anything fits into any
	return v
}

// table returns the values of a table, nil if p is something else.
func (d *document) table(p toml.Primitive) map[string]toml.Primitive {
	if _, ok := d.value(p).(map[string]any); !ok {
		return nil
	}
	var table map[string]toml.Primitive
	_ = d.meta.PrimitiveDecode(p, &table) // a table fits into a map
	return table
}

// decode gives the values of one table to the settings of the schema, and
// reports every one that does not fit and every key that the schema lacks.
func (d *document) decode(parent toml.Key, table map[string]toml.Primitive, sections []section, readSecret func(string) (Secret, error), p *problems) {
	names := make([]string, 0, len(table))
	for name := range table {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		path := append(slices.Clone(parent), name)
		key, value := path.String(), table[name]
		d.values[key] = value
		if key == "schedule" {
			continue // see schedules
		}
		if isSection(sections, key) {
			switch d.value(value).(type) {
			case map[string]any:
				d.decode(path, d.table(value), sections, readSecret, p)
			case []map[string]any:
				p.add(key, "must be one table: write [%s], not [[%s]]", key, key)
			default:
				p.add(key, "must be a table: write [%s]", key)
			}
		} else if s, ok := find(sections, key); !ok {
			p.add(key, "unknown key%s", hint(sections, parent.String(), name))
		} else if err := assign(s.value, d.value(value), readSecret); err != nil {
			p.add(key, "%v", err)
		}
	}
}

// schedules reads the [[schedule]] tables.
func (d *document) schedules(top map[string]toml.Primitive, p *problems) []Schedule {
	value, there := top["schedule"]
	if !there {
		return nil
	}
	var tables []map[string]toml.Primitive
	if _, ok := d.value(value).([]map[string]any); !ok || d.meta.PrimitiveDecode(value, &tables) != nil {
		p.add("schedule", "must be a list of tables: write [[schedule]] above each")
		return nil
	}
	all := make([]Schedule, len(tables))
	for i, table := range tables {
		s := &all[i]
		fields := map[string]any{"cron": &s.Cron, "time_zone": &s.TimeZone, "count": new(int), "add": new(int), "from": &s.From, "until": &s.Until}
		s.Line = d.tableLine("schedule", i)
		for _, name := range slices.Sorted(maps.Keys(table)) {
			line := d.keyLine(s.Line, name)
			field, known := fields[name]
			if !known {
				p.addAt(line, "schedule."+name, "unknown key: there are cron, time_zone, count, add, from and until")
				continue
			}
			if err := assign(field, d.value(table[name]), nil); err != nil {
				p.addAt(line, "schedule."+name, "%v", err)
				continue
			}
			switch name {
			case "count":
				s.Count = field.(*int)
			case "add":
				s.Add = field.(*int)
			}
		}
		if _, there := table["cron"]; !there {
			p.addAt(s.Line, "schedule.cron", "missing: write cron = \"30 8 * * 1-5\" (minute hour day month weekday)")
		}
	}
	return all
}

// tableLine is the line of the i-th [[name]], from 1, or of all of them where they
// are written in another way. The library knows but the last of several.
func (d *document) tableLine(name string, i int) int {
	head := regexp.MustCompile(`^\s*\[\[\s*` + name + `\s*\]\]`)
	for n, line := range strings.Split(d.source, "\n") {
		if !head.MatchString(line) {
			continue
		}
		if i == 0 {
			return n + 1
		}
		i--
	}
	return d.line(name)
}

// keyLine is the line of a key below a table's head.
func (d *document) keyLine(head int, name string) int {
	key := regexp.MustCompile(`^\s*"?` + regexp.QuoteMeta(name) + `"?\s*=`)
	for n, line := range strings.Split(d.source, "\n") {
		switch {
		case n < head:
		case key.MatchString(line):
			return n + 1
		case strings.HasPrefix(strings.TrimSpace(line), "["):
			return head
		}
	}
	return head
}

func isSection(sections []section, key string) bool {
	return slices.ContainsFunc(sections, func(s section) bool { return s.key == key })
}

func find(sections []section, key string) (setting, bool) {
	for _, section := range sections {
		for _, s := range section.settings {
			if s.key == key {
				return s, true
			}
		}
	}
	return setting{}, false
}

// hint says what an unknown key may have meant: one like it in the same table,
// else one of this name in another.
func hint(sections []section, parent, name string) string {
	var here, elsewhere []string
	consider := func(key, last string) {
		if strings.TrimSuffix(strings.TrimSuffix(key, last), ".") == parent {
			here = append(here, last)
		} else if last == name {
			elsewhere = append(elsewhere, key)
		}
	}
	for _, section := range sections {
		consider(section.key, section.name)
		for _, s := range section.settings {
			consider(s.key, s.name)
		}
	}
	switch near := nearest(name, here); {
	case near != "" && parent != "":
		return fmt.Sprintf("; did you mean %s.%s?", parent, near)
	case near != "":
		return fmt.Sprintf("; did you mean %s?", near)
	case len(elsewhere) > 0:
		return fmt.Sprintf("; did you mean %s?", strings.Join(elsewhere, " or "))
	}
	return ""
}

// assign sets the field at dst to a value of the file, or says what was expected.
func assign(dst, v any, readSecret func(string) (Secret, error)) (err error) {
	switch dst := dst.(type) {
	case *string:
		*dst, err = text(v)
	case *int:
		*dst, err = number(v)
	case *Duration:
		*dst, err = duration(v)
	case *[]string:
		*dst, err = list(v, text)
	case *[]int:
		*dst, err = list(v, number)
	case *[]Duration:
		*dst, err = list(v, duration)
	case *bool:
		b, ok := v.(bool)
		if !ok {
			return fmt.Errorf("must be true or false, is %s", describe(v))
		}
		*dst = b
	case *Secret:
		s, ok := v.(string)
		if !ok {
			return errors.New("must be text in quotes") // and not a word of what it is
		}
		if s != "" {
			*dst, err = readSecret(s)
		}
	}
	return err
}

func text(v any) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("must be text in quotes, is %s", describe(v))
	}
	return s, nil
}

func number(v any) (int, error) {
	if n, ok := v.(int64); ok {
		return int(n), nil
	}
	return 0, fmt.Errorf("must be a whole number without quotes, is %s", describe(v))
}

func duration(v any) (Duration, error) {
	switch v := v.(type) {
	case string:
		var d Duration
		if err := d.UnmarshalText([]byte(v)); err != nil {
			return 0, fmt.Errorf("%s %w", describe(v), err)
		}
		return d, nil
	case int64:
		return 0, fmt.Errorf(`%d has no unit: write "%ds"`, v, v)
	}
	return 0, fmt.Errorf(`must be a duration such as "30s", is %s`, describe(v))
}

func list[T any](v any, item func(any) (T, error)) ([]T, error) {
	values, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("must be a list in [ ], is %s", describe(v))
	}
	items := make([]T, 0, len(values))
	for i, v := range values {
		it, err := item(v)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, err)
		}
		items = append(items, it)
	}
	return items, nil
}

// describe names a value of the file in a message.
func describe(v any) string {
	switch v := v.(type) {
	case string:
		if runes := []rune(v); len(runes) > 60 {
			v = string(runes[:60]) + "…"
		}
		return fmt.Sprintf("%q", v)
	case int64, float64, bool:
		return fmt.Sprint(v)
	case time.Time:
		return "a date"
	case map[string]any:
		return "a table"
	}
	return "a list"
}
