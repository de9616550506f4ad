// Package cron knows crontabs: what their lines run, which lines adt wants, and
// how these get into a table and out again. It is pure: a table is a text. It must
// not know where tables are kept, nor what the commands in them do.
package cron

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"

	robfig "github.com/robfig/cron/v3"
)

// Table is one crontab.
type Table struct {
	Name  string // for people: /etc/cron.d/adt, "the crontab of root"
	Owner string // whose commands these are; "" where each line names its user, as in /etc/crontab
	Text  string
}

// Job is a line of a table that runs a command.
type Job struct {
	Table   string // its name
	Line    int    // from 1
	Text    string // the whole line
	When    string // five fields, or @daily and its like
	User    string // who runs it
	Command string
	Home    string // $HOME as the table or the command sets it; "" is the user's own
	Ours    bool   // it is in adt's block
}

// Place is where the job is, for people.
func (j Job) Place() string { return fmt.Sprintf("%s:%d", j.Table, j.Line) }

// Jobs returns what a table runs. Lines that cron would refuse are passed over.
func (t Table) Jobs() []Job {
	setting := regexp.MustCompile(`^["']?([A-Za-z_][A-Za-z0-9_]*)["']?\s*=\s*(.*)$`)
	homed := regexp.MustCompile(`(?:^|[\s;&(])HOME=("[^"]*"|'[^']*'|[^\s;&]*)`)
	fields := 5 // of the time
	if t.Owner == "" {
		fields++
	}
	var jobs []Job
	home, ours := "", false
	number := 0
	for line := range strings.SplitSeq(t.Text, "\n") {
		number++
		text := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(text, begin):
			ours = true
		case strings.HasPrefix(text, end):
			ours = false
		}
		if text == "" || text[0] == '#' {
			continue
		}
		if m := setting.FindStringSubmatch(text); m != nil {
			if m[1] == "HOME" {
				home = unquote(m[2])
			}
			continue
		}
		n := fields
		if text[0] == '@' {
			n -= 4
		}
		parts, command, ok := cut(text, n)
		if !ok {
			continue
		}
		j := Job{Table: t.Name, Line: number, Text: line, User: t.Owner, Command: command, Home: home, Ours: ours}
		if t.Owner == "" {
			j.User, parts = parts[n-1], parts[:n-1]
		}
		j.When = strings.TrimPrefix(strings.Join(parts, " "), "-") // cronie's mark for: not to be logged
		if m := homed.FindStringSubmatch(command); m != nil {
			j.Home = unquote(m[1])
		}
		jobs = append(jobs, j)
	}
	return jobs
}

// cut takes n words off the front of a line; the rest must not be empty.
func cut(line string, n int) (words []string, rest string, ok bool) {
	for range n {
		i := strings.IndexAny(line, " \t")
		if i < 0 {
			return nil, "", false
		}
		words, line = append(words, line[:i]), strings.TrimLeft(line[i:], " \t")
	}
	return words, line, line != ""
}

func unquote(text string) string {
	if n := len(text); n >= 2 && text[0] == text[n-1] && (text[0] == '"' || text[0] == '\'') {
		return text[1 : n-1]
	}
	return text
}

// Runs reports whether a command runs program with these arguments and no others
// but a configuration and --json: adt scale --count 3 is no adt scale.
func Runs(command, program string, args ...string) bool {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = regexp.QuoteMeta(a)
	}
	pattern := `(?:^|[\s;&|(/'"])` + regexp.QuoteMeta(program) + `['"]?(?:\s+(?:-c|--?config)[ =]\S+)?\s+` + strings.Join(quoted, `\s+`) +
		`(?:\s+--?json)?\s*(?:$|[;&|)#]|\d?[<>])`
	return regexp.MustCompile(pattern).MatchString(command)
}

// Boot is when cron starts what is to run once after a boot.
const Boot = "@reboot"

