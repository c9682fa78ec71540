// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

const rotateKeys = "Rotate keys"

func (c *cli) rotateCommand() *cobra.Command {
	var (
		w     waiting
		order volume.RotateOrder
		all   wholeHost
	)
	cmd := &cobra.Command{
		Use: "rotate [NAME]", Short: "Replace the keys of a mounted volume, without downtime (root)",
		Long: `Have the volume's data key wrapped by another CMK, or with --new-data-key replaced,
under the same CMK or another one; or with --reencrypt the volume key, too. The volume stays mounted, and its database
notices nothing. What is new is proved by a live Decrypt and opens the keyslot on
the disk before what is old goes. Interrupted by whatever, it goes on by itself,
and it can be taken back with --abort until the new key opens the volume. After
that, to rotate to the old CMK is the way back.

A CMK that cannot be used is told at once, and nothing is changed. key_arn in the
configuration has to follow; status says so until it has.

With --reencrypt the data is encrypted under a new volume key, in place, while the
database runs; all else that was ordered comes first. It takes hours for a large
volume, goes on by itself after a kill, a reboot or a power cut, may rest (--pause;
--reencrypt again has it go on), and cannot be taken back once it has begun. Without
it the volume key stays what it is.

Snapshots and header backups from before still open under the old CMK.

With --all, instead of NAME, every volume of this host that is under the CMK --from
moves to the new one, so many at a time; one that cannot does not stop the others.
It returns when all have ended, or after --wait=DURATION, with a report. Interrupted
by whatever, say the same again: it goes on with what is left, and the report is of
all. --dry-run asks the agent and KMS what would become of each, and changes nothing.`,
		Example: `volseal rotate orders --key-arn "$NEW" --wait=2m
volseal rotate orders --new-data-key --wait=2m
volseal rotate orders --reencrypt --rate 100
volseal rotate orders --abort
volseal rotate --all --from "$OLD" --key-arn "$NEW" --dry-run`,
		Args: all.arguments, ValidArgsFunction: c.volumeNames, SuggestFor: []string{"rekey", "rewrap", "reencrypt"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := validRotation(cmd, order, w); err != nil {
				return err
			}
			if all.on {
				return c.rotateAll(cmd.Context(), all, order, w.limit)
			}
			return c.rotate(cmd.Context(), args[0], order, w)
		},
	}
	cmd.Flags().StringVar(&order.KeyARN, "key-arn", "", "the CMK to move to, by its `ARN`")
	cmd.Flags().BoolVar(&order.NewDataKey, "new-data-key", false, "a new data key and keyslot; the old ones are destroyed")
	addReencryption(cmd, &order)
	cmd.Flags().BoolVar(&order.Abort, "abort", false, "take back the rotation that is under way")
	all.addTo(cmd)
	addWait(cmd, &w)
	return cmd
}

func addReencryption(cmd *cobra.Command, order *volume.RotateOrder) {
	cmd.Flags().BoolVar(&order.Reencrypt, "reencrypt", false, "a new volume key: the data is encrypted anew")
	cmd.Flags().IntVar(&order.Rate, "rate", 0, fmt.Sprintf("of it, in `MIB` a second, read and written; else %d", volume.DefaultRate))
	cmd.Flags().BoolVar(&order.Pause, "pause", false, "let the reencryption rest until it is ordered again")
}

func validRotation(cmd *cobra.Command, order volume.RotateOrder, w waiting) error {
	if cmd.Flags().Changed("rate") && order.Rate == 0 {
		return &usageError{message: "The rate is at least 1 MiB a second."}
	}
	if order.Pause && w.on {
		return &usageError{message: "A pause is nothing to wait for."}
	}
	if err := order.Validate(); err != nil {
		return &usageError{message: err.Error()}
	}
	return nil
}

func (c *cli) rotate(ctx context.Context, name string, order volume.RotateOrder, w waiting) error {
	client := c.client()
	defer client.Close()
	accepted, err := client.Rotate(ctx, name, order)
	if err != nil {
		return &stepError{title: rotateKeys, err: err}
	}
	if !w.on {
		return c.print(accepted, func() {
			fmt.Fprintf(c.stdout, "%s: it is recorded; follow it with:\nvolseal status %s\n", name, name)
			c.warnOfOldCopies(order)
		})
	}
	status, outcome, err := client.Await(ctx, accepted, w.limit, c.progress())
	if err != nil {
		return &stepError{title: rotateKeys, err: err}
	}
	if err := c.print(status, func() { c.printRotated(status, outcome, order) }); err != nil {
		return err
	}
	if outcome != control.Fulfilled {
		return &standsError{order: volume.Order{Verb: volume.VerbRotate}, limit: w.limit, status: heldUp(status), outcome: outcome}
	}
	return nil
}

