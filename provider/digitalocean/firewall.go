package digitalocean

import (
	"context"
	"errors"
	"fmt"
	"time"

	"adt/provider"
)

// Attaching may be repeated, and a new droplet may not be known everywhere at
// once. The time is that of all tries.
const (
	attachTries   = 3
	attachTimeout = 15 * time.Second
)

// attach puts a new droplet behind the firewall, also when who asked for the
// droplet is gone by now: nobody would do it later. A failure does not cost the
// server: it is there and billed, and adt doctor tells that it stands open.
func (c *Cloud) attach(ctx context.Context, firewall, name string, droplet int) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attachTimeout)
	defer cancel()
	var err error
	for try := range attachTries {
		if try > 0 && pause(ctx, time.Duration(try)*500*time.Millisecond) != nil {
			break
		}
		_, err = call(ctx, fmt.Sprintf("attaching %s to firewall %s", name, c.firewallName()), func(ctx context.Context) (struct{}, error) {
			return struct{}{}, empty(c.api.Firewalls.AddDroplets(ctx, firewall, droplet))
		})
		if err == nil {
			return
		}
		if errors.Is(err, provider.ErrUnauthorized) || errors.Is(err, provider.ErrRateLimited) {
			break
		}
	}
	c.config.Note(fmt.Sprintf("%v; the server is there without it: add droplet %d by hand", named(err), droplet))
}
