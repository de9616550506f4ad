package s3_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"adt/datastore"
	"adt/datastore/datastoretest"
	"adt/datastore/s3"
	"adt/datastore/s3test"
)

// Two endpoints in a chain are one store, and the second one has what is put.
func TestChain(t *testing.T) {
	t.Parallel()
	first, second := s3test.Start(t), s3test.Start(t)
	var behind []error
	copied := open(t, config(second))
	chain := datastore.NewChain(func(err error) { behind = append(behind, err) }, open(t, config(first)), copied)
	buckets := func(t *testing.T, names ...string) {
		first.Buckets(t, names...)
		second.Buckets(t, names...)
	}
	if !testing.Short() {
		t.Run("Conformance", func(t *testing.T) {
			datastoretest.Test(t, func(t *testing.T) (datastore.Store, string, string) {
				bucket := datastoretest.Bucket(t)
				buckets(t, bucket, bucket+"-other")
				return tidy{chain}, bucket, bucket + "-other"
			})
		})
	}
	buckets(t, "copy")
	put := func(key string) error { return chain.Put(t.Context(), "copy", key, []byte("x")) }
	if err := put("autoscaler-1/STATIC_SCALE:3"); err != nil {
		t.Fatal(err)
	}
	if got, err := copied.Get(t.Context(), "copy", "autoscaler-1/STATIC_SCALE:3"); err != nil || string(got) != "x" {
		t.Errorf("the second store has %q, %v", got, err)
	}
	if len(behind) > 0 {
		t.Errorf("told %v", behind)
	}
	// What a copy refuses is told of each time, that it is away once; what is written
	// counts all the same.
	first.Buckets(t, "alone")
	for range 2 {
		if err := chain.Put(t.Context(), "alone", "key", nil); err != nil {
			t.Errorf("with a copy that has no such bucket: %v", err)
		}
	}
	if len(behind) != 2 || !errors.Is(behind[1], datastore.ErrNoBucket) {
		t.Errorf("told %v", behind)
	}
	behind = nil
	second.Stop()
	for _, n := range []string{"4", "5"} {
		if err := put("autoscaler-1/STATIC_SCALE:" + n); err != nil {
			t.Errorf("with the copy away: %v", err)
		}
	}
	if err := chain.Delete(t.Context(), "copy", "autoscaler-1/STATIC_SCALE:3"); err != nil {
		t.Errorf("with the copy away: %v", err)
	}
	if len(behind) != 1 || !errors.Is(behind[0], datastore.ErrTemporary) || !strings.Contains(behind[0].Error(), "endpoint 2 of 2") {
		t.Errorf("told %v", behind)
	}
	if objects, err := chain.List(t.Context(), "copy", "autoscaler-1/"); err != nil || len(objects) != 2 {
		t.Errorf("with the copy away, the first one lists %v, %v", objects, err)
	}
	// Where the first one is away, nothing is written.
	first.Stop()
	if err := put("autoscaler-1/STATIC_SCALE:6"); !errors.Is(err, datastore.ErrTemporary) {
		t.Errorf("with the first one away: %v", err)
	}
}

// A chain honours the condition under Create if its first store does.
func TestChainIsConditional(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	server.Buckets(t, "bucket")
	honest := open(t, config(server))
	for _, c := range []struct {
		first datastore.Store
		want  bool
	}{{honest, true}, {careless{honest}, false}} {
		chain := datastore.NewChain(func(error) {}, c.first, honest)
		if got, err := chain.Conditional(t.Context(), "bucket", "probe"); got != c.want || err != nil {
			t.Errorf("Conditional is %v, %v, want %v", got, err, c.want)
		}
	}
}

// careless is a store that says it ignores conditions.
type careless struct{ *s3.Store }

func (careless) Conditional(context.Context, string, string) (bool, error) { return false, nil }
