// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// The guest's directory of the payload disk, and the agent in it.
const (
	PayloadDir = "/lab"
	agentPath  = PayloadDir + "/labguest"
)

// Payload makes the read-only disk that carries files into the guest, in the
// empty directory dir: each name is a file of PayloadDir, executable, with the
// content of a file of the host. It returns the disk's path.
func Payload(ctx context.Context, dir string, files map[string]string) (string, error) {
	tree, image := filepath.Join(dir, "payload"), filepath.Join(dir, "payload.img")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return "", fmt.Errorf("make payload: %w", err)
	}
	defer os.RemoveAll(tree)
	total := int64(0)
	for name, path := range files {
		n, err := copyFile(filepath.Join(tree, name), path)
		if err != nil {
			return "", fmt.Errorf("make payload: %w", err)
		}
		total += n
	}
	// Room for the file system's own tables, too.
	size := total + total/8 + 4<<20
	cmd := exec.CommandContext(ctx, "mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-E", "root_owner=0:0",
		"-d", tree, image, strconv.FormatInt(size>>10, 10)+"k")
	if err := runTool(cmd, "make payload"); err != nil {
		return "", err
	}
	return image, nil
}

func copyFile(to, from string) (n int64, err error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(out, in)
	return n, errors.Join(err, out.Close())
}
