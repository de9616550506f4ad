package history

import (
	"fmt"
	"html"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"strings"
	"time"

	"github.com/guptarohit/asciigraph"
	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"
)

// gap is from when on two samples are not joined: nobody looked in between.
const gap = 15 * time.Minute

// columns thins the samples out to n columns of equal time from since to until.
// A column has its last sample; one without any goes on with the one before, but
// not beyond a gap.
func columns(samples []Sample, since, until time.Time, n int) []*Sample {
	out := make([]*Sample, n)
	width := until.Sub(since) / time.Duration(n)
	next := 0
	var last *Sample
	for i := range out {
		end := since.Add(width * time.Duration(i+1))
		for next < len(samples) && samples[next].Time.Before(end) {
			last = &samples[next]
			next++
		}
		if last != nil && end.Sub(last.Time) <= max(gap, 2*width) {
			out[i] = last
		}
	}
	return out
}

// drawn are the series that have anything to show.
func drawn(samples []Sample) []string {
	var out []string
	for _, name := range Series() {
		for _, s := range samples {
			v, ok := s.Value(name)
			quiet := name == "building" || name == "draining" || name == "failing"
			if ok && (v > 0 || !quiet) {
				out = append(out, name)
				break
			}
		}
	}
	return out
}

// Terminal draws the samples with characters, so wide and high, in colours or
// not.
func Terminal(samples []Sample, since, until time.Time, width, height int, colours bool) string {
	names := drawn(samples)
	cols := columns(samples, since, until, max(10, width))
	data := make([][]float64, len(names))
	for i, name := range names {
		data[i] = make([]float64, len(cols))
		for j, s := range cols {
			data[i][j] = math.NaN()
			if s != nil {
				if v, ok := s.Value(name); ok {
					data[i][j] = float64(v)
				}
			}
		}
	}
	top, rows, label := scale(highest(samples, names), height)
	options := []asciigraph.Option{asciigraph.Height(rows), asciigraph.LowerBound(0), asciigraph.UpperBound(float64(top)), asciigraph.YAxisValueFormatter(label)}
	legend := "  " + strings.Join(names, ", ")
	if colours {
		palette := []asciigraph.AnsiColor{asciigraph.Gray, asciigraph.Magenta, asciigraph.Blue, asciigraph.Green, asciigraph.Cyan, asciigraph.Yellow, asciigraph.Red}
		options = append(options, asciigraph.SeriesColors(pick(palette, names)...), asciigraph.SeriesLegends(names...))
		legend = ""
	}
	text := asciigraph.PlotMany(data, options...)
	axis := fmt.Sprintf("%s to %s, every column %s", since.UTC().Format("2006-01-02 15:04"), until.UTC().Format("2006-01-02 15:04 MST"),
		(until.Sub(since) / time.Duration(len(cols))).Round(time.Second))
	return strings.TrimRight(text, "\n") + "\n  " + axis + "\n" + strings.TrimRight(legend+"\n", "\n") + "\n"
}

// scale fits an axis from 0 to highest into so many rows that each whole step has
// one, and returns its upper end, its rows and their labels.
func scale(highest, height int) (top, rows int, label func(float64) string) {
	step := max(1, (highest+height-1)/height) // of a label
	steps := (highest + step - 1) / step
	rows = steps * max(1, height/steps)
	return steps * step, rows, func(v float64) string {
		if at := v / float64(step); math.Abs(at-math.Round(at)) < 1e-6 {
			return fmt.Sprint(int(math.Round(v)))
		}
		return ""
	}
}

// pick takes the colour of each name.
func pick[T any](palette []T, names []string) []T {
	var out []T
	for i, series := range Series() {
		for _, name := range names {
			if name == series {
				out = append(out, palette[i])
			}
		}
	}
	return out
}

func highest(samples []Sample, names []string) int {
	top := 1
	for _, s := range samples {
		for _, name := range names {
			if v, ok := s.Value(name); ok {
				top = max(top, v)
			}
		}
	}
	return top
}

// canvas is what a picture is drawn on; the origin is at the top left.
type canvas interface {
	line(x1, y1, x2, y2 int, c color.RGBA)
	text(x, y int, s string, c color.RGBA) // y is the base line
}

// Size of a picture, in pixels.
const (
	pictureWidth  = 1000
	pictureHeight = 400
	marginLeft    = 50
	marginRight   = 20
	marginTop     = 50
	marginBottom  = 40
	letter        = 7 // width of basicfont's
)

