package autoscaler_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"adt/autoscaler"
	"adt/datastore"
	"adt/events"
	"adt/provider"
)

// door is a managed database's allow list in memory.
type door struct {
	entries []netip.Prefix
	reads   int
	writes  int
	fault   error
	open    bool // an empty list lets everybody in
}

func (d *door) Allowed(context.Context) ([]netip.Prefix, error) {
	d.reads++
	return slices.Clone(d.entries), d.fault
}

func (d *door) Change(_ context.Context, add, remove []netip.Prefix) error {
	if d.fault != nil {
		return d.fault
	}
	d.writes++
	next := slices.DeleteFunc(slices.Clone(d.entries), func(e netip.Prefix) bool { return slices.Contains(remove, e) })
	next = append(next, add...)
	if d.open && len(next) == 0 {
		d.entries = d.entries[:1]
		return fmt.Errorf("here: %w", provider.ErrLastEntry)
	}
	d.entries = next
	return nil
}

func (d *door) String() string {
	var all []string
	for _, e := range d.entries {
		all = append(all, strings.TrimSuffix(e.String(), "/32"))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// newDoor gives a rig a managed database that lets in the office.
func newDoor(r *rig) *door {
	d := &door{entries: []netip.Prefix{netip.MustParsePrefix("198.51.100.7/32")}}
	r.AllowList, r.Database = d, autoscaler.Database{Private: true, Recheck: 10 * time.Minute}
	return d
}

// again is the same autoscaler in its next process.
func (r *rig) again() {
	next := autoscaler.Autoscaler{
		Settings: r.Settings, Servers: r.Servers, DNS: r.DNS, Dir: r.Dir, BootID: r.BootID, Profiles: r.Profiles, SSH: r.SSH, Prober: r.Prober,
		UserData: r.UserData, HostKey: r.HostKey, Record: r.Record, Now: r.Now, IntN: r.IntN, AllowList: r.AllowList, Machines: r.Machines,
	}
	r.Autoscaler = &next
}

// minutes are so many ticks, each a process of its own.
func (r *rig) minutes(n int) {
	r.t.Helper()
	for range n {
		r.again()
		r.calm(1)
	}
}

func (r *rig) wantDoor(d *door, want string) {
	r.t.Helper()
	if got := d.String(); got != want {
		r.t.Errorf("allowed are %s, want %s", got, want)
	}
}

func (r *rig) count(reason events.Reason) int {
	n := 0
	for _, said := range r.said {
		if said == reason {
			n++
		}
	}
	return n
}

// TestAllowListIsKept: the webservers are let in, nobody asks about it while
// nothing changes, and one that is terminated is taken off.
func TestAllowListIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3)
		d := newDoor(r)
		r.Database.Ranges = []netip.Prefix{netip.MustParsePrefix("10.106.0.0/20")}
		r.minutes(1)
		r.wantDoor(d, "10.0.0.1 10.0.0.2 10.0.0.3 10.106.0.0/20 198.51.100.7")
		r.minutes(1) // once more, since it was written
		if d.reads != 2 || d.writes != 1 {
			t.Errorf("%d reads, %d writes", d.reads, d.writes)
		}
		r.minutes(9)
		if d.reads != 2 {
			t.Errorf("%d reads in the minutes in which nothing changed", d.reads-2)
		}
		r.minutes(2)
		if d.reads != 3 || d.writes != 1 {
			t.Errorf("%d reads, %d writes after 10 minutes", d.reads, d.writes)
		}
		text, err := os.ReadFile(r.Dir.Path("dbaas_allowed_ips/ip_list.dat"))
		if want := "10.0.0.1\n10.0.0.2\n10.0.0.3\n10.106.0.0/20\n"; err != nil || string(text) != want {
			t.Errorf("the file has %q, %v", text, err)
		}
		r.profile(2)
		r.minutes(1)
		r.wantDoor(d, "10.0.0.1 10.0.0.2 10.106.0.0/20 198.51.100.7")
		if r.count(events.DatabaseAllowed) != 4 || r.count(events.DatabaseRevoked) != 1 || r.count(events.DatabaseFailed) != 0 {
			t.Errorf("%v", r.said)
		}
	})
}