// warnOfOldCopies: a rotation reaches what is on the volume, and nothing else.
func (c *cli) warnOfOldCopies(o volume.RotateOrder) {
	switch {
	case o.Abort, o.Pause:
	case o.KeyARN == "" && !o.NewDataKey:
		fmt.Fprint(c.stdout, wrap("", "Snapshots from before are under the old volume key, and open as they did."))
	case o.KeyARN == "":
		fmt.Fprint(c.stdout, wrap("", "Snapshots and header backups from before still open with the old data key."))
	default:
		fmt.Fprint(c.stdout, wrap("", "Snapshots and header backups from before still open under the old CMK."))
	}
}

func (c *cli) printRotated(s volume.Status, o control.Outcome, order volume.RotateOrder) {
	if o != control.Fulfilled {
		return // the summary says it
	}
	done := "is now under"
	switch {
	case order.Abort:
		done = "stays under"
	case order.Reencrypt:
		done = "has a new volume key, and is under"
	}
	fmt.Fprintf(c.stdout, "%s %s, generation %d:\n  %s\n", shown(s.Name), done, s.Generation, shown(s.KeyARN))
	c.warnOfOldCopies(order)
	if s.Notice != "" {
		fmt.Fprint(c.stdout, wrap("notice: ", s.Notice))
	}
}

// heldUp is the volume's status with what keeps its rotation in the place of what
// is wrong with the volume: that is what the wait was for.
func heldUp(s volume.Status) volume.Status {
	if r := s.Rotation; r != nil && s.Phase != volume.Quarantined {
		s.Class, s.Error, s.Hint, s.Reason, s.FailedStep = r.Class, r.Error, r.Hint, r.Reason, rotationStep(*r).Title()
	}
	return s
}

// rotationStep is the one that a rotation waits for.
func rotationStep(r volume.Rotation) volume.Step {
	if r.Stage == volume.RotationReencrypting || r.Stage == volume.RotationPaused {
		return volume.StepReencrypt
	}
	return volume.StepRewrap
}

// rotationStands says of a rotation that has not come true how it stands.
func rotationStands(s volume.Status, o control.Outcome, limit time.Duration) string {
	switch {
	case o == control.Superseded && s.Rotation == nil:
		return "An operator decided otherwise meanwhile: the rotation is over, and did not become what was ordered."
	case o == control.Superseded:
		return fmt.Sprintf("%s is to be %s meanwhile; the rotation goes on once it is mounted again.", s.Name, s.Wish)
	case s.Error != "":
		return s.Error
	}
	return fmt.Sprintf("The rotation of %s has not ended after %s; it goes on.", s.Name, limit)
}

// rotationLine is how far a rotation is, in a few words.
func rotationLine(r volume.Rotation) string {
	line := map[volume.RotationStage]string{
		volume.RotationAdding:   "adding the new key",
		volume.RotationAborting: "being taken back",
		volume.RotationRemoving: "removing the old key",

		volume.RotationReencrypting: "reencrypting" + share(r),
		volume.RotationPaused:       "reencryption paused" + share(r),
	}[r.Stage]
	if r.Class != fault.None {
		line += " (" + string(r.Class) + ")"
	}
	return line
}

// share is how much of the data is under the new volume key.
func share(r volume.Rotation) string {
	if r.TotalBytes == 0 {
		return ""
	}
	return fmt.Sprintf(", %d %% of %d GiB", 100*r.DoneBytes/r.TotalBytes, (r.TotalBytes+1<<29)>>30)
}

// printRotation prints a rotation that is under way, and what keeps it.
func (c *cli) printRotation(v volume.Status) {
	r := v.Rotation
	if r == nil {
		return
	}
	to := "to"
	switch {
	case rotationStep(*r) == volume.StepReencrypt:
		to = "a new volume key, under"
	case r.NewDataKey && r.Reencrypt:
		to = "a new data key, then a new volume key, under"
	case r.NewDataKey:
		to = "a new data key, under"
	case r.Reencrypt:
		to = "to another CMK, then a new volume key,"
	}
	fmt.Fprint(c.stdout, "\n"+wrap("rotation: ", rotationLine(*r)+": "+to))
	fmt.Fprintf(c.stdout, "  %s\n", shown(r.KeyARN))
	if r.Class == fault.None {
		return
	}
	fmt.Fprint(c.stdout, wrap("  ", r.Error))
	fmt.Fprint(c.stdout, wrap("  hint:  ", hintFor(r.Hint, r.Class)))
	if r.NextRetry != nil {
		fmt.Fprintf(c.stdout, "  retry: %s\n", c.until(*r.NextRetry))
	}
}
