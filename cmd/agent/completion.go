// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

func (c *cli) completionCommand(root *cobra.Command) *cobra.Command {
	shells := []string{"bash", "fish", "zsh"}
	return &cobra.Command{
		Use: "completion SHELL", Short: "Print the completion script for bash, fish or zsh",
		Long: `Print a script that completes verbs, flags and the names of volumes. For bash:

  volseal completion bash > /etc/bash_completion.d/volseal`,
		Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs), ValidArgs: shells,
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

// volumeNames completes the names of volumes, if the agent answers soon.
func (c *cli) volumeNames(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	const patience = time.Second
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), patience)
	defer cancel()
	client := c.client()
	defer client.Close()
	snapshot, err := client.Status(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []cobra.Completion
	for _, v := range snapshot.Volumes {
		names = append(names, cobra.CompletionWithDesc(v.Name, string(v.Phase)))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