// TestAllowListAndALie: from a listing that is not believed nobody is taken off,
// and another autoscaler's webserver not from one that lacks it for a while.
func TestAllowListAndALie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4)
		d := newDoor(r)
		other := provider.Server{ID: "other", Name: "ws-lon1-shop-2-agil-BBB1", PublicIP: netip.MustParseAddr("192.0.2.77"), PrivateIP: netip.MustParseAddr("10.0.0.77")}
		r.cloud.made(other)
		r.minutes(2)
		const all = "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.77 198.51.100.7"
		r.wantDoor(d, all)
		r.cloud.hide(1, true)
		r.doubts(30)
		r.cloud.list = func([]provider.Server) ([]provider.Server, error) { return nil, nil }
		r.doubts(30)
		r.cloud.list = func(s []provider.Server) ([]provider.Server, error) { return s[:4], nil } // without the other's
		r.minutes(15)
		r.wantDoor(d, all)
		r.cloud.list = nil
		r.minutes(2)
		r.cloud.list = func(s []provider.Server) ([]provider.Server, error) { return s[:4], nil }
		r.minutes(19) // the wait began anew
		r.wantDoor(d, all)
		r.minutes(4)
		r.wantDoor(d, "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 198.51.100.7")
	})
}

// TestAllowListFaults: what goes wrong there fails no tick, is asked for again at
// the right time, and nothing is forgotten.
func TestAllowListFaults(t *testing.T) {
	for name, fault := range map[string]error{
		"forbidden": provider.ErrUnauthorized, "gone": provider.ErrNotFound, "silent": context.DeadlineExceeded, "full": provider.ErrQuota,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 2)
				d := newDoor(r)
				r.minutes(2)
				d.fault, d.reads = fault, 0
				r.profile(1)
				r.minutes(20)
				if len(r.cloud.servers) != 1 {
					t.Error("the termination did not go on")
				}
				if n := r.count(events.DatabaseFailed); n < 3 || n != d.reads || n > 10 {
					t.Errorf("%d events, %d reads", n, d.reads)
				}
				d.fault = nil
				r.minutes(6)
				r.wantDoor(d, "10.0.0.1 198.51.100.7")
			})
		})
	}
	t.Run("rate limited", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, 2)
			d := newDoor(r)
			r.minutes(2)
			r.profile(1)
			d.fault, d.reads = &provider.RateLimitError{Until: time.Now().Add(30 * time.Minute)}, 0
			r.minutes(1)
			d.fault = nil
			r.minutes(29)
			if d.reads != 1 {
				t.Errorf("asked %d times before it was welcome", d.reads)
			}
			r.minutes(2)
			r.wantDoor(d, "10.0.0.1 198.51.100.7")
		})
	})
}

// TestAllowListUndone: what a writer at the same time took off is added again
// within two minutes, and what it brought back is taken off again; what somebody
// takes off later is added with the next look.
func TestAllowListUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2)
		d := newDoor(r)
		r.minutes(1)
		d.entries = d.entries[:1]
		r.minutes(2)
		r.wantDoor(d, "10.0.0.1 10.0.0.2 198.51.100.7")
		r.minutes(3)
		d.entries = d.entries[:1]
		r.minutes(12)
		r.wantDoor(d, "10.0.0.1 10.0.0.2 198.51.100.7")
		r.profile(1)
		r.minutes(1)
		r.wantDoor(d, "10.0.0.1 198.51.100.7")
		d.entries = append(d.entries, netip.MustParsePrefix("10.0.0.2/32")) // by a writer that had read it before
		r.minutes(2)
		r.wantDoor(d, "10.0.0.1 198.51.100.7")
		d.reads = 0
		r.minutes(9)
		if d.reads > 1 {
			t.Errorf("%d reads after it was seen gone", d.reads)
		}
		if n := r.count(events.DatabaseRepaired); n != 4 {
			t.Errorf("%d repairs were told", n)
		}
	})
}

// TestAllowListOfOthers: what was there already goes with its webserver only
// where it is adopted.
func TestAllowListOfOthers(t *testing.T) {
	for adopt, want := range map[bool]string{false: "10.0.0.1 10.0.0.2 10.0.0.9 198.51.100.7", true: "10.0.0.1 10.0.0.9 198.51.100.7"} {
		t.Run(fmt.Sprintf("adopt=%v", adopt), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 2)
				d := newDoor(r)
				r.Database.Adopt = adopt
				for _, e := range []string{"10.0.0.1/32", "10.0.0.2/32", "10.0.0.9/32"} {
					d.entries = append(d.entries, netip.MustParsePrefix(e))
				}
				r.minutes(2)
				if d.writes != 0 {
					t.Error("written without a difference")
				}
				r.profile(1)
				r.minutes(30)
				r.wantDoor(d, want)
			})
		})
	}
}

