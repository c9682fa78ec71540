// SPDX-License-Identifier: Apache-2.0

package world

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const (
	imdsName    = "ec2-metadata-mock"
	imdsPackage = "github.com/aws/amazon-ec2-metadata-mock/cmd/ec2-metadata-mock"
)

// findIMDS returns the path of the metadata mock: beside the running program,
// in the checkout's bin, or built there from the tools module.
func findIMDS(ctx context.Context) (string, error) {
	if self, err := os.Executable(); err == nil {
		if path := filepath.Join(filepath.Dir(self), imdsName); isFile(path) {
			return path, nil
		}
	}
	root, err := checkout()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "bin", imdsName)
	if isFile(path) {
		return path, nil
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-modfile=tools/go.mod", "-o", path, imdsPackage)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", imdsName, err, bytes.TrimSpace(out))
	}
	return path, nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// checkout finds the directory above the working directory that has the tools
// module.
func checkout() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the checkout: %w", err)
	}
	for !isFile(filepath.Join(dir, "tools", "go.mod")) {
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("find " + imdsName + ": it is neither beside this program nor can it be built: no tools/go.mod above the working directory")
		}
		dir = up
	}
	return dir, nil
}
