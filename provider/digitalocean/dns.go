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

	"github.com/digitalocean/godo"

	"adt/provider"
)

// shortestTTL is the least that the vendor takes.
const shortestTTL = 30 * time.Second

// Records implements provider.DNS.
func (c *Cloud) Records(ctx context.Context, name string) ([]provider.Record, error) {
	records, err := c.records(ctx, name)
	return records, named(err)
}

func (c *Cloud) records(ctx context.Context, name string) ([]provider.Record, error) {
	what := "listing A records of " + name
	found, err := call(ctx, what, func(ctx context.Context) ([]godo.DomainRecord, error) {
		path := "v2/domains/" + url.PathEscape(c.config.Zone) + "/records"
		query := url.Values{"type": {"A"}, "name": {name}}
		return list(ctx, c, path, query, "domain_records", func(r *godo.DomainRecord) int { return r.ID })
	})
	if err != nil {
		return nil, c.aboutZone(what, err)
	}
	var records []provider.Record
	for _, r := range found {
		// The API's filter is trusted with speed, not with what may be removed.
		if r.Type != "A" || !strings.EqualFold(c.qualified(r.Name), name) {
			continue
		}
		addr, err := netip.ParseAddr(r.Data)
		if err != nil || !addr.Is4() || r.ID <= 0 {
			return nil, fmt.Errorf("%s: %w: a record without id or address", what, provider.ErrTemporary)
		}
		records = append(records, provider.Record{
			ID: strconv.Itoa(r.ID), Name: name, Address: addr, TTL: time.Duration(r.TTL) * time.Second,
		})
	}
	c.known.set(name, records)
	return records, nil
}

// aboutZone tells what is not there when a listing or an addition is not found:
// the domain, not a record.
func (c *Cloud) aboutZone(what string, err error) error {
	if errors.Is(err, provider.ErrNotFound) {
		return fmt.Errorf("%s: the domain %s is %w: add it there, or correct the website's name", what, c.config.Zone, errSetting)
	}
	return err
}

// qualified is a record's full name; the vendor says it relative to the zone,
// and @ for the zone itself.
func (c *Cloud) qualified(relative string) string {
	if relative == "@" || relative == "" {
		return c.config.Zone
	}
	return relative + "." + c.config.Zone
}

// relative is the name as the vendor wants it in a new record.
func (c *Cloud) relative(name string) (string, error) {
	name, zone := strings.ToLower(name), strings.ToLower(c.config.Zone)
	if name == zone {
		return "@", nil
	}
	head, inside := strings.CutSuffix(name, "."+zone)
	if !inside || head == "" {
		return "", fmt.Errorf("%s is not in the domain %s", name, zone)
	}
	return head, nil
}

// AddRecord implements provider.DNS. A TTL below 30 s is raised to that.
func (c *Cloud) AddRecord(ctx context.Context, name string, address netip.Addr, ttl time.Duration) error {
	return named(c.addRecord(ctx, name, address.Unmap(), ttl))
}

// addRecord looks before it adds, as the vendor adds again what is there; once a
// run, and one at a time, or two would look and then both add.
func (c *Cloud) addRecord(ctx context.Context, name string, address netip.Addr, ttl time.Duration) error {
	what := fmt.Sprintf("adding A record %s %s", name, address)
	relative, err := c.relative(name)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	case !address.Is4():
		return fmt.Errorf("%s: an A record wants an IPv4 address", what)
	}
	if err := c.adding.take(ctx); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer c.adding.give()
	there, known := c.known.get(name)
	if !known {
		there, err = c.records(ctx, name)
	}
	if err != nil || slices.ContainsFunc(there, func(r provider.Record) bool { return r.Address == address }) {
		return err
	}
	c.known.forget(name) // until it is sure what became of it
	made, err := call(ctx, what, func(ctx context.Context) (*godo.DomainRecord, error) {
		record, _, err := c.api.Domains.CreateRecord(ctx, c.config.Zone, &godo.DomainRecordEditRequest{
			Type: "A", Name: relative, Data: address.String(), TTL: int(max(ttl, shortestTTL).Seconds()),
		})
		if err == nil && (record == nil || record.ID <= 0) {
			err = fmt.Errorf("%w: an answer without a record", provider.ErrTemporary)
		}
		return record, err
	})
	if err != nil {
		return c.aboutZone(what, err)
	}
	c.known.set(name, append(there, provider.Record{ID: strconv.Itoa(made.ID), Name: name, Address: address, TTL: max(ttl, shortestTTL)}))
	return nil
}

// RemoveRecord implements provider.DNS.
func (c *Cloud) RemoveRecord(ctx context.Context, id string) error {
	what := "removing record " + id
	number, err := strconv.Atoi(id)
	if err != nil || number <= 0 {
		return named(fmt.Errorf("%s: %w: its id is no number", what, provider.ErrNotFound))
	}
	_, err = call(ctx, what, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, empty(c.api.Domains.DeleteRecord(ctx, c.config.Zone, number))
	})
	c.known.remove(id) // be it gone or in doubt
	return named(err)
}
