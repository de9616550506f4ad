package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"adt/autoscaler"
	"adt/datastore"
	"adt/datastore/s3"
	"adt/datastore/s3test"
	"adt/events"
	"adt/provider"
	"adt/provider/local"
)

// squadLease is long enough for a tick of a busy machine.
const squadLease = 8 * time.Second * slowness

const configBucket = "www-example-com-config-agil"

// squad is three autoscalers of one fleet: each with a home, processes and a way
// to the datastore of its own.
type squad struct {
	*fleet
	store   datastore.Store
	bucket  string
	members []*member
	stop    func() // the watch
	asked   []int  // profiles of the fleet since it was last at rest
	mu      sync.Mutex
	slept   atomic.Bool // a process stood still: a call it was in may come through at any time
}

// member is one autoscaler and the cron that starts it.
type member struct {
	*fleet
	number   int
	settings settings
	way      *way         // to the datastore
	slept    *atomic.Bool // of the squad

	mu      sync.Mutex
	running *exec.Cmd
	stopped bool          // its machine is off
	done    chan struct{} // closed when its cron has ended; nil before it is first put on
}

// newSquad makes three autoscalers that share an S3 server.
func newSquad(t testing.TB) *squad {
	t.Helper()
	q := &squad{fleet: newFleet(t, nil)}
	shared := settings{
		"autoscaler.count": `3`, "ssh.key": strconv.Quote(q.path("key")), "local.path": strconv.Quote(q.path("cloud")),
		"datastore.lease": fmt.Sprintf(`"%s"`, squadLease),
		"scale.budget":    `"2s"`, "scale.missing_after": `"300ms"`,
	}
	q.bucket = "www-example-com-scaling-" + *vendor + "-lon1"
	server := s3test.Start(t)
	server.Buckets(t, q.bucket, configBucket)
	maps.Copy(shared, settings{
		"datastore.driver": `"s3"`, "datastore.access_key": strconv.Quote(s3test.AccessKey), "datastore.secret_key": strconv.Quote(s3test.SecretKey),
		"datastore.ca": strconv.Quote(server.CA), "datastore.timeout": `"5s"`,
	})
	var err error
	q.store, err = s3.Open(s3.Config{Endpoint: server.URL, AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey, CA: server.CA, Timeout: 10 * time.Second})
	q.must(err)
	for k := 1; k <= 3; k++ {
		m := &member{fleet: &fleet{
			t: t, home: q.path(fmt.Sprintf("as%d", k)), cloud: q.cloud, key: q.key, trace: q.trace,
			api: q.api, account: q.account, vendorID: q.vendorID, dial: q.dial,
		}, number: k, stopped: true, slept: &q.slept}
		q.must(os.MkdirAll(m.home, 0o700))
		own := maps.Clone(shared)
		own["autoscaler.number"] = strconv.Itoa(k)
		m.way = newWay(t, strings.TrimPrefix(server.URL, "https://"))
		own["datastore.endpoints"] = fmt.Sprintf("[%q]", "https://"+m.way.listener.Addr().String())
		m.settings = own
		m.configure(own)
		q.members = append(q.members, m)
	}
	t.Cleanup(func() {
		for _, m := range q.members {
			m.Off()
		}
	})
	return q
}

// buildMachine is a machine that only gives commands.
func (q *squad) buildMachine() *fleet {
	q.t.Helper()
	m := &fleet{t: q.t, home: q.path("build-machine"), cloud: q.cloud, key: q.key, trace: q.trace, dial: q.dial}
	q.must(os.MkdirAll(m.home, 0o700))
	text, err := os.ReadFile(q.members[0].path("adt.toml"))
	q.must(err)
	q.must(os.WriteFile(m.path("adt.toml"), []byte(strings.Replace(string(text), "autoscaler.number = 1", "autoscaler.number = 0", 1)), 0o600))
	return m
}

// way is a way to a server that can be cut: a plain forwarder of connections.
type way struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func newWay(t testing.TB, target string) *way {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &way{listener: l, target: target}
	t.Cleanup(func() { _ = l.Close(); w.Cut(true) })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go w.forward(conn)
		}
	}()
	return w
}

