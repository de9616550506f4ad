package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"adt/autoscaler"
	"adt/events"
	"adt/provider/apitest"
	"adt/provider/digitaloceantest"
)

const (
	readingRules = "GET /v2/databases/{id}/firewall"
	writingRules = "PUT /v2/databases/{id}/firewall"
)

// trusting is a fleet with a managed database at DigitalOcean that others use as
// well. trusted are its rules but theirs.
func trusting(t *testing.T, changes settings) (f *fleet, trusted func() []string) {
	t.Helper()
	f = newFleetAt(t, "digitalocean", nil)
	id := f.api.AddDatabase("db-shop")
	f.api.Trust(t, id, "tag", "backend", "another fleet")
	f.api.Trust(t, id, "ip_addr", "198.51.100.7", "the office")
	others := f.api.Trusted(t, id)
	all := settings{"database.driver": `"digitalocean"`, "database.cluster": `"db-shop"`}
	for key, value := range changes {
		all[key] = value
	}
	f.configure(all)
	return f, func() []string {
		t.Helper()
		rules := f.api.Trusted(t, id)
		for _, other := range others {
			at := slices.Index(rules, other)
			if at < 0 {
				t.Fatalf("%s is gone: %v\n%s", other, rules, f.Story())
			}
			rules = slices.Delete(rules, at, at+1)
		}
		return rules
	}
}

// serving are the rules for the machines that there are.
func (f *fleet) serving() []string {
	f.t.Helper()
	var all []string
	for _, m := range f.Machines() {
		all = append(all, "ip_addr "+m.PrivateIP.String())
	}
	slices.Sort(all)
	return all
}

// TestDatabase: a webserver is let in before anything is asked of it, and taken
// off the list when it is gone; a tick with nothing to do asks nothing about it.
func TestDatabase(t *testing.T) {
	t.Parallel()
	f, trusted := trusting(t, nil)
	f.Tick("scale", "--count", "3")
	f.Tick("scale")
	f.Settle(3)
	if got, want := trusted(), f.serving(); !slices.Equal(got, want) {
		t.Fatalf("allowed are %v, want %v\n%s", got, want, f.Story())
	}
	if n := f.api.Requests()[writingRules]; n > 3 {
		t.Errorf("the list was written %d times for 3 webservers", n)
	}
	let := map[string]bool{}
	for _, e := range f.Events(events.DatabaseAllowed, events.BuildPhase) {
		switch {
		case e.Reason == events.DatabaseAllowed:
			let[e.Server] = true
		case strings.HasPrefix(e.Text, string(autoscaler.Ready)) && !let[e.Server]:
			t.Errorf("%s was ready before it was let in\n%s", e.Server, f.Story())
		}
	}
	if got := f.requests("scale"); len(got) != 1 || got["GET /v2/droplets"] != 1 {
		t.Errorf("nothing to do: %v", got)
	}
	f.Tick("scale", "--count", "1")
	f.Tick("scale")
	f.Settle(1)
	if got, want := trusted(), f.serving(); !slices.Equal(got, want) {
		t.Fatalf("allowed are %v, want %v\n%s", got, want, f.Story())
	}
}

