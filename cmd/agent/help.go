// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// What --help says and what the manual pages say come from the same places: a
// command's Use, Short, Long, Example and flags. A verb that is added to the
// tree is in both.

// printHelp is --help of any verb.
func printHelp(w io.Writer, cmd *cobra.Command) {
	fmt.Fprint(w, flowing(describe(cmd)))
	printPart(w, "Usage", wrap("  ", strings.Join(synopsis(cmd), " ")))
	printPart(w, "Verbs", columns(verbRows(cmd)))
	printPart(w, "Flags", columns(flagRows(ownFlags(cmd))))
	printPart(w, "Flags of every verb", columns(flagRows(commonFlags(cmd))))
	printPart(w, "Examples", indented(cmd.Example))
	if !cmd.HasParent() {
		printPart(w, "Exit codes", abreast(strings.SplitAfter(columns(exitRows()), "\n")))
		fmt.Fprintf(w, "\n`%s help VERB` says more about one verb.\n", cmd.Name())
	}
}

func printPart(w io.Writer, title, text string) {
	if text != "" {
		fmt.Fprintf(w, "\n%s:\n%s", title, text)
	}
}

// describe is what a verb does, in full sentences if it has them.
func describe(cmd *cobra.Command) string {
	if cmd.Long != "" {
		return cmd.Long
	}
	return cmd.Short + "."
}

// synopsis is a command line in words, each one that may be left out in brackets.
func synopsis(cmd *cobra.Command) []string {
	_, arguments, _ := strings.Cut(cmd.Use, " ")
	words := append(strings.Fields(cmd.CommandPath()), strings.Fields(arguments)...)
	if cmd.HasAvailableSubCommands() && cmd.HasParent() {
		words = append(words, "VERB")
	}
	for _, f := range ownFlags(cmd) {
		switch flag := flagWord(f); {
		case f.Name == "help", strings.Contains(arguments, "--"+f.Name):
		case f.Annotations[cobra.BashCompOneRequiredFlag] != nil:
			words = append(words, flag)
		default:
			words = append(words, "["+flag+"]")
		}
	}
	return words
}

// flagWord is a flag as it is typed: --watch, --size GIB, --wait[=DURATION].
func flagWord(f *pflag.Flag) string {
	word, value := "--"+f.Name, valueOf(f)
	switch {
	case value == "":
		return word
	case f.NoOptDefVal != "":
		return word + "[=" + value + "]"
	}
	return word + " " + value
}

// valueOf names a flag's value: the word in backquotes in its usage, else its type.
func valueOf(f *pflag.Flag) string {
	name, _ := pflag.UnquoteUsage(f)
	return strings.ToUpper(name)
}

// verbRows are the verbs below a command, those of two words too.
func verbRows(cmd *cobra.Command) (rows [][2]string) {
	for _, verb := range leaves(cmd) {
		words := strings.TrimPrefix(verb.CommandPath(), cmd.CommandPath()+" ")
		rows = append(rows, [2]string{words, verb.Short})
	}
	return rows
}

// leaves are the commands below cmd that do something.
func leaves(cmd *cobra.Command) (all []*cobra.Command) {
	for _, sub := range cmd.Commands() {
		switch {
		case sub.HasAvailableSubCommands():
			all = append(all, leaves(sub)...)
		case !sub.Hidden:
			all = append(all, sub)
		}
	}
	return all
}

func ownFlags(cmd *cobra.Command) []*pflag.Flag {
	if !cmd.HasParent() {
		return nil // all of its flags are those of every verb
	}
	return listFlags(cmd.LocalFlags())
}

func commonFlags(cmd *cobra.Command) []*pflag.Flag {
	return listFlags(cmd.Root().PersistentFlags())
}

func listFlags(set *pflag.FlagSet) (flags []*pflag.Flag) {
	set.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Name != "help" {
			flags = append(flags, f)
		}
	})
	return flags
}

func flagRows(flags []*pflag.Flag) (rows [][2]string) {
	for _, f := range flags {
		word := flagWord(f)
		if f.Shorthand != "" {
			word += ", -" + f.Shorthand
		}
		rows = append(rows, [2]string{word, flagText(f)})
	}
	return rows
}

// flagText is what a flag does, and what stands when it is not given.
func flagText(f *pflag.Flag) string {
	_, text := pflag.UnquoteUsage(f)
	switch f.DefValue {
	case "", "false", "0", "[]":
		return text
	}
	return text + "; by default " + f.DefValue
}

func exitRows() (rows [][2]string) {
	for _, e := range exitStatuses() {
		rows = append(rows, [2]string{fmt.Sprintf("%2d", e.code), e.meaning})
	}
	return rows
}

// columns prints rows of two columns, the second wrapped.
func columns(rows [][2]string) string {
	widest := 0
	for _, row := range rows {
		widest = max(widest, len(row[0]))
	}
	var b strings.Builder
	for _, row := range rows {
		b.WriteString(wrap(fmt.Sprintf("  %-*s  ", widest, row[0]), row[1]))
	}
	return b.String()
}

// flowing wraps paragraphs; what is indented in them stays as it is.
func flowing(text string) string {
	var b strings.Builder
	for i, p := range paragraphs(text) {
		if i > 0 {
			b.WriteString("\n")
		}
		if verbatim(p) {
			b.WriteString(p + "\n")
		} else {
			b.WriteString(wrap("", p))
		}
	}
	return b.String()
}

func paragraphs(text string) []string { return strings.Split(strings.Trim(text, "\n"), "\n\n") }

func verbatim(paragraph string) bool { return strings.HasPrefix(paragraph, " ") }

// abreast puts the second half of the lines beside the first.
func abreast(lines []string) string {
	half := len(lines) / 2 // the last is empty
	var b strings.Builder
	for i := range half {
		b.WriteString(strings.TrimRight(fmt.Sprintf("%-*s%s", width/2, strings.TrimRight(lines[i], "\n"), lines[half+i]), " \n") + "\n")
	}
	return b.String()
}

func indented(text string) string {
	if text == "" {
		return ""
	}
	return "  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ") + "\n"
}

// helpCommand is `volseal help VERB`. Cobra's own takes an unknown verb for no error.
func (c *cli) helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [VERB]", Short: "Say more about a verb",
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			var verbs []cobra.Completion
			if cmd, rest, err := root.Find(args); err == nil && len(rest) == 0 {
				for _, sub := range cmd.Commands() {
					verbs = append(verbs, cobra.CompletionWithDesc(sub.Name(), sub.Short))
				}
			}
			return verbs, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err == nil && len(rest) > 0 {
				err = chooseVerb(cmd, rest)
			}
			if err == nil {
				printHelp(c.stdout, cmd)
			}
			return err
		},
	}
}
