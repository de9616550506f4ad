package local

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"adt/provider"
)

// Op is one call of the cloud's API.
type Op string

const (
	OpList         Op = "list"
	OpCreate       Op = "create"
	OpDestroy      Op = "destroy"
	OpRecords      Op = "records"
	OpAddRecord    Op = "add-record"
	OpRemoveRecord Op = "remove-record"
	OpAllowed      Op = "allowed"
	OpAllow        Op = "allow"
)

// Ops are all calls.
func Ops() []Op {
	return []Op{OpList, OpCreate, OpDestroy, OpRecords, OpAddRecord, OpRemoveRecord, OpAllowed, OpAllow}
}

// APIFault is how a call goes wrong. The zero value is no fault.
type APIFault struct {
	Kind  string        // one of APIFaultKinds, or "" for none but the delay
	Slow  time.Duration // before the call is answered
	Times int           // the fault ends after so many calls; 0 = never
}

// apiFaultKind is one way to fail, and the calls that can fail so.
type apiFaultKind struct {
	name, help string
	ops        []Op
}

func apiFaultKinds() []apiFaultKind {
	listings := []Op{OpList, OpRecords}
	changes := []Op{OpCreate, OpDestroy, OpAddRecord, OpRemoveRecord, OpAllow}
	return []apiFaultKind{
		{"error", "a temporary failure, nothing done", Ops()},
		{"unauthorized", "the token is refused", Ops()},
		{"rate-limited", "too many calls, for a minute", Ops()},
		{"quota", "the account is full", Ops()},
		{"hang", "no answer until the caller gives up", Ops()},
		{"partial", "only the older half, as if it were all", listings},
		{"empty", "nothing, as if it were all", listings},
		{"duplicate", "everything twice", listings},
		{"stale", "what there was when the fault was set", listings},
		{"before", "a temporary failure, nothing done", changes},
		{"after", "done, but an error is returned", changes},
		{"after-lost", "made, but the answer is lost: an error and no server", []Op{OpCreate}},
		{"lie", "nothing done, but success is returned", []Op{OpDestroy, OpAddRecord, OpRemoveRecord, OpAllow}},
		{"never-addressed", "the server that is made gets no address", []Op{OpCreate}},
		{"never-ready", "the server that is made never finishes its build", []Op{OpCreate}},
	}
}

// ParseAPIFault reads one kind, slow=<duration> and times=<n>, separated by
// commas: "error,times=2". "none" is no fault. An error names what there is.
func ParseAPIFault(op Op, text string) (APIFault, error) {
	var fault APIFault
	if !slices.Contains(Ops(), op) {
		return fault, fmt.Errorf("API fault: no call is named %q; there are %s", op, join(Ops(), ", "))
	}
	if text == "none" || text == "" {
		return fault, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		key, value, _ := strings.Cut(part, "=")
		var err error
		switch key {
		case "slow":
			fault.Slow, err = parseDelay(value)
		case "times":
			if fault.Times, err = strconv.Atoi(value); err == nil && fault.Times < 1 {
				err = strconv.ErrRange
			}
		default:
			if !slices.ContainsFunc(apiFaultKinds(), func(k apiFaultKind) bool {
				return k.name == part && slices.Contains(k.ops, op)
			}) {
				return APIFault{}, fmt.Errorf("API fault: %s knows no %q; there are\n%s", op, part, APIFaultHelp(op))
			}
			if fault.Kind != "" {
				return APIFault{}, fmt.Errorf("API fault: both %q and %q; a call fails in one way", fault.Kind, part)
			}
			fault.Kind = part
		}
		if err != nil {
			return APIFault{}, fmt.Errorf("API fault: %q: want slow=300ms or times=2", part)
		}
	}
	if fault.Kind == "" && fault.Slow == 0 {
		return APIFault{}, fmt.Errorf("API fault: %q says how often, but not what; there are\n%s", text, APIFaultHelp(op))
	}
	return fault, nil
}

