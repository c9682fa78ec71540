// SPDX-License-Identifier: Apache-2.0

// Package config reads /etc/volseal: volseal.yaml and volumes.d/*.yaml. It
// decodes strictly and reports every problem at once, each with its file, line
// and path, so that one edit mends them all.
//
// What belongs here: the files' syntax, bounds and defaults, and whatever can be
// judged from the text alone. What does not: anything that needs the network,
// the disk or the running system (whether an alias resolves, whether a mount
// point is a symbolic link); the agent asks those questions when it acts.
package config
