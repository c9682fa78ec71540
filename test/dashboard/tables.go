// SPDX-License-Identifier: Apache-2.0

package dashboard

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// drawStat draws one number on its threshold's colour.
func drawStat(c *canvas, q panel, body box, _ grid, all []plotted) error {
	if len(all) != 1 || q.Options.ColorMode != "background" {
		return fmt.Errorf("%d values in colour mode %q: not known here", len(all), q.Options.ColorMode)
	}
	text, fill, err := all[0].shown(all[0].last())
	if err != nil {
		return err
	}
	c.rect(box{body.x - 9, body.y - 31, body.w + 18, body.h + 38}, fill)
	c.text(body.x, body.y-12, 14, "start", "#fff", q.Title, `font-weight="600"`)
	c.text(body.x+body.w/2, body.y+body.h/2+16, 48, "middle", "#fff", text, `font-weight="600"`)
	return nil
}

// drawTable draws a row for each result and a column for each label.
func drawTable(c *canvas, q panel, body box, _ grid, all []plotted) error {
	names, titles, err := columns(q, all)
	if err != nil {
		return err
	}
	const line = 28.0
	fit := int(body.h/line) - 1
	if len(all) > fit {
		c.fault(q, "%d of %d rows are out of sight", len(all)-fit, len(all))
		all = all[:fit]
	}
	wide, err := widths(q, titles, body.w)
	if err != nil {
		return err
	}
	x := body.x
	for i, name := range names {
		c.text(x+4, body.y+16, 12, "start", "#1f60c4", titles[i], `font-weight="600"`)
		for j, p := range all {
			value, fill, err := cell(q, p, name, titles[i])
			if err != nil {
				return err
			}
			y := body.y + line*float64(j+1)
			c.path(fmt.Sprintf("M%s %sh%s", n(x), n(y-4), n(wide[i])), `stroke="`+faint+`"`)
			if !c.within(wide[i]-6, x+4, y+14, 12, fill, value) {
				c.fault(q, "%s does not fit", value)
			}
		}
		x += wide[i]
	}
	return nil
}

// cell is what a column says of a result. Only the value can have a colour.
func cell(q panel, p plotted, name, title string) (value, fill string, err error) {
	if name != "Value" {
		return p.labels[name], ink, nil
	}
	f, err := q.FieldConfig.named(title, "")
	if err != nil {
		return "", "", err
	}
	value, fill, err = f.shown(p.last())
	switch f.Custom.CellOptions.Type {
	case "auto":
		fill = ink
	case "color-text":
	default:
		return "", "", fmt.Errorf("no cell %q here", f.Custom.CellOptions.Type)
	}
	return value, fill, err
}

// widths are those that the panel sets, and for the other columns an equal share
// of what is left.
func widths(q panel, titles []string, room float64) ([]float64, error) {
	wide, free := make([]float64, len(titles)), 0.0
	for i, title := range titles {
		f, err := q.FieldConfig.named(title, "")
		if err != nil {
			return nil, err
		}
		if wide[i] = f.Custom.Width; wide[i] == 0 {
			free++
		}
		room -= wide[i]
	}
	for i := range wide {
		if wide[i] == 0 {
			wide[i] = room / free
		}
	}
	return wide, nil
}

// columns are the labels in order, and the value, as the panel's transformation
// leaves and names them.
func columns(q panel, all []plotted) (names, titles []string, err error) {
	labels := map[string]bool{}
	for _, p := range all {
		for name := range p.labels {
			labels[name] = true
		}
	}
	names = append(slices.Sorted(maps.Keys(labels)), "Value")
	for _, t := range q.Transformations {
		if t.ID != "organize" {
			return nil, nil, fmt.Errorf("no transformation %q here", t.ID)
		}
		names = slices.DeleteFunc(names, func(name string) bool { return t.Options.ExcludeByName[name] })
		slices.SortStableFunc(names, func(a, b string) int { return t.Options.IndexByName[a] - t.Options.IndexByName[b] })
		for _, name := range names {
			title := name
			if renamed := t.Options.RenameByName[name]; renamed != "" {
				title = renamed
			}
			titles = append(titles, strings.TrimSpace(title))
		}
	}
	if titles == nil {
		titles = names
	}
	return names, titles, nil
}
