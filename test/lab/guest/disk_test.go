// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"os"
	"path/filepath"
	"testing"
)

// EC2 withholds a detach while the guest uses the disk: mounted itself, by a
// partition, or held by a mapping.
func TestDiskInUse(t *testing.T) {
	const serial = "vol0123456789abcdef0"
	tests := map[string]struct {
		files  []string
		mounts string
		want   bool
	}{
		"not there": {},
		"idle":      {files: []string{"nvme1n1/holders/"}, mounts: "29 1 259:1 / / rw\n"},
		"mounted":   {files: []string{"nvme1n1/holders/"}, mounts: "29 1 259:1 / / rw\n40 29 259:2 / /mnt rw\n", want: true},
		"mapped":    {files: []string{"nvme1n1/holders/dm-0/"}, want: true},
		"partition": {files: []string{"nvme1n1/holders/", "nvme1n1/nvme1n1p1/holders/dm-0/", "nvme1n1/nvme1n1p1/partition"}, want: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			block := filepath.Join(dir, "block")
			writeFile(t, filepath.Join(block, "nvme0n1/device/serial"), "vol00000000000000000\n")
			writeFile(t, filepath.Join(block, "nvme0n1/dev"), "259:0\n")
			for _, file := range test.files {
				path := filepath.Join(block, file)
				if file[len(file)-1] == '/' {
					mkdir(t, path)
				} else {
					writeFile(t, path, "1\n")
				}
				writeFile(t, filepath.Join(block, "nvme1n1/device/serial"), serial+"  \n")
				writeFile(t, filepath.Join(block, "nvme1n1/dev"), "259:2\n")
				if filepath.Base(file) == "partition" {
					writeFile(t, filepath.Join(filepath.Dir(path), "dev"), "259:3\n")
				}
			}
			mountinfo := filepath.Join(dir, "mountinfo")
			writeFile(t, mountinfo, test.mounts)
			got, err := DiskInUse(dir, mountinfo, serial)
			if err != nil || got != test.want {
				t.Errorf("in use: %v, %v; want %v", got, err, test.want)
			}
		})
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	mkdir(t, filepath.Dir(path))
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
