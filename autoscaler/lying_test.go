package autoscaler_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"adt/autoscaler"
	"adt/datastore/file"
	"adt/events"
	"adt/healthcheck"
	"adt/provider"
	"adt/remote"
	"adt/rundir"
)

// liar is a provider and a DNS service in memory that may say what is not so.
type liar struct {
	mu        sync.Mutex        // builds and terminations call at once
	servers   []provider.Server // as they are
	addresses []string          // of the A records
	alive     map[string]bool   // addresses that answer
	destroyed []string          // ids, one for each call

	list    func([]provider.Server) ([]provider.Server, error) // what is said of them
	records func([]provider.Record) ([]provider.Record, error)
	create  func(context.Context, *liar, provider.Spec) (provider.Server, error)
	deaf    int // so many destroy calls do nothing
}

func (l *liar) List(context.Context) ([]provider.Server, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	servers := slices.Clone(l.servers)
	if l.list != nil {
		return l.list(servers)
	}
	return servers, nil
}

func (l *liar) Create(ctx context.Context, spec provider.Spec) (provider.Server, error) {
	if l.create == nil {
		return refused(ctx, l, spec)
	}
	return l.create(ctx, l, spec)
}

func (l *liar) Destroy(_ context.Context, id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.destroyed = append(l.destroyed, id)
	if l.deaf > 0 {
		l.deaf--
		return nil
	}
	n := len(l.servers)
	l.servers = slices.DeleteFunc(l.servers, func(s provider.Server) bool { return s.ID == id })
	if len(l.servers) == n {
		return provider.ErrNotFound
	}
	return nil
}

func (l *liar) Records(_ context.Context, name string) ([]provider.Record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var records []provider.Record
	for _, a := range l.addresses {
		records = append(records, provider.Record{ID: "r-" + a, Name: name, Address: netip.MustParseAddr(a)})
	}
	if l.records != nil {
		return l.records(records)
	}
	return records, nil
}

func (l *liar) AddRecord(_ context.Context, _ string, address netip.Addr, _ time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addresses = append(l.addresses, address.String())
	return nil
}

func (l *liar) RemoveRecord(_ context.Context, id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addresses = slices.DeleteFunc(l.addresses, func(a string) bool { return "r-"+a == id })
	return nil
}

// made adds a server that a create call made.
func (l *liar) made(s provider.Server) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.servers = append(l.servers, s)
}

// dial reaches the addresses that are alive, and nothing else.
func (l *liar) dial(_ context.Context, _, hostport string) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(hostport)
	if !l.alive[host] {
		return nil, syscall.EHOSTUNREACH
	}
	here, _ := net.Pipe()
	return here, nil
}

// grow adds n servers that answer and are in DNS, not the first ones if there
// are some already.
func (l *liar) grow(n int) {
	for i := len(l.servers) + 1; n > 0; i, n = i+1, n-1 {
		public, private := fmt.Sprintf("192.0.2.%d", i), fmt.Sprintf("10.0.0.%d", i)
		l.servers = append(l.servers, provider.Server{
			ID: fmt.Sprintf("id%d", i), Name: fmt.Sprintf("ws-lon1-shop-1-agil-AAA%d", i), Created: time.Now(),
			PublicIP: netip.MustParseAddr(public), PrivateIP: netip.MustParseAddr(private),
		})
		l.addresses = append(l.addresses, public)
		l.alive[public], l.alive[private] = true, true
	}
}

// hide makes the listing lack the first n servers; they may answer or not.
func (l *liar) hide(n int, answers bool) {
	for _, s := range l.servers[:n] {
		l.alive[s.PrivateIP.String()] = answers
	}
	l.list = func(s []provider.Server) ([]provider.Server, error) { return s[n:], nil }
}

// rig is an autoscaler at the mercy of a liar.
type rig struct {
	*autoscaler.Autoscaler
	t     *testing.T
	cloud *liar
	said  []events.Reason
}

