// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/volseal/volseal/internal/volume"
)

func (c *cli) completionCommand(root *cobra.Command) *cobra.Command {
	shells := []string{"bash", "fish", "zsh"}
	return &cobra.Command{
		Use: "completion SHELL", Short: "Print the completion script for bash, fish or zsh",
		Long:    "Print a script that completes verbs, flags and the names of volumes. The packages\ninstall it for all three shells.",
		Example: "volseal completion bash > /etc/bash_completion.d/volseal",
		Args:    oneOf(shells), ValidArgs: shells,
		RunE: func(_ *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(c.stdout, true)
			case "fish":
				return root.GenFishCompletion(c.stdout, true)
			}
			return root.GenZshCompletion(c.stdout)
		},
	}
}

func oneOf(shells []string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return &usageError{message: cmd.Name() + " needs the name of a shell", hint: hintShells}
		case !slices.Contains(shells, args[0]):
			return &usageError{message: fmt.Sprintf("there is no completion for %.80q", args[0]), hint: hintShells}
		}
		return atMost(1)(cmd, args)
	}
}

// volumeNames completes the names of volumes.
func (c *cli) volumeNames(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var names []cobra.Completion
	if len(args) == 0 {
		for _, v := range c.knownVolumes(cmd.Context()) {
			names = append(names, cobra.CompletionWithDesc(v.Name, string(v.Phase)))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// knownVolumes are the volumes, if the agent answers soon.
func (c *cli) knownVolumes(ctx context.Context) []volume.Status {
	const patience = time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client := c.client()
	defer client.Close()
	snapshot, err := client.Status(ctx)
	if err != nil {
		return nil
	}
	return snapshot.Volumes
}