func (w *way) forward(from net.Conn) {
	defer from.Close()
	to, err := net.Dial("tcp", w.target)
	if err != nil {
		return
	}
	defer to.Close()
	w.mu.Lock()
	if w.cut {
		w.mu.Unlock()
		return
	}
	w.conns = append(w.conns, from, to)
	w.mu.Unlock()
	go func() { _, _ = io.Copy(to, from); _ = to.Close() }()
	_, _ = io.Copy(from, to)
}

// Cut ends all connections and lets none come about, until it is lifted.
func (w *way) Cut(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = on
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}

// On starts the member's cron: the three ticks one after another, again and
// again, until Off.
func (m *member) On() {
	m.mu.Lock()
	m.stopped = false
	m.done = make(chan struct{})
	done := m.done
	m.mu.Unlock()
	go func() {
		defer close(done)
		for {
			for _, tick := range []string{"scale", "healthcheck", "reboot-if-done"} {
				if !m.run(tick) {
					return
				}
			}
		}
	}()
}

// run is one tick; false when the machine is off.
func (m *member) run(tick string) bool {
	cmd := m.Command(context.Background(), nil, tick)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	m.mu.Lock()
	if m.stopped {
		m.mu.Unlock()
		return false
	}
	err := cmd.Start()
	m.running = cmd
	m.mu.Unlock()
	if err != nil {
		m.t.Errorf("autoscaler %d: %v", m.number, err)
		return false
	}
	_ = cmd.Wait()
	if text := out.String(); strings.Contains(text, "panic: ") || strings.Contains(text, "DATA RACE") {
		m.t.Errorf("autoscaler %d: adt %s: %s", m.number, tick, text)
	}
	return true
}

// Off is a power cut.
func (m *member) Off() {
	m.mu.Lock()
	m.stopped = true
	if m.running != nil {
		_ = m.running.Process.Kill()
	}
	done := m.done
	m.mu.Unlock()
	if done != nil {
		<-done
	}
}

// Freeze stops the process that runs now; the function goes on with it.
func (m *member) Freeze() (thaw func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running == nil {
		return func() {}
	}
	p := m.running.Process
	m.slept.Store(true)
	_ = p.Signal(syscall.SIGSTOP)
	return func() { _ = p.Signal(syscall.SIGCONT) }
}

func (m *member) on() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.stopped
}

// Ask sets the profile of the fleet, shared out over three, as any machine may.
func (q *squad) Ask(total int) {
	q.t.Helper()
	q.mu.Lock()
	q.asked = append(q.asked, total)
	q.mu.Unlock()
	p := autoscaler.Profiles{Store: q.store, Bucket: q.bucket}
	for i, n := range autoscaler.Split(total, 3) {
		q.must(p.Set(q.t.Context(), i+1, n))
	}
}

