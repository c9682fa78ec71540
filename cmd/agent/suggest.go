// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/volseal/volseal/internal/volume"
)

// near are those of names that typed may have been meant for: two edits apart,
// or begun alike. The measure is cobra's, which has it for commands only.
func near(typed string, names []string) []string {
	const longest = 64 // no name is longer, and the work grows with it
	if typed == "" || len(typed) > longest {
		return nil
	}
	measure := cobra.Command{SuggestionsMinimumDistance: min(2, len(typed)/2)}
	for _, name := range names {
		measure.AddCommand(&cobra.Command{Use: name, Run: func(*cobra.Command, []string) {}})
	}
	return measure.SuggestionsFor(typed)
}

// nearVerbs are the verbs below cmd that the words may have been meant for, as
// they are typed. A verb of two words is found by either.
func nearVerbs(cmd *cobra.Command, words []string) (lines []string) {
	if len(words) == 0 {
		return nil
	}
	for _, verb := range leaves(cmd) {
		group := verb.Parent()
		inGroup := group != cmd && len(near(words[0], []string{group.Name()})) > 0
		if inGroup && len(words) > 1 && len(nearVerbs(group, words[1:])) > 0 {
			inGroup = means(verb, words[1])
		}
		if inGroup || means(verb, words[0]) {
			lines = append(lines, verb.CommandPath())
		}
	}
	return lines
}

// means reports whether a word may stand for a verb: it is nearly its name, or
// what other tools call it.
func means(verb *cobra.Command, word string) bool {
	return len(near(word, []string{verb.Name()})) > 0 ||
		slices.ContainsFunc(verb.SuggestFor, func(other string) bool { return strings.EqualFold(other, word) })
}

// nearFlags are the flags of cmd that name may have been meant for, and else the
// verbs of that name.
func nearFlags(cmd *cobra.Command, name string) (lines []string) {
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	for _, flag := range near(name, known) {
		lines = append(lines, "--"+flag)
	}
	if len(lines) > 0 {
		return lines
	}
	for _, verb := range leaves(cmd.Root()) {
		if verb.Name() == name {
			lines = append(lines, verb.CommandPath())
		}
	}
	return lines
}

// nearVolumes are the names of the volumes that typed may have been meant for:
// it is nearly a name, or it is something else that the volume is known by.
func nearVolumes(typed string, volumes []volume.Status) []string {
	var names []string
	for _, v := range volumes {
		names = append(names, v.Name)
		known := []string{v.VolumeID, v.Database, v.Device, v.Mapping, "/dev/mapper/" + v.Mapping, v.Mountpoint, v.LUKSUUID}
		if slices.Contains(known, strings.TrimSuffix(typed, "/")) || strings.TrimSuffix(path.Base(typed), ".yaml") == v.Name {
			return []string{v.Name}
		}
	}
	return near(typed, names)
}

// didYouMean asks so; "" if there is nothing to ask.
func didYouMean(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return "Did you mean `" + strings.Join(lines, "` or `") + "`?"
}
