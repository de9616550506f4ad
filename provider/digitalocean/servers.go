package digitalocean

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/digitalocean/godo"

	"adt/provider"
)

// userDataLimit is the most user data that the vendor takes, in bytes.
const userDataLimit = 64 << 10

// currency is that of the vendor's prices.
const currency = "USD"

func (c *Cloud) buildTag() string { return "adt-build-" + c.config.Build }

// List implements provider.Servers: the servers with the tag of the build, or
// with Untagged also those that have only the names of its webservers and proxies.
func (c *Cloud) List(ctx context.Context) ([]provider.Server, error) {
	droplets, err := c.droplets(ctx)
	return servers(droplets, err)
}

// Find implements provider.Finder: of the whole account.
func (c *Cloud) Find(ctx context.Context, match func(name string) bool) ([]provider.Server, error) {
	droplets, err := c.listDroplets(ctx, url.Values{})
	return servers(slices.DeleteFunc(droplets, func(d godo.Droplet) bool { return !match(d.Name) }), err)
}

func servers(droplets []godo.Droplet, err error) ([]provider.Server, error) {
	if err != nil {
		return nil, named(err)
	}
	servers := make([]provider.Server, len(droplets))
	for i := range droplets {
		if servers[i], err = server(&droplets[i]); err != nil {
			return nil, named(fmt.Errorf("listing droplets: %w", err))
		}
	}
	return servers, nil
}

func (c *Cloud) droplets(ctx context.Context) ([]godo.Droplet, error) {
	query := url.Values{}
	if !c.config.Untagged {
		query.Set("tag_name", c.buildTag())
	}
	found, err := c.listDroplets(ctx, query)
	if err == nil && c.config.Untagged {
		found = slices.DeleteFunc(found, func(d godo.Droplet) bool { return !c.ours(d) })
	}
	return found, err
}

func (c *Cloud) listDroplets(ctx context.Context, query url.Values) ([]godo.Droplet, error) {
	return call(ctx, "listing droplets", func(ctx context.Context) ([]godo.Droplet, error) {
		return list(ctx, c, "v2/droplets", query, "droplets", func(d *godo.Droplet) int { return d.ID })
	})
}

// ours are the droplets that we made and those that the original named like a
// webserver or a reverse proxy of this build.
func (c *Cloud) ours(d godo.Droplet) bool {
	return slices.Contains(d.Tags, c.buildTag()) ||
		strings.HasPrefix(d.Name, "ws-"+c.config.Region+"-"+c.config.Build+"-") ||
		strings.HasPrefix(d.Name, "rp-"+c.config.Region+"-"+c.config.Build+"-")
}

// server is a droplet in our words. One without id, name or age is no answer to
// go by: a server of no age would get no grace. What is known of it is returned
// all the same.
func server(d *godo.Droplet) (provider.Server, error) {
	if d.ID <= 0 {
		return provider.Server{}, fmt.Errorf("%w: a droplet without id", provider.ErrTemporary)
	}
	s := provider.Server{ID: strconv.Itoa(d.ID), Name: d.Name}
	public, _ := d.PublicIPv4() // none yet is ""
	private, _ := d.PrivateIPv4()
	s.PublicIP, s.PrivateIP = address(public), address(private)
	if d.Size != nil {
		s.Price = provider.Price{Currency: currency, Hourly: d.Size.PriceHourly, Monthly: d.Size.PriceMonthly}
	}
	created, err := time.Parse(time.RFC3339, d.Created)
	if err != nil || d.Name == "" {
		return s, fmt.Errorf("%w: droplet %d without name or age", provider.ErrTemporary, d.ID)
	}
	s.Created = created
	return s, nil
}

// address is the zero Addr where the vendor has given none.
func address(text string) netip.Addr {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return addr
}

// Create implements provider.Servers. The request is sent once.
func (c *Cloud) Create(ctx context.Context, spec provider.Spec) (provider.Server, error) {
	s, err := c.create(ctx, spec)
	if err != nil {
		return s, named(fmt.Errorf("creating droplet %s: %w", spec.Name, err))
	}
	return s, nil
}

func (c *Cloud) create(ctx context.Context, spec provider.Spec) (provider.Server, error) {
	request, err := c.request(ctx, spec)
	if err != nil {
		return provider.Server{}, err
	}
	var firewall string
	if c.config.Firewall { // before the create: it may be missing
		if firewall, err = c.firewallID(ctx); err != nil {
			return provider.Server{}, err
		}
	}
	droplet, err := call(ctx, "ordering it", func(ctx context.Context) (*godo.Droplet, error) {
		droplet, _, err := c.api.Droplets.Create(ctx, request)
		if err == nil && (droplet == nil || droplet.ID <= 0) {
			err = fmt.Errorf("%w: an answer without a droplet", provider.ErrTemporary)
		}
		return droplet, err
	})
	if err != nil {
		return provider.Server{}, err
	}
	s, err := server(droplet)
	s.Name = spec.Name
	if c.config.Firewall {
		c.attach(ctx, firewall, spec.Name, droplet.ID)
	}
	return s, err
}

// request is the order for a server, checked as far as that can be done here.
func (c *Cloud) request(ctx context.Context, spec provider.Spec) (*godo.DropletCreateRequest, error) {
	switch {
	case spec.Name == "":
		return nil, errors.New("it has no name")
	case len(spec.UserData) > userDataLimit:
		return nil, fmt.Errorf("its user data has %d bytes, and DigitalOcean takes %d", len(spec.UserData), userDataLimit)
	case !utf8.Valid(spec.UserData): // JSON has no other text, and would change it silently
		return nil, errors.New("its user data is not UTF-8")
	}
	key, err := c.sshKey(ctx)
	if err != nil {
		return nil, err
	}
	vpc, err := c.vpc(ctx)
	if err != nil {
		return nil, err
	}
	return &godo.DropletCreateRequest{
		Name:     spec.Name,
		Region:   c.config.Region,
		Size:     c.config.Size,
		Image:    image(c.config.Image),
		SSHKeys:  []godo.DropletCreateSSHKey{{ID: key}},
		VPCUUID:  vpc,
		UserData: string(spec.UserData),
		Tags:     []string{"adt", c.buildTag(), "adt-shard-" + strconv.Itoa(c.config.Shard)},
	}, nil
}

// image is a snapshot by its id, or a public image by its slug.
func image(name string) godo.DropletCreateImage {
	if id, err := strconv.Atoi(name); err == nil {
		return godo.DropletCreateImage{ID: id}
	}
	return godo.DropletCreateImage{Slug: name}
}

// Destroy implements provider.Servers.
func (c *Cloud) Destroy(ctx context.Context, id string) error {
	what := "destroying droplet " + id
	number, err := strconv.Atoi(id)
	if err != nil || number <= 0 {
		return named(fmt.Errorf("%s: %w: its id is no number", what, provider.ErrNotFound))
	}
	_, err = call(ctx, what, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, empty(c.api.Droplets.Delete(ctx, number))
	})
	return named(err)
}