// Watch holds, until the test ends, what must be so at every moment: no more
// webservers than the profile says, besides those on their way out.
func (q *squad) Watch() {
	end, ended := make(chan struct{}), make(chan struct{})
	q.stop = sync.OnceFunc(func() { close(end); <-ended })
	q.t.Cleanup(q.stop)
	go func() {
		defer close(ended)
		over, extra := 0, 0
		leaving := map[string]bool{} // seen on its way out at any time
		for {
			before := q.ending()
			machines := q.Machines()
			after := q.ending()
			q.mu.Lock()
			most := 0
			if len(q.asked) > 0 {
				most = slices.Max(q.asked)
			}
			q.mu.Unlock()
			maps.Copy(leaving, before)
			maps.Copy(leaving, after)
			var counted, staying []string
			for _, m := range machines {
				if strings.Contains(m.Name, "-init-") {
					continue
				}
				if !before[m.Name] && !after[m.Name] {
					counted = append(counted, m.Name)
				}
				if !leaving[m.Name] {
					staying = append(staying, m.Name)
				}
			}
			// A vendor takes the call of a process that slept in it, and nobody can tell
			// it not to: then there is one too many, until a tick sees it.
			if len(staying) > most {
				extra++
			} else {
				extra = 0
			}
			if extra > 0 && !q.slept.Load() || extra == 100 {
				q.t.Errorf("%d webservers where %d shall be at most, none of them ever on its way out: %v", len(staying), most, staying)
				return
			}
			// A record of an end is dropped when a shard changes hands, and made
			// again by the next plan.
			if len(counted) > most {
				over++
			} else {
				over = 0
			}
			if over == 20 {
				q.t.Errorf("%d webservers where %d shall be at most: %v", len(counted), most, counted)
				return
			}
			select {
			case <-end:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
}

// ending is the names of webservers that some autoscaler has on record as going.
func (q *squad) ending() map[string]bool {
	names := map[string]bool{}
	for _, m := range q.members {
		for _, pattern := range []string{"terminating/*", "AUTOSCALINGMONITOR:*", "shards/*/terminating/*", "shards/*/AUTOSCALINGMONITOR:*"} {
			files, _ := filepath.Glob(m.path("runtime", pattern))
			for _, name := range files {
				var rec struct{ Name, Phase string }
				data, err := os.ReadFile(name)
				if err == nil && json.Unmarshal(data, &rec) == nil && (rec.Phase == "condemned" || !strings.Contains(name, "MONITOR")) {
					names[rec.Name] = true
				}
			}
		}
	}
	return names
}

// Await waits until the fleet is as it shall be: so many webservers, all in DNS
// and in order, each in the care of a living autoscaler.
func (q *squad) Await(total int) {
	q.t.Helper()
	unrest := ""
	for end := time.Now().Add(20 * squadLease); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if unrest = q.unrest(total); unrest == "" {
			q.mu.Lock()
			q.asked = []int{total}
			q.mu.Unlock()
			return
		}
		if q.t.Failed() {
			break
		}
	}
	q.fail("the fleet does not come to rest: %s", unrest)
}

// fail tells each autoscaler's story.
func (q *squad) fail(format string, args ...any) {
	q.t.Helper()
	for _, m := range q.members {
		q.t.Logf("autoscaler %d:\n%s", m.number, m.Story())
	}
	q.t.Fatalf(format, args...)
}

func (q *squad) unrest(total int) string {
	var serving, published, members []string
	shards := map[int]bool{}
	fleetNames := autoscaler.Fleet{Region: "lon1", Build: "shop", User4: "agil"}
	for _, m := range q.Machines() {
		name, _ := fleetNames.Parse(m.Name)
		shards[name.Shard] = true
		if !name.Initial {
			members = append(members, m.Name)
		}
		if m.Alive {
			serving = append(serving, m.PublicIP.String())
		}
	}
	for _, r := range q.DNS() {
		published = append(published, r.Address.String())
	}
	slices.Sort(serving)
	slices.Sort(published)
	switch {
	case len(members) != total:
		return fmt.Sprintf("there are %d webservers, %d are wanted: %v", len(members), total, members)
	case !slices.Equal(serving, published):
		return fmt.Sprintf("%v are in order and %v are in DNS", serving, published)
	}
	for shard := range shards {
		if who := q.keeper(shard); who == 0 {
			return fmt.Sprintf("nobody alive keeps the webservers of autoscaler %d", shard)
		}
	}
	return ""
}

// keeper is the living autoscaler that holds a shard by a lease in force; 0 is
// nobody.
func (q *squad) keeper(shard int) int {
	prefix := fmt.Sprintf("autoscaler-%d/LEASE:", shard)
	objects, err := q.store.List(q.t.Context(), q.bucket, prefix)
	if err != nil {
		return 0
	}
	epoch := 0
	for _, o := range objects {
		n, _ := strconv.Atoi(strings.TrimPrefix(o.Key, prefix))
		epoch = max(epoch, n)
	}
	content, err := q.store.Get(q.t.Context(), q.bucket, prefix+strconv.Itoa(epoch))
	var lease autoscaler.Lease
	if err != nil || json.Unmarshal(content, &lease) != nil || time.Now().After(lease.Until) || time.Now().Before(lease.From) {
		return 0
	}
	if !q.members[lease.Autoscaler-1].on() {
		return 0
	}
	return lease.Autoscaler
}

// AwaitKeeper waits until a certain autoscaler keeps a shard.
func (q *squad) AwaitKeeper(shard, who int) {
	q.t.Helper()
	for end := time.Now().Add(10 * squadLease); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if q.keeper(shard) == who {
			return
		}
	}
	q.fail("autoscaler %d does not keep the webservers of autoscaler %d, but %d", who, shard, q.keeper(shard))
}

// begin puts all three on, with two webservers each.
func begin(t *testing.T) *squad {
	t.Helper()
	t.Parallel()
	q := newSquad(t)
	q.Watch()
	q.Ask(6)
	for _, m := range q.members {
		m.On() // at once
	}
	q.Await(6)
	for shard := 1; shard <= 3; shard++ {
		q.AwaitKeeper(shard, shard)
	}
	return q
}

// One dies for good: the lowest living one keeps its webservers, scales them and
// replaces a dead one.
func TestAnAutoscalerDies(t *testing.T) {
	q := begin(t)
	q.members[1].Off()
	q.AwaitKeeper(2, 1)
	q.Await(6)
	victim := ""
	for _, m := range q.Machines() {
		if strings.HasPrefix(m.Name, "ws-lon1-shop-2-") {
			victim = m.ID
		}
	}
	q.Break(victim, "http=500")
	q.awaitGone(victim)
	q.Await(6)
	q.Ask(9)
	q.Await(9)
	q.Ask(3)
	q.Await(3)
	// It comes back, and finds everything its own.
	q.members[1].On()
	q.AwaitKeeper(2, 2)
	q.Ask(6)
	q.Await(6)
}

func (q *squad) awaitGone(id string) {
	q.t.Helper()
	for end := time.Now().Add(10 * squadLease); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if _, there := q.Machine(id); !there {
			return
		}
	}
	q.fail("%s is still there", id)
}

