package e2e

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"adt/autoscaler"
	"adt/events"
	"adt/postmortem"
	"adt/provider/local"
)

// Examined returns the post-mortem of a webserver that is gone. It must be there
// and finished: a kill may repeat it, and never lose it.
func (f *fleet) Examined(name string) postmortem.Report {
	f.t.Helper()
	a := postmortem.Archive{Folder: f.path("logs", "post-mortem")}
	r, err := a.Report(name)
	if err != nil || r.Finished.IsZero() {
		f.t.Errorf("the post-mortem of %s: %+v, %v\n%s", name, r, err, f.Story())
	}
	return r
}

func has(r postmortem.Report, file string) bool {
	return slices.ContainsFunc(r.Files, func(f postmortem.File) bool { return f.Name == file })
}

// lists counts the listings that were asked for.
func (f *fleet) lists() (n int) {
	f.t.Helper()
	calls, err := f.cloud.Calls()
	f.must(err)
	for _, c := range calls {
		if c.Op == local.OpList {
			n++
		}
	}
	return n
}

// TestPostMortem: what a sick webserver has to say is kept before it is destroyed,
// without secrets, for its owner alone, and costs no listing.
func TestPostMortem(t *testing.T) {
	t.Parallel()
	asked := map[string]int{}
	for _, deadline := range []string{`"0s"`, `"30s"`} {
		f := grown(t, 2, settings{"postmortem.deadline": deadline, "ssh.sudo_password": `"open sesame"`})
		sick := f.Members()[0]
		home := f.path("cloud", "servers", f.cloudID(sick.ID), "home")
		f.must(os.WriteFile(filepath.Join(home, "logs", "cloud-init-output.log"), []byte("set -x; sudo with open sesame\nDBPASSWORD=geheim\ndone\n"), 0o600))
		f.Break(sick.ID, "http=500")
		f.Exits(0, "healthcheck")
		before := f.lists()
		f.Exits(0, "healthcheck")
		asked[deadline] = f.lists() - before
		if _, there := f.Machine(sick.ID); there {
			t.Fatalf("it is not gone\n%s", f.Story())
		}
		if deadline == `"0s"` {
			if _, err := os.Stat(f.path("logs", "post-mortem")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("it is off, and there is %v", err)
			}
			continue
		}
		r := f.Examined(sick.Name)
		for _, file := range []string{"records.json", "events.jsonl", "logs-cloud-init-output.log", "logs-webserver-error.log", "processes.txt", "disk.txt", "journal.txt"} {
			if !has(r, file) {
				t.Errorf("%s is missing in %+v", file, r)
			}
		}
		if !r.Answered || !strings.HasPrefix(r.Why, "unhealthy: ") {
			t.Errorf("%+v", r)
		}
		var known struct {
			Listed      struct{ Name, Created string }
			Termination autoscaler.Termination
			Known       autoscaler.Known
		}
		f.must(json.Unmarshal([]byte(f.Tick("post-mortem", "show", sick.Name, "records.json").stdout), &known))
		if known.Listed.Name != sick.Name || known.Known.Strikes != 2 || known.Termination.Cause != autoscaler.Unhealthy || known.Known.Detail == "" {
			t.Errorf("the records: %+v", known)
		}
		if out := f.Tick("post-mortem", "show", sick.Name, "events.jsonl").stdout; !strings.Contains(out, "TERMINATION_STARTED") || !strings.Contains(out, "BUILD_DONE") {
			t.Errorf("the story: %s", out)
		}
		if out := f.Tick("post-mortem", "show", sick.Name, "logs-cloud-init-output.log").stdout; out != "set -x; sudo with ***\nDBPASSWORD=***\ndone\n" {
			t.Errorf("the boot's log: %s", out)
		}
		f.must(filepath.WalkDir(f.path("logs", "post-mortem"), func(path string, _ fs.DirEntry, _ error) error {
			info, err := os.Lstat(path)
			if err == nil && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: mode %v", path, info.Mode())
			}
			return err
		}))
	}
	if asked[`"0s"`] != asked[`"30s"`] {
		t.Errorf("listings asked for without and with post-mortem: %v", asked)
	}
}

// TestPostMortemOfTheDumb: of one that does not answer, what the provider and the
// records know is kept, and it goes all the same.
func TestPostMortemOfTheDumb(t *testing.T) {
	t.Parallel()
	f := grown(t, 3, settings{"healthcheck.deadline": probeDeadline(2), "postmortem.deadline": `"1s"`})
	for _, fault := range []string{"crash", "blackhole", "ssh=hang", "freeze"} {
		m, sick := f.mark(), f.Members()[0]
		f.Break(sick.ID, fault)
		f.Exits(0, "healthcheck")
		f.Exits(0, "healthcheck")
		f.Settle(3)
		f.Expect(m, 1, 1)
		r := f.Examined(sick.Name)
		if r.Answered || len(r.Faults) == 0 || !has(r, "records.json") || !has(r, "events.jsonl") {
			t.Errorf("%s: %+v", fault, r)
		}
		if f.Said(m, events.PostMortemTaken) == 0 {
			t.Errorf("%s\n%s", fault, f.Story())
		}
	}
	if out := f.Tick("post-mortem", "list").stdout; strings.Count(out, "\n") != 5 {
		t.Errorf("%s", out)
	}
}

// TestPostMortemOfABuild: a build that fails leaves its logs behind.
func TestPostMortemOfABuild(t *testing.T) {
	t.Parallel()
	f := newFleet(t, settings{"build.phase.ready": `"300ms"`})
	f.BreakAPI(local.OpCreate, "never-ready,times=1")
	f.Tick("scale", "--count", "1")
	f.Tick("scale")
	f.configure(nil)
	f.Settle(1)
	failed := f.Events(events.BuildCondemned)[0].Server
	r := f.Examined(failed)
	if !r.Answered || !has(r, "logs-cloud-init-output.log") || !strings.Contains(r.Why, "still addressed after") {
		t.Errorf("%+v", r)
	}
	var known struct{ Build autoscaler.Build }
	f.must(json.Unmarshal([]byte(f.Tick("post-mortem", "show", failed, "records.json").stdout), &known))
	if known.Build.Name != failed || known.Build.Phase != autoscaler.Condemned {
		t.Errorf("the record: %+v", known)
	}
}

// TestNoRoomForLogs: with no room for a post-mortem there is an event, and the
// webserver is replaced all the same.
func TestNoRoomForLogs(t *testing.T) {
	t.Parallel()
	f := grown(t, 2, nil)
	f.must(os.MkdirAll(f.path("logs", "post-mortem"), 0o700))
	fill := f.smallDiskAt(f.path("logs", "post-mortem"))
	fill(true)
	m, sick := f.mark(), f.Members()[0]
	f.Break(sick.ID, "http=500")
	f.Exits(0, "healthcheck")
	r := f.Exits(0, "healthcheck")
	if !strings.Contains(r.stderr, "no space left") || f.Said(m, events.PostMortemFailed) == 0 {
		t.Errorf("%v\n%s", r, f.Story())
	}
	f.Settle(2)
	f.Expect(m, 1, 1)
	if _, there := f.Machine(sick.ID); there {
		t.Errorf("it is not gone\n%s", f.Story())
	}
}
