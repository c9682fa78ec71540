// SPDX-License-Identifier: Apache-2.0

package dashboard

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"
)

// board is what of a Grafana dashboard is drawn. What is not named here has no
// shape of its own (tooltips, editor modes, links).
type board struct {
	Panels     []panel
	Templating struct{ List []variable }
}

type variable struct{ Name, Type, AllValue string }

type panel struct {
	ID              int
	Type, Title     string
	Interval        string // the least step of its queries
	GridPos         struct{ X, Y, W, H int }
	Targets         []target
	FieldConfig     fieldConfig
	Options         options
	Transformations []transformation
}

type target struct {
	RefID, Expr, LegendFormat string
	Instant                   bool
}

type fieldConfig struct {
	Defaults  field
	Overrides []struct {
		Matcher    struct{ ID, Options string }
		Properties []struct {
			ID    string
			Value json.RawMessage
		}
	}
}

type field struct {
	Unit       string
	NoValue    string
	Decimals   *int
	Min        *float64
	Color      colour
	Mappings   []mapping
	Thresholds struct{ Steps []threshold }
	Custom     custom
}

// colour's mode is fixed, shades (of FixedColor), palette-classic or thresholds.
type colour struct{ Mode, FixedColor string }

type threshold struct {
	Color string
	Value *float64 // null: from below
}

type mapping struct {
	Type    string
	Options map[string]struct{ Text, Color string }
}

type custom struct {
	DrawStyle       string
	FillOpacity     float64
	PointSize       float64
	Width           float64 // of a table's column
	CellOptions     struct{ Type string }
	Stacking        struct{ Mode string }
	ThresholdsStyle struct{ Mode string }
}

type options struct {
	Legend struct {
		ShowLegend bool
		Show       bool // a heat map's
	}
	ColorMode string
	ShowValue string
	RowHeight float64
	YAxis     struct{ Unit string }
	Color     struct{ Exponent float64 }
}

type transformation struct {
	ID      string
	Options struct {
		ExcludeByName map[string]bool
		IndexByName   map[string]int
		RenameByName  map[string]string
	}
}

func readBoard(path string) (board, error) {
	var b board
	data, err := os.ReadFile(path)
	if err != nil {
		return b, err
	}
	if err := json.Unmarshal(data, &b); err != nil {
		return b, fmt.Errorf("read %s: %w", path, err)
	}
	return b, nil
}

// part is what one picture shows: the rows up to the one about a single volume,
// or those from there on.
func (b board) part(single bool) (panels []panel) {
	found := false
	for _, p := range b.Panels {
		found = found || p.Type == "row" && strings.Contains(p.Title, "$volume")
		if found == single {
			panels = append(panels, p)
		}
	}
	return panels
}

// view is what the reader has chosen: a time, and the variables' values.
type view struct {
	from, to time.Time
	values   map[string]string
}

// look is the whole story with every host, and one volume.
func (b board) look(volume string) view {
	v := view{begin(), begin().Add(length), map[string]string{"volume": volume}}
	for _, t := range b.Templating.List {
		if t.AllValue != "" {
			v.values[t.Name] = t.AllValue
		}
	}
	return v
}

// grid has the step that Grafana would take: what the data source's scrape
// interval and the panel allow. The panels here have room for more moments.
func (v view) grid(p panel) (grid, error) {
	step := scrape
	if p.Interval != "" {
		least, err := time.ParseDuration(p.Interval)
		if err != nil {
			return grid{}, fmt.Errorf("%s: interval: %w", p.Title, err)
		}
		step = max(step, least)
	}
	return grid{v.from, v.to, step}, nil
}

var variables = regexp.MustCompile(`\$(\w+)|\$\{(\w+)\}`)

// fill puts the variables' values in. $__rate_interval is as in Grafana: a step
// and a scrape more, and at least four scrapes.
func (v view) fill(text string, g grid) (string, error) {
	var err error
	return variables.ReplaceAllStringFunc(text, func(name string) string {
		name = strings.Trim(name, "${}")
		if name == "__rate_interval" {
			return max(g.step+scrape, 4*scrape).String()
		}
		value, ok := v.values[name]
		if !ok {
			err = fmt.Errorf("no value for $%s in %s", name, text)
		}
		return value
	}), err
}
