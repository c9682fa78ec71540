// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

func (c *cli) keyCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check ARN", Short: "Find out whether a CMK can be used for volumes", Args: oneKey,
		Long: `Ask KMS, as the role of this host, everything about a CMK that a volume needs: its
kind, its state, and by dry runs each permission. A line for each, with a remedy;
and the statements that the key's policy lacks. Nothing is changed, and no volume
need be configured with the key.

The exit code is 0 if nothing failed, else that of the first failure's class.
What cannot be tried here is skipped, and fails nothing.`,
		RunE: func(cmd *cobra.Command, args []string) error { return c.keyCheck(cmd.Context(), args[0]) },
	}
}

// oneKey demands the ARN of a key, or of an alias, about which the agent knows more.
func oneKey(_ *cobra.Command, args []string) error {
	switch {
	case len(args) != 1:
		return &usageError{message: fmt.Sprintf("key check takes the ARN of one key, not %d arguments", len(args)), hint: hintKeyARN}
	case !envelope.ValidKeyARN(args[0]) && !strings.Contains(args[0], ":alias/"):
		return &usageError{
			message: fmt.Sprintf("%.128q is not the ARN of a KMS key", args[0]),
			hint:    hintKeyARN,
		}
	}
	return nil
}

func (c *cli) keyCheck(ctx context.Context, arn string) error {
	client := c.client()
	defer client.Close()
	report, err := client.CheckKey(ctx, arn)
	if err != nil {
		return &stepError{title: "Check key", err: err}
	}
	if err := c.print(report, func() { c.printKeyReport(report) }); err != nil {
		return err
	}
	return checksFailed("Check key", report.Checks)
}

func (c *cli) printKeyReport(r control.KeyReport) {
	fmt.Fprintln(c.stdout, r.ARN)
	if r.Principal != "" {
		fmt.Fprintln(c.stdout, "as a principal of", r.Principal)
	}
	fmt.Fprintln(c.stdout)
	c.printChecks(r.Checks)
	if len(r.Missing) == 0 {
		return
	}
	fmt.Fprint(c.stdout, "\n", wrap("", "The key's policy lacks the following (missing_statements). The customer adds it, in the place of a statement with the same Sid:"), "\n")
	printStatements(c.stdout, r.Missing)
}

// printChecks prints a line for each check, wrapped, and its remedy. What was
// last said of a line of the same status is not said again.
func (c *cli) printChecks(checks []fault.Check) {
	const column = "         "
	said := map[fault.CheckStatus]string{}
	for _, check := range checks {
		word, detail, remedy := string(check.Status), check.Detail, check.Remedy
		if said[check.Status] == detail+remedy && check.Status != fault.CheckOK {
			detail, remedy = "As above.", ""
		} else {
			said[check.Status] = detail + remedy
		}
		lines := wrap(column, check.Name+": "+detail)
		fmt.Fprint(c.stdout, c.paint(word, checkColour(check.Status)), lines[len(word):])
		if remedy != "" {
			fmt.Fprint(c.stdout, wrap(column+"remedy: ", remedy))
		}
	}
}

func checkColour(s fault.CheckStatus) colour {
	switch s {
	case fault.CheckOK:
		return green
	case fault.CheckWarn:
		return yellow
	case fault.CheckFailed:
		return red
	default:
		return plainText
	}
}

// checksFailed is the failure that a report amounts to, nil if nothing failed:
// of the class of the first, which others may follow from.
func checksFailed(title string, checks []fault.Check) error {
	first := fault.FirstFailed(checks)
	if first == nil {
		return nil
	}
	var names []string
	for _, c := range checks {
		if c.Status == fault.CheckFailed {
			names = append(names, c.Name)
		}
	}
	return &stepError{title: title, err: &fault.Error{
		Class: first.Class, Reason: first.Reason, Who: first.Who, Hint: first.Remedy,
		Cause: fmt.Sprintf("%s of %d failed (%s). %s: %s", count(len(names), "check"), len(checks), strings.Join(names, ", "), first.Name, first.Detail),
	}}
}
