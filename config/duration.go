package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration that is written as in Go, with days besides:
// "90s", "1h30m", "7d", "1d12h".
type Duration time.Duration

// Std is d as the standard library has it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String writes d without units that are zero: 30m, not 30m0s.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a duration. A number without a unit is an error, as
// nobody can tell which one was meant.
func (d *Duration) UnmarshalText(text []byte) error {
	s := string(text)
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return fmt.Errorf("has no unit: write %q", s+"s")
	}
	sign, rest := time.Duration(1), s
	if after, ok := strings.CutPrefix(s, "-"); ok {
		sign, rest = -1, after
	}
	days, clock, found := strings.Cut(rest, "d")
	if !found {
		days, clock = "0", rest
	}
	plain := strings.Trim(days, "0123456789.") == "" // ParseDuration would take 1h2d for 3 days
	whole, err := time.ParseDuration(days + "h")
	var part time.Duration
	if err == nil && (clock != "" || !found) {
		part, err = time.ParseDuration(clock)
	}
	switch {
	case err != nil || !plain || part < 0 || strings.Contains(s, "+"):
		return errors.New(`is no duration: write "30s", "5m", "1h30m" or "2d"`)
	case whole > (math.MaxInt64-part)/24:
		return errors.New("is longer than 290 years")
	}
	*d = Duration(sign * (whole*24 + part))
	return nil
}
