package digitalocean

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/digitalocean/godo"

	"adt/provider"
)

// Database is a managed database cluster of the account: its trusted sources.
type Database struct {
	cloud   *Cloud
	cluster string // name or id
	id      remembered[string]
}

var (
	_ provider.AllowList = (*Database)(nil)
	_ provider.Examiner  = (*Database)(nil)
)

// Database is the cluster with the name or id. It asks nobody.
func (c *Cloud) Database(cluster string) *Database {
	return &Database{cloud: c, cluster: cluster, id: remember[string]()}
}

// mostRules is how many trusted sources the vendor takes.
const mostRules = 100

// rewrites is how often the list is written when another writer undoes it.
const rewrites = 3

// addressRule is the type of the rules that are addresses or ranges.
const addressRule = "ip_addr"

// rule is a trusted source. All that came with it goes back as it is: godo's
// own type would lose the description that an operator gave it.
type rule map[string]json.RawMessage

func (r rule) text(name string) string {
	var text string
	_ = json.Unmarshal(r[name], &text) // what is no text is no address
	return text
}

// entry is the address or range that a rule lets in.
func (r rule) entry() (netip.Prefix, bool) {
	if r.text("type") != addressRule {
		return netip.Prefix{}, false
	}
	value := r.text("value")
	if a, err := netip.ParseAddr(value); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(value)
	return p, err == nil
}

func newRule(entry netip.Prefix) rule {
	value := entry.String()
	if entry.IsSingleIP() {
		value = entry.Addr().String()
	}
	quote := func(text string) json.RawMessage {
		quoted, _ := json.Marshal(text) // never fails
		return quoted
	}
	return rule{"type": quote(addressRule), "value": quote(value), "description": quote("adt")}
}

