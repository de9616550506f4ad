package digitalocean

import (
	"context"
	"fmt"
	"net/url"

	"github.com/digitalocean/godo"
)

// lookups are what creates need to know, asked for once a run: listing keys,
// for one, is allowed ten times a minute.
type lookups struct {
	key      remembered[int]
	vpc      remembered[string]
	firewall remembered[string]
}

func newLookups() lookups {
	return lookups{remember[int](), remember[string](), remember[string]()}
}

func (c *Cloud) sshKey(ctx context.Context) (int, error) {
	return c.once.key.get(ctx, func() (int, error) {
		keys, err := call(ctx, "listing SSH keys", func(ctx context.Context) ([]godo.Key, error) {
			return list(ctx, c, "v2/account/keys", url.Values{}, "ssh_keys", func(k *godo.Key) int { return k.ID })
		})
		if err != nil {
			return 0, err
		}
		for _, k := range keys {
			if k.Name == c.config.SSHKey {
				return k.ID, nil
			}
		}
		return 0, fmt.Errorf("the SSH key %q is %w: add the public build key there under that name", c.config.SSHKey, errSetting)
	})
}

// vpc is the id of the configured VPC in the region; "" lets the vendor take
// the region's default.
func (c *Cloud) vpc(ctx context.Context) (string, error) {
	if c.config.VPC == "" {
		return "", nil
	}
	return c.once.vpc.get(ctx, func() (string, error) {
		vpcs, err := call(ctx, "listing VPCs", func(ctx context.Context) ([]godo.VPC, error) {
			return list(ctx, c, "v2/vpcs", url.Values{}, "vpcs", func(v *godo.VPC) string { return v.ID })
		})
		if err != nil {
			return "", err
		}
		for _, v := range vpcs {
			if v.Name == c.config.VPC && v.RegionSlug == c.config.Region {
				return v.ID, nil
			}
		}
		return "", fmt.Errorf("the VPC %q in region %s is %w: make it there, or correct digitalocean.vpc", c.config.VPC, c.config.Region, errSetting)
	})
}

// firewallName is the original's.
func (c *Cloud) firewallName() string { return "adt-webserver-" + c.config.Build }

// firewallID is the id of the firewall as creates need it.
func (c *Cloud) firewallID(ctx context.Context) (string, error) {
	return c.once.firewall.get(ctx, func() (string, error) {
		f, err := c.firewall(ctx)
		return f.ID, err
	})
}

// firewall is the build's own, as it is now.
func (c *Cloud) firewall(ctx context.Context) (godo.Firewall, error) {
	firewalls, err := call(ctx, "listing firewalls", func(ctx context.Context) ([]godo.Firewall, error) {
		return list(ctx, c, "v2/firewalls", url.Values{}, "firewalls", func(f *godo.Firewall) string { return f.ID })
	})
	if err != nil {
		return godo.Firewall{}, err
	}
	for _, f := range firewalls {
		if f.Name == c.firewallName() {
			return f, nil
		}
	}
	return godo.Firewall{}, fmt.Errorf("the firewall %q is %w: make it there, or set digitalocean.firewall to false", c.firewallName(), errSetting)
}
