// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// rotateResult is what became of a volume.
type rotateResult string

// The results. Until one is known there is "".
const (
	canBeRotated   rotateResult = "ready"       // of a dry run
	rotated        rotateResult = "rotated"     // by this run
	alreadyRotated rotateResult = "already"     // the new CMK opens it, proved within the last probe interval
	unfinished     rotateResult = "unfinished"  // it is recorded, and goes on by itself
	notRotated     rotateResult = "not-rotated" // and nothing is recorded for it
)

func rotateResults() []rotateResult {
	return []rotateResult{canBeRotated, rotated, alreadyRotated, unfinished, notRotated}
}

// rotateReport is what rotate --all prints, as JSON too.
type rotateReport struct {
	From       string          `json:"from"`         // the CMK to leave
	To         string          `json:"to"`           // the CMK to move to
	NewDataKey bool            `json:"new_data_key"` // with a new data key each
	DryRun     bool            `json:"dry_run"`      // nothing was changed
	OK         bool            `json:"ok"`           // no volume is unfinished or not-rotated
	Volumes    []rotatedVolume `json:"volumes"`      // those under either CMK, by name
}

// rotatedVolume is a line of it. docs/cli.md says what its fields are.
type rotatedVolume struct {
	Volume     string       `json:"volume"`
	KeyARN     string       `json:"key_arn"`
	Generation int          `json:"generation"`
	Result     rotateResult `json:"result"`
	Class      fault.Class  `json:"class"`
	Error      string       `json:"error"`
	Hint       string       `json:"hint"`
	Notice     string       `json:"notice"`

	status volume.Status // the last that was seen
	err    error         // what Error tells of
}

// stands notes how the volume stands.
func (v *rotatedVolume) stands(s volume.Status) {
	v.status = s
	v.KeyARN, v.Generation, v.Notice = s.KeyARN, s.Generation, s.Notice
}

// failed notes why a volume is not rotated.
func (v *rotatedVolume) failed(result rotateResult, err error) {
	told := itemsOf(err)[0]
	v.Result, v.err = result, err
	v.Error, v.Hint, v.Class = told.cause, told.hint, classOf(err)
}

// refused is failed for a volume of which nothing is recorded by this run. What
// another run recorded goes on, unless it is being taken back.
func (v *rotatedVolume) refused(to string, err error) {
	if r := v.status.Rotation; r != nil && r.KeyARN == to && r.Stage != volume.RotationAborting {
		v.failed(unfinished, err)
		return
	}
	v.failed(notRotated, err)
}

func classOf(err error) fault.Class {
	var (
		refusal *control.Error
		stands  *standsError
	)
	switch {
	case errors.As(err, &refusal):
		return refusal.Class
	case errors.As(err, &stands):
		return stands.status.Class
	}
	return fault.None
}

// judge says whether all is well, and returns what is not.
func (r *rotateReport) judge() (failed []rotatedVolume) {
	for _, v := range r.Volumes {
		if v.err != nil {
			failed = append(failed, v)
		}
	}
	r.OK = len(failed) == 0
	return failed
}

// manyError is that some of many volumes are not as they were to be. Its exit code
// is that of the first.
type manyError struct{ failed []rotatedVolume }

func (e *manyError) Error() string { return e.failed[0].Error }

// items tell what several volumes have in common once.
func (e *manyError) items() (items []item) {
	seen := map[[2]string]int{}
	for _, v := range e.failed {
		why := [2]string{v.Error, v.Hint}
		i, told := seen[why]
		if !told {
			i = len(items)
			seen[why] = i
			items = append(items, item{rotateKeys + " of " + v.Volume, v.Error, v.Hint})
			continue
		}
		items[i].step += ", " + v.Volume
	}
	return items
}

// printRotateReport prints a line for each volume. Why one is not rotated is cut at
// the edge here; the summary has all of it.
func (c *cli) printRotateReport(r *rotateReport) {
	fmt.Fprintf(c.stdout, "old CMK\n  %s\nnew CMK\n  %s\n\n", shown(r.From), shown(r.To))
	rows := [][]cell{{plain("NAME"), plain("CMK"), plain("RESULT")}}
	for _, v := range r.Volumes {
		cmk := "other"
		switch v.KeyARN {
		case r.To:
			cmk = "new"
		case r.From:
			cmk = "old"
		}
		rows = append(rows, []cell{plain(v.Volume), plain(cmk), r.resultOf(v)})
	}
	c.printRows(rows)
	c.printRotateNotes(r)
}

func (r *rotateReport) resultOf(v rotatedVolume) cell {
	switch v.Result {
	case canBeRotated:
		return plain("would be rotated")
	case alreadyRotated:
		return plain("was under it already")
	case rotated:
		return cell{"rotated", green}
	case unfinished:
		return cell{shown("goes on: " + v.Error), yellow}
	}
	return cell{shown("not rotated: " + v.Error), red}
}

// printRotateNotes says what is not done by it.
func (c *cli) printRotateNotes(r *rotateReport) {
	var follow []string
	has := map[rotateResult]bool{}
	for _, v := range r.Volumes {
		has[v.Result] = true
		if v.Notice != "" {
			follow = append(follow, v.Volume)
		}
	}
	if r.NewDataKey && has[alreadyRotated] {
		fmt.Fprint(c.stdout, "\n"+wrap("", "What was under the new CMK already keeps the data key that it was moved with."))
	}
	if has[rotated] {
		fmt.Fprintln(c.stdout)
		c.warnOfOldCopies(volume.RotateOrder{KeyARN: r.To, NewDataKey: r.NewDataKey})
	}
	if len(follow) > 0 && !r.DryRun {
		fmt.Fprint(c.stdout, "\n"+wrap("notice: ", "key_arn in volumes.d has to follow (volseal status NAME says how): "+strings.Join(follow, ", ")))
	}
}
