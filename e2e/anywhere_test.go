package e2e

import (
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"adt/datastore"
	"adt/events"
	"adt/provider/local"
)

// A command on the build machine reaches all autoscalers, leaves out the dead
// and says so, and can be watched until the fleet serves.
func TestScaleFromTheBuildMachine(t *testing.T) {
	q := begin(t)
	b := q.buildMachine()
	says := func(code int, args []string, lines ...string) {
		t.Helper()
		r := b.Run(args...)
		if r.code != code {
			t.Error(r)
		}
		for _, line := range lines {
			if !strings.Contains(r.stdout+r.stderr, line) {
				t.Errorf("no %q in %s", line, r)
			}
		}
	}
	q.mu.Lock()
	q.asked = append(q.asked, 9)
	q.mu.Unlock()
	says(0, []string{"scale", "--count", "9", "--wait", "--timeout", "2m"}, "autoscaler 1: 2 → 3", "fleet: 9 webservers", "9 serve, 9 wanted")
	q.Await(9)
	says(0, []string{"status"}, "autoscaler 2: profile 3, alive, lease until")
	says(2, []string{"scale"}, "this is the build machine")
	says(2, []string{"scale", "--count", "31"}, "31 webservers are too many: 3 autoscalers × 10 each (autoscaler.max_webservers) is 30")
	q.members[1].Off()
	q.AwaitKeeper(2, 1)
	says(0, []string{"status"}, "autoscaler 2: profile 3, DEAD: kept by autoscaler 1")
	says(2, []string{"scale", "--count", "21"}, "2 autoscalers × 10 each")
	q.mu.Lock()
	q.asked = append(q.asked, 10) // the first one builds while those of the second are on their way out
	q.mu.Unlock()
	says(0, []string{"scale", "--count", "7"}, "autoscaler 1: 3 → 4", "autoscaler 2: 3 → 0 (left out: no sign of life, autoscaler 1 keeps its webservers)", "autoscaler 3: 3 → 3", "fleet: 7")
	q.Await(7)
	says(0, []string{"scale", "--add", "1", "--autoscaler", "3"}, "autoscaler 3: 3 → 4", "fleet: 8")
	q.mu.Lock()
	q.asked = append(q.asked, 8)
	q.mu.Unlock()
	q.Await(8)

	// Who is dead is told when asked for alone, and nobody is left out when all are dead.
	says(0, []string{"scale", "--count", "0", "--autoscaler", "2"}, "autoscaler 2: 0 → 0 (absent: no sign of life, autoscaler 1 keeps its webservers)")
	q.members[0].Off()
	q.members[2].Off()
	q.await("the leases run out", func() bool {
		type row struct {
			Until time.Time `json:"kept_until"`
		}
		var shown struct{ Autoscalers []row }
		r := b.Run("status", "--json")
		q.must(json.Unmarshal([]byte(r.stdout), &shown))
		// By a margin: two processes may reckon the store's time a second apart.
		return len(shown.Autoscalers) == 3 && !slices.ContainsFunc(shown.Autoscalers, func(a row) bool { return time.Since(a.Until) < 3*datastore.Precision })
	})
	const note = "adt: no autoscaler shows a sign of life: nothing is done before one is back\n"
	says(0, []string{"scale", "--count", "6"}, note, "autoscaler 1: 4 → 2 (absent: no sign of life since ", "autoscaler 2: 0 → 2 (absent: ")
	says(0, []string{"scale", "--count", "6", "--json"}, note, `"absent": "no sign of life since `, `"notes": [`)
}

// The provider says which autoscalers there are: one without a machine is left
// out, and one beyond the configured number gets its share.
func TestScaleFindsTheAutoscalers(t *testing.T) {
	t.Parallel()
	f := newFleet(t, settings{"autoscaler.count": `2`})
	if r := f.Tick("scale", "--count", "5"); !strings.Contains(r.stdout, "autoscaler 1: none → 3") || !strings.Contains(r.stdout, "autoscaler 2: none → 2") {
		t.Error(r)
	}
	f.Foreign("NO-1-as-lon1-shop-aaaa")
	f.Foreign("NO-3-as-lon1-shop-cccc")
	f.Foreign("NO-2-as-lon1-shopping-bbbb")
	r := f.Tick("scale", "--count", "5")
	for _, line := range []string{"autoscaler 1: 3 → 3", "autoscaler 2: 2 → 0 (left out: it has no machine at the provider)", "autoscaler 3: none → 2", "fleet: 5"} {
		if !strings.Contains(r.stdout, line) {
			t.Errorf("no %q in %s", line, r)
		}
	}
	f.Tick("scale")
	f.BreakAPI(local.OpList, "unauthorized")
	if r := f.Tick("scale", "--count", "4"); !strings.Contains(r.stderr, "the number of autoscalers is that of the configuration") || !strings.Contains(r.stdout, "autoscaler 2: 0 → 2") {
		t.Error(r)
	}
}

