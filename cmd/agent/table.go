// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// cell is text in a table, and its colour.
type cell struct {
	text   string
	colour colour
}

func plain(text string) cell { return cell{text: shown(text)} }

// printTable prints the volumes, and under them what is wrong with any of them.
func (c *cli) printTable(s volume.Snapshot) {
	if len(s.Volumes) == 0 {
		fmt.Fprintln(c.stdout, "No volumes are configured.")
		return
	}
	rows := [][]cell{{plain("NAME"), plain("PHASE"), plain("SINCE"), plain("REBOOT"), plain("PROBLEM")}}
	for _, v := range s.Volumes {
		word, shade := reboot(v)
		rows = append(rows, []cell{
			plain(v.Name), {string(v.Phase), phaseColour(v)}, plain(c.ago(v.Since)), {word, shade}, problem(v),
		})
	}
	c.printRows(rows)
	c.printProblems(s.Volumes)
	c.printKeys(s.Keys)
}

// problem is the word for what keeps a volume from its wish.
func problem(v volume.Status) cell {
	switch {
	case v.Class != fault.None:
		return cell{shown(string(v.Class)), red}
	case v.Progress != "":
		return plain(v.Progress)
	case v.Wish == volume.WishSealed && v.Satisfied():
		return plain("locked")
	case v.Wish == volume.WishDetached && v.Satisfied():
		return plain("released")
	case !v.Satisfied():
		return plain("at work")
	}
	return plain("-")
}

// printRows aligns columns and cuts the last so that no line is wider than width.
func (c *cli) printRows(rows [][]cell) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell.text))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		used := 0
		for i, cell := range row {
			if i == len(row)-1 {
				line.WriteString(c.paint(cut(cell.text, width-used), cell.colour))
				break
			}
			gap := widths[i] - utf8.RuneCountInString(cell.text) + 2
			line.WriteString(c.paint(cell.text, cell.colour) + strings.Repeat(" ", gap))
			used += widths[i] + 2
		}
		fmt.Fprintln(c.stdout, line.String())
	}
}

func cut(text string, columns int) string {
	if runes := []rune(text); len(runes) > columns {
		return string(runes[:max(columns-1, 0)]) + "…"
	}
	return text
}

func (c *cli) printProblems(volumes []volume.Status) {
	for _, v := range volumes {
		if v.Class == fault.None {
			continue
		}
		fmt.Fprintln(c.stdout)
		c.printProblem(v)
	}
}

func (c *cli) printProblem(v volume.Status) {
	head := v.Name + ": "
	if v.FailedStep != "" && v.Phase != volume.Mounted { // what is mounted was asked about; no step failed
		head += v.FailedStep + " failed. "
	}
	fmt.Fprint(c.stdout, wrap("", head+v.Error))
	fmt.Fprint(c.stdout, wrap("  hint:  ", hintFor(v.Hint, v.Class)))
	if v.NextRetry != nil {
		fmt.Fprintf(c.stdout, "  retry: %s\n", c.until(*v.NextRetry))
	}
}

// until is when the agent tries again.
func (c *cli) until(at time.Time) string {
	if d := at.Sub(c.now()); d > 0 {
		return "in " + age(d)
	}
	return "now"
}

// printKeys names the CMKs that are not known to be usable.
func (c *cli) printKeys(keys []volume.KeyStatus) {
	rows := [][]cell{{plain("KEY"), plain("ACCOUNT"), plain("STATE"), plain("SINCE")}}
	for _, k := range keys {
		if k.State != volume.KeyUsable {
			account, id := splitARN(k.ARN)
			rows = append(rows, []cell{plain(id), plain(account), {string(k.State), yellow}, plain(c.ago(k.Since))})
		}
	}
	if len(rows) > 1 {
		fmt.Fprintln(c.stdout)
		c.printRows(rows)
	}
}

// splitARN takes the account and the key id out of a key ARN.
func splitARN(arn string) (account, id string) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 {
		return "-", arn
	}
	return parts[4], strings.TrimPrefix(parts[5], "key/")
}

// printVolume prints one volume in full.
func (c *cli) printVolume(s volume.Snapshot) {
	v := s.Volumes[0]
	word, shade := reboot(v)
	state := "unknown"
	for _, k := range s.Keys {
		state = string(k.State)
	}
	phase := fmt.Sprintf("%s since %s (%s)", v.Phase, clock(v.Since), c.ago(v.Since))
	c.printFact("name", plain(v.Name))
	c.printFact("phase", cell{phase, phaseColour(v)})
	c.printFact("wish", plain(string(v.Wish)))
	c.printFact("progress", plain(v.Progress))
	c.printFact("reboot", cell{word, shade})
	c.printFact("volume", plain(v.VolumeID))
	c.printFact("database", plain(v.Database))
	c.printFact("device", plain(v.Device))
	c.printFact("mapping", plain(v.Mapping))
	c.printFact("mountpoint", plain(v.Mountpoint))
	c.printFact("luks uuid", plain(v.LUKSUUID))
	c.printFact("last proof", plain(fmt.Sprintf("%s (%s)", clock(v.LastProof), c.ago(v.LastProof))))
	c.printFact("key", plain(state))
	fmt.Fprintf(c.stdout, "  %s\n", shown(v.KeyARN)) // the longest of all, in a line of its own
	c.printLayers(v)
	c.printRotation(v)
	if v.Notice != "" {
		fmt.Fprint(c.stdout, "\n"+wrap("notice: ", v.Notice))
	}
	if v.Class != fault.None {
		fmt.Fprintln(c.stdout)
		c.printProblem(v)
	}
}

// printFact prints a name and a value. One that is too long for the line, such
// as a deep mount point, has the next for itself, so that it can be copied.
func (c *cli) printFact(name string, value cell) {
	const indent = 12
	if value.text == "" {
		value.text = "-"
	}
	if utf8.RuneCountInString(value.text) > width-indent {
		fmt.Fprintf(c.stdout, "%s\n%s", name, wrap("  ", value.text))
		return
	}
	fmt.Fprintf(c.stdout, "%-*s%s\n", indent, name, c.paint(value.text, value.colour))
}
