// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// An image is a directory of these files.
const (
	rootFile   = "root.img" // raw disk: a partition table and one ext4 partition
	kernelFile = "vmlinuz"
	initrdFile = "initrd" // only where the kernel needs one
)

// The root disk is found by its partition's UUID, which comes of a disk
// signature: NVMe disks are not named in the order of their slots.
const (
	diskSignature  = 0x5ea1ed01
	rootPartition  = "5ea1ed01-01"
	partitionStart = 1 << 20
	sectorSize     = 512
)

// buildImage makes the image of r in dir, an empty directory. It takes one to
// two minutes and needs root: Debian's packages are unpacked with their owners.
func buildImage(ctx context.Context, r recipe, dir string) error {
	if os.Geteuid() != 0 {
		return errors.New("build guest image: only root can")
	}
	if err := needTools("mmdebstrap", "mke2fs", "dpkg-deb", "apt-get", "apt-cache", "apt-config"); err != nil {
		return fmt.Errorf("build guest image: %w", err)
	}
	work, err := os.MkdirTemp(dir, "work-")
	if err != nil {
		return fmt.Errorf("build guest image: %w", err)
	}
	defer os.RemoveAll(work)
	// apt's own user reads in here.
	if err := os.Chmod(work, 0o755); err != nil {
		return fmt.Errorf("build guest image: %w", err)
	}
	tree := filepath.Join(work, "root")
	if err := bootstrap(ctx, r, work, tree, dir); err != nil {
		return err
	}
	return makeRootDisk(ctx, tree, filepath.Join(dir, rootFile), r.size)
}

// bootstrap makes the guest's file tree, and puts the kernel into boot.
func bootstrap(ctx context.Context, r recipe, work, tree, boot string) error {
	recipeDir, sourcesDir := filepath.Join(work, "recipe"), filepath.Join(work, "sources")
	if err := r.unpack(recipeDir); err != nil {
		return err
	}
	if err := os.Mkdir(sourcesDir, 0o755); err != nil {
		return fmt.Errorf("bootstrap guest: %w", err)
	}
	sources, err := aptSources("/etc/apt", r.suite, sourcesDir)
	if err != nil {
		return err
	}
	options, err := aptOptions(ctx)
	if err != nil {
		return err
	}
	packages, err := r.packages()
	if err != nil {
		return err
	}
	kernel, err := r.kernel.pkg()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "mmdebstrap", bootstrapArgs(r.suite, recipeDir, tree, packages, options, sources)...)
	cmd.Env = append(os.Environ(), "FILES="+filepath.Join(recipeDir, "rootfs"), "BOOT="+boot, "KERNEL="+kernel, "ROOT_SERIAL="+rootSerial)
	return runTool(cmd, "bootstrap guest")
}

func bootstrapArgs(suite, recipeDir, tree string, packages, options, sources []string) []string {
	args := []string{
		"--quiet", "--mode=root", "--variant=minbase", "--format=directory",
		"--include=" + strings.Join(packages, ","),
		"--dpkgopt=" + filepath.Join(recipeDir, "dpkg.cfg"),
		"--essential-hook=sh " + filepath.Join(recipeDir, "essential.sh") + ` "$1"`,
		"--customize-hook=sh " + filepath.Join(recipeDir, "customize.sh") + ` "$1"`,
		`--aptopt=Acquire::Languages "none"`,
	}
	for _, option := range options {
		args = append(args, "--aptopt="+option)
	}
	return append(append(args, suite, tree), sources...)
}

// makeRootDisk turns the tree into a disk without a loop mount: the file system
// is made at its offset, and the partition table written in front of it.
func makeRootDisk(ctx context.Context, tree, path string, size int64) error {
	// The checksums cost much under emulation and protect nobody here.
	cmd := exec.CommandContext(ctx, "mke2fs", "-q", "-t", "ext4", "-O", "^metadata_csum", "-d", tree,
		"-E", "lazy_itable_init=0,lazy_journal_init=1,offset="+strconv.Itoa(partitionStart),
		path, strconv.FormatInt((size-partitionStart)>>10, 10)+"k")
	if err := runTool(cmd, "make root file system"); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	defer f.Close()
	if _, err := f.WriteAt(partitionTable(size), 0); err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	return f.Truncate(size)
}

// partitionTable is a master boot record with one Linux partition that begins
// at partitionStart and fills the disk.
func partitionTable(size int64) []byte {
	mbr := make([]byte, sectorSize)
	binary.LittleEndian.PutUint32(mbr[440:], diskSignature)
	entry := mbr[446:462]
	copy(entry[1:4], "\xfe\xff\xff") // no CHS address: use the LBA
	entry[4] = 0x83
	copy(entry[5:8], "\xfe\xff\xff")
	binary.LittleEndian.PutUint32(entry[8:], partitionStart/sectorSize)
	binary.LittleEndian.PutUint32(entry[12:], uint32((size-partitionStart)/sectorSize))
	mbr[510], mbr[511] = 0x55, 0xaa
	return mbr
}

// needTools names every missing program at once.
func needTools(names ...string) error {
	var missing []string
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("missing on this host: %s (Debian: apt-get install mmdebstrap e2fsprogs qemu-system-x86 qemu-utils socat)", strings.Join(missing, ", "))
	}
	return nil
}

// runTool runs a program that takes its time and may have to tidy up when it is
// stopped. What it printed is part of the error.
func runTool(cmd *exec.Cmd, what string) error {
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt on the terminal is ours to pass on
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %s: %w\n%s", what, filepath.Base(cmd.Path), err, tail(string(out), 40))
	}
	return nil
}

// tail is the last lines of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
