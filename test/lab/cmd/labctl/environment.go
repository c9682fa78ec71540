// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/volseal/volseal/test/lab/world/control"
)

func (c *cli) fault() *cobra.Command {
	return &cobra.Command{
		Use:   "fault kms|ec2|imds off|blackhole|reset|latency=D|throttle|error=CODE[:N]",
		Short: "Break a service or its wire, in place of what is broken there already",
		Args:  cobra.ExactArgs(2),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{"kms", "ec2", "imds"}, args[0]) {
				return usageError(fmt.Sprintf("%q is none of kms, ec2, imds", args[0]))
			}
			err := c.post(cmd.Context(), control.Fault{Fault: args[1]}, "faults", args[0])
			var refused *control.Error
			if errors.As(err, &refused) && refused.Code == "InvalidFault" {
				return usageError(refused.Message)
			}
			return err
		}),
	}
}

func (c *cli) calls() *cobra.Command {
	since := int64(0)
	cmd := &cobra.Command{
		Use: "calls kms|ec2 [--since MARK]", Short: "Print the requests served so far, one JSON a line", Args: cobra.ExactArgs(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			if args[0] != "kms" && args[0] != "ec2" {
				return usageError(fmt.Sprintf("%q is neither kms nor ec2", args[0]))
			}
			return c.copyOut(cmd.Context(), http.MethodGet, fmt.Sprintf("%s?since=%d", control.Path("calls", args[0]), since), nil)
		}),
	}
	cmd.Flags().Int64Var(&since, "since", 0, "a mark: only what came after")
	return cmd
}

func (c *cli) mark() *cobra.Command {
	return &cobra.Command{
		Use: "mark", Short: "Print the present place in the log of calls", Args: cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			var now control.Mark
			if err := c.world.Call(cmd.Context(), http.MethodGet, "/mark", nil, &now); err != nil {
				return err
			}
			return c.println(now.Mark)
		}),
	}
}

// lastBreath is how long labctl waits for the end of the boot that it runs in.
const lastBreath = 5 * time.Minute

func (c *cli) host() *cobra.Command {
	return &cobra.Command{
		Use: "host reboot|power-cut|CMD [ARG…]", Short: "The machine's power, or a command on its host",
		DisableFlagParsing: true, // the command's flags are its own
		RunE: do(func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usageError("name reboot, power-cut or a command")
			case args[0] == "-h" || args[0] == "--help":
				return cmd.Help()
			case args[0] != "reboot" && args[0] != "power-cut":
				return c.copyOut(cmd.Context(), http.MethodPost, "/host/run", control.HostCommand{Args: args})
			case len(args) > 1:
				return usageError(args[0] + " takes no argument")
			}
			if err := c.post(cmd.Context(), nil, "host", args[0]); err != nil {
				return err
			}
			return sink(cmd.Context())
		}),
	}
}

// sink waits with the machine for its end: the script must not run on meanwhile.
func sink(ctx context.Context) error {
	select {
	case <-ctx.Done(): // the shutdown ends us too
		return nil
	case <-time.After(lastBreath):
		return local(errors.New("the machine is still up"))
	}
}

func (c *cli) ec2() *cobra.Command {
	cmd := &cobra.Command{Use: "ec2 COMMAND", Short: "What IAM lets anybody do in EC2"}
	group(cmd)
	cmd.AddCommand(
		&cobra.Command{
			Use: "deny ACTION…", Short: "Refuse actions, such as AttachVolume, to everybody", Args: cobra.MinimumNArgs(1),
			RunE: do(func(cmd *cobra.Command, args []string) error {
				return c.post(cmd.Context(), control.Deny{Actions: args}, "ec2", "deny")
			}),
		},
		&cobra.Command{
			Use: "allow", Short: "Refuse none", Args: cobra.NoArgs,
			RunE: do(func(cmd *cobra.Command, _ []string) error {
				return c.post(cmd.Context(), control.Deny{}, "ec2", "deny")
			}),
		},
	)
	return cmd
}

func (c *cli) credentials() *cobra.Command {
	return &cobra.Command{
		Use: "credentials expire|renew", Short: "The instance role's session, as the services see it", Args: cobra.ExactArgs(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			if args[0] != "expire" && args[0] != "renew" {
				return usageError(fmt.Sprintf("%q is neither expire nor renew", args[0]))
			}
			return c.post(cmd.Context(), control.Credentials{Expired: args[0] == "expire"}, "credentials")
		}),
	}
}
