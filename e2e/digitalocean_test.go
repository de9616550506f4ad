package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"adt/cloudinit"
	"adt/events"
	"adt/provider/apitest"
	"adt/provider/local"
)

// requests is how many of each operation a run of adt sent to the vendor.
func (f *fleet) requests(args ...string) map[string]int {
	f.t.Helper()
	before := f.api.Requests()
	f.Tick(args...)
	after := f.api.Requests()
	for operation, n := range before {
		after[operation] -= n
	}
	maps.DeleteFunc(after, func(_ string, n int) bool { return n == 0 })
	return after
}

// TestRequests holds the budget of API requests, of which an account has 5,000
// an hour for all that uses it.
func TestRequests(t *testing.T) {
	t.Parallel()
	const poll = 250 * time.Millisecond
	f := newFleetAt(t, "digitalocean", settings{
		"build.poll": fmt.Sprintf("%q", poll), "scale.budget": `"60s"`,
		"autoscaler.max_webservers": `20`, "digitalocean.vpc": `"shop"`, "digitalocean.firewall": `true`,
	})
	f.api.AddVPC("shop", "lon1")
	f.api.AddFirewall("adt-webserver-shop")
	f.Tick("scale", "--count", "15")
	began := time.Now()
	got := f.requests("scale")
	if lists, polls := got["GET /v2/droplets"], max(40, int(time.Since(began)/poll)); lists > 1+polls {
		t.Errorf("%d listings in a run of at most %d polls", lists, polls)
	}
	delete(got, "GET /v2/droplets")
	// Beside the creates: three look-ups, a list and 15 additions of records, and
	// what puts servers behind the firewall.
	want := map[string]int{
		"POST /v2/droplets": 15, "GET /v2/account/keys": 1, "GET /v2/vpcs": 1, "GET /v2/firewalls": 1,
		"POST /v2/firewalls/{id}/droplets": 15, "GET /v2/domains/{zone}/records": 1, "POST /v2/domains/{zone}/records": 15,
	}
	if !maps.Equal(got, want) {
		t.Errorf("--count 15: %v\nwant %v", got, want)
	}
	f.Settle(15)
	f.Tick("scale", "--count", "20")
	f.Settle(20)
	for command, want := range map[string]map[string]int{
		"scale":          {"GET /v2/droplets": 1},
		"healthcheck":    {"GET /v2/droplets": 1, "GET /v2/domains/{zone}/records": 1},
		"reboot-if-done": {},
	} {
		if got := f.requests(command); !maps.Equal(got, want) {
			t.Errorf("%s with 20 webservers and nothing to do: %v, want %v", command, got, want)
		}
	}
}

// TestQuotaReserve: with few requests left what was lost is replaced, and
// nothing grows or shrinks.
func TestQuotaReserve(t *testing.T) {
	t.Parallel()
	f := newFleetAt(t, "digitalocean", settings{"digitalocean.quota_reserve": `4000`})
	f.Tick("scale", "--count", "3")
	f.Settle(3)
	f.api.SetQuota(1000)
	for _, count := range []string{"5", "2"} {
		m := f.mark()
		f.Tick("scale", "--count", count)
		if r := f.Run("scale"); r.code != 3 {
			t.Errorf("--count %s: %v", count, r)
		}
		f.Untouched(m)
		if f.Said(m, events.BrakeQuota) == 0 {
			t.Errorf("--count %s: no event\n%s", count, f.Story())
		}
	}
	f.Tick("scale", "--count", "5")
	m, sick := f.mark(), f.Members()[0]
	f.Break(sick.ID, "http=500")
	f.Await("the sick one is replaced", func() bool {
		f.Run("healthcheck")
		f.Run("scale")
		_, there := f.Machine(sick.ID)
		return !there && len(f.State().Builds) == 0 && len(f.Members()) == 3
	})
	f.Expect(m, 1, 1)
	f.api.SetQuota(5000)
	f.Settle(5)
}

