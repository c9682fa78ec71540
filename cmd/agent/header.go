// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/volseal/volseal/internal/volume"
)

// The titles of the three verbs in a failure's summary.
const (
	verifyHeader  = "Verify header"
	backUpHeader  = "Back up header"
	restoreHeader = "Restore header"
)

func (c *cli) headerVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "verify NAME", Short: "Check the header on the disk, mounted or not",
		Long: `Check everything that can be told about the header on the disk: both copies, the
rules, the token, the key by a live proof, the MAC, the keyslot, what this host
recorded, the newest backup, and what is open. Nothing is changed, and a mounted
volume is not disturbed. The exit code is that of the first check that fails.`,
		Args: oneVolume, ValidArgsFunction: c.volumeNames,
		RunE: func(cmd *cobra.Command, args []string) error { return c.verifyHeader(cmd.Context(), args[0]) },
	}
}

func (c *cli) verifyHeader(ctx context.Context, name string) error {
	client := c.client()
	defer client.Close()
	report, err := client.VerifyHeader(ctx, name)
	if err != nil {
		return &stepError{title: verifyHeader, err: err}
	}
	if err := c.print(report, func() { c.printReport(report) }); err != nil {
		return err
	}
	return checksFailed(verifyHeader, report.Checks)
}

func (c *cli) printReport(r volume.HeaderReport) {
	fmt.Fprintf(c.stdout, "Header of %s on %s\n\n", r.Volume, r.Device)
	c.printChecks(r.Checks)
}

func (c *cli) headerBackupCommand() *cobra.Command {
	return &cobra.Command{
		Use: "backup NAME", Short: "Keep a copy of the header, if it is sound",
		Long: `Copy the header off the volume, if it passes every check with a live proof. The
agent does so by itself after each change, so this is seldom needed. Of many
backups the newest ten are kept, and the newest of each generation.

A backup is worthless without the customer's key. An old one brings back old keys.`,
		Args: oneVolume, ValidArgsFunction: c.volumeNames,
		RunE: func(cmd *cobra.Command, args []string) error { return c.backUpHeader(cmd.Context(), args[0]) },
	}
}

func (c *cli) backUpHeader(ctx context.Context, name string) error {
	client := c.client()
	defer client.Close()
	b, err := client.BackUpHeader(ctx, name)
	if err != nil {
		return &stepError{title: backUpHeader, err: err}
	}
	return c.print(b, func() {
		what := "The header is in"
		if !b.Fresh {
			what = "The header has not changed since"
		}
		fmt.Fprintf(c.stdout, "%s %s\n", what, b.Path)
		for _, file := range b.Removed {
			fmt.Fprintf(c.stdout, "Removed, as too many: %s\n", file)
		}
		fmt.Fprint(c.stdout, wrap("", "Keep a copy of it off this host. It is worthless without the customer's key; and once that key, or the data key, was replaced, an old backup brings the old one back: then destroy the copies."))
	})
}

func (c *cli) headerRestoreCommand() *cobra.Command {
	var order volume.HeaderOrder
	cmd := &cobra.Command{
		Use: "restore NAME", Short: "Put a header back from a backup (root)",
		Long: `Put a header back onto the volume, by default from the newest backup of the
generation that this host knows. The image passes every check with a live proof
first, and what is on the disk is kept beside the backups. Then it is written,
read back and tried, and a volume that is to be mounted opens. A mounted one is not
disturbed: the kernel does not read the header again. If it is interrupted, say
it again.

Rule out tampering first: a header that somebody edited is evidence.`,
		Args: oneVolume, ValidArgsFunction: c.volumeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkHeaderOrder(cmd, order); err != nil {
				return err
			}
			return c.restoreHeader(cmd.Context(), args[0], order)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&order.From, "from", "", "a file in /var/lib/volseal/headers/NAME, by its name alone")
	flags.IntVar(&order.Generation, "generation", 0, "the newest backup of this generation")
	flags.BoolVar(&order.AcceptOlder, "accept-older", false, "take a header that brings back a data key which was replaced")
	flags.BoolVar(&order.AcceptForeign, "accept-foreign", false, "take a header that this host does not know as this volume's")
	return cmd
}

func checkHeaderOrder(cmd *cobra.Command, o volume.HeaderOrder) error {
	switch {
	case cmd.Flags().Changed("from") && cmd.Flags().Changed("generation"):
		return &usageError{message: "--from and --generation exclude each other"}
	case cmd.Flags().Changed("generation") && o.Generation < 1:
		return &usageError{message: "--generation takes a number from 1"}
	case cmd.Flags().Changed("from") && (o.From == "" || o.From != filepath.Base(o.From)):
		return &usageError{
			message: "--from takes the name of a file, without a directory",
			hint:    hintHeaderImage,
		}
	}
	return nil
}

func (c *cli) restoreHeader(ctx context.Context, name string, order volume.HeaderOrder) error {
	client := c.client()
	defer client.Close()
	done, err := client.RestoreHeader(ctx, name, order)
	if err != nil {
		return &stepError{title: restoreHeader, err: err}
	}
	return c.print(done, func() { c.printRestored(done) })
}

func (c *cli) printRestored(d volume.HeaderRestored) {
	if d.Written {
		fmt.Fprintf(c.stdout, "%s: the header of generation %d is back, from\n  %s\nWhat was there before is kept as\n  %s\n", d.Volume, d.Generation, d.Path, d.Replaced)
	} else {
		fmt.Fprintf(c.stdout, "%s: the header on the disk is sound, and equal to\n  %s\n", d.Volume, d.Path)
	}
	next := "If the volume is to be mounted, it opens by itself now; see volseal status " + d.Volume
	if d.Quarantine != "" {
		next = "It stays quarantined for another cause (" + d.Quarantine + "): see volseal explain " + d.Volume
	}
	fmt.Fprint(c.stdout, wrap("", next))
}
