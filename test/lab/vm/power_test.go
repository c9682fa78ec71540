// SPDX-License-Identifier: Apache-2.0

package vm

import "testing"

// Scenarios hash the disks from outside the guest: `labctl host` runs commands
// and tells failure from success.
func TestHostRunsCommands(t *testing.T) {
	var m Machine
	out, err := m.Host(t.Context(), "printf", "%s", "a b")
	if err != nil || string(out) != "a b" {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := m.Host(t.Context(), "false"); err == nil {
		t.Error("a failure passed for success")
	}
	if _, err := m.Host(t.Context(), "no-such-command"); err == nil {
		t.Error("ran what is not there")
	}
}
