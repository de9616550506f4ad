package postmortem

import (
	"fmt"
	"strings"

	"adt/remote"
)

// notThere is how a command ends that found nothing to fetch.
const notThere = 66

// perCommand bounds one command on the server, in seconds: a disk that hangs must
// not take the time of all that comes after.
const perCommand = 5

// want is one file and the command that writes it to standard output.
type want struct{ file, command string }

// wanted is what a server is asked for. Of processes there are the names alone:
// arguments may hold passwords.
func (a *Archive) wanted(password bool) []want {
	sudo := "sudo -n "
	if password {
		sudo = "sudo -S -p '' "
	}
	bounded := func(command string) string {
		return fmt.Sprintf("timeout -k 1 %d sh -c %s", perCommand, remote.Quote(command))
	}
	var all []want
	for _, path := range a.Files {
		tail := fmt.Sprintf("[ -e %[1]s ] || exit %[2]d; exec tail -c %[3]d -- %[1]s", remote.Quote(path), notThere, a.Limit)
		// The server user may read it, or root has to.
		all = append(all, want{fileName(path), bounded(fmt.Sprintf("if [ -r %s ]; then %s; else %s; fi",
			remote.Quote(path), tail, sudo+"sh -c "+remote.Quote(tail)))})
	}
	journal := "journalctl -n 1000 --no-pager -o short-iso"
	return append(all,
		want{"processes.txt", bounded(fmt.Sprintf("ps -e -o pid,ppid,user,stat,etime,pcpu,pmem,rss,comm | head -c %d", a.Limit))},
		want{"disk.txt", bounded("df -hP; echo; df -iP")},
		want{"journal.txt", bounded(fmt.Sprintf("command -v journalctl >/dev/null || exit %d; { %s || %s; } 2>/dev/null | tail -c %d",
			notThere, sudo+journal, journal, a.Limit))},
	)
}

// fileName is a path on a server as one name.
func fileName(path string) string {
	return strings.TrimLeft(strings.ReplaceAll(strings.Trim(path, "/"), "/", "-"), ".")
}
