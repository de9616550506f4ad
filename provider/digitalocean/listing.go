package digitalocean

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/digitalocean/godo"

	"adt/provider"
)

// perPage is the most that the API gives at once.
const perPage = 200

// list reads every page of the listing at the path, whose items are under the
// name. It returns all or an error: pages that do not add up to one total are a
// listing that changed while it was read. An item on two pages, which is what
// happens when another appears meanwhile, counts once.
func list[T any, K comparable](ctx context.Context, c *Cloud, path string, query url.Values, name string, key func(*T) K) ([]T, error) {
	changed := func(has, of int) error {
		return fmt.Errorf("%w: the listing has %d of %d items, it changed while it was read", provider.ErrTemporary, has, of)
	}
	query.Set("per_page", strconv.Itoa(perPage))
	var items []T
	seen := map[K]bool{}
	for number, total := 1, 0; ; number++ {
		query.Set("page", strconv.Itoa(number))
		p, err := readPage[T](ctx, c, path+"?"+query.Encode(), name)
		if err != nil {
			return nil, err
		}
		if number == 1 {
			total = p.total
		}
		before := len(items)
		for _, item := range p.items {
			if k := key(item); !seen[k] {
				seen[k] = true
				items = append(items, *item)
			}
		}
		switch {
		case p.total != total || len(items) > total:
			return nil, changed(len(items), p.total)
		case p.last && len(items) < total:
			return nil, changed(len(items), total)
		case p.last:
			return items, nil
		case len(items) == before: // or it might go on for ever
			return nil, fmt.Errorf("%w: page %d of the listing has nothing new and is not the last", provider.ErrTemporary, number)
		}
	}
}

type page[T any] struct {
	items []*T
	total int // on all pages
	last  bool
}

// readPage is strict where godo's own calls are not: to them an answer of "{}"
// is an empty account.
func readPage[T any](ctx context.Context, c *Cloud, path, name string) (p page[T], err error) {
	request, err := c.api.NewRequest(ctx, http.MethodGet, path, nil)
	if err != nil {
		return p, err
	}
	var answer map[string]json.RawMessage
	if _, err := c.api.Do(ctx, request, &answer); err != nil {
		return p, err
	}
	var meta struct{ Total *int }
	var links godo.Links
	for part, into := range map[string]any{name: &p.items, "meta": &meta, "links": &links} {
		if raw, there := answer[part]; there {
			if err := json.Unmarshal(raw, into); err != nil {
				return p, err
			}
		}
	}
	if p.items == nil || slices.Contains(p.items, nil) || meta.Total == nil {
		return p, fmt.Errorf("%w: an answer that is no listing", provider.ErrTemporary)
	}
	p.total, p.last = *meta.Total, links.IsLastPage()
	return p, nil
}
