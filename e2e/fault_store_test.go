package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"adt/events"
)

// object is the path of an object in the datastore's folder.
func (f *fleet) object(bucket, key string) string {
	return f.path("datastore", "www-example-com-"+bucket, filepath.FromSlash(key))
}

// TestSwitchOffScaling: the object in the datastore stops building and
// terminating, also for health.
func TestSwitchOffScaling(t *testing.T) {
	t.Parallel()
	f := grown(t, 3, nil)
	m, sick := f.mark(), f.Members()[0]
	object := f.object("config-agil", "SWITCH_OFF_SCALING")
	f.must(os.MkdirAll(filepath.Dir(object), 0o700))
	f.must(os.WriteFile(object, nil, 0o600))
	f.Break(sick.ID, "http=500")
	f.Exits(0, "healthcheck") // a sick one leaves DNS all the same
	for _, count := range []string{"5", "1"} {
		f.Tick("scale", "--count", count)
		for range 2 {
			f.Exits(3, "scale")
			f.Exits(3, "healthcheck")
		}
		f.Expect(m, 0, 0)
	}
	if f.Said(m, events.BrakePaused) < 6 {
		t.Error(f.Story())
	}
	// Others of that name's beginning are not the switch.
	f.must(os.Rename(object, object+"_NOT"))
	f.Tick("scale", "--count", "3")
	f.Settle(3)
	f.Expect(m, 1, 1)
}

// TestSwitchOffStopsATermination that was decided before.
func TestSwitchOffStopsATermination(t *testing.T) {
	t.Parallel()
	f := grown(t, 2, settings{"scale.drain": `"1h"`, "scale.budget": `"300ms"`})
	m := f.mark()
	f.Tick("scale", "--count", "1")
	f.Tick("scale")
	object := f.object("config-agil", "SWITCH_OFF_SCALING")
	f.must(os.MkdirAll(filepath.Dir(object), 0o700))
	f.must(os.WriteFile(object, nil, 0o600))
	f.configure(settings{"scale.budget": `"300ms"`}) // drained
	for range 2 {
		f.Run("scale")
		f.Run("healthcheck")
	}
	f.Expect(m, 0, 0)
	f.must(os.Remove(object))
	f.Settle(1)
	f.Expect(m, 0, 1)
}

// TestTwoProfiles: of two objects, as a crash leaves them, the newest holds and
// the other one is tidied away.
func TestTwoProfiles(t *testing.T) {
	t.Parallel()
	f := grown(t, 1, nil)
	now := time.Now()
	for count, age := range map[string]time.Duration{"3": time.Minute, "2": time.Second, "4": time.Hour, "1": 2 * time.Hour} {
		path := f.object("scaling-"+*vendor+"-lon1", "autoscaler-1/STATIC_SCALE:"+count)
		f.must(os.WriteFile(path, nil, 0o600))
		f.must(os.Chtimes(path, now.Add(-age), now.Add(-age)))
	}
	foreign := f.object("scaling-"+*vendor+"-lon1", "autoscaler-1/STATIC_SCALE:many")
	f.must(os.WriteFile(foreign, nil, 0o600))
	f.Settle(2)
	f.Expect(mark{}, 2, 0)
	left, err := filepath.Glob(f.object("scaling-"+*vendor+"-lon1", "autoscaler-1/*"))
	f.must(err)
	if len(left) != 2 || filepath.Base(left[0]) != "STATIC_SCALE:2" || left[1] != foreign {
		t.Errorf("left: %v", left)
	}
}

// TestOldProfile: the shell toolkit's form with all autoscalers' shares.
func TestOldProfile(t *testing.T) {
	t.Parallel()
	f := newFleet(t, settings{"autoscaler.count": `3`, "autoscaler.number": `2`})
	path := f.object("scaling-"+*vendor+"-lon1", "autoscaler-2/STATIC_SCALE:4:3:2")
	f.must(os.MkdirAll(filepath.Dir(path), 0o700))
	f.must(os.WriteFile(path, nil, 0o600))
	f.Settle(3)
	f.Expect(mark{}, 3, 0)
}

// TestStoreGone: without the datastore it is not known what shall be, and
// nothing is done. (For how long the last known profile holds: TestTheStoreIsSilent.)
func TestStoreGone(t *testing.T) {
	t.Parallel()
	f := grown(t, 2, settings{"datastore.stale_after": `"0s"`})
	m, sick := f.mark(), f.Members()[0]
	f.Break(sick.ID, "http=500")
	for _, bucket := range []string{"config-agil", "scaling-" + *vendor + "-lon1"} {
		path := f.object(bucket, "")
		aside := path + "-aside"
		f.must(os.MkdirAll(path, 0o700))
		f.must(os.Rename(path, aside))
		f.must(os.Symlink("loop", filepath.Join(filepath.Dir(path), "loop")))
		f.must(os.Symlink("loop", path))
		for range 3 {
			f.Exits(1, "scale")
			if bucket == "config-agil" {
				f.Exits(1, "healthcheck")
			}
		}
		f.must(os.Remove(path))
		f.must(os.Remove(filepath.Join(filepath.Dir(path), "loop")))
		f.must(os.Rename(aside, path))
	}
	if f.Said(m, events.StoreFailed) == 0 {
		t.Error(f.Story())
	}
	f.Untouched(m)
	f.Await("the sick one is replaced", func() bool {
		f.Settle(2)
		_, there := f.Machine(sick.ID)
		return !there
	})
	f.Expect(m, 1, 1)
}
