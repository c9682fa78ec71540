// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"os/exec"
	"testing"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
	"github.com/volseal/volseal/test/lab/luksedit"
)

// TestLook: a first look must never take for blank what holds anything, and
// names what it sees in words of ours.
func TestLook(t *testing.T) {
	t.Parallel()
	foreign := func(what string) volume.HeaderFact {
		return volume.HeaderFact{State: volume.HeaderForeign, What: what}
	}
	for name, c := range map[string]struct {
		at   int64
		mark string
		want volume.HeaderFact
	}{
		"blank":                      {0, "", volume.HeaderFact{State: volume.HeaderBlank}},
		"data behind the header":     {headerBytes, "x", volume.HeaderFact{State: volume.HeaderBlank}}, // CheckBlank's business
		"last byte of the area":      {headerBytes - 1, "x", foreign("block of unknown data")},
		"anything":                   {70000, "x", foreign("block of unknown data")},
		"xfs":                        {0, "XFSB", foreign("xfs file system")},
		"ext4":                       {0x438, "\x53\xef", foreign("ext2, ext3 or ext4 file system")},
		"btrfs":                      {0x10040, "_BHRfS_M", foreign("btrfs file system")},
		"swap":                       {4086, "SWAPSPACE2", foreign("swap area")},
		"RAID":                       {4096, "\xfc\x4e\x2b\xa9", foreign("Linux RAID member")},
		"LVM2":                       {536, "LVM2 001", foreign("LVM2 physical volume")},
		"GPT":                        {512, "EFI PART", foreign("GPT partition table")},
		"MBR":                        {510, "\x55\xaa", foreign("partition table or boot sector")},
		"LUKS1":                      {0, "LUKS\xba\xbe\x00\x01", foreign("LUKS1 header")},
		"LUKS3":                      {0, "LUKS\xba\xbe\x00\x03", foreign("LUKS header of an unknown version")},
		"LUKS2 without UUID":         {0, "LUKS\xba\xbe\x00\x02", volume.HeaderFact{State: volume.HeaderLUKS2}},
		"secondary LUKS2 header":     {16384, "SKUL\xba\xbe\x00\x02", foreign("LUKS2 header whose primary copy is missing")},
		"secondary in another place": {65536, "SKUL\xba\xbe\x00\x02", foreign("LUKS2 header whose primary copy is missing")},
	} {
		dev := blankDisk(t)
		if c.mark != "" {
			poke(t, dev, c.at, []byte(c.mark))
		}
		got, err := newLUKS(t).Look(t.Context(), dev)
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
	}
}

// TestLookAtRealFilesystem: what mkfs makes today has the marks.
func TestLookAtRealFilesystem(t *testing.T) {
	dev := blankDisk(t)
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", dev.Path).CombinedOutput(); err != nil {
		t.Skipf("no mkfs.ext4: %v %s", err, out)
	}
	if got, err := newLUKS(t).Look(t.Context(), dev); err != nil || got.What != "ext2, ext3 or ext4 file system" {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestLookQuotesNoDisk: a UUID that is none is not passed on.
func TestLookQuotesNoDisk(t *testing.T) {
	dev := builtDisk(t)
	h := builtHeader(t)
	h.Set(luksedit.Primary, luksedit.UUID, []byte("<script>alert(1)</script>"))
	if err := h.Store(dev.Path); err != nil {
		t.Fatal(err)
	}
	if got, err := newLUKS(t).Look(t.Context(), dev); err != nil || got != (volume.HeaderFact{State: volume.HeaderLUKS2}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestLookRefusesTheDevice(t *testing.T) {
	dev := blankDisk(t)
	dev.Major = 259
	_, err := newLUKS(t).Look(t.Context(), dev)
	wantReason(t, err, fault.Unknown, "device-changed")
}