func newRig(t *testing.T, servers int) *rig {
	t.Helper()
	store, err := file.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir, err := rundir.Open(t.TempDir(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := &liar{alive: map[string]bool{}}
	l.grow(servers)
	r := &rig{t: t, cloud: l}
	r.Autoscaler = &autoscaler.Autoscaler{
		Settings: autoscaler.Settings{
			Rules:        autoscaler.Rules{Fleet: autoscaler.Fleet{Region: "lon1", Build: "shop", User4: "agil"}, Shard: 1, Max: 10},
			ConfigBucket: "config", HostName: "www.example.com", TTL: time.Minute,
			BuildDeadline: 30 * time.Minute, Poll: 5 * time.Second, Settle: time.Minute, Budget: 50 * time.Second,
			MissingAfter: 3 * time.Minute, Drain: time.Second, Creates: 10, MaxFailures: 5,
			Limits: healthcheck.Limits{Strikes: 2, SelfCheckPercent: 45, SelfCheckMin: 3, BudgetPercent: 10, MinPublished: 1},
		},
		Servers: l, DNS: l, Dir: dir, BootID: "boot",
		Profiles: autoscaler.Profiles{Store: store, Bucket: "scaling"},
		// Without a login key SSH is out, and whether one answers is asked of HTTPS.
		SSH:      &remote.Dialer{},
		Prober:   &healthcheck.Prober{SSH: &remote.Dialer{}, DialContext: l.dial, Deadline: time.Second},
		UserData: func(string, string, ssh.PublicKey) ([]byte, error) { return nil, nil },
		HostKey:  func([]byte, string) (string, ssh.PublicKey, error) { return "", nil, nil },
		Record: func(reason events.Reason, server, text string) {
			t.Logf("%s %s %s %s", time.Now().Format(time.TimeOnly), reason, server, text)
			l.mu.Lock()
			defer l.mu.Unlock()
			r.said = append(r.said, reason)
		},
		Now: time.Now, IntN: rand.New(rand.NewPCG(1, 2)).IntN,
	}
	r.profile(servers)
	return r
}

func (r *rig) profile(count int) {
	r.t.Helper()
	if err := r.Profiles.Set(r.t.Context(), r.Shard, count); err != nil {
		r.t.Fatal(err)
	}
}

// tick is one scale, then the rest of the minute.
func (r *rig) tick() error {
	r.t.Helper()
	next := time.Now().Add(time.Minute)
	_, err := r.Scale(r.t.Context())
	time.Sleep(time.Until(next))
	return err
}

// calm ticks and fails the test on an error.
func (r *rig) calm(ticks int) {
	r.t.Helper()
	for range ticks {
		if err := r.tick(); err != nil {
			r.t.Fatal(err)
		}
	}
}

// doubts ticks and fails the test unless the listing is held for a lie and
// nothing is done.
func (r *rig) doubts(ticks int) {
	r.t.Helper()
	for range ticks {
		if err := r.tick(); !errors.Is(err, autoscaler.ErrImplausible) {
			r.t.Fatalf("the listing was believed: %v", err)
		}
	}
	r.nothingBegan()
}

func (r *rig) nothingBegan() {
	r.t.Helper()
	state, err := r.Recall(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	if len(state.Builds)+len(state.Terminations)+len(r.cloud.destroyed) > 0 {
		r.t.Fatalf("builds %v, terminations %v, destroyed %v", state.Builds, state.Terminations, r.cloud.destroyed)
	}
}

// known is how many servers are remembered.
func (r *rig) known() int {
	r.t.Helper()
	inv, _, err := r.Inventory()
	if err != nil {
		r.t.Fatal(err)
	}
	return len(inv.Servers)
}

// TestAMissingServerThatAnswers makes the listing a lie for as long as it does.
func TestAMissingServerThatAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4)
		r.calm(2)
		r.cloud.hide(1, true)
		r.doubts(30)
		r.cloud.list = nil
		r.calm(1)
		r.nothingBegan()
	})
}

// TestTooManyMissing are never believed to be gone, even silent: the listing
// and the network more likely fail together.
func TestTooManyMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 5)
		r.calm(2)
		r.cloud.hide(3, false)
		r.doubts(30)
		// Until an operator says so.
		if gone, err := r.AcceptListing(t.Context()); err != nil || len(gone) != 3 {
			t.Fatal(gone, err)
		}
		r.cloud.servers, r.cloud.list = r.cloud.servers[3:], nil
		r.cloud.create = refused
		r.calm(1)
		if !slices.Contains(r.said, events.BuildStarted) {
			t.Error("nothing is built in their place")
		}
	})
}

func refused(context.Context, *liar, provider.Spec) (provider.Server, error) {
	return provider.Server{}, provider.ErrQuota
}

// TestAMissingServerIsGone when it was missing in three looks and for
// MissingAfter, not sooner by either.
func TestAMissingServerIsGone(t *testing.T) {
	t.Run("by looks", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, 4)
			r.calm(2)
			r.cloud.hide(1, false)
			r.cloud.create = refused
			for range 10 { // many looks in no time
				if _, err := r.Scale(t.Context()); !errors.Is(err, autoscaler.ErrImplausible) {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
			}
			r.nothingBegan()
			time.Sleep(r.MissingAfter)
			r.calm(1)
			if r.known() != 3 || !slices.Contains(r.said, events.ServerVanished) || !slices.Contains(r.said, events.BuildStarted) {
				t.Errorf("%d known, %v", r.known(), r.said)
			}
		})
	})
	t.Run("by time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, 4)
			r.calm(2)
			r.cloud.hide(1, false)
			for range 2 { // few looks, long after each other
				if _, err := r.Scale(t.Context()); !errors.Is(err, autoscaler.ErrImplausible) {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
			}
			r.nothingBegan()
			r.cloud.list = nil // and it is back: the count begins anew
			r.calm(1)
			r.cloud.hide(1, false)
			for range 2 {
				if _, err := r.Scale(t.Context()); !errors.Is(err, autoscaler.ErrImplausible) {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
			}
			r.nothingBegan()
		})
	})
}

