// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// usageError is a command line that cannot be meant. about is the command that
// it is an error about, if it is not the one that ran.
type usageError struct {
	message, hint string
	about         *cobra.Command
}

func (e *usageError) Error() string { return e.message }

// chooseVerb is what a verb of two words does when the second is missing or unknown.
func chooseVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return &usageError{message: "a verb is missing after " + cmd.CommandPath(), hint: hintVerbs(cmd), about: cmd}
	}
	e := &usageError{message: fmt.Sprintf("unknown verb %.80q after %s", args[0], cmd.CommandPath()), about: cmd}
	e.hint = cmp.Or(didYouMean(nearVerbs(cmd, args)), verbFirst(cmd, args), didYouMean(nearVerbs(cmd, args[1:])), hintVerbs(cmd))
	return e
}

// verbFirst is the hint for a line such as volseal orders status.
func verbFirst(cmd *cobra.Command, args []string) string {
	for _, word := range args[1:] {
		if verb, _, err := cmd.Find([]string{word}); err == nil && verb != cmd {
			return hintVerbFirst(verb)
		}
	}
	return ""
}

// flagError says what may have been meant by a flag that makes no sense.
func flagError(cmd *cobra.Command, err error) error {
	var (
		unknown *pflag.NotExistError
		missing *pflag.ValueRequiredError
		invalid *pflag.InvalidValueError
	)
	switch {
	case errors.As(err, &unknown):
		name, _, _ := strings.Cut(cmp.Or(unknown.GetSpecifiedShortnames(), unknown.GetSpecifiedName()), "=")
		return &usageError{message: err.Error(), hint: cmp.Or(didYouMean(nearFlags(cmd, name)), hintElsewhere(cmd, name))}
	case errors.As(err, &missing):
		return &usageError{message: err.Error(), hint: hintFlag(missing.GetFlag())}
	case errors.As(err, &invalid):
		f := invalid.GetFlag()
		message := fmt.Sprintf("--%s does not take %.80q", f.Name, invalid.GetValue())
		if number := new(strconv.NumError); !errors.As(err, &number) {
			message += ": " + invalid.Unwrap().Error()
		}
		return &usageError{message: message, hint: hintFlag(f)}
	}
	return &usageError{message: err.Error()}
}

// oneVolume demands the one argument NAME.
func oneVolume(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 1 && args[0] != "":
		return nil
	case len(args) > 1:
		return &usageError{message: fmt.Sprintf("%s takes one volume, not %d arguments", cmd.Name(), len(args)), hint: hintExtra(cmd, args[1])}
	}
	return &usageError{message: cmd.Name() + " needs the name of a volume", hint: hintNames}
}

// noArguments refuses what would be ignored.
func noArguments(cmd *cobra.Command, args []string) error { return atMost(0)(cmd, args) }

// atMost allows so many arguments.
func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) <= n {
			return nil
		}
		return &usageError{message: fmt.Sprintf("%s takes no further argument %.80q", cmd.Name(), args[n]), hint: hintExtra(cmd, args[n])}
	}
}

// hintExtra guesses what an argument too many was meant for.
func hintExtra(cmd *cobra.Command, arg string) string {
	if cmd.Flags().Changed(waitFlag) {
		if _, err := time.ParseDuration(arg); err == nil {
			return hintEquals(waitFlag, arg)
		}
	}
	return ""
}
