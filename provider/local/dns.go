package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"adt/provider"
)

type zone struct {
	Version int               `json:"version"`
	Records []provider.Record `json:"records"`
}

// Records returns the A records with the name, the oldest first.
func (c *Cloud) Records(ctx context.Context, name string) ([]provider.Record, error) {
	records, err := c.records(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("local: records of %s: %w", name, err)
	}
	return records, nil
}

func (c *Cloud) records(ctx context.Context, name string) ([]provider.Record, error) {
	fault, err := c.call(ctx, OpRecords)
	if err != nil {
		return nil, err
	}
	records, err := c.readRecords()
	if err != nil {
		return nil, err
	}
	other := func(r provider.Record) bool { return r.Name != canonical(name) }
	return misreport(fault.Kind, slices.DeleteFunc(records, other), slices.DeleteFunc(fault.Records, other)), nil
}

// AddRecord adds an A record; the same name and address twice is one record,
// which keeps its first TTL.
func (c *Cloud) AddRecord(ctx context.Context, name string, address netip.Addr, ttl time.Duration) error {
	if err := c.addRecord(ctx, provider.Record{Name: canonical(name), Address: address, TTL: ttl}); err != nil {
		return fmt.Errorf("local: add the record %s %s: %w", name, address, err)
	}
	return nil
}

func (c *Cloud) addRecord(ctx context.Context, record provider.Record) error {
	if record.Name == "" || !record.Address.Is4() {
		return errors.New("an A record needs a name and an IPv4 address")
	}
	return c.changeRecords(ctx, OpAddRecord, func(records []provider.Record) error {
		if slices.ContainsFunc(records, func(r provider.Record) bool {
			return r.Name == record.Name && r.Address == record.Address
		}) {
			return nil
		}
		record.ID = "r-" + strings.ToLower(rand.Text()[:12])
		return c.replaceRecords(RecordAdded, record, append(records, record))
	})
}

// RemoveRecord removes the record with the id.
func (c *Cloud) RemoveRecord(ctx context.Context, id string) error {
	err := c.changeRecords(ctx, OpRemoveRecord, func(records []provider.Record) error {
		i := slices.IndexFunc(records, func(r provider.Record) bool { return r.ID == id })
		if i < 0 {
			return provider.ErrNotFound
		}
		removed := records[i] // Delete moves the others into its place
		return c.replaceRecords(RecordRemoved, removed, slices.Delete(records, i, i+1))
	})
	if err != nil {
		return fmt.Errorf("local: remove the record %s: %w", id, err)
	}
	return nil
}

// AllRecords returns the records of all names. It is subject to no fault.
func (c *Cloud) AllRecords() ([]provider.Record, error) {
	records, err := c.readRecords()
	if err != nil {
		return nil, fmt.Errorf("local: read the records: %w", err)
	}
	return records, nil
}

func (c *Cloud) changeRecords(ctx context.Context, op Op, change func([]provider.Record) error) error {
	fault, err := c.call(ctx, op)
	if err != nil || fault.Kind == "lie" {
		return err
	}
	err = c.locked(ctx, func() error {
		records, err := c.readRecords()
		if err != nil {
			return err
		}
		return change(records)
	})
	if err == nil && fault.Kind == "after" {
		return errAfter()
	}
	return err
}

func (c *Cloud) replaceRecords(op string, changed provider.Record, records []provider.Record) error {
	entry := Entry{Op: op, ID: changed.ID, Name: changed.Name, Address: changed.Address}
	return c.change(entry, func() error {
		return writeJSON(c.path(dnsFile), zone{Version: 1, Records: records})
	})
}

func (c *Cloud) readRecords() ([]provider.Record, error) {
	var z zone
	err := readJSONIfAny(c.path(dnsFile), &z)
	return z.Records, err
}

// canonical is how names are kept: as DNS compares them, without a final dot.
func canonical(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}
