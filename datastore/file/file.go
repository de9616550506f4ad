// Package file is a datastore in a directory: one folder a bucket, one file an
// object. It serves one machine, or several that share a file system.
package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"adt/datastore"
)

// Store is a directory of buckets.
type Store struct{ root string }

// Open makes the directory where it is missing.
func Open(root string) (*Store, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("file: making the datastore: %w", err)
	}
	return &Store{root}, nil
}

var _ datastore.Store = (*Store)(nil)

// path turns a key into a file name and refuses what would leave the bucket,
// hide in it, or be taken for a temporary file.
func (s *Store) path(bucket, key string) (string, error) {
	for _, part := range append(strings.Split(key, "/"), bucket) {
		if part == "" || strings.HasPrefix(part, ".") || strings.ContainsAny(part, "/\\\x00") {
			return "", fmt.Errorf("file: %q in bucket %q is no usable key", key, bucket)
		}
	}
	return filepath.Join(s.root, bucket, filepath.FromSlash(key)), nil
}

// List implements datastore.Store.
func (s *Store) List(ctx context.Context, bucket, prefix string) ([]datastore.Object, error) {
	root := filepath.Join(s.root, bucket)
	var out []datastore.Object
	// A prefix that names a folder need not look into the others.
	start := filepath.Join(root, filepath.FromSlash(prefix[:strings.LastIndexByte(prefix, '/')+1]))
	// The slash at the end: a bucket that is a symbolic link would else look empty.
	err := filepath.WalkDir(start+"/", func(path string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // not there, or deleted while we looked
		}
		if err != nil || !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") {
			return err
		}
		key, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if key = filepath.ToSlash(key); !strings.HasPrefix(key, prefix) {
			return nil
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		out = append(out, datastore.Object{Key: key, Modified: info.ModTime()})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("file: listing %s of bucket %s: %w", prefix, bucket, err)
	}
	slices.SortFunc(out, func(a, b datastore.Object) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}

// Get implements datastore.Store.
func (s *Store) Get(ctx context.Context, bucket, key string) ([]byte, error) {
	path, err := s.path(bucket, key)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if absent(err) {
		return nil, fmt.Errorf("file: %s of bucket %s: %w", key, bucket, datastore.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("file: reading %s of bucket %s: %w", key, bucket, err)
	}
	return data, ctx.Err()
}

// Put implements datastore.Store.
func (s *Store) Put(ctx context.Context, bucket, key string, content []byte) error {
	path, err := s.path(bucket, key)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("file: writing %s of bucket %s: %w", key, bucket, err)
	}
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("file: writing %s of bucket %s: %w", key, bucket, err)
	}
	if err := renameio.WriteFile(path, content, 0o600, renameio.WithTempDir(folder)); err != nil {
		return fmt.Errorf("file: writing %s of bucket %s: %w", key, bucket, err)
	}
	return syncDir(folder)
}

// Create implements datastore.Store: the whole file is linked to its name,
// which fails where there is one.
func (s *Store) Create(ctx context.Context, bucket, key string, content []byte) error {
	path, err := s.path(bucket, key)
	if err != nil {
		return err
	}
	fault := func(err error) error { return fmt.Errorf("file: making %s of bucket %s: %w", key, bucket, err) }
	if err := ctx.Err(); err != nil {
		return fault(err)
	}
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fault(err)
	}
	whole, err := renameio.NewPendingFile(path, renameio.WithTempDir(folder), renameio.WithPermissions(0o600))
	if err != nil {
		return fault(err)
	}
	defer whole.Cleanup()
	if _, err := whole.Write(content); err != nil {
		return fault(err)
	}
	if err := whole.Sync(); err != nil {
		return fault(err)
	}
	switch err := os.Link(whole.Name(), path); {
	case errors.Is(err, fs.ErrExist):
		return fault(datastore.ErrExists)
	case err != nil:
		return fault(err)
	}
	return syncDir(folder)
}

// Now implements datastore.Store: files get the time of this machine, as of its
// last timer tick.
func (s *Store) Now(ctx context.Context) (time.Time, time.Duration, error) {
	return time.Now(), 10 * time.Millisecond, ctx.Err()
}

// Delete implements datastore.Store.
func (s *Store) Delete(ctx context.Context, bucket, key string) error {
	path, err := s.path(bucket, key)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("file: deleting %s of bucket %s: %w", key, bucket, err)
	}
	if err := unix.Unlink(path); err != nil && !absent(err) {
		return fmt.Errorf("file: deleting %s of bucket %s: %w", key, bucket, err)
	}
	return nil
}

// absent reports whether there is no object of that name: no file, or a folder,
// which is but the beginning of other names.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENOTDIR)
}

// syncDir makes a rename in the folder survive a power cut.
func syncDir(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return fmt.Errorf("file: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("file: %w", err)
	}
	return nil
}
