// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/volseal/volseal/internal/config"
	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// stepError is a failure of the step with this title.
type stepError struct {
	title string
	err   error
}

func (e *stepError) Error() string { return e.err.Error() }

func (e *stepError) Unwrap() error { return e.err }

// standsError is a wish that has not come true by the end of the wait.
type standsError struct {
	order   volume.Order
	limit   time.Duration
	status  volume.Status
	outcome control.Outcome
}

func (e *standsError) Error() string {
	s := e.status
	switch {
	case e.order.Verb == volume.VerbRotate && e.outcome != control.Hopeless:
		return rotationStands(s, e.outcome, e.limit)
	case e.outcome == control.Superseded:
		return fmt.Sprintf("An operator wished otherwise meanwhile: %s is now to be %s.", s.Name, s.Wish)
	case s.Error != "":
		return s.Error
	case s.Class != fault.None:
		return guideTo(s.Class).meaning
	case s.Phase == volume.Quarantined:
		return meaningOf(s)
	}
	return fmt.Sprintf("%s is still %s after %s.", s.Name, s.Phase, e.limit)
}

func (e *standsError) hint() string {
	s := e.status
	switch {
	case e.outcome == control.Superseded:
		return hintAgree
	case s.Hint == "" && s.Class == fault.None:
		return hintStands(s.Name)
	}
	return hintFor(s.Hint, s.Class)
}

// item is one failed step of a summary.
type item struct{ step, cause, hint string }

// reportFailure tells on stderr why a verb failed.
func (c *cli) reportFailure(ctx context.Context, cmd *cobra.Command, err error) {
	var usage *usageError
	if errors.As(err, &usage) {
		reportUsage(c.stderr, cmp.Or(usage.about, cmd), usage)
		return
	}
	c.suggestVolume(ctx, err)
	fmt.Fprintln(c.stderr, "SUMMARY: Execution failed because of:")
	for _, i := range itemsOf(err) {
		fmt.Fprintf(c.stderr, "- FAILED: %s\n", shown(i.step))
		printField(c.stderr, "cause", i.cause)
		printField(c.stderr, "hint", i.hint)
	}
}

// suggestVolume has the hint about an unknown volume name one that is known.
func (c *cli) suggestVolume(ctx context.Context, err error) {
	var unknown *control.Error
	if !errors.As(err, &unknown) || unknown.Code != control.CodeNoSuchVolume || unknown.Volume == "" {
		return
	}
	if names := nearVolumes(unknown.Volume, c.knownVolumes(ctx)); len(names) > 0 {
		unknown.Hint = hintVolume(names)
	}
}

func reportUsage(w io.Writer, cmd *cobra.Command, e *usageError) {
	fmt.Fprintf(w, "volseal: %s\n", e.message)
	if e.hint != "" {
		fmt.Fprintln(w, e.hint)
	}
	if !cmd.HasAvailableSubCommands() {
		fmt.Fprint(w, wrap("Usage: ", strings.Join(synopsis(cmd), " ")))
	}
	fmt.Fprintf(w, "Run `%s --help` for what it takes.\n", cmd.CommandPath())
}

// printField keeps what has several lines together.
func printField(w io.Writer, name, text string) {
	var lines []string
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		lines = append(lines, shown(line))
	}
	if text != "" {
		fmt.Fprintf(w, "  %s: %s\n", name, strings.Join(lines, "\n    "))
	}
}

func itemsOf(err error) []item {
	var (
		problems config.Problems
		stands   *standsError
		step     *stepError
		many     *manyError
	)
	switch {
	case errors.As(err, &many):
		return many.items()
	case errors.As(err, &problems):
		return problemItems(problems)
	case errors.As(err, &stands):
		title := stands.status.FailedStep
		if title == "" {
			title = orderTitle(stands.order)
		}
		return []item{{title, stands.Error(), stands.hint()}}
	case errors.As(err, &step):
		return []item{{step.title, causeOf(step.err), hintOf(step.err)}}
	}
	return []item{{"Run volseal", causeOf(err), hintOf(err)}}
}

func causeOf(err error) string {
	if errors.Is(err, context.Canceled) {
		return "Interrupted. What was recorded stands."
	}
	return err.Error()
}

func hintOf(err error) string {
	var refusal *control.Error
	switch {
	case errors.As(err, &refusal):
		return hintOfRefusal(refusal)
	case errors.Is(err, context.Canceled):
		return hintInterrupted
	}
	return hintFor(fault.HintOf(err), fault.ClassOf(err))
}
