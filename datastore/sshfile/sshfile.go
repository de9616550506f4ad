// Package sshfile is the datastore of package file on another machine, reached
// by commands of its shell: what is put here, an autoscaler there reads as its
// own. That machine needs a POSIX shell and GNU's coreutils and find, as Debian
// has them; no sftp, and nothing of ours.
package sshfile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"adt/datastore"
	"adt/remote"
)

// atOnce is how many commands run at a time; sshd takes ten on one connection.
const atOnce = 8

// Store is a folder of buckets on another machine. It is safe for concurrent use.
type Store struct {
	dial  func(context.Context) (*remote.Conn, error)
	root  string
	turns chan struct{}

	mu   sync.Mutex
	conn *remote.Conn // nil until it is needed
}

var _ datastore.Store = (*Store)(nil)

// Open asks nobody yet. A root that does not begin with '/' is below the home
// directory of who logs in.
func Open(dial func(context.Context) (*remote.Conn, error), root string) *Store {
	return &Store{dial: dial, root: root, turns: make(chan struct{}, atOnce)}
}

// Close ends the connection; the next call makes a new one.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return nil
	}
	conn := s.conn
	s.conn = nil
	return conn.Close()
}

// What a script says first.
const (
	done   = "adt-done"
	absent = "adt-absent"
	exists = "adt-exists"
)

// run gives a script to the machine's shell, and returns what it said first and
// what came after that.
func (s *Store) run(ctx context.Context, script string, stdin []byte) (word, rest string, err error) {
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
	case <-ctx.Done():
		return "", "", ctx.Err()
	}
	conn, err := s.connection(ctx)
	if err != nil {
		return "", "", err
	}
	out, err := conn.Run(ctx, "umask 077\n"+script, stdin)
	var exit *remote.ExitError
	switch {
	case ctx.Err() != nil:
		return "", "", ctx.Err()
	case errors.As(err, &exit):
		return "", "", err
	case err != nil:
		return "", "", fmt.Errorf("%w: %w", datastore.ErrTemporary, err)
	}
	word, rest, _ = strings.Cut(string(out), "\n")
	if word != done && word != absent && word != exists {
		return "", "", fmt.Errorf("the machine's shell answers %q", word)
	}
	return word, rest, nil
}

func (s *Store) connection(ctx context.Context) (*remote.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil && s.conn.Lost() {
		_ = s.conn.Close()
		s.conn = nil
	}
	if s.conn == nil {
		conn, err := s.dial(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, remote.ErrUnreachable):
			return nil, fmt.Errorf("%w: %w", datastore.ErrTemporary, err)
		case errors.Is(err, remote.ErrLogin), errors.Is(err, remote.ErrHostKey):
			return nil, fmt.Errorf("%w: %w", datastore.ErrUnauthorized, err)
		case err != nil:
			return nil, err
		}
		s.conn = conn
	}
	return s.conn, nil
}

// path is the shell's word for a key, and for its folder. It refuses what package
// file refuses.
func (s *Store) path(bucket, key string) (file, folder string, err error) {
	for _, part := range append(strings.Split(key, "/"), bucket) {
		if part == "" || strings.HasPrefix(part, ".") || strings.ContainsAny(part, "/\\\x00") {
			return "", "", fmt.Errorf("sshfile: %q in bucket %q is no usable key", key, bucket)
		}
	}
	whole := s.root + "/" + bucket + "/" + key
	return remote.Quote(whole), remote.Quote(whole[:strings.LastIndexByte(whole, '/')]), nil
}

