// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"slices"
	"strings"
	"testing"
)

func testHardware() hardware {
	return hardware{
		accel: accelTCG, cpus: 2, kernel: "/k", overlay: "/run,1/root.qcow2", payload: "/p.img", console: "/c.log", socat: "/usr/bin/socat",
		network: Network{IMDS: "127.0.0.1:1", KMS: "127.0.0.1:2", EC2: "127.0.0.1:3", Control: "127.0.0.1:4"},
		disks:   []disk{{slot: 9, serial: "vol0123456789abcdef0", image: "/v,x.raw"}},
	}
}

// values are the arguments of every occurrence of an option.
func values(args []string, option string) []string {
	var found []string
	for i, arg := range args[:len(args)-1] {
		if arg == option {
			found = append(found, args[i+1])
		}
	}
	return found
}

// The guest reaches four addresses and nothing else; each connection has a
// process of its own.
func TestNetworkIsClosed(t *testing.T) {
	got := values(testHardware().args(), "-netdev")
	if len(got) != 1 {
		t.Fatalf("networks %q", got)
	}
	parts := strings.Split(got[0], ",")
	if !slices.Contains(parts, "restrict=on") || !slices.Contains(parts, "ipv6=off") {
		t.Errorf("the network is open: %s", got[0])
	}
	var forwards []string
	for _, part := range parts {
		if strings.HasPrefix(part, "hostfwd") {
			t.Errorf("a port of the host leads into the guest: %s", part)
		}
		if strings.HasPrefix(part, "guestfwd") {
			forwards = append(forwards, part)
		}
	}
	want := []string{
		"guestfwd=tcp:169.254.169.254:80-cmd:/usr/bin/socat STDIO TCP4:127.0.0.1:1",
		"guestfwd=tcp:169.254.169.10:80-cmd:/usr/bin/socat STDIO TCP4:127.0.0.1:2",
		"guestfwd=tcp:169.254.169.11:80-cmd:/usr/bin/socat STDIO TCP4:127.0.0.1:3",
		"guestfwd=tcp:169.254.169.12:80-cmd:/usr/bin/socat STDIO TCP4:127.0.0.1:4",
	}
	if !slices.Equal(forwards, want) {
		t.Errorf("forwards %q", forwards)
	}
}

// A volume has EC2's serial number, its own port, and honest flushes; a comma in
// a path does not become an option.
func TestVolumeAtBoot(t *testing.T) {
	args := testHardware().args()
	devices, nodes := values(args, "-device"), values(args, "-blockdev")
	want := "nvme,id=vol0123456789abcdef0,drive=vol0123456789abcdef0,serial=vol0123456789abcdef0,bus=port9,msix_qsize=1"
	if !slices.Contains(devices, want) {
		t.Errorf("devices %q", devices)
	}
	node := nodes[len(nodes)-1]
	if !strings.Contains(node, "file.filename=/v,,x.raw") || !strings.Contains(node, "file.cache.no-flush=off") {
		t.Errorf("node %s", node)
	}
	for _, serial := range []string{rootSerial, "vol0123456789abcdef0"} {
		if len(serial) > 20 {
			t.Errorf("serial %s does not fit in 20 characters", serial)
		}
	}
}

// Each slot has a port at an address of its own.
func TestPortsAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for slot := range slots {
		arg := portArg(slot)
		_, address, _ := strings.Cut(arg, "addr=")
		address, _, _ = strings.Cut(address, ",")
		if seen[address] || seen[portID(slot)] {
			t.Errorf("slot %d: %s", slot, arg)
		}
		seen[address], seen[portID(slot)] = true, true
	}
}

func TestFreeSlot(t *testing.T) {
	if got := freeSlot([]disk{{slot: 0}, {slot: 2}}); got != 1 {
		t.Errorf("slot %d, want 1", got)
	}
	var full []disk
	for slot := range slots {
		full = append(full, disk{slot: slot})
	}
	if got := freeSlot(full); got != -1 {
		t.Errorf("slot %d of a full machine", got)
	}
}

func TestSerialOf(t *testing.T) {
	if got, err := serialOf("vol-0123456789abcdef0"); err != nil || got != "vol0123456789abcdef0" {
		t.Errorf("serial %q, %v", got, err)
	}
	for _, id := range []string{"", "vol0123456789abcdef0", "vol-0123,file=x", "vol-0123456789abcdef01", "../vol-01234567"} {
		if got, err := serialOf(id); err == nil {
			t.Errorf("%q has serial %q", id, got)
		}
	}
}
