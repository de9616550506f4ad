package autoscaler_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"adt/autoscaler"
	"adt/lock"
	"adt/provider"
	"adt/rundir"
)

const day = 24 * time.Hour

// keys are what the config bucket holds.
func (r *rig) keys() []string {
	r.t.Helper()
	objects, err := r.Profiles.Store.List(r.t.Context(), r.ConfigBucket, "")
	if err != nil {
		r.t.Fatal(err)
	}
	var all []string
	for _, o := range objects {
		all = append(all, o.Key)
	}
	return all
}

func (r *rig) put(keys ...string) {
	r.t.Helper()
	for _, key := range keys {
		if err := r.Profiles.Store.Put(r.t.Context(), r.ConfigBucket, key, nil); err != nil {
			r.t.Fatal(err)
		}
	}
}

// TestForgetGone: an address leaves the datastore when it was ours, and fresh
// listings that agree with what is known have not had it for a day. All doubt keeps
// it.
func TestForgetGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3)
		r.calm(1)
		r.put("webserverips/10.0.0.1", "webserverips/10.0.0.2", "webserverips/10.0.0.3", "webserverpublicips/192.0.2.3", "beenonline/10.0.0.3", "hostkeys/10.0.0.3", "beingbuiltips/10.0.0.3",
			"webserverips/10.0.0.30", "webserverips/10.9.9.9", "webserverips/garbage", "autoscalerips/10.0.0.3", "INSTALLED_SUCCESSFULLY")
		all := r.keys()
		forget := func() ([]string, error) { return r.ForgetGone(t.Context(), day, false) }
		keeps := func(why string, want error) {
			t.Helper()
			got, err := forget()
			if len(got) > 0 || !errors.Is(err, want) || !slices.Equal(r.keys(), all) {
				t.Errorf("%s: %v, %v; left are %v", why, got, err, r.keys())
			}
		}
		keeps("all are there", nil)
		time.Sleep(2 * day)
		r.cloud.list = func([]provider.Server) ([]provider.Server, error) { return nil, errors.New("401") }
		keeps("the listing failed", autoscaler.ErrNotObserved)
		r.cloud.list = func([]provider.Server) ([]provider.Server, error) { return nil, nil }
		keeps("the listing is empty", autoscaler.ErrNoAgreement)
		r.cloud.list = func(s []provider.Server) ([]provider.Server, error) { return s[:2], nil }
		keeps("the listing lacks a known server", autoscaler.ErrNoAgreement)
		r.cloud.list = nil
		keeps("and has it again", nil)

		// The third one goes, and the store was not told.
		r.cloud.servers = r.cloud.servers[:2]
		r.cloud.addresses = r.cloud.addresses[:2]
		r.cloud.alive["10.0.0.3"], r.cloud.alive["192.0.2.3"] = false, false
		r.profile(2)
		for range 6 { // until it is believed to be gone
			_ = r.tick()
		}
		keeps("it is gone for minutes", nil)
		time.Sleep(day)
		if dry, err := r.ForgetGone(t.Context(), day, true); len(dry) != 5 || err != nil || !slices.Equal(r.keys(), all) {
			t.Errorf("a dry run: %v, %v; left are %v", dry, err, r.keys())
		}
		got, err := forget()
		slices.Sort(got)
		want := []string{"beenonline/10.0.0.3", "beingbuiltips/10.0.0.3", "hostkeys/10.0.0.3", "webserverips/10.0.0.3", "webserverpublicips/192.0.2.3"}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, %v", got, err)
		}
		left := slices.DeleteFunc(all, func(key string) bool { return slices.Contains(want, key) })
		if !slices.Equal(r.keys(), left) {
			t.Errorf("left are %v, want %v", r.keys(), left)
		}
		all = left
		keeps("nothing is left to do", nil)
	})
}

// An address of a record is in use, whatever the listing says.
func TestForgetGoneKeepsRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2)
		r.calm(1)
		if _, err := r.ForgetGone(t.Context(), day, false); err != nil {
			t.Fatal(err)
		}
		r.put("webserverips/10.0.0.2")
		end := autoscaler.Termination{Version: rundir.Version, ID: "id2", Name: r.cloud.servers[1].Name, PrivateIP: netip.MustParseAddr("10.0.0.2"), Cause: autoscaler.Unhealthy, Phase: autoscaler.Destroyed}
		if err := r.Dir.Create("terminating/id2", end); err != nil {
			t.Fatal(err)
		}
		r.cloud.servers = r.cloud.servers[:1]
		if err := r.Dir.Remove("servers.json"); err != nil { // it is forgotten there before its record goes
			t.Fatal(err)
		}
		time.Sleep(3 * day)
		if got, err := r.ForgetGone(t.Context(), day, false); err != nil || len(got) > 0 {
			t.Errorf("%v, %v", got, err)
		}
	})
}

func TestStaleMarkers(t *testing.T) {
	r := newRig(t, 0)
	b := autoscaler.Build{Version: rundir.Version, Name: "ws-lon1-shop-1-agil-AAA1", Phase: autoscaler.Addressed, PrivateIP: netip.MustParseAddr("10.0.0.1"), Began: r.Now(), Since: r.Now()}
	if err := r.Dir.Create("AUTOSCALINGMONITOR:1", b); err != nil {
		t.Fatal(err)
	}
	live := []string{"INITIALLY_PROVISIONING-1.lock", "POTENTIAL_STALLED_BUILD:10.0.0.1", "beingbuiltips/1/10.0.0.1"}
	stale := []string{"INITIALLY_PROVISIONING-10.lock", "POTENTIAL_STALLED_BUILD:10.0.0.10", "beingbuiltips/10/10.0.0.1", "beingbuiltips/2/10.0.0.2"}
	fresh := "beingbuiltips/3/10.0.0.3"
	for _, name := range slices.Concat(live, stale, []string{fresh, "AUTHORISED_TO_SCALE", "servers.json"}) {
		if err := r.Dir.Mark(name); err != nil {
			t.Fatal(err)
		}
		if then := time.Now().Add(-31 * time.Minute); name != fresh {
			if err := os.Chtimes(r.Dir.Path(name), then, then); err != nil {
				t.Fatal(err)
			}
		}
	}
	release, err := lock.Try(r.Dir.Path("autoscalelock.file"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.DropMarkers(true); !errors.Is(err, lock.ErrHeld) || len(got) > 0 {
		t.Errorf("while scale is at work: %v, %v", got, err)
	}
	release()
	if got, err := r.StaleMarkers(false); err != nil || !slices.Equal(got, stale) {
		t.Errorf("stale are %v, %v", got, err)
	}
	if got, err := r.DropMarkers(false); err != nil || !slices.Equal(got, stale) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := r.DropMarkers(true); err != nil || !slices.Equal(got, []string{fresh}) {
		t.Errorf("after a boot: %v, %v", got, err)
	}
	for _, name := range append(live, "AUTHORISED_TO_SCALE", "servers.json") {
		if _, there, err := r.Dir.Exists(name); !there || err != nil {
			t.Errorf("%s is gone, %v", name, err)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(r.Dir.Path("beingbuiltips/x")))
	if err != nil || len(entries) != 1 || !strings.HasPrefix(entries[0].Name(), "1") {
		t.Errorf("%v, %v", entries, err)
	}
}
