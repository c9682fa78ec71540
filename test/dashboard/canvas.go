// SPDX-License-Identifier: Apache-2.0

package dashboard

import (
	"fmt"
	"html"
	"strconv"
	"strings"
)

// The size of a picture, in its own units: Grafana's grid of 24 columns, at the
// width of a laptop.
const (
	column, unit = 60.0, 38.0 // a cell of the grid
	gap          = 8.0        // between panels
	letter       = 0.56       // how wide a letter is, of its height
)

const (
	ink   = "#24292e"
	grey  = "#6b7280"
	faint = "#e9ebef"
	paper = "#f4f5f5"
)

// box is a rectangle.
type box struct{ x, y, w, h float64 }

func (b box) right() float64  { return b.x + b.w }
func (b box) bottom() float64 { return b.y + b.h }

// canvas collects SVG, and what does not fit.
type canvas struct {
	strings.Builder
	faults []string
}

func (c *canvas) fault(p panel, format string, args ...any) {
	c.faults = append(c.faults, p.Title+": "+fmt.Sprintf(format, args...))
}

func (c *canvas) rect(b box, fill string, more ...string) {
	fmt.Fprintf(c, `<rect x="%s" y="%s" width="%s" height="%s" fill="%s"%s/>`+"\n", n(b.x), n(b.y), n(b.w), n(b.h), fill, attributes(more))
}

func (c *canvas) path(d, more string) { fmt.Fprintf(c, "<path d=%q %s/>\n", d, more) }

// text is drawn from its baseline; anchor is start, middle or end.
func (c *canvas) text(x, y, size float64, anchor, fill, words string, more ...string) {
	fmt.Fprintf(c, `<text x="%s" y="%s" font-size="%s" text-anchor="%s" fill="%s"%s>%s</text>`+"\n",
		n(x), n(y), n(size), anchor, fill, attributes(more), html.EscapeString(words))
}

// within is text that is cut where it would leave its place.
func (c *canvas) within(room, x, y, size float64, fill, words string) (fits bool) {
	fits = width(words, size) <= room
	if !fits {
		words = words[:max(0, min(len(words), int(room/(letter*size))-1))] + "…"
	}
	c.text(x, y, size, "start", fill, words)
	return fits
}

func attributes(more []string) string {
	if len(more) == 0 {
		return ""
	}
	return " " + strings.Join(more, " ")
}

func width(words string, size float64) float64 { return letter * size * float64(len([]rune(words))) }

// n is a number with at most one decimal.
func n(v float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
}
