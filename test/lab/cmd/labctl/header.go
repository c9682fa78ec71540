// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/volseal/volseal/test/lab/luksedit"
	"github.com/volseal/volseal/test/lab/world/control"
)

// header is an attacker who edits the LUKS2 header of a detached volume and
// makes every checksum right again.
func (c *cli) header() *cobra.Command {
	cmd := &cobra.Command{Use: "header COMMAND", Short: "An attacker's edits of the LUKS2 header of a detached volume, with right checksums"}
	group(cmd)
	cmd.AddCommand(c.headerText(), c.headerSet(), c.headerField())
	return cmd
}

func (c *cli) headerText() *cobra.Command {
	return &cobra.Command{
		Use: "text VOL", Short: "Print the metadata of the first copy", Args: cobra.ExactArgs(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			h, err := c.loadHeader(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.println(string(h.Text(luksedit.Primary)))
		}),
	}
}

func (c *cli) headerSet() *cobra.Command {
	size := 0
	cmd := &cobra.Command{
		Use: "set VOL FILE [--size BYTES]", Short: "Replace the metadata in both copies by a file's bytes; - reads stdin", Args: cobra.ExactArgs(2),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			text, err := c.readFile(args[1])
			if err != nil {
				return err
			}
			h, err := c.loadHeader(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if size != 0 {
				if h, err = h.Grow(size); err != nil {
					return usageError(err.Error())
				}
			}
			text = bytes.TrimSuffix(text, []byte("\n"))
			for _, copied := range []luksedit.Copy{luksedit.Primary, luksedit.Secondary} {
				if err := h.SetText(copied, text); err != nil {
					return local(err)
				}
			}
			return c.storeHeader(cmd.Context(), args[0], h)
		}),
	}
	cmd.Flags().IntVar(&size, "size", 0, "make each copy that large")
	return cmd
}

func (c *cli) headerField() *cobra.Command {
	fields := map[string]luksedit.Field{
		"magic": luksedit.Magic, "version": luksedit.Version, "label": luksedit.Label, "checksum-kind": luksedit.ChecksumKind,
		"uuid": luksedit.UUID, "subsystem": luksedit.Subsystem,
	}
	names := strings.Join(slices.Sorted(maps.Keys(fields)), "|")
	return &cobra.Command{
		Use: "field VOL " + names + " TEXT", Short: "Change a field of the binary header, in both copies", Args: cobra.ExactArgs(3),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			field, ok := fields[args[1]]
			if !ok {
				return usageError(fmt.Sprintf("%q is none of %s", args[1], names))
			}
			h, err := c.loadHeader(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			h.Set(luksedit.Primary, field, []byte(args[2]))
			h.Set(luksedit.Secondary, field, []byte(args[2]))
			return c.storeHeader(cmd.Context(), args[0], h)
		}),
	}
}

func (c *cli) loadHeader(ctx context.Context, id string) (luksedit.Header, error) {
	path := fmt.Sprintf("%s?offset=0&length=%d", control.Path("volumes", id, "data"), luksedit.Bytes)
	answer, err := c.world.Raw(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Close() }()
	h := make(luksedit.Header, luksedit.Bytes)
	if _, err := io.ReadFull(answer, h); err != nil {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	return h, nil
}

func (c *cli) storeHeader(ctx context.Context, id string, h luksedit.Header) error {
	path := control.Path("volumes", id, "data") + "?offset=0"
	answer, err := c.world.Raw(ctx, http.MethodPut, path, bytes.NewReader(h))
	if err != nil {
		return err
	}
	return answer.Close()
}
