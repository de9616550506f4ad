package sshfile_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"adt/datastore"
	"adt/datastore/datastoretest"
	"adt/datastore/file"
	"adt/datastore/sshfile"
	"adt/provider/machinetest"
	"adt/remote"
)

// machine is one with Debian's own sshd.
func machine(t *testing.T) (*machinetest.Machine, *remote.Dialer) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return machinetest.Login(t, "NO-1-as-lon1-shop-abcd", key, machinetest.Options{})
}

func open(t *testing.T, m *machinetest.Machine, d *remote.Dialer, root string) *sshfile.Store {
	t.Helper()
	s := sshfile.Open(func(ctx context.Context) (*remote.Conn, error) { return d.Dial(ctx, m.Address) }, root)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	m, d := machine(t)
	datastoretest.TestSlow(t, 20, func(t *testing.T) (datastore.Store, string, string) {
		bucket := datastoretest.Bucket(t)
		return open(t, m, d, "data store"), bucket, bucket + "-other"
	})
}

// What is put over SSH is what the autoscaler there reads as its own, and the
// other way round; nobody else there may look at it.
func TestIsAFolder(t *testing.T) {
	m, d := machine(t)
	s := open(t, m, d, "datastore")
	if err := s.Put(t.Context(), "scaling", "autoscaler-1/STATIC_SCALE:5", nil); err != nil {
		t.Fatal(err)
	}
	there, err := file.Open(filepath.Join(m.Home, "datastore"))
	if err != nil {
		t.Fatal(err)
	}
	if objects, err := there.List(t.Context(), "scaling", "autoscaler-1/"); err != nil || len(objects) != 1 || objects[0].Key != "autoscaler-1/STATIC_SCALE:5" {
		t.Errorf("there it lists %v, %v", objects, err)
	}
	if err := there.Put(t.Context(), "scaling", "autoscaler-1/LEASE:7", []byte("theirs")); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(t.Context(), "scaling", "autoscaler-1/LEASE:7"); err != nil || string(got) != "theirs" {
		t.Errorf("here it is %q, %v", got, err)
	}
	for path, want := range map[string]os.FileMode{"datastore": 0o700, "datastore/scaling/autoscaler-1/STATIC_SCALE:5": 0o600} {
		if info, err := os.Stat(filepath.Join(m.Home, path)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	for _, key := range []string{"../x", "a/../../x", ".hidden", "", "a//b"} {
		if err := s.Put(t.Context(), "scaling", key, nil); err == nil {
			t.Errorf("the key %q was taken", key)
		}
	}
}

// A machine that is not the one that was pinned, that lets nobody in, that is
// away, or that has no room: an error of its type.
func TestFaults(t *testing.T) {
	m, d := machine(t)
	s := open(t, m, d, "datastore")
	if err := s.Put(t.Context(), "b", "key", []byte("old")); err != nil {
		t.Fatal(err)
	}
	for behaviour, want := range map[machinetest.Behaviour]error{
		machinetest.OtherKey: datastore.ErrUnauthorized, machinetest.NoLogin: datastore.ErrUnauthorized, machinetest.Closes: datastore.ErrTemporary,
	} {
		if err := m.SSH(behaviour); err != nil {
			t.Fatal(err)
		}
		fresh := open(t, m, d, "datastore")
		if err := fresh.Put(t.Context(), "b", "key", []byte("new")); !errors.Is(err, want) {
			t.Errorf("sshd %s: %v, want %v", behaviour, err, want)
		}
	}
	if err := m.SSH(machinetest.Right); err != nil {
		t.Fatal(err)
	}
	// The connection of before was cut: the store makes another one.
	_, _ = s.Get(t.Context(), "b", "key")
	if got, err := s.Get(t.Context(), "b", "key"); err != nil || string(got) != "old" {
		t.Errorf("after all that it is %q, %v", got, err)
	}
	full := open(t, m, d, "/dev/full")
	if err := full.Put(t.Context(), "b", "key", nil); err == nil || errors.Is(err, datastore.ErrTemporary) || !strings.Contains(err.Error(), "Not a directory") {
		t.Errorf("a folder that cannot be: %v", err)
	}
}

// A connection that ends in the middle of a Put leaves the old object.
func TestCut(t *testing.T) {
	m, d := machine(t)
	s := open(t, m, d, "datastore")
	if err := s.Put(t.Context(), "b", "key", []byte("old")); err != nil {
		t.Fatal(err)
	}
	conn, err := d.Dial(t.Context(), m.Address)
	if err != nil {
		t.Fatal(err)
	}
	cut := sshfile.Open(func(context.Context) (*remote.Conn, error) { return conn, nil }, "datastore")
	ended := make(chan error)
	go func() { ended <- cut.Put(context.Background(), "b", "key", make([]byte, 8<<20)) }()
	_ = conn.Close()
	if err := <-ended; err == nil {
		t.Fatal("a Put without a connection says nothing")
	}
	if got, err := s.Get(t.Context(), "b", "key"); err != nil || string(got) != "old" {
		t.Errorf("it is %d bytes, %v", len(got), err)
	}
	if objects, err := s.List(t.Context(), "b", ""); err != nil || len(objects) != 1 {
		t.Errorf("List is %v, %v", objects, err)
	}
}
