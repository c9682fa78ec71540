// SPDX-License-Identifier: Apache-2.0

package luks

import "testing"

// TestVersion protects from taking a release that loses data for another.
func TestVersion(t *testing.T) {
	for text, want := range map[string]Version{
		"cryptsetup 2.6.1 flags: UDEV BLKID KEYRING KERNEL_CAPI \n": {2, 6, 1},
		"cryptsetup 2.4.0\n":     {2, 4, 0},
		"cryptsetup 2.8.0-rc1\n": {2, 8, 0},
		"cryptsetup 3.0\n":       {3, 0, 0},
		"cryptsetup\n":           {},
		"dmsetup 2.6.1\n":        {},
		"cryptsetup 2.7.x\n":     {},
		"cryptsetup 2.7.4.1\n":   {},
		"cryptsetup -2.7.4\n":    {},
		"":                       {},
	} {
		got, err := parseVersion(text)
		if got != want || (err == nil) != (want != Version{}) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for v, want := range map[Version]bool{{2, 6, 9}: false, {2, 7, 0}: true, {2, 7, 4}: true, {2, 7, 5}: false, {2, 8, 0}: false, {3, 7, 1}: false} {
		if v.CorruptsReencryption() != want {
			t.Errorf("%s corrupts: %v", v, !want)
		}
	}
	if !(Version{2, 3, 7}).Before(Oldest()) || (Version{2, 4, 0}).Before(Oldest()) || !(Version{1, 9, 9}).Before(Oldest()) {
		t.Error("the oldest release")
	}
	if v, err := New(Options{}).Version(t.Context()); err != nil || v.Before(Oldest()) {
		t.Errorf("the one that is installed: %v, %v", v, err)
	}
}
