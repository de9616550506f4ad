package autoscaler

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"adt/datastore"
)

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		total, n int
		want     []int
	}{
		{10, 3, []int{4, 3, 3}}, {15, 3, []int{5, 5, 5}}, {0, 3, []int{0, 0, 0}}, {2, 3, []int{1, 1, 0}}, {11, 4, []int{3, 3, 3, 2}}, {7, 1, []int{7}},
	} {
		if got := Split(c.total, c.n); !slices.Equal(got, c.want) {
			t.Errorf("Split(%d, %d) is %v, want %v", c.total, c.n, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		total, n := rapid.IntRange(0, 1000).Draw(t, "total"), rapid.IntRange(1, 9).Draw(t, "n")
		shares := Split(total, n)
		sum := 0
		for i, s := range shares {
			sum += s
			if i > 0 && (s > shares[i-1] || shares[0]-s > 1) {
				t.Fatalf("%v is not even, the first ones having more", shares)
			}
		}
		if sum != total || len(shares) != n {
			t.Fatalf("%v is not %d over %d", shares, total, n)
		}
	})
}

func TestParseProfileKey(t *testing.T) {
	const none = -1
	for _, c := range []struct {
		shard int
		key   string
		want  int
	}{
		{1, "autoscaler-1/STATIC_SCALE:3", 3}, {1, "autoscaler-1/STATIC_SCALE:0", 0}, {5, "autoscaler-5/STATIC_SCALE:20", 20},
		// The older form holds the counts of autoscalers 1, 2 and 3.
		{1, "autoscaler-1/STATIC_SCALE:4:3:2", 4}, {3, "autoscaler-3/STATIC_SCALE:4:3:2", 2}, {4, "autoscaler-4/STATIC_SCALE:4:3:2", none},
		{2, "autoscaler-2/STATIC_SCALE:4:x", none}, {1, "autoscaler-1/STATIC_SCALE:4:", none}, {1, "autoscaler-1/STATIC_SCALE:3:x:y", none}, {1, "autoscaler-1/STATIC_SCALE:3:2:01", none}, {2, "autoscaler-2/STATIC_SCALE:4:", none},
		{1, "autoscaler-10/STATIC_SCALE:3", none}, {10, "autoscaler-1/STATIC_SCALE:3", none}, {1, "autoscaler-2/STATIC_SCALE:3", none},
		{1, "autoscaler-1/STATIC_SCALE:", none}, {1, "autoscaler-1/STATIC_SCALE", none}, {1, "autoscaler-1/STATIC_SCALE:-1", none},
		{1, "autoscaler-1/STATIC_SCALE:+1", none}, {1, "autoscaler-1/STATIC_SCALE:03", none}, {1, "autoscaler-1/STATIC_SCALE: 3", none},
		{1, "autoscaler-1/STATIC_SCALE:3/x", none}, {1, "autoscaler-1/STATIC_SCALE:99999999999999999999", none}, {1, "x/autoscaler-1/STATIC_SCALE:3", none}, {1, "", none},
	} {
		got, ok := ParseProfileKey(c.shard, c.key)
		if ok != (c.want != none) || ok && got != c.want {
			t.Errorf("ParseProfileKey(%d, %q) is %d, %v; want %d", c.shard, c.key, got, ok, c.want)
		}
	}
}

// FuzzParseProfileKey: what is read from a key is in it, for that shard alone.
func FuzzParseProfileKey(f *testing.F) {
	for _, key := range []string{"autoscaler-1/STATIC_SCALE:3", "autoscaler-2/STATIC_SCALE:4:3:2", "autoscaler-10/STATIC_SCALE:1", "autoscaler-1/STATIC_SCALE:03"} {
		f.Add(1, key)
		f.Add(2, key)
	}
	f.Fuzz(func(t *testing.T, shard int, key string) {
		count, ok := ParseProfileKey(shard, key)
		if !ok {
			return
		}
		if count < 0 || !strings.HasPrefix(key, "autoscaler-"+strconv.Itoa(shard)+"/") {
			t.Errorf("%q gives %d for autoscaler %d", key, count, shard)
		}
		if again, ok := ParseProfileKey(shard, ProfileKey(shard, count)); !ok || again != count {
			t.Errorf("%d is read again as %d, %v", count, again, ok)
		}
		if !strings.Contains(key[strings.IndexByte(key, ':')+1:], ":") && key != ProfileKey(shard, count) {
			t.Errorf("%q and %q are one profile", key, ProfileKey(shard, count))
		}
	})
}

// objects is a bucket in memory. Its clock stands still unless told, as one of
// coarse steps does for two commands in a row.
type objects struct {
	at    map[string]time.Time
	clock time.Time
	log   []string
	fails string // prefix of the calls that fail
	texts map[string]string
}

func (o *objects) call(op, key string) error {
	o.log = append(o.log, op+" "+key)
	if o.fails != "" && strings.HasPrefix(op+" "+key, o.fails) {
		return errors.New("store down")
	}
	return nil
}

