package firewall

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// iptables keeps one chain in the filter table of either family, which ends with
// a DROP, and a jump to it at the end of INPUT. Rules of others in INPUT come
// first, as fail2ban's must.
type iptables struct{ run Run }

const chain = "adt-input"

// families are the programs of both, in the order in which they are changed.
func families() []string { return []string{"iptables", "ip6tables"} }

// iptablesBase is nftBase in other words; see there.
func iptablesBase(program string) []string {
	all := []string{"-i lo -j ACCEPT", "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"}
	if program == "iptables" {
		for _, kind := range []int{3, 11, 12} {
			all = append(all, fmt.Sprintf("-p icmp -m icmp --icmp-type %d -j ACCEPT", kind))
		}
		return append(all, "-p udp -m udp --sport 67 --dport 68 -j ACCEPT")
	}
	for _, kind := range []int{1, 2, 3, 4, 133, 134, 135, 136} {
		all = append(all, fmt.Sprintf("-p ipv6-icmp -m icmp6 --icmpv6-type %d -j ACCEPT", kind))
	}
	for _, kind := range []int{130, 131, 132, 143} {
		all = append(all, fmt.Sprintf("-s fe80::/10 -p ipv6-icmp -m icmp6 --icmpv6-type %d -j ACCEPT", kind))
	}
	return append(all, "-s fe80::/10 -p udp -m udp --dport 546 -j ACCEPT")
}

// rulesOf returns the rules of one family, as iptables-restore takes them.
func rulesOf(program string, rules []Rule) []string {
	all := iptablesBase(program)
	for _, r := range rules {
		if r.Source.Addr().Is4() != (program == "iptables") {
			continue
		}
		words := ""
		if r.Source.Bits() > 0 {
			words = "-s " + r.Source.String() + " "
		}
		switch {
		case r.Protocol == Ping && program == "iptables":
			words += "-p icmp -m icmp --icmp-type 8"
		case r.Protocol == Ping:
			words += "-p ipv6-icmp -m icmp6 --icmpv6-type 128"
		default:
			words += fmt.Sprintf("-p %s -m %s --dport %s", r.Protocol, r.Protocol, r.ports(":"))
		}
		all = append(all, words+" -j ACCEPT")
	}
	return append(all, "-j DROP")
}

func (i *iptables) Lines(rules []Rule) []string {
	var all []string
	for _, program := range families() {
		for _, rule := range rulesOf(program, rules) {
			all = append(all, program+" "+plain(rule))
		}
	}
	return all
}

// plain leaves out of a rule what changes nothing (the name of a module, a
// comment) and puts the rest in one order: versions differ in that.
func plain(rule string) string {
	order := []string{"-s", "-p", "-i", "--ctstate", "--icmp-type", "--icmpv6-type", "--sport", "--dport", "-j"}
	words, given := strings.Fields(rule), map[string]string{}
	for at := 0; at < len(words); at += 2 {
		switch {
		case at+1 == len(words):
			return rule
		case words[at] == "-m":
		case words[at] == "--comment" && !strings.HasPrefix(words[at+1], `"`): // else it has several words, and is not ours
		case slices.Contains(order, words[at]) && given[words[at]] == "":
			given[words[at]] = words[at+1]
		default:
			return rule
		}
	}
	if states, ok := given["--ctstate"]; ok {
		given["--ctstate"] = strings.Join(slices.Sorted(strings.SplitSeq(states, ",")), ",")
	}
	var out []string
	for _, key := range order {
		if value, ok := given[key]; ok {
			out = append(out, key, value)
		}
	}
	return strings.Join(out, " ")
}

// ruleset is what one family has of ours.
type ruleset struct {
	Chain bool     `json:"chain"` // there is one
	Rules []string `json:"rules"` // of it, as they are
	Jumps int      `json:"jumps"`
	ahead []string // of INPUT, before the first jump
}

