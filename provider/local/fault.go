package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"adt/provider"
)

// Fault is how one server is broken. The zero value is a server in order. In
// text and in JSON it reads like "http=500,ssh=hang".
type Fault struct {
	Network  string        // "blackhole": packets vanish; "refuse": no port listens
	Machine  string        // "crash": dies at once, for good; "freeze": stands still
	Address  string        // "never": it gets none; without effect once it has
	HTTP     string        // "hang", "refuse" or a status such as "500"
	HTTPSlow time.Duration // before each answer
	SSH      string        // "dead": closes at once; "hang": accepts, says nothing; "refuse"
	SSHSlow  time.Duration // before the server's first word
	Marker   string        // "missing": without the markers of being online
	Config   string        // "missing": without the application's config file
	Build    string        // "never": WEBSERVER_READY does not appear
	Progress string        // "old": BUILD_IN_PROGRESS has been there for two hours
}

// table is the whole text form: what may be said, where it goes, and for
// people what it does.
func (f *Fault) table() []faultWord {
	return []faultWord{
		{"blackhole", "", &f.Network, "packets vanish, connecting takes for ever"},
		{"refuse", "", &f.Network, "all ports refuse connections"},
		{"crash", "", &f.Machine, "the machine dies at once; cannot be undone"},
		{"freeze", "", &f.Machine, "the machine accepts connections and stands still"},
		{"address", "never", &f.Address, "the machine gets no address; too late once it has one"},
		{"http", "hang", &f.HTTP, "HTTPS requests are never answered"},
		{"http", "refuse", &f.HTTP, "the HTTPS port refuses connections"},
		{"http", "500", &f.HTTP, "every request gets that status; any from 200 to 599"},
		{"ssh", "dead", &f.SSH, "SSH connections are closed at once"},
		{"ssh", "hang", &f.SSH, "SSH connections get no word"},
		{"ssh", "refuse", &f.SSH, "the SSH port refuses connections"},
		{"marker", "missing", &f.Marker, "the markers of being online are gone"},
		{"config", "missing", &f.Config, "the application's config file is gone"},
		{"build", "never", &f.Build, "the marker of a finished build is gone or does not appear"},
		{"progress", "old", &f.Progress, "BUILD_IN_PROGRESS is two hours old"},
	}
}

type faultWord struct {
	key, value string // written key=value, or key alone without a value
	field      *string
	help       string
}

func (w faultWord) content() string {
	if w.value == "" {
		return w.key
	}
	return w.value
}

func (w faultWord) String() string {
	if w.value == "" {
		return w.key
	}
	return w.key + "=" + w.value
}

// ParseFault reads faults separated by commas: "http=500,ssh=hang".
// "slow=300ms" is short for http-slow and ssh-slow, "none" is no fault. An
// error names what there is.
func ParseFault(text string) (Fault, error) {
	var fault Fault
	if text == "none" || text == "" {
		return fault, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		if err := fault.add(strings.TrimSpace(part)); err != nil {
			return Fault{}, fmt.Errorf("fault %q: %w", part, err)
		}
	}
	return fault, nil
}

func (f *Fault) add(part string) error {
	key, value, _ := strings.Cut(part, "=")
	if target, ok := map[string][]*time.Duration{
		"slow": {&f.HTTPSlow, &f.SSHSlow}, "http-slow": {&f.HTTPSlow}, "ssh-slow": {&f.SSHSlow},
	}[key]; ok {
		d, err := parseDelay(value)
		if err != nil {
			return fmt.Errorf("want a delay such as %s=300ms", key)
		}
		for _, delay := range target {
			*delay = d
		}
		return nil
	}
	words := f.table()
	i := slices.IndexFunc(words, func(w faultWord) bool {
		return w.String() == part || w.String() == "http=500" && key == "http" && isStatus(value)
	})
	if i < 0 {
		return fmt.Errorf("there are\n%s", FaultHelp())
	}
	word := words[i]
	if key == "http" {
		word.value = value
	}
	if *word.field != "" && *word.field != word.content() {
		return fmt.Errorf("not both %s and %s", *word.field, part)
	}
	*word.field = word.content()
	return nil
}

func isStatus(text string) bool {
	n, err := strconv.Atoi(text)
	return err == nil && n >= 200 && n <= 599
}

