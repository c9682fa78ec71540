// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"github.com/volseal/volseal/test/lab/world/control"
)

func (c *cli) key() *cobra.Command {
	cmd := &cobra.Command{Use: "key COMMAND", Short: "Keys of the customer's KMS"}
	group(cmd)
	cmd.AddCommand(c.keyCreate(), c.keyPolicy(), c.keyDeny(), c.keyAllow(), c.keyShow(), c.keyUnwrap())
	for _, change := range []struct{ name, short string }{
		{"disable", "Disable a key"},
		{"enable", "Enable it again"},
		{"schedule-deletion", "Let a key wait for its deletion"},
		{"cancel-deletion", "Take that back; the key is disabled then"},
		{"delete", "Delete a key at once"},
		{"import", "Give a key of origin EXTERNAL its material"},
		{"rotate", "Give a key a new backing key"},
	} {
		cmd.AddCommand(&cobra.Command{
			Use: change.name + " ARN", Short: change.short, Args: cobra.ExactArgs(1),
			RunE: do(func(cmd *cobra.Command, args []string) error {
				return c.post(cmd.Context(), control.KeyChange{ARN: args[0], Change: change.name}, "keys", "change")
			}),
		})
	}
	return cmd
}

func (c *cli) keyCreate() *cobra.Command {
	var in control.CreateKey
	cmd := &cobra.Command{
		Use:   "create [--spec RSA_2048] [--origin EXTERNAL] [--region R] [--account A] [--unshared]",
		Short: "Create a key and print its ARN", Args: cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			var made control.Key
			if err := c.world.Call(cmd.Context(), http.MethodPost, "/keys", in, &made); err != nil {
				return err
			}
			return c.println(made.ARN)
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&in.Spec, "spec", "", "key spec (default SYMMETRIC_DEFAULT)")
	flags.StringVar(&in.Origin, "origin", "", "origin of the material (default AWS_KMS)")
	flags.StringVar(&in.Region, "region", "", "region (default us-east-1)")
	flags.StringVar(&in.Account, "account", "", "owning account (default 111111111111, the customer's)")
	flags.BoolVar(&in.Unshared, "unshared", false, "do not let the platform's account use it")
	return cmd
}

func (c *cli) keyPolicy() *cobra.Command {
	return &cobra.Command{
		Use: "policy ARN FILE", Short: "Replace the key policy; - reads it from stdin", Args: cobra.ExactArgs(2),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			policy, err := c.readFile(args[1])
			if err != nil {
				return err
			}
			return c.post(cmd.Context(), control.KeyPolicy{ARN: args[0], Policy: string(policy)}, "keys", "policy")
		}),
	}
}

func (c *cli) keyDeny() *cobra.Command {
	return &cobra.Command{
		Use: "deny ARN ACTION…", Short: "Deny actions, such as Decrypt, to the platform's account", Args: cobra.MinimumNArgs(2),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			return c.post(cmd.Context(), control.KeyDeny{ARN: args[0], Actions: args[1:]}, "keys", "deny")
		}),
	}
}

func (c *cli) keyAllow() *cobra.Command {
	return &cobra.Command{
		Use: "allow ARN", Short: "Take back every denial", Args: cobra.ExactArgs(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			return c.post(cmd.Context(), control.Key{ARN: args[0]}, "keys", "allow")
		}),
	}
}

func (c *cli) keyShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ARN", Short: "Print a key's state as JSON", Args: cobra.ExactArgs(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			return c.copyOut(cmd.Context(), http.MethodPost, "/keys/show", control.Key{ARN: args[0]})
		}),
	}
}

func (c *cli) keyUnwrap() *cobra.Command {
	return &cobra.Command{
		Use: "unwrap ARN WRAPPED CONTEXT", Short: "Print a data key in hexadecimal; WRAPPED is base64, CONTEXT a JSON object", Args: cobra.ExactArgs(3),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			in := control.Wrapped{ARN: args[0]}
			var err error
			if in.Wrapped, err = base64.StdEncoding.DecodeString(args[1]); err != nil {
				return usageError("WRAPPED: " + err.Error())
			}
			if err := json.Unmarshal([]byte(args[2]), &in.Context); err != nil {
				return usageError("CONTEXT: " + err.Error())
			}
			var out control.DataKey
			if err := c.world.Call(cmd.Context(), http.MethodPost, "/keys/unwrap", in, &out); err != nil {
				return err
			}
			return c.println(hex.EncodeToString(out.Plain))
		}),
	}
}

// readFile reads an argument that names a file; - is stdin.
func (c *cli) readFile(name string) ([]byte, error) {
	if name == "-" {
		return readAll(c.in)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, local(fmt.Errorf("read file: %w", err))
	}
	defer func() { _ = f.Close() }()
	return readAll(f)
}
