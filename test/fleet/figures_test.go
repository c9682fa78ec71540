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
	var table figures
	s := large("reboot, one wrapped key a host", 1)
	one, _ := table.compare(t, s, s)
	s = large("reboot, four wrapped keys a host", 4)
	four, naive := table.compare(t, s, s)
	write(t, "img/fleet-reboot.svg", draw("10,000 hosts reboot, with 4 volumes each", 15*time.Second, 40_000, false,
		curve{"volseal, one wrapped key", oursToo, one}, curve{"volseal, four wrapped keys", ours, four}, curve{"naive", theirs, naive}))

	s = large("reboot at a tenth of the quota, one wrapped key a host", 1)
	s.Quota /= 10
	one, _ = table.compare(t, s, s)
	s = large("reboot at a tenth of the quota, four wrapped keys a host", 4)
	s.Quota /= 10
	four, naive = table.compare(t, s, s)
	write(t, "img/fleet-scarce.svg", draw("The same reboot with a tenth of the quota", 70*time.Second, 80_000, false,
		curve{"volseal, one wrapped key", oursToo, one}, curve{"volseal, four wrapped keys", ours, four}, curve{"naive", theirs, naive}))

	s = large("KMS back after it failed for 10 min, four wrapped keys a host", 4)
	s.Outage = 10 * time.Minute
	brief := s
	brief.Name, brief.Outage = "the same after 10 s", 10*time.Second // their loop has no memory, and ten minutes of it are 160 million requests
	four, naive = table.compare(t, s, brief)
	write(t, "img/fleet-outage.svg", draw("KMS is back at 0 s", 30*time.Second, 1_000_000, true,
		curve{"volseal, four wrapped keys", ours, four}, curve{"naive", theirs, naive}))

	s.Name, s.Outage, s.Blackhole = "KMS back after it was silent for 2 min", 2*time.Minute, true
	table.add(live(t, s, false), "volseal")
	insert(t, table)
}

// figures are the rows of the table in docs/fleet.md.
type figures []string

func (f *figures) compare(t *testing.T, s, forNaive Scenario) (r, naive Result) {
	t.Helper()
	r, naive = live(t, s, false), live(t, forNaive, true)
	f.add(r, "volseal")
	f.add(naive, "naive")
	return r, naive
}

func (f *figures) add(r Result, client string) {
	*f = append(*f, fmt.Sprintf("| %s | %s | %.0f s | %.0f s | %s | %s | %s | %s/s | %.0f %% |", r.Name, client, r.Most.Seconds(), r.AllMounted.Seconds(),
		thousands(float64(r.Calls)), thousands(float64(r.Throttled)), thousands(float64(r.Held)), thousands(r.Peak), 100*r.Others))
}

// curve is one client's lines.
type curve struct {
	name, colour string
	Result
}

// draw shows who was mounted when, and the requests a second, from a little
// before KMS is there.
func draw(alt string, until time.Duration, top float64, log bool, curves ...curve) string {
	var mounts, rates []series
	for _, c := range curves {
		mounts = append(mounts, series{c.name, c.colour, c.MountedBy, c.Outage, true})
		rates = append(rates, series{c.name, c.colour, c.Rate, c.Outage, false})
	}
	begin := -min(5*time.Second, curves[0].Outage)
	return figure(alt,
		chart{title: "Volumes mounted", from: begin, to: until, top: float64(curves[0].volumes()), series: mounts},
		chart{title: "Requests to KMS in the last second", from: begin, to: until, top: top, log: log, limit: curves[0].Quota, label: "quota", series: rates},
	)
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(docs+name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// insert replaces the table's rows, which end at the first line that is none.
func insert(t *testing.T, rows figures) {
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
