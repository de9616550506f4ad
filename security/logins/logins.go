// Package logins reads who logged in to this machine from the records that the
// system keeps: the journal, auth.log and wtmp, whichever there are. It must not
// know what becomes of what it finds.
package logins

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Login is one login that succeeded.
type Login struct {
	Time time.Time // to a second; zero where the record does not tell
	User string
	From netip.Addr
	How  string // publickey, password…; "" where the record does not tell
}

// Position is how far the records were read.
type Position struct {
	Looked time.Time        `json:"looked"` // by the wall clock, as the journal's entries are
	Read   map[string]int64 `json:"read"`   // bytes of each file, by what stays when it is renamed
}

// Records are the machine's. Debian 12 has a journal and wtmp, Debian 13 a journal
// alone (its wtmp is a database), Ubuntu a journal, auth.log and wtmp.
type Records struct {
	Files fs.FS // the machine's root
	// Journal returns what journalctl prints with the arguments.
	Journal func(ctx context.Context, args ...string) (string, error)
}

// Journalctl runs the system's, with further arguments in front.
func Journalctl(before ...string) func(context.Context, ...string) (string, error) {
	return func(ctx context.Context, args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "journalctl", slices.Concat(before, args)...)
		var out, errs strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &errs
		// With nothing found it says so by its exit code; what is wrong it says in words.
		err := cmd.Run()
		if err != nil && (errs.Len() > 0 || cmd.ProcessState == nil || ctx.Err() != nil) {
			return "", fmt.Errorf("journalctl: %w: %.300s", err, strings.Join(strings.Fields(errs.String()), " "))
		}
		return out.String(), nil
	}
}

// ErrNone says that the machine keeps no records of logins.
var ErrNone = errors.New("this machine keeps no record of logins, neither a journal nor /var/log/auth.log nor /var/log/wtmp: mkdir /var/log/journal, or apt install rsyslog")

// overlap is by how much two looks at the journal overlap: an entry may come to
// it late. What is found twice is found out by its address.
const overlap = 10 * time.Minute

// Read returns the logins since the position, and the new one. Records that
// cannot be read are errors; what the others hold is returned with them.
func (r Records) Read(ctx context.Context, now time.Time, from Position) ([]Login, Position, error) {
	next := Position{Looked: now, Read: map[string]int64{}}
	var all []Login
	var errs []error
	found := 0
	there, err := r.journalThere()
	if err != nil {
		errs = append(errs, err)
	}
	if there {
		found++
		logins, err := r.readJournal(ctx, from.Looked, now)
		if err != nil {
			errs = append(errs, err)
			next.Looked = from.Looked
		}
		all = append(all, logins...)
	}
	// What was rotated away may hold logins that came after the last look.
	for _, file := range []struct {
		name  string
		parse func([]byte, time.Time) []Login
		whole func([]byte) int
	}{
		{"var/log/wtmp.1", parseWtmp, wholeRecords}, {"var/log/wtmp", parseWtmp, wholeRecords},
		{"var/log/auth.log.1", parseLog, wholeLines}, {"var/log/auth.log", parseLog, wholeLines},
	} {
		data, key, at, err := readOn(r.Files, file.name, from.Read)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		found++
		if err != nil {
			errs = append(errs, fmt.Errorf("the logins in /%s: %w", file.name, err))
			continue
		}
		n := file.whole(data)
		next.Read[key] = at + int64(n)
		all = append(all, file.parse(data[:n], now)...)
	}
	if found == 0 && len(errs) == 0 {
		errs = append(errs, ErrNone)
	}
	if len(errs) > 0 { // what could not be read now is read the next time
		kept := maps.Clone(from.Read)
		if kept == nil {
			kept = map[string]int64{}
		}
		maps.Copy(kept, next.Read)
		next.Read = kept
	}
	slices.SortStableFunc(all, func(a, b Login) int { return a.Time.Compare(b.Time) })
	return all, next, errors.Join(errs...)
}

// journalThere reports whether there is a journal. One that is there and not for
// us to read would look empty to journalctl.
func (r Records) journalThere() (bool, error) {
	for _, place := range []string{"var/log/journal", "run/log/journal"} {
		files, err := fs.Glob(r.Files, place+"/*/system.journal")
		if err != nil || len(files) == 0 {
			continue
		}
		f, err := r.Files.Open(files[0])
		if err != nil {
			return false, fmt.Errorf("the journal is not for this user to read: run adt audit-ssh as root, or add the user to the group adm: %w", err)
		}
		return true, f.Close()
	}
	return false, nil
}

func (r Records) readJournal(ctx context.Context, last, now time.Time) ([]Login, error) {
	// Entries of others than root are not sshd's, whatever they call themselves.
	args := []string{"-q", "--no-pager", "-o", "json", "--output-fields=MESSAGE", "-t", "sshd", "-t", "sshd-session", "-g", "^Accepted ", "_UID=0"}
	if !last.IsZero() {
		if now.Before(last) { // the clock was set back
			last = now
		}
		args = append(args, fmt.Sprintf("--since=@%d", last.Add(-overlap).Unix()))
	}
	text, err := r.Journal(ctx, args...)
	if err != nil {
		return nil, err
	}
	return parseJournal(text), nil
}