// Two die, one of them in the middle of builds: the third keeps the whole fleet.
func TestTwoAutoscalersDie(t *testing.T) {
	q := begin(t)
	for _, m := range q.members { // a machine takes longer than a tick
		own := maps.Clone(m.settings)
		own["local.build"] = `"5s"`
		m.configure(own)
	}
	first := q.members[0]
	q.Ask(12)
	var begun []datastore.Object
	q.await("the first one's builds have addresses", func() bool {
		var err error
		begun, err = q.store.List(t.Context(), configBucket, "beingbuiltips/")
		q.must(err)
		builds, err := filepath.Glob(first.path("runtime", "beingbuiltips", "*", "*"))
		q.must(err)
		return len(builds) > 0 && slices.ContainsFunc(begun, func(o datastore.Object) bool { return o.Key == "beingbuiltips/"+filepath.Base(builds[0]) })
	})
	first.Off()
	q.members[1].Off()
	q.AwaitKeeper(1, 3)
	q.AwaitKeeper(2, 3)
	q.Await(12)
	if q.members[2].count(events.BuildInherited) == 0 {
		q.fail("no build that was begun went on where it was taken over: %v", begun)
	}
	q.members[0].On()
	q.AwaitKeeper(1, 1)
	q.await("the first one forgets its builds", func() bool { return first.count(events.BuildForgotten) > 0 })
	q.Ask(6)
	q.Await(6)
}

// One loses the datastore and nothing else: it stops before another one begins.
func TestAnAutoscalerLosesTheStore(t *testing.T) {
	q := begin(t)
	q.members[2].way.Cut(true)
	q.Ask(9)
	q.AwaitKeeper(3, 1)
	q.Await(9)
	q.members[2].way.Cut(false)
	q.AwaitKeeper(3, 3)
	q.Ask(6)
	q.Await(6)
}

// One stands still in the middle of a build for longer than its lease, and goes
// on as if nothing had been: what it does then is fenced.
func TestAnAutoscalerSleeps(t *testing.T) {
	q := begin(t)
	q.Ask(12)
	slow := q.members[2]
	var pid, workers int
	var thaw func()
	q.await("it stands still in the middle of a build", func() bool {
		thaw = slow.Freeze()
		slow.mu.Lock()
		cmd := slow.running
		slow.mu.Unlock()
		files, _ := filepath.Glob(slow.path("runtime", "AUTOSCALINGMONITOR:*"))
		pid, workers = cmd.Process.Pid, len(files)
		if cmd.Args[1] == "scale" && len(files) > 0 && standsStill(pid) {
			return true
		}
		thaw()
		return false
	})
	deadline := time.Now().Add(10 * squadLease)
	for q.holder(3) != 1 {
		if time.Now().After(deadline) {
			thaw()
			t.Fatalf("nobody took over from a sleeping autoscaler")
		}
		time.Sleep(50 * time.Millisecond)
	}
	changes := len(q.Changed(pid))
	thaw()
	q.Await(12)
	q.AwaitKeeper(3, 3)
	q.Await(12)
	// At most the calls it was in when it fell asleep came through, one for each build.
	if after := len(q.Changed(pid)); after > changes+workers {
		t.Errorf("the sleeper made %d changes after it woke up, in the middle of %d builds", after-changes, workers)
	}
}

