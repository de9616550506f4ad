package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
)

// pinLockWait is how long Pin waits for another process that pins; that one
// needs milliseconds.
const pinLockWait = 10 * time.Second

// Pin makes key the one host key that is accepted of addr at port: older pins of
// that address are replaced, all other lines of the known_hosts file at path are
// kept. The file is made when missing, with mode 0600. When Pin has returned, the
// pin survives a power cut. Lines with hashed names, patterns or markers (@…) are
// people's and left alone.
func Pin(path string, addr netip.Addr, port int, key ssh.PublicKey) error {
	if !addr.IsValid() { // its line would be garbage, and a file with garbage verifies nobody
		return errors.New("pin host key: no address")
	}
	host := knownhosts.Normalize(hostPort(addr, or(port, defaultPort)))
	if err := rewrite(path, host, knownhosts.Line([]string{host}, key)); err != nil {
		return fmt.Errorf("pin host key of %s: %w", host, err)
	}
	return nil
}

// Unpin removes the pins of addr at port, for an address that has been given
// back. That there are none is not an error.
func Unpin(path string, addr netip.Addr, port int) error {
	host := knownhosts.Normalize(hostPort(addr, or(port, defaultPort)))
	if err := rewrite(path, host, ""); err != nil {
		return fmt.Errorf("unpin host key of %s: %w", host, err)
	}
	return nil
}

// rewrite replaces the lines of host by line, or by nothing when it is empty.
func rewrite(path, host, line string) error {
	ctx, cancel := context.WithTimeout(context.Background(), pinLockWait)
	defer cancel()
	// The lock file stays: whoever waits on an unlinked one would not exclude
	// the next comer.
	lock := flock.New(path+".lock", flock.SetPermissions(0o600))
	if _, err := lock.TryLockContext(ctx, 10*time.Millisecond); err != nil {
		return fmt.Errorf("lock %s.lock: %w", path, err)
	}
	defer lock.Close()

	old, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && line == "" {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text := replaceHost(string(old), host, line)
	if err == nil && text == string(old) {
		return nil
	}
	return write(path, text)
}

// replaceHost is text without the entries of host, and with line if that is not
// empty: in the place of the first line that was for host alone, else at the end.
func replaceHost(text, host, line string) string {
	var lines []string
	placed := line == ""
	for l := range strings.Lines(text) {
		l = strings.TrimSuffix(l, "\n")
		kept, changed := dropHost(l, host)
		switch {
		case !changed:
			lines = append(lines, l)
		case kept != "":
			lines = append(lines, kept)
		case !placed:
			lines = append(lines, line)
			placed = true
		}
	}
	if !placed {
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

// dropHost takes host out of the names of one known_hosts line; kept is empty
// when it had no other name.
func dropHost(line, host string) (kept string, changed bool) {
	trimmed := strings.TrimLeft(line, " \t")
	end := strings.IndexAny(trimmed, " \t")
	if end < 0 || strings.HasPrefix(trimmed, "#") {
		return line, false
	}
	names := strings.Split(trimmed[:end], ",")
	others := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == host })
	switch {
	case len(others) == len(names):
		return line, false
	case len(others) == 0:
		return "", true
	}
	return strings.Join(others, ",") + trimmed[end:], true
}

// write replaces the file at path as a whole. renameio syncs the file before it
// renames; the name itself is only durable once the directory is synced too.
// Its WriteFile would keep the mode of the old file.
func write(path, text string) error {
	file, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return err
	}
	defer file.Cleanup()
	if _, err := file.WriteString(text); err != nil {
		return err
	}
	if err := file.CloseAtomicallyReplace(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Pinned returns the host key that is pinned for addr at port. The error wraps
// ErrUnknownHost when there is none.
func Pinned(path string, addr netip.Addr, port int) (ssh.PublicKey, error) {
	host := hostPort(addr, or(port, defaultPort))
	db, err := knownhosts.NewDB(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("pinned host key of %s: %w", host, ErrUnknownHost)
	}
	if err != nil {
		return nil, fmt.Errorf("pinned host key of %s: %w", host, err)
	}
	keys := db.HostKeys(host)
	if len(keys) == 0 {
		return nil, fmt.Errorf("pinned host key of %s: %w", host, ErrUnknownHost)
	}
	return keys[0].PublicKey, nil
}
