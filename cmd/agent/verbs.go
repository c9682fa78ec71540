// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/volume"
)

func (c *cli) initCommand() *cobra.Command {
	return c.wishCommand(volume.VerbInit, "Format a blank volume, once, and mount it (root)",
		`Format a volume that is provably blank: every byte of it is read first. Anything
else is refused. init is never needed again, not even after a failure half-way:
the agent finishes what it began.`)
}

func (c *cli) unlockCommand() *cobra.Command {
	return c.wishCommand(volume.VerbUnlock, "Open a volume and have it mounted",
		`Attach, unlock and mount a volume. This is what the agent does by itself unless an
operator said lock or release; unlock takes that word back.`)
}

func (c *cli) lockCommand() *cobra.Command {
	return c.wishCommand(volume.VerbLock, "Unmount a volume and take its key out of the kernel",
		`Stop what uses the volume, unmount it, and close the mapping, so that the key
leaves the kernel. It holds over restarts and reboots, until unlock or reattach.`)
}

func (c *cli) reattachCommand() *cobra.Command {
	verb := volume.VerbReattach
	cmd := c.wishCommandOf(&verb, "Open a volume anew from any state, Quarantined too",
		`Close whatever is open and bring the volume to Mounted from the beginning, with a
fresh proof of its key. Does nothing to a volume that is mounted and sound.

A header of an older generation than this host has seen is refused, because it may
bring back a key that was replaced. Root accepts one with --accept-older-header.`)
	cmd.Flags().BoolFunc("accept-older-header", "take the header that is there, though it is older than one seen here; root", func(string) error {
		verb = volume.VerbAcceptHeader
		return nil
	})
	return cmd
}

func (c *cli) releaseCommand() *cobra.Command {
	return c.wishCommand(volume.VerbRelease, "Close a volume and detach it from this instance",
		`As lock, and then detach the EBS volume. It holds over restarts and reboots,
until unlock or reattach.`)
}

// wishCommand is a verb that records a wish, and may wait for it.
func (c *cli) wishCommand(verb volume.Verb, short, long string) *cobra.Command {
	return c.wishCommandOf(&verb, short, long)
}

// wishCommandOf is one whose flags may yet choose another verb.
func (c *cli) wishCommandOf(verb *volume.Verb, short, long string) *cobra.Command {
	return c.orderCommand(string(*verb)+" NAME", short, long, func() volume.Order { return volume.Order{Verb: *verb} })
}

// orderCommand is a verb whose flags make the order.
func (c *cli) orderCommand(use, short, long string, order func() volume.Order) *cobra.Command {
	var w waiting
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: oneVolume, ValidArgsFunction: c.volumeNames, SuggestFor: otherWords(order().Verb),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.wish(cmd.Context(), args[0], order(), w)
		},
	}
	addWait(cmd, &w)
	return cmd
}

func addWait(cmd *cobra.Command, w *waiting) {
	cmd.Flags().Var(w, waitFlag, "wait until it has come true, or cannot; no longer than `DURATION`, if given")
	cmd.Flags().Lookup(waitFlag).NoOptDefVal = waitForever
}

// otherWords are what people type who know other tools.
func otherWords(verb volume.Verb) []string {
	switch verb {
	case volume.VerbInit:
		return []string{"format", "mkfs", "luksFormat", "initialise", "initialize"}
	case volume.VerbUnlock:
		return []string{"open", "mount", "luksOpen", "unseal", "start"}
	case volume.VerbLock:
		return []string{"close", "umount", "unmount", "luksClose", "seal", "stop"}
	case volume.VerbReattach:
		return []string{"attach", "retry", "unquarantine"}
	case volume.VerbRelease:
		return []string{"detach", "eject", "cancel"}
	case volume.VerbCreate:
		return []string{"make", "new", "add", "create-volume"}
	default:
		return nil
	}
}

