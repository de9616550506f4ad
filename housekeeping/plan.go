// Package housekeeping is what is thrown away and when: old logs, post-mortems, state
// files that were set aside, and records of shards that are kept elsewhere. It must
// not know what is in them, nor touch what a running fleet depends on.
package housekeeping

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind is what sort of thing an item is.
type Kind string

const (
	Events     Kind = "events"      // a day's decisions
	History    Kind = "history"     // a day's samples
	Log        Kind = "log"         // any other file below the logs
	Folder     Kind = "folder"      // an empty one below the logs
	PostMortem Kind = "post-mortem" // a folder
	Corrupt    Kind = "corrupt"     // a state file that was set aside
	Guest      Kind = "guest"       // the folder of a shard that was taken over once
)

// Item is a file or folder that may be due.
type Item struct {
	Kind   Kind
	Path   string
	Last   time.Time // when it was last written to; of a day's file, the end of the day
	Bytes  int64
	Plain  bool // it is a day's file and not compressed
	Packed bool // it is a day's file that has a compressed one
}

// Limits are the operator's. A length of 0 keeps for ever, and compresses never.
type Limits struct {
	Compress    time.Duration // a day's file, after the end of the day
	Logs        time.Duration // events too
	History     time.Duration
	PostMortems time.Duration
	Corrupt     time.Duration
	Guests      time.Duration
	// PostMortemBytes is what all post-mortems together may take; 0 is no limit.
	PostMortemBytes int64
}

// Do is what is done with an item.
type Do string

const (
	Compress Do = "compress"
	Delete   Do = "delete"
)

// Action is one thing to be done, and why.
type Action struct {
	Do    Do     `json:"do"`
	Kind  Kind   `json:"kind"`
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"` // that are there now
	Why   string `json:"why"`
}

// Plan says what is due. What is deleted comes first, so that there is room for what
// is compressed.
func Plan(now time.Time, items []Item, l Limits) []Action {
	keep := map[Kind]time.Duration{Events: l.Logs, Log: l.Logs, Folder: l.Logs, History: l.History, PostMortem: l.PostMortems, Corrupt: l.Corrupt, Guest: l.Guests}
	var deleted, compressed []Action
	var left []Item // post-mortems
	for _, i := range items {
		age := now.Sub(i.Last)
		switch limit := keep[i.Kind]; {
		case limit > 0 && age > limit:
			deleted = append(deleted, Action{Do: Delete, Kind: i.Kind, Path: i.Path, Bytes: i.Bytes, Why: "older than " + days(limit)})
		case i.Plain && l.Compress > 0 && age > l.Compress:
			compressed = append(compressed, Action{Do: Compress, Kind: i.Kind, Path: i.Path, Bytes: i.Bytes, Why: "older than " + days(l.Compress)})
		case i.Kind == PostMortem:
			left = append(left, i)
		}
	}
	return slices.Concat(deleted, tooMuch(left, l.PostMortemBytes), compressed)
}

// tooMuch are the oldest post-mortems beyond what all may take; the newest stays.
func tooMuch(left []Item, most int64) []Action {
	slices.SortStableFunc(left, func(x, y Item) int {
		if c := y.Last.Compare(x.Last); c != 0 {
			return c
		}
		return strings.Compare(x.Path, y.Path)
	})
	var due []Action
	var sum int64
	for n, i := range left {
		if sum += i.Bytes; most > 0 && sum > most && n > 0 {
			due = append(due, Action{Do: Delete, Kind: i.Kind, Path: i.Path, Bytes: i.Bytes, Why: fmt.Sprintf("all together take more than %d MiB", most>>20)})
		}
	}
	return due
}

func days(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
	return d.String()
}