func parseJournal(text string) []Login {
	var all []Login
	for line := range strings.Lines(text) {
		var entry struct {
			Message any    `json:"MESSAGE"` // no text where it is not UTF-8: then it is none of ours
			Time    string `json:"__REALTIME_TIMESTAMP"`
		}
		if json.Unmarshal([]byte(line), &entry) != nil {
			continue
		}
		message, _ := entry.Message.(string)
		if l, ok := login(message); ok {
			if us, err := strconv.ParseInt(entry.Time, 10, 64); err == nil {
				l.Time = time.UnixMicro(us).UTC()
			}
			all = append(all, l)
		}
	}
	return all
}

// login reads what sshd says of each login, whatever the kind of key or password.
func login(message string) (Login, bool) {
	m := regexp.MustCompile(`^Accepted (\S+) for (\S+) from (\S+) port \d+`).FindStringSubmatch(message)
	if m == nil {
		return Login{}, false
	}
	from, err := netip.ParseAddr(m[3])
	if err != nil {
		return Login{}, false
	}
	return Login{User: m[2], From: plain(from), How: m[1]}, true
}

// plain makes one address of what may be written in two ways.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// parseLog reads lines of syslog, with times in the old form or that of RFC 3339.
// The program's name must be where syslog puts it: whoever tries to log in chooses
// the user name, which is in the line as well.
func parseLog(data []byte, now time.Time) []Login {
	form := regexp.MustCompile(`^(\S+T\S+|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) \S+ sshd(?:-session)?\[\d+\]: (Accepted .*)$`)
	var all []Login
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m := form.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		if l, ok := login(m[2]); ok {
			l.Time = logTime(m[1], now)
			all = append(all, l)
		}
	}
	return all
}

// logTime reads the time of a line. The old form has no year: it is the last one
// in which the time has passed.
func logTime(text string, now time.Time) time.Time {
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t.UTC()
	}
	t, err := time.ParseInLocation("2006 Jan _2 15:04:05", fmt.Sprintf("%d %s", now.Year(), text), time.Local)
	if err != nil {
		return time.Time{}
	}
	if t.After(now.Add(24 * time.Hour)) {
		t = t.AddDate(-1, 0, 0)
	}
	return t.UTC()
}

// recordSize is that of struct utmp on Linux, see utmp(5).
const recordSize = 384

// parseWtmp reads records of struct utmp. Logins without a terminal are not in them.
func parseWtmp(data []byte, _ time.Time) []Login {
	const userProcess = 7
	var all []Login
	for record := range slices.Chunk(data, recordSize) {
		if len(record) < recordSize || binary.NativeEndian.Uint16(record) != userProcess {
			continue
		}
		text := func(from, to int) string {
			s, _, _ := bytes.Cut(record[from:to], []byte{0})
			return string(s)
		}
		from, ok := wtmpAddress(record[348:364], text(76, 332))
		if !ok {
			continue // on the console, or in a terminal multiplexer
		}
		at := int64(binary.NativeEndian.Uint32(record[340:])) // unsigned it is good until 2106
		all = append(all, Login{Time: time.Unix(at, 0).UTC(), User: text(44, 76), From: from})
	}
	return all
}

// wtmpAddress is the address of a record: IPv4 is in the first four bytes. Where
// there is none, the host may be one.
func wtmpAddress(raw []byte, host string) (netip.Addr, bool) {
	addr, _ := netip.AddrFromSlice(raw)
	if v4 := raw[:4]; bytes.Equal(raw[4:], make([]byte, 12)) {
		addr, _ = netip.AddrFromSlice(v4)
	}
	if !addr.IsUnspecified() {
		return plain(addr), true
	}
	addr, err := netip.ParseAddr(host)
	return plain(addr), err == nil
}

func wholeRecords(data []byte) int { return len(data) / recordSize * recordSize }

// wholeLines leaves out a line that is being written.
func wholeLines(data []byte) int { return bytes.LastIndexByte(data, '\n') + 1 }

// atOnce is how much of one file is read in one look; the rest comes in the next.
const atOnce = 64 << 20

// readOn reads a file from where it was read to. It is known by its inode, which
// stays when the file is rotated; one that is shorter than that is a new one.
func readOn(files fs.FS, name string, read map[string]int64) (data []byte, key string, at int64, err error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, "", 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, "", 0, err
	}
	key = name
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		key = fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	}
	if at = read[key]; at > info.Size() {
		at = 0
	}
	seeker, ok := f.(io.Seeker)
	if !ok {
		return nil, "", 0, errors.New("it cannot be read from the middle")
	}
	if _, err := seeker.Seek(at, io.SeekStart); err != nil {
		return nil, "", 0, err
	}
	data, err = io.ReadAll(io.LimitReader(f, atOnce))
	return data, key, at, err
}
