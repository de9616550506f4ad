package monitor_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"adt/monitor"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func limits() monitor.Limits {
	return monitor.Limits{Window: 5 * time.Minute, Overloaded: 75, CPU: 95, LoadBusy: 90, LoadShare: 25, Available: 5, Disk: 90, Inodes: 90, Errors: 1, Synced: true}
}

// calm is a sample in which all is well.
func calm() monitor.Sample {
	busy, available, lost := 10.0, 60.0, 0.0
	return monitor.Sample{Busy: &busy, Available: &available, Errors: &lost, Disks: map[string]float64{"/": 50}, Inodes: map[string]float64{"/": 5}}
}

func busy(percent float64) func(*monitor.Sample) {
	return func(s *monitor.Sample) { s.Busy = &percent }
}

// minutes are samples, one a minute, the last one of now; each is calm but for what
// its change makes of it.
func minutes(changes ...func(*monitor.Sample)) []monitor.Sample {
	all := make([]monitor.Sample, len(changes))
	for i, change := range changes {
		all[i] = calm()
		all[i].At = now.Add(time.Duration(i+1-len(changes)) * time.Minute)
		if change != nil {
			change(&all[i])
		}
	}
	return all
}

func times(n int, change func(*monitor.Sample)) []func(*monitor.Sample) {
	return slices.Repeat([]func(*monitor.Sample){change}, n)
}

