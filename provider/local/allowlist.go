package local

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
)

// allowList is the one managed database of a cloud, as far as adt sees it: who
// may connect to it. Nothing is behind it.
type allowList struct {
	Version int            `json:"version"`
	Entries []netip.Prefix `json:"entries"`
}

// Allowed implements provider.AllowList.
func (c *Cloud) Allowed(ctx context.Context) ([]netip.Prefix, error) {
	_, err := c.call(ctx, OpAllowed)
	var list allowList
	if err == nil {
		err = readJSONIfAny(c.path(allowFile), &list)
	}
	if err != nil {
		return nil, fmt.Errorf("local: read the allow list: %w", err)
	}
	return list.Entries, nil
}

// Change implements provider.AllowList. The whole change is made under the
// cloud's lock, so that writers do not meet.
func (c *Cloud) Change(ctx context.Context, add, remove []netip.Prefix) error {
	fault, err := c.call(ctx, OpAllow)
	if err == nil && fault.Kind != "lie" {
		err = c.locked(ctx, func() error {
			var list allowList
			if err := readJSONIfAny(c.path(allowFile), &list); err != nil {
				return err
			}
			next := slices.DeleteFunc(slices.Clone(list.Entries), func(e netip.Prefix) bool { return slices.Contains(remove, e) })
			for _, e := range add {
				if !slices.Contains(next, e) {
					next = append(next, e)
				}
			}
			if slices.Equal(next, list.Entries) {
				return nil
			}
			return writeJSON(c.path(allowFile), allowList{Version: 1, Entries: next})
		})
	}
	if err == nil && fault.Kind == "after" {
		err = errAfter()
	}
	if err != nil {
		return fmt.Errorf("local: change the allow list: %w", err)
	}
	return nil
}
