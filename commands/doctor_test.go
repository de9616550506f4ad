package commands

import (
	"testing"
	"testing/fstest"
)

func TestCronIsFound(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	const lines = "* * * * * adt scale\n* * * * * sleep 10; adt healthcheck\n* * * * * adt reboot-if-done\n"
	for name, test := range map[string]struct {
		root          fstest.MapFS
		crontab       string
		cron, crontok bool
	}{
		"nothing":         {fstest.MapFS{}, "", false, false},
		"cron alone":      {fstest.MapFS{"proc/7/comm": file("cron\n")}, "", true, false},
		"a user's":        {fstest.MapFS{"proc/7/comm": file("crond\n")}, lines, true, true},
		"in cron.d":       {fstest.MapFS{"etc/cron.d/adt": file("PATH=/usr/bin\n* * * * * root /usr/local/bin/adt -c /etc/adt.toml scale\n* * * * * root adt healthcheck\n* * * * * root adt reboot-if-done\n")}, "", false, true},
		"commented out":   {fstest.MapFS{}, "#" + lines, false, false},
		"another program": {fstest.MapFS{"proc/7/comm": file("cronie-next\n")}, "* * * * * badt scale\n* * * * * adt healthchecks\n* * * * * adt reboot-if-done\n", false, false},
	} {
		h := &host{env: Env{Root: test.root, Crontab: &crontabFiles{own: test.crontab}}}
		got := []finding{examineCron(h), examineCrontab(t.Context(), h)}
		if got[0].OK != test.cron || got[1].OK != test.crontok {
			t.Errorf("%s: %+v", name, got)
		}
		for _, f := range got {
			if !f.OK && f.Hint == "" {
				t.Errorf("%s: no hint in %+v", name, f)
			}
		}
	}
}
