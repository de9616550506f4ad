package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"adt/autoscaler"
	"adt/events"
	"adt/provider/local"
	"adt/remote"
)

// behind is a configuration with reverse proxies: machines of the local cloud,
// on which a file named refuse stands for a configuration that the proxy does not
// take, and loaded.conf for what it uses.
func behind(changes settings) settings {
	all := settings{
		"proxies.enabled": `true`, "proxies.file": `"adt/shop.conf"`, "proxies.server_options": `""`,
		"proxies.test_command":   `'if [ -e refuse ]; then echo "nginx: [warn] hm"; echo "nginx: [emerg] no such thing in shop.conf:3"; exit 1; fi'`,
		"proxies.reload_command": `"cp adt/shop.conf loaded.conf"`, "proxies.recheck": `"1h"`, "proxies.removal_deadline": `"1h"`,
	}
	maps.Copy(all, changes)
	return all
}

// rp is a reverse proxy of a fleet.
type rp struct {
	*fleet
	local.Machine
}

// Proxy makes a reverse proxy that asks for a password, which is up.
func (f *fleet) Proxy(tail string) rp {
	f.t.Helper()
	m := f.Foreign("rp-lon1-shop-" + tail)
	f.Break(m.ID, "http=401")
	m, _ = f.Machine(m.ID)
	return rp{f, m}
}

func (p rp) file(name string) string {
	return p.path("cloud", "servers", p.cloudID(p.ID), "home", name)
}

// Has is the webservers that the proxy uses, in their order.
func (p rp) Has() []string {
	p.t.Helper()
	text, err := os.ReadFile(p.file("loaded.conf"))
	if err != nil {
		return nil
	}
	var all []string
	for _, hit := range regexp.MustCompile(`(?m)^\tserver (127\S+):8443;$`).FindAllStringSubmatch(string(text), -1) {
		all = append(all, hit[1])
	}
	slices.Sort(all)
	return all
}

func (p rp) Refuse(on bool) {
	p.t.Helper()
	if on {
		p.must(os.WriteFile(p.file("refuse"), nil, 0o600))
	} else {
		p.must(os.Remove(p.file("refuse")))
	}
}

// Webservers are the machines that are no proxies.
func (f *fleet) Webservers() []local.Machine {
	f.t.Helper()
	return slices.DeleteFunc(f.Machines(), func(m local.Machine) bool { return strings.HasPrefix(m.Name, "rp-") })
}

// private are the addresses at which proxies reach machines that are in order.
func private(machines []local.Machine) []string {
	var all []string
	for _, m := range machines {
		if m.Alive && m.Fault == (local.Fault{}) {
			all = append(all, m.PrivateIP.String())
		}
	}
	slices.Sort(all)
	return all
}

func (f *fleet) inDNS() []string {
	f.t.Helper()
	var all []string
	for _, r := range f.DNS() {
		all = append(all, r.Address.String())
	}
	slices.Sort(all)
	return all
}

func public(proxies ...rp) []string {
	var all []string
	for _, p := range proxies {
		all = append(all, p.PublicIP.String())
	}
	slices.Sort(all)
	return all
}

// SettleBehind runs the ticks of cron until so many webservers are in order, the
// proxies have exactly those, and DNS has exactly the proxies.
func (f *fleet) SettleBehind(profile int, proxies ...rp) {
	f.t.Helper()
	unrest := ""
	for deadline := time.Now().Add(2 * time.Minute); ; {
		for _, tick := range []string{"scale", "healthcheck", "reboot-if-done"} {
			if r := f.Run(tick); r.code != 0 && r.code != 3 {
				f.t.Fatalf("%v\n%s", r, f.Story())
			}
		}
		s, want := f.State(), private(f.Webservers())
		unrest = ""
		switch {
		case len(s.Builds)+len(s.Terminations) > 0 || s.Cycle != nil:
			unrest = "it is at work"
		case len(f.Webservers()) != profile:
			unrest = fmt.Sprintf("there are %d webservers", len(f.Webservers()))
		case !slices.Equal(f.inDNS(), public(proxies...)):
			unrest = fmt.Sprintf("%v are in DNS, the proxies are %v", f.inDNS(), public(proxies...))
		}
		for _, p := range proxies {
			if !slices.Equal(p.Has(), want) {
				unrest = fmt.Sprintf("%s has %v, in order are %v", p.Name, p.Has(), want)
			}
		}
		if unrest == "" {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("the fleet does not come to rest: %s\n%s", unrest, f.Story())
		}
	}
}