// TestAllowListOfALostRecord: what was added is known from the store, and goes
// when nobody has needed it for a while.
func TestAllowListOfALostRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2)
		d := newDoor(r)
		r.Database.Ranges = []netip.Prefix{netip.MustParsePrefix("10.106.0.0/20")}
		r.minutes(2)
		if err := r.Dir.Remove("allowlist.json"); err != nil {
			t.Fatal(err)
		}
		r.Database.Ranges = nil
		r.minutes(2)
		r.wantDoor(d, "10.0.0.1 10.0.0.2 10.106.0.0/20 198.51.100.7")
		r.profile(1)
		r.minutes(1)
		r.wantDoor(d, "10.0.0.1 10.106.0.0/20 198.51.100.7")
		r.minutes(22)
		r.wantDoor(d, "10.0.0.1 198.51.100.7")
		left, err := r.Profiles.Store.List(t.Context(), "config", "dbaas/")
		if err != nil || len(left) != 1 {
			t.Errorf("the store has %v, %v", left, err)
		}
	})
}

// TestLastEntry: it stays as long as an empty list would let everybody in.
func TestLastEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2)
		d := newDoor(r)
		d.open, d.entries = true, nil
		r.minutes(2)
		r.profile(0)
		r.minutes(1)
		if len(d.entries) != 1 || r.count(events.DatabaseLast) != 1 || r.count(events.DatabaseFailed) != 0 {
			t.Fatalf("%s, %v", d, r.said)
		}
		d.reads = 0
		r.minutes(8)
		if d.reads > 2 { // a look, and one at what had to stay
			t.Errorf("%d reads for the entry that has to stay", d.reads)
		}
		d.entries = append(d.entries, netip.MustParsePrefix("198.51.100.7/32"))
		r.minutes(15)
		r.wantDoor(d, "198.51.100.7")
	})
}

// deafStore does not list one bucket.
type deafStore struct {
	datastore.Store
	bucket string
}

func (s deafStore) List(ctx context.Context, bucket, prefix string) ([]datastore.Object, error) {
	if bucket == s.bucket {
		return nil, datastore.ErrTemporary
	}
	return s.Store.List(ctx, bucket, prefix)
}

// TestRegions: each region lets in the webservers of the others, and takes them
// off when they are gone; a bucket that cannot be read changes nothing.
func TestRegions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here := newRig(t, 2)
		d := newDoor(here)
		there := newRig(t, 0)
		e := newDoor(there)
		there.cloud.made(provider.Server{ID: "x", Name: "ws-lon1-shop-1-agil-CCC1", PublicIP: netip.MustParseAddr("203.0.113.1"), PrivateIP: netip.MustParseAddr("10.9.0.1")})
		there.profile(1)
		there.Profiles.Store, there.ConfigBucket = here.Profiles.Store, "config-there"
		there.Profiles.Bucket = "scaling-there"
		there.profile(1)
		for _, r := range []*rig{here, there} {
			r.Database.Regions, r.Database.Recheck = "regions", 2*time.Minute
		}
		for range 4 {
			there.minutes(1)
			here.minutes(1)
		}
		here.wantDoor(d, "10.0.0.1 10.0.0.2 198.51.100.7 203.0.113.1")
		there.wantDoor(e, "10.9.0.1 192.0.2.1 192.0.2.2 198.51.100.7")
		store := here.Profiles.Store
		here.Profiles.Store = deafStore{store, "regions"}
		here.minutes(20)
		here.wantDoor(d, "10.0.0.1 10.0.0.2 198.51.100.7 203.0.113.1")
		here.Profiles.Store = store
		there.profile(0)
		there.minutes(1)
		here.minutes(10)
		here.wantDoor(d, "10.0.0.1 10.0.0.2 198.51.100.7")
		left, err := here.Profiles.Store.List(t.Context(), "regions", "")
		if err != nil || len(left) != 2 {
			t.Errorf("the regions' bucket has %v, %v", left, err)
		}
	})
}

// TestDatabaseMachines are let in as they are found, and stay while the provider
// does not say.
func TestDatabaseMachines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		d := newDoor(r)
		found := []provider.Server{{ID: "db", Name: "db-lon1-shop-x", PrivateIP: netip.MustParseAddr("10.0.0.50")}}
		var fault error
		r.Machines = func(context.Context) ([]provider.Server, error) { return found, fault }
		r.minutes(2)
		r.wantDoor(d, "10.0.0.1 10.0.0.50 198.51.100.7")
		found, fault = nil, provider.ErrTemporary
		r.minutes(60)
		r.wantDoor(d, "10.0.0.1 10.0.0.50 198.51.100.7")
		fault = nil
		r.minutes(40)
		r.wantDoor(d, "10.0.0.1 198.51.100.7")
	})
}

func TestDatabaseName(t *testing.T) {
	f := autoscaler.Fleet{Region: "lon1", Build: "shop"}
	for name, want := range map[string]bool{
		"db-lon1-shop-x": true, "db-lon1-shop-": false, "db-lon1-shop2-x": false, "ws-lon1-shop-1-agil-AAAA": false, "xdb-lon1-shop-x": false,
	} {
		if got := f.DatabaseName(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
