package healthcheck_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"adt/healthcheck"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// limits are the defaults of the fleet, for one of ten published webservers.
func limits(change ...func(*healthcheck.Limits)) healthcheck.Limits {
	l := healthcheck.Limits{
		Strikes: 2, Grace: 10 * time.Minute, StalledAfter: 30 * time.Minute,
		SelfCheckPercent: 45, SelfCheckMin: 3, BudgetPercent: 10, MinPublished: 1, Published: 10,
	}
	for _, c := range change {
		c(&l)
	}
	return l
}

type member = healthcheck.Member

// well and ill are members of a day's age that have been online.
func well(name string, change ...func(*member)) member {
	m := member{
		Name: name, Probed: true, Published: true, EverOnline: true, Created: now.Add(-24 * time.Hour),
		Result: healthcheck.Result{Rung: healthcheck.Passed},
	}
	for _, c := range change {
		c(&m)
	}
	return m
}

func ill(name string, strikes int, change ...func(*member)) member {
	m := well(name)
	m.Strikes = strikes
	m.Result = healthcheck.Result{Rung: healthcheck.RungHTTPS, Detail: "HTTPS status 500"}
	for _, c := range change {
		c(&m)
	}
	return m
}

func initial(m *member)                    { m.Initial = true }
func protected(m *member)                  { m.Protected = true }
func unpublished(m *member)                { m.Published = false }
func building(m *member)                   { m.Building = true }
func neverOnline(m *member)                { m.EverOnline = false }
func unprobed(m *member)                   { m.Probed = false }
func interrupted(m *member)                { m.Result.Rung = healthcheck.NotProbed }
func pauseTerminate(l *healthcheck.Limits) { l.PauseTerminate = true }
func pauseDNS(l *healthcheck.Limits)       { l.PauseDNS = true }
func replacing(l *healthcheck.Limits)      { l.WantReplacement = 1 }
func proxies(l *healthcheck.Limits) {
	l.WithdrawAt, l.NeverEnd, l.Grace, l.StalledAfter = 2, true, 0, 0
}
func published(n int) func(*healthcheck.Limits) {
	return func(l *healthcheck.Limits) { l.Published = n }
}
func aged(d time.Duration) func(*member) {
	return func(m *member) { m.Created = now.Add(-d) }
}
func at(r healthcheck.Rung) func(*member) {
	return func(m *member) { m.Result.Rung = r }
}

// many are n healthy members, so that shares of the fleet have something to be
// a share of.
func many(n int, more ...member) []member {
	for i := range n {
		more = append(more, well(fmt.Sprintf("z%02d", i)))
	}
	return more
}

