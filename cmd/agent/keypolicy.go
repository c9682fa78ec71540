// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/volseal/volseal/internal/keypolicy"
)

func (c *cli) keyPolicyCommand() *cobra.Command {
	principal := ""
	cmd := &cobra.Command{
		Use: "policy --principal ACCOUNT", Short: "Print the statements that share a CMK", Args: noArguments,
		Long: `Print the two statements that a customer adds to the policy of a CMK, so that the
account may use it for volumes. No agent and no AWS is asked.

The principal is an account's number, or an ARN of its root or of one role:
arn:aws:iam::ACCOUNT:root, arn:aws:iam::ACCOUNT:role/NAME.`,
		RunE: func(*cobra.Command, []string) error {
			if principal == "" {
				return &usageError{message: "--principal is missing", hint: hintPrincipal}
			}
			who, err := keypolicy.Parse(principal)
			if err != nil {
				return &usageError{message: "--principal: " + err.Error()}
			}
			statements := keypolicy.Statements(who)
			return c.print(statements, func() { printStatements(c.stdout, statements) })
		},
	}
	cmd.Flags().StringVar(&principal, "principal", "", "`ACCOUNT` that is to use the key, or the ARN of its root or of a role")
	return cmd
}

// printStatements prints them as they are pasted.
func printStatements(w io.Writer, statements []keypolicy.Statement) {
	text, _ := json.MarshalIndent(statements, "", "  ") // strings only: cannot fail
	fmt.Fprintf(w, "%s\n", text)
}
