// Package postmortem keeps what a server had to say before it is destroyed: the
// ends of its logs, fetched over one SSH connection, and what the records know of
// it. It must not know why servers are destroyed, nor when, nor by whom.
package postmortem

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"adt/remote"
)

// version is that of report.json.
const version = 1

// Names of the files that each post-mortem has. All others are from the server.
const (
	reportFile  = "report.json"
	recordsFile = "records.json"
	eventsFile  = "events.jsonl"
)

// Archive is a folder with one folder for each server that was looked at.
type Archive struct {
	Folder   string
	Deadline time.Duration // for one server, in all
	Limit    int           // bytes of one file that are kept: its end
	Files    []string      // paths on the servers; relative ones begin at the user's home
	// Secrets returns texts that are masked wherever they are found; nil is none.
	Secrets func() []string
	// Events returns the server's story for the file events.jsonl; nil is none.
	Events func(server string) []byte
	// Step, where set, is called before and after each file is written; tests end
	// the process there.
	Step func(string)
}

// Subject is the server that is about to be destroyed.
type Subject struct {
	ID        string
	Name      string
	PublicIP  netip.Addr
	PrivateIP netip.Addr // is asked; the zero Addr is not
	Why       string
	Records   any    // what is known of it, for records.json
	Password  []byte // for sudo, with its line end; nil where it needs none
}

// Report says what was kept of a server. It is written first, which claims the
// folder, and last.
type Report struct {
	Version   int        `json:"version"`
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	PublicIP  netip.Addr `json:"public_ip,omitzero"`
	PrivateIP netip.Addr `json:"private_ip,omitzero"`
	Why       string     `json:"why"`
	Began     time.Time  `json:"began"`
	Finished  time.Time  `json:"finished,omitzero"` // zero: it was cut off, and goes on where it is repeated
	Answered  bool       `json:"answered"`          // it let us in
	Faults    []string   `json:"faults"`            // what could not be had, and why
	Files     []File     `json:"files"`
}

// File is one file of a post-mortem.
type File struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// Dial gives a connection to the server. Who gave it closes it.
type Dial func(context.Context, netip.Addr) (*remote.Conn, error)

// Take keeps what can be learnt of a server within limit. One that is finished is
// left as it is; one that was cut off goes on, with the files that it has. A
// server that does not answer is no error: then the report says so. The error is
// the context's, when the caller broke off, or that a file could not be written.
func (a *Archive) Take(ctx context.Context, limit time.Duration, dial Dial, s Subject) (Report, error) {
	folder, r, err := a.claim(s)
	if err != nil || !r.Finished.IsZero() {
		return r, err
	}
	if err := a.known(folder, s); err != nil {
		return r, err
	}
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	r.Faults = []string{}
	deaf, err := a.ask(within, folder, dial, s, &r)
	if err != nil {
		return r, err
	}
	if err := ctx.Err(); errors.Is(err, context.Canceled) || err != nil && !deaf {
		return r, err
	}
	if r.Files, err = files(folder); err != nil {
		return r, err
	}
	r.Finished = time.Now().UTC()
	return r, a.write(folder, reportFile, r)
}

// claim returns the server's folder and the report in it. A name may come again:
// then the id tells the folders apart.
func (a *Archive) claim(s Subject) (string, Report, error) {
	if s.Name != filepath.Base(s.Name) || strings.HasPrefix(s.Name, ".") {
		return "", Report{}, fmt.Errorf("post-mortem: %q is no name for a folder", s.Name)
	}
	folder := filepath.Join(a.Folder, s.Name)
	r, err := read(folder)
	if err == nil && r.ID != s.ID {
		folder += "." + filepath.Base(s.ID)
		r, err = read(folder)
	}
	if err == nil {
		return folder, r, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		// Garbage in its place: what is still to be had is worth more.
		r = Report{}
	}
	r = Report{Version: version, ID: s.ID, Name: s.Name, PublicIP: s.PublicIP, PrivateIP: s.PrivateIP, Why: s.Why, Began: time.Now().UTC(), Files: []File{}}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", r, fmt.Errorf("post-mortem: %w", err)
	}
	return folder, r, a.write(folder, reportFile, r)
}

// known writes what needs no answer from the server.
func (a *Archive) known(folder string, s Subject) error {
	if s.Records != nil && !has(folder, recordsFile) {
		if err := a.write(folder, recordsFile, s.Records); err != nil {
			return err
		}
	}
	if a.Events == nil || has(folder, eventsFile) {
		return nil
	}
	if story := a.Events(s.Name); len(story) > 0 {
		return a.writeText(folder, eventsFile, a.maskKnown(story))
	}
	return nil
}

