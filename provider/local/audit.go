package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"time"

	"adt/provider"
)

// What an Entry says has happened.
const (
	Created       = "create"
	Destroyed     = "destroy"
	RecordAdded   = "record-add"
	RecordRemoved = "record-remove"
)

// Entry is one change that really happened to the cloud, whatever the client
// was told. The log has each change once, in the order they happened.
type Entry struct {
	Time    time.Time  `json:"time"`
	Op      string     `json:"op"` // Created, Destroyed, RecordAdded or RecordRemoved
	ID      string     `json:"id"` // of the server or record
	Name    string     `json:"name"`
	Address netip.Addr `json:"address,omitzero"` // the record's, or the public one of a destroyed server
	Client  string     `json:"client,omitempty"`
	PID     int        `json:"pid"` // of the client
}

// Call is one API call that a client made, whatever became of it.
type Call struct {
	Time   time.Time `json:"time"`
	Op     Op        `json:"op"`
	Client string    `json:"client,omitempty"`
	PID    int       `json:"pid"`
}

// Audit returns all changes so far. It is subject to no fault.
func (c *Cloud) Audit(ctx context.Context) (entries []Entry, err error) {
	err = c.locked(ctx, func() error {
		entries, err = readLines[Entry](c.path(auditFile))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("local: read the audit log: %w", err)
	}
	return entries, nil
}

// Calls returns all API calls so far. It is subject to no fault.
func (c *Cloud) Calls() ([]Call, error) {
	calls, err := readLines[Call](c.path(callsFile))
	if err != nil {
		return nil, fmt.Errorf("local: read the log of calls: %w", err)
	}
	return calls, nil
}

// change makes one change and logs it, both or neither, even when the client
// is killed in between: the entry is put down first, and whoever takes the
// lock next looks whether the change came about. It runs under the lock.
func (c *Cloud) change(entry Entry, do func() error) error {
	entry.Time, entry.Client, entry.PID = time.Now().UTC(), c.config.Client, os.Getpid()
	if err := writeJSON(c.path(pendingFile), entry); err != nil {
		return err
	}
	c.at("intended")
	if err := do(); err != nil {
		return errors.Join(err, os.Remove(c.path(pendingFile)))
	}
	c.at("changed")
	if err := appendJSON(c.path(auditFile), entry); err != nil {
		return err
	}
	c.at("logged")
	return os.Remove(c.path(pendingFile))
}

// finishPending logs the change that a killed client had made but not logged.
func (c *Cloud) finishPending() error {
	var entry Entry
	err := readJSON(c.path(pendingFile), &entry)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	done, err := c.cameAbout(entry)
	if err != nil {
		return err
	}
	if done {
		entries, err := readLines[Entry](c.path(auditFile))
		if err != nil {
			return err
		}
		if len(entries) == 0 || entries[len(entries)-1] != entry {
			if err := appendJSON(c.path(auditFile), entry); err != nil {
				return err
			}
		}
	}
	return os.Remove(c.path(pendingFile))
}

func (c *Cloud) cameAbout(entry Entry) (bool, error) {
	switch entry.Op {
	case Created, Destroyed:
		_, err := os.Stat(c.server(entry.ID))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		return (err == nil) == (entry.Op == Created), nil
	default:
		records, err := c.readRecords()
		exists := slices.ContainsFunc(records, func(r provider.Record) bool { return r.ID == entry.ID })
		return exists == (entry.Op == RecordAdded), err
	}
}

// older orders servers by age, those of one moment by id.
func older(a, b provider.Server) int {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
}
