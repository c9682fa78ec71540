// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// Set by the linker; see the Makefile.
var (
	version  = "0.0.0-dev"
	revision = "unknown"
)

// build is what this binary was built from.
type build struct {
	Version   string `json:"version"`
	Revision  string `json:"revision"`
	GoVersion string `json:"goversion"`
}

func buildInfo() build {
	return build{Version: version, Revision: revision, GoVersion: runtime.Version()}
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			b := buildInfo()
			return c.print(b, func() { fmt.Fprintf(c.stdout, "volseal %s (%s, %s)\n", b.Version, b.Revision, b.GoVersion) })
		},
	}
}
