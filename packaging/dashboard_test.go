// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

const dashboardFile = "prometheus/volseal-dashboard.json"

type source struct{ Type, UID string }

type graphPanel struct {
	ID          int
	Type, Title string
	Description string
	Datasource  source
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct {
		Datasource source
		Expr       string
	}
}

type dashboard struct {
	SchemaVersion int
	Panels        []graphPanel
	Templating    struct {
		List []struct {
			Name, Type string
			Datasource source
		}
	}
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(read(t, dashboardFile)), &d); err != nil || len(d.Panels) == 0 {
		t.Fatalf("dashboard: %v", err)
	}
	return d
}

// expressions are the queries of the dashboard, by the panel's title.
func (d dashboard) expressions() map[string][]string {
	all := map[string][]string{}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			all[p.Title] = append(all[p.Title], target.Expr)
		}
	}
	return all
}

// TestDashboardIsPortable protects whoever imports it: it asks the data source
// that the reader picks, and no panel lies over another.
func TestDashboardIsPortable(t *testing.T) {
	d := readDashboard(t)
	chosen := source{"prometheus", "${datasource}"}
	if d.SchemaVersion < 39 {
		t.Errorf("schema version %d", d.SchemaVersion)
	}
	for _, v := range d.Templating.List {
		if v.Type == "query" && v.Datasource != chosen {
			t.Errorf("variable %s asks %v", v.Name, v.Datasource)
		}
	}
	for i, p := range d.Panels {
		if p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W == 0 || p.GridPos.H == 0 {
			t.Errorf("%s: does not fit: %+v", p.Title, p.GridPos)
		}
		for _, q := range d.Panels[:i] {
			if q.ID == p.ID || overlap(p, q) {
				t.Errorf("%s lies over %s, or has its id", p.Title, q.Title)
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Datasource != chosen || len(p.Targets) == 0 || p.Description == "" {
			t.Errorf("%s: data source %v, %d queries, description %q", p.Title, p.Datasource, len(p.Targets), p.Description)
		}
		for _, target := range p.Targets {
			if target.Datasource != chosen {
				t.Errorf("%s: a query asks %v", p.Title, target.Datasource)
			}
		}
	}
}

func overlap(p, q graphPanel) bool {
	a, b := p.GridPos, q.GridPos
	return a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H
}

// TestQueriesNameMetrics protects dashboards and alerts from a metric or a
// label that the agent does not have: such a query is not wrong, only empty.
func TestQueriesNameMetrics(t *testing.T) {
	known := metricsOf(t)
	queries := readDashboard(t).expressions()
	queries["rules"] = []string{read(t, "prometheus/volseal.rules.yml")}
	shown := map[string]bool{}
	for where, exprs := range queries {
		for _, use := range regexp.MustCompile(`(volseal_\w+)(?:\{([^}]*)\})?`).FindAllStringSubmatch(strings.Join(exprs, "\n"), -1) {
			name, labels := use[1], known[use[1]]
			if labels == nil {
				t.Errorf("%s: there is no metric %s", where, name)
				continue
			}
			if where != "rules" {
				shown[regexp.MustCompile(`_bucket$`).ReplaceAllString(name, "")] = true
			}
			for _, label := range matchesOf(use[2], `(\w+)[=!]`) {
				if label != "instance" && !slices.Contains(labels, label) {
					t.Errorf("%s: %s has no label %s", where, name, label)
				}
			}
		}
	}
	for _, family := range []string{
		"volseal_volume_phase", "volseal_volume_error", "volseal_volume_would_survive_reboot", "volseal_decrypt_failures_total",
		"volseal_mount_refusals_total", "volseal_header_rejections_total", "volseal_key_state", "volseal_kms_requests_total",
		"volseal_kms_request_duration_seconds", "volseal_kms_calls_held_total", "volseal_volume_frozen", "volseal_step_duration_seconds", "volseal_config_last_reload_successful",
	} {
		if !shown[family] {
			t.Errorf("the dashboard does not show %s", family)
		}
	}
}

const goldenMetrics = "../internal/metrics/testdata/metrics.prom"

// metricsOf are the labels of every sample's name in the golden file.
func metricsOf(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, s := range regexp.MustCompile(`(?m)^(volseal_\w+)(?:\{(.*)\})? `).FindAllStringSubmatch(read(t, goldenMetrics), -1) {
		all[s[1]] = append(matchesOf(s[2], `(\w+)="`), "")
	}
	if len(all) < 20 {
		t.Fatalf("only %d metrics", len(all))
	}
	return all
}

func matchesOf(text, pattern string) (all []string) {
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

// TestDashboardQueriesParse has promtool read each query, as rules that record it.
func TestDashboardQueriesParse(t *testing.T) {
	promtool := need(t, "promtool")
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var rules []rule
	grafana := strings.NewReplacer("$__rate_interval", "5m")
	for _, exprs := range readDashboard(t).expressions() {
		for _, expr := range exprs {
			rules = append(rules, rule{fmt.Sprintf("panel:query:%d", len(rules)), grafana.Replace(expr)})
		}
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, promtool, "check", "rules", file); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}
