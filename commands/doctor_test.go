package commands

import (
	"strings"
	"testing"
	"testing/fstest"

	"adt/config"
)

func TestCronIsFound(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	cfg := &config.Config{Autoscaler: config.Autoscaler{Number: 1}}
	lines := ""
	for _, e := range cronEntries(cfg, false) {
		lines += "* * * * * sleep 1; adt " + e.Name() + "\n"
	}
	system := "PATH=/usr/bin\n" + strings.Replace(strings.ReplaceAll(lines, "sleep 1; adt", "root adt"), "adt", "/usr/local/bin/adt -c /etc/adt.toml", 1)
	for name, test := range map[string]struct {
		root          fstest.MapFS
		crontab       string
		cron, crontok bool
	}{
		"nothing":         {fstest.MapFS{}, "", false, false},
		"cron alone":      {fstest.MapFS{"proc/7/comm": file("cron\n")}, "", true, false},
		"a user's":        {fstest.MapFS{"proc/7/comm": file("crond\n")}, lines, true, true},
		"in cron.d":       {fstest.MapFS{"etc/cron.d/adt": file(system)}, "", false, true},
		"commented out":   {fstest.MapFS{}, "#" + lines, false, false},
		"one is missing":  {fstest.MapFS{}, lines[strings.IndexByte(lines, '\n')+1:], false, false},
		"another program": {fstest.MapFS{"proc/7/comm": file("cronie-next\n")}, strings.Replace(lines, "adt healthcheck", "adt healthchecks", 1), false, false},
		"alike":           {fstest.MapFS{}, strings.Replace(lines, "adt scale", "badt scale", 1), false, false},
	} {
		h := &host{env: Env{Root: test.root, Crontab: &crontabFiles{own: test.crontab}}}
		got := []finding{examineCron(h), examineCrontab(t.Context(), h, cfg)}
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