// TestAdoption: adt takes over a fleet that the original has built: no tags, no
// pinned host keys but the shared one, its files in the runtime directory and
// its records in DNS. No healthy webserver is touched.
func TestAdoption(t *testing.T) {
	t.Parallel()
	f := newFleetAt(t, "digitalocean", settings{"ssh.shared_host_key": `true`})
	names := []string{"ws-lon1-shop-1-agil-aB3d", "ws-lon1-shop-1-agil-x9Kd", "ws-lon1-shop-1-agil-init-1"}
	for _, name := range names {
		m := f.Original(name)
		f.must(f.backing.AddRecord(t.Context(), "www.example.com", m.PublicIP, 0))
	}
	f.Original("ws-lon1-other-1-agil-aaaa") // another build's, and what else the account has
	f.Original("NO-1-as-lon1-shop-x")
	runtime := map[string]string{
		"AUTHORISED_TO_SCALE": "", "AUTOSCALER_READY": "", "DONT_MESS_WITH_THESE_FILES-SYSTEM_BREAK": "",
		"autoscalelock.file": "", "deadoralivelock.file": "", "scaling/STATIC_SCALE:2": "",
		"AUTOSCALINGMONITOR:1": "", "INITIALLY_PROVISIONING-1.lock": "", "beingbuiltips/1/10.0.0.9": "",
		"potentialenders/listofipstoend.dat": "10.0.0.7\n10.0.0.7\n", "POTENTIAL_STALLED_BUILD:10.0.0.9": "",
		"zoneid.dat": "abc\n", "autoscaler_configuration_settings.dat": "REGION:lon1\n",
	}
	for name, text := range runtime {
		f.must(os.MkdirAll(filepath.Dir(f.path("runtime", name)), 0o700))
		f.must(os.WriteFile(f.path("runtime", name), []byte(text), 0o600))
	}
	m, before := f.mark(), f.Names()
	for range 3 { // without a profile
		f.Run("healthcheck")
		f.Run("scale")
	}
	f.Untouched(m)
	f.Tick("scale", "--count", "2")
	for range 3 {
		f.Tick("healthcheck")
		f.Tick("scale")
		f.Run("reboot-if-done")
	}
	f.Untouched(m)
	if after := f.Names(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Fatalf("%v, before %v", after, before)
	}
	known := map[string]string{}
	for _, k := range f.State().Known {
		known[k.Name] = k.State
	}
	for _, name := range names {
		if known[name] != "healthy" {
			t.Errorf("%s is %q\n%s", name, known[name], f.Story())
		}
	}
	if data, err := os.ReadFile(f.path("runtime", "autoscaler_configuration_settings.dat")); err != nil || string(data) != "REGION:lon1\n" {
		t.Errorf("the original's settings: %q, %v", data, err)
	}
	// It is a fleet like any other now: what is sick is replaced.
	sick, _ := f.Machine(names[0])
	f.Break(sick.ID, "http=500")
	f.Await("the sick one is replaced", func() bool {
		f.Run("healthcheck")
		f.Run("scale")
		_, there := f.Machine(sick.ID)
		return !there && len(f.State().Builds) == 0
	})
	f.Expect(m, 1, 1)
	if gone := f.Since(m, local.Destroyed); gone[0].Name != names[0] {
		t.Errorf("%s is gone", gone[0].Name)
	}
}

// TestCutCreates: the vendor makes the server and the answer is lost, or fails
// after that: it is found by its name, and no second one is made.
func TestCutCreates(t *testing.T) {
	t.Parallel()
	for name, fault := range createFaults() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := garbled(t, nil)
			f.api.Fail("POST /v2/droplets", fault)
			f.Tick("scale", "--count", "3")
			f.Run("scale")
			f.Settle(3)
			f.Expect(mark{}, 3, 0)
			if n := f.api.Requests()["POST /v2/droplets"]; n > 4 || !fault.After && n != 4 {
				t.Errorf("%d creates were sent\n%s", n, f.Story())
			}
			if said := f.Events(events.BuildAdopted); fault.After != (len(said) == 1) {
				t.Errorf("adopted: %v", said)
			}
		})
	}
}

