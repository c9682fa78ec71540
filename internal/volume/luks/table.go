// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/volseal/volseal/internal/volume"
)

// table is what the kernel was told to do, as readTable returns it
// (Documentation/admin-guide/device-mapper/dm-crypt.rst). The whole text:
//
//	0 LENGTH crypt aes-xts-plain64 :64:logon:cryptsetup:UUID-dN 0 MAJOR:MINOR 32768 3 no_read_workqueue no_write_workqueue sector_size:4096
//
// LENGTH and the offset 32768 count sectors of 512 bytes. The key is named by
// its place in a keyring, which is gone by now, and so does not appear; a key
// in hexadecimal would be readable by every later root and is refused.
type table struct {
	sectors      int64
	uuid         string
	digestID     int
	major, minor uint32
}

func tableOf(dev volume.Device, h *header) table {
	return table{
		sectors: (dev.Bytes - headerBytes) / sectorUnit,
		uuid:    h.uuid, digestID: h.digestID,
		major: dev.Major, minor: dev.Minor,
	}
}

// fields before the optional parameters, whose order the kernel chooses.
func (t table) fields() []string {
	return []string{
		"0", strconv.FormatInt(t.sectors, 10), "crypt", cipher,
		fmt.Sprintf(":%d:logon:cryptsetup:%s-d%d", keyBytes, t.uuid, t.digestID),
		"0", fmt.Sprintf("%d:%d", t.major, t.minor),
		strconv.Itoa(headerBytes / sectorUnit),
	}
}

func tableOptions() []string {
	return []string{"no_read_workqueue", "no_write_workqueue", "sector_size:" + strconv.Itoa(sectorBytes)}
}

// matches compares to the last word. On a mismatch it says where, and shows
// nothing of a key field.
func (t table) matches(live string) error {
	line, rest, _ := strings.Cut(live, "\n")
	if rest != "" {
		return fmt.Errorf("more than one target")
	}
	got, want := strings.Fields(line), t.fields()
	const keyField = 4
	for i, w := range want {
		switch {
		case i >= len(got):
			return fmt.Errorf("only %d fields", len(got))
		case got[i] != w && i == keyField:
			return fmt.Errorf("the key is not the keyring's %s", w)
		case got[i] != w:
			return fmt.Errorf("field %d is %.64q, want %q", i, got[i], w)
		}
	}
	options := got[len(want):]
	if len(options) == 0 || options[0] != strconv.Itoa(len(tableOptions())) {
		return fmt.Errorf("options are %.256q", options)
	}
	if sorted := slices.Sorted(slices.Values(options[1:])); !slices.Equal(sorted, tableOptions()) {
		return fmt.Errorf("options are %.256q", options)
	}
	return nil
}

// verifyTable compares the live table of an open mapping with policy.
func (l *LUKS) verifyTable(want table, mapping string) error {
	live, err := l.readTable(mapping)
	if err != nil {
		return failed("read the table of the mapping", err)
	}
	if err := want.matches(live); err != nil {
		return refuse(ruleTable, err)
	}
	return nil
}
