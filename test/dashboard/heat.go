// SPDX-License-Identifier: Apache-2.0

package dashboard

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// drawHeat draws a row for each bucket of a histogram and a column for each
// moment: the deeper, the more.
func drawHeat(c *canvas, q panel, body box, g grid, all []plotted) error {
	bounds, err := buckets(all)
	if err != nil {
		return err
	}
	if q.Options.Legend.Show {
		body.h -= 20
	}
	a := axes{box{body.x + 56, body.y + 4, body.w - 60, body.h - 24}, g.moments(), 1}
	drawClock(c, a.plot, g)
	most := 0.0
	for _, p := range all {
		for _, v := range p.values {
			if !math.IsNaN(v) {
				most = max(most, v)
			}
		}
	}
	row, wide := a.plot.h/float64(len(all)), a.plot.w/float64(a.moments)
	for i, p := range all {
		y := a.plot.bottom() - row*float64(i+1)
		label, err := field{Unit: q.Options.YAxis.Unit}.format(bounds[i])
		if err != nil {
			return err
		}
		if math.IsInf(bounds[i], 1) {
			label = "+Inf"
		}
		c.text(a.plot.x-6, y+4, 11, "end", grey, label)
		for j, v := range p.values {
			if v > 0.01 {
				c.rect(box{a.plot.x + wide*float64(j), y, max(1, wide-1), row - 1}, orange(math.Pow(v/most, q.Options.Color.Exponent)))
			}
		}
	}
	if q.Options.Legend.Show {
		return c.scale(box{a.plot.x, body.bottom() + 6, a.plot.w / 2, 8}, most)
	}
	return nil
}

// buckets makes each what lies between its bound and the one below it, as
// Grafana does, and returns the upper bounds.
func buckets(all []plotted) ([]float64, error) {
	bound := func(p plotted) float64 {
		v, err := strconv.ParseFloat(p.labels["le"], 64)
		if err != nil {
			return math.NaN()
		}
		return v
	}
	slices.SortFunc(all, func(a, b plotted) int {
		if bound(a) < bound(b) {
			return -1
		}
		return 1
	})
	var bounds []float64
	for i := len(all) - 1; i >= 0; i-- {
		if math.IsNaN(bound(all[i])) {
			return nil, fmt.Errorf("no histogram: %v", all[i].labels)
		}
		bounds = append(bounds, bound(all[i]))
		for j := range all[i].values {
			if i > 0 {
				all[i].values[j] -= all[i-1].values[j]
			}
		}
	}
	slices.Reverse(bounds)
	return bounds, nil
}

// orange is the scheme "Oranges", from light to dark.
func orange(share float64) string {
	mix := func(from, to float64) int { return int(math.Round(from + (to-from)*min(1, share))) }
	return fmt.Sprintf("#%02x%02x%02x", mix(254, 140), mix(230, 45), mix(206, 4))
}

func (c *canvas) scale(at box, most float64) error {
	const parts = 16
	for i := range parts {
		c.rect(box{at.x + at.w/parts*float64(i), at.y, at.w / parts, at.h}, orange(float64(i)/parts))
	}
	text, err := field{Decimals: new(int)}.format(most)
	c.text(at.x-6, at.y+8, 11, "end", grey, "0")
	c.text(at.right()+6, at.y+8, 11, "start", grey, text+" requests")
	return err
}