// TestNoSecretIsTold runs a fleet through its life, the vendor failing now and
// then, and looks for each secret in all that is written and in the arguments
// of all processes.
func TestNoSecretIsTold(t *testing.T) {
	t.Parallel()
	const password, hash = "the-sudo-password-of-this-test", "$6$the-hash-of-that-password"
	f := garbled(t, settings{
		"ssh.sudo_password": `"` + password + `"`, "cloudinit.password_hash": `"` + hash + `"`,
	})
	token := strings.Trim(f.account["digitalocean.token"], `"`)
	key, err := os.ReadFile(f.path("key"))
	f.must(err)
	secrets := map[string]string{"token": token, "password": password, "hash": hash, "login key": middle(string(key))}
	arguments := f.watchArguments()
	output := &strings.Builder{}
	run := func(args ...string) { fmt.Fprintln(output, f.Run(args...)) }
	f.api.Fail("POST /v2/droplets", createFaults()["cut, made"])
	run("scale", "--count", "3")
	for range 3 {
		run("scale")
		run("healthcheck")
	}
	f.Settle(3)
	for _, fault := range refusals() {
		f.api.Fail("GET /v2/droplets", fault)
		f.api.Fail("POST /v2/droplets", fault)
		for _, args := range [][]string{{"scale"}, {"healthcheck"}, {"status"}, {"doctor"}, {"scale", "--dry-run"}, {"scale", "--count", "4"}} {
			run(args...)
		}
		f.api.Heal()
	}
	f.Settle(4)
	f.Break(f.Members()[0].ID, "http=500")
	for range 3 {
		run("healthcheck")
		run("scale")
	}
	for _, args := range [][]string{{"status", "--json"}, {"events"}, {"config", "show"}, {"config", "show", "--json"}, {"doctor", "--json"},
		{"cloud-init", "render"}, {"config", "example"}, {"scale", "--no-such-flag"}} {
		run(args...)
	}
	for _, m := range f.Machines() {
		boot, err := cloudinit.Parse(f.api.UserData(t, m.ID))
		f.must(err)
		secrets["host key of "+m.Name] = middle(boot.HostKeyPrivate)
	}
	told := map[string]string{"output": output.String(), "arguments": arguments()}
	for _, folder := range []string{"runtime", "logs", "datastore"} {
		f.must(filepath.WalkDir(f.path(folder), func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			told[path] = string(data)
			return err
		}))
	}
	if len(told) < 10 || !strings.Contains(told["arguments"], "scale") {
		t.Fatalf("nothing was looked at: %d files, arguments %.200q", len(told), told["arguments"])
	}
	for what, secret := range secrets {
		if len(secret) < 16 {
			t.Errorf("%s is no secret to look for: %q", what, secret)
		}
		for where, text := range told {
			if strings.Contains(text, secret) {
				t.Errorf("the %s is in %s", what, where)
			}
		}
	}
}

// createFaults are ways in which the outcome of a create is lost.
func createFaults() map[string]apitest.Fault {
	return map[string]apitest.Fault{
		"cut":       {Cut: true, Times: 1},
		"cut, made": {Cut: true, After: true, Times: 1},
		"500":       {Status: 500, Times: 1},
		"500, made": {Status: 500, After: true, Times: 1},
		"garbage":   {Body: "<html>", After: true, Times: 1},
	}
}

// refusals are answers other than what was asked for.
func refusals() []apitest.Fault {
	return []apitest.Fault{{Status: 401}, {Status: 403}, {Status: 422}, {Status: 429}, {Status: 500}, {Cut: true}, {Body: "{}"}}
}