// standsStill reports whether a process of ours is there and stopped.
func standsStill(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(stat), ") ")
	return err == nil && strings.HasPrefix(rest, "T")
}

// holder is who holds a shard, alive or not.
func (q *squad) holder(shard int) int {
	for _, m := range q.members {
		m.mu.Lock()
		stopped := m.stopped
		m.stopped = false
		m.mu.Unlock()
		defer func() { m.mu.Lock(); m.stopped = stopped; m.mu.Unlock() }()
	}
	return q.keeper(shard)
}

// Changed is the steps of one process that changed the cloud.
func (q *squad) Changed(pid int) []string {
	var out []string
	for _, s := range q.Steps() {
		for _, call := range []string{"created ", "destroyed ", "added record ", "removed record "} {
			if s.pid == pid && strings.HasPrefix(s.what, call) {
				out = append(out, s.what)
			}
		}
	}
	return out
}

// Random faults of three autoscalers: power cuts, returns, sleep, a store that is
// away for some, new profiles. Whatever happens, the fleet is never too large,
// comes to what was asked for last, and no webserver is without a keeper.
func TestRandomSquads(t *testing.T) {
	schedules, seed := squadSchedules(t)
	for i := range schedules {
		t.Run(fmt.Sprint(seed+uint64(i)), func(t *testing.T) {
			t.Parallel()
			randomSquad(t, rand.New(rand.NewPCG(seed+uint64(i), 3)))
		})
	}
}

func squadSchedules(t *testing.T) (int, uint64) {
	t.Helper()
	schedules, seed := 100, uint64(time.Now().UnixNano())
	if testing.Short() {
		schedules = 10
	}
	for name, set := range map[string]func(string) error{
		"ADT_SQUADS": func(s string) (err error) { schedules, err = strconv.Atoi(s); return err },
		"ADT_SEED":   func(s string) (err error) { seed, err = strconv.ParseUint(s, 10, 64); return err },
	} {
		if text := os.Getenv(name); text != "" {
			if err := set(text); err != nil {
				t.Fatal(errors.Join(fmt.Errorf("$%s", name), err))
			}
		}
	}
	t.Logf("ADT_SEED=%d ADT_SQUADS=%d", seed, schedules)
	return schedules, seed
}

func randomSquad(t *testing.T, r *rand.Rand) {
	q := newSquad(t)
	var initial []local.Machine
	if r.IntN(4) == 0 {
		initial = append(initial, q.members[0].Initial(1)) // as the build machine does; the first one alone knows its host key
	}
	q.Watch()
	total := r.IntN(5)
	q.Ask(total)
	for _, m := range q.members {
		m.On()
	}
	for k := 1; k <= 3; k++ { // a shard that adt never kept may be the shell toolkit's
		q.AwaitKeeper(k, k)
	}
	for _, m := range initial {
		q.await("the initial one is in DNS, and the store has its host key", func() bool {
			keys, err := q.store.List(t.Context(), configBucket, "hostkeys/")
			q.must(err)
			return slices.ContainsFunc(keys, func(o datastore.Object) bool { return o.Key == "hostkeys/"+m.PrivateIP.String() }) &&
				slices.ContainsFunc(q.DNS(), func(r provider.Record) bool { return r.Address == m.PublicIP })
		})
	}
	for range 2 + r.IntN(4) {
		m := q.members[r.IntN(3)]
		pause := time.Duration(r.Int64N(int64(squadLease)))
		switch r.IntN(5) {
		case 0:
			m.Off()
		case 1:
			if !m.on() {
				m.On()
			}
		case 2:
			if m.on() {
				thaw := m.Freeze()
				time.AfterFunc(time.Duration(r.Int64N(int64(2*squadLease))), thaw)
			}
		case 3:
			m.way.Cut(true)
			time.AfterFunc(time.Duration(r.Int64N(int64(2*squadLease))), func() { m.way.Cut(false) })
		case 4:
			total = r.IntN(7)
			q.Ask(total)
		}
		time.Sleep(pause) // the schedule itself: nothing is waited for
	}
	if !slices.ContainsFunc(q.members, (*member).on) {
		q.members[r.IntN(3)].On()
	}
	q.Await(total)
}