// Interval is the longest time between two firings of an expression, as far as
// the next week shows. It is an error for one that cron does not know or that is
// no time of day.
func Interval(when string) (time.Duration, error) {
	if strings.HasPrefix(when, Boot) || strings.HasPrefix(when, "@every") {
		return 0, fmt.Errorf("%q is no time of day", when)
	}
	parts := strings.Fields(when)
	if len(parts) == 5 {
		days := strings.Split(parts[4], ",")
		for i, day := range days {
			if day == "7" { // Sunday, which the library knows by one number
				days[i] = "0"
			}
		}
		parts[4] = strings.Join(days, ",")
	}
	spec, err := robfig.ParseStandard("TZ=UTC " + strings.Join(parts, " "))
	if err != nil {
		return 0, fmt.Errorf("%q is no time that cron knows", when)
	}
	at := spec.Next(time.Unix(0, 0).UTC())
	if at.IsZero() {
		return 0, fmt.Errorf("%q never comes", when)
	}
	longest := time.Duration(0)
	for until := at.Add(7 * 24 * time.Hour); at.Before(until) || longest == 0; {
		next := spec.Next(at)
		if next.IsZero() {
			return 0, fmt.Errorf("%q never comes again", when)
		}
		longest, at = max(longest, next.Sub(at)), next
	}
	return longest, nil
}

// Entry is one command that cron shall start.
type Entry struct {
	When  string
	Delay time.Duration // after the full minute; whole seconds
	Args  []string      // of adt
	Quiet bool          // its report is thrown away, what goes wrong is not
	Why   string        // the comment above it
}

// Name is what its record and its metrics are called.
func (e Entry) Name() string { return strings.Join(e.Args, " ") }

// Plan is what a crontab shall hold of adt.
type Plan struct {
	Program  string // absolute path
	Config   string // of adt.toml, where that is not found by itself; "" is found
	Home     string
	MailTo   string // "" leaves what the table has, "none" is nobody
	TimeZone string // in which the commands tell times; "" leaves what the table has
	User     string // who runs the commands; "" in a user's own table
	Entries  []Entry
}

// What adt's lines are between. Lines that begin like these are looked for, so
// that later versions may say more.
const (
	begin = "# BEGIN adt"
	end   = "# END adt"
)

// Block returns adt's lines, with the marks around them.
func (p Plan) Block() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("%s: adt cron install replaces what is in here; own lines and settings go above", begin)
	line("HOME=%s", setTo(p.Home))
	switch p.MailTo {
	case "":
	case "none":
		line(`MAILTO=""`)
	default:
		line("MAILTO=%s", setTo(p.MailTo))
	}
	if p.TimeZone != "" {
		line("TZ=%s", setTo(p.TimeZone))
	}
	for _, e := range p.Entries {
		line("# %s", e.Why)
		line("%s", p.Line(e))
	}
	line("%s", end)
	return b.String()
}

// Line is the line of one entry.
func (p Plan) Line(e Entry) string {
	words := []string{e.When}
	if p.User != "" {
		words = append(words, p.User)
	}
	if e.Delay > 0 {
		words = append(words, fmt.Sprintf("sleep %d;", int(e.Delay.Seconds())))
	}
	words = append(words, shell(p.Program))
	if p.Config != "" {
		words = append(words, "-c", shell(p.Config))
	}
	for _, a := range e.Args {
		words = append(words, shell(a))
	}
	if e.Quiet {
		words = append(words, ">/dev/null")
	}
	return strings.Join(words, " ")
}

// setTo quotes the value of a setting, whose blanks cron would cut off.
func setTo(value string) string {
	if strings.ContainsAny(value, " \t'") {
		return `"` + value + `"`
	}
	return value
}