// A listing that lacks the machine of an autoscaler leaves none out that lives: one
// with a lease in force, and the one on which the command runs.
func TestAListingLeavesNoLivingAutoscalerOut(t *testing.T) {
	t.Parallel()
	one := newFleet(t, nil)
	two := &fleet{t: t, home: one.path("as2"), cloud: one.cloud, key: one.key, trace: one.trace, api: one.api, account: one.account, vendorID: one.vendorID, dial: one.dial}
	one.must(os.MkdirAll(two.home, 0o700))
	for number, f := range map[string]*fleet{"1": one, "2": two} {
		f.configure(settings{
			"autoscaler.number": number, "autoscaler.count": `3`, "ssh.key": strconv.Quote(one.path("key")),
			"local.path": strconv.Quote(one.path("cloud")), "datastore.path": strconv.Quote(one.path("datastore")),
		})
	}
	one.Foreign("NO-3-as-lon1-shop-cccc")
	says := func(f *fleet, lines ...string) {
		t.Helper()
		r := f.Tick("scale", "--count", "4")
		for _, line := range lines {
			if !strings.Contains(r.stdout, line+"\n") {
				t.Errorf("no %q in %s", line, r)
			}
		}
	}
	says(one, "autoscaler 1: none → 2", "autoscaler 2: none (left out: it has no machine at the provider)", "autoscaler 3: none → 2")
	one.Tick("scale")
	says(two, "autoscaler 1: 2 → 2", "autoscaler 2: none → 1", "autoscaler 3: 2 → 1")
	two.Tick("scale")
	says(one, "autoscaler 1: 2 → 2", "autoscaler 2: 1 → 1", "autoscaler 3: 1 → 1")
}

// BenchmarkCommandToBuilds is from adt scale --count 15 on the build machine to
// the 15th build that began, on three autoscalers that tick once, then.
func BenchmarkCommandToBuilds(b *testing.B) {
	var worst time.Duration
	for b.Loop() {
		q := newSquad(b)
		for _, m := range q.members {
			m.Tick("scale")
		}
		began := time.Now()
		q.buildMachine().Tick("scale", "--count", "15")
		var waits []func() result
		for _, m := range q.members {
			waits = append(waits, m.Start(nil, "scale"))
		}
		builds := 0
		var last time.Time
		for i, wait := range waits {
			if r := wait(); r.code != 0 {
				b.Error(r)
			}
			for _, e := range q.members[i].Events(events.BuildStarted) {
				builds++
				if e.Time.After(last) {
					last = e.Time
				}
			}
		}
		if builds != 15 {
			b.Fatalf("%d builds began in one tick", builds)
		}
		worst = max(worst, last.Sub(began))
		b.ReportMetric(float64(worst.Milliseconds()), "worst-ms-to-15-builds")
	}
}

// BenchmarkTakeover is from the death of an autoscaler until another one keeps
// its webservers, while the others tick without a pause; the lease is 8 s.
func BenchmarkTakeover(b *testing.B) {
	worst := -squadLease
	for b.Loop() {
		q := newSquad(b)
		q.Ask(3)
		for _, m := range q.members {
			m.On()
		}
		q.Await(3)
		for shard := 1; shard <= 3; shard++ {
			q.AwaitKeeper(shard, shard)
		}
		q.members[1].Off()
		died := time.Now()
		q.AwaitKeeper(2, 1)
		var taken []events.Event
		q.await("it says so", func() bool { taken = q.members[0].Events(events.LeaseTaken); return len(taken) > 0 })
		worst = max(worst, taken[len(taken)-1].Time.Sub(died)-squadLease)
		b.ReportMetric(worst.Seconds(), "worst-s-over-the-lease")
	}
}