// TestDatabaseRefuses: builds wait for it as long as their phase may last, and
// all else goes on. Nothing is left over.
func TestDatabaseRefuses(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]apitest.Fault{
		"forbidden": {Status: 403}, "gone": {Status: 404}, "rate limited": {Status: 429, Header: http.Header{"Retry-After": {"1"}}},
		"server error": {Status: 500}, "silent": {Hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			budget := `"2s"`
			if fault.Hang { // who is cut short sooner is not held for silent
				budget = `"6s"`
			}
			f, trusted := trusting(t, settings{"scale.budget": budget, "database.recheck": `"1s"`})
			f.Tick("scale", "--count", "2")
			f.Tick("scale")
			f.Settle(2)
			f.api.Fail(readingRules, fault)
			m := f.mark()
			f.Tick("scale", "--count", "3")
			before := f.api.Requests()[readingRules]
			f.Tick("scale")
			if n := f.api.Requests()[readingRules] - before; fault.Hang && n != 1 {
				t.Errorf("a silent vendor was asked %d times in one run", n)
			}
			s := f.State()
			if len(s.Builds) != 1 || s.Builds[0].Phase != autoscaler.Addressed {
				t.Fatalf("%+v\n%s", s.Builds, f.Story())
			}
			if f.Said(m, events.DatabaseFailed) == 0 {
				t.Errorf("no event\n%s", f.Story())
			}
			f.Tick("healthcheck")
			if r := f.Tick("status"); !strings.Contains(r.stdout, "DATABASE: digitalocean: ") {
				t.Error(r)
			}
			f.api.Heal()
			f.Settle(3)
			if got, want := trusted(), f.serving(); !slices.Equal(got, want) {
				t.Fatalf("allowed are %v, want %v\n%s", got, want, f.Story())
			}
			if fault.Hang {
				return // each try would take as long as is waited for the vendor
			}
			// A termination does not wait, and what it left goes later.
			f.api.Fail(writingRules, fault)
			f.Tick("scale", "--count", "1")
			f.Tick("scale")
			f.Settle(1)
			if got := trusted(); len(got) != 3 {
				t.Errorf("allowed are %v", got)
			}
			f.api.Heal()
			f.Await("they are taken off", func() bool {
				f.Tick("scale")
				return slices.Equal(trusted(), f.serving())
			})
		})
	}
}

// TestDatabaseDeadline: a build that is never let in fails, and its server is
// destroyed.
func TestDatabaseDeadline(t *testing.T) {
	t.Parallel()
	f, trusted := trusting(t, settings{"build.phase.ready": `"300ms"`, "build.max_failures": `1`})
	f.api.Fail(writingRules, apitest.Fault{Status: 403})
	f.Tick("scale", "--count", "1")
	f.Await("it is given up", func() bool {
		f.Run("scale")
		return len(f.State().Builds) == 0 && f.Changes()["destroy"] == 1
	})
	condemned := f.Events(events.BuildCondemned)
	if len(condemned) != 1 || !strings.Contains(condemned[0].Text, "allow list does not have it") {
		t.Errorf("%v\n%s", condemned, f.Story())
	}
	f.api.Heal()
	f.Run("scale")
	if got := trusted(); len(got) != 0 {
		t.Errorf("allowed are %v", got)
	}
}

// TestKilledWhileLettingIn: killed at each recorded step, nobody who serves is
// left out and nobody who is gone is left in.
func TestKilledWhileLettingIn(t *testing.T) {
	longest := longestRun(t, letIn)
	steps := upTo(longest)
	if testing.Short() { // with all of TestKilledAtEachStep besides
		steps = slices.DeleteFunc(steps, func(n int) bool { return n%3 != 0 })
	}
	var kills atomic.Int64
	several(t, steps, func(n int) string { return fmt.Sprintf("step-%d", n) }, func(t *testing.T, n int) {
		w := newWitness(newFleet(t, nil))
		letIn(w, n)
		kills.Add(int64(w.kills))
	})
	t.Logf("%d kills at steps 1 to %d", kills.Load(), longest)
	if int(kills.Load()) < len(steps)/2 {
		t.Errorf("only %d kills at %d steps", kills.Load(), len(steps))
	}
}

// letIn is the life of a fleet whose database keeps an allow list.
func letIn(w *witness, n int) {
	w.t.Helper()
	w.configure(settings{"database.driver": `"local"`, "database.recheck": `"200ms"`, "database.ranges": `["10.106.0.0/20"]`})
	w.Ask(2, 0)
	w.Kill(n, "scale")
	w.Prove(2)
	w.allowed()
	w.Ask(1, 0)
	w.Kill(n, "scale")
	w.Prove(1)
	w.allowed()
}

