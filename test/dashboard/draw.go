// SPDX-License-Identifier: Apache-2.0

package dashboard

import (
	"cmp"
	"context"
	"fmt"
	"html"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
)

// plotted is one result under the name that the legend gives it.
type plotted struct {
	series
	name string
	field
	colour string
}

// draw is the picture of some panels, and what is wrong with it.
func (v view) draw(ctx context.Context, p *prometheus, alt string, panels []panel) (svg string, faults []string, err error) {
	c := &canvas{}
	top, bottom := panels[0].GridPos.Y, 0
	for _, q := range panels {
		bottom = max(bottom, q.GridPos.Y+q.GridPos.H)
	}
	width, height := 24*column+gap, float64(bottom-top)*unit+gap
	fmt.Fprintf(c, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %s %s" role="img" font-family="system-ui, 'DejaVu Sans Condensed', sans-serif" font-size="12">`+"\n", n(width), n(height))
	fmt.Fprintf(c, "<title>%s</title>\n", html.EscapeString(alt))
	c.rect(box{0, 0, width, height}, paper)
	for _, q := range panels {
		g := q.GridPos
		at := box{float64(g.X)*column + gap, float64(g.Y-top)*unit + gap, float64(g.W)*column - gap, float64(g.H)*unit - gap}
		if err := v.drawPanel(ctx, p, c, q, at); err != nil {
			return "", nil, fmt.Errorf("draw %s: %w", q.Title, err)
		}
	}
	c.WriteString("</svg>\n")
	return c.String(), c.faults, nil
}

func (v view) drawPanel(ctx context.Context, p *prometheus, c *canvas, q panel, at box) error {
	g, err := v.grid(q)
	if err != nil {
		return err
	}
	if q.Title, err = v.fill(q.Title, g); err != nil {
		return err
	}
	if q.Type == "row" {
		c.text(at.x+4, at.y+20, 16, "start", ink, "▾ "+q.Title, `font-weight="600"`)
		return nil
	}
	c.rect(at, "#fff", `stroke="#dcdfe4"`)
	if !c.within(at.w-20, at.x+10, at.y+20, 14, ink, q.Title) {
		c.fault(q, "its title does not fit")
	}
	all, err := v.results(ctx, p, q, g)
	if err != nil {
		return err
	}
	body := box{at.x + 10, at.y + 32, at.w - 20, at.h - 40}
	if len(all) == 0 {
		c.fault(q, "no data")
		c.text(body.x+body.w/2, body.y+body.h/2, 16, "middle", grey, cmp.Or(q.FieldConfig.Defaults.NoValue, "No data"))
		return nil
	}
	draw, ok := map[string]func(*canvas, panel, box, grid, []plotted) error{
		"stat": drawStat, "table": drawTable, "timeseries": drawTimes, "state-timeline": drawStates, "heatmap": drawHeat,
	}[q.Type]
	if !ok {
		return fmt.Errorf("no panel %q here", q.Type)
	}
	return draw(c, q, body, g, all)
}

// results are those of all queries of the panel that have a value at some moment.
func (v view) results(ctx context.Context, p *prometheus, q panel, g grid) ([]plotted, error) {
	var all []plotted
	for _, t := range q.Targets {
		expr, err := v.fill(t.Expr, g)
		if err != nil {
			return nil, err
		}
		var found []series
		if t.Instant {
			found, err = p.once(ctx, expr, v.to)
		} else {
			found, err = p.over(ctx, expr, g)
		}
		if err != nil {
			return nil, err
		}
		slices.SortFunc(found, func(a, b series) int { return strings.Compare(fmt.Sprint(a.labels), fmt.Sprint(b.labels)) })
		for _, s := range found {
			if !slices.ContainsFunc(s.values, func(v float64) bool { return !math.IsNaN(v) }) {
				continue
			}
			one := plotted{series: s, name: legend(t.LegendFormat, s.labels)}
			if one.field, err = q.FieldConfig.named(one.name, t.RefID); err != nil {
				return nil, err
			}
			all = append(all, one)
		}
	}
	return all, nil
}

var placeholder = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)

func legend(format string, labels map[string]string) string {
	return placeholder.ReplaceAllStringFunc(format, func(p string) string {
		return labels[placeholder.FindStringSubmatch(p)[1]]
	})
}

type entry struct{ name, colour string }

// drawLegend lists the names below a panel's body and returns what is left of
// the body. As in Grafana it takes a third at most, and the rest is out of sight.
func drawLegend(c *canvas, q panel, body box, entries []entry) box {
	if !q.Options.Legend.ShowLegend {
		return body
	}
	const size, line = 12.0, 18.0
	rows, x := [][]entry{nil}, 0.0
	for _, e := range entries {
		w := width(e.name, size) + 34
		if x+w > body.w && len(rows[len(rows)-1]) > 0 {
			rows, x = append(rows, nil), 0
		}
		rows[len(rows)-1] = append(rows[len(rows)-1], e)
		x += w
	}
	if most := max(1, int(0.35*body.h/line)); len(rows) > most {
		c.fault(q, "%d of the legend's %d lines are out of sight", len(rows)-most, len(rows))
		rows = rows[:most]
	}
	left := box{body.x, body.y, body.w, body.h - line*float64(len(rows)) - 4}
	for i, row := range rows {
		x, y := body.x, left.bottom()+4+line*float64(i)+13
		for _, e := range row {
			c.rect(box{x, y - 6, 14, 4}, e.colour, `rx="2"`)
			c.text(x+19, y, size, "start", ink, e.name)
			x += width(e.name, size) + 34
		}
	}
	return left
}

// drawClock draws the time below a plot.
func drawClock(c *canvas, plot box, g grid) {
	marks := 6
	if plot.w < 300 {
		marks = 3
	}
	span := g.to.Sub(g.from)
	for i := range marks + 1 {
		when := g.from.Add(span * time.Duration(i) / time.Duration(marks))
		x := plot.x + plot.w*float64(i)/float64(marks)
		c.path(fmt.Sprintf("M%s %sV%s", n(x), n(plot.y), n(plot.bottom())), `stroke="`+faint+`"`)
		anchor := "middle"
		if i == marks {
			anchor = "end"
		}
		c.text(x, plot.bottom()+15, 11, anchor, grey, when.UTC().Format("15:04"))
	}
}
