// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/volseal/volseal/internal/volume"
)

// Load reads the configuration in dir. Its error is always Problems, and then
// there is no configuration: nothing may be started from a part of one.
func Load(dir string) (*Config, error) {
	c, problems := load(dir)
	if len(problems) > 0 {
		return nil, problems
	}
	return c, nil
}

// Salvage returns whatever can be told of the volumes in dir, however wrong the
// rest is, along with the error that Load has. Values that are not good are
// empty, so a spec may lack even its name. It exists for the generator alone: a
// database must not start on an empty directory because of a typing mistake.
func Salvage(dir string) ([]volume.Spec, error) {
	c, problems := load(dir)
	if len(problems) > 0 {
		return c.Volumes, problems
	}
	return c.Volumes, nil
}

func load(dir string) (*Config, Problems) {
	c := defaults()
	problems := c.loadGlobal(dir)
	files, more := volumeFiles(filepath.Join(dir, "volumes.d"))
	problems = append(problems, more...)

	var entries []entry
	for _, file := range files {
		d := &document{file: file}
		if data, ok := d.read(); ok {
			entries = append(entries, d.volume(data))
		}
		problems = append(problems, d.problems...)
	}
	problems = append(problems, across(entries, c.Region)...)
	for _, e := range entries {
		e.spec.OnRevocation = cmp.Or(e.spec.OnRevocation, c.OnRevocation)
		e.spec.RevocationGrace = c.RevocationGrace
		c.Volumes = append(c.Volumes, e.spec)
	}
	problems.sort()
	return &c, problems
}

func (c *Config) loadGlobal(dir string) Problems {
	at := &document{file: dir}
	info, err := os.Stat(dir)
	if err != nil {
		at.unreadable(err)
		return at.problems
	}
	at.trusted(info)

	d := &document{file: filepath.Join(dir, "volseal.yaml")}
	// Every key is optional, and so is the file.
	if _, err := os.Lstat(d.file); errors.Is(err, fs.ErrNotExist) {
		return at.problems
	}
	if data, ok := d.read(); ok {
		if root, ok := d.parse(data); ok {
			c.global(root)
		}
	}
	return append(at.problems, d.problems...)
}

// volume decodes the file of one volume; if that is not YAML, line by line.
func (d *document) volume(data []byte) entry {
	root, ok := d.parse(data)
	if !ok {
		return entry{file: d.file, spec: salvageLines(data)}
	}
	return decodeVolume(root)
}
