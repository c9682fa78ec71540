// SPDX-License-Identifier: Apache-2.0

package ec2

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

func (s *Server) statePath() string { return filepath.Join(s.opts.Dir, "state.json") }

func (s *Server) volumePath(id string) string {
	return filepath.Join(s.opts.Dir, "volumes", id+".raw")
}

func (s *Server) snapshotPath(id string) string {
	return filepath.Join(s.opts.Dir, "snapshots", id+".raw")
}

// load reads the state of an earlier run, or begins a new one.
func (s *Server) load() error {
	for _, dir := range []string{"volumes", "snapshots"} {
		if err := os.MkdirAll(filepath.Join(s.opts.Dir, dir), 0o700); err != nil {
			return fmt.Errorf("make image directory: %w", err)
		}
	}
	raw, err := os.ReadFile(s.statePath())
	if errors.Is(err, fs.ErrNotExist) {
		s.st = newState(s.opts.Region + "a")
		return nil
	}
	if err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	s.st = newState(s.opts.Region + "a")
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(s.st); err != nil {
		return fmt.Errorf("decode %s: %w", s.statePath(), err)
	}
	if s.st.Version != 1 {
		return fmt.Errorf("decode %s: version %d is not known", s.statePath(), s.st.Version)
	}
	return s.sweep()
}

// sweep removes images that a crash left without a record.
func (s *Server) sweep() error {
	known := map[string]bool{}
	for id := range s.st.Volumes {
		known[s.volumePath(id)] = true
	}
	for id := range s.st.Snapshots {
		known[s.snapshotPath(id)] = true
	}
	images, err := filepath.Glob(filepath.Join(s.opts.Dir, "*", "*.raw*"))
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	for _, path := range images {
		if known[path] {
			continue
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove stray image: %w", err)
		}
	}
	return nil
}

// save makes the state durable and wakes whoever waits for a change. The lock
// is held.
func (s *Server) save() error {
	raw, err := json.MarshalIndent(s.st, "", " ")
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	if err := writeDurably(s.statePath(), raw); err != nil {
		return err
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

// writeDurably replaces a file such that a crash leaves the old one or the new.
func writeDurably(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if _, err = f.Write(content); err != nil {
		return err
	}
	return commit(f, path)
}

// commit makes f durable under its final name and closes it.
func commit(f *os.File, path string) error {
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return dir.Sync()
}

// isID reports whether id is a resource id of the kind: a prefix, a dash and 8
// or 17 hexadecimal digits. Ids become file names: nothing else may pass.
func isID(kind, id string) bool {
	hex, ok := strings.CutPrefix(id, kind+"-")
	return ok && (len(hex) == 8 || len(hex) == 17) && strings.Trim(hex, "0123456789abcdef") == ""
}
