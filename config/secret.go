package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/BurntSushi/toml"
)

// Secret is a password or token. Everything that prints it, in whatever way,
// prints "***", or nothing when it is unset; only Reveal gives it away. The
// zero Secret is unset.
type Secret struct {
	// A pointer, as fmt does not ask the methods of what it finds in unexported
	// fields of others: an address is all it can print of this one there.
	value *string
	from  string // "a file", "env:NAME", …: never the secret
}

// NewSecret returns a Secret that holds value.
func NewSecret(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{value: &value}
}

// Reveal returns the secret itself, "" when unset. It belongs on a wire or
// another program's standard input, never in a log, event or argument list.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Equal reports whether both hold the same secret.
func (s Secret) Equal(other Secret) bool { return s.Reveal() == other.Reveal() }

// IsZero reports whether the secret is unset.
func (s Secret) IsZero() bool { return s.value == nil }

func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return "***"
}

func (s Secret) GoString() string             { return s.String() }
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
func (s Secret) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, s.String()) }

// Secrets returns all secrets that are set, for masking them in what others have
// written.
func (c *Config) Secrets() []string {
	var all []string
	for _, section := range schema(c) {
		for _, s := range section.settings {
			if secret, ok := s.value.(*Secret); ok && !secret.IsZero() {
				all = append(all, secret.Reveal())
			}
		}
	}
	return all
}

// secretLimit is the largest secret file that is read, in bytes.
const secretLimit = 64 << 10

// readSecret resolves a secret as written in the file: file:PATH, file:PATH#NAME,
// env:NAME or the secret itself. Its errors never hold the secret.
func readSecret(text string, expand func(string) (string, error), getenv func(string) string) (Secret, error) {
	if name, ok := strings.CutPrefix(text, "env:"); ok {
		if name == "" {
			return Secret{}, errors.New(`env: lacks a name: write "env:NAME"`)
		}
		s := NewSecret(getenv(name))
		if s.IsZero() {
			return Secret{}, fmt.Errorf("the environment variable %s is not set", name)
		}
		s.from = "env:" + name
		return s, nil
	}
	path, ok := strings.CutPrefix(text, "file:")
	if !ok {
		s := NewSecret(text)
		s.from = "written in the file"
		return s, nil
	}
	if path == "" {
		return Secret{}, errors.New(`file: lacks a path: write "file:PATH"`)
	}
	path, name, several := strings.Cut(path, "#")
	path, err := expand(path)
	if err != nil {
		return Secret{}, err
	}
	data, mode, err := readFile(path, secretLimit)
	switch {
	case err != nil:
		return Secret{}, fmt.Errorf("cannot read its file: %w", err)
	case mode&0o077 != 0:
		return Secret{}, fmt.Errorf("others may read its file (mode %04o): run chmod 600 %s", mode, path)
	}
	if several {
		return named(path, name, data)
	}
	s := NewSecret(strings.TrimRight(string(data), "\r\n"))
	if s.IsZero() {
		return Secret{}, fmt.Errorf("its file %s is empty", path)
	}
	s.from = "file:" + path
	return s, nil
}

// named picks one of several secrets out of a file of NAME = "secret" lines.
func named(path, name string, data []byte) (Secret, error) {
	var all map[string]any
	if _, err := toml.Decode(string(data), &all); err != nil {
		return Secret{}, fmt.Errorf("its file %s is not made of lines NAME = \"secret\"", path) // the cause would quote it
	}
	text, _ := all[name].(string)
	s := NewSecret(text)
	if s.IsZero() {
		return Secret{}, fmt.Errorf("its file %s has no line %s = \"secret\"", path, name)
	}
	s.from = "file:" + path + "#" + name
	return s, nil
}

// readFile reads a regular file of at most limit bytes and returns its
// permission bits, taken from the open file so that they belong to what was
// read. It does not wait for the writer of a pipe.
func readFile(path string, limit int64) ([]byte, fs.FileMode, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, plainPathError(path, err)
	}
	defer func() { _ = f.Close() }() // only read from
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, 0, err
	case info.IsDir():
		return nil, 0, fmt.Errorf("%s: is a directory, not a file", path)
	case !info.Mode().IsRegular():
		return nil, 0, fmt.Errorf("%s: is not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, 0, err
	}
	if int64(len(data)) > limit {
		return nil, 0, fmt.Errorf("%s: is larger than %d bytes", path, limit)
	}
	return data, info.Mode().Perm(), nil
}

// plainPathError says what is wrong with path in the words of its user rather
// than of the system call, and still wraps the cause.
func plainPathError(path string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("%s: %w", path, pe.Err)
	}
	return fmt.Errorf("%s: %w", path, err)
}
