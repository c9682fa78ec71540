// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// chart is one panel of a figure: values by tick.
type chart struct {
	title  string
	from   time.Duration // on the axis
	to     time.Duration
	top    float64
	log    bool // from 1 upwards
	series []series
	limit  float64 // a dashed line; 0 for none
	label  string  // its name
}

type series struct {
	name, colour string
	values       []float64
	zero         time.Duration // when, in these values' time, the axis is at 0
	hold         bool          // the last value stays
}

// Colours that differ in brightness too, on a background of their own: a page
// may be light or dark.
const (
	ours    = "#0f766e"
	oursToo = "#5eb1f5"
	theirs  = "#c2410c"
	grey    = "#6b7280"
	faint   = "#e5e7eb"
	ink     = "#111827"
)

// The size of a figure, in its own units.
const (
	width, panel              = 760.0, 250.0
	left, right, above, below = 80.0, 30.0, 44.0, 36.0
)

// figure draws its panels one above the other as an SVG document.
func figure(alt string, panels ...chart) string {
	var b strings.Builder
	height := panel * float64(len(panels))
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" role="img" font-family="system-ui, sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, "<title>%s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n", alt)
	for i, c := range panels {
		fmt.Fprintf(&b, "<g transform=\"translate(0 %.0f)\">\n", panel*float64(i))
		c.draw(&b)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (c chart) draw(b *strings.Builder) {
	text(b, left, 18, "start", ink, `font-weight="600"`, c.title)
	c.grid(b)
	if c.limit > 0 {
		y := c.y(c.limit)
		fmt.Fprintf(b, `<path d="M%.0f %.1fH%.0f" stroke="%s" stroke-dasharray="6 4"/>`+"\n", left, y, width-right, grey)
		text(b, width-right, y-4, "end", grey, "", c.label)
	}
	for i, s := range c.series {
		c.line(b, s)
		x := left + 210*float64(i)
		fmt.Fprintf(b, `<path d="M%.0f 32h18" stroke="%s" stroke-width="3"/>`+"\n", x, s.colour)
		text(b, x+24, 36, "start", ink, "", s.name)
	}
}

func (c chart) x(at time.Duration) float64 {
	return left + (width-left-right)*float64(at-c.from)/float64(c.to-c.from)
}

func (c chart) y(v float64) float64 {
	share := v / c.top
	if c.log {
		share = math.Log10(max(v, 1)) / math.Log10(c.top)
	}
	return panel - below - (panel-above-below)*share
}

// line draws what of the series lies in the panel.
func (c chart) line(b *strings.Builder, s series) {
	var points []string
	for at := c.from; at <= c.to; at += tick {
		i := int((at + s.zero) / tick)
		if s.hold {
			i = min(i, len(s.values)-1)
		}
		if i >= 0 && i < len(s.values) {
			points = append(points, fmt.Sprintf("%.1f,%.1f", c.x(at), c.y(s.values[i])))
		}
	}
	fmt.Fprintf(b, `<polyline fill="none" stroke="%s" stroke-width="2" stroke-linejoin="round" points="%s"/>`+"\n", s.colour, strings.Join(points, " "))
}

func (c chart) grid(b *strings.Builder) {
	for _, v := range c.ticks() {
		y := c.y(v)
		fmt.Fprintf(b, `<path d="M%.0f %.1fH%.0f" stroke="%s"/>`+"\n", left, y, width-right, faint)
		text(b, left-8, y+4, "end", grey, "", thousands(v))
	}
	step := 5 * time.Second
	for (c.to-c.from)/step > 13 {
		step *= 2
	}
	for at := c.from.Truncate(step); at <= c.to; at += step {
		text(b, c.x(at), panel-below+18, "middle", grey, "", fmt.Sprintf("%d s", at/time.Second))
	}
}

func (c chart) ticks() (values []float64) {
	if c.log {
		for v := 1.0; v <= c.top; v *= 10 {
			values = append(values, v)
		}
		return values
	}
	for i := range 5 {
		values = append(values, c.top*float64(i)/4)
	}
	return values
}

func thousands(v float64) string {
	n := fmt.Sprintf("%.0f", v)
	for i := len(n) - 3; i > 0; i -= 3 {
		n = n[:i] + "," + n[i:]
	}
	return n
}

func text(b *strings.Builder, x, y float64, anchor, colour, more, words string) {
	fmt.Fprintf(b, `<text x="%.0f" y="%.0f" text-anchor="%s" fill="%s" %s>%s</text>`+"\n", x, y, anchor, colour, more, words)
}
