// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"strings"
	"testing"

	"github.com/volseal/volseal/internal/volume"
)

// TestTable: the live table is compared to its last word, but for the order of
// the options, which the kernel chooses.
func TestTable(t *testing.T) {
	want := tableOf(volume.Device{Major: 259, Minor: 3, Bytes: 1 << 30}, &header{uuid: testUUID})
	const sound = "0 2064384 crypt aes-xts-plain64 :64:logon:cryptsetup:" + testUUID + "-d0 0 259:3 32768 3 no_read_workqueue no_write_workqueue sector_size:4096\n"
	for name, c := range map[string]struct {
		live string
		ok   bool
	}{
		"sound":               {sound, true},
		"options reordered":   {strings.Replace(sound, "3 no_read_workqueue no_write_workqueue sector_size:4096", "3 sector_size:4096 no_read_workqueue no_write_workqueue", 1), true},
		"null cipher":         {strings.Replace(sound, cipher, "cipher_null-ecb", 1), false},
		"another target":      {strings.Replace(sound, "crypt ", "linear ", 1), false},
		"shorter":             {strings.Replace(sound, "2064384", "2064376", 1), false},
		"not from the start":  {"8" + sound[1:], false},
		"key in hexadecimal":  {strings.Replace(sound, ":64:logon:cryptsetup:"+testUUID+"-d0", strings.Repeat("0", 128), 1), false},
		"another volume key":  {strings.Replace(sound, "-d0", "-d1", 1), false},
		"a user key":          {strings.Replace(sound, "logon", "user", 1), false},
		"shifted IV":          {strings.Replace(sound, " 0 259", " 8 259", 1), false},
		"another device":      {strings.Replace(sound, "259:3", "259:33", 1), false},
		"another data offset": {strings.Replace(sound, " 32768 ", " 0 ", 1), false},
		"with queues":         {strings.Replace(sound, "3 no_read_workqueue ", "2 ", 1), false},
		"discards":            {strings.Replace(sound, "3 no_read", "4 allow_discards no_read", 1), false},
		"discards uncounted":  {strings.Replace(sound, "3 no_read", "3 allow_discards no_read", 1), false},
		"small sectors":       {strings.Replace(sound, "4096", "512", 1), false},
		"large IVs":           {strings.Replace(sound, "3 no_read_workqueue no_write_workqueue", "3 iv_large_sectors no_write_workqueue", 1), false},
		"no options":          {strings.Replace(sound, " 3 no_read_workqueue no_write_workqueue sector_size:4096", "", 1), false},
		"two targets":         {sound + sound, false},
		"cut short":           {"0 2064384 crypt\n", false},
		"nothing":             {"", false},
	} {
		err := want.matches(c.live)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTableShowsNoKey: the detail of a mismatch goes to the log.
func TestTableShowsNoKey(t *testing.T) {
	key := strings.Repeat("c0ffee", 20) + "c0ffee42"
	want := table{sectors: 1, uuid: testUUID, major: 259, minor: 3}
	err := want.matches("0 1 crypt " + cipher + " " + key + " 0 259:3 32768 1 x")
	if err == nil || strings.Contains(err.Error(), "c0ffee") {
		t.Error(err)
	}
}
