// SPDX-License-Identifier: Apache-2.0

package ec2

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const gib = int64(1) << 30

// makeImage creates a sparse image of size GiB, with the content of the image
// from where that is not empty.
func makeImage(path, from string, size int) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp*")
	if err != nil {
		return fmt.Errorf("make image: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
			err = fmt.Errorf("make image %s: %w", path, err)
		}
	}()
	if from != "" {
		if err = copySparse(f, from); err != nil {
			return err
		}
	}
	if err = f.Truncate(int64(size) * gib); err != nil {
		return err
	}
	return commit(f, path)
}

// copySparse shares the blocks where the file system can (XFS, Btrfs), else
// copies the data and leaves the holes.
func copySparse(dst *os.File, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil {
		return nil
	}
	for at := int64(0); ; {
		start, err := src.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // only a hole is left
		}
		if err != nil {
			return err
		}
		end, err := src.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if err := copyExtent(dst, src, start, end-start); err != nil {
			return err
		}
		at = end
	}
}

func copyExtent(dst, src *os.File, at, length int64) error {
	if _, err := src.Seek(at, io.SeekStart); err != nil {
		return err
	}
	if _, err := dst.Seek(at, io.SeekStart); err != nil {
		return err
	}
	_, err := io.CopyN(dst, src, length)
	return err
}
