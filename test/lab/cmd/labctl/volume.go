// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/volseal/volseal/test/lab/world/control"
)

// maxFile bounds what is sent; the world takes no more at a time.
const maxFile = 64 << 20

func (c *cli) volume() *cobra.Command {
	cmd := &cobra.Command{Use: "volume COMMAND", Short: "EBS volumes, from outside the agent"}
	group(cmd)
	cmd.AddCommand(
		c.volumeCreate(), c.volumeList(), c.volumeImage(), c.volumeShow(), c.volumeDelete(),
		c.move("attach", "Attach a volume and wait until it is attached or sticks"),
		c.move("detach", "Detach a volume and wait until it is available, busy, or sticks"),
		c.move("force-detach", "Detach a volume whatever the guest does with it"),
		c.volumeStick(), c.volumeMultiAttach(), c.volumeWrite(), c.volumeRead(),
	)
	return cmd
}

func (c *cli) volumeCreate() *cobra.Command {
	var in control.CreateVolume
	cmd := &cobra.Command{
		Use:   "create --size GIB [--key ARN] [--snapshot SNAP] [--unencrypted] [--zone Z] [--no-wait]",
		Short: "Create a volume, wait until it is available, print its id", Args: cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			if in.SizeGiB == 0 && in.Snapshot == "" {
				return usageError("name a --size in GiB, or a --snapshot")
			}
			var made control.Volume
			if err := c.world.Call(cmd.Context(), http.MethodPost, "/volumes", in, &made); err != nil {
				return err
			}
			return c.println(made.ID)
		}),
	}
	flags := cmd.Flags()
	flags.IntVar(&in.SizeGiB, "size", 0, "size in GiB (default the snapshot's)")
	flags.StringVar(&in.Key, "key", "", "ARN of the key (default the snapshot's, or the account's default key)")
	flags.StringVar(&in.Snapshot, "snapshot", "", "snapshot to create it from")
	flags.BoolVar(&in.Unencrypted, "unencrypted", false, "without EBS encryption")
	flags.StringVar(&in.Zone, "zone", "", "availability zone (default the machine's)")
	flags.BoolVar(&in.NoWait, "no-wait", false, "print the id at once")
	return cmd
}

func (c *cli) volumeList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "Print the state of all volumes as JSON", Args: cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			return c.copyOut(cmd.Context(), http.MethodGet, "/volumes", nil)
		}),
	}
}

func (c *cli) volumeImage() *cobra.Command {
	return &cobra.Command{
		Use: "image VOL", Short: "Print the host path of the raw image", Args: cobra.ExactArgs(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			var image control.Image
			if err := c.world.Call(cmd.Context(), http.MethodGet, control.Path("volumes", args[0], "image"), nil, &image); err != nil {
				return err
			}
			return c.println(image.Path)
		}),
	}
}

func (c *cli) volumeShow() *cobra.Command {
	return &cobra.Command{
		Use: "show VOL", Short: "Print a volume's state as JSON", Args: cobra.ExactArgs(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			return c.copyOut(cmd.Context(), http.MethodGet, control.Path("volumes", args[0]), nil)
		}),
	}
}

func (c *cli) volumeDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete VOL", Short: "Delete a detached volume", Args: cobra.ExactArgs(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			return c.post(cmd.Context(), nil, "volumes", args[0], "delete")
		}),
	}
}

// move prints the state a volume came to: of its attachment to the instance, or
// its own where it has none.
func (c *cli) move(verb, short string) *cobra.Command {
	var in control.Move
	cmd := &cobra.Command{
		Use: verb + " VOL [--instance I] [--no-wait]", Short: short, Args: cobra.ExactArgs(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			var now control.Volume
			if err := c.world.Call(cmd.Context(), http.MethodPost, control.Path("volumes", args[0], verb), in, &now); err != nil {
				return err
			}
			return c.println(now.StateOn(in.Instance))
		}),
	}
	cmd.Flags().StringVar(&in.Instance, "instance", "", "another instance than this one")
	cmd.Flags().BoolVar(&in.NoWait, "no-wait", false, "do not wait for the end of it")
	return cmd
}

func (c *cli) volumeStick() *cobra.Command {
	return &cobra.Command{
		Use: "stick VOL attaching|detaching|off", Short: "Keep that transition, the one under way or the next, from ending", Args: cobra.ExactArgs(2),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{"attaching", "detaching", "off"}, args[1]) {
				return usageError(fmt.Sprintf("%q is none of attaching, detaching, off", args[1]))
			}
			return c.post(cmd.Context(), control.Stick{Transition: args[1]}, "volumes", args[0], "stick")
		}),
	}
}

func (c *cli) volumeMultiAttach() *cobra.Command {
	return &cobra.Command{
		Use: "multi-attach VOL on|off", Short: "Set the Multi-Attach flag", Args: cobra.ExactArgs(2),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			if args[1] != "on" && args[1] != "off" {
				return usageError(fmt.Sprintf("%q is neither on nor off", args[1]))
			}
			return c.post(cmd.Context(), control.MultiAttach{Enabled: args[1] == "on"}, "volumes", args[0], "multi-attach")
		}),
	}
}

func (c *cli) volumeWrite() *cobra.Command {
	return &cobra.Command{
		Use: "write VOL OFFSET FILE", Short: "Overwrite bytes of a detached volume; - reads them from stdin", Args: cobra.ExactArgs(3),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			offset, err := bytesAt(args[1])
			if err != nil {
				return err
			}
			content, err := c.readFile(args[2])
			if err != nil {
				return err
			}
			path := fmt.Sprintf("%s?offset=%d", control.Path("volumes", args[0], "data"), offset)
			answer, err := c.world.Raw(cmd.Context(), http.MethodPut, path, bytes.NewReader(content))
			if err != nil {
				return err
			}
			return answer.Close()
		}),
	}
}

func (c *cli) volumeRead() *cobra.Command {
	return &cobra.Command{
		Use: "read VOL OFFSET LENGTH", Short: "Print bytes of a detached volume, raw", Args: cobra.ExactArgs(3),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			offset, err := bytesAt(args[1])
			if err != nil {
				return err
			}
			length, err := bytesAt(args[2])
			if err != nil {
				return err
			}
			path := fmt.Sprintf("%s?offset=%d&length=%d", control.Path("volumes", args[0], "data"), offset, length)
			return c.copyOut(cmd.Context(), http.MethodGet, path, nil)
		}),
	}
}

// bytesAt reads a number of bytes, decimal or 0x….
func bytesAt(word string) (int64, error) {
	n, err := strconv.ParseInt(word, 0, 64)
	if err != nil || n < 0 {
		return 0, usageError(fmt.Sprintf("%q is no number of bytes", word))
	}
	return n, nil
}

func readAll(r io.Reader) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, local(fmt.Errorf("read file: %w", err))
	}
	if len(content) > maxFile {
		return nil, local(fmt.Errorf("read file: more than %d bytes", maxFile))
	}
	return content, nil
}

// copyOut prints the world's answer as it is.
func (c *cli) copyOut(ctx context.Context, method, path string, in any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return local(fmt.Errorf("encode request: %w", err))
		}
		body = bytes.NewReader(raw)
	}
	answer, err := c.world.Raw(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }()
	if _, err := io.Copy(c.out, answer); err != nil {
		return fmt.Errorf("pass the world's answer on: %w", err)
	}
	return nil
}