// Allowed implements provider.AllowList.
func (d *Database) Allowed(ctx context.Context) ([]netip.Prefix, error) {
	rules, err := d.rules(ctx)
	if err != nil {
		return nil, named(err)
	}
	var entries []netip.Prefix
	for _, r := range rules {
		if e, ok := r.entry(); ok && !slices.Contains(entries, e) {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// Change implements provider.AllowList. The vendor takes at most 100 rules and
// no IPv6, and lets everybody in where there is none.
func (d *Database) Change(ctx context.Context, add, remove []netip.Prefix) error {
	return named(d.change(ctx, add, remove))
}

func (d *Database) change(ctx context.Context, add, remove []netip.Prefix) error {
	for _, e := range add {
		if !e.IsValid() || !e.Addr().Is4() {
			return fmt.Errorf("the database takes IPv4 addresses alone, not %s", e)
		}
	}
	for try := 0; ; try++ {
		rules, err := d.rules(ctx)
		if err != nil {
			return err
		}
		next, last := changed(rules, add, remove)
		switch {
		case next == nil:
			return last
		case len(next) > mostRules:
			return fmt.Errorf("%w: the database takes %d rules and would have %d: allow a range instead (database.ranges)", provider.ErrQuota, mostRules, len(next))
		case try == rewrites:
			return fmt.Errorf("%w: another writer undid the change of the database's rules %d times", provider.ErrTemporary, rewrites)
		}
		if err := d.write(ctx, next); err != nil {
			return err
		}
	}
}

// changed returns the rules as they shall be, or nil when they are that
// already. The last one is kept, and the error says so.
func changed(rules []rule, add, remove []netip.Prefix) (next []rule, last error) {
	have := map[netip.Prefix]bool{}
	for _, r := range rules {
		e, ok := r.entry()
		if ok && slices.Contains(remove, e) && !slices.Contains(add, e) {
			continue
		}
		have[e] = have[e] || ok
		next = append(next, r)
	}
	differs := len(next) != len(rules)
	for _, e := range add {
		if !have[e] {
			have[e], differs = true, true
			next = append(next, newRule(e))
		}
	}
	if len(next) == 0 && len(rules) > 0 {
		next, last = rules[:1], fmt.Errorf("the last rule of the database stays: %w", provider.ErrLastEntry)
		differs = len(rules) > 1
	}
	if !differs {
		return nil, last
	}
	return next, last
}

func (d *Database) rules(ctx context.Context) ([]rule, error) {
	path, err := d.path(ctx)
	if err != nil {
		return nil, err
	}
	const what = "reading the database's rules"
	rules, err := call(ctx, what, func(ctx context.Context) ([]rule, error) {
		request, err := d.cloud.api.NewRequest(ctx, http.MethodGet, path, nil)
		if err != nil {
			return nil, err
		}
		var answer struct{ Rules *[]rule }
		if _, err := d.cloud.api.Do(ctx, request, &answer); err != nil {
			return nil, err
		}
		// An empty list read out of an answer that is none would be written back.
		if answer.Rules == nil || slices.ContainsFunc(*answer.Rules, func(r rule) bool { return r.text("type") == "" || r.text("value") == "" }) {
			return nil, fmt.Errorf("%w: an answer that is no list of rules", provider.ErrTemporary)
		}
		return *answer.Rules, nil
	})
	return rules, d.aboutCluster(what, err)
}

// write replaces the rules. The transport repeats no PUT: what it wrote would be
// older by then.
func (d *Database) write(ctx context.Context, rules []rule) error {
	path, err := d.path(ctx)
	if err != nil {
		return err
	}
	written := make([]rule, len(rules))
	for i, r := range rules {
		written[i] = rule{}
		for name, value := range r {
			if name != "cluster_uuid" && name != "created_at" { // the vendor's to say
				written[i][name] = value
			}
		}
	}
	const what = "writing the database's rules"
	_, err = call(ctx, what, func(ctx context.Context) (struct{}, error) {
		request, err := d.cloud.api.NewRequest(ctx, http.MethodPut, path, struct {
			Rules []rule `json:"rules"`
		}{written})
		if err != nil {
			return struct{}{}, err
		}
		response, err := d.cloud.api.Do(ctx, request, nil)
		return struct{}{}, empty(response, err)
	})
	return d.aboutCluster(what, err)
}

func (d *Database) aboutCluster(what string, err error) error {
	if errors.Is(err, provider.ErrNotFound) {
		return fmt.Errorf("%s: the database cluster %q is %w: correct database.cluster", what, d.cluster, errSetting)
	}
	return err
}

func (d *Database) path(ctx context.Context) (string, error) {
	id, err := d.clusterID(ctx)
	return "v2/databases/" + url.PathEscape(id) + "/firewall", err
}

// clusterID is the id that the vendor wants, looked up once a run where the
// configuration has a name.
func (d *Database) clusterID(ctx context.Context) (string, error) {
	if regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(d.cluster) {
		return d.cluster, nil
	}
	return d.id.get(ctx, func() (string, error) {
		const what = "listing database clusters"
		clusters, err := call(ctx, what, func(ctx context.Context) ([]godo.Database, error) {
			request, err := d.cloud.api.NewRequest(ctx, http.MethodGet, "v2/databases", nil)
			if err != nil {
				return nil, err
			}
			var answer struct{ Databases *[]godo.Database }
			_, err = d.cloud.api.Do(ctx, request, &answer)
			if err == nil && answer.Databases == nil {
				err = fmt.Errorf("%w: an answer that is no listing", provider.ErrTemporary)
			}
			if err != nil {
				return nil, err
			}
			return *answer.Databases, nil
		})
		if err != nil {
			return "", err
		}
		for _, cluster := range clusters {
			if cluster.Name == d.cluster && cluster.ID != "" {
				return cluster.ID, nil
			}
		}
		return "", fmt.Errorf("the database cluster %q is %w: correct database.cluster", d.cluster, errSetting)
	})
}

// examineTimeout bounds what is asked about the database.
const examineTimeout = 20 * time.Second

// Examine implements provider.Examiner.
func (d *Database) Examine(ctx context.Context) []provider.Finding {
	ctx, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	return []provider.Finding{finding(ctx, "database "+d.cluster, "database:read and database:update", func(ctx context.Context) (string, error) {
		rules, err := d.rules(ctx)
		if err != nil {
			return "", err
		}
		if len(rules) == 0 {
			return "it has no trusted sources, so everybody may connect; the first that adt adds ends that", nil
		}
		return fmt.Sprintf("%d of at most %d trusted sources", len(rules), mostRules), nil
	})}
}
