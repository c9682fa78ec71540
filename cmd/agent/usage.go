// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// usageError is a command line that cannot be meant.
type usageError struct{ message, hint string }

func (e *usageError) Error() string { return e.message }

// chooseVerb is what a verb of two words does when the second is missing or unknown.
func chooseVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return &usageError{message: "a verb is missing after " + cmd.CommandPath()}
	}
	e := &usageError{message: fmt.Sprintf("unknown verb %q after %s", args[0], cmd.CommandPath())}
	// Set by cobra only on its own way to an error.
	cmd.SuggestionsMinimumDistance = 2
	e.hint = didYouMean("", cmd.SuggestionsFor(args[0]))
	return e
}

// flagError adds the nearest flag to the complaint about an unknown one.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return &usageError{message: err.Error()}
	}
	// Cobra measures the distance between the names of commands only.
	names := cobra.Command{SuggestionsMinimumDistance: 2}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		names.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
	})
	return &usageError{message: err.Error(), hint: didYouMean("--", names.SuggestionsFor(unknown.GetSpecifiedName()))}
}

func didYouMean(prefix string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "Did you mean " + prefix + strings.Join(names, " or "+prefix) + "?"
}

// oneVolume demands the one argument NAME.
func oneVolume(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 1 && args[0] != "":
		return nil
	case len(args) == 2 && cmd.Flags().Changed(waitFlag):
		if _, err := time.ParseDuration(args[1]); err == nil {
			return &usageError{message: "unexpected argument " + args[1], hint: "A limit is given with an equals sign: --wait=" + args[1]}
		}
	case len(args) > 1:
		return &usageError{message: fmt.Sprintf("%s takes one volume, not %d arguments", cmd.Name(), len(args))}
	}
	return &usageError{message: cmd.Name() + " needs the name of a volume", hint: "`volseal status` lists the names."}
}
