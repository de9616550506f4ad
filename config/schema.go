package config

import (
	"reflect"
	"strings"
)

// setting is one key of the schema, with where its value lives.
type setting struct {
	key     string // dotted, from the top
	name    string // the last part of key
	value   any    // pointer to the field
	doc     string
	min     string
	max     string
	oneof   []string
	form    string
	example string // TOML; not empty: there is no fixed default, see derive
	// An empty text or list is allowed; must be set.
	optional, required bool
}

// section is one table of the schema.
type section struct {
	key, name, doc string
	settings       []setting
}

// schema lists the sections of cfg in the order of the file.
func schema(cfg *Config) []section {
	return appendSections(nil, section{}, reflect.ValueOf(cfg).Elem())[1:] // without the top, which has no keys
}

func appendSections(all []section, this section, table reflect.Value) []section {
	at := len(all)
	all = append(all, this)
	for i := range table.NumField() {
		field := table.Type().Field(i)
		name, tag := field.Tag.Get("toml"), field.Tag
		if name == "" || name == "-" {
			continue
		}
		key := strings.TrimPrefix(this.key+"."+name, ".")
		value := table.Field(i).Addr().Interface()
		if _, secret := value.(*Secret); field.Type.Kind() == reflect.Struct && !secret {
			all = appendSections(all, section{key: key, name: name, doc: tag.Get("doc")}, table.Field(i))
			continue
		}
		all[at].settings = append(all[at].settings, setting{
			key: key, name: name, value: value,
			doc: tag.Get("doc"), min: tag.Get("min"), max: tag.Get("max"),
			oneof: strings.Fields(tag.Get("oneof")), form: tag.Get("form"),
			example:  tag.Get("example"),
			optional: tag.Get("optional") != "", required: tag.Get("required") != "",
		})
	}
	return all
}

// nearest returns the name that was most likely meant, "" if none is near: at
// most a third of the letters off, and dashes and capitals do not count.
func nearest(name string, known []string) string {
	plain := strings.ReplaceAll(strings.ToLower(name), "-", "_")
	best, least := "", min(2, len(plain)/3)+1
	if len(plain) > 64 { // nobody's typing error
		return ""
	}
	for _, k := range known {
		if d := distance(plain, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is Levenshtein's: the insertions, deletions and replacements that
// make b from a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
