package commands

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"adt/config"
	"adt/datastore"
	"adt/datastore/file"
	"adt/datastore/s3"
	"adt/provider"
	"adt/provider/cloudflare"
	"adt/provider/digitalocean"
	"adt/provider/local"
)

// drivers opens the vendors that the configuration names; note takes what they
// find worth an event. Opening asks nobody.
func drivers(cfg *config.Config, note func(string)) (provider.Servers, provider.DNS, error) {
	var servers provider.Servers
	var err error
	switch cfg.Provider.Servers {
	case "local":
		servers, err = openCloud(cfg)
	case "digitalocean":
		servers, err = openDigitalOcean(cfg, note)
	default:
		err = fmt.Errorf("provider.servers: there is no driver %q", cfg.Provider.Servers)
	}
	if err != nil {
		return nil, nil, usageError{err}
	}
	if both, ok := servers.(provider.DNS); ok && cfg.Provider.DNS == cfg.Provider.Servers {
		return servers, both, nil // one account, asked for its quota and look-ups once
	}
	var dns provider.DNS
	switch cfg.Provider.DNS {
	case "local":
		dns, err = openCloud(cfg)
	case "digitalocean":
		dns, err = openDigitalOcean(cfg, note)
	case "cloudflare":
		dns, err = openCloudflare(cfg)
	default:
		err = fmt.Errorf("provider.dns: there is no driver %q", cfg.Provider.DNS)
	}
	if err != nil {
		return nil, nil, usageError{err}
	}
	return servers, dns, nil
}

func openCloud(cfg *config.Config) (*local.Cloud, error) {
	return local.Open(local.Config{
		Dir: cfg.Local.Path, Token: cfg.Local.Token.Reveal(), Client: fmt.Sprint(cfg.Autoscaler.Number),
		Boot: cfg.Local.Boot.Std(), Build: cfg.Local.Build.Std(), Latency: cfg.Local.Latency.Std(),
		SSHPort: cfg.Local.SSHPort, HTTPSPort: cfg.Local.HTTPSPort,
		HeadFile: cfg.Website.HeadFile, ApplicationConfig: cfg.Build.ApplicationConfig,
	})
}

func openDigitalOcean(cfg *config.Config, note func(string)) (*digitalocean.Cloud, error) {
	d := cfg.DigitalOcean
	return digitalocean.Open(digitalocean.Config{
		Token: d.Token.Reveal(), APIURL: d.APIURL,
		Region: cfg.Autoscaler.Region, Build: cfg.Autoscaler.Build, Shard: cfg.Autoscaler.Number,
		Size: d.Size, Image: d.Image, SSHKey: d.SSHKey, VPC: d.VPC, Firewall: d.Firewall,
		QuotaReserve: d.QuotaReserve, Untagged: cfg.Provider.Adopt, Zone: cfg.Zone(), Note: note,
	})
}

// openAllowList opens that of the managed database; nil is none. It goes through
// the account of the servers where that is the same one.
func openAllowList(cfg *config.Config, servers provider.Servers) (provider.AllowList, error) {
	var err error
	switch d := cfg.Database; d.Driver {
	case "none":
		return nil, nil
	case "local":
		cloud, ok := servers.(*local.Cloud)
		if !ok {
			cloud, err = openCloud(cfg)
		}
		if err == nil {
			return cloud, nil
		}
	case "digitalocean":
		account, ok := servers.(*digitalocean.Cloud)
		if !ok {
			account, err = openDigitalOcean(cfg, nil)
		}
		if err == nil {
			return account.Database(d.Cluster), nil
		}
	default:
		err = fmt.Errorf("there is no driver %q", d.Driver)
	}
	return nil, usageError{fmt.Errorf("database.driver: %w", err)}
}

func openCloudflare(cfg *config.Config) (*cloudflare.DNS, error) {
	c := cfg.Cloudflare
	kept := filepath.Join(cfg.RuntimeDir(), "zoneid.dat") // the original's name and form
	return cloudflare.Open(cloudflare.Config{
		Token: c.Token.Reveal(), Email: c.Email, Key: c.Key.Reveal(), APIURL: c.APIURL,
		Zone: cfg.Zone(), Proxied: c.Proxied, Build: cfg.Autoscaler.Build, Adopt: cfg.Provider.Adopt,
		LoadZoneID: func() string {
			id, err := os.ReadFile(kept)
			if err != nil {
				return "" // it is asked for
			}
			return strings.TrimSpace(string(id))
		},
		SaveZoneID: func(id string) error { return renameio.WriteFile(kept, []byte(id+"\n"), 0o600) },
	})
}

// openStore opens the datastore; behind takes what a further endpoint has missed.
func openStore(cfg *config.Config, behind func(error)) (datastore.Store, error) {
	switch cfg.Datastore.Driver {
	case "file":
		return file.Open(cfg.Datastore.Path)
	case "s3":
		return openS3(cfg, behind)
	}
	return nil, usagef("datastore.driver: there is no driver %q", cfg.Datastore.Driver)
}

func openS3(cfg *config.Config, behind func(error)) (datastore.Store, error) {
	stores, err := endpoints(cfg)
	if err != nil {
		return nil, usageError{err}
	}
	if len(stores) == 1 {
		return stores[0], nil
	}
	var copies []datastore.Store
	for _, s := range stores[1:] {
		copies = append(copies, s)
	}
	return datastore.NewChain(behind, stores[0], copies...), nil
}

// endpoints opens each S3 endpoint, in their order. Keys and regions are one for
// all, or one for each, separated by | as in the original's settings.
func endpoints(cfg *config.Config) ([]*s3.Store, error) {
	d := cfg.Datastore
	pick := func(all string, i int) string {
		each := strings.Split(all, "|")
		return each[min(i, len(each)-1)]
	}
	stores := make([]*s3.Store, len(d.Endpoints))
	for i, endpoint := range d.Endpoints {
		c := s3.Config{
			Endpoint: endpoint, Region: pick(d.Region, i), AccessKey: pick(d.AccessKey.Reveal(), i), SecretKey: pick(d.SecretKey.Reveal(), i),
			Style: d.Style, CA: d.CA, Timeout: d.Timeout.Std(),
		}
		if c.Style == "auto" {
			c.Style = s3.StyleAuto
		}
		var err error
		if stores[i], err = s3.Open(c); err != nil {
			return nil, err
		}
	}
	return stores, nil
}
