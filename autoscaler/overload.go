package autoscaler

import (
	"context"
	"net/netip"
	"slices"
	"strings"
)

// PublishOverload makes the store say that this machine is overloaded, or not, as the
// shell toolkit does: overloadedips/<public ip>. published are the keys that it was
// told before; it returns those that it has now. What the store does not take is an
// event, and the next call's.
func (a *Autoscaler) PublishOverload(ctx context.Context, own []netip.Addr, overloaded bool, published []string) []string {
	var want []string
	for _, key := range announcedKeys(own) {
		if address, public := strings.CutPrefix(key, "autoscalerpublicips/"); public && overloaded {
			want = append(want, "overloadedips/"+address)
		}
	}
	var have []string
	for _, key := range want {
		if slices.Contains(published, key) || a.note(ctx, key) {
			have = append(have, key)
		}
	}
	for _, key := range published {
		if !slices.Contains(want, key) && !a.forget(ctx, key) {
			have = append(have, key)
		}
	}
	return have
}