// awaitTicks waits until something is so that takes several ticks, which a busy
// machine needs its time for.
func (f *fleet) awaitTicks(what string, so func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !so(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("waited in vain: %s\n%s", what, f.Story())
		}
	}
}

// told is how many times a proxy was connected to.
func (f *fleet) told() int {
	n := 0
	for _, s := range f.Steps() {
		if strings.HasPrefix(s.what, "tell proxy ") {
			n++
		}
	}
	return n
}

// newBehind is a fleet of so many webservers behind two proxies, at rest.
func newBehind(t *testing.T, profile int, changes settings) (*fleet, rp, rp) {
	t.Helper()
	t.Parallel()
	f := newFleetAt(t, "local", behind(changes))
	a, b := f.Proxy("aaaa"), f.Proxy("bbbb")
	f.Tick("scale", "--count", strconv.Itoa(profile))
	f.SettleBehind(profile, a, b)
	return f, a, b
}

// TestProxies: webservers come, fall ill, are replaced and go; DNS holds the
// proxies all the while, and a webserver ends only when no proxy has it.
func TestProxies(t *testing.T) {
	f, a, b := newBehind(t, 2, nil)
	for _, m := range f.Webservers() {
		if slices.Contains(f.inDNS(), m.PublicIP.String()) {
			t.Errorf("%s is in DNS itself", m.Name)
		}
	}

	// Nothing to do: no connection to a proxy, one listing of servers, one of records.
	before, calls := f.told(), f.calls()
	for _, p := range []rp{a, b} {
		f.Break(p.ID, "http=401,ssh=refuse")
	}
	m := f.mark()
	f.Tick("scale")
	f.Tick("healthcheck")
	if n := f.told() - before; n != 0 || f.Said(m, events.ProxyUnreachable) != 0 {
		t.Errorf("%d connections to proxies with nothing to say\n%s", n, f.Story())
	}
	now := f.calls()
	for op, n := range calls {
		now[op] -= n
	}
	if now[local.OpList] != 2 || now[local.OpRecords] != 1 {
		t.Errorf("calls of two idle ticks: %v", now)
	}
	for _, p := range []rp{a, b} {
		f.Break(p.ID, "http=401")
	}

	// A strike takes the sick one out of every proxy; the second replaces it.
	sick := f.Webservers()[0]
	f.Break(sick.ID, "http=500")
	f.Tick("healthcheck")
	for _, p := range []rp{a, b} {
		if slices.Contains(p.Has(), sick.PrivateIP.String()) {
			t.Errorf("%s has the sick one still: %v\n%s", p.Name, p.Has(), f.Story())
		}
	}
	if _, there := f.Machine(sick.ID); !there {
		t.Error("it was destroyed at its first strike")
	}
	f.SettleBehind(2, a, b)
	if _, there := f.Machine(sick.ID); there {
		t.Error("it was not destroyed")
	}

	f.Tick("scale", "--count", "1")
	f.SettleBehind(1, a, b)
	r := f.Tick("status")
	for _, p := range []rp{a, b} {
		if !regexp.MustCompile(p.Name + ` +healthy +\S+ +yes +0 +1 `).MatchString(r.stdout) {
			t.Errorf("status does not show %s:\n%s", p.Name, r)
		}
	}
	if !strings.Contains(r.stdout, "IN PROXIES") || !regexp.MustCompile(`ws-lon1-shop-1-\S+ +1 +healthy +\S+ +yes `).MatchString(r.stdout) {
		t.Error(r)
	}
}

// calls counts the API's calls.
func (f *fleet) calls() map[local.Op]int {
	f.t.Helper()
	all, err := f.cloud.Calls()
	f.must(err)
	count := map[local.Op]int{}
	for _, c := range all {
		count[c.Op]++
	}
	return count
}

