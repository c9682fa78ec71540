// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/volseal/volseal/internal/volume"
)

func (c *cli) createCommand() *cobra.Command {
	o := volume.Order{Verb: volume.VerbCreate}
	cmd := c.orderCommand("create NAME --size GIB", "Have EC2 make a volume, format it, and mount it (root)",
		`Have EC2 make a volume for a name that is configured without volume_id: of type
gp3, in this instance's zone, encrypted under the configured CMK. Then it is
attached, formatted as init does, and mounted.

A CMK that cannot be used is told before anything is made. EC2 itself checks it
only after it has said yes: the volume then vanishes. Either way the order stands,
and the volume is made by itself once the customer has shared the key; release
calls the order off. However often the agent is killed, one volume is made; status
names it as soon as EC2 has.`, func() volume.Order { return o })
	cmd.Flags().IntVar(&o.SizeGiB, "size", 0, "how large the volume is to be: 1 to 16384 `GIB`")
	return cmd
}

func (c *cli) restoreCommand() *cobra.Command {
	o := volume.Order{Verb: volume.VerbRestore}
	cmd := c.orderCommand("restore NAME --snapshot SNAP [--key-arn ARN]", "Have EC2 make a volume from a snapshot, and mount it (root)",
		`Have EC2 make a volume from a snapshot, for a name that is configured without
volume_id: of the snapshot's size, in this instance's zone, encrypted under the
configured CMK. Then it is attached, unlocked and mounted. It is never formatted,
whatever it looks like.

The configuration must have the database and the encryption_context of the volume
that the snapshot was taken of: its header is bound to them. A snapshot that is not
completed yet is waited for. One that another account shares is first copied under
the CMK; the copy stays, and carries the tag volseal:volume.

With --key-arn the volume is made under that CMK instead, and its data key wrapped
anew by it, before the volume is first opened. The snapshot's own CMK must be
usable until then. Write the new one into key_arn afterwards: status says so.

release calls the order off.`,
		func() volume.Order { return o })
	cmd.Flags().StringVar(&o.KeyARN, "key-arn", "", "`ARN` of the CMK that the volume is to move to; by default it stays with the configured one")
	cmd.Flags().StringVar(&o.Snapshot, "snapshot", "", "what to make it from: the id of a snapshot, `SNAP`")
	return cmd
}
