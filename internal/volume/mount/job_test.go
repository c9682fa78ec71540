// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

func jobOf(t *testing.T) volume.Job {
	t.Helper()
	s, err := envelope.SecretFrom(bytes.Repeat([]byte("q"), 32))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Destroy)
	return volume.Job{
		Name: "orders", Command: volume.Command{Path: "/usr/sbin/cryptsetup", Args: []string{"reencrypt", "--key-file", "-"}},
		Stdin: s, Mountpoint: at, Device: "/dev/nvme1n1", Rate: 32 << 20,
	}
}

// What keeps the database's data safe is in these properties: a job that systemd
// killed in a hot zone would leave writers waiting for ever, and one that outlived
// the mount would work on what is being taken from under it. The secret is in none.
func TestJobProperties(t *testing.T) {
	j := jobOf(t)
	in, err := pipeOf(j.Stdin)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	got := map[string]string{}
	for _, p := range jobProperties(j, in) {
		got[p.Name] = fmt.Sprint(p.Value.Value())
		if strings.Contains(p.Value.String(), "qqqq") {
			t.Errorf("%s holds the secret", p.Name)
		}
	}
	for name, want := range map[string]string{
		"SendSIGKILL": "false", "OOMScoreAdjust": "-1000", "TimeoutStopUSec": "120000000",
		"BindsTo": "[var-lib-postgresql.mount]", "After": "[var-lib-postgresql.mount]",
		"IOReadBandwidthMax": "[{/dev/nvme1n1 33554432}]", "IOWriteBandwidthMax": "[{/dev/nvme1n1 33554432}]",
		"ExecStart":                   "[{/usr/sbin/cryptsetup [/usr/sbin/cryptsetup reencrypt --key-file -] false}]",
		"StandardInputFileDescriptor": fmt.Sprint(in.Fd()), "CollectMode": "inactive-or-failed", "LimitCORE": "0", "MemorySwapMax": "0",
	} {
		if got[name] != want {
			t.Errorf("%s = %q, want %q", name, got[name], want)
		}
	}
	b := make([]byte, 64)
	if n, err := in.Read(b); err != nil || string(b[:n]) != strings.Repeat("q", 32) {
		t.Errorf("the pipe holds %q, %v", b[:n], err)
	}
	if n, _ := in.Read(b); n != 0 {
		t.Error("the pipe does not end")
	}
}

// TestJob protects the words of the requests, and what is made of the answers: a unit
// that is still stopping runs, and one that systemd does not know has ended.
func TestJob(t *testing.T) {
	p := newPID1(t)
	m := manager(t, p)
	j := jobOf(t)
	if err := m.Run(deadline(t), j); err != nil {
		t.Fatal(err)
	}
	if got := <-p.calls; got != "StartTransientUnit volseal-reencrypt-orders.service fail" {
		t.Error(got)
	}
	for state, want := range map[string]bool{"active": true, "activating": true, "deactivating": true, "inactive": false, "failed": false} {
		p.has(map[string]dbus.Variant{"ActiveState": dbus.MakeVariant(state)})
		if running, err := m.Running(deadline(t), "orders"); err != nil || running != want {
			t.Errorf("%s: %v, %v", state, running, err)
		}
	}
	p.has(map[string]dbus.Variant{})
	if running, err := m.Running(deadline(t), "orders"); err == nil {
		t.Errorf("nothing known passes for %v", running)
	}
	p.answers("", "org.freedesktop.systemd1.NoSuchUnit")
	if err := m.Halt(deadline(t), "orders"); err != nil {
		t.Error(err)
	}
	p.answers("failed", "")
	classified(t, "failed", m.Run(deadline(t), j), fault.Unknown)
	p.is("stopping")
	if err := m.Run(deadline(t), j); !strings.Contains(fmt.Sprint(err), ErrStopping.Error()) {
		t.Errorf("begun while the host stops: %v", err)
	}
	if entries, err := os.ReadDir("/proc/self/fd"); err == nil && len(entries) > 64 {
		t.Errorf("%d descriptors are open", len(entries))
	}
}
