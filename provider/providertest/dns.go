package providertest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"adt/provider"
)

// DNSHarness is a zone without A records and a driver for it.
type DNSHarness struct {
	DNS     provider.DNS
	Stalled provider.DNS // as in ServersHarness
	Zone    string       // "example.com"
	Many    int          // records that do not fit one page
}

// DNS checks a driver's records. Every part begins with a new zone.
func DNS(t *testing.T, newHarness func(t *testing.T) DNSHarness) {
	for name, part := range map[string]func(*testing.T, DNSHarness){
		"an empty zone has no records":          noRecords,
		"what is added is there":                addedIsThere,
		"a name may have several addresses":     severalAddresses,
		"other names' records are not returned": otherNames,
		"adding twice adds once":                addTwice,
		"what is removed is gone":               removedIsGone,
		"removing what is gone":                 removeTwice,
		"the records are from all pages":        allRecordPages,
		"a cancelled call does nothing":         cancelledDNS,
		"a call ends with its deadline":         stalledDNS,
	} {
		t.Run(name, func(t *testing.T) { part(t, newHarness(t)) })
	}
}

func (h DNSHarness) www() string { return "www." + h.Zone }

// ttl is one that every vendor takes.
const ttl = 2 * time.Minute

func address(i int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}) }

func add(t *testing.T, h DNSHarness, name string, a netip.Addr) {
	t.Helper()
	if err := h.DNS.AddRecord(within(t), name, a, ttl); err != nil {
		t.Fatalf("add %s %s: %v", name, a, err)
	}
}

func records(t *testing.T, h DNSHarness, name string) []provider.Record {
	t.Helper()
	records, err := h.DNS.Records(within(t), name)
	if err != nil {
		t.Fatalf("records of %s: %v", name, err)
	}
	for _, r := range records {
		if r.ID == "" || r.Name != name {
			t.Errorf("asked for %s, got %+v", name, r)
		}
	}
	slices.SortFunc(records, func(a, b provider.Record) int { return a.Address.Compare(b.Address) })
	return records
}

func wantAddresses(t *testing.T, h DNSHarness, name string, want ...netip.Addr) []provider.Record {
	t.Helper()
	records := records(t, h, name)
	var got []netip.Addr
	for _, r := range records {
		got = append(got, r.Address)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%s has %v, want %v", name, got, want)
	}
	return records
}

func noRecords(t *testing.T, h DNSHarness) {
	wantAddresses(t, h, h.www())
}

func addedIsThere(t *testing.T, h DNSHarness) {
	add(t, h, h.www(), address(1))
	if r := wantAddresses(t, h, h.www(), address(1))[0]; r.TTL != ttl {
		t.Errorf("TTL %v, want %v", r.TTL, ttl)
	}
}

func severalAddresses(t *testing.T, h DNSHarness) {
	add(t, h, h.www(), address(1))
	add(t, h, h.www(), address(10))
	if r := wantAddresses(t, h, h.www(), address(1), address(10)); r[0].ID == r[1].ID {
		t.Errorf("two records with the id %s", r[0].ID)
	}
}

func otherNames(t *testing.T, h DNSHarness) {
	// A name that ends or begins like the other is another name.
	others := []string{"api." + h.Zone, "w" + h.www(), "a." + h.www(), h.Zone}
	for i, name := range append(others, h.www()) {
		add(t, h, name, address(i))
	}
	wantAddresses(t, h, h.www(), address(len(others)))
	for i, name := range others {
		wantAddresses(t, h, name, address(i))
	}
}

func addTwice(t *testing.T, h DNSHarness) {
	add(t, h, h.www(), address(1))
	add(t, h, h.www(), address(1))
	wantAddresses(t, h, h.www(), address(1))
}

func removedIsGone(t *testing.T, h DNSHarness) {
	add(t, h, h.www(), address(1))
	add(t, h, h.www(), address(10))
	first := wantAddresses(t, h, h.www(), address(1), address(10))[0]
	if err := h.DNS.RemoveRecord(within(t), first.ID); err != nil {
		t.Fatal(err)
	}
	wantAddresses(t, h, h.www(), address(10))
}

func removeTwice(t *testing.T, h DNSHarness) {
	add(t, h, h.www(), address(1))
	record := wantAddresses(t, h, h.www(), address(1))[0]
	if err := h.DNS.RemoveRecord(within(t), record.ID); err != nil {
		t.Fatal(err)
	}
	if err := h.DNS.RemoveRecord(within(t), record.ID); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("removed twice: %v, want %v", err, provider.ErrNotFound)
	}
}

func allRecordPages(t *testing.T, h DNSHarness) {
	var want []netip.Addr
	for i := range h.Many {
		add(t, h, h.www(), address(i))
		want = append(want, address(i))
		add(t, h, fmt.Sprintf("other-%d.%s", i, h.Zone), address(i))
	}
	wantAddresses(t, h, h.www(), want...)
}

func cancelledDNS(t *testing.T, h DNSHarness) {
	add(t, h, h.www(), address(1))
	record := wantAddresses(t, h, h.www(), address(1))[0]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.DNS.Records(ctx, h.www()); err == nil {
		t.Error("records in spite of it")
	}
	if err := h.DNS.AddRecord(ctx, h.www(), address(2), ttl); err == nil {
		t.Error("added in spite of it")
	}
	if err := h.DNS.RemoveRecord(ctx, record.ID); err == nil {
		t.Error("removed in spite of it")
	}
	wantAddresses(t, h, h.www(), address(1))
}

func stalledDNS(t *testing.T, h DNSHarness) {
	stalled(t, map[string]func(context.Context) error{
		"records": func(ctx context.Context) error { _, err := h.Stalled.Records(ctx, h.www()); return err },
		"add":     func(ctx context.Context) error { return h.Stalled.AddRecord(ctx, h.www(), address(1), ttl) },
		"remove":  func(ctx context.Context) error { return h.Stalled.RemoveRecord(ctx, "1") },
	})
}