func (i *iptables) look(ctx context.Context, program string) (ruleset, error) {
	out, err := i.run(ctx, "", program, "-w", "-S")
	if err != nil {
		return ruleset{}, err
	}
	var t ruleset
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		ours, isOurs := strings.CutPrefix(line, "-A "+chain+" ")
		input, isInput := strings.CutPrefix(line, "-A INPUT ")
		switch {
		case line == "-N "+chain:
			t.Chain = true
		case isOurs:
			t.Rules = append(t.Rules, ours)
		case input == "-j "+chain:
			t.Jumps++
		case isInput && t.Jumps == 0:
			t.ahead = append(t.ahead, input)
		}
	}
	return t, nil
}

func (i *iptables) Read(ctx context.Context) (State, error) {
	s := State{Lines: []string{}, Active: true}
	for _, program := range families() {
		t, err := i.look(ctx, program)
		if err != nil {
			return State{}, err
		}
		for _, rule := range t.Rules {
			s.Lines = append(s.Lines, program+" "+plain(rule))
		}
		last := len(t.Rules) - 1
		drops := slices.Index(t.Rules, "-j DROP")
		if t.Jumps == 0 || drops < 0 {
			s.Active = false
			if t.Chain {
				s.Problems = append(s.Problems, fmt.Sprintf("%s: INPUT does not lead to a DROP in %s: everything is let in", program, chain))
			}
			continue
		}
		if drops != last {
			s.Problems = append(s.Problems, fmt.Sprintf("%s: rules stand behind the DROP in %s and have no effect", program, chain))
		}
		if slices.Contains(t.ahead, "-j ACCEPT") {
			s.Active = false
			s.Problems = append(s.Problems, fmt.Sprintf("%s: INPUT accepts everything before it comes to %s: take that rule away (%s -D INPUT -j ACCEPT)", program, chain, program))
		}
	}
	return s, nil
}

func (i *iptables) Apply(ctx context.Context, rules []Rule) error {
	for _, program := range families() {
		t, err := i.look(ctx, program)
		if err != nil {
			return err
		}
		if err := i.put(ctx, program, t, ruleset{Chain: true, Rules: rulesOf(program, rules), Jumps: max(1, t.Jumps)}); err != nil {
			return err
		}
	}
	return nil
}

// put makes one family so, in one transaction.
func (i *iptables) put(ctx context.Context, program string, is, shall ruleset) error {
	if !is.Chain && !shall.Chain {
		return nil
	}
	lines := []string{"*filter", ":" + chain + " - [0:0]"} // made, or emptied
	for range is.Jumps - shall.Jumps {
		lines = append(lines, "-D INPUT -j "+chain)
	}
	for range shall.Jumps - is.Jumps {
		lines = append(lines, "-A INPUT -j "+chain)
	}
	for _, rule := range shall.Rules {
		lines = append(lines, "-A "+chain+" "+rule)
	}
	if !shall.Chain {
		lines = append(lines, "-X "+chain)
	}
	_, err := i.run(ctx, strings.Join(append(lines, "COMMIT", ""), "\n"), program+"-restore", "-w", "--noflush")
	return err
}

func (i *iptables) Save(ctx context.Context) (string, error) {
	saved, some := map[string]ruleset{}, false
	for _, program := range families() {
		t, err := i.look(ctx, program)
		if err != nil {
			return "", err
		}
		saved[program], some = t, some || t.Chain
	}
	if !some {
		return "", nil
	}
	text, err := json.Marshal(saved)
	return string(text), err
}

func (i *iptables) Restore(ctx context.Context, saved string) error {
	was := map[string]ruleset{}
	if saved != "" {
		if err := json.Unmarshal([]byte(saved), &was); err != nil {
			return fmt.Errorf("what iptables had before: %w", err)
		}
	}
	for _, program := range families() {
		is, err := i.look(ctx, program)
		if err != nil {
			return err
		}
		if err := i.put(ctx, program, is, was[program]); err != nil {
			return err
		}
	}
	return nil
}