// TestProxyRefuses: one refuses the new list: it goes on with the old one, the
// other is changed, and no webserver ends that the one may send visitors to.
func TestProxyRefuses(t *testing.T) {
	f, a, b := newBehind(t, 2, settings{"scale.budget": `"3s"`}) // which a termination that waits uses up
	a.Refuse(true)
	old := a.Has()
	m := f.mark()
	f.Tick("scale", "--count", "3")
	f.awaitTicks("the other one has three", func() bool {
		f.Tick("scale")
		f.Tick("healthcheck")
		return len(b.Has()) == 3
	})
	if !slices.Equal(a.Has(), old) {
		t.Errorf("the one that refuses has %v, before %v", a.Has(), old)
	}
	if text, err := os.ReadFile(a.file("adt/shop.conf")); err != nil || strings.Count(string(text), "server ") != 2 {
		t.Errorf("it was not rolled back: %v\n%s", err, text)
	}
	said := f.Events(events.ProxyRefused)
	if f.Said(m, events.ProxyRefused) == 0 || said[0].Server != a.Name || !strings.Contains(said[0].Text, "nginx: [emerg] no such thing in shop.conf:3") {
		t.Errorf("the event lacks the first line of the error: %+v", said)
	}
	if r := f.Run("status"); !strings.Contains(r.stdout, "has not taken the change: refused: nginx: [emerg]") {
		t.Error(r)
	}
	if !slices.Equal(f.inDNS(), public(a, b)) {
		t.Errorf("in DNS are %v", f.inDNS())
	}

	// One of the old ones is to go, which the one that refuses has.
	var victim local.Machine
	for _, w := range f.Webservers() {
		if slices.Contains(old, w.PrivateIP.String()) {
			victim = w
		}
	}
	f.Break(victim.ID, "http=500")
	for range 4 {
		f.Run("healthcheck")
		f.Run("scale")
	}
	if _, there := f.Machine(victim.ID); !there {
		t.Fatalf("%s was destroyed, and a proxy sends visitors to it\n%s", victim.Name, f.Story())
	}
	if slices.Contains(b.Has(), victim.PrivateIP.String()) {
		t.Error("the other proxy has it still")
	}
	a.Refuse(false)
	f.SettleBehind(3, a, b)
	if _, there := f.Machine(victim.ID); there {
		t.Error("it was not destroyed in the end")
	}
}

// TestProxyIsAway: after the deadline a webserver ends although a proxy that
// does not answer may have it; that one is told when it is back, before it is in
// DNS again.
func TestProxyIsAway(t *testing.T) {
	f, a, b := newBehind(t, 2, settings{"proxies.removal_deadline": `"1s"`})
	f.Break(a.ID, "refuse")
	f.Tick("healthcheck")
	if !slices.Equal(f.inDNS(), public(a, b)) {
		t.Errorf("it left DNS at its first strike: %v", f.inDNS())
	}
	f.Tick("healthcheck")
	if !slices.Equal(f.inDNS(), public(b)) {
		t.Errorf("in DNS are %v, up is %v\n%s", f.inDNS(), public(b), f.Story())
	}
	f.Tick("scale", "--count", "1")
	f.awaitTicks("one is left", func() bool {
		f.Run("scale")
		return len(f.Webservers()) == 1
	})
	if f.count(events.ProxyOverdue) == 0 || f.count(events.ProxyDown) != 1 || f.count(events.ProxyFailing) == 0 {
		t.Errorf("it was not said\n%s", f.Story())
	}
	if len(a.Has()) != 2 {
		t.Errorf("it was away, and has %v", a.Has())
	}
	// It comes back with its old list, and cannot be told at first.
	f.Break(a.ID, "http=401,ssh=refuse")
	f.Run("healthcheck")
	if !slices.Equal(f.inDNS(), public(b)) {
		t.Errorf("it is in DNS with webservers that are gone: %v\n%s", f.inDNS(), f.Story())
	}
	f.Break(a.ID, "http=401")
	f.SettleBehind(1, a, b)
	if f.count(events.ProxyUp) < 3 {
		t.Errorf("it was not said\n%s", f.Story())
	}

	// Both fail: one stays.
	f.Break(a.ID, "http=502")
	f.Break(b.ID, "http=502")
	for range 4 {
		f.Run("healthcheck")
	}
	if n := len(f.inDNS()); n != 1 {
		t.Errorf("%d proxies are in DNS\n%s", n, f.Story())
	}
	if f.count(events.BrakeFloor) == 0 {
		t.Errorf("the floor was not said\n%s", f.Story())
	}
	if got := len(f.Machines()); got != 3 {
		t.Errorf("%d machines are left of 3: proxies are nobody's to destroy", got)
	}
}

