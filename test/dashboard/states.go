// SPDX-License-Identifier: Apache-2.0

package dashboard

import (
	"fmt"
	"math"
)

// leastRow is how high a state's row must be for its word to be read.
const leastRow = 13.0

// drawStates draws a row for each series, in which equal values that follow one
// another are one.
func drawStates(c *canvas, q panel, body box, g grid, all []plotted) error {
	entries, err := states(all)
	if err != nil {
		return err
	}
	body = drawLegend(c, q, body, entries)
	names := 0.0
	for _, p := range all {
		names = max(names, width(p.name, 12)+10)
	}
	names = min(names, body.w/3)
	a := axes{box{body.x + names, body.y, body.w - names - 4, body.h - 20}, g.moments(), 1}
	drawClock(c, a.plot, g)
	row := a.plot.h / float64(len(all))
	if row < leastRow {
		c.fault(q, "%d rows of %.0f pixels", len(all), row)
	}
	for i, p := range all {
		at := box{a.plot.x, a.plot.y + row*float64(i), a.plot.w, row}
		if !c.within(names-6, body.x, at.y+row/2+4, min(12, row), ink, p.name) {
			c.fault(q, "the name %q does not fit", p.name)
		}
		if err := c.states(a, p, at, q.Options.RowHeight); err != nil {
			return err
		}
	}
	return nil
}

// states are those that occur, in the order in which they do.
func states(all []plotted) (entries []entry, err error) {
	seen := map[string]bool{}
	for _, p := range all {
		for _, v := range p.values {
			if math.IsNaN(v) {
				continue
			}
			text, fill, err := p.shown(v)
			if err != nil {
				return nil, err
			}
			if !seen[text] {
				entries, seen[text] = append(entries, entry{text, fill}), true
			}
		}
	}
	return entries, nil
}

func (c *canvas) states(a axes, p plotted, at box, height float64) error {
	for i := 0; i < len(p.values); {
		first, v := i, p.values[i]
		for i < len(p.values) && (p.values[i] == v || math.IsNaN(v) && math.IsNaN(p.values[i])) {
			i++
		}
		if math.IsNaN(v) {
			continue
		}
		text, fill, err := p.shown(v)
		if err != nil {
			return err
		}
		x, end := a.x(first), a.x(min(i, len(p.values)-1))
		bar := box{x, at.y + at.h*(1-height)/2, max(1, end-x), at.h * height}
		c.rect(bar, fill, fmt.Sprintf(`fill-opacity="%.2f"`, p.Custom.FillOpacity/100))
		if size := min(12, bar.h-1); width(text, size)+8 < bar.w {
			c.text(x+4, at.y+at.h/2+size/3, size, "start", "#1b1f24", text)
		}
	}
	return nil
}