func (c *cli) wish(ctx context.Context, name string, order volume.Order, w waiting) error {
	if err := order.Validate(); err != nil {
		return &usageError{message: err.Error()}
	}
	client := c.client()
	defer client.Close()
	accepted, err := client.Do(ctx, name, order)
	if err != nil {
		return &stepError{title: orderTitle(order), err: err}
	}
	if !w.on {
		return c.print(accepted, func() {
			fmt.Fprintf(c.stdout, "%s: %s is recorded; follow it with:\nvolseal status %s\n", name, order.Verb, name)
		})
	}
	status, outcome, err := client.Await(ctx, accepted, w.limit, c.progress())
	if err != nil {
		return &stepError{title: orderTitle(order), err: err}
	}
	if err := c.print(status, func() { c.printOutcome(status, outcome) }); err != nil {
		return err
	}
	if outcome != control.Fulfilled {
		return &standsError{order: order, limit: w.limit, status: status, outcome: outcome}
	}
	return nil
}

func (c *cli) printOutcome(s volume.Status, o control.Outcome) {
	if o != control.Fulfilled {
		return // the summary says it
	}
	fmt.Fprintf(c.stdout, "%s is %s.\n", s.Name, s.Phase)
	if s.Phase == volume.Mounted && s.Class != "" {
		fmt.Fprintf(c.stdout, "It works on, but would not come back after a reboot (%s):\nvolseal explain %s\n", s.Class, s.Name)
	}
}

// progress shows how a volume gets on, on a terminal only.
func (c *cli) progress() func(volume.Status) {
	if !c.ttyErr || c.quiet || c.json {
		return nil
	}
	last := ""
	return func(s volume.Status) {
		line := s.Name + ": " + string(s.Phase)
		if s.Progress != "" {
			line += ", " + s.Progress
		}
		if s.Class != "" {
			line += " (" + string(s.Class) + ")"
		}
		if s.Rotation != nil {
			line += ", rotation: " + rotationLine(*s.Rotation)
		}
		if line != last {
			fmt.Fprintln(c.stderr, shown(line))
			last = line
		}
	}
}

// orderTitle names an order as the step that failed, when no nearer one is known.
func orderTitle(o volume.Order) string {
	switch o.Verb {
	case volume.VerbCreate, volume.VerbRestore:
		return volume.CreateTitle(o.SizeGiB)
	case volume.VerbInit:
		return volume.StepFormat.Title()
	case volume.VerbUnlock:
		return volume.StepOpen.Title()
	case volume.VerbLock:
		return volume.StepClose.Title()
	case volume.VerbReattach, volume.VerbAcceptHeader:
		return volume.StepAttach.Title()
	case volume.VerbRelease:
		return volume.StepDetach.Title()
	case volume.VerbRotate:
		return rotateKeys
	default:
		return string(o.Verb)
	}
}

func (c *cli) cacheFlushCommand() *cobra.Command {
	return &cobra.Command{
		Use: "flush", Short: "Forget every cached data key", Args: noArguments,
		Long: "Forget every cached data key. Mounted volumes are not disturbed; the next unlock\nasks KMS again, as it does for its proof in any case.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.finish(cmd.Context(), "Flush cache", "The data-key cache is empty.", (*control.Client).FlushCache)
		},
	}
}

func (c *cli) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reload", Short: "Have the agent read its configuration anew", Args: noArguments,
		Long: "Have the agent read its configuration anew. A bad one changes nothing and is\nexplained. Volumes that left the configuration stay as they are.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.finish(cmd.Context(), "Reload configuration", "The configuration is in use.", (*control.Client).Reload)
		},
	}
}

// finish makes a request that is done when it is answered.
func (c *cli) finish(ctx context.Context, title, done string, request func(*control.Client, context.Context) error) error {
	client := c.client()
	defer client.Close()
	if err := request(client, ctx); err != nil {
		return &stepError{title: title, err: err}
	}
	return c.print(control.Done{OK: true}, func() { fmt.Fprintln(c.stdout, done) })
}