// TestProxyIsGone: one that somebody destroyed leaves DNS, and is waited for no more.
func TestProxyIsGone(t *testing.T) {
	f, a, b := newBehind(t, 2, nil)
	f.must(f.cloud.Destroy(t.Context(), f.cloudID(a.ID)))
	f.awaitTicks("it leaves DNS and is forgotten", func() bool {
		f.Run("healthcheck")
		return slices.Equal(f.inDNS(), public(b)) && f.count(events.ProxyGone) == 1
	})
	f.Tick("scale", "--count", "1")
	f.SettleBehind(1, b)
	if r := f.Tick("status"); strings.Contains(r.stdout, a.Name) || !strings.Contains(r.stdout, b.Name) {
		t.Error(r)
	}
}

// TestProxiesKeepTheLast: a proxy is never left without webservers for their
// health; a fault on this side changes nothing.
func TestProxiesKeepTheLast(t *testing.T) {
	f, a, b := newBehind(t, 1, settings{"autoscaler.max_webservers": `1`})
	last := f.Webservers()[0]
	f.Break(last.ID, "http=500")
	f.Run("healthcheck")
	f.Run("healthcheck")
	f.Run("scale")
	for _, p := range []rp{a, b} {
		if !slices.Equal(p.Has(), []string{last.PrivateIP.String()}) {
			t.Errorf("%s has %v\n%s", p.Name, p.Has(), f.Story())
		}
	}
	if f.count(events.BrakeFloor) == 0 {
		t.Errorf("the floor was not said\n%s", f.Story())
	}
	f.Break(last.ID, "none")
	f.SettleBehind(1, a, b)

	// No webserver passes, so what is seen of the proxies proves nothing either.
	for _, m := range f.Machines() {
		f.Break(m.ID, "refuse")
	}
	m, has := f.mark(), a.Has()
	for range 4 {
		f.Run("healthcheck")
	}
	f.Untouched(m)
	if !slices.Equal(a.Has(), has) {
		t.Errorf("%v, before %v", a.Has(), has)
	}
	f.Break(last.ID, "none")
	for _, p := range []rp{a, b} {
		f.Break(p.ID, "http=401")
	}
	// Nor is anything done on a listing that failed, is empty, or lost a proxy.
	for _, fault := range []string{"error,times=2", "empty,times=2", "partial,times=2"} {
		m := f.mark()
		f.BreakAPI(local.OpList, fault)
		f.Run("healthcheck")
		f.Run("scale")
		f.BreakAPI(local.OpList, "none")
		f.Untouched(m)
		if !slices.Equal(a.Has(), has) || !slices.Equal(b.Has(), has) {
			t.Errorf("%s: %v and %v, before %v", fault, a.Has(), b.Has(), has)
		}
	}
	f.SettleBehind(1, a, b)
}

// TestProxiesTakeOver: a fleet in DNS is put behind proxies: at no moment is
// there nothing in DNS, and no webserver is touched.
func TestProxiesTakeOver(t *testing.T) {
	t.Parallel()
	f := newFleetAt(t, "local", nil)
	f.Tick("scale", "--count", "2")
	f.Settle(2)
	a := f.Proxy("aaaa")
	m := f.mark()
	f.configure(behind(nil))
	a.Refuse(true) // its own configuration is not ready
	for range 2 {
		f.Run("healthcheck")
		f.Run("scale")
	}
	if n := len(f.inDNS()); n != 2 {
		t.Errorf("%d records with a proxy that does not work\n%s", n, f.Story())
	}
	a.Refuse(false)
	f.Break(a.ID, "http=502") // it takes the list, and does not work
	for range 2 {
		f.Run("healthcheck")
	}
	if n := len(f.inDNS()); n != 2 || len(a.Has()) != 2 {
		t.Errorf("%d records with a proxy that is not up, which has %v\n%s", n, a.Has(), f.Story())
	}
	f.Break(a.ID, "http=401")
	f.SettleBehind(2, a)
	f.Expect(m, 0, 0)
	if n := f.LowestDNS(m); n < 1 {
		t.Errorf("DNS was down to %d records\n%s", n, f.Story())
	}
}

