package file_test

import (
	"os"
	"path/filepath"
	"testing"

	"adt/datastore"
	"adt/datastore/datastoretest"
	"adt/datastore/file"
)

func TestConformance(t *testing.T) {
	datastoretest.Test(t, func(t *testing.T) (datastore.Store, string, string) {
		store, err := file.Open(filepath.Join(t.TempDir(), "made", "here"))
		if err != nil {
			t.Fatal(err)
		}
		return store, "www-example-com-scaling-local-lon1", "www-example-com-config-agil"
	})
}

// No key leads out of its bucket, and temporary files are no objects.
func TestKeysStayInTheirBucket(t *testing.T) {
	root := t.TempDir()
	store, err := file.Open(filepath.Join(root, "store"))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range [][2]string{
		{"b", "../x"}, {"b", "a/../../x"}, {"..", "x"}, {"b/c", "x"}, {"b", ""}, {"", "x"}, {"b", "/x"}, {"b", "a//x"}, {"b", ".x"}, {"b", "a\x00"}, {"b", `a\x`},
	} {
		if err := store.Put(t.Context(), at[0], at[1], nil); err == nil {
			t.Errorf("Put took key %q in bucket %q", at[1], at[0])
		}
		if _, err := store.Get(t.Context(), at[0], at[1]); err == nil {
			t.Errorf("Get took key %q in bucket %q", at[1], at[0])
		}
		if err := store.Delete(t.Context(), at[0], at[1]); err == nil {
			t.Errorf("Delete took key %q in bucket %q", at[1], at[0])
		}
	}
	if left, err := filepath.Glob(filepath.Join(root, "store", "*")); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	if err := store.Put(t.Context(), "b", "key", nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "store", "b", ".key123"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if objects, err := store.List(t.Context(), "b", ""); err != nil || len(objects) != 1 {
		t.Errorf("List is %v, %v, want the key alone", objects, err)
	}
}
