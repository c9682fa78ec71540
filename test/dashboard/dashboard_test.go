// SPDX-License-Identifier: Apache-2.0

package dashboard

import (
	"context"
	"flag"
	"html"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var write = flag.Bool("dashboard.write", false, "write the pictures of docs/metrics.md")

const (
	boardFile = "../../packaging/prometheus/volseal-dashboard.json"
	images    = "../../docs/img/"
)

// picture is a look at a part of the dashboard. quiet are the panels that the
// story has nothing for: they must be empty.
type picture struct {
	file, alt, volume string
	single            bool
	quiet             []string
}

func (p picture) of(b board) []panel { return b.part(p.single) }

func pictures() []picture {
	return []picture{
		{"dashboard-fleet.svg", "The dashboard: six hosts over three hours", "ledger", false, nil},
		{"dashboard-volume.svg", "The dashboard: one volume over the same time", "ledger", true, []string{"Header rejections of ledger"}},
		{"", "", "crm", true, nil},
	}
}

// TestEveryPanelShows protects whoever reads the dashboard at night: against real
// data in a real Prometheus each panel has something to show, and room for it.
// With -dashboard.write the pictures are made anew.
func TestEveryPanelShows(t *testing.T) {
	programs := tools{need(t, "promtool"), need(t, "prometheus")}
	b, err := readBoard(boardFile)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	began := time.Now()
	server, err := programs.start(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer server.stop()
	t.Logf("ready after %s", time.Since(began).Round(time.Millisecond))
	for _, p := range pictures() {
		svg, faults, err := b.look(p.volume).draw(ctx, server, p.alt, p.of(b))
		if err != nil {
			t.Fatal(err)
		}
		var wanted []string
		for _, title := range p.quiet {
			wanted = append(wanted, title+": no data")
		}
		if diff := cmp.Diff(wanted, faults); diff != "" {
			t.Errorf("panels of %s with nothing to show, or no room (-want +got):\n%s", p.volume, diff)
		}
		if *write && p.file != "" {
			if err := os.WriteFile(images+p.file, []byte(svg), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func need(t *testing.T, tool string) string {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		t.Skipf("%s is not installed", tool)
	}
	return path
}

// TestPicturesAreCurrent protects docs/metrics.md from pictures of a dashboard
// that was changed since: each panel is in them, under its title.
func TestPicturesAreCurrent(t *testing.T) {
	b, err := readBoard(boardFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pictures() {
		if p.file == "" {
			continue
		}
		svg, err := os.ReadFile(images + p.file)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range p.of(b) {
			title := html.EscapeString(strings.ReplaceAll(q.Title, "$volume", p.volume))
			if !strings.Contains(string(svg), ">"+title+"<") && !strings.Contains(string(svg), "▾ "+title+"<") {
				t.Errorf("%s does not show %s: make dashboard", p.file, title)
			}
		}
	}
}
