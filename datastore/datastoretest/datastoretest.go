// Package datastoretest is the contract of datastore.Store as a test: every
// driver passes it. It must not know autoscalers or drivers.
package datastoretest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"adt/datastore"
)

// Test runs the suite. open gives a store for one test, with the names of two
// buckets of its own that do not exist or are empty.
func Test(t *testing.T, open func(t *testing.T) (store datastore.Store, bucket, other string)) {
	t.Helper()
	TestSlow(t, 1, open)
}

// TestSlow is Test for a store that takes so many times as long for each call: what
// is done often is done less often.
func TestSlow(t *testing.T, slow int, open func(t *testing.T) (store datastore.Store, bucket, other string)) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, *shelf){
		"Absent": absent, "RoundTrip": roundTrip, "Replace": replace, "ListPrefix": listPrefix, "ListMany": listMany,
		"DeleteExactly": deleteExactly, "Buckets": buckets, "Modified": modified, "Concurrent": concurrent, "Cancelled": cancelled,
		"Create": create, "CreateRace": createRace, "Now": now,
	} {
		t.Run(name, func(t *testing.T) {
			store, bucket, other := open(t)
			test(t, &shelf{t, store, bucket, other, slow})
		})
	}
}

// Bucket makes a name of a bucket from that of a test.
func Bucket(t *testing.T) string {
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	return strings.Trim(name[max(0, len(name)-40):], "-")
}

// shelf is a store in one test.
type shelf struct {
	t             *testing.T
	store         datastore.Store
	bucket, other string
	slow          int
}

func (s *shelf) put(key, content string) {
	s.t.Helper()
	if err := s.store.Put(s.t.Context(), s.bucket, key, []byte(content)); err != nil {
		s.t.Fatalf("Put(%s): %v", key, err)
	}
}

func (s *shelf) remove(key string) {
	s.t.Helper()
	if err := s.store.Delete(s.t.Context(), s.bucket, key); err != nil {
		s.t.Fatalf("Delete(%s): %v", key, err)
	}
}

func (s *shelf) holds(key, content string) {
	s.t.Helper()
	got, err := s.store.Get(s.t.Context(), s.bucket, key)
	if err != nil || string(got) != content {
		s.t.Fatalf("Get(%s) is %q, %v, want %q", key, got, err, content)
	}
}

func (s *shelf) lacks(key string) {
	s.t.Helper()
	if got, err := s.store.Get(s.t.Context(), s.bucket, key); !errors.Is(err, datastore.ErrNotFound) {
		s.t.Fatalf("Get(%s) is %q, %v, want ErrNotFound", key, got, err)
	}
}

func (s *shelf) lists(prefix string, want ...string) {
	s.t.Helper()
	objects, err := s.store.List(s.t.Context(), s.bucket, prefix)
	if err != nil {
		s.t.Fatalf("List(%q): %v", prefix, err)
	}
	var got []string
	for _, o := range objects {
		got = append(got, o.Key)
	}
	if !slices.Equal(got, want) {
		s.t.Fatalf("List(%q) is %v, want %v", prefix, got, want)
	}
}

func absent(t *testing.T, s *shelf) {
	s.lists("")
	s.lists("autoscaler-1/STATIC_SCALE:")
	s.lacks("autoscaler-1/STATIC_SCALE:3")
	s.remove("autoscaler-1/STATIC_SCALE:3") // no error
}

func roundTrip(t *testing.T, s *shelf) {
	for key, content := range map[string]string{
		"SWITCH_OFF_SCALING": "", "autoscaler-1/STATIC_SCALE:4:3:3": "", "webserverips/10.0.0.1": "", "beenonline/10.0.0.10": "x",
		"a/b/c/d": "deep", "with space": "content\nof lines\x00", "STATIC_SCALE:5": strings.Repeat("long", 1<<16),
	} {
		s.put(key, content)
		s.holds(key, content)
	}
}

func replace(t *testing.T, s *shelf) {
	s.put("key", "a long old content")
	s.put("key", "new")
	s.holds("key", "new")
	s.lists("", "key")
}

// A prefix is a prefix of the key and no folder: autoscaler-1 is one of
// autoscaler-10, and autoscaler-1/ is not.
func listPrefix(t *testing.T, s *shelf) {
	keys := []string{"autoscaler-1/STATIC_SCALE:3", "autoscaler-1/x", "autoscaler-10/STATIC_SCALE:5", "autoscaler-2/STATIC_SCALE:3", "zone"}
	for _, key := range slices.Backward(keys) {
		s.put(key, "")
	}
	s.lists("", keys...)
	s.lists("autoscaler-1", keys[:3]...)
	s.lists("autoscaler-1/", keys[:2]...)
	s.lists("autoscaler-1/STATIC_SCALE:", keys[0])
	s.lists("autoscaler-1/STATIC_SCALE:3", keys[0])
	s.lists("autoscaler-1/STATIC_SCALE:33")
	s.lists("autoscaler-", keys[:4]...)
	s.lists("caler-1")
	s.lists("nowhere/at/all")
}

// More than a page of any known S3.
func listMany(t *testing.T, s *shelf) {
	var keys []string
	for i := range 1100 / s.slow {
		keys = append(keys, fmt.Sprintf("many/%04d", i))
	}
	work := make(chan string)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for key := range work {
				if err := s.store.Put(t.Context(), s.bucket, key, nil); err != nil {
					t.Errorf("Put(%s): %v", key, err)
				}
			}
		})
	}
	for _, key := range keys {
		work <- key
	}
	close(work)
	wg.Wait()
	s.lists("many/", keys...)
}

