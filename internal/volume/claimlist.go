// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ReadClaims is for who only looks at what NewClaims keeps in dir: it makes nothing.
func ReadClaims(dir string) *Claims { return &Claims{dir: dir} }

// Names lists the volumes that have a claim, in order, by the names of the files
// alone. A name may hold anything that a file's can.
func (c *Claims) Names() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(c.dir, "claims"))
	if err != nil {
		return nil, fmt.Errorf("list claims: %w", err)
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".json"); ok && !strings.HasPrefix(name, ".") {
			names = append(names, name)
		}
	}
	return names, nil
}

// Initialised reports whether the volume has, or had, a header of ours.
func (c Claim) Initialised() bool { return c.Stage == StageFilesystem || c.Stage == StageReady }