func TestJudge(t *testing.T) {
	full := func(s *monitor.Sample) { s.Disks = map[string]float64{"/": 50, "/home": 91} }
	noInodes := func(s *monitor.Sample) { s.Inodes = map[string]float64{"/": 95} }
	little := func(s *monitor.Sample) { v := 4.0; s.Available = &v }
	unsynced := func(s *monitor.Sample) { s.Unsynced = true }
	skewed := func(s *monitor.Sample) { s.Skewed = true }
	offline := func(s *monitor.Sample) { s.Offline = true }
	lossy := func(s *monitor.Sample) { v := 2.5; s.Errors = &v }
	unknown := func(s *monitor.Sample) { s.Busy = nil }
	told := func(a ...monitor.Alarm) map[monitor.Alarm]monitor.Raised {
		m := map[monitor.Alarm]monitor.Raised{}
		for _, alarm := range a {
			m[alarm] = monitor.Raised{Since: now.Add(-time.Hour), Told: true}
		}
		return m
	}
	untold := map[monitor.Alarm]monitor.Raised{monitor.CPU: {Since: now.Add(-time.Hour)}}
	acknowledged := func(a ...monitor.Alarm) map[monitor.Alarm]bool {
		m := map[monitor.Alarm]bool{}
		for _, alarm := range a {
			m[alarm] = true
		}
		return m
	}
	atOnce := func() monitor.Limits { l := limits(); l.Window = 0; return l }()
	unwatched := func() monitor.Limits { l := limits(); l.Synced = false; return l }()
	for name, row := range map[string]struct {
		samples []monitor.Sample
		limits  monitor.Limits
		before  map[monitor.Alarm]monitor.Raised
		known   map[monitor.Alarm]bool
		after   []monitor.Alarm
		news    []string // "alarm" or "alarm over", and a word of its text
	}{
		"all is well":              {samples: minutes(times(10, nil)...)},
		"busy for a moment":        {samples: minutes(nil, nil, nil, busy(99), busy(99))},
		"busy but once":            {samples: minutes(busy(99), busy(99), busy(20), busy(99), busy(99))},
		"overloaded":               {samples: minutes(times(6, busy(80))...), after: []monitor.Alarm{monitor.Overloaded}, news: []string{"overloaded 80 %"}},
		"at the limit":             {samples: minutes(times(6, busy(75))...), after: []monitor.Alarm{monitor.Overloaded}, news: []string{"overloaded 75 %"}},
		"below the limit":          {samples: minutes(times(6, busy(74.9))...)},
		"overloaded still":         {samples: minutes(times(6, busy(80))...), before: told(monitor.Overloaded), after: []monitor.Alarm{monitor.Overloaded}},
		"busy":                     {samples: minutes(times(6, busy(96))...), after: []monitor.Alarm{monitor.Overloaded, monitor.CPU}, news: []string{"overloaded 96 %", "cpu 96 %"}},
		"it is acknowledged":       {samples: minutes(times(6, busy(96))...), before: told(monitor.Overloaded, monitor.CPU), known: acknowledged(monitor.CPU), after: []monitor.Alarm{monitor.Overloaded, monitor.CPU}},
		"no longer":                {samples: minutes(times(6, busy(96))...), before: told(monitor.Overloaded, monitor.CPU), after: []monitor.Alarm{monitor.Overloaded, monitor.CPU}, news: []string{"cpu 96 %"}},
		"known before it came":     {samples: minutes(times(6, busy(96))...), before: told(monitor.Overloaded), known: acknowledged(monitor.CPU), after: []monitor.Alarm{monitor.Overloaded, monitor.CPU}},
		"not over yet":             {samples: minutes(busy(96), busy(96), nil, nil), before: told(monitor.CPU), known: acknowledged(monitor.CPU), after: []monitor.Alarm{monitor.CPU}},
		"over":                     {samples: minutes(times(6, nil)...), before: told(monitor.CPU, monitor.Overloaded), known: acknowledged(monitor.CPU), news: []string{"overloaded over 10 %", "cpu over 10 %"}},
		"over, and nobody knew":    {samples: minutes(times(6, nil)...), before: untold},
		"too few samples":          {samples: minutes(busy(99), busy(99))},
		"after a gap":              {samples: minutes(times(3, busy(99))...)},
		"unknown":                  {samples: minutes(times(6, unknown)...)},
		"unknown keeps what was":   {samples: minutes(times(6, unknown)...), before: told(monitor.CPU), known: acknowledged(monitor.CPU), after: []monitor.Alarm{monitor.CPU}},
		"a single look":            {samples: minutes(little), limits: atOnce, after: []monitor.Alarm{monitor.Memory}, news: []string{"memory 4 %"}},
		"and a single one is over": {samples: minutes(little, nil), limits: atOnce, before: told(monitor.Memory), news: []string{"memory over 60 %"}},
		"a disk":                   {samples: minutes(times(6, full)...), after: []monitor.Alarm{monitor.Disk}, news: []string{"disk /home is 91 % full"}},
		"inodes":                   {samples: minutes(times(6, noInodes)...), after: []monitor.Alarm{monitor.Disk}, news: []string{"disk 95 % of the inodes of / are used"}},
		"nobody sets the clock":    {samples: minutes(times(6, unsynced)...), after: []monitor.Alarm{monitor.Clock}, news: []string{"clock nobody sets"}},
		"and nobody has to":        {samples: minutes(times(6, unsynced)...), limits: unwatched},
		"the clock is wrong":       {samples: minutes(times(6, skewed)...), limits: unwatched, after: []monitor.Alarm{monitor.Clock}, news: []string{"clock CLOCK_SKEW"}},
		"no way out":               {samples: minutes(times(6, offline)...), after: []monitor.Alarm{monitor.Network}, news: []string{"network default route"}},
		"a bad line":               {samples: minutes(times(6, lossy)...), after: []monitor.Alarm{monitor.Network}, news: []string{"network 2.5 %"}},
		"a quarter of an hour":     {samples: minutes(slices.Concat(times(15, busy(95)), times(45, nil))...)},
		"and a bit more":           {samples: minutes(slices.Concat(times(16, busy(90)), times(44, nil))...), after: []monitor.Alarm{monitor.Load}, news: []string{"load 90 % busy in 25 %"}},
		"too early for an hour":    {samples: minutes(slices.Concat(times(20, busy(90)), times(9, nil))...)},
		"the hour is better":       {samples: minutes(times(60, nil)...), before: told(monitor.Load), news: []string{"load over"}},
	} {
		l := row.limits
		if l == (monitor.Limits{}) {
			l = limits()
		}
		after, news := monitor.Judge(now, row.samples, l, row.before, row.known)
		var got []monitor.Alarm
		for _, a := range monitor.Alarms() {
			if _, there := after[a]; there {
				got = append(got, a)
			}
		}
		if !slices.Equal(got, row.after) {
			t.Errorf("%s: alarms %v, want %v", name, got, row.after)
		}
		ok := len(news) == len(row.news)
		for i := range min(len(news), len(row.news)) {
			head, words := string(news[i].Alarm)+" ", row.news[i]
			if news[i].Over {
				head += "over"
			}
			rest, found := strings.CutPrefix(words, head)
			ok = ok && found && strings.Contains(news[i].Text, strings.TrimSpace(rest)) && news[i].Over == strings.Contains(words, " over")
		}
		if !ok {
			t.Errorf("%s: news %+v, want %q", name, news, row.news)
		}
	}
}

