// SPDX-License-Identifier: Apache-2.0

package dashboard

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// hex is the light theme's colour of that name.
func hex(name string) (string, error) {
	if strings.HasPrefix(name, "#") {
		return name, nil
	}
	c, ok := map[string]string{
		"green": "#56a64b", "dark-green": "#19730e", "light-green": "#96d98d", "red": "#e02f44", "dark-red": "#8b0f1d", "light-red": "#f9a1ab",
		"orange": "#ff780a", "yellow": "#f2cc0c", "blue": "#3274d9", "light-blue": "#8ab8ff", "purple": "#a352cc", "text": "#9aa0a8",
	}[name]
	if !ok {
		return "", fmt.Errorf("no colour %q here", name)
	}
	return c, nil
}

// palette is "palette-classic", by the place of the series in the panel.
func palette(i int) string {
	colours := []string{
		"#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0", "#37872d", "#fade2a",
		"#447ebc", "#c15c17", "#890f02", "#0a437c", "#6d1f62", "#584477",
	}
	return colours[i%len(colours)]
}

// named is the field as its overrides make it for the series of that name, a
// result of the query refID.
func (c fieldConfig) named(name, refID string) (field, error) {
	f := c.Defaults
	for _, o := range c.Overrides {
		var matches bool
		switch wanted := o.Matcher.Options; o.Matcher.ID {
		case "byName":
			matches = wanted == name
		case "byFrameRefID":
			matches = wanted == refID
		case "byRegexp":
			pattern, err := regexp.Compile(strings.Trim(wanted, "/"))
			if err != nil {
				return f, err
			}
			matches = pattern.MatchString(name)
		default:
			return f, fmt.Errorf("no override %q here", o.Matcher.ID)
		}
		if !matches {
			continue
		}
		for _, p := range o.Properties {
			into, ok := map[string]any{"color": &f.Color, "custom.fillOpacity": &f.Custom.FillOpacity, "custom.width": &f.Custom.Width, "custom.cellOptions": &f.Custom.CellOptions}[p.ID]
			if !ok {
				return f, fmt.Errorf("no override of %q here", p.ID)
			}
			if err := json.Unmarshal(p.Value, into); err != nil {
				return f, err
			}
		}
	}
	return f, nil
}

// line is the colour of the series at this place.
func (f field) line(i int) (string, error) {
	switch f.Color.Mode {
	case "fixed":
		return hex(f.Color.FixedColor)
	case "shades":
		return hex([]string{"", "dark-", "light-"}[i%3] + f.Color.FixedColor)
	case "palette-classic":
		return palette(i), nil
	}
	return "", fmt.Errorf("no colour mode %q for lines here", f.Color.Mode)
}

// shown is a value's text and colour: its mapping's, else its threshold's.
func (f field) shown(v float64) (text, fill string, err error) {
	for _, m := range f.Mappings {
		if m.Type != "value" {
			return "", "", fmt.Errorf("no mapping %q here", m.Type)
		}
		if o, ok := m.Options[strconv.FormatFloat(v, 'f', -1, 64)]; ok {
			if o.Color == "" {
				return o.Text, ink, nil
			}
			fill, err = hex(o.Color)
			return o.Text, fill, err
		}
	}
	if text, err = f.format(v); err != nil {
		return "", "", err
	}
	name := "text"
	for _, t := range f.Thresholds.Steps {
		if t.Value == nil || v >= *t.Value {
			name = t.Color
		}
	}
	fill, err = hex(name)
	return text, fill, err
}

// format is a value in the field's unit.
func (f field) format(v float64) (string, error) {
	if f.Decimals != nil {
		v = math.Round(v*math.Pow10(*f.Decimals)) / math.Pow10(*f.Decimals)
	}
	switch f.Unit {
	case "", "short", "none":
		return short(v), nil
	case "reqps":
		return short(v) + " req/s", nil
	case "ops":
		return short(v) + " ops/s", nil
	case "s":
		return seconds(v), nil
	}
	return "", fmt.Errorf("no unit %q here", f.Unit)
}

func short(v float64) string {
	switch {
	case math.Abs(v) >= 1e6:
		return digits(v/1e6) + " Mil"
	case math.Abs(v) >= 1e3:
		return digits(v/1e3) + " K"
	}
	return digits(v)
}

// seconds are shown in the unit that they fill.
func seconds(v float64) string {
	for _, u := range []struct {
		name string
		of   float64
	}{{"days", 86400}, {"hours", 3600}, {"mins", 60}, {"s", 1}, {"ms", 1e-3}} {
		if math.Abs(v) >= u.of {
			return digits(v/u.of) + " " + u.name
		}
	}
	if v == 0 {
		return "0 s"
	}
	return digits(v*1e6) + " µs"
}

// digits are at most three that count.
func digits(v float64) string { return strconv.FormatFloat(v, 'g', 3, 64) }
