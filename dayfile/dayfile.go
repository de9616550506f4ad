// Package dayfile is a folder with one file of lines for each day, named by its UTC
// date, that may be compressed once the day is over. It must not know what the
// lines say.
package dayfile

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// Extensions of a day's file, and of the same compressed.
const (
	Plain  = ".jsonl"
	Packed = Plain + ".gz"
)

// Date is the name of the day in which a moment is.
func Date(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// Parse returns the day that a file's name is of; ok is false for any other file.
func Parse(name string) (day time.Time, packed, ok bool) {
	date, packed := strings.CutSuffix(name, Packed)
	if !packed {
		date, ok = strings.CutSuffix(name, Plain)
		if !ok {
			return time.Time{}, false, false
		}
	}
	day, err := time.Parse(time.DateOnly, date)
	return day, packed, err == nil
}

// Dates lists the days of a folder that have a file, compressed or not, in their
// order: from the day of since on, all when that is zero. A folder that does not
// exist has none.
func Dates(folder string, since time.Time) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var dates []string
	for _, e := range entries {
		day, _, ok := Parse(e.Name())
		if !ok || !since.IsZero() && Date(day) < Date(since) {
			continue
		}
		dates = append(dates, Date(day))
	}
	slices.Sort(dates)
	return slices.Compact(dates), nil
}

// Open opens a day's lines for reading, compressed or not. The error wraps
// fs.ErrNotExist when there are none.
func Open(folder, date string) (io.ReadCloser, error) {
	plain, err := os.Open(filepath.Join(folder, date+Plain))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	packed, perr := os.Open(filepath.Join(folder, date+Packed))
	switch {
	case errors.Is(perr, fs.ErrNotExist) && err != nil:
		return nil, err
	case errors.Is(perr, fs.ErrNotExist):
		return plain, nil
	case perr != nil:
		return nil, perr
	case err != nil:
		return unpack(packed)
	}
	defer plain.Close()
	reader, err := unpack(packed)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	lines, err := both(reader, plain)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(folder, date), err)
	}
	return io.NopCloser(bytes.NewReader(lines)), nil
}

// both is what two files of one day hold: compressing was cut off before the plain
// one was removed, and they hold the same; or a clock that was set back has begun
// the day again.
func both(packed, plain io.Reader) ([]byte, error) {
	old, err := io.ReadAll(packed)
	if err != nil {
		return nil, err
	}
	lines, err := io.ReadAll(plain)
	if err != nil || bytes.HasPrefix(lines, old) {
		return lines, err
	}
	if len(old) > 0 && old[len(old)-1] != '\n' { // a crash tore the last line
		old = append(old, '\n')
	}
	return append(old, lines...), nil
}

type unpacked struct {
	*gzip.Reader
	file *os.File
}

func (u unpacked) Close() error { return errors.Join(u.Reader.Close(), u.file.Close()) }

func unpack(file *os.File) (io.ReadCloser, error) {
	reader, err := gzip.NewReader(file)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", file.Name(), err), file.Close())
	}
	return unpacked{reader, file}, nil
}

// Pack compresses a day. Cut off at any moment, nothing of it is lost: the plain
// file goes when the other is whole and on the disk.
func Pack(folder, date string) error {
	lines, err := Open(folder, date)
	if err != nil {
		return fmt.Errorf("compressing: %w", err)
	}
	defer lines.Close()
	path := filepath.Join(folder, date+Packed)
	file, err := renameio.NewPendingFile(path, renameio.WithTempDir(folder), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return fmt.Errorf("compressing: %w", err)
	}
	defer func() { _ = file.Cleanup() }()
	writer := gzip.NewWriter(file)
	_, err = io.Copy(writer, lines)
	if err = errors.Join(err, writer.Close()); err != nil {
		return fmt.Errorf("compressing %s: %w", filepath.Join(folder, date+Plain), err)
	}
	if err := file.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("compressing: %w", err)
	}
	if err := syncFolder(folder); err != nil {
		return fmt.Errorf("compressing: %w", err)
	}
	if err := os.Remove(filepath.Join(folder, date+Plain)); err != nil {
		return fmt.Errorf("compressing: %w", err)
	}
	return nil
}

func syncFolder(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