// List implements datastore.Store.
func (s *Store) List(ctx context.Context, bucket, prefix string) ([]datastore.Object, error) {
	fault := func(err error) ([]datastore.Object, error) {
		return nil, fmt.Errorf("sshfile: listing %s of bucket %s: %w", prefix, bucket, err)
	}
	folder := prefix[:strings.LastIndexByte(prefix, '/')+1] // the others need no look
	at, _, err := s.path(bucket, folder+"x")
	if err != nil {
		return nil, err
	}
	at = strings.TrimSuffix(at, "x'") + "'"
	word, rest, err := s.run(ctx, fmt.Sprintf("[ -e %[1]s ] || { echo %[2]s; exit 0; }\ncd %[1]s && echo %[3]s && find . -ignore_readdir_race -name '.?*' -prune -o -type f -printf '%%P\\0%%T@\\0'\n", at, absent, done), nil)
	if err != nil {
		return fault(err)
	}
	if word == absent {
		return nil, nil
	}
	var out []datastore.Object
	fields := strings.Split(rest, "\x00")
	for ; len(fields) > 1; fields = fields[2:] {
		modified, err := parseTime(fields[1])
		if err != nil {
			return fault(err)
		}
		if key := folder + fields[0]; strings.HasPrefix(key, prefix) {
			out = append(out, datastore.Object{Key: key, Modified: modified})
		}
	}
	slices.SortFunc(out, func(a, b datastore.Object) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}

// parseTime reads seconds with a fraction, as find and date print them.
func parseTime(text string) (time.Time, error) {
	whole, fraction, _ := strings.Cut(strings.TrimSpace(text), ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no time", text)
	}
	nanos, err := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no time", text)
	}
	return time.Unix(seconds, nanos), nil
}

// Get implements datastore.Store.
func (s *Store) Get(ctx context.Context, bucket, key string) ([]byte, error) {
	file, _, err := s.path(bucket, key)
	if err != nil {
		return nil, err
	}
	// Opened once: what is replaced meanwhile is read whole all the same.
	word, rest, err := s.run(ctx, fmt.Sprintf("[ -f %[1]s ] || { echo %[2]s; exit 0; }\nexec 3<%[1]s && echo %[3]s && cat <&3\n", file, absent, done), nil)
	if err == nil && word == absent {
		err = datastore.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("sshfile: reading %s of bucket %s: %w", key, bucket, err)
	}
	return []byte(rest), nil
}

// Put implements datastore.Store: a temporary file, synced, takes the place of the
// old one at once.
func (s *Store) Put(ctx context.Context, bucket, key string, content []byte) error {
	return s.write(ctx, "writing", bucket, key, content, `mv -f -- "$t" "$f" && sync "$d" && echo `+done)
}

// Create implements datastore.Store: a link does not replace what is there.
func (s *Store) Create(ctx context.Context, bucket, key string, content []byte) error {
	return s.write(ctx, "making", bucket, key, content,
		`if ln -- "$t" "$f" 2>/dev/null; then sync "$d" && echo `+done+`; elif [ -e "$f" ]; then echo `+exists+`; else ln -- "$t" "$f"; fi`)
}

func (s *Store) write(ctx context.Context, doing, bucket, key string, content []byte, commit string) error {
	file, folder, err := s.path(bucket, key)
	if err != nil {
		return err
	}
	// All of the content is there before the name is: a connection that ends in the
	// middle leaves a temporary file, shorter than it should be, and no more.
	script := fmt.Sprintf("f=%s; d=%s\nmkdir -p -- \"$d\" && t=$(mktemp -- \"$d/.adt.XXXXXX\") || exit\ntrap 'rm -f -- \"$t\"' EXIT\n"+
		"cat > \"$t\" && [ \"$(wc -c < \"$t\")\" -eq %d ] && sync \"$t\" && { %s; }\n", file, folder, len(content), commit)
	word, _, err := s.run(ctx, script, content)
	if err == nil && word == exists {
		err = datastore.ErrExists
	}
	if err != nil {
		return fmt.Errorf("sshfile: %s %s of bucket %s: %w", doing, key, bucket, err)
	}
	return nil
}

// Delete implements datastore.Store.
func (s *Store) Delete(ctx context.Context, bucket, key string) error {
	file, _, err := s.path(bucket, key)
	if err != nil {
		return err
	}
	if _, _, err := s.run(ctx, fmt.Sprintf("[ -d %[1]s ] || rm -f -- %[1]s && echo %[2]s\n", file, done), nil); err != nil {
		return fmt.Errorf("sshfile: deleting %s of bucket %s: %w", key, bucket, err)
	}
	return nil
}

// Now implements datastore.Store.
func (s *Store) Now(ctx context.Context) (time.Time, time.Duration, error) {
	asked := time.Now()
	_, rest, err := s.run(ctx, "echo "+done+"; date +%s.%N\n", nil)
	if err != nil {
		return time.Time{}, 0, fmt.Errorf("sshfile: asking for the time: %w", err)
	}
	now, err := parseTime(rest)
	if err != nil {
		return time.Time{}, 0, fmt.Errorf("sshfile: asking for the time: %w", err)
	}
	return now, time.Since(asked), nil
}
