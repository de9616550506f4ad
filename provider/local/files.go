package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// writeFile replaces the file at once or not at all.
func writeFile(path string, data []byte) error {
	return renameio.WriteFile(path, data, 0o600, renameio.WithTempDir(filepath.Dir(path)))
}

func writeJSON(path string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return writeFile(path, append(data, '\n'))
}

// readJSON leaves value alone, and returns fs.ErrNotExist wrapped, when there
// is no such file.
func readJSON(path string, value any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, value); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// readJSONIfAny is readJSON for a file that need not exist.
func readJSONIfAny(path string, value any) error {
	err := readJSON(path, value)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// appendJSON adds one line. A single write in append mode is whole even among
// many writers and when the writer is killed.
func appendJSON(path string, value any) error {
	line, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("append to %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// readLines reads what appendJSON wrote; no file is no lines.
func readLines[T any](path string) ([]T, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var lines []T
	for decoder := json.NewDecoder(f); decoder.More(); {
		var line T
		if err := decoder.Decode(&line); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// tryLock takes the flock on the file, or returns nil when another has it.
// Closing the file, or the death of the last process that has it open, lets go.
//
// It is not the flock library's because the lock of a server is handed from
// the client to the server's process with the open file.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, f.Close()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}

// every calls try until it says done, errs, or the context ends.
func every(ctx context.Context, pause time.Duration, try func() (done bool, err error)) error {
	for {
		if done, err := try(); done || err != nil {
			return err
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
