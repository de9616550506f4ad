package cloudflare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cloudflare/cloudflare-go"

	"adt/provider"
)

// Records implements provider.DNS: our A records of the name. Those of others
// are never shown, so that nobody removes them.
func (d *DNS) Records(ctx context.Context, name string) ([]provider.Record, error) {
	what := "listing A records of " + name
	all, err := d.list(ctx, what, name)
	if err == nil && len(all) == 0 {
		d.mu.Lock()
		doubtful := !d.sure
		d.mu.Unlock()
		if doubtful {
			if err = d.verify(ctx); err == nil {
				all, err = d.list(ctx, what, name)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	var records []provider.Record
	for _, r := range all {
		if !d.ours(r) {
			continue
		}
		address, err := netip.ParseAddr(r.Content)
		if err != nil || r.ID == "" {
			return nil, fmt.Errorf("cloudflare: %s: %w: a record without id or address", what, provider.ErrTemporary)
		}
		seconds := r.TTL
		if seconds == automatic {
			seconds = automaticSeconds
		}
		records = append(records, provider.Record{ID: r.ID, Name: name, Address: address, TTL: time.Duration(seconds) * time.Second})
	}
	d.mu.Lock()
	d.known[name] = slices.Clone(records)
	d.mu.Unlock()
	return records, nil
}

// list returns all A records of the name, from all pages, whosoever they are.
func (d *DNS) list(ctx context.Context, what, name string) ([]cloudflare.DNSRecord, error) {
	return inZone(ctx, d, func(zone *cloudflare.ResourceContainer) ([]cloudflare.DNSRecord, error) {
		return call(ctx, what, func(ctx context.Context) ([]cloudflare.DNSRecord, error) {
			var all []cloudflare.DNSRecord
			seen := map[string]bool{}
			for page, total := 1, 0; ; page++ {
				found, info, err := d.api.ListDNSRecords(ctx, zone, cloudflare.ListDNSRecordsParams{
					Type: "A", Name: name, ResultInfo: cloudflare.ResultInfo{Page: page, PerPage: perPage},
				})
				if err != nil {
					return nil, err
				}
				if page == 1 {
					total = info.Total
				}
				if info.Page != page || info.Count != len(found) || info.Total != total {
					return nil, fmt.Errorf("%w: an answer that is no listing, or one that changed while it was read", provider.ErrTemporary)
				}
				for _, r := range found {
					if !seen[r.ID] && r.Type == "A" && strings.EqualFold(r.Name, name) { // the filter is trusted with speed only
						all = append(all, r)
					}
					seen[r.ID] = true
				}
				switch {
				case len(seen) == total:
					return all, nil
				case len(found) < perPage:
					return nil, fmt.Errorf("%w: the listing has %d of %d records, it changed while it was read", provider.ErrTemporary, len(seen), total)
				}
			}
		})
	})
}

// AddRecord implements provider.DNS. The request is sent once.
func (d *DNS) AddRecord(ctx context.Context, name string, address netip.Addr, ttl time.Duration) error {
	what := fmt.Sprintf("adding %s to %s", address, name)
	switch {
	case !address.Is4():
		return fmt.Errorf("cloudflare: %s: it is no IPv4 address", what)
	case name != d.config.Zone && !strings.HasSuffix(name, "."+d.config.Zone):
		return fmt.Errorf("cloudflare: %s: it is not in the zone %s", what, d.config.Zone)
	}
	d.mu.Lock()
	records, listed := d.known[name]
	d.mu.Unlock()
	if !listed {
		var err error
		if records, err = d.Records(ctx, name); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(records, func(r provider.Record) bool { return r.Address == address }) {
		return nil
	}
	if err := d.verify(ctx); err != nil {
		return err
	}
	seconds := int(max(ttl, shortestTTL).Seconds())
	if d.config.Proxied {
		seconds = automatic
	}
	made, err := inZone(ctx, d, func(zone *cloudflare.ResourceContainer) (cloudflare.DNSRecord, error) {
		return call(ctx, what, func(ctx context.Context) (cloudflare.DNSRecord, error) {
			return d.create(ctx, zone, newRecord{"A", name, address.String(), seconds, d.config.Proxied, d.comment()})
		})
	})
	var said *apiError
	if errors.As(err, &said) && said.is(codeRecordExists, codeSameRecord) {
		err = nil // ours unseen, or somebody else's: it is there
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil || made.ID == "" {
		delete(d.known, name) // what became of it, the next listing tells
		return err
	}
	if _, listed := d.known[name]; listed {
		d.known[name] = append(d.known[name], provider.Record{ID: made.ID, Name: name, Address: address, TTL: ttl})
	}
	return nil
}

// newRecord is the body of a create. The SDK's own has a zero date and nulls,
// which the vendor's description forbids.
type newRecord struct {
	Type    string `json:"type"`
	Name    string `json:"name"`
	Content string `json:"content"`
	TTL     int    `json:"ttl"` // seconds
	Proxied bool   `json:"proxied"`
	Comment string `json:"comment"`
}

func (d *DNS) create(ctx context.Context, zone *cloudflare.ResourceContainer, record newRecord) (made cloudflare.DNSRecord, err error) {
	answer, err := d.api.Raw(ctx, http.MethodPost, "/zones/"+zone.Identifier+"/dns_records", record, nil)
	if err == nil {
		err = json.Unmarshal(answer.Result, &made)
	}
	return made, err
}

// RemoveRecord implements provider.DNS. It removes what Records has shown, or
// after a look at it.
func (d *DNS) RemoveRecord(ctx context.Context, id string) error {
	what := "removing the record " + id
	if !d.shown(id) {
		record, err := inZone(ctx, d, func(zone *cloudflare.ResourceContainer) (cloudflare.DNSRecord, error) {
			return call(ctx, what, func(ctx context.Context) (cloudflare.DNSRecord, error) {
				return d.api.GetDNSRecord(ctx, zone, id)
			})
		})
		switch {
		case err != nil:
			return err
		case record.ID != id || !d.ours(record):
			return fmt.Errorf("cloudflare: %s: %w", what, errForeign)
		}
	}
	_, err := inZone(ctx, d, func(zone *cloudflare.ResourceContainer) (struct{}, error) {
		return call(ctx, what, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, d.api.DeleteDNSRecord(ctx, zone, id)
		})
	})
	if err == nil || errors.Is(err, provider.ErrNotFound) {
		d.mu.Lock()
		for name, records := range d.known {
			d.known[name] = slices.DeleteFunc(records, func(r provider.Record) bool { return r.ID == id })
		}
		d.mu.Unlock()
	}
	return err
}

// errForeign is a record that somebody else has made.
var errForeign = errors.New("it is somebody else's, by its type or comment")

func (d *DNS) shown(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, records := range d.known {
		if slices.ContainsFunc(records, func(r provider.Record) bool { return r.ID == id }) {
			return true
		}
	}
	return false
}
