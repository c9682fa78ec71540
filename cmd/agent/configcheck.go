// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/volseal/volseal/internal/config"
)

// checked is what config check prints as JSON.
type checked struct {
	Dir      string           `json:"dir"`
	OK       bool             `json:"ok"`
	Volumes  []string         `json:"volumes"`  // the names; empty unless ok
	Problems []checkedProblem `json:"problems"` // all of them; empty if ok
}

type checkedProblem struct {
	File    string `json:"file"`
	Line    int    `json:"line"` // 0: the file as a whole
	Path    string `json:"path"` // of the key in the file
	Message string `json:"message"`
	Hint    string `json:"hint"` // the remedy; "" if the message says it
}

func (c *cli) configCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check [DIR]", Short: "Check the configuration files, without the agent", Args: atMost(1),
		Long: `Check every file in ` + config.Dir + `, or in DIR, and say everything that is wrong
with them at once. The agent is not asked, and nothing is changed.`,
		RunE: func(_ *cobra.Command, args []string) error {
			dir := config.Dir
			if len(args) == 1 {
				dir = args[0]
			}
			return c.configCheck(dir)
		},
	}
}

func (c *cli) configCheck(dir string) error {
	found := checked{Dir: dir, Volumes: []string{}, Problems: []checkedProblem{}}
	cfg, err := config.Load(dir)
	var problems config.Problems
	if err != nil && !errors.As(err, &problems) {
		return err
	}
	for _, p := range problems {
		found.Problems = append(found.Problems, checkedProblem(p))
	}
	if err == nil {
		found.OK = true
		for _, v := range cfg.Volumes {
			found.Volumes = append(found.Volumes, v.Name)
		}
	}
	if perr := c.print(found, func() {
		if found.OK {
			fmt.Fprintf(c.stdout, "%s is sound: %s.\n", dir, count(len(found.Volumes), "volume"))
		}
	}); perr != nil {
		return perr
	}
	return err
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// problemItems is the summary of a bad configuration: everything at once.
func problemItems(problems config.Problems) []item {
	items := make([]item, 0, len(problems))
	for _, p := range problems {
		items = append(items, item{"Check configuration", p.String(), cmp.Or(p.Hint, hintFiles)})
	}
	return items
}
