// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"

	"github.com/spf13/cobra"

	"github.com/volseal/volseal/test/lab/world/control"
)

func (c *cli) snapshot() *cobra.Command {
	cmd := &cobra.Command{Use: "snapshot COMMAND", Short: "Snapshots"}
	group(cmd)
	cmd.AddCommand(
		&cobra.Command{
			Use: "create VOL", Short: "Take a snapshot, wait until it is completed, print its id", Args: cobra.ExactArgs(1),
			RunE: do(func(cmd *cobra.Command, args []string) error {
				return c.newSnapshot(cmd, "/snapshots", control.CreateSnapshot{Volume: args[0]})
			}),
		},
		c.snapshotCopy(),
		&cobra.Command{
			Use: "show SNAP", Short: "Print a snapshot's state as JSON", Args: cobra.ExactArgs(1),
			RunE: do(func(cmd *cobra.Command, args []string) error {
				return c.copyOut(cmd.Context(), http.MethodGet, control.Path("snapshots", args[0]), nil)
			}),
		},
		&cobra.Command{
			Use: "delete SNAP", Short: "Delete a snapshot", Args: cobra.ExactArgs(1),
			RunE: do(func(cmd *cobra.Command, args []string) error {
				return c.post(cmd.Context(), nil, "snapshots", args[0], "delete")
			}),
		},
	)
	return cmd
}

func (c *cli) snapshotCopy() *cobra.Command {
	var in control.CopySnapshot
	cmd := &cobra.Command{
		Use: "copy SNAP --key ARN", Short: "Copy a snapshot under another key, print the copy's id", Args: cobra.ExactArgs(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			if in.Key == "" {
				return usageError("name the copy's --key")
			}
			return c.newSnapshot(cmd, control.Path("snapshots", args[0], "copy"), in)
		}),
	}
	cmd.Flags().StringVar(&in.Key, "key", "", "ARN of the copy's key")
	return cmd
}

func (c *cli) newSnapshot(cmd *cobra.Command, path string, in any) error {
	var made control.Snapshot
	if err := c.world.Call(cmd.Context(), http.MethodPost, path, in, &made); err != nil {
		return err
	}
	return c.println(made.ID)
}
