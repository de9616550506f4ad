package history

import (
	"bytes"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"image/color"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"adt/dayfile"
)

func noon() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

func open(t *testing.T) (*Log, string) {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "history")
	l, err := Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	return l, folder
}

// One a minute at most, whoever adds; a torn line swallows no other; a clock that
// went back stops nothing.
func TestAdd(t *testing.T) {
	l, folder := open(t)
	add := func(at time.Duration, want bool) {
		t.Helper()
		if got, err := l.Add(Sample{Time: noon().Add(at), Provisioned: 3}); got != want || err != nil {
			t.Errorf("Add after %s is %v, %v, want %v", at, got, err, want)
		}
	}
	add(0, true)
	add(59*time.Second, false)
	add(60*time.Second, true)
	add(-time.Hour, true)
	add(-59*time.Minute-time.Second, false)
	add(13*time.Hour, true) // the next day
	file := filepath.Join(folder, "2026-11-23.jsonl")
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"time": "2026-11-23T12:30:00Z", "prov`); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	add(40*time.Minute, true)
	samples, err := l.Read(noon().Add(-2*time.Hour), noon().Add(24*time.Hour))
	if err != nil || len(samples) != 5 || !samples[0].Time.Equal(noon().Add(-time.Hour)) || !samples[3].Time.Equal(noon().Add(40*time.Minute)) {
		t.Errorf("Read is %v, %v", samples, err)
	}
	if some, err := l.Read(noon(), noon().Add(time.Hour)); err != nil || len(some) != 3 {
		t.Errorf("Read of an hour is %v, %v", some, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestLast(t *testing.T) {
	l, _ := open(t)
	if s, ok, err := l.Last(); ok || err != nil {
		t.Errorf("of an empty history: %v, %v", s, err)
	}
	for _, at := range []time.Duration{0, 13 * time.Hour, 14 * time.Hour, time.Hour} {
		if _, err := l.Add(Sample{Time: noon().Add(at), Published: int(at.Hours())}); err != nil {
			t.Fatal(err)
		}
	}
	if s, ok, err := l.Last(); !ok || err != nil || s.Published != 14 {
		t.Errorf("%v, %v, %v", s, ok, err)
	}
}

func TestAddAtOnce(t *testing.T) {
	l, _ := open(t)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if _, err := l.Add(Sample{Time: noon().Add(time.Duration(i) * time.Minute)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	samples, err := l.Read(noon(), noon().Add(time.Hour))
	if err != nil || len(samples) == 0 {
		t.Errorf("%v, %v", samples, err)
	}
	for i := 1; i < len(samples); i++ {
		if samples[i].Time.Equal(samples[i-1].Time) {
			t.Errorf("twice: %v", samples[i])
		}
	}
}

// day is 3 webservers until noon and 6 from then on, with a gap in the afternoon.
func day() []Sample {
	three, six := 3, 6
	var all []Sample
	for m := 0; m < 24*60; m += 3 {
		s := Sample{Time: noon().Add(time.Duration(m-12*60) * time.Minute), Profile: &three, Provisioned: 3, Published: 3}
		if m >= 12*60 {
			s.Profile, s.Provisioned, s.Published = &six, 6, 6
		}
		if m < 15*60 || m > 16*60 {
			all = append(all, s)
		}
	}
	return all
}

func TestCSV(t *testing.T) {
	var b bytes.Buffer
	if err := WriteCSV(&b, day()[:2]); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(rows) != 3 || strings.Join(rows[0], " ") != "time initial profile scheduled provisioned published building draining failing" ||
		strings.Join(rows[2], ",") != "2026-11-23T00:03:00Z,0,3,,3,3,0,0,0" {
		t.Errorf("%v, %v", rows, err)
	}
}

func TestTerminal(t *testing.T) {
	since := noon().Add(-12 * time.Hour)
	text := Terminal(day(), since, since.Add(24*time.Hour), 48, 6, false)
	lines := strings.Split(text, "\n")
	rule := func(line string) (from, to int) { // of the line that is drawn, in characters
		return len([]rune(line[:strings.Index(line, "─")])), len([]rune(line[:strings.LastIndex(line, "─")]))
	}
	if from, _ := rule(lines[0]); !strings.Contains(lines[0], "6") || from < 26 {
		t.Errorf("6 from column %d on:\n%s", from, text)
	}
	if from, to := rule(lines[3]); !strings.Contains(lines[3], "3") || from > 6 || to > 28 {
		t.Errorf("3 from column %d to %d:\n%s", from, to, text)
	}
	if !strings.Contains(text, "profile, provisioned, published\n") || strings.Contains(text, "building") || strings.Contains(text, "\x1b") {
		t.Errorf("the legend:\n%s", text)
	}
	if text := Terminal(day(), since, since.Add(24*time.Hour), 48, 6, true); !strings.Contains(text, "\x1b[") {
		t.Errorf("no colours:\n%s", text)
	}
}

// Each label is a whole number, and none is there twice.
func TestTerminalLabels(t *testing.T) {
	since := noon().Add(-12 * time.Hour)
	for _, top := range []int{1, 2, 3, 5, 7, 8, 12, 13, 50, 87} {
		text := Terminal([]Sample{{Time: since.Add(time.Minute), Provisioned: top}}, since, since.Add(24*time.Hour), 48, 12, false)
		before, rows := -1, strings.Split(text, "\n")
		for _, row := range slices.Backward(rows[:slices.IndexFunc(rows, func(r string) bool { return !strings.ContainsAny(r, "┤┼") })]) {
			label := strings.TrimSpace(strings.FieldsFunc(row, func(r rune) bool { return r == '┤' || r == '┼' })[0])
			if label == "" {
				continue
			}
			n, err := strconv.Atoi(label)
			if err != nil || n <= before {
				t.Fatalf("up to %d, %q is above %d:\n%s", top, label, before, text)
			}
			before = n
		}
		if before < top || len(rows) > 18 {
			t.Errorf("up to %d:\n%s", top, text)
		}
	}
}

func TestPictures(t *testing.T) {
	since := noon().Add(-12 * time.Hour)
	var b bytes.Buffer
	if err := WriteSVG(&b, "a <title> & more", day(), since, since.Add(24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(bytes.NewReader(b.Bytes())); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	b.Reset()
	if err := WritePNG(&b, "title", day(), since, since.Add(24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(&b)
	if err != nil {
		t.Fatal(err)
	}
	// Published is drawn last: at 3 in the morning, at 6 in the evening, and not in the gap.
	green := palette()[3]
	is := func(hour float64, v int) bool {
		x := marginLeft + int((pictureWidth-marginLeft-marginRight)*hour/24)
		y := pictureHeight - marginBottom - (pictureHeight-marginTop-marginBottom)*v/6
		return color.RGBAModel.Convert(img.At(x, y)) == green
	}
	for _, c := range []struct {
		hour float64
		v    int
		want bool
	}{{6, 3, true}, {6, 6, false}, {20, 6, true}, {20, 3, false}, {15.5, 6, false}} {
		if is(c.hour, c.v) != c.want {
			t.Errorf("at %v h, %d is drawn: %v", c.hour, c.v, !c.want)
		}
	}
}

// TestCompressedDays: days that housekeeping has compressed are read like others.
func TestCompressedDays(t *testing.T) {
	log, folder := open(t)
	for day := range 3 {
		if _, err := log.Add(Sample{Time: noon().AddDate(0, 0, day-2), Published: day}); err != nil {
			t.Fatal(err)
		}
	}
	for day := range 2 {
		if err := dayfile.Pack(folder, dayfile.Date(noon().AddDate(0, 0, day-2))); err != nil {
			t.Fatal(err)
		}
	}
	got, err := log.Read(noon().AddDate(0, 0, -1), noon())
	if err != nil || len(got) != 2 || got[0].Published != 1 || got[1].Published != 2 {
		t.Errorf("%v, %v", got, err)
	}
}
