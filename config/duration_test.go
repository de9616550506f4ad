package config

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDurationText(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"30s": 30 * time.Second, "1h30m": 90 * time.Minute, "0s": 0, "1.5s": 1500 * time.Millisecond,
		"1d": day, "7d": 7 * day, "1d12h": 36 * time.Hour, "0.5d": day / 2, "-1d12h": -36 * time.Hour, "-5s": -5 * time.Second,
		"106751d": 106751 * day,
	} {
		var got Duration
		if err := got.UnmarshalText([]byte(text)); err != nil || got.Std() != want {
			t.Errorf("%q is %v (%v), want %v", text, got.Std(), err, want)
		}
	}
	for _, text := range []string{"", "30", "1.5", "-3", "d", "1h2d", "1d2d", "1dx", "--1s", "1d-1h", "+1d", "+1s", "1 s", "s", "1w", "1D", "106752d", "99999999999999999999d", "1d2562047h47m16.854775807s"} {
		got := Duration(42)
		if err := got.UnmarshalText([]byte(text)); err == nil || got != 42 {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

func TestDurationString(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Second: "1s", 10 * time.Minute: "10m", 90 * time.Second: "1m30s", time.Hour: "1h",
		20 * time.Hour: "20h", 100 * time.Hour: "100h", time.Hour + time.Second: "1h0m1s", 90 * time.Minute: "1h30m", 1500 * time.Millisecond: "1.5s",
	} {
		if got := Duration(d).String(); got != want {
			t.Errorf("%v is written %q, want %q", d, got, want)
		}
	}
}

func TestDurationRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := Duration(rapid.Int64Range(-1<<62, 1<<62).Draw(t, "nanoseconds"))
		text, err := d.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var got Duration
		if err := got.UnmarshalText(text); err != nil || got != d {
			t.Fatalf("%q is read as %v (%v)", text, got, err)
		}
	})
}

// The limits in the struct tags are read at run time only, so each is read here.
func TestSchemaLimits(t *testing.T) {
	cfg := defaults()
	for _, section := range schema(&cfg) {
		for _, s := range section.settings {
			switch s.value.(type) {
			case *int, *[]int, *Duration, *[]Duration:
				if s.min == "" || s.max == "" {
					t.Errorf("%s has no limits", s.key)
				}
			case *string, *[]string:
				if s.form == "" && len(s.oneof) == 0 {
					t.Errorf("%s has no form", s.key)
				}
			case *bool, *Secret:
			default:
				t.Errorf("%s has a type that assign does not know: %T", s.key, s.value)
			}
			if s.example != "" || s.required {
				continue
			}
			if err := cfg.checkOne(s); err != nil {
				t.Errorf("the default of %s: %v", s.key, err)
			}
		}
	}
}
