// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var full = flag.Bool("fleet.full", false, "simulate 10,000 hosts and write the figures of docs/fleet.md; needs locked memory for 40,000 keys (root)")

const (
	docs      = "../../docs/"
	tableRule = "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n" // above the figures
)

func large(name string, keys int) Scenario {
	return Scenario{Name: name, Hosts: 10_000, Volumes: 4, Keys: keys, Quota: 10_000, Spread: 2 * time.Second, Within: 20 * time.Minute}
}

// TestFigures is no test but what `make fleet` runs: the whole fleet, whose
// figures go into docs/fleet.md and docs/img.
func TestFigures(t *testing.T) {
	if !*full {
		t.Skip("only with -fleet.full: takes minutes")
	}
	var rows []string
	compare := func(s, forNaive Scenario) (r, naive Result) {
		r, naive = live(t, s, false), live(t, forNaive, true)
		rows = append(rows, row(r, "volseal"), row(naive, "naive"))
		return r, naive
	}
	s := large("reboot, one wrapped key a host", 1)
	compare(s, s)
	s = large("reboot, four wrapped keys a host", 4)
	r, naive := compare(s, s)
	write(t, "img/fleet-reboot.svg", draw("Reboot of 10,000 hosts with 4 volumes and 4 wrapped keys each", r, naive, 15*time.Second, 40_000, false))

	s = large("reboot at a tenth of the quota, one wrapped key a host", 1)
	s.Quota /= 10
	compare(s, s)
	s = large("reboot at a tenth of the quota, four wrapped keys a host", 4)
	s.Quota /= 10
	r, naive = compare(s, s)
	write(t, "img/fleet-scarce.svg", draw("The same reboot with a tenth of the quota", r, naive, 70*time.Second, 80_000, false))

	s = large("KMS back after an outage, four wrapped keys a host", 4)
	s.Outage = 10 * time.Minute
	brief := s
	brief.Outage = 6 * time.Second // the units' loop has no memory, and a minute of it is 16 million requests
	r, naive = compare(s, brief)
	write(t, "img/fleet-outage.svg", draw("KMS is back at 0 s after ten minutes", r, naive, 30*time.Second, 1_000_000, true))

	s.Name, s.Outage, s.Blackhole = "the same, KMS silent instead of failing", 2*time.Minute, true
	rows = append(rows, row(live(t, s, false), "volseal"))
	insert(t, rows)
}

// row is a line of the table in docs/fleet.md.
func row(r Result, client string) string {
	return fmt.Sprintf("| %s | %s | %.0f s | %.0f s | %s | %s | %s | %s/s | %.0f %% |", r.Name, client, r.Most.Seconds(), r.AllMounted.Seconds(),
		thousands(float64(r.Calls)), thousands(float64(r.Throttled)), thousands(float64(r.Held)), thousands(r.Peak), 100*r.Others)
}

// draw shows who was mounted when, and the requests a second, from a little
// before the moment that matters.
func draw(alt string, r, naive Result, until time.Duration, top float64, log bool) string {
	lines := func(ours_, theirs_ []float64, hold bool) []series {
		return []series{
			{"volseal", ours, ours_, r.Outage, hold},
			{"naive", theirs, theirs_, naive.Outage, hold},
		}
	}
	before := min(5*time.Second, r.Outage)
	volumes := float64(r.volumes())
	return figure(alt,
		chart{title: "Volumes mounted", from: -before, to: until, top: volumes, series: lines(r.MountedBy, naive.MountedBy, true)},
		chart{title: "Requests to KMS in the second before", from: -before, to: until, top: top, log: log, limit: r.Quota, label: "quota", series: lines(r.Rate, naive.Rate, false)},
	)
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(docs+name, []byte(content), 0o644); err != nil { //nolint:gosec // a page's figure
		t.Fatal(err)
	}
}

// insert replaces the table's rows, which end at the first line that is none.
func insert(t *testing.T, rows []string) {
	t.Helper()
	page, err := os.ReadFile(docs + "fleet.md")
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(page), tableRule)
	if !ok {
		t.Fatal("docs/fleet.md has no table for the figures")
	}
	for strings.HasPrefix(rest, "|") {
		_, rest, _ = strings.Cut(rest, "\n")
	}
	write(t, "fleet.md", head+tableRule+strings.Join(rows, "\n")+"\n"+rest)
}