// TestProxiesOfSeveral: two autoscalers change the same proxies at the same time,
// and neither loses the other's webservers.
func TestProxiesOfSeveral(t *testing.T) {
	t.Parallel()
	f := newFleetAt(t, "local", nil)
	shared := behind(settings{
		"autoscaler.count": `2`, "datastore.takeover": `false`, "ssh.key": strconv.Quote(f.path("key")), "local.path": strconv.Quote(f.path("cloud")),
		"datastore.path": strconv.Quote(f.path("datastore")),
	})
	var both []*fleet
	for k := 1; k <= 2; k++ {
		m := &fleet{t: t, home: f.path(fmt.Sprint("as", k)), cloud: f.cloud, key: f.key, trace: f.trace, vendorID: f.vendorID}
		f.must(os.MkdirAll(m.home, 0o700))
		own := maps.Clone(shared)
		own["autoscaler.number"] = strconv.Itoa(k)
		m.configure(own)
		both = append(both, m)
	}
	f.configure(shared)
	proxies := []rp{f.Proxy("aaaa"), f.Proxy("bbbb")}
	for _, m := range both {
		f.must(os.MkdirAll(m.path("runtime"), 0o700))
		pins, err := os.ReadFile(f.path("runtime", "known_hosts"))
		f.must(err)
		f.must(os.WriteFile(m.path("runtime", "known_hosts"), pins, 0o600))
	}
	settle := func(total int) {
		t.Helper()
		f.awaitTicks(fmt.Sprintf("%d webservers are behind the proxies", total), func() bool {
			var wg sync.WaitGroup
			for _, m := range both {
				wg.Go(func() {
					for _, tick := range []string{"scale", "healthcheck", "reboot-if-done"} {
						m.Start(nil, tick)()
					}
				})
			}
			wg.Wait()
			want := private(f.Webservers())
			return len(want) == total && slices.Equal(f.inDNS(), public(proxies...)) &&
				slices.Equal(proxies[0].Has(), want) && slices.Equal(proxies[1].Has(), want)
		})
	}
	both[0].Tick("scale", "--count", "6")
	settle(6)
	both[0].Tick("scale", "--count", "2")
	settle(2)

	// One of each is left. That of the first may leave the proxies, since the
	// second's is there.
	var mine local.Machine
	for _, m := range f.Webservers() {
		if strings.HasPrefix(m.Name, "ws-lon1-shop-1-") {
			mine = m
		}
	}
	f.Break(mine.ID, "http=500")
	both[0].Run("healthcheck")
	if slices.Contains(proxies[0].Has(), mine.PrivateIP.String()) || len(proxies[0].Has()) != 1 {
		t.Errorf("the proxy has %v, sick is %s\n%s", proxies[0].Has(), mine.PrivateIP, both[0].Story())
	}
	// But not the second's too, whatever the second remembers of the first.
	for _, m := range f.Webservers() {
		if m.ID != mine.ID {
			f.Break(m.ID, "http=500")
		}
	}
	both[1].Run("healthcheck")
	if len(proxies[0].Has()) != 1 || len(proxies[1].Has()) != 1 {
		t.Errorf("the proxies have %v and %v\n%s", proxies[0].Has(), proxies[1].Has(), both[1].Story())
	}
}