// The day of an alarm: it is told, acknowledged for a day, told again, and its end.
func TestADay(t *testing.T) {
	var samples []monitor.Sample
	alarms := map[monitor.Alarm]monitor.Raised{}
	var marked time.Time
	var told []string
	for minute := range 26 * 60 {
		at := now.Add(time.Duration(minute) * time.Minute)
		s := calm()
		s.At = at
		if minute >= 10 && minute < 25*60 {
			v := 97.0
			s.Disks = map[string]float64{"/": v}
		}
		samples = monitor.Keep(samples, s)
		var news []monitor.Change
		alarms, news = monitor.Judge(at, samples, limits(), alarms, map[monitor.Alarm]bool{monitor.Disk: at.Sub(marked) < 24*time.Hour})
		for _, n := range news {
			told = append(told, fmt.Sprint(minute, " ", n.Alarm, " ", n.Over))
			if !n.Over {
				marked = at
			}
		}
	}
	if want := []string{"15 disk false", "1455 disk false", "1505 disk true"}; !slices.Equal(told, want) {
		t.Errorf("%q, want %q", told, want)
	}
	if len(samples) > 62 {
		t.Errorf("%d samples are kept", len(samples))
	}
}

func machine() (fstest.MapFS, monitor.Machine) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	root := fstest.MapFS{
		"proc/stat":    file("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 50 0 25 400 25 0 0 0 0 0\ncpu1 50 0 25 400 25 0 0 0 0 0\nintr 1 2\n"),
		"proc/loadavg": file("3.00 2.00 1.00 1/234 5678\n"),
		"proc/meminfo": file("MemTotal:        1000 kB\nMemFree:          10 kB\nMemAvailable:     400 kB\n"),
		"proc/net/dev": file("Inter-|   Receive  |  Transmit\n face |bytes packets errs\n    lo: 9 9999 99 0 0 0 0 0 9 9999 99 0 0 0 0 0\n" +
			"  eth0:1000 500 1 7 0 0 0 0 1000 500 1 9 0 0 0 0\n"),
		"proc/net/route":               file("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\neth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\neth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\n"),
		"sys/class/net/eth0/operstate": file("up\n"),
	}
	return root, monitor.Machine{
		Root: root, Paths: []string{"/", "/home", "/srv"},
		Usage: func(path string) (monitor.Usage, error) {
			return monitor.Usage{Device: map[string]uint64{"/": 1, "/home": 1, "/srv": 2}[path], Used: 40, Inodes: 7}, nil
		},
		Sync: func() (bool, error) { return true, nil },
	}
}

