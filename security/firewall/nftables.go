package firewall

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// nftables keeps one table, inet adt, for both families, and leaves the rest of
// the rule set alone. It is replaced as a whole in one transaction of the kernel.
type nftables struct{ run Run }

type nftChain struct {
	Family, Table, Name, Type, Hook, Policy string
}

// match is one condition of a rule: a key of nft and the values it may have.
type match struct {
	key    string
	values []string
}

func (m match) String() string {
	if len(m.values) == 1 {
		return m.key + " " + m.values[0]
	}
	return m.key + " { " + strings.Join(slices.Sorted(slices.Values(m.values)), ", ") + " }"
}

func nftLine(matches ...match) string {
	var words []string
	for _, m := range matches {
		words = append(words, m.String())
	}
	return strings.Join(append(words, "accept"), " ")
}

// nftBase is what every machine needs: itself, answers to what it asked, errors
// that ICMP tells (RFC 4890 for IPv6), neighbour discovery, without which IPv6
// does not work, multicast listener discovery from the own link, and answers of
// DHCP, which come from where nothing was sent to.
func nftBase() []string {
	link := match{"ip6 saddr", []string{"fe80::/10"}}
	return []string{
		nftLine(match{"iifname", []string{"lo"}}),
		nftLine(match{"ct state", []string{"established", "related"}}),
		nftLine(match{"icmp type", []string{"destination-unreachable", "time-exceeded", "parameter-problem"}}),
		nftLine(match{"icmpv6 type", []string{
			"destination-unreachable", "packet-too-big", "time-exceeded", "parameter-problem",
			"nd-router-solicit", "nd-router-advert", "nd-neighbor-solicit", "nd-neighbor-advert",
		}}),
		nftLine(link, match{"icmpv6 type", []string{"mld-listener-query", "mld-listener-report", "mld-listener-done", "mld2-listener-report"}}),
		nftLine(match{"udp sport", []string{"67"}}, match{"udp dport", []string{"68"}}),
		nftLine(link, match{"udp dport", []string{"546"}}),
	}
}

func (n *nftables) Lines(rules []Rule) []string {
	lines := nftBase()
	for _, r := range rules {
		family, icmp := "ip", "icmp"
		if r.Source.Addr().Is6() {
			family, icmp = "ip6", "icmpv6"
		}
		var matches []match
		switch {
		case r.Source.Bits() > 0 && r.Source.IsSingleIP():
			matches = append(matches, match{family + " saddr", []string{r.Source.Addr().String()}})
		case r.Source.Bits() > 0:
			matches = append(matches, match{family + " saddr", []string{r.Source.String()}})
		case r.Protocol != Ping: // which tells its family by itself
			matches = append(matches, match{"meta nfproto", []string{map[string]string{"ip": "ipv4", "ip6": "ipv6"}[family]}})
		}
		if r.Protocol == Ping {
			matches = append(matches, match{icmp + " type", []string{"echo-request"}})
		} else {
			matches = append(matches, match{r.Protocol + " dport", []string{r.ports("-")}})
		}
		lines = append(lines, nftLine(matches...))
	}
	return lines
}

func (n *nftables) Apply(ctx context.Context, rules []Rule) error {
	table := "table inet adt {\n\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n\t\t" +
		strings.Join(n.Lines(rules), "\n\t\t") + "\n\t}\n}\n"
	return n.Restore(ctx, table)
}

// Restore replaces the table in one transaction. It is made first, as what is
// not there cannot be deleted.
func (n *nftables) Restore(ctx context.Context, saved string) error {
	_, err := n.run(ctx, "table inet adt\ndelete table inet adt\n"+saved, "nft", "-f", "-")
	return err
}