// TestNoMemory: what is not known yet is measured by DNS, each time anew.
func TestNoMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3)
		r.cloud.list = func([]provider.Server) ([]provider.Server, error) { return nil, nil }
		r.doubts(10)

		// DNS that cannot be asked is no better.
		r.cloud.alive = map[string]bool{}
		r.cloud.records = func([]provider.Record) ([]provider.Record, error) { return nil, provider.ErrTemporary }
		r.doubts(10)

		// Records whose servers do not answer are of a fleet that is gone.
		r.cloud.records, r.cloud.create = nil, refused
		r.calm(1)
		if !slices.Contains(r.said, events.BuildStarted) {
			t.Error(r.said)
		}
	})
}

// TestDestroyThatDidNothing is repeated after two minutes, for that server and
// no other, and ends when the listing agrees.
func TestDestroyThatDidNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3)
		r.calm(2)
		r.cloud.deaf = 2
		r.profile(2)
		r.calm(1)
		if len(r.cloud.destroyed) != 1 {
			t.Fatalf("destroyed %v", r.cloud.destroyed)
		}
		r.calm(1) // not two minutes yet
		if len(r.cloud.destroyed) != 1 {
			t.Fatalf("destroyed %v", r.cloud.destroyed)
		}
		r.calm(8)
		first := r.cloud.destroyed[0]
		if got := strings.Join(r.cloud.destroyed, " "); got != strings.Join([]string{first, first, first}, " ") {
			t.Errorf("destroyed %s", got)
		}
		if state, err := r.Recall(t.Context()); err != nil || len(state.Terminations) > 0 || len(r.cloud.servers) != 2 {
			t.Errorf("%+v, %v, %v", state, err, r.cloud.servers)
		}
		if !slices.Contains(r.said, events.TerminationFailed) || r.known() != 2 {
			t.Errorf("%d known, %v", r.known(), r.said)
		}
	})
}

// TestAStaleListingShowsTheDestroyed: it neither counts nor is it destroyed
// again, until that lasts so long that it must be true.
func TestAStaleListingShowsTheDestroyed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3)
		r.calm(2)
		before := slices.Clone(r.cloud.servers)
		r.profile(2)
		r.calm(1)
		if len(r.cloud.destroyed) != 1 || r.known() != 2 {
			t.Fatalf("destroyed %v, %d known", r.cloud.destroyed, r.known())
		}
		r.cloud.list = func([]provider.Server) ([]provider.Server, error) { return slices.Clone(before), nil }
		r.calm(8)
		if len(r.cloud.destroyed) != 1 || r.known() != 2 {
			t.Errorf("destroyed %v, %d known", r.cloud.destroyed, r.known())
		}
		// As many as asked for are known, so nothing is built for it either.
		r.profile(3)
		r.cloud.create = func(_ context.Context, l *liar, spec provider.Spec) (provider.Server, error) {
			s := provider.Server{ID: "new", Name: spec.Name, Created: time.Now()}
			l.made(s)
			return s, nil
		}
		r.calm(1)
		if !slices.Contains(r.said, events.BuildStarted) {
			t.Error("the destroyed one counts")
		}
		time.Sleep(10 * time.Minute)
		r.calm(1)
		if r.known() < 3 {
			t.Errorf("it is there for 10 minutes and not believed: %d known", r.known())
		}
	})
}

// TestACreateWithoutAnAnswer is given up and looked for by its name: one server.
func TestACreateWithoutAnAnswer(t *testing.T) {
	for _, made := range []bool{true, false} {
		t.Run(fmt.Sprintf("made=%v", made), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 0)
				calls := 0
				r.cloud.create = func(ctx context.Context, l *liar, spec provider.Spec) (provider.Server, error) {
					calls++
					s := provider.Server{ID: fmt.Sprint("new", calls), Name: spec.Name, Created: time.Now()}
					if made || calls > 1 {
						l.made(s)
					}
					if calls > 1 {
						return s, nil
					}
					<-ctx.Done()
					return provider.Server{}, ctx.Err()
				}
				r.profile(1)
				r.calm(5)
				want := map[bool]int{true: 1, false: 2}[made]
				if len(r.cloud.servers) != 1 || calls != want {
					t.Errorf("%v after %d calls", r.cloud.servers, calls)
				}
				if state, err := r.Recall(t.Context()); err != nil || len(state.Builds) != 1 || state.Builds[0].ID != r.cloud.servers[0].ID {
					t.Errorf("%+v, %v", state, err)
				}
			})
		})
	}
}

// TestRecordsTwice: a record that DNS lists twice is one. The last one stays,
// though its server is gone.
func TestRecordsTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		if _, err := r.Health(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.cloud.servers, r.cloud.alive = nil, map[string]bool{}
		r.cloud.records = func(all []provider.Record) ([]provider.Record, error) { return slices.Concat(all, all), nil }
		for range 20 {
			_, _ = r.Health(t.Context())
			time.Sleep(time.Minute)
		}
		if len(r.cloud.addresses) != 1 {
			t.Errorf("DNS is %v", r.cloud.addresses)
		}
	})
}