// TestProxiesOfADeadAutoscaler: who keeps a dead one's webservers keeps its part of
// the proxies too, and gives it back.
func TestProxiesOfADeadAutoscaler(t *testing.T) {
	t.Parallel()
	q := newSquad(t)
	proxies := []rp{q.Proxy("aaaa"), q.Proxy("bbbb")}
	for _, m := range q.members {
		text, err := os.ReadFile(m.path("adt.toml"))
		q.must(err)
		// A call may take a tenth of a lease, and telling a proxy is a long one for a
		// busy machine.
		text = []byte(strings.Replace(string(text), fmt.Sprintf(`datastore.lease = "%s"`, squadLease), fmt.Sprintf(`datastore.lease = "%s"`, squadLease*5/2), 1))
		var more strings.Builder
		for key, value := range behind(nil) {
			fmt.Fprintf(&more, "%s = %s\n", key, value)
		}
		q.must(os.WriteFile(m.path("adt.toml"), append(text, more.String()...), 0o600))
		q.must(os.MkdirAll(m.path("runtime"), 0o700))
		pins, err := os.ReadFile(q.path("runtime", "known_hosts"))
		q.must(err)
		q.must(os.WriteFile(m.path("runtime", "known_hosts"), pins, 0o600))
	}
	rest := func(total int) {
		t.Helper()
		unrest := ""
		for end := time.Now().Add(20 * squadLease); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			want := private(q.Webservers())
			unrest = fmt.Sprintf("%d of %d webservers: %v; the proxies have %v and %v, DNS %v", len(want), total, want, proxies[0].Has(), proxies[1].Has(), q.inDNS())
			if len(want) == total && !q.building() && slices.Equal(proxies[0].Has(), want) && slices.Equal(proxies[1].Has(), want) && slices.Equal(q.inDNS(), public(proxies...)) {
				return
			}
		}
		q.fail("%s", unrest)
	}
	q.watchDead(proxies...)
	q.Ask(6)
	for _, m := range q.members {
		m.On()
	}
	rest(6)
	q.members[0].Off() // who keeps the proxies' records
	q.AwaitKeeper(1, 2)
	for _, m := range q.Webservers() {
		if strings.HasPrefix(m.Name, "ws-lon1-shop-1-") {
			q.Break(m.ID, "http=500")
			q.awaitGone(m.ID)
			break
		}
	}
	rest(6)
	q.Break(proxies[0].ID, "http=502")
	q.awaitTicks("the proxy that is down leaves DNS", func() bool { return slices.Equal(q.inDNS(), public(proxies[1])) })
	q.Break(proxies[0].ID, "http=401")
	q.Ask(3)
	rest(3)
	q.members[0].On() // and finds nothing of what it knew
	q.AwaitKeeper(1, 1)
	q.Ask(6)
	rest(6)
}

// building reports whether an autoscaler that is on has a build on record: one
// that is cut off then leaves it to be gone on with, and not to be judged.
func (q *squad) building() bool {
	for _, m := range q.members {
		for _, pattern := range []string{"AUTOSCALINGMONITOR:*", "shards/*/AUTOSCALINGMONITOR:*"} {
			if files, _ := filepath.Glob(m.path("runtime", pattern)); m.on() && len(files) > 0 {
				return true
			}
		}
	}
	return false
}

