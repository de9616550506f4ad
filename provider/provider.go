// Package provider says what adt asks of third parties: machines and DNS
// records. Each vendor is a package below it that imports this one and its own
// SDK. It must not know autoscalers, profiles, state files or the command line.
package provider

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// What went wrong at a vendor, to be tested with errors.Is. A driver wraps one
// of these and begins its message with its own name.
var (
	ErrNotFound     = errors.New("not found")
	ErrUnauthorized = errors.New("not authorised")
	ErrQuota        = errors.New("quota exceeded")
	ErrTemporary    = errors.New("temporary failure")
	ErrRateLimited  = errors.New("rate limited")
	ErrLastEntry    = errors.New("an empty list lets everybody in")
)

// RateLimitError is an ErrRateLimited that knows when calls are welcome again.
type RateLimitError struct{ Until time.Time }

func (e *RateLimitError) Error() string {
	return fmt.Sprintf("rate limited until %s", e.Until.UTC().Format(time.RFC3339))
}

// Is makes errors.Is(err, ErrRateLimited) true.
func (e *RateLimitError) Is(target error) bool { return target == ErrRateLimited }

// Server is one machine as its vendor describes it.
type Server struct {
	ID        string     // the vendor's id; unique, never reused
	Name      string     // as given in Spec.Name; vendors do not keep it unique
	PublicIP  netip.Addr // the zero Addr until the vendor has given one
	PrivateIP netip.Addr // address in the private network; the zero Addr until given
	Created   time.Time
	Price     Price // what it costs as long as it is there; zero where the vendor does not say
}

// Addressed reports whether the server has both its addresses.
func (s Server) Addressed() bool { return s.PublicIP.IsValid() && s.PrivateIP.IsValid() }

// Spec is what a server is created from. Vendor settings (size, image, keys)
// belong to the driver's own configuration.
type Spec struct {
	Name     string
	UserData []byte // cloud-config, given to the machine at its first boot
}

// Servers is a vendor's machines.
type Servers interface {
	// List returns every server of the account that a fleet's name could
	// match, from all pages. It returns all or an error, never part.
	List(ctx context.Context) ([]Server, error)
	// Create orders one server. It is not idempotent and never retried by the
	// driver. Once something billable may exist, what is known of it is
	// returned even along with an error.
	Create(ctx context.Context, spec Spec) (Server, error)
	// Destroy ends the server with the id. The error wraps ErrNotFound when
	// there is none.
	Destroy(ctx context.Context, id string) error
}

// Record is one A record.
type Record struct {
	ID      string
	Name    string // fully qualified, without the final dot
	Address netip.Addr
	TTL     time.Duration
}

// DNS is the A records of one zone.
type DNS interface {
	// Records returns all A records with the fully qualified name, or an error,
	// never part.
	Records(ctx context.Context, name string) ([]Record, error)
	// AddRecord adds an A record. Adding what is there already succeeds.
	AddRecord(ctx context.Context, name string, address netip.Addr, ttl time.Duration) error
	// RemoveRecord removes the record with the id. The error wraps ErrNotFound
	// when there is none.
	RemoveRecord(ctx context.Context, id string) error
}

// AllowList is who may connect to what lets in only whom it knows, such as a
// managed database. An entry is an address, which is a range of one, or a range.
type AllowList interface {
	// Allowed returns all entries, or an error, never part. What lets in others
	// than addresses, such as tags, is not among them.
	Allowed(ctx context.Context) ([]netip.Prefix, error)
	// Change adds and removes entries; all others, of whatever kind, stay. What
	// is there already is added, and what is not is removed, without writing.
	// Vendors know only whole lists, so it is read, written and read again; what
	// a writer at the same time undid is done again, a few times, and then the
	// error wraps ErrTemporary. An entry whose removal would leave an empty list
	// stays where that lets everybody in, and the error wraps ErrLastEntry.
	Change(ctx context.Context, add, remove []netip.Prefix) error
}

// Finding is what an examination of an account found out about one thing that
// adt needs there.
type Finding struct {
	What   string // "token", "region lon1"
	OK     bool
	Detail string // what was found, or what is wrong
	Hint   string // what to do about it, when not OK
}

// Examiner is a driver that can say whether its account has all it needs. It
// changes nothing.
type Examiner interface {
	Examine(ctx context.Context) []Finding
}

// Metered is a driver whose account allows so many calls in a time.
type Metered interface {
	// Quota is how many calls are left, as far as the last answer said; known is
	// false before that.
	Quota() (left int, known bool)
}

// Price is what one server costs, in the vendor's currency.
type Price struct {
	Currency        string // "USD"
	Hourly, Monthly float64
}

// Pricer is a driver that knows what a new server costs.
type Pricer interface {
	Price(ctx context.Context) (Price, error)
}

// Finder is a driver that can look for machines that adt did not make, such as
// the autoscalers themselves.
type Finder interface {
	// Find returns all machines of the account whose names match, or an error,
	// never part.
	Find(ctx context.Context, match func(name string) bool) ([]Server, error)
}