// Save returns the table as nft shows it. What tells tables and their flags apart
// is read as text: nft 1.0.6 prints half an object where a table has a flag.
func (n *nftables) Save(ctx context.Context) (string, error) {
	tables, err := n.run(ctx, "", "nft", "list", "tables")
	if err != nil || !slices.Contains(strings.Split(tables, "\n"), "table inet adt") {
		return "", err
	}
	return n.run(ctx, "", "nft", "-s", "list", "table", "inet", "adt")
}

// listing is the part of nft's JSON that matters here.
type listing struct {
	Nftables []struct {
		Chain *nftChain `json:"chain"`
		Rule  *struct {
			Chain string            `json:"chain"`
			Expr  []json.RawMessage `json:"expr"`
		} `json:"rule"`
	} `json:"nftables"`
}

func (n *nftables) Read(ctx context.Context) (State, error) {
	s := State{Lines: []string{}}
	text, err := n.Save(ctx)
	switch {
	case err != nil || text == "":
		return s, err
	case strings.Contains(text, "\tflags dormant"):
		s.Problems = append(s.Problems, "the table inet adt sleeps (flags dormant): everything is let in")
		return s, nil
	}
	out, err := n.run(ctx, "", "nft", "-j", "list", "table", "inet", "adt")
	if err != nil {
		return s, err
	}
	var l listing
	if err := json.Unmarshal([]byte(out), &l); err != nil {
		return s, fmt.Errorf("nft -j list table inet adt: %w", err)
	}
	for _, item := range l.Nftables {
		switch {
		case item.Chain != nil && item.Chain.Name == "input":
			s.Active = item.Chain.Hook == "input" && item.Chain.Policy == "drop"
		case item.Rule != nil && item.Rule.Chain == "input":
			s.Lines = append(s.Lines, nftText(item.Rule.Expr))
		}
	}
	if !s.Active {
		s.Problems = append(s.Problems, "the table inet adt has no chain that drops: everything is let in")
	}
	return s, nil
}

// nftText puts a rule's JSON into the words of Lines. What is not ours to write
// comes out as it is, and so is no line of ours.
func nftText(exprs []json.RawMessage) string {
	var words []string
	for _, raw := range exprs {
		var e struct {
			Match *struct {
				Op    string
				Left  map[string]map[string]any
				Right any
			}
			Counter any
		}
		if json.Unmarshal(raw, &e) != nil {
			words = append(words, string(raw))
			continue
		}
		switch {
		case e.Counter != nil: // it changes nothing
		case e.Match != nil && (e.Match.Op == "==" || e.Match.Op == "in"):
			m := match{key: nftKey(e.Match.Left), values: nftValues(e.Match.Right)}
			if m.key == "" || len(m.values) == 0 {
				words = append(words, string(raw))
			} else {
				words = append(words, m.String())
			}
		case strings.HasPrefix(string(raw), `{"accept"`):
			words = append(words, "accept")
		default:
			words = append(words, string(raw))
		}
	}
	return strings.Join(words, " ")
}

func nftKey(left map[string]map[string]any) string {
	for kind, of := range left {
		switch key := fmt.Sprint(of["key"]); {
		case kind == "payload":
			return fmt.Sprintf("%v %v", of["protocol"], of["field"])
		case kind == "meta" && key == "iifname":
			return key
		case kind == "meta" || kind == "ct":
			return kind + " " + key
		}
	}
	return ""
}

func nftValues(right any) []string {
	switch v := right.(type) {
	case string:
		return []string{v}
	case float64:
		return []string{fmt.Sprint(v)}
	case []any:
		var all []string
		for _, item := range v {
			all = append(all, nftValues(item)...)
		}
		return all
	case map[string]any:
		if set, ok := v["set"]; ok {
			return nftValues(set)
		}
		if prefix, ok := v["prefix"].(map[string]any); ok {
			return []string{fmt.Sprintf("%v/%v", prefix["addr"], prefix["len"])}
		}
		if ends, ok := v["range"].([]any); ok && len(ends) == 2 {
			return []string{fmt.Sprintf("%v-%v", ends[0], ends[1])}
		}
	}
	return nil
}
