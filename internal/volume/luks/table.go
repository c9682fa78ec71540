// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"errors"
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
	from         int64 // sectors from the beginning of the data; 0 but for a reencryption
	sectors      int64
	hot          bool // no line of a table can be had for it
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
		strconv.FormatInt(t.from, 10), strconv.FormatInt(t.sectors, 10), "crypt", cipher,
		fmt.Sprintf(":%d:logon:cryptsetup:%s-d%d", keyBytes, t.uuid, t.digestID),
		strconv.FormatInt(t.from, 10), fmt.Sprintf("%d:%d", t.major, t.minor),
		strconv.FormatInt(headerBytes/sectorUnit+t.from, 10),
	}
}

func tableOptions() []string {
	return []string{"no_read_workqueue", "no_write_workqueue", "sector_size:" + strconv.Itoa(sectorBytes)}
}

// workTables are the lines of a volume whose reencryption has not finished: the
// beginning of the data under the new key, the rest under the old one.
func workTables(dev volume.Device, h *header) []table {
	var all []table
	for _, s := range h.work.stretches {
		end := s.to
		if end == 0 {
			end = dev.Bytes - headerBytes
		}
		all = append(all, table{
			from: s.from / sectorUnit, sectors: (end - s.from) / sectorUnit,
			uuid: h.uuid, digestID: s.digest, hot: s.hot, major: dev.Major, minor: dev.Minor,
		})
	}
	return all
}

// matchAll compares all lines of a table.
func matchAll(want []table, live string) error {
	lines := strings.Split(strings.TrimSuffix(live, "\n"), "\n")
	if len(lines) != len(want) {
		return fmt.Errorf("%d targets, want %d", len(lines), len(want))
	}
	for i, w := range want {
		if w.hot {
			return errors.New("a hot zone is still to be recovered")
		}
		if err := w.matches(lines[i]); err != nil {
			return err
		}
	}
	return nil
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
