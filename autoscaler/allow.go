package autoscaler

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Database says who may connect to the fleet's managed database.
type Database struct {
	Private, Public bool           // which addresses of machines
	Ranges          []netip.Prefix // besides them
	Recheck         time.Duration  // after how long the list is read though nothing has changed here
	Adopt           bool           // entries of own webservers that are there already count as ours
	Regions         string         // bucket in which regions tell each other their addresses; "" is one region
}

// entries are those of one machine.
func (d Database) entries(public, private netip.Addr) []netip.Prefix {
	var all []netip.Prefix
	for addr, want := range map[netip.Addr]bool{public: d.Public, private: d.Private} {
		if addr.IsValid() && want {
			all = append(all, single(addr))
		}
	}
	return all
}

func single(addr netip.Addr) netip.Prefix { return netip.PrefixFrom(addr, addr.BitLen()) }

// bearer is for whom an entry is wanted.
type bearer struct {
	Name, ID string
	// later: it is somebody else's to add. It is looked after when the list is
	// read for another reason.
	later bool
}

// grant is an entry, or a region's published address, that adt has added.
type grant struct {
	Name     string    `json:"name"`         // for whom
	ID       string    `json:"id,omitempty"` // of the server
	Unwanted time.Time `json:"unwanted,omitzero"`
	Looks    int       `json:"looks,omitempty"`  // in how many in a row it was unwanted
	Shared   bool      `json:"shared,omitempty"` // the store has it, for who takes over
	Last     bool      `json:"last,omitempty"`   // it stays, as an empty list would let everybody in
	// Removed: it was taken off the list, and a later look has to show it gone.
	Removed bool `json:"removed,omitempty"`
}

// allowed is the record allowlist.json. What adt has added is in Ours before it
// is added, and until it is known to be gone: nothing else is ever removed.
type allowed struct {
	Version   int                     `json:"version"`
	Checked   time.Time               `json:"checked,omitzero"` // when the list was read last
	Wrote     bool                    `json:"wrote,omitempty"`  // and it was changed then
	Listed    []netip.Prefix          `json:"listed"`           // what it held
	Ours      map[netip.Prefix]grant  `json:"ours"`
	Published map[netip.Addr]grant    `json:"published,omitempty"` // to other regions
	Learnt    time.Time               `json:"learnt,omitzero"`     // when others were asked
	Others    map[netip.Prefix]string `json:"others,omitempty"`    // databases and other regions, by name
	Failures  int                     `json:"failures,omitempty"`  // in a row
	Until     time.Time               `json:"until,omitzero"`      // nothing is asked before
	Why       string                  `json:"why,omitempty"`       // the last failure
}

// again is after how long the list is read again that was changed. Vendors know
// only whole lists, so two writers can undo each other; it lasts longer than a
// change may take, so that the one whose entry was lost finds it missing, or the
// one that it took off there again.
const again = time.Minute

// due reports whether the list is to be read whatever is known of it.
func (r *allowed) due(now time.Time, recheck time.Duration) bool {
	if r.Wrote {
		recheck = min(recheck, again)
	}
	return r.Checked.IsZero() || age(now, r.Checked) >= recheck
}

// has reports whether all the entries were on the list.
func (r *allowed) has(entries []netip.Prefix) bool {
	return !slices.ContainsFunc(entries, func(e netip.Prefix) bool { return !slices.Contains(r.Listed, e) })
}

// missing are the wanted entries that a list lacks, in their order.
func missing(wanted map[netip.Prefix]bearer, listed []netip.Prefix, all bool) []netip.Prefix {
	var out []netip.Prefix
	for e, who := range wanted {
		if !slices.Contains(listed, e) && (all || !who.later) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}

// patience is for how long an entry is unwanted before it goes, where nobody
// here has seen its machine gone: what others say may be incomplete for once.
func (s Settings) patience() time.Duration { return max(s.MissingAfter, 2*s.Database.Recheck) }

// release chooses the grants that end: of a server that was destroyed here and
// seen gone at once, of any other when it was unwanted in several looks and for
// that long. It counts the looks. One that was wanted again begins anew.
func release[K comparable](now time.Time, grants map[K]grant, wanted func(K) bool, gone func(id string) bool, patience time.Duration) (end []K, counted bool) {
	for key, g := range grants {
		was := g
		if wanted(key) {
			g.Unwanted, g.Looks, g.Last, g.Removed = time.Time{}, 0, false, false
		} else {
			if g.Looks == 0 {
				g.Unwanted = now
			}
			g.Looks = min(g.Looks+1, looksBeforeGone)
			if g.Removed || gone(g.ID) || g.Looks >= looksBeforeGone && age(now, g.Unwanted) >= patience {
				end = append(end, key)
			}
		}
		if g != was {
			grants[key] = g
			counted = true
		}
	}
	return end, counted
}

// wanted is everybody who shall be on the list, and for the other regions the
// own webservers' public addresses.
func (a *Autoscaler) wanted(inv Inventory, builds []Build, ends []Termination, others map[netip.Prefix]bearer, rec *allowed) (entries map[netip.Prefix]bearer, public map[netip.Addr]bearer) {
	entries, public = map[netip.Prefix]bearer{}, map[netip.Addr]bearer{}
	for _, r := range a.Database.Ranges {
		entries[r] = bearer{Name: "database.ranges"}
	}
	for e, name := range rec.Others {
		entries[e] = bearer{Name: name}
	}
	maps.Copy(entries, others)
	own := func(who bearer, publicIP, privateIP netip.Addr) {
		for _, e := range a.Database.entries(publicIP, privateIP) {
			entries[e] = who
		}
		if publicIP.IsValid() && a.Database.Regions != "" {
			public[publicIP] = who
		}
	}
	for _, k := range inv.Servers {
		own(bearer{Name: k.Name, ID: k.ID}, k.PublicIP, k.PrivateIP)
	}
	for _, b := range builds {
		own(bearer{Name: b.Name, ID: b.ID}, b.PublicIP, b.PrivateIP)
	}
	for _, t := range ends {
		own(bearer{Name: t.Name, ID: t.ID}, t.PublicIP, t.PrivateIP)
	}
	return entries, public
}

// DatabaseName reports whether a machine of that name is a database of the
// fleet: db-<region>-<build>-….
func (f Fleet) DatabaseName(name string) bool {
	rest, ok := strings.CutPrefix(name, "db-"+f.Region+"-"+f.Build+"-")
	return ok && rest != ""
}

// entryText is an entry in the shell toolkit's file and in keys of the store.
func entryText(e netip.Prefix) string {
	if e.IsSingleIP() {
		return e.Addr().String()
	}
	return e.String()
}

func parseEntry(text string) (netip.Prefix, bool) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return single(addr), true
	}
	e, err := netip.ParsePrefix(text)
	return e, err == nil
}