// Deleting takes that one object: neither those whose keys begin alike (a tool
// of the shell toolkit wiped a bucket so) nor what is below it.
func deleteExactly(t *testing.T, s *shelf) {
	keys := []string{"autoscaler-1/STATIC_SCALE:3", "autoscaler-1/STATIC_SCALE:33", "autoscaler-10/STATIC_SCALE:3"}
	for _, key := range keys {
		s.put(key, "")
	}
	for _, key := range []string{"autoscaler-1", "autoscaler-1/STATIC_SCALE:", "autoscaler-1/STATIC_SCALE*", "*"} {
		s.remove(key)
		s.lacks(key)
	}
	s.lists("", keys...)
	s.remove(keys[0])
	s.lists("", keys[1:]...)
	s.remove(keys[0])
	s.put(keys[0], "again")
	s.holds(keys[0], "again")
}

func buckets(t *testing.T, s *shelf) {
	s.put("key", "one")
	there := &shelf{t, s.store, s.other, s.bucket, s.slow}
	there.lists("")
	there.lacks("key")
	there.put("key", "two")
	s.holds("key", "one")
	there.remove("key")
	s.holds("key", "one")
}

// The newest of several objects is found by its time: it is set, and it does
// not go backwards.
func modified(t *testing.T, s *shelf) {
	at := func() time.Time {
		objects, err := s.store.List(t.Context(), s.bucket, "key")
		if err != nil || len(objects) != 1 || objects[0].Modified.IsZero() {
			t.Fatalf("List is %v, %v", objects, err)
		}
		return objects[0].Modified
	}
	s.put("key", "")
	first := at()
	s.put("key", "")
	if second := at(); second.Before(first) {
		t.Errorf("modified at %v after it was at %v", second, first)
	}
}

// A reader sees the old content or the new one, whole.
func concurrent(t *testing.T, s *shelf) {
	contents := []string{strings.Repeat("a", 1<<15), strings.Repeat("b", 1<<16)}
	s.put("key", contents[0])
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range max(4, 25/s.slow) {
				if err := s.store.Put(t.Context(), s.bucket, "key", []byte(contents[i%2])); err != nil {
					t.Errorf("Put: %v", err)
				}
				got, err := s.store.Get(t.Context(), s.bucket, "key")
				if err != nil || !slices.Contains(contents, string(got)) {
					t.Errorf("Get gives %d bytes, %v", len(got), err)
				}
				objects, err := s.store.List(t.Context(), s.bucket, "")
				if err != nil || len(objects) != 1 {
					t.Errorf("List is %v, %v", objects, err)
				}
			}
		})
	}
	wg.Wait()
}

func cancelled(t *testing.T, s *shelf) {
	s.put("key", "content")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, listed := s.store.List(ctx, s.bucket, "")
	_, got := s.store.Get(ctx, s.bucket, "key")
	for call, err := range map[string]error{
		"List": listed, "Get": got, "Create": s.store.Create(ctx, s.bucket, "new", nil), "Put": s.store.Put(ctx, s.bucket, "key", nil), "Delete": s.store.Delete(ctx, s.bucket, "key"),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s says %v, want context.Canceled", call, err)
		}
	}
	s.holds("key", "content")
}

// What is there is not written over, and says so.
func create(t *testing.T, s *shelf) {
	made := func(key, content string) error { return s.store.Create(t.Context(), s.bucket, key, []byte(content)) }
	if err := made("autoscaler-1/LEASE:1", "first"); err != nil {
		t.Fatalf("Create: %v", err)
	}
	// The same content as well: equal contents are no equal writers.
	for _, content := range []string{"second", "first", ""} {
		if err := made("autoscaler-1/LEASE:1", content); !errors.Is(err, datastore.ErrExists) {
			t.Fatalf("Create of what is there says %v, want ErrExists", err)
		}
	}
	s.holds("autoscaler-1/LEASE:1", "first")
	s.put("put", "")
	if err := made("put", "x"); !errors.Is(err, datastore.ErrExists) {
		t.Fatalf("Create of what was put says %v, want ErrExists", err)
	}
	s.remove("put")
	if err := made("put", "again"); err != nil {
		t.Fatalf("Create after Delete: %v", err)
	}
	s.holds("put", "again")
}

// Of many who make the same object one does, and its content is what stays.
func createRace(t *testing.T, s *shelf) {
	const writers = 8
	rounds := max(3, 20/s.slow)
	for round := range rounds {
		key := fmt.Sprintf("race/%d", round)
		var mu sync.Mutex
		var winners []string
		var wg sync.WaitGroup
		for w := range writers {
			content := fmt.Sprintf("writer %d", w)
			wg.Go(func() {
				err := s.store.Create(t.Context(), s.bucket, key, []byte(content))
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					winners = append(winners, content)
				case !errors.Is(err, datastore.ErrExists):
					t.Errorf("Create: %v", err)
				}
			})
		}
		wg.Wait()
		if len(winners) != 1 {
			t.Fatalf("%d of %d writers made %s: %v", len(winners), writers, key, winners)
		}
		s.holds(key, winners[0])
	}
}

// Now is the clock that sets the times of objects.
func now(t *testing.T, s *shelf) {
	before, within, err := s.store.Now(t.Context())
	if err != nil {
		t.Fatalf("Now: %v", err)
	}
	s.put("key", "")
	after, _, err := s.store.Now(t.Context())
	if err != nil {
		t.Fatalf("Now: %v", err)
	}
	objects, err := s.store.List(t.Context(), s.bucket, "key")
	if err != nil || len(objects) != 1 {
		t.Fatalf("List is %v, %v", objects, err)
	}
	m := objects[0].Modified
	if m.Before(before.Add(-within-datastore.Precision)) || m.After(after.Add(within+datastore.Precision)) {
		t.Errorf("within %v, an object written between %v and %v is of %v", within, before, after, m)
	}
}