// APIFaultHelp lists the faults that a call can have, one a line.
func APIFaultHelp(op Op) string {
	var b strings.Builder
	for _, kind := range apiFaultKinds() {
		if slices.Contains(kind.ops, op) {
			fmt.Fprintf(&b, "  %-16s %s\n", kind.name, kind.help)
		}
	}
	fmt.Fprintf(&b, "  %-16s %s\n", "slow=300ms", "the answer takes that long")
	fmt.Fprintf(&b, "  %-16s %s\n", "times=2", "the fault ends after two calls")
	fmt.Fprintf(&b, "  %-16s %s\n", "none", "no fault")
	return b.String()
}

// String is the form that ParseAPIFault reads.
func (f APIFault) String() string {
	var parts []string
	if f.Kind != "" {
		parts = append(parts, f.Kind)
	}
	if f.Slow > 0 {
		parts = append(parts, "slow="+f.Slow.String())
	}
	if f.Times > 0 {
		parts = append(parts, "times="+strconv.Itoa(f.Times))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ",")
}

func parseDelay(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err == nil && d <= 0 {
		err = fmt.Errorf("%s is no delay", text)
	}
	return d, err
}

func join[T ~string](all []T, separator string) string {
	texts := make([]string, len(all))
	for i, t := range all {
		texts[i] = string(t)
	}
	return strings.Join(texts, separator)
}

// Outage is what a client's network has lost.
type Outage string

const (
	OutageNone Outage = ""
	OutageAPI  Outage = "api"  // the vendor
	OutageDial Outage = "dial" // the machines
	OutageAll  Outage = "all"  // both
)

// faults is the file of everything that is broken about the API and networks.
type faults struct {
	Version int                `json:"version"`
	API     map[Op]activeFault `json:"api,omitempty"`
	Outages map[string]Outage  `json:"outages,omitempty"` // by client
}

type activeFault struct {
	APIFault
	// What there was when the fault was set.
	Servers []provider.Server `json:",omitempty"`
	Records []provider.Record `json:",omitempty"`
}

func (c *Cloud) readFaults() (faults, error) {
	f := faults{Version: 1, API: map[Op]activeFault{}, Outages: map[string]Outage{}}
	err := readJSONIfAny(c.path(faultsFile), &f)
	return f, err
}

// SetAPIFault makes a call fail for every client from now on; the zero fault
// ends that.
func (c *Cloud) SetAPIFault(ctx context.Context, op Op, fault APIFault) error {
	if _, err := ParseAPIFault(op, fault.String()); err != nil {
		return fmt.Errorf("local: %w", err)
	}
	err := c.changeFaults(ctx, func(f *faults) (err error) {
		if fault == (APIFault{}) {
			delete(f.API, op)
			return nil
		}
		active := activeFault{APIFault: fault}
		if fault.Kind == "stale" {
			if active.Servers, err = c.scan(); err != nil {
				return err
			}
			if active.Records, err = c.readRecords(); err != nil {
				return err
			}
		}
		f.API[op] = active
		return nil
	})
	if err != nil {
		return fmt.Errorf("local: set a fault of %s: %w", op, err)
	}
	return nil
}

