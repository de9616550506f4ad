package local

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// What a webserver's home directory has where, as the webserver scripts of the
// Agile Deployment Toolkit have it.
const (
	configureScript = "application/configuration/InitialiseConfigurationByApplication.sh"
	restartScript   = "providerscripts/webserver/RestartWebserver.sh"
	shutdownScript  = "utilities/housekeeping/ShutdownThisWebserver.sh"

	readyMarker      = "runtime/WEBSERVER_READY"
	languageMarker   = "runtime/installedsoftware/InstallApplicationLanguage.sh"
	configuredMarker = "runtime/INITIAL_CONFIG_SET"
	autoscaledMarker = "runtime/AUTOSCALED_WEBSERVER_ONLINE"
	initialMarker    = "runtime/INITIAL_BUILD_WEBSERVER_ONLINE"
	progressMarker   = "runtime/BUILD_IN_PROGRESS"

	bootLog  = "logs/cloud-init-output.log"
	errorLog = "logs/webserver-error.log"
)

var initialName = regexp.MustCompile(`-init-[0-9]+$`)

// initial reports whether the build machine, not an autoscaler, made the
// server.
func (m meta) initial() bool { return initialName.MatchString(m.Name) }

// files is the machine's disk. Faults hide files in a place of their own, from
// where they come back.
type files struct {
	dir  string
	meta meta
	mu   sync.Mutex
}

func (f *files) home(path string) string { return filepath.Join(f.dir, homeDir, path) }

// furnish writes the scripts that come with the image.
func (f *files) furnish() error {
	online := autoscaledMarker
	if f.meta.initial() {
		online = initialMarker
	}
	made := []string{configuredMarker}
	if f.meta.ApplicationConfig != "" {
		made = append(made, f.meta.ApplicationConfig)
	}
	configure := "set -e\ncd \"$HOME\"\n"
	for _, path := range append(made, online) {
		configure += fmt.Sprintf("mkdir -p \"$(dirname %[1]s)\"\n: > %[1]s\n", quote(strings.TrimLeft(path, "/")))
	}
	for path, script := range map[string]string{
		homeDir + "/" + configureScript: configure,
		homeDir + "/" + restartScript:   "mkdir -p \"$HOME/logs\"\ndate >> \"$HOME/logs/RestartWebserver.log\"\n",
		homeDir + "/" + shutdownScript:  "kill -TERM \"$ADT_LOCAL_PID\"\n",
		// There is one user only; what sudo is given on its standard input
		// under -S has to be taken all the same.
		"bin/sudo": `while [ $# -gt 0 ]; do
	case $1 in
	-S) IFS= read -r _ || : ;;
	-u | -g | -p) shift ;;
	--) shift; break ;;
	-*) ;;
	*) break ;;
	esac
	shift
done
exec "$@"
`,
		// What this machine has of its own, and not that of all around it.
		"bin/journalctl": "echo '-- the journal begins --'\nexec cat \"$" + dirVariable + "/" + logFile + "\"\n",
		"bin/ps":         "echo PID COMMAND\necho \"$ADT_LOCAL_PID $(cat \"/proc/$ADT_LOCAL_PID/comm\")\"\n",
	} {
		if err := f.create(filepath.Join(f.dir, path), "#!/bin/sh\n"+script, 0o700); err != nil {
			return err
		}
	}
	return f.create(f.home(bootLog), "Cloud-init (local) has booted "+f.meta.Name+"\n", 0o600)
}

// ready leaves the marks of a finished build.
func (f *files) ready() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	// In this order: who sees the first goes on to look for nothing else.
	return errors.Join(
		f.create(f.home(languageMarker), "", 0o600),
		f.create(f.home(readyMarker), "", 0o600))
}

func (f *files) create(path, content string, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(content), mode)
}

func (f *files) exists(path string) bool {
	_, err := os.Stat(f.home(path))
	return err == nil
}

// apply hides what the fault wants missing and brings back the rest. It may be
// called at any time, so that what is made under a fault is hidden too.
func (f *files) apply(fault Fault) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fault.HTTP != "" {
		if err := f.create(f.home(errorLog), "[error] http="+fault.HTTP+"\n", 0o600); err != nil {
			return err
		}
	}
	missing := map[string]bool{
		autoscaledMarker: fault.Marker != "",
		initialMarker:    fault.Marker != "",
		readyMarker:      fault.Build != "",
	}
	if f.meta.ApplicationConfig != "" {
		missing[f.meta.ApplicationConfig] = fault.Config != ""
	}
	for path, hide := range missing {
		shown, hidden := f.home(path), filepath.Join(f.dir, "hidden", url.PathEscape(path))
		from, to := hidden, shown
		if hide {
			from, to = shown, hidden
		}
		if _, err := os.Lstat(from); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		if err := os.Rename(from, to); err != nil {
			return err
		}
	}
	return f.applyProgress(fault.Progress != "")
}

// applyProgress makes or removes the marker of a build that is stuck. The
// machine makes none of its own accord, so there is nothing to put back.
func (f *files) applyProgress(old bool) error {
	marker := f.home(progressMarker)
	made := filepath.Join(f.dir, "progress")
	if !old {
		if err := os.Remove(made); err != nil {
			return ignoreMissing(err) // not of our making
		}
		return ignoreMissing(os.Remove(marker))
	}
	then := time.Now().Add(-2 * time.Hour)
	return errors.Join(
		f.create(made, "", 0o600),
		f.create(marker, "", 0o600),
		os.Chtimes(marker, then, then))
}

func quote(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
