package digitalocean

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/digitalocean/godo"

	"adt/provider"
)

// errUnavailable is what the account knows and does not give.
var errUnavailable = errors.New("not available")

// Examine implements provider.Examiner: the token with its scopes, and all
// that the configuration names for servers. An account without a size in its
// configuration makes none, and only its token and quota are looked at.
func (c *Cloud) Examine(ctx context.Context) []provider.Finding {
	token, usable := c.examineToken(ctx)
	findings := []provider.Finding{token}
	if !usable {
		return findings // every other line would say the same
	}
	add := func(what, scope string, look func(context.Context) (string, error)) {
		findings = append(findings, finding(ctx, what, scope, look))
	}
	if c.config.Size != "" {
		add("region "+c.config.Region, "regions:read", c.examineRegion)
		add("size "+c.config.Size, "sizes:read", c.examineSize)
		add("image "+c.config.Image, "image:read", c.examineImage)
		add("SSH key "+c.config.SSHKey, "ssh_key:read", c.examineKey)
		if c.config.VPC != "" {
			add("VPC "+c.config.VPC, "vpc:read", c.vpc)
		}
		if c.config.Firewall {
			add("firewall "+c.firewallName(), "firewall:read and droplet:read", c.examineFirewall)
		}
	}
	if left, known := c.Quota(); known {
		f := provider.Finding{
			What: "API quota", OK: left >= c.config.QuotaReserve,
			Detail: fmt.Sprintf("%d requests left in this hour, %d in reserve", left, c.config.QuotaReserve),
		}
		if !f.OK {
			f.Hint = "wait, or find out what else uses this token"
		}
		findings = append(findings, f)
	}
	return findings
}

// finding is a look as a line, with what to do when it failed. What is not
// there says so itself.
func finding(ctx context.Context, what, scope string, look func(context.Context) (string, error)) provider.Finding {
	detail, err := look(ctx)
	if err == nil {
		return provider.Finding{What: what, OK: true, Detail: detail}
	}
	f := provider.Finding{What: what, Detail: err.Error()}
	switch {
	case errors.Is(err, errForbidden):
		f.Hint = "give the token the scope " + scope
	case errors.Is(err, provider.ErrUnauthorized):
		f.Hint = "make a new token, put it where digitalocean.token points, and give it the scopes that the README names"
	case errors.Is(err, provider.ErrTemporary), errors.Is(err, provider.ErrRateLimited):
		f.Hint = "try again in a while"
	}
	return f
}

// examineToken looks at the token, and says whether it is worth asking more
// with it: a token may be let in everywhere but here.
func (c *Cloud) examineToken(ctx context.Context) (f provider.Finding, usable bool) {
	f = finding(ctx, "token", "account:read", func(ctx context.Context) (string, error) {
		account, err := call(ctx, "reading the account", func(ctx context.Context) (*godo.Account, error) {
			account, _, err := c.api.Account.Get(ctx)
			if err == nil && (account == nil || account.Status == "") {
				err = fmt.Errorf("%w: an answer without an account", provider.ErrTemporary)
			}
			return account, err
		})
		usable = err == nil || errors.Is(err, errForbidden)
		switch {
		case err != nil:
			return "", err
		case account.Status != "active":
			return "", fmt.Errorf("the account is %s: see the control panel", account.Status)
		}
		return fmt.Sprintf("the account is active, at most %d droplets", account.DropletLimit), nil
	})
	return f, usable
}

func (c *Cloud) examineImage(ctx context.Context) (string, error) {
	found, err := call(ctx, "reading the image", func(ctx context.Context) (found *godo.Image, err error) {
		if wanted := image(c.config.Image); wanted.ID != 0 {
			found, _, err = c.api.Images.GetByID(ctx, wanted.ID)
		} else {
			found, _, err = c.api.Images.GetBySlug(ctx, wanted.Slug)
		}
		if err == nil && (found == nil || found.ID <= 0) {
			err = fmt.Errorf("%w: an answer without an image", provider.ErrTemporary)
		}
		return found, err
	})
	switch {
	case errors.Is(err, provider.ErrNotFound):
		return "", fmt.Errorf("the image is %w: correct digitalocean.image", errSetting)
	case err != nil:
		return "", err
	case !slices.Contains(found.Regions, c.config.Region):
		return "", fmt.Errorf("%w in region %s: choose or transfer one", errUnavailable, c.config.Region)
	}
	return found.Distribution + " " + found.Name, nil
}

func (c *Cloud) examineKey(ctx context.Context) (string, error) {
	id, err := c.sshKey(ctx)
	return fmt.Sprintf("id %d", id), err
}

// examineFirewall also finds the webservers that are not behind the firewall:
// those whose attaching failed when they were made.
func (c *Cloud) examineFirewall(ctx context.Context) (string, error) {
	droplets, err := c.droplets(ctx) // first: one made meanwhile is no news
	if err != nil {
		return "", err
	}
	f, err := c.firewall(ctx)
	if err != nil {
		return "", err
	}
	var open []string
	for _, d := range droplets {
		tagged := slices.ContainsFunc(d.Tags, func(tag string) bool { return slices.Contains(f.Tags, tag) })
		if !tagged && !slices.Contains(f.DropletIDs, d.ID) {
			open = append(open, d.Name)
		}
	}
	if len(open) > 0 {
		return "", fmt.Errorf("not before %s: add what is missing to it in the control panel", strings.Join(open, ", "))
	}
	return fmt.Sprintf("before all %d webservers", len(droplets)), nil
}
