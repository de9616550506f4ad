package providertest

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"adt/provider"
)

// AllowListHarness is a list and a driver for it.
type AllowListHarness struct {
	List    provider.AllowList
	Stalled provider.AllowList // as in ServersHarness

	// Foreign adds rules behind the driver's back, also such as are no addresses;
	// it is nil where there is no such thing. Rules are all there are, for
	// comparison.
	Foreign func(t *testing.T)
	Rules   func(t *testing.T) []string

	Most int // how many entries the vendor takes; 0 is any number

	// OpenWhenEmpty says that everybody is let in by an empty list.
	OpenWhenEmpty bool
}

// AllowList checks a driver's allow list. Every part begins with an empty list.
func AllowList(t *testing.T, newHarness func(t *testing.T) AllowListHarness) {
	for name, part := range map[string]func(*testing.T, AllowListHarness){
		"an empty list has no entries":        noEntries,
		"what is added is there":              entryAdded,
		"ranges and addresses":                entryRanges,
		"adding twice adds once":              entryTwice,
		"what is removed is gone":             entryRemoved,
		"removing what is not there":          entryRemovedTwice,
		"addresses are matched whole":         entryMatchedWhole,
		"others' rules stay":                  entryForeign,
		"one call adds and removes":           entryBoth,
		"the last entry of an open list":      entryLast,
		"more than the vendor takes":          entryTooMany,
		"writers at once lose nothing":        entryWriters,
		"a cancelled call does nothing there": cancelledAllow,
		"a call ends with its deadline":       stalledAllow,
	} {
		t.Run(name, func(t *testing.T) { part(t, newHarness(t)) })
	}
}

func entry(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 106, byte(i >> 8), byte(i)}), 32)
}

func change(t *testing.T, h AllowListHarness, add, remove []netip.Prefix) {
	t.Helper()
	if err := h.List.Change(within(t), add, remove); err != nil {
		t.Fatalf("add %v, remove %v: %v", add, remove, err)
	}
}

func wantEntries(t *testing.T, h AllowListHarness, want ...netip.Prefix) {
	t.Helper()
	got, err := h.List.Allowed(within(t))
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(got, netip.Prefix.Compare)
	slices.SortFunc(want, netip.Prefix.Compare)
	if !slices.Equal(got, want) {
		t.Fatalf("allowed are %v, want %v", got, want)
	}
}

func noEntries(t *testing.T, h AllowListHarness) { wantEntries(t, h) }

func entryAdded(t *testing.T, h AllowListHarness) {
	change(t, h, []netip.Prefix{entry(1), entry(2)}, nil)
	wantEntries(t, h, entry(1), entry(2))
}

func entryRanges(t *testing.T, h AllowListHarness) {
	vpc := netip.MustParsePrefix("10.106.0.0/20")
	change(t, h, []netip.Prefix{vpc, entry(1)}, nil)
	wantEntries(t, h, vpc, entry(1))
	change(t, h, nil, []netip.Prefix{vpc})
	wantEntries(t, h, entry(1))
}

func entryTwice(t *testing.T, h AllowListHarness) {
	change(t, h, []netip.Prefix{entry(1)}, nil)
	change(t, h, []netip.Prefix{entry(1), entry(1)}, nil)
	wantEntries(t, h, entry(1))
}

func entryRemoved(t *testing.T, h AllowListHarness) {
	change(t, h, []netip.Prefix{entry(1), entry(2)}, nil)
	change(t, h, nil, []netip.Prefix{entry(1)})
	wantEntries(t, h, entry(2))
}

func entryRemovedTwice(t *testing.T, h AllowListHarness) {
	change(t, h, []netip.Prefix{entry(1)}, []netip.Prefix{entry(2)})
	wantEntries(t, h, entry(1))
}

