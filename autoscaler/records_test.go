package autoscaler

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"adt/provider"
	"adt/rundir"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestBackoffAfter(t *testing.T) {
	delays := []time.Duration{5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute}
	var b Backoff
	now := noon
	for i, want := range []time.Duration{5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute, 30 * time.Minute} {
		began := now
		now = now.Add(time.Minute)
		b = b.After(now, began, delays, 5)
		if b.Failures != i+1 || b.Until != now.Add(want) || b.Stopped != (i == 4) {
			t.Fatalf("after failure %d: %+v", i+1, b)
		}
		// Those that began with it, or before it failed, fail as one with it.
		for _, other := range []time.Time{began, began.Add(time.Second), now} {
			if again := b.After(now.Add(time.Minute), other, delays, 5); again != b {
				t.Fatalf("one that began at %v counts again: %+v", other, again)
			}
		}
		now = b.Until
	}
	if b := (Backoff{}).After(noon, noon, nil, 1); b.Failures != 1 || !b.Stopped || !b.Until.IsZero() {
		t.Errorf("without delays, and one failure at most: %+v", b)
	}
}

func TestOverdue(t *testing.T) {
	phases := map[Phase]time.Duration{Named: time.Minute, Created: 2 * time.Minute}
	for _, c := range []struct {
		phase       Phase
		age, inside time.Duration
		want        string
	}{
		{Named, 30 * time.Second, 30 * time.Second, ""},
		{Named, time.Minute, time.Minute, ""},
		{Named, 2 * time.Minute, time.Minute + 1, "still named after 1m0s"},
		{Created, 3 * time.Minute, 2 * time.Minute, ""},
		{Created, 5 * time.Minute, 3 * time.Minute, "still created after 2m0s"},
		{InDNS, 30 * time.Minute, 29 * time.Minute, ""}, // has no limit of its own
		{InDNS, 30*time.Minute + 1, 0, "not done within 30m0s (build.deadline)"},
		{Named, -time.Hour, -time.Hour, ""}, // a clock that was set back
	} {
		b := Build{Phase: c.phase, Began: noon.Add(-c.age), Since: noon.Add(-c.inside)}
		if got := b.overdue(noon, 30*time.Minute, phases); got != c.want {
			t.Errorf("%s for %s of %s: %q, want %q", c.phase, c.inside, c.age, got, c.want)
		}
	}
}

func TestFound(t *testing.T) {
	server := func(id, name string, minute int) provider.Server {
		return provider.Server{ID: id, Name: name, Created: noon.Add(time.Duration(minute) * time.Minute)}
	}
	const name = "ws-lon1-shop-1-agil-aaaa"
	young, old, other := server("2", name, 2), server("1", name, 1), server("3", name+"x", 0)
	for _, c := range []struct {
		build   Build
		servers []provider.Server
		want    string
	}{
		{Build{Name: name}, nil, ""},
		{Build{Name: name}, []provider.Server{other}, ""},
		{Build{Name: name}, []provider.Server{other, young, old}, "1"},
		{Build{Name: name}, []provider.Server{old, young, other}, "1"},
		{Build{Name: name, ID: "2"}, []provider.Server{old, young, other}, "2"},
		{Build{Name: name, ID: "4"}, []provider.Server{old, young, other}, ""}, // its name alone proves nothing
	} {
		s, ok := c.build.found(c.servers)
		if s.ID != c.want || ok != (c.want != "") {
			t.Errorf("%+v in %+v: found %q, %v; want %q", c.build, c.servers, s.ID, ok, c.want)
		}
	}
}

func TestSettled(t *testing.T) {
	sent := Build{Sent: noon}
	for _, c := range []struct {
		build  Build
		listed time.Time
		want   bool
	}{
		{Build{}, noon, true}, // nothing was sent
		{sent, noon, false}, {sent, noon.Add(-time.Hour), false}, {sent, noon.Add(time.Minute - 1), false}, {sent, noon.Add(time.Minute), true},
	} {
		if got := c.build.settled(c.listed, time.Minute); got != c.want {
			t.Errorf("sent %v, listed %v: %v", c.build.Sent, c.listed, got)
		}
	}
}

func TestDeparted(t *testing.T) {
	inv := Inventory{Servers: map[string]Known{"1": {ID: "1"}}, Gone: map[string]time.Time{"old": noon.Add(-goneFor)}}
	inv.depart("1", noon)
	if len(inv.Servers) != 0 || !inv.departed("1", noon.Add(goneFor-1)) || inv.departed("1", noon.Add(goneFor)) || inv.departed("2", noon) {
		t.Errorf("after departing: %+v", inv)
	}
	if _, kept := inv.Gone["old"]; kept {
		t.Error("the ids of servers that are long gone pile up")
	}
}

