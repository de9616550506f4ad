package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Error is one thing that is wrong with a configuration.
type Error struct {
	File string // as given to Load
	Line int    // from 1; 0 where the fault is in no line, such as a missing key
	Key  string // dotted; "" where the fault is in no key
	Msg  string // one line, never holding a secret
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Key != "" {
		b.WriteString(": " + e.Key)
	}
	return b.String() + ": " + e.Msg
}

// problemLimit bounds what is reported of a file that is no configuration at all.
const problemLimit = 50

// problems collects all that is wrong.
type problems struct {
	file string
	line func(key string) int // of a key in the file, 0 if it is not there
	list []*Error
	more int
	bad  map[string]bool // keys with a problem; rules that would only repeat it skip them
}

func (p *problems) add(key, format string, args ...any) { p.addAt(p.line(key), key, format, args...) }

// addAt is add for what has a line of its own, as tables of a list have.
func (p *problems) addAt(line int, key, format string, args ...any) {
	p.bad[key] = true
	if len(p.list) >= problemLimit {
		p.more++
		return
	}
	msg := strings.Map(func(r rune) rune { // a path may hold line breaks
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, fmt.Sprintf(format, args...))
	p.list = append(p.list, &Error{File: p.file, Line: line, Key: key, Msg: msg})
}

// sound reports whether no problem is known of any of the keys.
func (p *problems) sound(keys ...string) bool {
	return !slices.ContainsFunc(keys, func(key string) bool { return p.bad[key] })
}

// err joins the problems in the order of the file; those in no line come last.
func (p *problems) err() error {
	slices.SortStableFunc(p.list, func(a, b *Error) int {
		if (a.Line == 0) != (b.Line == 0) {
			return b.Line - a.Line
		}
		return cmp.Compare(a.Line, b.Line)
	})
	var errs []error
	for _, e := range p.list {
		errs = append(errs, e)
	}
	if p.more > 0 {
		errs = append(errs, &Error{File: p.file, Msg: fmt.Sprintf("and %d more faults", p.more)})
	}
	return errors.Join(errs...)
}
