package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"adt/events"
)

// behindProxies is the front with proxies.
type behindProxies struct {
	*Autoscaler
	direct inDNS // what is left from before there were proxies
	floor  int
}

func (f behindProxies) publish(ctx context.Context, webservers ...who) error {
	if len(webservers) == 0 {
		return nil
	}
	if _, err := f.readProxies(ctx); err != nil {
		return err
	}
	if err := f.mayAct(ctx); err != nil {
		return err
	}
	b, err := f.changeBook(ctx, func(b *proxyBook) (bool, error) {
		for _, w := range webservers {
			t, found, err := f.termination(w.id)
			if err != nil {
				return false, err
			}
			if found && t.Phase != Waiting || !w.private.IsValid() {
				continue
			}
			b.Wanted[w.private] = w.id
			delete(b.Leaving, w.private)
			f.event(events.Published, w.name, "%s, behind the proxies", w.private)
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	if len(f.proxiesOf(b)) == 0 {
		return fmt.Errorf("%w: no proxy is known", errUndelivered)
	}
	return f.syncProxies(ctx, f.floor)
}

func (f behindProxies) withdraw(ctx context.Context, why string, webservers ...who) error {
	if len(webservers) == 0 {
		return nil
	}
	err := f.direct.withdraw(ctx, why, webservers...)
	if err != nil {
		return err
	}
	if _, err := f.readProxies(ctx); err != nil {
		return err
	}
	if err := f.mayAct(ctx); err != nil {
		return err
	}
	taken := map[netip.Addr]string{}
	_, err = f.changeBook(ctx, func(b *proxyBook) (bool, error) {
		changed := false
		for _, w := range webservers {
			if id, wanted := b.Wanted[w.private]; wanted && id == w.id {
				taken[w.private] = w.id
				delete(b.Wanted, w.private)
				f.event(events.Withdrawn, w.name, "%s%s", w.private, why)
			}
			if _, wanted := b.Wanted[w.private]; wanted {
				continue // another server has the address now
			}
			if _, leaving := b.Leaving[w.private]; !leaving && w.private.IsValid() && len(b.holders(f.proxiesOf(*b), w.private)) > 0 {
				b.Leaving[w.private] = f.Now()
				changed = true
			}
		}
		return changed || len(taken) > 0, nil
	})
	if err != nil {
		return err
	}
	err = f.syncProxies(ctx, f.floor)
	if errors.Is(err, errFloor) {
		return f.putBack(ctx, taken, err)
	}
	b, _, rerr := f.readBook()
	if rerr != nil {
		return rerr
	}
	var held []string
	for _, w := range webservers {
		if _, wanted := b.Wanted[w.private]; !wanted {
			held = append(held, b.holders(f.proxiesOf(b), w.private)...)
		}
	}
	slices.Sort(held)
	switch {
	case err != nil && !errors.Is(err, errUndelivered):
		return err
	case len(held) > 0:
		return fmt.Errorf("%w: still at %s", errUndelivered, strings.Join(slices.Compact(held), ", "))
	}
	return nil
}

// putBack wants those again that a proxy could not do without: what was known of
// other autoscalers' webservers was too old.
func (f behindProxies) putBack(ctx context.Context, taken map[netip.Addr]string, cause error) error {
	_, err := f.changeBook(ctx, func(b *proxyBook) (bool, error) {
		for addr, id := range taken {
			b.Wanted[addr] = id
			delete(b.Leaving, addr)
			f.event(events.BrakeFloor, addr.String(), "stays: %v", cause)
		}
		return len(taken) > 0, nil
	})
	if err != nil {
		return err
	}
	if err := f.syncProxies(ctx, 0); err != nil {
		return err
	}
	return cause // which is that it was not taken out
}
