// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// How many rotations are under way at a time. Each reads and writes a header and
// asks KMS some ten times; the bound keeps a typing error from being a storm.
const (
	usualAtOnce = 4
	mostAtOnce  = 16
)

// wholeHost is the flag --all of rotate, and those that go with it.
type wholeHost struct {
	on     bool
	from   string // the CMK to leave
	atOnce int
	dryRun bool
}

func (w *wholeHost) addTo(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&w.on, "all", false, "every volume of this host that is under the CMK --from")
	cmd.Flags().StringVar(&w.from, "from", "", "for --all: the CMK to leave, by its `ARN`")
	cmd.Flags().IntVar(&w.atOnce, "concurrency", usualAtOnce, fmt.Sprintf("for --all: `N` volumes at a time, 1 to %d", mostAtOnce))
	cmd.Flags().BoolVar(&w.dryRun, "dry-run", false, "for --all: tell what would become of each volume, and change nothing")
}

// arguments demands a volume or --all, and of --all what it cannot do without.
func (w *wholeHost) arguments(cmd *cobra.Command, args []string) error {
	if w.on {
		return w.validate(cmd, args)
	}
	for _, flag := range []string{"from", "concurrency", "dry-run"} {
		if cmd.Flags().Changed(flag) {
			return &usageError{message: "--" + flag + " goes with --all", hint: hintAll}
		}
	}
	return oneVolume(cmd, args)
}

func (w *wholeHost) validate(cmd *cobra.Command, args []string) error {
	to, err := cmd.Flags().GetString("key-arn")
	switch {
	case err != nil:
		return err
	case len(args) > 0:
		return &usageError{message: fmt.Sprintf("--all takes every volume, and no name such as %.80q", args[0]), hint: hintAllOrOne}
	case cmd.Flags().Changed("reencrypt"), cmd.Flags().Changed("pause"), cmd.Flags().Changed("rate"):
		return &usageError{message: "a reencryption is ordered for one volume at a time", hint: hintReencryptEach}
	case cmd.Flags().Changed("abort"):
		return &usageError{message: "--abort takes back the rotation of one volume", hint: hintAbortEach}
	case w.from == "":
		return &usageError{message: "--all needs the CMK to leave", hint: hintAll}
	case to == "":
		return &usageError{message: "--all needs the CMK to move to", hint: hintAll}
	case !envelope.ValidKeyARN(w.from):
		return &usageError{message: fmt.Sprintf("--from: %.128q is not the ARN of a KMS key", w.from), hint: hintKeyARN}
	case !envelope.ValidKeyARN(to):
		return &usageError{message: fmt.Sprintf("--key-arn: %.128q is not the ARN of a KMS key", to), hint: hintKeyARN}
	case w.from == to:
		return &usageError{message: "--from and --key-arn are the same CMK", hint: hintNewKeyEach}
	case envelope.KeyRegion(w.from) != envelope.KeyRegion(to):
		return &usageError{
			message: fmt.Sprintf("--from is in %s and --key-arn in %s", envelope.KeyRegion(w.from), envelope.KeyRegion(to)),
			hint:    hintRegions,
		}
	case w.atOnce < 1, w.atOnce > mostAtOnce:
		return &usageError{message: fmt.Sprintf("--concurrency takes 1 to %d", mostAtOnce)}
	}
	return nil
}

// rotateAll moves the volumes of this host, and reports on each. What is left to do
// is told by their states alone: an interrupted run has nothing to be taken up by.
func (c *cli) rotateAll(ctx context.Context, all wholeHost, order volume.RotateOrder, limit time.Duration) error {
	client := c.client()
	defer client.Close()
	s, err := client.Status(ctx)
	if err != nil {
		return &stepError{title: rotateKeys, err: err}
	}
	order.From = all.from
	report := newRotateReport(all, order, s.Volumes)
	if len(report.Volumes) == 0 {
		return &stepError{title: rotateKeys, err: noneUnder(s.Volumes)}
	}
	if limit > 0 {
		var stop func()
		ctx, stop = context.WithTimeout(ctx, limit)
		defer stop()
	}
	m := rotateMany{agent: client, order: order, atOnce: all.atOnce, limit: limit, told: c.progressOfMany()}
	if err := m.examine(ctx, report.Volumes); err != nil {
		return &stepError{title: rotateKeys, err: err}
	}
	if !all.dryRun {
		m.rotate(ctx, report.Volumes)
	}
	failed := report.judge()
	if err := c.print(report, func() { c.printRotateReport(report) }); err != nil {
		return err
	}
	if len(failed) > 0 {
		return &manyError{failed}
	}
	return nil
}

