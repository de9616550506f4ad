package cron

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func plan() Plan {
	return Plan{Program: "/usr/local/bin/adt", Home: "/home/agile", Entries: []Entry{
		{When: "* * * * *", Args: []string{"scale"}, Why: "build"},
		{When: "* * * * *", Delay: 20 * time.Second, Args: []string{"healthcheck"}, Why: "probe"},
		{When: "*/5 * * * *", Args: []string{"firewall", "status"}, Why: "look"},
	}}
}

func TestJobs(t *testing.T) {
	user := Table{Name: "the crontab of agile", Owner: "agile", Text: `# a comment
MAILTO=""
  * * * * *   adt scale
HOME = "/srv/a b"
@daily tidy --up
* * * * * export HOME=/home/x && /home/x/cron/PerformScalingFromCron.sh
*/5 1-3 * * mon HOME='/srv/c' adt healthcheck >/dev/null
# BEGIN adt: more
* * * * * root adt
# END adt
* * * *
five words are no job`}
	system := Table{Name: "/etc/cron.d/x", Text: "-*/2 * * * * root adt scale\n@reboot  www-data\tadt healthcheck\n* * * * * root\n"}
	var got []Job
	for _, table := range []Table{user, system} {
		got = append(got, table.Jobs()...)
	}
	for i := range got {
		got[i].Text = ""
	}
	const u, s = "the crontab of agile", "/etc/cron.d/x"
	want := []Job{
		{Table: u, Line: 3, When: "* * * * *", User: "agile", Command: "adt scale"},
		{Table: u, Line: 5, When: "@daily", User: "agile", Command: "tidy --up", Home: "/srv/a b"},
		{Table: u, Line: 6, When: "* * * * *", User: "agile", Command: "export HOME=/home/x && /home/x/cron/PerformScalingFromCron.sh", Home: "/home/x"},
		{Table: u, Line: 7, When: "*/5 1-3 * * mon", User: "agile", Command: "HOME='/srv/c' adt healthcheck >/dev/null", Home: "/srv/c"},
		{Table: u, Line: 9, When: "* * * * *", User: "agile", Command: "root adt", Home: "/srv/a b", Ours: true},
		{Table: s, Line: 1, When: "*/2 * * * *", User: "root", Command: "adt scale"},
		{Table: s, Line: 2, When: "@reboot", User: "www-data", Command: "adt healthcheck"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestRuns(t *testing.T) {
	for command, want := range map[string]bool{
		"adt scale":                                   true,
		"/usr/local/bin/adt scale":                    true,
		"sleep 10; adt scale":                         true,
		"sleep 10 && /opt/adt -c /etc/adt.toml scale": true,
		"adt --config=/etc/adt.toml scale --json":     true,
		"nice -n 10 adt scale 2>&1 | logger":          true,
		"adt scale >/dev/null 2>&1":                   true,
		"adt scale; adt healthcheck":                  true,
		"(cd /; adt scale)":                           true,
		"'/opt/a b/adt' scale":                        true,
		"adt scale --count 3":                         false, // sets a profile
		"adt scale --dry-run":                         false,
		"adt scales":                                  false,
		"badt scale":                                  false,
		"adt.sh scale":                                false,
		"echo adt":                                    false,
		"adt":                                         false,
		"adt healthcheck":                             false,
	} {
		if got := Runs(command, "adt", "scale"); got != want {
			t.Errorf("%s: %v", command, got)
		}
	}
	if !Runs("adt firewall  status", "adt", "firewall", "status") || Runs("adt firewall setup", "adt", "firewall", "status") {
		t.Error("two words")
	}
}

func TestInterval(t *testing.T) {
	for when, want := range map[string]time.Duration{
		"* * * * *": time.Minute, "*/1 * * * *": time.Minute, "*/7 * * * *": 7 * time.Minute, "@hourly": time.Hour,
		"0 8,20 * * *": 12 * time.Hour, "30 3 * * 7": 7 * 24 * time.Hour, "0 0 1 1 *": 365 * 24 * time.Hour, "*/5 8-17 * * *": 14*time.Hour + 5*time.Minute,
	} {
		if got, err := Interval(when); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", when, got, err, want)
		}
	}
	for _, when := range []string{"", "@reboot", "@every 1s", "60 * * * *", "* * * *", "0 0 31 2 *", "TZ=0 * * * * *"} {
		if got, err := Interval(when); err == nil {
			t.Errorf("%q: %v", when, got)
		}
	}
}

func TestBlock(t *testing.T) {
	p := plan()
	p.User, p.MailTo, p.TimeZone, p.Config = "root", "ops@example.com", "Europe/London", "/etc/100% adt/adt.toml"
	want := `# BEGIN adt: adt cron install replaces what is in here; own lines and settings go above
HOME=/home/agile
MAILTO=ops@example.com
TZ=Europe/London
# build
* * * * * root /usr/local/bin/adt -c '/etc/100\% adt/adt.toml' scale
# probe
* * * * * root sleep 20; /usr/local/bin/adt -c '/etc/100\% adt/adt.toml' healthcheck
# look
*/5 * * * * root /usr/local/bin/adt -c '/etc/100\% adt/adt.toml' firewall status
# END adt
`
	if d := cmp.Diff(want, p.Block()); d != "" {
		t.Error(d)
	}
	p.MailTo = "none"
	if !strings.Contains(p.Block(), "\nMAILTO=\"\"\n") {
		t.Error(p.Block())
	}
	// What it writes, it reads: with the quotes of a path that needs them.
	p.Config, p.Home = "", "/home/a b"
	for _, j := range (Table{Name: "t", Text: p.Block()}).Jobs() {
		if _, ok := p.Entry(j); !ok || !j.Ours || j.User != "root" || j.Home != "/home/a b" {
			t.Errorf("%+v", j)
		}
	}
}

func TestCheck(t *testing.T) {
	if err := plan().Check(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Plan){
		"line break":       func(p *Plan) { p.MailTo = "a\nb" },
		"quotation mark":   func(p *Plan) { p.Home = `/home/"a"` },
		"relative program": func(p *Plan) { p.Program = "adt" },
		"no home":          func(p *Plan) { p.Home = "" },
		"user":             func(p *Plan) { p.User = "root adt" },
	} {
		p := plan()
		change(&p)
		if p.Check() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSplitRefuses(t *testing.T) {
	for table, want := range map[string]string{
		"a\n# BEGIN adt: x\nb\n": "line 2",
		"a\n# END adt\n":         "line 2",
		"# BEGIN adt\n# END adt\n# BEGIN adt\n# END adt\n": "line 3",
		"# BEGIN adt\n# END adt\n# END adt\n":              "line 3",
	} {
		if _, err := Install(table, plan().Block()); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v", table, err)
		}
	}
}

// Whatever the operator has, all of it stays, in its order; what is installed twice
// is there once, and what is taken out again leaves what was before.
func TestInstallKeepsAllElse(t *testing.T) {
	line := rapid.SampledFrom([]string{"", "# mine", "MAILTO=me", "* * * * * true", "@daily x", "  ", "# BEGINNING", "#END adt", "ü"})
	rapid.Check(t, func(t *rapid.T) {
		own := strings.Join(rapid.SliceOf(line).Draw(t, "own"), "\n")
		if own != "" && rapid.Bool().Draw(t, "whole") {
			own += "\n"
		}
		block := plan().Block()
		once, err := Install(own, block)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := Install(once, block); err != nil || twice != once {
			t.Errorf("%v: again it is %q, was %q", err, twice, once)
		}
		after := rapid.SliceOf(line).Draw(t, "after")
		more := once + strings.Join(after, "\n") // written below by hand
		moved, err := Install(more, "# BEGIN adt\nnew\n# END adt\n")
		rest, _ := Remove(more)
		if err != nil || !strings.HasSuffix(moved, "# BEGIN adt\nnew\n# END adt\n") || strings.Contains(moved, block) || !strings.HasPrefix(moved, rest) {
			t.Errorf("%v: %q became %q", err, more, moved)
		}
		gone, err := Remove(once)
		if err != nil || strings.TrimSuffix(gone, "\n") != strings.TrimSuffix(own, "\n") {
			t.Errorf("%v: taken out it is %q, was %q", err, gone, own)
		}
	})
}

func TestDiff(t *testing.T) {
	if got := Diff("a\nb\nc\n", "a\nc\nd\n"); got != "- b\n+ d\n" {
		t.Errorf("%q", got)
	}
	if Diff("a\n", "a\n") != "" || Diff("", "a\n") != "+ a\n" || Diff("a\n", "") != "- a\n" {
		t.Error("edges")
	}
}

func TestOthers(t *testing.T) {
	home := func(user string) string { return map[string]string{"root": "/root", "agile": "/home/agile/"}[user] }
	const target = "/etc/cron.d/adt"
	tables := []Table{
		{Name: target, Text: plan().Block()[:strings.Index(plan().Block(), "# END")] + "* * * * * root HOME=/home/agile adt scale\n# END adt\n* * * * * root HOME=/home/agile adt scale\n"},
		{Name: "/etc/crontab", Text: "* * * * * root adt scale\n* * * * * agile adt scale\n* * * * * agile adt scale --count 2\n* * * * * nobody adt scale\n"},
		{Name: "the crontab of agile", Owner: "agile", Text: "* * * * * adt healthcheck\nHOME=/home/other\n* * * * * adt healthcheck\n"},
	}
	var got []string
	for _, j := range plan().Others(tables, target, home) {
		got = append(got, j.Place())
	}
	// Another home is another installation; that of an unknown user may be this one.
	want := []string{target + ":11", "/etc/crontab:2", "/etc/crontab:4", "the crontab of agile:1"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// The lines are of the forms that the versions of the original's InitialiseCron.sh
// write.
func TestMigrate(t *testing.T) {
	const own = "0 4 * * * /root/bin/backup.sh"
	table := Table{Name: "the crontab of root", Owner: "root", Text: strings.Join([]string{
		"MAILTO=''",
		"*/1 * * * * export HOME=/home/X1 && /bin/sleep 30 && /home/X1/utilities/processing/UpdateIPs.sh",
		"*/1 * * * * export HOME=/home/X1 && /home/X1/services/cron/SetupFirewallFromCron.sh",
		"*/1 * * * * export HOME=/home/X1 && /home/X1/providerscripts/utilities/housekeeping/RemoveExpiredLocks.sh",
		"*/5 * * * * export HOME=/home/X1 && /home/X1/autoscaler/RecordNumberOfWebserversRunning.sh",
		"@reboot export TZ=\":Europe/London\"",
		"@reboot export HOME=/home/X1 && /home/X1/providerscripts/utilities/housekeeping/RemoveExpiredLocks.sh reboot",
		"*/2 * * * * export HOME=/home/X1 && /home/X1/cron/PerformScalingFromCron.sh",
		"*/3 * * * * export HOME=/home/X1 && /home/X1/services/cron/DeadOrAliveFromCron.sh",
		"#*/3 * * * * export HOME=/home/X1 && /home/X1/cron/DeadOrAliveFromCron.sh",
		"30 7 * * *  export HOME=/home/X1 && /home/X1/providerscripts/utilities/processing/DailyScaleup.sh 3",
		own,
		"@daily  export HOME=/home/X1 && /bin/sleep 7 && /usr/bin/nice -n 15 /home/X1/utilities/security/VirusScan.sh",
	}, "\n") + "\n"}
	after, found := plan().Migrate(table)
	var gone, stay []int
	for _, m := range found {
		if m.By != "" {
			gone = append(gone, m.Line)
		} else if stay = append(stay, m.Line); m.Why == "" {
			t.Errorf("%s stays, and nobody says why", m.Text)
		}
	}
	if d := cmp.Diff([][]int{{3, 4, 5, 8, 9}, {2, 7, 11, 13}}, [][]int{gone, stay}); d != "" {
		t.Error(d)
	}
	if !strings.Contains(after, "\n"+own+"\n") || strings.Count(after, "\n") != strings.Count(table.Text, "\n") {
		t.Error(after)
	}
	if d := Diff(table.Text, after); strings.Count(d, "- ") != 5 || strings.Count(d, "+ "+replacedMark) != 5 {
		t.Error(d)
	}
	if got := Restorable(after); len(got) != 5 || got[3] != "*/2 * * * * export HOME=/home/X1 && /home/X1/cron/PerformScalingFromCron.sh" {
		t.Errorf("%q", got)
	}
	if again, found := plan().Migrate(Table{Name: table.Name, Owner: "root", Text: after}); again != after || len(found) != 4 {
		t.Error("not the same a second time")
	}
	// Without the command that does it, a line stays.
	p := plan()
	p.Entries = p.Entries[:1]
	if _, found := p.Migrate(table); found[1].By != "" || found[7].By != "" {
		t.Errorf("%+v", found)
	}
}

// Any text may stand in a crontab: nothing of it is lost, and nothing ends the
// program.
func FuzzTable(f *testing.F) {
	f.Add("MAILTO=x\n* * * * * root adt scale\n# BEGIN adt\n# END adt\n@daily a b\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, owner := range []string{"", "agile"} {
			table := Table{Name: "t", Owner: owner, Text: text}
			for _, j := range table.Jobs() {
				if strings.Split(text, "\n")[j.Line-1] != j.Text || j.Command == "" {
					t.Errorf("%+v", j)
				}
				_, _ = Interval(j.When)
			}
			after, _ := plan().Migrate(table)
			if strings.ReplaceAll(after, replacedMark, "") != strings.ReplaceAll(text, replacedMark, "") {
				t.Errorf("%q became %q", text, after)
			}
		}
		before, block, after, err := Split(text)
		if err == nil && before+block+after != text {
			t.Errorf("%q was split into %q, %q, %q", text, before, block, after)
		}
	})
}