// allowed waits until the local cloud's list has the machines that there are
// and the range, and nobody else.
func (w *witness) allowed() {
	w.t.Helper()
	var got, want []string
	defer func() {
		if w.t.Failed() {
			w.t.Logf("allowed are %v, want %v", got, want)
		}
	}()
	w.Await("the list is right", func() bool {
		w.Run("scale")
		got, want = nil, []string{"10.106.0.0/20"}
		var list struct{ Entries []netip.Prefix }
		data, err := os.ReadFile(w.path("cloud", "allowlist.json"))
		w.must(err)
		w.must(json.Unmarshal(data, &list))
		for _, e := range list.Entries {
			got = append(got, e.String())
		}
		for _, m := range w.Machines() {
			want = append(want, m.PrivateIP.String()+"/32")
		}
		slices.Sort(got)
		slices.Sort(want)
		return slices.Equal(got, want)
	})
}

// TestDatabaseRecheck: what somebody took off is added again.
func TestDatabaseRecheck(t *testing.T) {
	t.Parallel()
	f, trusted := trusting(t, settings{"database.recheck": `"100ms"`})
	f.Tick("scale", "--count", "1")
	f.Tick("scale")
	f.Settle(1)
	want := trusted()
	if len(want) != 1 {
		t.Fatalf("allowed are %v\n%s", want, f.Story())
	}
	clusters := f.api.Databases()
	f.api.Distrust(clusters[0], strings.TrimPrefix(want[0], "ip_addr "))
	deadline := time.Now().Add(30 * time.Second)
	for len(trusted()) == 0 {
		if time.Now().After(deadline) {
			t.Fatalf("it is not added again\n%s", f.Story())
		}
		f.Tick("scale")
	}
	if len(f.Events(events.DatabaseRepaired)) != 1 {
		t.Errorf("no event\n%s", f.Story())
	}
}

// TestSquadDatabase: three autoscalers write one list, which its vendor knows as
// a whole alone. Nobody's entries are lost for good, one that died is stood in
// for, and what it had added is taken off by who keeps its webservers.
func TestSquadDatabase(t *testing.T) {
	t.Parallel()
	q := newSquad(t)
	lines := settings{}
	api := q.api // where the machines are there too, it is one account
	if api == nil {
		api = digitaloceantest.New(t, digitaloceantest.Options{})
		lines["digitalocean.token"], lines["digitalocean.api_url"] = strconv.Quote(api.Token), strconv.Quote(api.URL)
	}
	id := api.AddDatabase("db-shop")
	api.Trust(t, id, "ip_addr", "198.51.100.7", "the office")
	maps.Copy(lines, settings{"database.driver": `"digitalocean"`, "database.cluster": strconv.Quote(id), "database.recheck": `"1s"`})
	for _, m := range q.members {
		m.add(lines)
	}
	letIn := func() {
		t.Helper()
		var got, want []string
		for end := time.Now().Add(20 * squadLease); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			got, want = api.Trusted(t, id), append(q.serving(), "ip_addr 198.51.100.7 (the office)")
			slices.Sort(want)
			if slices.Equal(got, want) {
				return
			}
		}
		q.fail("allowed are %v, want %v", got, want)
	}
	for _, m := range q.members {
		m.On()
	}
	q.Ask(6)
	q.Await(6)
	letIn()
	q.members[1].Off()
	q.AwaitKeeper(2, 1)
	q.Ask(3) // one each
	q.Await(3)
	letIn()
	q.members[1].On()
	q.AwaitKeeper(2, 2)
	q.Ask(5)
	q.Await(5)
	letIn()
}

// add adds lines to adt.toml.
func (f *fleet) add(lines settings) {
	f.t.Helper()
	text, err := os.ReadFile(f.path("adt.toml"))
	f.must(err)
	for key, value := range lines {
		text = fmt.Appendf(text, "%s = %s\n", key, value)
	}
	f.must(os.WriteFile(f.path("adt.toml"), text, 0o600))
}
