// SPDX-License-Identifier: Apache-2.0

package dashboard

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

// many are results with values that differ, each under a name of its own.
func many(count int, f field) (all []plotted) {
	for i := range count {
		name := fmt.Sprintf("a name of some length %d", i)
		all = append(all, plotted{
			series: series{map[string]string{"volume": name}, []float64{1, math.NaN(), 2}},
			name:   name, field: f,
		})
	}
	return all
}

func panelOf(t *testing.T, text string) panel {
	t.Helper()
	var p panel
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestOverfullIsSeen protects the look at the pictures: what would be out of
// sight, or too small to be read, is reported and not just left out.
func TestOverfullIsSeen(t *testing.T) {
	const legend = `"options": {"legend": {"showLegend": true}}`
	g := grid{begin(), begin().Add(2 * time.Minute), time.Minute}
	for name, c := range map[string]struct {
		panel string
		draw  func(*canvas, panel, box, grid, []plotted) error
		fits  int
		fault string
	}{
		"legend": {`{"fieldConfig": {"defaults": {"color": {"mode": "palette-classic"}, "custom": {"drawStyle": "line"}}}, ` + legend + `}`, drawTimes, 4, "out of sight"},
		"rows":   {`{"options": {"rowHeight": 0.9}}`, drawStates, 10, "pixels"},
		"table":  {`{"transformations": [{"id": "organize", "options": {"excludeByName": {"Value": true}}}]}`, drawTable, 5, "out of sight"},
	} {
		p := panelOf(t, c.panel)
		for count, fits := range map[int]bool{c.fits: true, 10 * c.fits: false} {
			var canvas canvas
			if err := c.draw(&canvas, p, box{0, 0, 700, 200}, g, many(count, p.FieldConfig.Defaults)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got := strings.Join(canvas.faults, "\n"); fits && got != "" || !fits && !strings.Contains(got, c.fault) {
				t.Errorf("%s with %d: %q", name, count, got)
			}
		}
	}
}

// TestUnknownIsRefused protects from a picture that passes over what the JSON
// says because nobody taught the drawing to show it.
func TestUnknownIsRefused(t *testing.T) {
	g := grid{begin(), begin().Add(2 * time.Minute), time.Minute}
	for name, c := range map[string]struct {
		panel string
		draw  func(*canvas, panel, box, grid, []plotted) error
	}{
		"unit":           {`{"fieldConfig": {"defaults": {"unit": "furlongs", "color": {"mode": "palette-classic"}, "custom": {"drawStyle": "line"}}}}`, drawTimes},
		"draw style":     {`{"fieldConfig": {"defaults": {"color": {"mode": "palette-classic"}, "custom": {"drawStyle": "wave"}}}}`, drawTimes},
		"colour":         {`{"fieldConfig": {"defaults": {"color": {"mode": "fixed", "fixedColor": "octarine"}}}}`, drawTimes},
		"colour mode":    {`{"fieldConfig": {"defaults": {"color": {"mode": "mood"}}}}`, drawTimes},
		"mapping":        {`{"fieldConfig": {"defaults": {"mappings": [{"type": "range"}]}}}`, drawStates},
		"transformation": {`{"transformations": [{"id": "merge"}]}`, drawTable},
		"override":       {`{"fieldConfig": {"overrides": [{"matcher": {"id": "byType"}}]}}`, drawTable},
		"several stats":  {`{"options": {"colorMode": "background"}}`, drawStat},
	} {
		p := panelOf(t, c.panel)
		if err := c.draw(&canvas{}, p, box{0, 0, 700, 200}, g, many(3, p.FieldConfig.Defaults)); err == nil {
			t.Errorf("%s: drawn all the same", name)
		}
	}
}
