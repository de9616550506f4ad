// Package history is what the fleet was like, minute by minute: one JSON line a
// sample, one file a day. It must not know where the figures come from.
package history

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"adt/dayfile"
)

// Sample is the fleet at one moment. A nil pointer is not known.
type Sample struct {
	Time        time.Time `json:"time"`
	Profile     *int      `json:"profile"`   // of the whole fleet, by the store
	Scheduled   *int      `json:"scheduled"` // of the whole fleet, by the last firing of the schedule
	Initial     int       `json:"initial"`
	Provisioned int       `json:"provisioned"`
	Published   int       `json:"published"`
	Building    int       `json:"building"`
	Draining    int       `json:"draining"`
	Failing     int       `json:"failing"`
}

// Series are the figures that are drawn, in the order of their legend.
func Series() []string {
	return []string{"profile", "scheduled", "provisioned", "published", "building", "draining", "failing"}
}

// Value is a figure by its name; ok is false where it is not known.
func (s Sample) Value(series string) (v int, ok bool) {
	known := func(p *int) (int, bool) {
		if p == nil {
			return 0, false
		}
		return *p, true
	}
	switch series {
	case "profile":
		return known(s.Profile)
	case "scheduled":
		return known(s.Scheduled)
	case "initial":
		return s.Initial, true
	case "provisioned":
		return s.Provisioned, true
	case "published":
		return s.Published, true
	case "building":
		return s.Building, true
	case "draining":
		return s.Draining, true
	case "failing":
		return s.Failing, true
	}
	return 0, false
}

// every is how often a sample is kept at most.
const every = time.Minute

// Log is a folder of files named by their UTC date.
type Log struct{ folder string }

// Open makes the folder where it is missing.
func Open(folder string) (*Log, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("making the history folder: %w", err)
	}
	return &Log{folder}, nil
}

// Add appends a sample, unless the last one is younger than a minute, and
// reports whether it did. A line is one write, so several processes may add; one
// that was cut off by a crash is passed over. A clock that went back keeps no
// sample from being added.
func (l *Log) Add(s Sample) (bool, error) {
	path := filepath.Join(l.folder, dayfile.Date(s.Time)+dayfile.Plain)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return false, fmt.Errorf("adding to the history: %w", err)
	}
	defer f.Close()
	last, whole, err := tail(f)
	if err != nil {
		return false, fmt.Errorf("adding to the history: %w", err)
	}
	if since := s.Time.Sub(last.Time); !last.Time.IsZero() && since >= 0 && since < every {
		return false, nil
	}
	line, err := json.Marshal(s)
	if err != nil {
		return false, fmt.Errorf("encoding a sample: %w", err)
	}
	line = append(line, '\n')
	if !whole {
		line = append([]byte{'\n'}, line...)
	}
	if _, err := f.Write(line); err != nil {
		return false, fmt.Errorf("adding to the history: %w", err)
	}
	return true, nil
}

// tail reads the last sample of a file, and reports whether its last line is
// whole.
func tail(f *os.File) (last Sample, whole bool, err error) {
	const enough = 4096 // bytes; a line has some 200
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || end == 0 {
		return last, true, err
	}
	buffer := make([]byte, min(end, enough))
	if _, err := f.ReadAt(buffer, end-int64(len(buffer))); err != nil && !errors.Is(err, io.EOF) {
		return last, true, err
	}
	for _, line := range bytes.Split(buffer, []byte{'\n'}) {
		var s Sample
		if json.Unmarshal(line, &s) == nil && !s.Time.IsZero() {
			last = s
		}
	}
	return last, buffer[len(buffer)-1] == '\n', nil
}

// Last returns the newest sample of the newest day; ok is false where there is none.
func (l *Log) Last() (s Sample, ok bool, err error) {
	names, err := filepath.Glob(filepath.Join(l.folder, "????-??-??.jsonl"))
	if err != nil || len(names) == 0 {
		return s, false, err
	}
	f, err := os.Open(slices.Max(names))
	if err != nil {
		return s, false, fmt.Errorf("reading the history: %w", err)
	}
	defer f.Close()
	if s, _, err = tail(f); err != nil {
		return s, false, fmt.Errorf("reading the history: %w", err)
	}
	return s, !s.Time.IsZero(), nil
}

// Read returns the samples of a time, in the order of their times, those of
// compressed days too.
func (l *Log) Read(since, until time.Time) ([]Sample, error) {
	dates, err := dayfile.Dates(l.folder, since)
	if err != nil {
		return nil, fmt.Errorf("reading the history: %w", err)
	}
	var all []Sample
	for _, date := range dates {
		if date > dayfile.Date(until) {
			break
		}
		data, err := dayfile.Open(l.folder, date)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was deleted meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("reading the history: %w", err)
		}
		lines := bufio.NewScanner(data)
		for lines.Scan() {
			var s Sample
			if json.Unmarshal(lines.Bytes(), &s) == nil && !s.Time.Before(since) && !s.Time.After(until) && !s.Time.IsZero() {
				all = append(all, s)
			}
		}
		if err := errors.Join(lines.Err(), data.Close()); err != nil {
			return nil, fmt.Errorf("reading the history: %w", err)
		}
	}
	slices.SortStableFunc(all, func(a, b Sample) int { return a.Time.Compare(b.Time) })
	return all, nil
}

// WriteCSV writes one line a sample. What is not known is empty.
func WriteCSV(w io.Writer, samples []Sample) error {
	out := csv.NewWriter(w)
	columns := append([]string{"initial"}, Series()...)
	_ = out.Write(append([]string{"time"}, columns...)) // Flush keeps the error
	for _, s := range samples {
		row := []string{s.Time.UTC().Format(time.RFC3339)}
		for _, name := range columns {
			text := ""
			if v, ok := s.Value(name); ok {
				text = strconv.Itoa(v)
			}
			row = append(row, text)
		}
		_ = out.Write(row)
	}
	out.Flush()
	return out.Error()
}