// records of every kind, and where they are kept.
func kinds() map[string]func() any {
	return map[string]func() any{
		buildFile(1): func() any { return new(Build) }, endFile("l-1"): func() any { return new(Termination) },
		serversFile: func() any { return new(Inventory) }, cycleFile: func() any { return new(Cycle) }, backoffFile: func() any { return new(Backoff) },
		rebootFile: func() any { return new(Reboot) }, pausesFile: func() any { return new(pauses) }, guardsFile: func() any { return new(guards) },
	}
}

// FuzzRecords: whatever is in a state file, it is read, set aside or refused,
// and what was read is written and read again the same.
func FuzzRecords(f *testing.F) {
	address := netip.MustParseAddr("10.0.0.1")
	for name, record := range map[string]any{
		buildFile(1):   Build{Version: 1, N: 1, Name: "ws-lon1-shop-1-agil-aaaa", Phase: Created, Began: noon, Since: noon, ID: "l-1", PrivateIP: address},
		endFile("l-1"): Termination{Version: 1, ID: "l-1", Cause: Excess, Phase: Draining, PublicIP: address, Began: noon, Since: noon},
		serversFile: Inventory{Version: 1, Servers: map[string]Known{"l-1": {ID: "l-1", FirstSeen: noon}}, Gone: map[string]time.Time{"l-2": noon},
			Unlisted: map[netip.Addr]time.Time{address: noon}},
		cycleFile:   Cycle{Version: 1, Started: noon, Profile: 3},
		backoffFile: Backoff{Version: 1, Failures: 2, Failed: noon, Until: noon},
		rebootFile:  Reboot{Version: 1, BootID: "b", Tries: 1},
		pausesFile:  pauses{1, map[string]Pause{"dns": {Reason: "why", Since: noon}}},
		guardsFile:  guards{1, map[string]bool{"ws-lon1-shop-1-agil-aaaa": true}},
	} {
		data, err := json.Marshal(record)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(name, data)
		f.Add(name, data[:len(data)/2])
		f.Add(name, []byte(strings.Replace(string(data), `"version":1`, `"version":2`, 1)))
	}
	f.Add(serversFile, []byte(`{"version":1,"servers":{"l-1":{"public_ip":"10.0.0"}}}`))
	f.Add(cycleFile, []byte(`{"version":1,"started":"yesterday"}`))
	f.Add(cycleFile, []byte(nil))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		record, known := kinds()[name]
		if !known {
			return
		}
		asides := 0
		dir, err := rundir.Open(t.TempDir(), nil, func(string, string, error) { asides++ })
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(dir.Path(name)), 0o700), os.WriteFile(dir.Path(name), data, 0o600)); err != nil {
			t.Fatal(err)
		}
		first := record()
		found, err := dir.Read(name, first)
		_, stays, _ := dir.Exists(name)
		var version *rundir.VersionError
		switch {
		case err != nil && (!errors.As(err, &version) || !stays || !strings.Contains(err.Error(), name)):
			t.Fatalf("refused with %v, the file stays: %v", err, stays)
		case err != nil:
			return
		case !found && (asides != 1 || stays):
			t.Fatalf("passed over in silence: set aside %d times, the file stays: %v", asides, stays)
		case !found:
			return
		}
		if err := dir.Write(name, first); err != nil {
			t.Skip("time of no year that JSON knows: ", err)
		}
		second := record()
		if found, err := dir.Read(name, second); !found || err != nil {
			t.Fatalf("not read again: %v, %v", found, err)
		}
		a, _ := json.Marshal(first)
		b, _ := json.Marshal(second)
		if diff := cmp.Diff(string(a), string(b)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestBuildsSkipForeignMarkers(t *testing.T) {
	dir, err := rundir.Open(t.TempDir(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{2, 10, 1} {
		if err := dir.Write(buildFile(n), Build{Version: 1, Name: fmt.Sprint(n)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := dir.Mark(buildPrefix + "x"); err != nil {
		t.Fatal(err)
	}
	builds, err := (&Autoscaler{Dir: dir}).Builds()
	if err != nil || len(builds) != 3 {
		t.Fatalf("builds are %+v, %v", builds, err)
	}
	for _, b := range builds {
		if b.Name != fmt.Sprint(b.N) {
			t.Errorf("build %d is %s", b.N, b.Name)
		}
	}
}