// newRotateReport has a line for each volume that is under one of the two CMKs, or
// may be; what it does not judge is left to be asked about.
func newRotateReport(all wholeHost, order volume.RotateOrder, volumes []volume.Status) *rotateReport {
	r := &rotateReport{From: all.from, To: order.KeyARN, NewDataKey: order.NewDataKey, DryRun: all.dryRun, Volumes: []rotatedVolume{}}
	for _, v := range volumes {
		if v.KeyARN != r.From && v.KeyARN != r.To && !mislabelled(v) {
			continue
		}
		line := rotatedVolume{Volume: v.Name}
		line.judge(v, r.To)
		r.Volumes = append(r.Volumes, line)
	}
	return r
}

// judge says of a volume what its status tells, if that is enough.
func (v *rotatedVolume) judge(s volume.Status, to string) {
	v.stands(s)
	switch there := s.KeyARN == to && s.Rotation == nil; {
	case s.Phase != volume.Mounted:
		v.refused(to, notMounted(s))
	case there && s.WouldSurviveReboot:
		v.Result = alreadyRotated
	case mislabelled(s) && !there:
		v.refused(to, notAsSaid(s))
	case there:
		v.refused(to, notProved(s))
	}
}

// notMounted: the keys of such a volume are not rotated, and nobody can tell which
// CMK opens it.
func notMounted(v volume.Status) error {
	e := &control.Error{
		Code: control.CodeConflict, Volume: v.Name,
		Message: "The volume is " + string(v.Phase) + ": keys are rotated while it is mounted.",
		Hint:    hintOpenFirst(v.Name),
	}
	switch {
	case v.Phase == volume.Quarantined:
		e.Code, e.Class = control.CodeFailed, fault.Integrity
	case v.Class != fault.None:
		e.Code, e.Class = control.CodeFailed, v.Class
	default:
		return e
	}
	e.Message, e.Hint = e.Message+" "+v.Error, hintFor(v.Hint, e.Class)
	return e
}

// notProved: key_arn may be the new CMK because somebody edited it before its time.
func notProved(v volume.Status) error {
	e := &control.Error{
		Code: control.CodeConflict, Volume: v.Name,
		Message: "key_arn is the new CMK, but that it opens the volume is not proved at present.",
		Hint:    hintNotProved(v.Name),
	}
	if v.Class != fault.None {
		e.Code, e.Class = control.CodeFailed, v.Class
		e.Message, e.Hint = e.Message+" "+v.Error, hintFor(v.Hint, v.Class)
	}
	return e
}

// mislabelled reports that the header is of another CMK than key_arn. Nobody says of
// which: it may be the one to leave, whatever key_arn was edited to.
func mislabelled(v volume.Status) bool { return v.Reason == "token-key" }

func notAsSaid(v volume.Status) error {
	return &control.Error{
		Code: control.CodeFailed, Class: v.Class, Volume: v.Name,
		Message: "key_arn is not the CMK of the header, which may be the old one. " + v.Error,
		Hint:    hintFor(v.Hint, v.Class),
	}
}

// noneUnder is an error, because it is what a mistyped ARN looks like; with a code
// of its own, because on a host of a fleet it may be all right.
func noneUnder(volumes []volume.Status) error {
	e := &control.Error{Code: control.CodeNoSuchVolume, Message: "No volume of this host is under either CMK.", Hint: "No volumes are configured."}
	if seen := inUse(volumes); len(seen) > 0 {
		e.Hint = "They are under:\n" + seen
	}
	return e
}

// inUse are the CMKs in use, a line each.
func inUse(volumes []volume.Status) (lines string) {
	seen := map[string]bool{}
	for _, v := range volumes {
		if v.KeyARN != "" && !seen[v.KeyARN] {
			seen[v.KeyARN] = true
			lines += v.KeyARN + "\n"
		}
	}
	return lines
}
