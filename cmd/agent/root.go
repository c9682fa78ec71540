// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/volseal/volseal/internal/control"
)

// terminal is the world a command line is typed into.
type terminal struct {
	stdout, stderr io.Writer
	tty, ttyErr    bool // stdout and stderr are terminals
	plain          bool // no colour, even on a terminal
	now            func() time.Time
}

// cli is the terminal and the global flags; every verb has it.
type cli struct {
	terminal
	socket string
	json   bool
	quiet  bool
}

// runCLI runs one command line and returns its exit code. extra are the verbs
// that do not speak to the agent but are it.
func runCLI(ctx context.Context, args []string, t terminal, extra ...*cobra.Command) int {
	c := &cli{terminal: t}
	root := newRootCommand(c, extra...)
	root.SetArgs(args)
	// Cobra refuses a bad command line before the verb itself begins.
	began := false
	root.PersistentPreRun = func(*cobra.Command, []string) { began = true }
	cmd, err := root.ExecuteContextC(ctx)
	var usage *usageError
	if err != nil && !began && !errors.As(err, &usage) {
		err = &usageError{message: err.Error()}
	}
	if err != nil {
		c.reportFailure(ctx, cmd, err)
	}
	return exitCode(err)
}

func newRootCommand(c *cli, extra ...*cobra.Command) *cobra.Command {
	root := &cobra.Command{
		Use:   "volseal VERB",
		Short: "Unlock encrypted EBS volumes while their KMS keys are usable",
		Long: `The agent, volseal.service, attaches the EBS volumes of the configuration, opens
the encryption on each with a data key that the customer's KMS key (CMK) has
wrapped, and has systemd mount it. It refuses to mount whenever the CMK cannot be
proved usable right now. A mounted volume is left alone by a stop, a restart or an
upgrade of the agent.

Every other verb asks the agent over its socket, or looks at this host. Members of
the group volseal may look, those of the operator group may act, and what cannot
be undone takes root.`,
		Example: `volseal status
volseal explain orders
volseal reattach orders --wait=5m`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          chooseVerb,
	}
	root.CompletionOptions.DisableDefaultCmd = true // it takes an unknown shell for no error
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	root.SetFlagErrorFunc(flagError)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { printHelp(c.stdout, cmd) })
	root.SetHelpCommand(c.helpCommand(root))
	flags := root.PersistentFlags()
	flags.StringVar(&c.socket, "socket", control.DefaultSocket, "`PATH` of the agent's control socket")
	flags.BoolVar(&c.json, "json", false, "print JSON, one value a line")
	flags.BoolVarP(&c.quiet, "quiet", "q", false, "print nothing but failures")
	root.AddCommand(extra...)
	root.AddCommand(
		c.statusCommand(), c.explainCommand(),
		c.createCommand(), c.restoreCommand(), c.initCommand(), c.unlockCommand(), c.lockCommand(), c.reattachCommand(), c.releaseCommand(),
		c.rotateCommand(),
		group("header", "The LUKS2 header of a volume", c.headerVerifyCommand(), c.headerBackupCommand(), c.headerRestoreCommand()),
		group("cache", "The agent's data-key cache", c.cacheFlushCommand()),
		group("config", "The configuration files", c.configCheckCommand()),
		group("key", "The customer's key and its policy", c.keyCheckCommand(), c.keyPolicyCommand()),
		c.reloadCommand(), c.doctorCommand(), c.versionCommand(), c.completionCommand(root),
	)
	return root
}

// group is a verb of two words.
func group(name, short string, verbs ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: name, Short: short, Args: cobra.ArbitraryArgs, RunE: chooseVerb}
	g.AddCommand(verbs...)
	return g
}

// client is for one verb; the caller closes it.
func (c *cli) client() *control.Client { return control.NewClient(c.socket) }