// String is the form that ParseFault reads.
func (f Fault) String() string {
	var parts []string
	for _, word := range f.table() {
		if *word.field == word.content() {
			parts = append(parts, word.String())
		}
	}
	if isStatus(f.HTTP) && f.HTTP != "500" {
		parts = append(parts, "http="+f.HTTP)
	}
	if f.HTTPSlow > 0 {
		parts = append(parts, "http-slow="+f.HTTPSlow.String())
	}
	if f.SSHSlow > 0 {
		parts = append(parts, "ssh-slow="+f.SSHSlow.String())
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ",")
}

// MarshalText is String.
func (f Fault) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText is ParseFault.
func (f *Fault) UnmarshalText(text []byte) (err error) {
	*f, err = ParseFault(string(text))
	return err
}

// FaultHelp lists the faults that a server can have, one a line.
func FaultHelp() string {
	var b strings.Builder
	for _, word := range new(Fault).table() {
		fmt.Fprintf(&b, "  %-16s %s\n", word, word.help)
	}
	fmt.Fprintf(&b, "  %-16s %s\n", "http-slow=300ms", "HTTPS answers take that long")
	fmt.Fprintf(&b, "  %-16s %s\n", "ssh-slow=300ms", "SSH connections get no word for that long")
	fmt.Fprintf(&b, "  %-16s %s\n", "slow=300ms", "both of these")
	fmt.Fprintf(&b, "  %-16s %s\n", "none", "the server is in order again")
	return b.String()
}

// faultOrder is the file that a server reads its fault from.
type faultOrder struct {
	Seq   int   `json:"seq"` // counts up, so that one can see which is in effect
	Fault Fault `json:"fault"`
}

// SetServerFault breaks a server, or repairs it with the zero fault, and
// returns when that is in effect. What the fault before had broken is repaired.
// The error wraps ErrNotFound when there is no such server.
func (c *Cloud) SetServerFault(ctx context.Context, id string, fault Fault) error {
	if err := c.setServerFault(ctx, id, fault); err != nil {
		return fmt.Errorf("local: set a fault of the server %s: %w", id, err)
	}
	return nil
}

func (c *Cloud) setServerFault(ctx context.Context, id string, fault Fault) error {
	if _, err := ParseFault(fault.String()); err != nil {
		return err
	}
	var seq int
	err := c.locked(ctx, func() error {
		if _, err := os.Stat(c.server(id)); !isServer(id) || err != nil {
			return provider.ErrNotFound
		}
		var order faultOrder
		if err := readJSONIfAny(c.server(id, faultFile), &order); err != nil {
			return err
		}
		seq = order.Seq + 1
		return writeJSON(c.server(id, faultFile), faultOrder{Seq: seq, Fault: fault})
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return every(ctx, 5*time.Millisecond, func() (done bool, err error) {
		err = c.locked(ctx, func() error {
			done, err = c.announceFault(id, seq, fault)
			return err
		})
		return done, err
	})
}

// announceFault wakes the server's process, and says whether the fault is in
// effect. It is on a dead machine, which has nothing left to break.
func (c *Cloud) announceFault(id string, seq int, fault Fault) (done bool, err error) {
	power, err := tryLock(c.server(id, aliveFile))
	if err != nil {
		return false, ignoreMissing(err)
	}
	if power != nil {
		return true, power.Close()
	}
	_, s, err := c.read(id)
	switch {
	case err != nil || s.FaultSeq > seq: // or another fault came after this one
		return true, err
	case s.FaultSeq == seq:
		// A machine can say that it will stand still, but not that it does.
		return fault.Machine != "freeze" || isStopped(s.PID), nil
	}
	if s.PID != 0 {
		// CONT wakes a frozen machine, which then takes the HUP. It comes first:
		// after the HUP it could wake one that has just frozen as it was told.
		for _, signal := range []syscall.Signal{syscall.SIGCONT, syscall.SIGHUP} {
			if err := syscall.Kill(s.PID, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
				return false, fmt.Errorf("wake the process %d: %w", s.PID, err)
			}
		}
	}
	return false, nil
}

// isStopped reports whether a process stands still or is gone.
func isStopped(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	// The state is behind the program's name, which may hold anything.
	_, rest, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
	return strings.HasPrefix(rest, "T")
}
