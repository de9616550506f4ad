package cloudflare

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloudflare/cloudflare-go"

	"adt/provider"
)

// errSetting is a zone that the configuration names and the account lacks.
var errSetting = errors.New("not there")

// inZone runs do with the zone's id. When the vendor does not know an id that
// was kept from an earlier run, it is asked for again, once.
func inZone[T any](ctx context.Context, d *DNS, do func(*cloudflare.ResourceContainer) (T, error)) (T, error) {
	id, kept, err := d.zone(ctx)
	if err != nil {
		var none T
		return none, err
	}
	result, err := do(cloudflare.ZoneIdentifier(id))
	var said *apiError
	if !kept || err == nil || !errors.As(err, &said) || said.is(codeNoRecord) ||
		!errors.Is(err, provider.ErrNotFound) && !errors.Is(err, provider.ErrUnauthorized) {
		return result, err
	}
	if id, err = d.lookUp(ctx); err != nil {
		return result, err
	}
	return do(cloudflare.ZoneIdentifier(id))
}

// zone is the zone's id; kept says that it is from an earlier run and was not
// seen to be right in this one.
func (d *DNS) zone(ctx context.Context) (id string, kept bool, err error) {
	d.mu.Lock()
	if d.zoneID == "" && d.config.LoadZoneID != nil {
		d.zoneID = objectID(d.config.LoadZoneID()) // it becomes part of addresses
	}
	id, kept = d.zoneID, !d.sure
	d.mu.Unlock()
	if id != "" {
		return id, kept, nil
	}
	id, err = d.lookUp(ctx)
	return id, false, err
}

// trust says that the zone's id is right, as an answer has shown.
func (d *DNS) trust() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sure = true
}

// lookUp asks for the zone by its name and keeps its id.
func (d *DNS) lookUp(ctx context.Context) (string, error) {
	found, err := d.findZone(ctx)
	if err != nil {
		return "", err
	}
	d.mu.Lock()
	d.zoneID, d.sure = found.ID, true
	d.mu.Unlock()
	if d.config.SaveZoneID != nil {
		_ = d.config.SaveZoneID(found.ID) // it is asked for again
	}
	return found.ID, nil
}

func (d *DNS) findZone(ctx context.Context) (cloudflare.Zone, error) {
	return call(ctx, "looking up the zone "+d.config.Zone, func(ctx context.Context) (cloudflare.Zone, error) {
		// One that is still moving to Cloudflare counts as well.
		answer, err := d.api.ListZonesContext(ctx, cloudflare.WithZoneFilters(d.config.Zone, d.account, ""))
		if err != nil {
			return cloudflare.Zone{}, err
		}
		for _, z := range answer.Result {
			if z.Name == d.config.Zone && z.ID != "" {
				return z, nil
			}
		}
		return cloudflare.Zone{}, fmt.Errorf("the zone is %w, or the token may not read it: add it at Cloudflare, or give the token the scope Zone:Read", errSetting)
	})
}

// verify makes sure that a kept id is that of the zone: in another zone an
// empty listing would be true, and a new record wrong.
func (d *DNS) verify(ctx context.Context) error {
	id, kept, err := d.zone(ctx)
	if err != nil || !kept {
		return err
	}
	zone, err := call(ctx, "reading the zone "+d.config.Zone, func(ctx context.Context) (cloudflare.Zone, error) {
		return d.api.ZoneDetails(ctx, id)
	})
	switch {
	case err == nil && zone.Name == d.config.Zone:
		d.trust()
		return nil
	case err == nil, errors.Is(err, provider.ErrNotFound), errors.Is(err, provider.ErrUnauthorized):
		_, err = d.lookUp(ctx)
	}
	return err
}

// Examine implements provider.Examiner: the token, and the zone.
func (d *DNS) Examine(ctx context.Context) []provider.Finding {
	var findings []provider.Finding
	if d.api.APIToken != "" {
		f := provider.Finding{What: "Cloudflare token"}
		verified, err := call(ctx, "verifying the token", d.api.VerifyAPIToken)
		switch {
		case err != nil:
			f.Detail, f.Hint = err.Error(), "make a new token with the scopes Zone:Read and DNS:Edit and put it where cloudflare.token points"
		case verified.Status != "active":
			f.Detail, f.Hint = "the token is "+verified.Status, "make a new one, or see the control panel"
		default:
			f.OK, f.Detail = true, "the token is active"
		}
		findings = append(findings, f)
		if !f.OK {
			return findings // the next line would say the same
		}
	}
	f := provider.Finding{What: "zone " + d.config.Zone}
	zone, err := d.findZone(ctx)
	switch {
	case err != nil:
		f.Detail, f.Hint = err.Error(), "see the message"
	case zone.Status != "active" || zone.Paused:
		f.Detail, f.Hint = "the zone is not active: "+zone.Status, "point the domain's name servers at Cloudflare"
	default:
		f.OK, f.Detail = true, "active"
	}
	return append(findings, f)
}
