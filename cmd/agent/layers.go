// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"

	"github.com/volseal/volseal/internal/volume"
)

// printLayers prints what lies on what, the disk at the bottom.
func (c *cli) printLayers(v volume.Status) {
	head := "layers"
	for _, l := range slices.Backward(v.Layers) {
		text, more := c.layer(l, v.KeyARN)
		fmt.Fprintf(c.stdout, "%-11s %-10s %s\n", head, l.Layer, text)
		for _, line := range more {
			fmt.Fprintf(c.stdout, "  %s\n", line) // long, and to be copied: in a line of its own
		}
		head = ""
	}
	if head != "" {
		fmt.Fprintf(c.stdout, "%-11s -\n", head)
	}
}

// layer describes one; more are lines below it. A layer of a newer agent is
// shown by its name.
func (c *cli) layer(l volume.Layer, pinned string) (text string, more []string) {
	switch l.Layer {
	case volume.LayerEBS:
		return c.ebsLayer(l, pinned)
	case volume.LayerLUKS2:
		if l.Cipher == "" {
			return "open", nil
		}
		return l.Cipher, nil
	case volume.LayerFilesystem:
		return l.Type, nil
	case volume.LayerEcryptfs:
		if l.Lower == l.Path {
			return l.Path, nil
		}
		return l.Path, []string{"over " + l.Lower}
	}
	return "-", nil
}

// ebsLayer shows a CMK that is not the pinned one in full: nothing is wrong with
// that, but nobody should take the one for the other.
func (c *cli) ebsLayer(l volume.Layer, pinned string) (text string, more []string) {
	said := fmt.Sprintf(" (EC2, %s ago)", c.ago(l.Asked))
	switch {
	case l.Encrypted == nil || !*l.Encrypted:
		return "not encrypted" + said, nil
	case l.KeyARN == "":
		return "encrypted, CMK not told" + said, nil
	case l.KeyARN == pinned:
		return "encrypted under the same CMK" + said, nil
	}
	return "encrypted under another CMK" + said, []string{l.KeyARN}
}
