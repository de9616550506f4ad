// Package lock holds one run of a command against all others on this machine.
// A lock is an flock(2): the kernel frees it when its holder ends, however it
// ends, so no lock is ever old and none needs to be removed. It must not know
// what it protects.
package lock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/gofrs/flock"
)

// ErrHeld says that another process holds the lock.
var ErrHeld = errors.New("lock is held")

// Try takes the lock at path without waiting and returns its release. Held
// elsewhere is ErrHeld, with what the holder wrote about itself.
//
// The file is never unlinked: two processes could then hold "the" lock on two
// files. Pid, host and time inside are for people, and best effort: a full
// disk must not stop a tick from taking its lock.
func Try(path string, now time.Time) (release func(), err error) {
	// 0600: the lock file is private like everything under runtime.
	l := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	ok, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("taking the lock %s: %w", path, err)
	}
	if !ok {
		holder, _ := os.ReadFile(path)
		return nil, fmt.Errorf("%w: %s: %s", ErrHeld, path, holder)
	}
	host, _ := os.Hostname()
	note := fmt.Sprintf("pid %d on %s since %s\n", os.Getpid(), host, now.UTC().Format(time.RFC3339))
	if err := os.Truncate(path, 0); err == nil {
		_ = os.WriteFile(path, []byte(note), 0o600)
	}
	// Unlock closes the file; its only error would be a bad descriptor.
	return func() { _ = l.Unlock() }, nil
}

// Wait takes the lock at path as soon as it is free, and returns its release.
// It is for locks that are held for the time of a few file operations. The
// error wraps ErrHeld when ctx ended first.
func Wait(ctx context.Context, path string) (release func(), err error) {
	l := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	ok, err := l.TryLockContext(ctx, 5*time.Millisecond)
	if ctx.Err() != nil && !ok {
		return nil, fmt.Errorf("%w: %s", ErrHeld, path)
	}
	if err != nil {
		return nil, fmt.Errorf("taking the lock %s: %w", path, err)
	}
	return func() { _ = l.Unlock() }, nil
}
