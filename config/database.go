package config

import (
	"fmt"
	"net/netip"
)

// Database is a managed database that lets in only whom it knows.
type Database struct {
	Driver      string   `toml:"driver" doc:"The vendor of the managed database whose allow list adt keeps: none (it keeps none), digitalocean, or local for trying it out." oneof:"none local digitalocean"`
	Cluster     string   `toml:"cluster" doc:"For digitalocean: the name or id of the database cluster." form:"argument" optional:"true"`
	Addresses   string   `toml:"addresses" doc:"Which addresses of a webserver are allowed: private for a database in the same VPC, public or both where it is reached from outside." oneof:"private public both"`
	Ranges      []string `toml:"ranges" doc:"Addresses and ranges that are allowed besides the webservers and database machines, such as the VPC's range." form:"range4" optional:"true"`
	MultiRegion bool     `toml:"multi_region" doc:"Whether the website has several regions: each publishes its webservers' public addresses in the bucket <website>-multi-region, and those of the others are allowed here."`
	Recheck     Duration `toml:"recheck" doc:"After how long the list is read again though nothing has changed here; it repairs what somebody else undid, and finds other regions' webservers." min:"1ms" max:"1d"`
	Adopt       bool     `toml:"adopt" doc:"Whether entries of own webservers that were there already count as added by adt, and go with their webserver: set it where the original has made the list."`
}

// Prefixes are the ranges, an address being a range of one.
func (d Database) Prefixes() []netip.Prefix {
	var all []netip.Prefix
	for _, text := range d.Ranges {
		if p, err := parseRange(text); err == nil {
			all = append(all, p)
		}
	}
	return all
}

func parseRange(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return p, fmt.Errorf("must be an IPv4 address such as 203.0.113.7 or a range such as 10.106.0.0/20, is %s", describe(text))
		}
		p = netip.PrefixFrom(addr, addr.BitLen())
	}
	switch {
	case !p.Addr().Is4():
		return p, fmt.Errorf("must be IPv4, is %s", describe(text))
	case p != p.Masked():
		return p, fmt.Errorf("must begin where the range does: %s, is %s", p.Masked(), describe(text))
	case p.Bits() == 0:
		return p, fmt.Errorf("must not be everybody, is %s", describe(text))
	}
	return p, nil
}

// RegionsBucket names the bucket in which regions tell each other addresses, as
// in the original.
func (c *Config) RegionsBucket() string { return dashes(c.Website.URL) + "-multi-region" }

// checkDatabase finds a database without what reaches it.
func (c *Config) checkDatabase(p *problems) {
	d := c.Database
	if d.Driver == "none" {
		return
	}
	if d.Driver == "digitalocean" {
		if p.sound("database.cluster") && d.Cluster == "" {
			p.add("database.cluster", "missing: write the name or id of the database cluster")
		}
		if p.sound("digitalocean.token") && c.DigitalOcean.Token.Reveal() == "" {
			p.add("digitalocean.token", "missing: the database is there; write token = \"file:~/.adt-digitalocean-token\" and put the API token into that file, mode 0600")
		}
	}
	if d.MultiRegion && p.sound("database.multi_region", "datastore.driver") && c.Datastore.Driver != "s3" {
		p.add("database.multi_region", "wants datastore.driver s3: regions tell each other through a store that all of them reach")
	}
}
