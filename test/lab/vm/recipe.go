// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

//go:embed image
var imageFiles embed.FS

// Kernel is a flavour of Debian's kernel.
type Kernel string

// The flavours.
const (
	// CloudKernel has nvme and ext4 built in, as hosts on EC2 do.
	CloudKernel Kernel = "cloud"
	// GenericKernel has what the other lacks, eCryptfs among it.
	GenericKernel Kernel = "generic"
)

// pkg is the package that depends on the newest of the flavour.
func (k Kernel) pkg() (string, error) {
	switch k {
	case CloudKernel:
		return "linux-image-cloud-amd64", nil
	case GenericKernel:
		return "linux-image-amd64", nil
	}
	return "", fmt.Errorf("choose kernel: %q is neither cloud nor generic", k)
}

// recipe is all that decides what an image holds, but for the versions of the
// packages: those are whatever the mirror had when it was built.
type recipe struct {
	suite  string
	size   int64 // bytes of the root disk
	format string
	kernel Kernel
	files  fs.FS // packages, packages.generic, dpkg.cfg, essential.sh, customize.sh, initrd.sh, rootfs/
}

func guestRecipe(kernel Kernel) (recipe, error) {
	if _, err := kernel.pkg(); err != nil {
		return recipe{}, err
	}
	files, err := fs.Sub(imageFiles, "image")
	if err != nil {
		return recipe{}, fmt.Errorf("open image recipe: %w", err)
	}
	// format changes when the steps in image.go do.
	return recipe{suite: "bookworm", size: 3 << 30, format: "2", kernel: kernel, files: files}, nil
}

// key names the image in the cache.
func (r recipe) key() (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s %s %d %s\n", r.format, r.suite, r.size, r.kernel)
	err := fs.WalkDir(r.files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(r.files, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %d\n", path, len(data))
		h.Write(data)
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("hash image recipe: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// packages is the list of the recipe and that of its kernel, without comments.
func (r recipe) packages() ([]string, error) {
	data, err := fs.ReadFile(r.files, "packages")
	if err != nil {
		return nil, fmt.Errorf("read package list: %w", err)
	}
	more, err := fs.ReadFile(r.files, "packages."+string(r.kernel))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read package list: %w", err)
	}
	var names []string
	for line := range strings.Lines(string(data) + "\n" + string(more)) {
		name, _, _ := strings.Cut(line, "#")
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names, nil
}

// unpack writes the recipe's files where the tools can read them. Modes are
// fixed, so that those of a checkout have no effect on the guest.
func (r recipe) unpack(dir string) error {
	err := fs.WalkDir(r.files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(dir, path)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		data, err := fs.ReadFile(r.files, path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o644)
	})
	if err != nil {
		return fmt.Errorf("unpack image recipe: %w", err)
	}
	return nil
}