func entryMatchedWhole(t *testing.T, h AllowListHarness) {
	like := netip.MustParsePrefix("10.106.0.10/32") // begins as 10.106.0.1 does
	change(t, h, []netip.Prefix{entry(1), like}, nil)
	change(t, h, nil, []netip.Prefix{entry(1)})
	wantEntries(t, h, like)
}

func entryForeign(t *testing.T, h AllowListHarness) {
	if h.Foreign == nil {
		t.Skip("there is nothing but addresses")
	}
	h.Foreign(t)
	before := h.Rules(t)
	change(t, h, []netip.Prefix{entry(1), entry(2)}, nil)
	if got, err := h.List.Allowed(within(t)); err != nil || !slices.Contains(got, entry(1)) || !slices.Contains(got, entry(2)) {
		t.Errorf("allowed are %v (%v)", got, err)
	}
	change(t, h, nil, []netip.Prefix{entry(1), entry(2)})
	if after := h.Rules(t); !slices.Equal(after, before) {
		t.Errorf("the rules are %v, before %v", after, before)
	}
}

func entryBoth(t *testing.T, h AllowListHarness) {
	change(t, h, []netip.Prefix{entry(1)}, nil)
	change(t, h, []netip.Prefix{entry(2)}, []netip.Prefix{entry(1)})
	wantEntries(t, h, entry(2))
}

func entryLast(t *testing.T, h AllowListHarness) {
	change(t, h, []netip.Prefix{entry(1), entry(2)}, nil)
	err := h.List.Change(within(t), nil, []netip.Prefix{entry(1), entry(2)})
	if !h.OpenWhenEmpty {
		if err != nil {
			t.Fatal(err)
		}
		wantEntries(t, h)
		return
	}
	if !errors.Is(err, provider.ErrLastEntry) {
		t.Fatalf("removing all: %v, want %v", err, provider.ErrLastEntry)
	}
	if left, err := h.List.Allowed(within(t)); err != nil || len(left) != 1 {
		t.Errorf("%v are left, want one (%v)", left, err)
	}
}

func entryTooMany(t *testing.T, h AllowListHarness) {
	if h.Most == 0 {
		t.Skip("it takes any number")
	}
	var add []netip.Prefix
	for i := range h.Most {
		add = append(add, entry(i))
	}
	change(t, h, add, nil)
	if err := h.List.Change(within(t), []netip.Prefix{entry(h.Most)}, nil); !errors.Is(err, provider.ErrQuota) {
		t.Errorf("one more: %v, want %v", err, provider.ErrQuota)
	}
	wantEntries(t, h, add...)
}

// entryWriters has several writers at once, each with an entry of its own. One
// may have undone what another had read back already, so each looks once more,
// as the fleet does.
func entryWriters(t *testing.T, h AllowListHarness) {
	const writers = 4
	for range 2 {
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				err := h.List.Change(within(t), []netip.Prefix{entry(i)}, nil)
				if err != nil && !errors.Is(err, provider.ErrTemporary) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	var want []netip.Prefix
	for i := range writers {
		change(t, h, []netip.Prefix{entry(i)}, nil)
		want = append(want, entry(i))
	}
	wantEntries(t, h, want...)
}

func cancelledAllow(t *testing.T, h AllowListHarness) {
	change(t, h, []netip.Prefix{entry(1)}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.List.Allowed(ctx); err == nil {
		t.Error("read in spite of it")
	}
	if err := h.List.Change(ctx, []netip.Prefix{entry(2)}, []netip.Prefix{entry(1)}); err == nil {
		t.Error("changed in spite of it")
	}
	wantEntries(t, h, entry(1))
}

func stalledAllow(t *testing.T, h AllowListHarness) {
	stalled(t, map[string]func(context.Context) error{
		"allowed": func(ctx context.Context) error { _, err := h.Stalled.Allowed(ctx); return err },
		"change":  func(ctx context.Context) error { return h.Stalled.Change(ctx, []netip.Prefix{entry(1)}, nil) },
	})
}