func TestJudge(t *testing.T) {
	type verdicts = []healthcheck.Verdict
	const (
		healthy, failing, stalled = healthcheck.StateHealthy, healthcheck.StateFailing, healthcheck.StateStalled
		terminate, replaceFirst   = healthcheck.EndTerminate, healthcheck.EndReplaceFirst
	)
	for _, test := range []struct {
		name    string
		members []member
		limits  healthcheck.Limits
		want    verdicts // those that are not plainly healthy
	}{
		{"all is well", many(3), limits(), nil},
		{"passing clears strikes and publishes",
			many(3, well("a", unpublished, func(m *member) { m.Strikes = 1 })), limits(),
			verdicts{{Name: "a", State: healthy, Publish: true}}},
		{"initial and protected are published too",
			many(3, well("a", unpublished, initial), well("b", unpublished, protected)), limits(),
			verdicts{{Name: "a", State: healthy, Publish: true}, {Name: "b", State: healthy, Publish: true}}},
		{"first strike withdraws", many(3, ill("a", 0)), limits(),
			verdicts{{Name: "a", State: failing, Strikes: 1, Withdraw: true}}},
		{"not withdrawn twice", many(3, ill("a", 0, unpublished)), limits(),
			verdicts{{Name: "a", State: failing, Strikes: 1}}},
		{"last strike terminates", many(3, ill("a", 1, unpublished)), limits(),
			verdicts{{Name: "a", State: failing, Strikes: 2, End: terminate}}},
		{"strikes stop at the limit", many(3, ill("a", 9, unpublished)), limits(),
			verdicts{{Name: "a", State: failing, Strikes: 2, End: terminate}}},
		{"more strikes when so configured", many(3, ill("a", 1)), limits(func(l *healthcheck.Limits) { l.Strikes = 4 }),
			verdicts{{Name: "a", State: failing, Strikes: 2, Withdraw: true}}},

		{"proxies: withdrawn at the strike that is said, and nobody ends",
			[]member{ill("a", 0), ill("b", 1), well("c")}, limits(proxies, published(3)),
			verdicts{{Name: "a", State: failing, Strikes: 1}, {Name: "b", State: failing, Strikes: 2, Withdraw: true}}},
		{"proxies: the last one stays", []member{ill("a", 1), ill("b", 1)}, limits(proxies, published(2)),
			verdicts{{Name: "a", State: failing, Strikes: 2, Withdraw: true}, {Name: "b", State: failing, Strikes: 2, Brake: "FLOOR"}}},
		{"proxies: all at once is our fault", []member{ill("a", 1), ill("b", 1), ill("c", 1)}, limits(proxies, published(3)),
			verdicts{{Name: "a", State: failing, Strikes: 1, Brake: "SELF_CHECK"}, {Name: "b", State: failing, Strikes: 1, Brake: "SELF_CHECK"}, {Name: "c", State: failing, Strikes: 1, Brake: "SELF_CHECK"}}},
		{"proxies: back again", []member{well("a", unpublished), well("b")}, limits(proxies, published(1)),
			verdicts{{Name: "a", State: healthy, Publish: true}}},

		{"building is left alone", many(3, ill("a", 1, building), well("b", building, unpublished)), limits(),
			verdicts{{Name: "a", State: healthcheck.StateBuilding, Strikes: 1}, {Name: "b", State: healthcheck.StateBuilding}}},
		{"not probed is left alone", many(3, ill("a", 1, unprobed), ill("b", 1, interrupted)), limits(),
			verdicts{{Name: "a", State: healthcheck.StateUnknown, Strikes: 1}, {Name: "b", State: healthcheck.StateUnknown, Strikes: 1}}},
		{"young and never online: no strike", many(3, ill("a", 0, neverOnline, aged(9*time.Minute))), limits(),
			verdicts{{Name: "a", State: healthcheck.StateGrace}}},
		{"never online, past grace, not stalled yet", many(3, ill("a", 0, neverOnline, aged(29*time.Minute))), limits(),
			verdicts{{Name: "a", State: healthcheck.StateGrace}}},
		{"grace longer than the stall", many(3, ill("a", 0, neverOnline, aged(time.Hour))), limits(func(l *healthcheck.Limits) { l.Grace = 2 * time.Hour }),
			verdicts{{Name: "a", State: healthcheck.StateGrace}}},
		{"stalled", many(3, ill("a", 1, neverOnline, unpublished, aged(30*time.Minute))), limits(),
			verdicts{{Name: "a", State: stalled, Strikes: 2, End: terminate}}},
		{"young and once online: withdrawn, not terminated", many(3, ill("a", 1, aged(9*time.Minute))), limits(),
			verdicts{{Name: "a", State: failing, Strikes: 2, Withdraw: true, Brake: "GRACE"}}},
		{"made in the future: a clock was set", many(3, ill("a", 1, aged(-time.Hour)), ill("b", 1, neverOnline, aged(-time.Hour))), limits(),
			verdicts{{Name: "a", State: failing, Strikes: 2, Withdraw: true, Brake: "GRACE"}, {Name: "b", State: healthcheck.StateGrace, Strikes: 1}}},
		{"unknown age", many(3, ill("a", 1, func(m *member) { m.Created = time.Time{} })), limits(),
			verdicts{{Name: "a", State: failing, Strikes: 2, Withdraw: true, Brake: "GRACE"}}},

		{"initial", many(3, ill("a", 1, initial)), limits(),
			verdicts{{Name: "a", State: failing, Strikes: 2, Withdraw: true, Brake: "INITIAL"}}},
		{"protected", many(3, ill("a", 1, protected)), limits(),
			verdicts{{Name: "a", State: failing, Strikes: 2, Withdraw: true, Brake: "PROTECTED"}}},
		{"terminating paused", many(3, ill("a", 1)), limits(pauseTerminate),
			verdicts{{Name: "a", State: failing, Strikes: 2, Withdraw: true, Brake: "PAUSED"}}},
		{"DNS paused", many(3, ill("a", 0), ill("b", 1), ill("c", 1, unpublished), well("d", unpublished)), limits(pauseDNS, func(l *healthcheck.Limits) { l.SelfCheckMin = 4 }),
			verdicts{
				{Name: "a", State: failing, Strikes: 1, Brake: "PAUSED"},
				{Name: "b", State: failing, Strikes: 2, Brake: "PAUSED"},
				{Name: "c", State: failing, Strikes: 2, End: terminate},
				{Name: "d", State: healthy, Brake: "PAUSED"},
			}},

		{"self check", many(3, ill("a", 0), ill("b", 1), ill("c", 1, unpublished), ill("d", 0, neverOnline)), limits(),
			verdicts{
				{Name: "a", State: failing, Brake: "SELF_CHECK"},
				{Name: "b", State: failing, Strikes: 1, Brake: "SELF_CHECK"},
				{Name: "c", State: failing, Strikes: 1, Brake: "SELF_CHECK"},
				{Name: "d", State: stalled, Brake: "SELF_CHECK"},
			}},
		{"self check lets the passing into DNS", []member{ill("a", 1), ill("b", 1), ill("c", 1), well("d", unpublished)}, limits(),
			verdicts{
				{Name: "a", State: failing, Strikes: 1, Brake: "SELF_CHECK"},
				{Name: "b", State: failing, Strikes: 1, Brake: "SELF_CHECK"},
				{Name: "c", State: failing, Strikes: 1, Brake: "SELF_CHECK"},
				{Name: "d", State: healthy, Publish: true},
			}},
		{"too few for the self check", many(1, ill("a", 0), ill("b", 0)), limits(),
			verdicts{{Name: "a", State: failing, Strikes: 1, Withdraw: true}, {Name: "b", State: failing, Strikes: 1, Withdraw: true}}},
		{"just the share of the self check", many(11, slices.Repeat([]member{ill("a", 0, unpublished)}, 9)...), limits(),
			slices.Repeat(verdicts{{Name: "a", State: failing, Strikes: 1}}, 9)},
		{"those in the making do not dilute the self check",
			many(3, ill("a", 0), ill("b", 0), ill("c", 0), ill("d", 0, neverOnline, aged(0)), well("e", building)), limits(),
			verdicts{
				{Name: "a", State: failing, Brake: "SELF_CHECK"},
				{Name: "b", State: failing, Brake: "SELF_CHECK"},
				{Name: "c", State: failing, Brake: "SELF_CHECK"},
				{Name: "d", State: healthcheck.StateGrace},
				{Name: "e", State: healthcheck.StateBuilding},
			}},

		{"no witness: one is replaced first", []member{ill("a", 1, at(healthcheck.RungConfig)), ill("b", 1, at(healthcheck.RungTCP))}, limits(),
			verdicts{
				{Name: "a", State: failing, Strikes: 2, Withdraw: true, Brake: "NO_WITNESS"},
				{Name: "b", State: failing, Strikes: 2, Withdraw: true, Brake: "NO_WITNESS", End: replaceFirst},
			}},
		{"no witness: one replacement at a time", []member{ill("a", 1)}, limits(replacing),
			verdicts{{Name: "a", State: failing, Strikes: 2, Withdraw: true, Brake: "NO_WITNESS"}}},
		{"no witness: not for the initial", []member{ill("a", 1, initial), ill("b", 1)}, limits(),
			verdicts{
				{Name: "a", State: failing, Strikes: 2, Withdraw: true, Brake: "INITIAL"},
				{Name: "b", State: failing, Strikes: 2, Withdraw: true, Brake: "NO_WITNESS", End: replaceFirst},
			}},
		{"a build is a witness", []member{ill("a", 1), well("b", building)}, limits(),
			verdicts{{Name: "a", State: failing, Strikes: 2, Withdraw: true, End: terminate}, {Name: "b", State: healthcheck.StateBuilding}}},

		{"floor: the best stays", []member{ill("a", 0, at(healthcheck.RungTCP)), ill("b", 0, at(healthcheck.RungBuild))}, limits(published(2)),
			verdicts{
				{Name: "a", State: failing, Strikes: 1, Withdraw: true},
				{Name: "b", State: failing, Strikes: 1, Brake: "FLOOR"},
			}},
		{"floor: the best stays though it has more strikes",
			[]member{ill("a", 0, at(healthcheck.RungTCP)), ill("b", 1, at(healthcheck.RungBuild)), well("c", unpublished, building)}, limits(published(2)),
			verdicts{
				{Name: "a", State: failing, Strikes: 1, Withdraw: true},
				{Name: "b", State: failing, Strikes: 2, Brake: "FLOOR", End: replaceFirst},
				{Name: "c", State: healthcheck.StateBuilding},
			}},
		{"floor: what is published in this run counts", []member{ill("a", 1), well("b", unpublished)}, limits(published(1)),
			verdicts{
				{Name: "a", State: failing, Strikes: 2, Withdraw: true, End: terminate},
				{Name: "b", State: healthy, Publish: true},
			}},
		{"floor: kept by it and due, another is being replaced", []member{ill("a", 1)}, limits(published(1), replacing),
			verdicts{{Name: "a", State: failing, Strikes: 2, Brake: "FLOOR"}}},
		{"floor: others of the fleet hold it", []member{ill("a", 0)}, limits(published(2)),
			verdicts{{Name: "a", State: failing, Strikes: 1, Withdraw: true}}},
		{"floor: already below", []member{ill("a", 0)}, limits(published(1), func(l *healthcheck.Limits) { l.MinPublished = 5 }),
			verdicts{{Name: "a", State: failing, Strikes: 1, Brake: "FLOOR"}}},

		{"budget: one of few", many(3, ill("a", 1, aged(time.Hour)), ill("b", 1, aged(2*time.Hour))), limits(),
			verdicts{
				{Name: "a", State: failing, Strikes: 2, Withdraw: true, Brake: "BUDGET"},
				{Name: "b", State: failing, Strikes: 2, Withdraw: true, End: terminate},
			}},
		{"budget: a share of many, lowest rung first",
			many(17, ill("a", 1), ill("b", 1, at(healthcheck.RungTCP)), ill("c", 1, at(healthcheck.RungSSH))), limits(),
			verdicts{
				{Name: "a", State: failing, Strikes: 2, Withdraw: true, Brake: "BUDGET"},
				{Name: "b", State: failing, Strikes: 2, Withdraw: true, End: terminate},
				{Name: "c", State: failing, Strikes: 2, Withdraw: true, End: terminate},
			}},
		{"budget: used up by what is in progress", many(3, ill("a", 1)), limits(func(l *healthcheck.Limits) { l.TerminatingForHealth = 1 }),
			verdicts{{Name: "a", State: failing, Strikes: 2, Withdraw: true, Brake: "BUDGET"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got verdicts
			for _, v := range healthcheck.Judge(now, test.members, test.limits) {
				if v.Why == "" {
					t.Errorf("%s: no reason given", v.Name)
				}
				plain := healthcheck.Verdict{Name: v.Name, State: healthy, Why: v.Why}
				if v != plain {
					got = append(got, v)
				}
			}
			if diff := cmp.Diff(test.want, got, cmpopts.IgnoreFields(healthcheck.Verdict{}, "Why")); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

func TestWhyReadsLikeASentence(t *testing.T) {
	verdicts := healthcheck.Judge(now, many(3, ill("a", 1, protected)), limits())
	want := "HTTPS status 500; strike 2 of 2; out of DNS; not terminated: protected (PROTECTED)"
	if verdicts[0].Why != want {
		t.Errorf("got  %s\nwant %s", verdicts[0].Why, want)
	}
}

// fleet draws a fleet of any kind with unique names.
func fleet(t *rapid.T) []member {
	flag := rapid.Bool()
	n := rapid.IntRange(0, 40).Draw(t, "members")
	members := make([]member, n)
	sick := rapid.IntRange(0, 100).Draw(t, "percent sick")
	for i := range members {
		rung := healthcheck.Passed
		if rapid.IntRange(0, 99).Draw(t, "health") < sick {
			rung = healthcheck.Rung(rapid.IntRange(int(healthcheck.NotProbed), int(healthcheck.RungBuild)).Draw(t, "rung"))
		}
		members[i] = member{
			Name: fmt.Sprintf("ws-%02d", i), Probed: rapid.IntRange(0, 9).Draw(t, "probed") > 0,
			Result:  healthcheck.Result{Rung: rung},
			Initial: rapid.IntRange(0, 9).Draw(t, "initial") == 0, Protected: rapid.IntRange(0, 9).Draw(t, "protected") == 0,
			Building: rapid.IntRange(0, 9).Draw(t, "building") == 0, Published: flag.Draw(t, "published"),
			EverOnline: rapid.IntRange(0, 3).Draw(t, "online") > 0, Strikes: rapid.IntRange(0, 4).Draw(t, "strikes"),
			Created: now.Add(-time.Duration(rapid.IntRange(-10, 120).Draw(t, "minutes")) * time.Minute),
		}
	}
	return members
}

func drawLimits(t *rapid.T, members []member) healthcheck.Limits {
	own := 0
	for _, m := range members {
		if m.Published {
			own++
		}
	}
	small := rapid.IntRange(0, 4)
	return healthcheck.Limits{
		Strikes: small.Draw(t, "strikes"),
		Grace:   time.Duration(small.Draw(t, "grace")) * 10 * time.Minute, StalledAfter: time.Duration(small.Draw(t, "stalled")) * 10 * time.Minute,
		SelfCheckPercent: rapid.IntRange(0, 100).Draw(t, "self check"), SelfCheckMin: small.Draw(t, "self check min"),
		BudgetPercent: rapid.IntRange(0, 100).Draw(t, "budget"), MinPublished: small.Draw(t, "floor"),
		PauseTerminate: rapid.IntRange(0, 9).Draw(t, "pause terminate") == 0, PauseDNS: rapid.IntRange(0, 9).Draw(t, "pause DNS") == 0,
		Published:            own + small.Draw(t, "published elsewhere"),
		TerminatingForHealth: small.Draw(t, "terminating"), WantReplacement: rapid.IntRange(0, 1).Draw(t, "replacing"),
	}
}

func TestJudgeKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := fleet(t)
		limits := drawLimits(t, members)
		verdicts := healthcheck.Judge(now, members, limits)
		if len(verdicts) != len(members) {
			t.Fatalf("%d verdicts on %d members", len(verdicts), len(members))
		}

		passed, terminated, replaced, in, out, braked, failing := 0, 0, 0, 0, 0, 0, 0
		for i, v := range verdicts {
			m := members[i] // both are in the order of names
			age := now.Sub(m.Created)
			learnt := m.Probed && m.Result.Rung != healthcheck.NotProbed
			fails := learnt && m.Result.Rung != healthcheck.Passed
			if m.Name != v.Name {
				t.Fatalf("verdict %d is on %s, want %s", i, v.Name, m.Name)
			}
			if v.End != healthcheck.EndNone {
				if m.Initial || m.Protected || m.Building || !fails || age < limits.Grace || limits.PauseTerminate {
					t.Fatalf("%s must not end: %+v, %+v", m.Name, m, v)
				}
				if v.Strikes < max(1, limits.Strikes) {
					t.Fatalf("%s ends before its last strike: %+v", m.Name, v)
				}
			}
			if v.Withdraw && (!m.Published || !fails || m.Building) || v.Publish && (m.Published || m.Building || !learnt || fails) {
				t.Fatalf("%s: wrong in DNS: %+v, %+v", m.Name, m, v)
			}
			if (v.Withdraw || v.Publish) && limits.PauseDNS {
				t.Fatalf("%s: DNS is paused: %+v", m.Name, v)
			}
			if v.Strikes > max(limits.Strikes, m.Strikes, 1) || v.Strikes > m.Strikes+1 {
				t.Fatalf("%s: %d strikes after %d", m.Name, v.Strikes, m.Strikes)
			}
			if !fails && v.End+healthcheck.End(v.Brake) != "" && v.Brake != healthcheck.BrakePaused {
				t.Fatalf("%s does not fail and is held: %+v", m.Name, v)
			}
			if v.Brake == healthcheck.BrakeSelfCheck {
				braked++
				if v.Withdraw || v.Publish || v.End != healthcheck.EndNone || v.Strikes != m.Strikes {
					t.Fatalf("%s changes under the self check: %+v", m.Name, v)
				}
			}
			count := func(n *int, yes bool) {
				if yes {
					*n++
				}
			}
			count(&passed, learnt && !fails)
			count(&terminated, v.End == healthcheck.EndTerminate)
			count(&replaced, v.End == healthcheck.EndReplaceFirst)
			count(&in, v.Publish)
			count(&out, v.Withdraw)
			count(&failing, v.State == healthcheck.StateFailing || v.State == healthcheck.StateStalled)
			if v.End == healthcheck.EndTerminate && m.Published && !v.Withdraw {
				t.Fatalf("%s is terminated while it stays in DNS: %+v", m.Name, v)
			}
		}
		if budget := max(1, len(members)*limits.BudgetPercent/100) - limits.TerminatingForHealth; terminated > max(0, budget) {
			t.Fatalf("%d terminated, budget %d", terminated, budget)
		}
		if terminated > 0 && passed == 0 {
			t.Fatal("terminated though nobody passed")
		}
		if replaced+limits.WantReplacement > 1 && replaced > 0 {
			t.Fatalf("%d replaced, %d already are", replaced, limits.WantReplacement)
		}
		if after := limits.Published + in - out; out > 0 && after < limits.MinPublished {
			t.Fatalf("%d left in DNS, floor %d", after, limits.MinPublished)
		}
		if braked > 0 && (braked != failing || out+terminated+replaced > 0) {
			t.Fatalf("the self check holds %d of %d", braked, failing)
		}

		shuffled := rapid.Permutation(members).Draw(t, "shuffled")
		if diff := cmp.Diff(verdicts, healthcheck.Judge(now, shuffled, limits)); diff != "" {
			t.Fatalf("depends on the order of the input:\n%s", diff)
		}
	})
}

// A fault of the whole network comes and goes: nothing is destroyed, and then the
// fleet is as it was.
func TestNetworkFaultLeavesNoTrace(t *testing.T) {
	for _, size := range []int{1, 2, 3, 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			members := many(size)
			fleetLimits := limits(published(size))
			run := func(rung healthcheck.Rung) {
				for i, v := range healthcheck.Judge(now, members, fleetLimits) {
					m := &members[i]
					if v.End == healthcheck.EndTerminate {
						t.Fatalf("%s terminated: %s", v.Name, v.Why)
					}
					m.Strikes = v.Strikes
					switch {
					case v.Publish:
						m.Published = true
						fleetLimits.Published++
					case v.Withdraw:
						m.Published = false
						fleetLimits.Published--
					}
					m.Result.Rung = rung
				}
				if fleetLimits.Published < 1 {
					t.Fatal("nobody is left in DNS")
				}
			}
			for _, rung := range append(slices.Repeat([]healthcheck.Rung{healthcheck.RungTCP}, 5), healthcheck.Passed, healthcheck.Passed) {
				run(rung)
			}
			if diff := cmp.Diff(many(size), members, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("before -, after +:\n%s", diff)
			}
		})
	}
}
