// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/volume"
)

const readStatus = "Read status"

func (c *cli) statusCommand() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use: "status [NAME]", Short: "Show the volumes", Args: atMost(1), ValidArgsFunction: c.volumeNames,
		SuggestFor: []string{"list", "ls", "show", "info", "get", "volumes"},
		Long: `Show every volume, or one in full with the layers it is made of, the disk at
the bottom. With --json: {"volumes":[…],"keys":[…]}, of which NAME leaves that
volume and its key. Reading succeeds whatever is read: the exit code is 0 also
when volumes fail.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.status(cmd.Context(), strings.Join(args, ""), watch)
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again whenever it changes")
	return cmd
}

func (c *cli) status(ctx context.Context, name string, watch bool) error {
	client := c.client()
	defer client.Close()
	show := func(s volume.Snapshot) error { return c.showStatus(s, name) }
	var err error
	if watch {
		err = c.watch(ctx, client, show)
	} else {
		var s volume.Snapshot
		if s, err = client.Status(ctx); err == nil {
			err = show(s)
		}
	}
	if err != nil {
		return &stepError{title: readStatus, err: err}
	}
	return nil
}

// watch shows each change: in place on a terminal, else one after the other.
func (c *cli) watch(ctx context.Context, client *control.Client, show func(volume.Snapshot) error) error {
	first := true
	err := client.Watch(ctx, func(s volume.Snapshot) error {
		switch {
		case c.json, c.quiet:
		case c.tty:
			fmt.Fprint(c.stdout, "\x1b[H\x1b[2J")
		case !first:
			fmt.Fprintln(c.stdout)
		}
		first = false
		return show(s)
	})
	if errors.Is(err, context.Canceled) {
		err = nil // the operator has seen enough
	}
	return err
}

func (c *cli) showStatus(s volume.Snapshot, name string) error {
	if name == "" {
		return c.print(s, func() { c.printTable(s) })
	}
	one, err := narrow(s, name)
	if err != nil {
		return err
	}
	return c.print(one, func() { c.printVolume(one) })
}

// narrow leaves one volume, and the key it is pinned to.
func narrow(s volume.Snapshot, name string) (volume.Snapshot, error) {
	i := slices.IndexFunc(s.Volumes, func(v volume.Status) bool { return v.Name == name })
	if i < 0 {
		return s, control.NoSuchVolume(name)
	}
	keys := []volume.KeyStatus{}
	for _, k := range s.Keys {
		if k.ARN == s.Volumes[i].KeyARN {
			keys = append(keys, k)
		}
	}
	return volume.Snapshot{Volumes: s.Volumes[i : i+1], Keys: keys}, nil
}

func phaseColour(s volume.Status) colour {
	switch {
	case s.Phase == volume.Quarantined:
		return red
	case s.Phase == volume.Mounted:
		return green
	case s.Satisfied():
		return plainText
	}
	return yellow
}

// reboot is the word for whether a volume would be mounted again.
func reboot(s volume.Status) (string, colour) {
	switch {
	case s.Phase != volume.Mounted:
		return "-", plainText
	case s.WouldSurviveReboot:
		return "safe", plainText
	}
	return "UNSAFE", red
}
