package e2e

import (
	"os"
	"strings"
	"testing"
)

// TestDiskFullAtRest: a tick that has nothing to write but the record of its run
// succeeds without it, and says so once.
func TestDiskFullAtRest(t *testing.T) {
	t.Parallel()
	f := grown(t, 2, nil)
	fill := f.smallDisk()
	f.Tick("scale")
	f.Tick("scale") // from now on it has nothing to write
	record := f.path("runtime", "runs", "scale.json")
	before, err := os.ReadFile(record)
	f.must(err)
	fill(true)
	if r := f.Run("scale"); r.code != 0 || !strings.Contains(r.stderr, "RUN_UNRECORDED") || !strings.Contains(r.stderr, "no space left") {
		t.Errorf("the first time: %v", r)
	}
	if r := f.Run("scale"); r.code != 0 || r.stderr != "" {
		t.Errorf("the second time: %v", r)
	}
	if after, err := os.ReadFile(record); err != nil || string(after) != string(before) {
		t.Errorf("the record is %q, %v, was %q", after, err, before)
	}
	fill(false)
	if r := f.Run("scale"); r.code != 0 {
		t.Errorf("with room again: %v", r)
	}
	if after, err := os.ReadFile(record); err != nil || string(after) == string(before) {
		t.Errorf("with room again nothing was recorded: %v", err)
	}
}
