package commands

import (
	"context"
	"fmt"

	"adt/autoscaler"
	"adt/provider"
)

// cost is what something costs by the vendor's prices; those of a change may
// be negative.
type cost struct {
	Currency string  `json:"currency"`
	Hourly   float64 `json:"hourly"`
	Monthly  float64 `json:"monthly"`
}

func (c cost) String() string {
	return fmt.Sprintf("%.2f %s a month (%.3f an hour)", c.Monthly, c.Currency, c.Hourly)
}

// costOf sums up what servers cost; nil when the vendor names no prices.
func costOf(servers []provider.Server) *cost {
	var sum *cost
	for _, s := range servers {
		if s.Price.Currency == "" {
			continue
		}
		if sum == nil {
			sum = &cost{Currency: s.Price.Currency}
		}
		sum.Hourly += s.Price.Hourly
		sum.Monthly += s.Price.Monthly
	}
	return sum
}

// costOfChange is what so many more webservers would cost; nil when nothing
// changes or the vendor names no prices. An error is the vendor's.
func (s *site) costOfChange(ctx context.Context, more int) (*cost, error) {
	steps, ok := s.Servers.(stepServers)
	if !ok || more == 0 {
		return nil, nil
	}
	vendor, ok := steps.Servers.(provider.Pricer)
	if !ok {
		return nil, nil
	}
	price, err := vendor.Price(ctx)
	if err != nil {
		return nil, err
	}
	return &cost{Currency: price.Currency, Hourly: float64(more) * price.Hourly, Monthly: float64(more) * price.Monthly}, nil
}

// describeChange is costOfChange as a line; "" when there is nothing to say.
func (s *site) describeChange(ctx context.Context, more int) string {
	c, err := s.costOfChange(ctx, more)
	switch {
	case err != nil:
		return fmt.Sprintf("what it would cost is not known: %v\n", err)
	case c == nil:
		return ""
	case more < 0:
		return fmt.Sprintf("it would save %s\n", cost{c.Currency, -c.Hourly, -c.Monthly})
	}
	return fmt.Sprintf("it would cost %s more\n", c)
}

// grows is by how many webservers a plan changes the fleet in the end: what is
// replaced comes and goes.
func grows(actions []autoscaler.Action) int {
	more := 0
	for _, a := range actions {
		switch a.Kind {
		case autoscaler.StartBuild:
			more++
		case autoscaler.StartEnd:
			more--
		}
	}
	return more
}
