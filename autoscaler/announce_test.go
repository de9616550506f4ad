package autoscaler

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// This machine's addresses are published once, and again when they change.
func TestAnnounce(t *testing.T) {
	c := newCrew(t)
	a := c.autoscaler(1)
	own := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("fe80::1")}
	a.Addresses = func() ([]netip.Addr, error) { return own, nil }
	announce := func(want ...string) {
		t.Helper()
		if err := a.announce(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := c.store.keys(); !slices.Equal(got, want) {
			t.Errorf("the store has %v, want %v", got, want)
		}
	}
	announce("autoscalerips/10.0.0.5", "autoscalerpublicips/192.0.2.7")
	c.store.log = nil
	announce("autoscalerips/10.0.0.5", "autoscalerpublicips/192.0.2.7")
	if len(c.store.log) > 0 {
		t.Errorf("nothing has changed, and it asked %v", c.store.log)
	}
	own[1] = netip.MustParseAddr("10.0.0.6")
	c.store.fails = "put"
	announce("autoscalerips/10.0.0.5", "autoscalerpublicips/192.0.2.7")
	c.store.fails = ""
	announce("autoscalerips/10.0.0.6", "autoscalerpublicips/192.0.2.7")
	a.Addresses = func() ([]netip.Addr, error) { return nil, errors.New("no interfaces") }
	announce("autoscalerips/10.0.0.6", "autoscalerpublicips/192.0.2.7")
	if strings.Count(strings.Join(c.store.log, " "), "delete") != 1 {
		t.Errorf("asked %v", c.store.log)
	}
}
