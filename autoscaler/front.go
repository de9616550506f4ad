package autoscaler

import (
	"context"
	"errors"
	"net/netip"

	"adt/events"
	"adt/provider"
)

// who is a webserver as visitors are led to it.
type who struct {
	id, name        string
	public, private netip.Addr
}

func whoIs(s provider.Server) who { return who{s.ID, s.Name, s.PublicIP, s.PrivateIP} }

// front is where visitors come in: the webservers' own addresses in DNS, or
// reverse proxies.
type front interface {
	// publish leads visitors to webservers, but to none whose end is recorded.
	publish(ctx context.Context, webservers ...who) error
	// withdraw leads no visitor to them any more; nil says that it is certain.
	withdraw(ctx context.Context, why string, webservers ...who) error
}

// errUndelivered says that what was decided is recorded and did not reach every
// proxy: it is tried again, and stops nothing else.
var errUndelivered = errors.New("not at every proxy yet")

// front is the one of this fleet. records are the A records, as new as who asks
// wants them. floor is how many webservers a proxy must keep.
func (a *Autoscaler) front(records func(context.Context) ([]provider.Record, error), floor int) front {
	direct := inDNS{a, records}
	if a.Proxies == nil {
		return direct
	}
	return behindProxies{a, direct, floor}
}

// frontAfter is the front for one of many builds and terminations: it looks at
// DNS anew.
func (a *Autoscaler) frontAfter(l *looks) front {
	return a.front(func(ctx context.Context) ([]provider.Record, error) {
		records, _, err := l.records.since(ctx, a.Now())
		return records, err
	}, 0)
}

// inDNS is a front without proxies.
type inDNS struct {
	*Autoscaler
	records func(context.Context) ([]provider.Record, error)
}

func (f inDNS) publish(ctx context.Context, webservers ...who) error {
	var errs []error
	for _, w := range webservers {
		errs = append(errs, f.addRecord(ctx, w.id, w.name, w.public))
	}
	return errors.Join(errs...)
}

func (f inDNS) withdraw(ctx context.Context, why string, webservers ...who) error {
	var errs []error
	for _, w := range webservers {
		if w.public.IsValid() {
			errs = append(errs, f.withdrawOne(ctx, why, w))
		}
	}
	return errors.Join(errs...)
}

func (f inDNS) withdrawOne(ctx context.Context, why string, w who) error {
	records, err := f.records(ctx)
	if err != nil {
		f.event(events.DNSFailed, w.name, "%v", err)
		return err
	}
	for _, r := range records {
		if r.Address != w.public {
			continue
		}
		if err := f.removeRecord(ctx, r); err != nil {
			f.event(events.DNSFailed, w.name, "%v", err)
			return err
		}
		f.event(events.Withdrawn, w.name, "%s%s", r.Address, why)
	}
	return nil
}
