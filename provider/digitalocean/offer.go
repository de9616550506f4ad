package digitalocean

import (
	"context"
	"fmt"
	"net/url"
	"slices"

	"github.com/digitalocean/godo"

	"adt/provider"
)

// Price implements provider.Pricer for the configured size.
func (c *Cloud) Price(ctx context.Context) (provider.Price, error) {
	size, err := c.size(ctx)
	if err != nil {
		return provider.Price{}, named(err)
	}
	return provider.Price{Currency: currency, Hourly: size.PriceHourly, Monthly: size.PriceMonthly}, nil
}

func (c *Cloud) size(ctx context.Context) (godo.Size, error) {
	sizes, err := call(ctx, "listing sizes", func(ctx context.Context) ([]godo.Size, error) {
		return list(ctx, c, "v2/sizes", url.Values{}, "sizes", func(s *godo.Size) string { return s.Slug })
	})
	if err != nil {
		return godo.Size{}, err
	}
	for _, s := range sizes {
		if s.Slug == c.config.Size {
			return s, nil
		}
	}
	return godo.Size{}, fmt.Errorf("the size %q is %w: correct digitalocean.size", c.config.Size, errSetting)
}

func (c *Cloud) examineSize(ctx context.Context) (string, error) {
	size, err := c.size(ctx)
	switch {
	case err != nil:
		return "", err
	case !size.Available || !slices.Contains(size.Regions, c.config.Region):
		return "", fmt.Errorf("%w in region %s: choose another digitalocean.size", errUnavailable, c.config.Region)
	}
	return fmt.Sprintf("%.2f %s a month, %.5f an hour", size.PriceMonthly, currency, size.PriceHourly), nil
}

func (c *Cloud) examineRegion(ctx context.Context) (string, error) {
	regions, err := call(ctx, "listing regions", func(ctx context.Context) ([]godo.Region, error) {
		return list(ctx, c, "v2/regions", url.Values{}, "regions", func(r *godo.Region) string { return r.Slug })
	})
	if err != nil {
		return "", err
	}
	for _, r := range regions {
		if r.Slug != c.config.Region {
			continue
		}
		if !r.Available {
			return "", fmt.Errorf("%w for new servers at the moment", errUnavailable)
		}
		return r.Name, nil
	}
	return "", fmt.Errorf("the region %q is %w: correct autoscaler.region", c.config.Region, errSetting)
}