// SetOutage takes a client's network away or gives it back. The client is
// known by its Config.Client.
func (c *Cloud) SetOutage(ctx context.Context, client string, outage Outage) error {
	switch outage {
	case OutageNone, OutageAPI, OutageDial, OutageAll:
	default:
		return fmt.Errorf("local: set an outage of client %q: no %q; there are api, dial, all", client, outage)
	}
	err := c.changeFaults(ctx, func(f *faults) error {
		f.Outages[client] = outage
		if outage == OutageNone {
			delete(f.Outages, client)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("local: set an outage of client %q: %w", client, err)
	}
	return nil
}

// Faults tells what is set, for people.
func (c *Cloud) Faults() (api map[Op]APIFault, outages map[string]Outage, err error) {
	f, err := c.readFaults()
	if err != nil {
		return nil, nil, fmt.Errorf("local: read the faults: %w", err)
	}
	api = make(map[Op]APIFault, len(f.API))
	for op, active := range f.API {
		api[op] = active.APIFault
	}
	return api, f.Outages, nil
}

func (c *Cloud) changeFaults(ctx context.Context, change func(*faults) error) error {
	return c.locked(ctx, func() error {
		f, err := c.readFaults()
		if err != nil {
			return err
		}
		if err := change(&f); err != nil {
			return err
		}
		return writeJSON(c.path(faultsFile), f)
	})
}

// DialContext connects like net.Dialer's, unless the client has lost the
// network to the machines. Connections made before an outage live on.
func (c *Cloud) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	f, err := c.readFaults()
	if err != nil {
		return nil, fmt.Errorf("local: dial %s: %w", address, err)
	}
	if outage := f.Outages[c.config.Client]; outage == OutageDial || outage == OutageAll {
		return nil, fmt.Errorf("local: %w: %w", provider.ErrTemporary, &net.OpError{
			Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ENETUNREACH),
		})
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// call is what every API call goes through before it does anything: it is
// counted, delayed, checked and made to fail. What it returns is the fault
// that the call itself has to act out.
func (c *Cloud) call(ctx context.Context, op Op) (activeFault, error) {
	if err := ctx.Err(); err != nil {
		return activeFault{}, err
	}
	if err := appendJSON(c.path(callsFile), Call{time.Now().UTC(), op, c.config.Client, os.Getpid()}); err != nil {
		return activeFault{}, err
	}
	f, err := c.readFaults()
	if err != nil {
		return activeFault{}, err
	}
	if outage := f.Outages[c.config.Client]; outage == OutageAPI || outage == OutageAll {
		return activeFault{}, fmt.Errorf("%w: %w", provider.ErrTemporary, syscall.ENETUNREACH)
	}
	fault := f.API[op]
	if fault.Times > 0 {
		if fault, err = c.useUp(ctx, op); err != nil {
			return activeFault{}, err
		}
	}
	if err := sleep(ctx, c.config.Latency+fault.Slow); err != nil {
		return activeFault{}, err
	}
	if err := c.authorised(); err != nil {
		return activeFault{}, err
	}
	switch fault.Kind {
	case "error", "before":
		return fault, fmt.Errorf("the API answers 503: %w", provider.ErrTemporary)
	case "unauthorized":
		return fault, fmt.Errorf("the token is refused: %w", provider.ErrUnauthorized)
	case "rate-limited":
		return fault, &provider.RateLimitError{Until: time.Now().Add(time.Minute)}
	case "quota":
		return fault, fmt.Errorf("the account is full: %w", provider.ErrQuota)
	case "hang":
		<-ctx.Done()
		return fault, ctx.Err()
	}
	return fault, nil
}

// useUp takes one of the times that a fault has left.
func (c *Cloud) useUp(ctx context.Context, op Op) (used activeFault, err error) {
	err = c.changeFaults(ctx, func(f *faults) error {
		used = f.API[op]
		switch left := used; used.Times {
		case 0: // another client took the last
		case 1:
			delete(f.API, op)
		default:
			left.Times--
			f.API[op] = left
		}
		return nil
	})
	return used, err
}

// misreport turns the truth of a listing into what the fault makes of it.
func misreport[T any](kind string, truth, stale []T) []T {
	switch kind {
	case "partial":
		return truth[:len(truth)/2]
	case "empty":
		return nil
	case "duplicate":
		return slices.Concat(truth, truth)
	case "stale":
		return stale
	}
	return truth
}

// errAfter is the error of a change that was made all the same.
func errAfter() error {
	return fmt.Errorf("the API answers 503: %w", provider.ErrTemporary)
}
