// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"

	"github.com/volseal/volseal/internal/volume"
)

// salvageLines reads a file that is not YAML one line at a time, each as a
// document of its own, and keeps the values that are good. Later lines win.
func salvageLines(data []byte) volume.Spec {
	var spec volume.Spec
	fields := volumeFields(&spec)
	for line := range bytes.Lines(data) {
		d := &document{}
		root, ok := d.parse(bytes.TrimSpace(line))
		if !ok {
			continue
		}
		if kind(root.node) == "a mapping" {
			root.object(fields)
		}
	}
	return spec
}
