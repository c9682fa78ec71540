// SPDX-License-Identifier: Apache-2.0

// Command volseal is the agent and its command line in one binary. Here lives
// what knows the whole program: wiring, verbs, exit codes and hints. Decisions
// about volumes belong in internal/volume, not here.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/volseal/volseal/internal/config"
	"github.com/volseal/volseal/internal/volume"
	"github.com/volseal/volseal/internal/volume/mount"
)

func main() {
	if filepath.Base(os.Args[0]) == mount.GeneratorName {
		generate(os.Args[1:])
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := runCLI(ctx, os.Args[1:], newTerminal(os.Stdout, os.Stderr), agentCommand())
	stop()
	os.Exit(code)
}

// generate is what systemd runs early in each boot and at each daemon-reload.
func generate(dirs []string) {
	log := mount.KernelLog()
	defer log.Close()
	mount.RunGenerator(dirs, func() ([]volume.Spec, error) { return config.Salvage(configDir) }, mount.LastSound, log)
}

func agentCommand() *cobra.Command {
	dir := configDir
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the daemon; systemd does this",
		Long: `agent attaches, unlocks and has mounted the configured volumes, and keeps them so.
It is started by volseal.service and takes its control socket from systemd.
SIGHUP reloads the configuration; SIGTERM ends it and leaves every volume as it is.`,
		Args: noArguments, SuggestFor: []string{"daemon", "run", "serve"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runAgent(cmd.Context(), newLogger(os.Stderr), dir)
		},
	}
	cmd.Flags().StringVar(&dir, "config", dir, "`DIR` of the configuration")
	return cmd
}