// watchDead holds until the test ends that no proxy has a webserver that is gone.
func (f *fleet) watchDead(proxies ...rp) {
	end, ended := make(chan struct{}), make(chan struct{})
	f.t.Cleanup(func() { close(end); <-ended })
	go func() {
		defer close(ended)
		for {
			for _, p := range proxies {
				before := p.Has()
				there := map[string]bool{}
				for _, m := range f.Machines() {
					there[m.PrivateIP.String()] = true
				}
				after := p.Has() // or it was taken out and destroyed between the two looks
				for _, address := range before {
					if !there[address] && slices.Contains(after, address) {
						f.t.Errorf("%s has %s, which is gone", p.Name, address)
						return
					}
				}
			}
			select {
			case <-end:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
}

// TestProxiesKilledAtEachStep: SIGKILL at each step of the ticks that put
// webservers behind proxies and take them out. No webserver ends while a proxy
// has it, and the proxies come to have what is in order.
func TestProxiesKilledAtEachStep(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	t.Parallel()
	const most = 60 // steps of a run: fewer, as is checked
	several(t, upTo(most/2), func(n int) string { return fmt.Sprintf("step-%d", 2*n) }, func(t *testing.T, n int) {
		f := newFleetAt(t, "local", behind(nil))
		a := f.Proxy("aaaa")
		f.Tick("scale", "--count", "1")
		f.SettleBehind(1, a)
		kill := fmt.Sprintf("%s=%d", envKillAt, 2*n)
		killed := 0
		for _, args := range [][]string{{"scale", "--count", "2"}, {"scale"}, {"healthcheck"}, {"scale", "--count", "1"}, {"scale"}, {"healthcheck"}} {
			if f.RunWith([]string{kill}, args...).killed {
				killed++
			}
			f.nothingDead(a)
			if len(args) > 1 {
				f.Tick(args...)
			}
		}
		if 2*n <= 20 && killed == 0 {
			t.Error("no run was killed")
		}
		if 2*n == most && killed > 0 {
			t.Fatalf("a run has more than %d steps", most)
		}
		f.SettleBehind(1, a)
	})
}

// nothingDead fails the test when a proxy has a webserver that is gone.
func (f *fleet) nothingDead(p rp) {
	f.t.Helper()
	there := map[string]bool{}
	for _, m := range f.Webservers() {
		there[m.PrivateIP.String()] = true
	}
	for _, address := range p.Has() {
		if !there[address] {
			f.t.Fatalf("%s has %s, which is gone\n%s", p.Name, address, f.Story())
		}
	}
}

// TestProxiesByAddress: proxies that are in no listing are named by their
// addresses, with the original's scripts.
func TestProxiesByAddress(t *testing.T) {
	t.Parallel()
	f := newFleetAt(t, "local", nil)
	m := f.Foreign("somebody-elses-name")
	f.Break(m.ID, "http=401")
	p := rp{f, m}
	list := p.file("list")
	for name, text := range map[string]string{"add.sh": `grep -qxF "$1" list || echo "$1" >>list`, "remove.sh": `touch list; grep -vxF "$1" list >new; mv new list`} {
		f.must(os.WriteFile(p.file(name), []byte(text), 0o600))
	}
	has := func() []string {
		text, _ := os.ReadFile(list)
		lines := strings.Fields(string(text))
		slices.Sort(lines)
		return lines
	}
	f.configure(behind(settings{
		"proxies.kind": `"original"`, "proxies.add_command": `"sh add.sh"`, "proxies.remove_command": `"sh remove.sh"`,
		"proxies.addresses": fmt.Sprintf(`["%s %s"]`, m.PublicIP, m.PrivateIP),
	}))
	for _, count := range []string{"3", "1"} {
		f.Tick("scale", "--count", count)
		f.awaitTicks("the list is right", func() bool {
			for _, tick := range []string{"scale", "healthcheck", "reboot-if-done"} {
				f.Run(tick)
			}
			var want []string
			for _, w := range f.Webservers() {
				if w.ID != m.ID {
					want = append(want, w.PrivateIP.String())
				}
			}
			slices.Sort(want)
			return fmt.Sprint(len(want)) == count && slices.Equal(has(), want) && slices.Equal(f.inDNS(), public(p))
		})
	}
}

// TestDoctorOfProxies: each proxy has a line.
func TestDoctorOfProxies(t *testing.T) {
	f, a, b := newBehind(t, 1, nil)
	lines := func() map[string]string {
		t.Helper()
		var findings []struct {
			What, Detail, Hint string
			OK                 bool
		}
		r := f.Run("doctor", "--json")
		if err := json.Unmarshal([]byte(r.stdout), &findings); err != nil {
			t.Fatal(err, r)
		}
		found := map[string]string{}
		for _, x := range findings {
			if strings.HasPrefix(x.What, "proxy ") || x.What == "proxies" {
				found[x.What] = fmt.Sprint(x.OK, ": ", x.Detail)
			}
		}
		return found
	}
	for what, line := range lines() {
		if !strings.HasPrefix(line, "true: ") {
			t.Errorf("%s: %s", what, line)
		}
	}
	a.Refuse(true)
	f.must(remote.Unpin(f.path("runtime", "known_hosts"), b.PrivateIP, 2222))
	found := lines()
	if line := found["proxy "+a.Name]; !strings.HasPrefix(line, "false: ") || !strings.Contains(line, "[emerg] no such thing") {
		t.Errorf("%s: %s", a.Name, line)
	}
	if line := found["proxy "+b.Name]; !strings.HasPrefix(line, "false: ") || !strings.Contains(line, "host key") {
		t.Errorf("%s: %s", b.Name, line)
	}
	f.configure(behind(settings{"proxies.count": `3`}))
	if line := lines()["proxies"]; !strings.HasPrefix(line, "false: ") {
		t.Errorf("proxies: %s", line)
	}
}

// The proxies of a vendor's account are in the one listing that a tick makes.
func TestProxyNames(t *testing.T) {
	fleet := autoscaler.Fleet{Region: "ch-gva-2", Build: "test-gb", User4: "agil"}
	for name, want := range map[string]bool{
		"rp-ch-gva-2-test-gb-aaaa": true, "rp-ch-gva-2-test-gb-1-agil-aaaa": true, "rp-ch-gva-2-test-gb-init-1": true,
		"rp-ch-gva-2-test-gb-": false, "rp-ch-gva-2-test-gb": false, "rp-ch-gva-2-test-g-aaaa": false, "rp-ch-gva-2-test-gb-a b": false,
		"xrp-ch-gva-2-test-gb-aaaa": false, "ws-ch-gva-2-test-gb-1-agil-aaaa": false,
	} {
		if got := fleet.IsProxy(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