// shell quotes a word for /bin/sh and for cron, to which % is a line break.
func shell(word string) string {
	if !regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`).MatchString(word) {
		word = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return strings.ReplaceAll(word, "%", `\%`)
}

// Check says what of a plan no crontab can hold.
func (p Plan) Check() error {
	if p.User != "" && !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`).MatchString(p.User) {
		return fmt.Errorf("cron.user must be the name of a user, is %q", p.User)
	}
	for what, value := range map[string]string{"the program's path": p.Program, "the path of adt.toml": p.Config, "$HOME": p.Home, "cron.mailto": p.MailTo, "cron.time_zone": p.TimeZone} {
		if strings.ContainsAny(value, "\n\r\x00") || strings.Contains(value, `"`) {
			return fmt.Errorf("%s has a quotation mark or a line break, which no crontab can hold: %q", what, value)
		}
	}
	if !path.IsAbs(p.Program) || !path.IsAbs(p.Home) {
		return fmt.Errorf("cron needs absolute paths, not %q and %q", p.Program, p.Home)
	}
	return nil
}

// Split finds adt's block in a table. What is around it is the operator's.
func Split(table string) (before, block, after string, err error) {
	from, upto := -1, -1
	lines := strings.SplitAfter(table, "\n")
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, begin):
			if from >= 0 {
				return "", "", "", fmt.Errorf("line %d: a second %q: take one of the blocks out by hand", i+1, begin)
			}
			from = i
		case strings.HasPrefix(line, end):
			if from < 0 || upto >= 0 {
				return "", "", "", fmt.Errorf("line %d: %q without a %q before it: take it out by hand", i+1, end, begin)
			}
			upto = i
		}
	}
	switch {
	case from < 0:
		return table, "", "", nil
	case upto < 0:
		return "", "", "", fmt.Errorf("line %d: %q has no %q after it: put that behind adt's last line by hand", from+1, begin, end)
	}
	join := func(lines []string) string { return strings.Join(lines, "") }
	return join(lines[:from]), join(lines[from : upto+1]), join(lines[upto+1:]), nil
}

// Install returns the table with the block at its end: there the operator's
// settings above hold for it, and its own for nothing else. Other lines stay as
// they are, in their order.
func Install(table, block string) (string, error) {
	others, err := Remove(table)
	if err != nil {
		return "", err
	}
	if others != "" && !strings.HasSuffix(others, "\n") {
		others += "\n"
	}
	return others + block, nil
}

// Remove returns the table without adt's block.
func Remove(table string) (string, error) {
	before, _, after, err := Split(table)
	return before + after, err
}

// Diff returns the lines that differ, with - before what goes and + before what
// comes; "" for equal tables.
func Diff(old, new string) string {
	a, b := lines(old), lines(new)
	// common[i][j] is the length of the longest common part of a[i:] and b[j:].
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if common[i][j] = max(common[i+1][j], common[i][j+1]); a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			}
		}
	}
	var out strings.Builder
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			out.WriteString("- " + a[i] + "\n")
			i++
		default:
			out.WriteString("+ " + b[j] + "\n")
			j++
		}
	}
	return out.String()
}

func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// Entry returns the entry that a job runs, if it is one.
func (p Plan) Entry(j Job) (Entry, bool) {
	for _, e := range p.Entries {
		if Runs(j.Command, "adt", e.Args...) {
			return e, true
		}
	}
	return Entry{}, false
}

// Others returns the jobs of tables that run one of the plan's commands on the same
// $HOME, outside of adt's block in the table where that is kept. home tells the
// home of a user; "" is not known, and counts as the same.
func (p Plan) Others(tables []Table, kept string, home func(user string) string) []Job {
	var out []Job
	for _, t := range tables {
		for _, j := range t.Jobs() {
			at := j.Home
			if at == "" {
				at = home(j.User)
			}
			if _, runs := p.Entry(j); runs && !(j.Ours && t.Name == kept) && (at == "" || path.Clean(at) == path.Clean(p.Home)) {
				out = append(out, j)
			}
		}
	}
	return out
}
