package s3_test

import (
	"testing"

	"adt/datastore"
	"adt/datastore/datastoretest"
	"adt/datastore/s3test"
)

// Two endpoints in a chain are one store, and the second one has what is put.
func TestChain(t *testing.T) {
	t.Parallel()
	first, second := s3test.Start(t), s3test.Start(t)
	chain := datastore.Chain{open(t, config(first)), open(t, config(second))}
	buckets := func(t *testing.T, names ...string) {
		first.Buckets(t, names...)
		second.Buckets(t, names...)
	}
	if !testing.Short() {
		t.Run("Conformance", func(t *testing.T) {
			datastoretest.Test(t, func(t *testing.T) (datastore.Store, string, string) {
				bucket := datastoretest.Bucket(t)
				buckets(t, bucket, bucket+"-other")
				return chain, bucket, bucket + "-other"
			})
		})
	}
	buckets(t, "copy")
	put := func(key string) error { return chain.Put(t.Context(), "copy", key, []byte("x")) }
	if err := put("autoscaler-1/STATIC_SCALE:3"); err != nil {
		t.Fatal(err)
	}
	if got, err := chain[1].Get(t.Context(), "copy", "autoscaler-1/STATIC_SCALE:3"); err != nil || string(got) != "x" {
		t.Errorf("the second store has %q, %v", got, err)
	}
	second.Stop()
	if err := put("autoscaler-1/STATIC_SCALE:4"); err == nil {
		t.Error("a copy that could not be written is no error")
	}
	if objects, err := chain.List(t.Context(), "copy", "autoscaler-1/"); err != nil || len(objects) != 2 {
		t.Errorf("with the second store away, the first lists %v, %v", objects, err)
	}
}
