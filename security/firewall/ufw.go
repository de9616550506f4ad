package firewall

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// ufw marks its rules with a comment and leaves the operator's alone. Loopback,
// answers, ICMP and DHCP are ufw's own business (before.rules); it answers
// everybody's ping there, so rules for ping are none of this tool's.
type ufw struct {
	run   Run
	files fs.FS
}

// mark is the comment of our rules.
const mark = "adt"

// Lines are in the form of `ufw show added`: a rule that ufw prints in other
// words than it was given would look like a difference for ever.
func (u *ufw) Lines(rules []Rule) []string {
	var lines []string
	for _, r := range rules {
		if r.Protocol == Ping {
			continue
		}
		if r.Source.Bits() > 0 {
			lines = append(lines, ufwFrom(r, r.Source))
			continue
		}
		// To ufw 0.0.0.0/0 is IPv6 too. Where that is not wanted, all of IPv4 is two halves.
		both := 0
		for _, source := range Everywhere() {
			o := r
			o.Source = source
			if slices.ContainsFunc(rules, o.same) {
				both++
			}
		}
		if both == 2 {
			if line := fmt.Sprintf("allow %s/%s", r.ports(":"), r.Protocol); !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
			continue
		}
		for _, half := range halves(r.Source.Addr().Is4()) {
			lines = append(lines, ufwFrom(r, half))
		}
	}
	return lines
}

func halves(four bool) []netip.Prefix {
	if four {
		return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/1"), netip.MustParsePrefix("128.0.0.0/1")}
	}
	return []netip.Prefix{netip.MustParsePrefix("::/1"), netip.MustParsePrefix("8000::/1")}
}

func ufwFrom(r Rule, source netip.Prefix) string {
	text := source.String()
	if source.IsSingleIP() {
		text = source.Addr().String()
	}
	return fmt.Sprintf("allow from %s to any port %s proto %s", text, r.ports(":"), r.Protocol)
}

// ufwState is all that of ufw which a change may touch.
type ufwState struct {
	Enabled bool     `json:"enabled"`
	Deny    bool     `json:"deny"` // or reject: the default for what comes in
	Ours    []string `json:"ours"` // rules
	others  []string // the operator's rules
	policy  string
}

func (u *ufw) look(ctx context.Context) (ufwState, error) {
	var s ufwState
	status, err := u.run(ctx, "", "ufw", "status")
	if err != nil {
		return s, err
	}
	s.Enabled = strings.Contains(status, "Status: active")
	defaults, err := fs.ReadFile(u.files, "etc/default/ufw") // ufw tells them only while it is active
	if err != nil {
		return s, fmt.Errorf("the defaults of ufw: %w", err)
	}
	if m := regexp.MustCompile(`(?m)^DEFAULT_INPUT_POLICY="?([A-Z]+)`).FindSubmatch(defaults); m != nil {
		s.policy = string(m[1])
	}
	s.Deny = s.policy == "DROP" || s.policy == "REJECT"
	added, err := u.run(ctx, "", "ufw", "show", "added")
	if err != nil {
		return s, err
	}
	for line := range strings.Lines(added) {
		rule, ok := strings.CutPrefix(strings.TrimSpace(line), "ufw ")
		if !ok {
			continue
		}
		rule, comment, _ := strings.Cut(rule, " comment ")
		if strings.Trim(comment, "'") == mark {
			s.Ours = append(s.Ours, rule)
		} else {
			s.others = append(s.others, rule)
		}
	}
	return s, nil
}

func (u *ufw) Read(ctx context.Context) (State, error) {
	s, err := u.look(ctx)
	if err != nil {
		return State{}, err
	}
	state := State{Active: s.Enabled && s.Deny, Lines: append([]string{}, s.Ours...), Others: s.others}
	if s.Enabled && !s.Deny {
		state.Problems = append(state.Problems, "ufw lets in what it has no rule for (its default for incoming is "+strings.ToLower(s.policy)+")")
	}
	return state, nil
}

// Apply goes in an order in which nobody who shall come in is cut off meanwhile:
// what is let in first, then what is denied, then what is taken away.
func (u *ufw) Apply(ctx context.Context, rules []Rule) error {
	return u.put(ctx, ufwState{Enabled: true, Deny: true, Ours: u.Lines(rules)})
}

func (u *ufw) put(ctx context.Context, shall ufwState) error {
	is, err := u.look(ctx)
	if err != nil {
		return err
	}
	var steps [][]string
	step := func(words ...string) { steps = append(steps, words) }
	if is.Enabled && !shall.Enabled {
		step("disable")
	}
	for _, rule := range shall.Ours {
		// One that the operator has is as good; a comment of ours would make it ours.
		if !slices.Contains(is.Ours, rule) && !slices.Contains(is.others, rule) {
			step(append(strings.Fields(rule), "comment", mark)...)
		}
	}
	if shall.Deny != is.Deny {
		step("default", map[bool]string{true: "deny", false: "allow"}[shall.Deny], "incoming")
	}
	if shall.Enabled && !is.Enabled {
		step("--force", "enable")
	}
	for _, rule := range is.Ours {
		if !slices.Contains(shall.Ours, rule) {
			step(append([]string{"--force", "delete"}, strings.Fields(rule)...)...)
		}
	}
	for _, words := range steps {
		if _, err := u.run(ctx, "", "ufw", words...); err != nil {
			return err
		}
	}
	return nil
}

func (u *ufw) Save(ctx context.Context) (string, error) {
	s, err := u.look(ctx)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(s)
	return string(text), err
}

func (u *ufw) Restore(ctx context.Context, saved string) error {
	was := ufwState{Deny: true}
	if saved != "" && json.Unmarshal([]byte(saved), &was) != nil {
		return errors.New("what ufw had before cannot be read")
	}
	return u.put(ctx, was)
}