func palette() []color.RGBA {
	return []color.RGBA{{90, 90, 90, 255}, {170, 60, 170, 255}, {40, 90, 200, 255}, {20, 140, 60, 255}, {0, 150, 160, 255}, {200, 140, 0, 255}, {210, 40, 40, 255}}
}

// picture draws the samples as steps, with axes and a legend.
func picture(on canvas, title string, samples []Sample, since, until time.Time) {
	names := drawn(samples)
	black, grey := color.RGBA{30, 30, 30, 255}, color.RGBA{220, 220, 220, 255}
	top := highest(samples, names)
	span := until.Sub(since)
	x := func(t time.Time) int {
		return marginLeft + int(float64(pictureWidth-marginLeft-marginRight)*float64(t.Sub(since))/float64(span))
	}
	y := func(v int) int {
		return pictureHeight - marginBottom - (pictureHeight-marginTop-marginBottom)*v/top
	}
	on.text(marginLeft, 20, title, black)
	for v := 0; v <= top; v += max(1, (top+9)/10) {
		on.line(marginLeft, y(v), pictureWidth-marginRight, y(v), grey)
		label := fmt.Sprint(v)
		on.text(marginLeft-8-letter*len(label), y(v)+4, label, black)
	}
	format := "15:04"
	if span > 48*time.Hour {
		format = "01-02"
	}
	const ticks = 8
	for i := range ticks + 1 {
		t := since.Add(span / ticks * time.Duration(i))
		on.line(x(t), pictureHeight-marginBottom, x(t), pictureHeight-marginBottom+4, black)
		label := t.UTC().Format(format)
		on.text(x(t)-letter*len(label)/2, pictureHeight-marginBottom+18, label, black)
	}
	at := marginLeft
	for i, name := range names {
		c := pick(palette(), names)[i]
		on.line(at, 36, at+18, 36, c)
		on.text(at+22, 40, name, c)
		at += 22 + letter*(len(name)+2)
		var before *Sample
		for j := range samples {
			s := &samples[j]
			v, ok := s.Value(name)
			if before != nil && ok {
				if old, known := before.Value(name); known && s.Time.Sub(before.Time) <= gap {
					on.line(x(before.Time), y(old), x(s.Time), y(old), c)
					on.line(x(s.Time), y(old), x(s.Time), y(v), c)
				}
			}
			before = s
		}
	}
}

// WriteSVG draws the samples as an SVG picture.
func WriteSVG(w io.Writer, title string, samples []Sample, since, until time.Time) error {
	var on svg
	fmt.Fprintf(&on, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" font-family=\"monospace\" font-size=\"12\">\n", pictureWidth, pictureHeight, pictureWidth, pictureHeight)
	fmt.Fprintf(&on, "<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n", pictureWidth, pictureHeight)
	picture(&on, title, samples, since, until)
	on.WriteString("</svg>\n")
	_, err := io.WriteString(w, on.String())
	return err
}

type svg struct{ strings.Builder }

func (s *svg) line(x1, y1, x2, y2 int, c color.RGBA) {
	fmt.Fprintf(s, "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke=\"#%02x%02x%02x\" stroke-width=\"2\"/>\n", x1, y1, x2, y2, c.R, c.G, c.B)
}

func (s *svg) text(x, y int, text string, c color.RGBA) {
	fmt.Fprintf(s, "<text x=\"%d\" y=\"%d\" fill=\"#%02x%02x%02x\">%s</text>\n", x, y, c.R, c.G, c.B, html.EscapeString(text))
}

// WritePNG draws the samples as a PNG picture.
func WritePNG(w io.Writer, title string, samples []Sample, since, until time.Time) error {
	on := pixels{image.NewRGBA(image.Rect(0, 0, pictureWidth, pictureHeight))}
	for i := range on.Pix {
		on.Pix[i] = 255
	}
	picture(on, title, samples, since, until)
	return png.Encode(w, on.RGBA)
}

type pixels struct{ *image.RGBA }

// line is level or upright, two pixels wide: steps need no other.
func (p pixels) line(x1, y1, x2, y2 int, c color.RGBA) {
	for x := min(x1, x2); x <= max(x1, x2)+1; x++ {
		for y := min(y1, y2); y <= max(y1, y2)+1; y++ {
			p.SetRGBA(x, y, c)
		}
	}
}

func (p pixels) text(x, y int, text string, c color.RGBA) {
	d := font.Drawer{Dst: p.RGBA, Src: image.NewUniform(c), Face: basicfont.Face7x13, Dot: fixed.P(x, y)}
	d.DrawString(text)
}
