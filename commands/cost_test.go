package commands

import (
	"context"
	"errors"
	"testing"

	"adt/autoscaler"
	"adt/provider"
)

// shop is a vendor with prices.
type shop struct {
	provider.Servers
	price provider.Price
	err   error
}

func (s shop) Price(context.Context) (provider.Price, error) { return s.price, s.err }

func TestCostOfTheFleet(t *testing.T) {
	dollars := func(hourly, monthly float64) provider.Server {
		return provider.Server{Price: provider.Price{Currency: "USD", Hourly: hourly, Monthly: monthly}}
	}
	if got := costOf([]provider.Server{dollars(0.018, 12), {}, dollars(0.009, 6)}); got == nil || got.String() != "18.00 USD a month (0.027 an hour)" {
		t.Errorf("got %v", got)
	}
	if got := costOf([]provider.Server{{}}); got != nil {
		t.Errorf("a vendor without prices: %v", got)
	}
}

func TestCostOfAChange(t *testing.T) {
	dollars := provider.Price{Currency: "USD", Hourly: 0.01, Monthly: 6}
	for name, test := range map[string]struct {
		vendor provider.Servers
		more   int
		want   string
	}{
		"more":                 {shop{price: dollars}, 3, "it would cost 18.00 USD a month (0.030 an hour) more\n"},
		"fewer":                {shop{price: dollars}, -2, "it would save 12.00 USD a month (0.020 an hour)\n"},
		"as many":              {shop{price: dollars}, 0, ""},
		"no prices":            {struct{ provider.Servers }{}, 3, ""},
		"the vendor is silent": {shop{err: errors.New("shop: closed")}, 3, "what it would cost is not known: shop: closed\n"},
	} {
		s := &site{Autoscaler: &autoscaler.Autoscaler{Servers: stepServers{Servers: test.vendor}}}
		if got := s.describeChange(t.Context(), test.more); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestGrowth(t *testing.T) {
	plan := []autoscaler.Action{{Kind: autoscaler.StartCycle}, {Kind: autoscaler.StartBuild}, {Kind: autoscaler.StartBuild}, {Kind: autoscaler.StartEnd}, {Kind: autoscaler.Hold}}
	if got := grows(plan); got != 1 {
		t.Errorf("%d, want 1", got)
	}
}