// watchArguments collects the argument lists of all processes until the
// function that it returns is called, which returns them.
func (f *fleet) watchArguments() func() string {
	seen, stop, done := map[string]bool{}, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			lists, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, path := range lists {
				if data, err := os.ReadFile(path); err == nil {
					seen[string(data)] = true
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	end := sync.OnceFunc(func() { close(stop); <-done })
	f.t.Cleanup(end)
	return func() string {
		end()
		return strings.Join(slices.Sorted(maps.Keys(seen)), "\n")
	}
}

// middle is a line out of the middle of a key.
func middle(pem string) string {
	lines := strings.Split(strings.TrimSpace(pem), "\n")
	return strings.TrimSpace(lines[len(lines)/2])
}

// TestSharedHostKey: where it is wanted, new webservers show the build key as
// those of the original do, and are known by it.
func TestSharedHostKey(t *testing.T) {
	t.Parallel()
	f := newFleetAt(t, "digitalocean", settings{"ssh.new_host_keys": `"build-key"`})
	f.Tick("scale", "--count", "1")
	f.Settle(1)
	boot, err := cloudinit.Parse(f.api.UserData(t, f.Members()[0].ID))
	f.must(err)
	key, err := os.ReadFile(f.path("key"))
	f.must(err)
	if boot.HostKeyPrivate != string(key) {
		t.Error("the host key is not the build key")
	}
	f.Tick("healthcheck")
}

// TestDoctorOfAnAccount: what is missing there has its line.
func TestDoctorOfAnAccount(t *testing.T) {
	t.Parallel()
	f := newFleetAt(t, "digitalocean", settings{"digitalocean.vpc": `"shop"`, "digitalocean.firewall": `true`, "website.url": `"www.example.com"`})
	lines := func() map[string]bool {
		t.Helper()
		var findings []struct {
			What, Detail, Hint string
			OK                 bool
		}
		r := f.Run("doctor", "--json")
		if err := json.Unmarshal([]byte(r.stdout), &findings); err != nil {
			t.Fatal(err, r)
		}
		found := map[string]bool{}
		for _, x := range findings {
			found[x.What] = x.OK
			if !x.OK && x.Hint == "" && !strings.Contains(x.Detail, ": ") {
				t.Errorf("nothing is said to do about %s: %s", x.What, x.Detail)
			}
		}
		return found
	}
	account := []string{"token", "region lon1", "size s-1vcpu-2gb", "image debian-13-x64", "SSH key AGILE_TOOLKIT_PUBLIC_KEY-shop", "servers", "DNS"}
	lacking := []string{"VPC shop", "firewall adt-webserver-shop"}
	before := f.api.Requests()
	found := lines()
	for _, what := range account {
		if !found[what] {
			t.Errorf("%s is wrong: %v", what, found)
		}
	}
	for _, what := range lacking {
		if ok, there := found[what]; ok || !there {
			t.Errorf("%s is fine: %v", what, found)
		}
	}
	f.api.AddVPC("shop", "lon1")
	f.api.AddFirewall("adt-webserver-shop")
	found = lines()
	for _, what := range append(account, lacking...) {
		if !found[what] {
			t.Errorf("%s is wrong: %v", what, found)
		}
	}
	for operation, n := range f.api.Requests() {
		if !strings.HasPrefix(operation, "GET ") && n > before[operation] {
			t.Errorf("it changed something: %s", operation)
		}
	}
	f.configure(settings{"digitalocean.token": `"dop_v1_wrong"`})
	if found := lines(); found["token"] {
		t.Error("a wrong token is fine")
	}
}

// TestCost: what the fleet costs, and what a change would.
func TestCost(t *testing.T) {
	t.Parallel()
	f := newFleetAt(t, "digitalocean", nil)
	for args, want := range map[string]string{
		"scale --dry-run --count 3": "it would cost 36.00 USD a month (0.054 an hour) more",
	} {
		if r := f.Tick(strings.Fields(args)...); !strings.Contains(r.stdout, want) {
			t.Errorf("want %q: %v", want, r)
		}
	}
	f.Tick("scale", "--count", "3")
	if r := f.Tick("scale", "--dry-run"); !strings.Contains(r.stdout, "it would cost 36.00 USD a month") {
		t.Error(r)
	}
	f.Settle(3)
	if r := f.Tick("status"); !strings.Contains(r.stdout, "it costs 36.00 USD a month (0.054 an hour)") {
		t.Error(r)
	}
	f.Tick("scale", "--count", "1")
	if r := f.Tick("scale", "--dry-run"); !strings.Contains(r.stdout, "it would save 24.00 USD a month") {
		t.Error(r)
	}
}