func TestRead(t *testing.T) {
	root, m := machine()
	s, first, err := m.Read(monitor.Counters{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Busy != nil || s.Errors != nil || s.Load != 1.5 || *s.Available != 40 || s.Offline || !s.Unsynced || len(s.Disks) != 2 || s.Disks["/"] != 40 || s.Inodes["/srv"] != 7 {
		t.Errorf("%+v", s)
	}
	if first != (monitor.Counters{CPU: 1000, Idle: 850, Packets: 1000, Errors: 2}) {
		t.Errorf("%+v", first)
	}
	// Since then 200 ticks, 50 of them idle, and 200 packets, 4 of them with errors.
	root["proc/stat"] = &fstest.MapFile{Data: []byte("cpu  200 0 100 830 70 0 0 0 999 0\ncpu0 1\n")}
	root["proc/net/dev"] = &fstest.MapFile{Data: []byte("eth0: 1000 600 3 0 0 0 0 0 1000 600 3 0 0 0 0 0\n")}
	s, second, err := m.Read(first)
	if err != nil || math.Abs(*s.Busy-75) > 0.001 || math.Abs(*s.Errors-2) > 0.001 {
		t.Errorf("%+v, %v", s, err)
	}
	// After a boot the counters begin again.
	if s, _, err := m.Read(monitor.Counters{CPU: 5000, Idle: 4000, Packets: 9000}); err != nil || s.Busy != nil || s.Errors != nil {
		t.Errorf("%+v, %v", s, err)
	}
	if s, _, err := m.Read(second); err != nil || s.Busy != nil || s.Errors != nil {
		t.Errorf("no time has passed: %+v, %v", s, err)
	}
}

func TestReadNetwork(t *testing.T) {
	root, m := machine()
	routes := root["proc/net/route"]
	offline := func(why string, want bool) {
		t.Helper()
		if s, _, err := m.Read(monitor.Counters{}); err != nil || s.Offline != want {
			t.Errorf("%s: offline %v, %v", why, s.Offline, err)
		}
	}
	root["sys/class/net/eth0/operstate"] = &fstest.MapFile{Data: []byte("down\n")}
	offline("its interface is down", true)
	delete(root, "sys/class/net/eth0/operstate")
	offline("an interface without a state", false)
	root["proc/net/route"] = &fstest.MapFile{Data: routes.Data[:strings.LastIndex(string(routes.Data[:len(routes.Data)-1]), "\n")+1]}
	offline("no default route", true)
	root["proc/net/ipv6_route"] = &fstest.MapFile{Data: []byte(strings.Repeat("0", 32) + " 00 " + strings.Repeat("0", 32) + " 00 " + strings.Repeat("0", 32) + " ffffffff 00000001 00000000 00200200       lo\n")}
	offline("the loopback is no way out", true)
	root["proc/net/ipv6_route"] = &fstest.MapFile{Data: []byte(strings.Repeat("0", 32) + " 00 " + strings.Repeat("0", 32) + " 00 fe80000000000000000000000000000a 00000400 00000001 00000000 00450003     eth0\n")}
	offline("IPv6 alone", false)
}

// What cannot be read is said, and the rest is there.
func TestReadFaults(t *testing.T) {
	root, m := machine()
	for _, name := range []string{"proc/stat", "proc/loadavg", "proc/meminfo", "proc/net/dev", "proc/net/route"} {
		kept := root[name]
		for _, broken := range []*fstest.MapFile{nil, {Data: []byte("\n")}} {
			delete(root, name)
			if broken != nil {
				root[name] = broken
			}
			s, _, err := m.Read(monitor.Counters{})
			if broken == nil && (!errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "/"+name)) {
				t.Errorf("without %s: %v", name, err)
			}
			if len(s.Disks) == 0 || !s.Unsynced || name != "proc/meminfo" && s.Available == nil {
				t.Errorf("without %s: %+v", name, s)
			}
		}
		root[name] = kept
	}
	m.Usage = func(string) (monitor.Usage, error) { return monitor.Usage{}, errors.New("no such disk") }
	m.Sync = func() (bool, error) { return false, errors.New("not allowed") }
	if s, _, err := m.Read(monitor.Counters{}); err == nil || !strings.Contains(err.Error(), "no such disk") || !strings.Contains(err.Error(), "not allowed") || s.Available == nil {
		t.Errorf("%+v, %v", s, err)
	}
}

// The kernel's own answers are figures.
func TestKernel(t *testing.T) {
	u, err := monitor.DiskUsage(t.TempDir())
	if err != nil || u.Used < 0 || u.Used > 100 || u.Inodes < 0 || u.Inodes > 100 {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := monitor.DiskUsage("/nonexistent"); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("%v", err)
	}
	if _, err := monitor.ClockUnsynced(); err != nil {
		t.Error(err)
	}
}