// knock is how long a server has to have kept us waiting until the end of the
// caller's time is taken for its answer.
const knock = 2 * time.Second

// ask fetches what the server has itself, the most telling first. deaf says that it
// did not let us in, and would not a second time. The error is that a file could not
// be written.
func (a *Archive) ask(ctx context.Context, folder string, dial Dial, s Subject, r *Report) (deaf bool, err error) {
	if !s.PrivateIP.IsValid() {
		r.Faults = append(r.Faults, "it has no address")
		return true, nil
	}
	began := time.Now()
	conn, err := dial(ctx, s.PrivateIP)
	if err != nil {
		r.Faults = append(r.Faults, err.Error())
		return time.Since(began) >= knock, nil
	}
	r.Answered = true
	for _, w := range a.wanted(len(s.Password) > 0) {
		if has(folder, w.file) {
			continue
		}
		out, err := conn.Run(ctx, w.command, s.Password)
		var exit *remote.ExitError
		if errors.As(err, &exit) && exit.Status == notThere {
			continue
		}
		if err != nil {
			r.Faults = append(r.Faults, w.file+": "+err.Error())
		}
		if conn.Lost() {
			return false, nil // half of a file, perhaps
		}
		if len(out) == 0 {
			continue
		}
		if err := a.writeText(folder, w.file, a.mask(out)); err != nil {
			return false, err
		}
	}
	return false, nil
}

// has reports whether a file was written; it is whole then.
func has(folder, name string) bool {
	_, err := os.Stat(filepath.Join(folder, name))
	return err == nil
}

func (a *Archive) write(folder, name string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("post-mortem: %s: %w", name, err)
	}
	return a.writeText(folder, name, append(a.maskKnown(text), '\n'))
}

// writeText writes a file as a whole, readable by its owner alone.
func (a *Archive) writeText(folder, name string, text []byte) error {
	step := func(did string) {
		if a.Step != nil {
			a.Step(did + " post-mortem " + name)
		}
	}
	step("write")
	err := renameio.WriteFile(filepath.Join(folder, name), text, 0o600, renameio.WithTempDir(folder), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return fmt.Errorf("post-mortem: %w", err)
	}
	step("wrote")
	return nil
}

func read(folder string) (Report, error) {
	var r Report
	data, err := os.ReadFile(filepath.Join(folder, reportFile))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("post-mortem: %s: %w", filepath.Join(folder, reportFile), err)
	}
	return r, nil
}

// files lists what is in a folder, without the report itself.
func files(folder string) ([]File, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("post-mortem: %w", err)
	}
	all := []File{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.Type().IsRegular() || e.Name() == reportFile || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		all = append(all, File{Name: e.Name(), Bytes: info.Size()})
	}
	return all, nil
}

// List returns all reports, the oldest first. A folder without a readable one is
// passed over.
func (a *Archive) List() ([]Report, error) {
	entries, err := os.ReadDir(a.Folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("post-mortem: %w", err)
	}
	var all []Report
	for _, e := range entries {
		r, err := a.Report(e.Name())
		if err != nil {
			continue
		}
		all = append(all, r)
	}
	slices.SortStableFunc(all, func(x, y Report) int { return x.Began.Compare(y.Began) })
	return all, nil
}

// Report returns one server's, by the name of its folder. The error wraps
// fs.ErrNotExist when there is none.
func (a *Archive) Report(name string) (Report, error) {
	if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return Report{}, fmt.Errorf("post-mortem: %s: %w", name, fs.ErrNotExist)
	}
	folder := filepath.Join(a.Folder, name)
	r, err := read(folder)
	if err != nil {
		return r, err
	}
	r.Name = name // with the id, where that tells two apart
	r.Files, err = files(folder)
	return r, err
}

// Read returns one file of one server's post-mortem. The error wraps
// fs.ErrNotExist when there is none.
func (a *Archive) Read(name, file string) ([]byte, error) {
	r, err := a.Report(name)
	if err != nil {
		return nil, err
	}
	if file != reportFile && !slices.ContainsFunc(r.Files, func(f File) bool { return f.Name == file }) {
		return nil, fmt.Errorf("post-mortem: %s/%s: %w", name, file, fs.ErrNotExist)
	}
	return os.ReadFile(filepath.Join(a.Folder, name, file))
}
