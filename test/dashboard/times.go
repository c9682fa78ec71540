// SPDX-License-Identifier: Apache-2.0

package dashboard

import (
	"fmt"
	"math"
	"strings"
)

// axes are where a value at a moment lies.
type axes struct {
	plot    box
	moments int
	top     float64
}

func (a axes) x(i int) float64 { return a.plot.x + a.plot.w*float64(i)/float64(max(1, a.moments-1)) }

func (a axes) y(v float64) float64 { return a.plot.bottom() - a.plot.h*v/a.top }

// drawTimes draws lines or bars, one above the other where they are stacked.
func drawTimes(c *canvas, q panel, body box, g grid, all []plotted) error {
	var entries []entry
	for i := range all {
		var err error
		if all[i].colour, err = all[i].line(i); err != nil {
			return err
		}
		entries = append(entries, entry{all[i].name, all[i].colour})
	}
	body = drawLegend(c, q, body, entries)
	stacked := q.FieldConfig.Defaults.Custom.Stacking.Mode == "normal"
	floors, top := stack(all, stacked)
	top, ticks := ceiling(top, q.FieldConfig.Defaults)
	a := axes{box{body.x + 62, body.y + 4, body.w - 66, body.h - 24}, g.moments(), top}
	drawClock(c, a.plot, g)
	for i := range ticks + 1 {
		v := a.top * float64(i) / float64(ticks)
		label, err := q.FieldConfig.Defaults.format(v)
		if err != nil {
			return err
		}
		c.path(fmt.Sprintf("M%s %sH%s", n(a.plot.x), n(a.y(v)), n(a.plot.right())), `stroke="`+faint+`"`)
		c.text(a.plot.x-6, a.y(v)+4, 11, "end", grey, label)
	}
	for i := len(all) - 1; i >= 0; i-- {
		switch q.FieldConfig.Defaults.Custom.DrawStyle {
		case "bars":
			c.bars(a, all[i], floors[i])
		case "points":
			c.points(a, all[i])
		case "line":
			c.line(a, all[i], floors[i])
		default:
			return fmt.Errorf("no draw style %q here", q.FieldConfig.Defaults.Custom.DrawStyle)
		}
	}
	return c.thresholds(a, q.FieldConfig.Defaults)
}

// stack is what each series stands on, and how high it all is.
func stack(all []plotted, stacked bool) (floors [][]float64, top float64) {
	sums := make([]float64, len(all[0].values))
	for _, p := range all {
		floor := make([]float64, len(p.values))
		for i, v := range p.values {
			if math.IsNaN(v) {
				v = 0
			}
			if stacked {
				floor[i] = sums[i]
			}
			sums[i] = floor[i] + v
			top = max(top, sums[i])
		}
		floors = append(floors, floor)
	}
	return floors, top
}

// ceiling is the next round number, and in how many parts it is divided. Where
// values are whole, so are the marks.
func ceiling(top float64, f field) (float64, int) {
	if top <= 0 {
		return 1, 1
	}
	if f.Unit == "s" && top > 60 {
		for _, step := range []float64{30, 60, 300, 600, 1200, 1800, 3600, 7200, 14400, 86400} {
			if top <= 4*step {
				return step * math.Ceil(top/step), int(math.Ceil(top / step))
			}
		}
	}
	size := math.Pow10(int(math.Floor(math.Log10(top))))
	for _, m := range []float64{0.2, 0.25, 0.5, 1, 2, 2.5} {
		step := m * size
		if f.Decimals != nil && *f.Decimals == 0 {
			step = math.Ceil(step)
		}
		if top <= 5*step {
			return step * math.Ceil(top/step), int(math.Ceil(top / step))
		}
	}
	return 10 * size, 5
}

func (c *canvas) bars(a axes, p plotted, floor []float64) {
	wide := max(1, 0.8*a.plot.w/float64(a.moments))
	for i, v := range p.values {
		if v > 0 {
			from, to := a.y(floor[i]), a.y(floor[i]+v)
			x, end := max(a.x(i)-wide/2, a.plot.x), min(a.x(i)+wide/2, a.plot.right())
			c.rect(box{x, to, end - x, from - to}, p.colour, fmt.Sprintf(`fill-opacity="%.2f"`, p.Custom.FillOpacity/100))
		}
	}
}

func (c *canvas) points(a axes, p plotted) {
	for i, v := range p.values {
		if !math.IsNaN(v) {
			fmt.Fprintf(c, `<circle cx="%s" cy="%s" r="%s" fill="%s"/>`+"\n", n(a.x(i)), n(a.y(v)), n(p.Custom.PointSize/2), p.colour)
		}
	}
}

// line draws each stretch without a gap, and the area beneath it.
func (c *canvas) line(a axes, p plotted, floor []float64) {
	for i := 0; i < len(p.values); i++ {
		first := i
		for i < len(p.values) && !math.IsNaN(p.values[i]) {
			i++
		}
		if i == first {
			continue
		}
		var up, down []string
		for j := first; j < i; j++ {
			if j == first || j == i-1 || bends(p.values, floor, j) {
				up = append(up, n(a.x(j))+" "+n(a.y(floor[j]+p.values[j])))
				down = append(down, n(a.x(j))+" "+n(a.y(floor[j])))
			}
		}
		if len(up) == 1 {
			up = append(up, n(a.x(first)+1)+" "+n(a.y(floor[first]+p.values[first])))
		}
		for l, r := 0, len(down)-1; l < r; l, r = l+1, r-1 {
			down[l], down[r] = down[r], down[l]
		}
		if p.Custom.FillOpacity > 0 {
			c.path("M"+strings.Join(up, "L")+"L"+strings.Join(down, "L")+"Z", fmt.Sprintf(`fill="%s" fill-opacity="%.2f"`, p.colour, p.Custom.FillOpacity/100))
		}
		c.path("M"+strings.Join(up, "L"), fmt.Sprintf(`fill="none" stroke="%s" stroke-width="1.5"`, p.colour))
	}
}

// bends reports whether a point is needed: what lies on a straight line is not.
func bends(values, floor []float64, j int) bool {
	bend := func(s []float64) bool { return math.Abs((s[j]-s[j-1])-(s[j+1]-s[j])) > 1e-9 }
	return bend(values) || bend(floor)
}

// thresholds are drawn only where the panel says so.
func (c *canvas) thresholds(a axes, f field) error {
	switch f.Custom.ThresholdsStyle.Mode {
	case "", "off":
		return nil
	case "dashed":
	default:
		return fmt.Errorf("no thresholds style %q here", f.Custom.ThresholdsStyle.Mode)
	}
	for _, t := range f.Thresholds.Steps {
		if t.Value == nil || *t.Value > a.top {
			continue
		}
		stroke, err := hex(t.Color)
		if err != nil {
			return err
		}
		c.path(fmt.Sprintf("M%s %sH%s", n(a.plot.x), n(a.y(*t.Value)), n(a.plot.right())), fmt.Sprintf(`stroke=%q stroke-dasharray="6 4"`, stroke))
	}
	return nil
}
