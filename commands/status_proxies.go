package commands

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"

	"adt/autoscaler"
)

// proxyRow is one reverse proxy in a status.
type proxyRow struct {
	Name       string     `json:"name"`
	PublicIP   netip.Addr `json:"public_ip"`
	PrivateIP  netip.Addr `json:"private_ip"`
	State      string     `json:"state"` // "" where another autoscaler judges it, or nobody did yet
	Published  bool       `json:"published"`
	Strikes    int        `json:"strikes"`
	Webservers *int       `json:"webservers"` // of all autoscalers, as it confirmed last; null is not known
	Detail     string     `json:"detail"`
}

// proxyRows puts together what is there and what is remembered of it.
func proxyRows(there []autoscaler.Proxy, known []autoscaler.KnownProxy, inDNS map[netip.Addr]bool) []proxyRow {
	var rows []proxyRow
	add := func(p autoscaler.Proxy) {
		row := proxyRow{Name: p.Name, PublicIP: p.PublicIP, PrivateIP: p.PrivateIP, Published: inDNS[p.PublicIP]}
		i := slices.IndexFunc(known, func(k autoscaler.KnownProxy) bool { return k.PrivateIP == p.PrivateIP })
		if i >= 0 {
			k := known[i]
			row.State, row.Strikes, row.Detail = k.State, k.Strikes, k.Detail
			switch {
			case k.Fault != "" && k.Unread:
				row.Detail += "; was never asked what it has: " + k.Fault
			case k.Fault != "":
				row.Detail += "; has not taken the change: " + k.Fault
			}
			row.Detail = strings.TrimPrefix(row.Detail, "; ")
			if holds := k.Holds(); !k.Unread {
				row.Webservers = &holds
			}
		}
		rows = append(rows, row)
	}
	for _, p := range there {
		add(p)
	}
	for _, k := range known {
		if !slices.ContainsFunc(there, func(p autoscaler.Proxy) bool { return p.PrivateIP == k.PrivateIP }) {
			add(autoscaler.Proxy{Name: k.Name, PublicIP: k.PublicIP, PrivateIP: k.PrivateIP})
			rows[len(rows)-1].Detail = "not listed"
		}
	}
	return rows
}

// holds reports whether a proxy has a webserver.
func holds(known []autoscaler.KnownProxy, webserver netip.Addr) bool {
	return slices.ContainsFunc(known, func(k autoscaler.KnownProxy) bool { return slices.Contains(k.May, webserver) })
}

// reached is how many webservers every proxy has that has confirmed any.
func reached(known []autoscaler.KnownProxy) int {
	least := -1
	for _, k := range known {
		if !k.Confirmed.IsZero() && (least < 0 || k.Holds() < least) {
			least = k.Holds()
		}
	}
	return max(0, least)
}

// visited says whether visitors come to a webserver. Which of another
// autoscaler's the proxies have is not known here.
func visited(s *site, r serverRow) string {
	if s.Proxies != nil && r.Shard != s.Shard && !r.Published {
		return "-"
	}
	return yesNo(r.Published)
}

func printProxies(w io.Writer, rows []proxyRow) error {
	if len(rows) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nPROXY\tSTATE\tADDRESS\tIN DNS\tSTRIKES\tWEBSERVERS\tDETAIL")
	for _, r := range rows {
		state, webservers := r.State, "?"
		if state == "" {
			state = "-"
		}
		if r.Webservers != nil {
			webservers = fmt.Sprint(*r.Webservers)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", r.Name, state, r.PublicIP, yesNo(r.Published), r.Strikes, webservers, r.Detail)
	}
	return t.Flush()
}
