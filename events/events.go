// Package events is the append-only log of what adt decided and why: one JSON
// line each, one file a day. It must not decide anything itself.
package events

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"adt/dayfile"
)

// Event is one decision or finding.
type Event struct {
	Time       time.Time `json:"time"`
	Level      Level     `json:"level"`
	Reason     Reason    `json:"reason"`
	Autoscaler int       `json:"autoscaler,omitempty"`
	Command    string    `json:"command,omitempty"`
	Server     string    `json:"server,omitempty"` // name, or address where no name is known
	Text       string    `json:"text"`
	Told       bool      `json:"told,omitempty"` // it was said on standard error too
}

// Log is a folder of event files named by their UTC date.
type Log struct{ folder string }

// Open makes the folder where it is missing.
func Open(folder string) (*Log, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("making the events folder: %w", err)
	}
	return &Log{folder}, nil
}

// Add appends an event. A line is one write, so several processes may add to
// one file.
func (l *Log) Add(e Event) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encoding an event: %w", err)
	}
	f, err := os.OpenFile(l.file(e.Time), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("adding an event: %w", err)
	}
	line = append(line, '\n')
	// A crash may have left half a line, which must not swallow this one.
	if end, err := f.Seek(0, io.SeekEnd); err == nil && end > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, end-1); err == nil && last[0] != '\n' {
			line = append([]byte{'\n'}, line...)
		}
	}
	_, err = f.Write(line)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("adding an event: %w", err)
	}
	return nil
}

func (l *Log) file(t time.Time) string {
	return filepath.Join(l.folder, dayfile.Date(t)+dayfile.Plain)
}

// Filter chooses events; its zero value chooses all.
type Filter struct {
	Since   time.Time
	Server  string // exact
	Reasons []Reason
}

// Match reports whether the event is chosen.
func (f Filter) Match(e Event) bool {
	return !e.Time.Before(f.Since) && (f.Server == "" || e.Server == f.Server) &&
		(len(f.Reasons) == 0 || slices.Contains(f.Reasons, e.Reason))
}

// Read returns the chosen events in the order of their writing, those of compressed
// days too. Lines that are no events (torn by a crash) are passed over.
func (l *Log) Read(f Filter) ([]Event, error) {
	dates, err := dayfile.Dates(l.folder, f.Since)
	if err != nil {
		return nil, fmt.Errorf("reading the events: %w", err)
	}
	var out []Event
	for _, date := range dates {
		file, err := dayfile.Open(l.folder, date)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was deleted meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("reading the events: %w", err)
		}
		err = readLines(file, func(e Event) {
			if f.Match(e) {
				out = append(out, e)
			}
		})
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, fmt.Errorf("reading the events: %w", err)
		}
	}
	return out, nil
}

// files lists the days that may still be written to.
func (l *Log) files() ([]string, error) {
	entries, err := os.ReadDir(l.folder)
	if err != nil {
		return nil, fmt.Errorf("reading the events: %w", err)
	}
	var names []string
	for _, e := range entries {
		if _, packed, ok := dayfile.Parse(e.Name()); ok && !packed {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// readFile reads the end of a day's file, from an offset on.
func readFile(path string, from int64, each func(Event)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return err
	}
	return readLines(f, each)
}

func readLines(from io.Reader, each func(Event)) error {
	r := bufio.NewReader(from)
	for {
		line, err := r.ReadBytes('\n')
		var e Event
		if json.Unmarshal(bytes.TrimSpace(line), &e) == nil && e.Reason != "" {
			each(e)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Matter is what an event is about: repeated, it is the same news.
type Matter struct {
	Reason Reason
	Server string
}

// tailBytes is how much of a day's file Recent and Told look at.
const tailBytes = 256 << 10

// Recent returns the matters that were recorded from since to now. It looks at
// the newest events only; a file that cannot be read holds none.
func (l *Log) Recent(since, now time.Time) map[Matter]bool {
	return l.matters(since, now, func(Event) bool { return true })
}

// Told is Recent for what was said on standard error as well, so that cron mails
// a lasting fault once in a while and not every minute.
func (l *Log) Told(since, now time.Time) map[Matter]bool {
	return l.matters(since, now, func(e Event) bool { return e.Told })
}

func (l *Log) matters(since, now time.Time, counts func(Event) bool) map[Matter]bool {
	recent := map[Matter]bool{}
	for _, path := range slices.Compact([]string{l.file(since), l.file(now)}) {
		from := int64(0)
		if info, err := os.Stat(path); err == nil && info.Size() > tailBytes {
			from = info.Size() - tailBytes
		}
		_ = readFile(path, from, func(e Event) {
			if !e.Time.Before(since) && counts(e) {
				recent[Matter{e.Reason, e.Server}] = true
			}
		})
	}
	return recent
}

// Cursor reads events as they are written.
type Cursor struct {
	log    *Log
	offset map[string]int64
	first  string // files before this one were read in another life
}

// Position is where a cursor stands: how many bytes of each day's file it has
// read, by the file's name. Of days before the earliest one it has read all.
type Position map[string]int64

// keptDays is of how many days' files a position speaks: around midnight two are
// written, and a clock may be set.
const keptDays = 3

// At returns a cursor at a position; nil is before the oldest event.
func (l *Log) At(p Position) *Cursor {
	c := &Cursor{log: l, offset: map[string]int64{}}
	maps.Copy(c.offset, p)
	for name := range p {
		if c.first == "" || name < c.first {
			c.first = name
		}
	}
	return c
}

// Position is where the cursor stands now, for At.
func (c *Cursor) Position() Position {
	names := slices.Sorted(maps.Keys(c.offset))
	p := Position{}
	for _, n := range names[max(0, len(names)-keptDays):] {
		p[n] = c.offset[n]
	}
	return p
}

// End returns a cursor behind the newest event.
func (l *Log) End() (*Cursor, error) {
	c := &Cursor{log: l, offset: map[string]int64{}}
	names, err := l.files()
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		info, err := os.Stat(filepath.Join(l.folder, n))
		if err != nil {
			return nil, fmt.Errorf("reading the events: %w", err)
		}
		c.offset[n] = info.Size()
	}
	return c, nil
}

// Next returns the chosen events written since the last call; only whole lines
// are taken.
func (c *Cursor) Next(f Filter) ([]Event, error) {
	names, err := c.log.files()
	if err != nil {
		return nil, err
	}
	var out []Event
	for _, n := range names {
		if n < c.first {
			continue
		}
		data, err := readFrom(filepath.Join(c.log.folder, n), c.offset[n])
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was compressed meanwhile, and is an old day's
		}
		if err != nil {
			return nil, err
		}
		whole := data[:bytes.LastIndexByte(data, '\n')+1]
		c.offset[n] += int64(len(whole))
		for line := range bytes.Lines(whole) {
			var e Event
			if json.Unmarshal(line, &e) == nil && e.Reason != "" && f.Match(e) {
				out = append(out, e)
			}
		}
	}
	return out, nil
}

func readFrom(path string, from int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the events: %w", err)
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return nil, fmt.Errorf("reading the events: %w", err)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("reading the events: %w", err)
	}
	return data, nil
}
