package autoscaler

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"adt/events"
	"adt/healthcheck"
	"adt/provider"
	"adt/remote"
	"adt/rundir"
)

// zone is DNS in memory.
type zone []provider.Record

func newZone(addresses ...string) *zone {
	var z zone
	for _, a := range addresses {
		z = append(z, provider.Record{ID: "record of " + a, Name: "www.example.com", Address: netip.MustParseAddr(a)})
	}
	return &z
}

func (z *zone) Records(context.Context, string) ([]provider.Record, error) {
	return slices.Clone(*z), nil
}

func (z *zone) AddRecord(context.Context, string, netip.Addr, time.Duration) error { return nil }

func (z *zone) RemoveRecord(_ context.Context, id string) error {
	*z = slices.DeleteFunc(*z, func(r provider.Record) bool { return r.ID == id })
	return nil
}

func (z *zone) String() string {
	var out []string
	for _, r := range *z {
		out = append(out, r.Address.String())
	}
	return strings.Join(out, " ")
}

// The shell toolkit took 10.0.0.10 out of DNS when 10.0.0.1 was sick, since the
// one begins like the other.
func TestAddressesMatchExactly(t *testing.T) {
	const all = "10.0.0.10 10.0.0.1 10.0.0.11 110.0.0.1"
	first := provider.Server{ID: "l-1", Name: shop.Name(1, "aaaa"), PublicIP: netip.MustParseAddr("10.0.0.1")}
	tenth := provider.Server{ID: "l-10", Name: shop.Name(1, "bbbb"), PublicIP: netip.MustParseAddr("10.0.0.10")}
	begin := func(t *testing.T) (*Autoscaler, *zone) {
		z := newZone(strings.Fields(all)...)
		a := &Autoscaler{DNS: z, Now: time.Now, Record: func(events.Reason, string, string) {}}
		a.Fleet, a.Shard, a.MissingAfter = shop, 1, time.Minute
		return a, z
	}
	t.Run("Withdraw", func(t *testing.T) {
		a, z := begin(t)
		if err := a.frontAfter(a.looks()).withdraw(t.Context(), "", whoIs(first)); err != nil {
			t.Fatal(err)
		}
		if got := z.String(); got != "10.0.0.10 10.0.0.11 110.0.0.1" {
			t.Errorf("left are %s", got)
		}
	})
	t.Run("WithdrawForHealth", func(t *testing.T) {
		a, z := begin(t)
		known := func(context.Context) ([]provider.Record, error) { return *newZone(strings.Fields(all)...), nil }
		if err := a.front(known, 1).withdraw(t.Context(), "", whoIs(first)); err != nil {
			t.Fatal(err)
		}
		if got := z.String(); got != "10.0.0.10 10.0.0.11 110.0.0.1" {
			t.Errorf("left are %s", got)
		}
	})
	t.Run("WithdrawNobody", func(t *testing.T) {
		a, z := begin(t)
		if err := a.frontAfter(a.looks()).withdraw(t.Context(), "", who{id: first.ID, name: first.Name}); err != nil {
			t.Fatal(err)
		}
		if got := z.String(); got != all {
			t.Errorf("left are %s", got)
		}
	})
	t.Run("Purge", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, z := begin(t)
			a.Prober = &healthcheck.Prober{SSH: &remote.Dialer{}, Deadline: time.Second,
				DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED }}
			long := a.Now().Add(-time.Hour)
			h := &health{records: *z, servers: []provider.Server{tenth}, unlisted: map[netip.Addr]time.Time{first.PublicIP: long}}
			a.sortRecords(t.Context(), h)
			if len(h.purge) != 1 || h.purge[0].Address != first.PublicIP || len(h.keep) != 2 || h.limits.Published != 1 {
				t.Errorf("purged are %v, kept %v, published %d", h.purge, h.keep, h.limits.Published)
			}
		})
	})
	t.Run("AddressKeys", func(t *testing.T) {
		keys := addressKeys(first.PublicIP, netip.MustParseAddr("10.1.0.1"))
		if want := []string{"webserverips/10.1.0.1", "beingbuiltips/10.1.0.1", "beenonline/10.1.0.1", "hostkeys/10.1.0.1", "webserverpublicips/10.0.0.1"}; !slices.Equal(keys, want) {
			t.Errorf("keys are %v", keys)
		}
	})
}

// Ids of servers are file names of terminations, and l-1 is not l-10.
func TestTerminationsMatchExactly(t *testing.T) {
	dir, err := rundir.Open(t.TempDir(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := &Autoscaler{Dir: dir, Now: time.Now, Record: func(events.Reason, string, string) {}}
	a.Fleet, a.Shard = shop, 1
	if err := a.startEnd(t.Context(), provider.Server{ID: "l-10", Name: shop.Name(1, "bbbb")}, Excess, Decided, "why"); err != nil {
		t.Fatal(err)
	}
	if _, found, err := a.termination("l-1"); found || err != nil {
		t.Errorf("l-1 is ending as well: %v", err)
	}
	// Whoever comes second does not own the end, and that is no error.
	if err := a.startEnd(t.Context(), provider.Server{ID: "l-10", Name: shop.Name(1, "bbbb")}, Unhealthy, Waiting, "why"); err != nil {
		t.Error(err)
	}
	if end, _, _ := a.termination("l-10"); end.Cause != Excess || end.Phase != Decided {
		t.Errorf("the second took the record over: %+v", end)
	}
	for _, name := range []string{shop.InitialName(1, 1), shop.Name(2, "cccc"), "ws-lon1-shop-10-agil-cccc", "db-lon1-shop-1"} {
		if err := a.startEnd(t.Context(), provider.Server{ID: "l-2", Name: name}, Excess, Decided, "why"); err == nil {
			t.Errorf("the end of %s is recorded", name)
		}
	}
	if err := a.Protect(t.Context(), shop.Name(1, "dddd"), true); err != nil {
		t.Fatal(err)
	}
	if err := a.startEnd(t.Context(), provider.Server{ID: "l-3", Name: shop.Name(1, "dddd")}, Excess, Decided, "why"); err == nil {
		t.Error("the end of a protected webserver is recorded")
	}
	if ends, err := a.Terminations(); err != nil || len(ends) != 1 {
		t.Errorf("terminations are %+v, %v", ends, err)
	}
}