func (o *objects) List(_ context.Context, _, prefix string) ([]datastore.Object, error) {
	var out []datastore.Object
	for key, at := range o.at {
		if strings.HasPrefix(key, prefix) {
			out = append(out, datastore.Object{Key: key, Modified: at})
		}
	}
	return out, o.call("list", prefix)
}

func (o *objects) Get(_ context.Context, _, key string) ([]byte, error) {
	return []byte(o.texts[key]), o.call("get", key)
}

func (o *objects) Put(_ context.Context, _, key string, content []byte) error {
	if err := o.call("put", key); err != nil {
		return err
	}
	if o.texts == nil {
		o.texts = map[string]string{}
	}
	o.texts[key] = string(content)
	o.at[key] = o.clock
	return nil
}

func (o *objects) Create(_ context.Context, _, key string, content []byte) error {
	if _, there := o.at[key]; there {
		return datastore.ErrExists
	}
	return o.Put(context.Background(), "", key, content)
}

func (o *objects) Now(context.Context) (time.Time, time.Duration, error) { return o.clock, 0, nil }

func (o *objects) Delete(_ context.Context, _, key string) error {
	if err := o.call("delete", key); err != nil {
		return err
	}
	delete(o.at, key)
	return nil
}

func (o *objects) keys() []string {
	var keys []string
	for key := range o.at {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func TestProfiles(t *testing.T) {
	const foreign = "autoscaler-1/STATIC_SCALE:many"
	at := func(minute int) time.Time { return time.Date(2026, 11, 23, 12, minute, 0, 0, time.UTC) }
	store := func() *objects {
		return &objects{clock: at(5), at: map[string]time.Time{
			"autoscaler-1/STATIC_SCALE:7": at(1), "autoscaler-1/STATIC_SCALE:4:3:3": at(3), "autoscaler-1/STATIC_SCALE:2": at(2),
			foreign: at(4), "autoscaler-10/STATIC_SCALE:9": at(9), "autoscaler-2/STATIC_SCALE:8": at(9),
		}}
	}
	others := []string{"autoscaler-10/STATIC_SCALE:9", "autoscaler-2/STATIC_SCALE:8", foreign}
	profiles := func(o *objects) Profiles { return Profiles{Store: o, Bucket: "b"} }
	left := func(o *objects, key string) {
		t.Helper()
		want := append([]string{key}, others...)
		slices.Sort(want)
		if got := o.keys(); !slices.Equal(got, want) {
			t.Errorf("left are %v, want %v", got, want)
		}
	}

	t.Run("NewestHolds", func(t *testing.T) {
		o := store()
		p, stale, err := profiles(o).Get(t.Context(), 1)
		if err != nil || p == nil || *p != (Profile{4, at(3)}) || !slices.Equal(stale, []datastore.Object{{Key: "autoscaler-1/STATIC_SCALE:2", Modified: at(2)}, {Key: "autoscaler-1/STATIC_SCALE:7", Modified: at(1)}}) {
			t.Fatalf("Get is %+v, %v, %v", p, stale, err)
		}
		if err := profiles(o).Tidy(t.Context(), 1, stale); err != nil {
			t.Fatal(err)
		}
		left(o, "autoscaler-1/STATIC_SCALE:4:3:3")
	})
	t.Run("None", func(t *testing.T) {
		if p, stale, err := profiles(store()).Get(t.Context(), 3); p != nil || stale != nil || err != nil {
			t.Errorf("Get is %v, %v, %v", p, stale, err)
		}
	})
	t.Run("SetPutsBeforeItDeletes", func(t *testing.T) {
		o := store()
		if err := profiles(o).Set(t.Context(), 1, 5); err != nil {
			t.Fatal(err)
		}
		left(o, "autoscaler-1/STATIC_SCALE:5")
		put := slices.Index(o.log, "put autoscaler-1/STATIC_SCALE:5")
		if first := slices.IndexFunc(o.log, func(l string) bool { return strings.HasPrefix(l, "delete") }); put < 0 || first < put {
			t.Errorf("the calls were %v", o.log)
		}
	})
	t.Run("SetAgain", func(t *testing.T) {
		o := store()
		if err := profiles(o).Set(t.Context(), 1, 7); err != nil {
			t.Fatal(err)
		}
		left(o, "autoscaler-1/STATIC_SCALE:7")
	})
	// The last command holds, whatever the store's clock says.
	for name, clock := range map[string]time.Time{"SameInstant": at(3), "ClockSetBack": at(0)} {
		t.Run(name, func(t *testing.T) {
			o := store()
			o.clock = clock
			for _, count := range []int{9, 4, 10, 3} {
				if err := profiles(o).Set(t.Context(), 1, count); err != nil {
					t.Fatal(err)
				}
				left(o, ProfileKey(1, count))
			}
		})
	}
	t.Run("PutFails", func(t *testing.T) {
		o := store()
		o.fails = "put"
		before := o.keys()
		if err := profiles(o).Set(t.Context(), 1, 5); err == nil || !slices.Equal(o.keys(), before) {
			t.Errorf("Set says %v and leaves %v", err, o.keys())
		}
	})
	t.Run("DeleteFails", func(t *testing.T) {
		o := store()
		o.fails = "delete autoscaler-1/STATIC_SCALE:7"
		if err := profiles(o).Set(t.Context(), 1, 5); err == nil {
			t.Error("Set says nothing")
		}
		p, stale, err := profiles(o).Get(t.Context(), 1)
		if err != nil || p == nil || p.Count != 5 || len(stale) != 1 {
			t.Errorf("Get is %+v, %v, %v", p, stale, err)
		}
	})
	t.Run("ListFails", func(t *testing.T) {
		o := store()
		o.fails = "list"
		if p, _, err := profiles(o).Get(t.Context(), 1); p != nil || err == nil {
			t.Errorf("Get is %v, %v", p, err)
		}
	})
}

// meddling is a store in which another command comes between two calls: before
// the n-th call that begins so.
type meddling struct {
	*objects
	before string
	n      int
	do     func()
}

func (m *meddling) meddle(call string) {
	if !strings.HasPrefix(call, m.before) {
		return
	}
	if m.n--; m.n == 0 {
		m.do()
	}
}

func (m *meddling) List(ctx context.Context, bucket, prefix string) ([]datastore.Object, error) {
	m.meddle("list " + prefix)
	return m.objects.List(ctx, bucket, prefix)
}

func (m *meddling) Put(ctx context.Context, bucket, key string, content []byte) error {
	m.meddle("put " + key)
	return m.objects.Put(ctx, bucket, key, content)
}

func (m *meddling) Delete(ctx context.Context, bucket, key string) error {
	m.meddle("delete " + key)
	return m.objects.Delete(ctx, bucket, key)
}

// Two commands at once, or a command while a tick tidies: wherever the other one
// comes in between, a profile is left, and it is one that was asked for. A fleet
// without one would not be scaled at all.
func TestProfilesAtOnce(t *testing.T) {
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		there  []int // the newest last
		do     func(Profiles) error
		asked  []int
		passes time.Duration // until the other one comes
	}{
		"two commands":                {[]int{3}, func(p Profiles) error { return p.Set(t.Context(), 1, 5) }, []int{3, 5}, time.Second},
		"two commands in one instant": {[]int{3}, func(p Profiles) error { return p.Set(t.Context(), 1, 5) }, []int{3, 5}, 0},
		"a command while a tick tidies": {[]int{3, 5}, func(p Profiles) error {
			_, stale, err := p.Get(t.Context(), 1)
			return errors.Join(err, p.Tidy(t.Context(), 1, stale))
		}, []int{3}, time.Second},
		"a command while a schedule fires": {[]int{5}, func(p Profiles) error {
			from, _, err := p.Get(t.Context(), 1)
			if changed := p.Change(t.Context(), 1, from, 9); !errors.Is(changed, errChanged) {
				return errors.Join(err, changed)
			}
			return err
		}, []int{3, 9}, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			met := 0
			for _, call := range []string{"list ", "put ", "delete "} {
				for n := 1; n <= 4; n++ {
					o := &objects{at: map[string]time.Time{}, clock: noon}
					for _, count := range c.there {
						o.clock = o.clock.Add(time.Second)
						o.at[ProfileKey(1, count)] = o.clock
					}
					m := &meddling{o, call, n, func() {
						met++
						o.clock = o.clock.Add(c.passes)
						if err := (Profiles{Store: o, Bucket: "b"}).Set(t.Context(), 1, 3); err != nil {
							t.Fatal(err)
						}
						o.clock = o.clock.Add(c.passes)
					}}
					if err := c.do(Profiles{Store: m, Bucket: "b"}); err != nil {
						t.Fatal(err)
					}
					p, _, err := Profiles{Store: o, Bucket: "b"}.Get(t.Context(), 1)
					if m.n > 0 {
						continue // there are not so many calls
					}
					if err != nil || p == nil || !slices.Contains(c.asked, p.Count) {
						t.Errorf("another command before call %d of %q: left is %v, %+v", n, call, o.keys(), p)
					}
				}
			}
			if met < 3 {
				t.Errorf("the other command came in between at %d places only", met)
			}
		})
	}
}

// What follows from a profile that was changed since is not written.
func TestChangeOfAnOldProfile(t *testing.T) {
	o := &objects{at: map[string]time.Time{ProfileKey(1, 4): time.Unix(100, 0)}, clock: time.Unix(200, 0)}
	p := Profiles{Store: o, Bucket: "b"}
	for _, from := range []*Profile{nil, {4, time.Unix(99, 0)}, {3, time.Unix(100, 0)}} {
		if err := p.Change(t.Context(), 1, from, 10); !errors.Is(err, errChanged) {
			t.Errorf("from %+v: %v", from, err)
		}
	}
	if err := p.Change(t.Context(), 1, &Profile{4, time.Unix(100, 0)}, 10); err != nil || !slices.Equal(o.keys(), []string{ProfileKey(1, 10)}) {
		t.Errorf("%v, there is %v", err, o.keys())
	}
}
