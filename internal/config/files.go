// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Bounds of what is read. EC2 attaches at most 128 volumes to an instance.
const (
	maxFileBytes = 64 << 10
	maxVolumes   = 128
)

// read returns the content of a file, at most maxFileBytes of it. It reports
// every doubt about the file, but returns what it could read nevertheless:
// Salvage wants to know what a bad file protects. ok is false without content.
func (d *document) read() (data []byte, ok bool) {
	// The directory is checked to be root's own, so nobody swaps the file between the two looks.
	if info, err := os.Lstat(d.file); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		d.add(0, "", "is a symbolic link", "put the file itself here")
	}
	// Not to wait for ever on a named pipe.
	f, err := os.OpenFile(d.file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		d.unreadable(err)
		return nil, false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		d.unreadable(err)
		return nil, false
	}
	if !info.Mode().IsRegular() {
		d.add(0, "", "is not a regular file", "")
		return nil, false
	}
	d.trusted(info)
	data, err = io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		d.unreadable(err)
		return nil, false
	}
	if len(data) > maxFileBytes {
		d.add(0, "", fmt.Sprintf("is longer than %d KiB", maxFileBytes>>10), "")
		data = data[:maxFileBytes]
	}
	return data, true
}

func (d *document) unreadable(err error) {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	d.add(0, "", "cannot be read: "+err.Error(), "")
}

// trusted reports a file or directory that somebody else could have written:
// whoever writes here chooses the key and what is mounted where.
func (d *document) trusted(info fs.FileInfo) {
	for _, doubt := range doubts(info, os.Geteuid()) {
		d.add(0, "", doubt, fmt.Sprintf("chown root: %s; chmod go-w %s", d.file, d.file))
	}
}

// doubts says why a file is not to be trusted. Root's files are; and so are
// one's own, for whoever checks a configuration without being root.
func doubts(info fs.FileInfo, self int) []string {
	var out []string
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int64(st.Uid) != int64(self) {
		out = append(out, fmt.Sprintf("belongs to user %d, not to root", st.Uid))
	}
	if info.Mode().Perm()&0o022 != 0 {
		out = append(out, fmt.Sprintf("can be written by others (mode %04o)", info.Mode().Perm()))
	}
	return out
}

// volumeFiles lists volumes.d, in order of name.
func volumeFiles(dir string) (files []string, problems Problems) {
	d := &document{file: dir}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		d.unreadable(err)
		return nil, d.problems
	}
	if info, err := os.Stat(dir); err == nil {
		d.trusted(info)
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") {
			continue
		}
		switch filepath.Ext(name) {
		case ".yml":
			f := &document{file: filepath.Join(dir, name)}
			f.add(0, "", "would be ignored by its name", "end it in .yaml")
			d.problems = append(d.problems, f.problems...)
			fallthrough
		case ".yaml":
			files = append(files, filepath.Join(dir, name))
		}
	}
	if len(files) > maxVolumes {
		d.add(0, "", fmt.Sprintf("holds %d volumes, at most %d are possible", len(files), maxVolumes), "")
		files = files[:maxVolumes]
	}
	return files, d.problems
}
