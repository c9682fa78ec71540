// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/envelope/kms"
	"github.com/volseal/volseal/internal/fault"
)

// ec2 answers as it is told.
type ec2 struct {
	ahead                        time.Duration
	look, attach, detach, create error
}

func (e ec2) Clock(context.Context) (time.Duration, bool, error) { return e.ahead, true, e.look }
func (e ec2) MayAttach(context.Context, string) error            { return e.attach }
func (e ec2) MayDetach(context.Context, string) error            { return e.detach }
func (e ec2) MayCreate(context.Context, string) error            { return e.create }

// service is a KMS that answers every question about any key alike, after a while.
type service struct {
	err      error
	slow     time.Duration
	under    atomic.Int32
	together atomic.Int32
}

func (s *service) Describe(_ context.Context, arn string) (kms.Key, error) {
	s.together.Store(max(s.together.Load(), s.under.Add(1)))
	time.Sleep(s.slow)
	s.under.Add(-1)
	k := soundKey
	k.ARN = arn
	return k, s.err
}

func (s *service) Try(context.Context, kms.Permission, string, envelope.Context) error { return s.err }

// inside is an agent with nothing to complain of.
func inside(t *testing.T) Inside {
	t.Helper()
	in := Inside{Root: t.TempDir(), Self: here, Cloud: ec2{}, KMS: &service{}, Volume: "vol-1", Keys: []envelope.Ref{{KeyARN: keyARN}}}
	write(t, in.Root, "/proc/swaps", "Filename Type Size Used Priority\n", 0o644)
	write(t, in.Root, "/proc/self/cgroup", "0::/system.slice/volseal.service\n", 0o644)
	return in
}

func write(t *testing.T, root, path, text string, mode os.FileMode) {
	t.Helper()
	path = filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// TestInside protects operators from chasing the wrong cause: what is sound has
// no line against it, and each thing that is broken has one, and only that.
func TestInside(t *testing.T) {
	no := &fault.Error{Class: fault.Misconfigured, Reason: "UnauthorizedOperation", Cause: "Not allowed.", Hint: "Allow it."}
	nobody := &fault.Error{Class: fault.Identity, Reason: "imds", Cause: "Nobody says who we are.", Hint: "Mend it."}
	const key = "key aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	for name, tt := range map[string]struct {
		change  func(*Inside)
		failed  string
		warned  string
		skipped string
	}{
		"sound":         {func(*Inside) {}, "", "", ""},
		"no metadata":   {func(in *Inside) { in.SelfErr, in.Self.Zone = nobody, "" }, "instance metadata", "", "ec2:CreateVolume"},
		"unknown self":  {func(in *Inside) { in.SelfErr, in.Cloud, in.KMS = nobody, nil, nil }, "instance metadata", "", "clock ec2:DescribeVolumes ec2:AttachVolume ec2:DetachVolume ec2:CreateVolume " + key},
		"no look":       {func(in *Inside) { in.Cloud = ec2{look: no} }, "ec2:DescribeVolumes", "", ""},
		"no attach":     {func(in *Inside) { in.Cloud = ec2{attach: no} }, "ec2:AttachVolume", "", ""},
		"no detach":     {func(in *Inside) { in.Cloud = ec2{detach: no} }, "ec2:DetachVolume", "", ""},
		"no create":     {func(in *Inside) { in.Cloud = ec2{create: no} }, "ec2:CreateVolume", "", ""},
		"no volume":     {func(in *Inside) { in.Volume = "" }, "", "", "ec2:AttachVolume ec2:DetachVolume"},
		"clock a bit":   {func(in *Inside) { in.Cloud = ec2{ahead: -time.Minute} }, "", "clock", ""},
		"clock wrong":   {func(in *Inside) { in.Cloud = ec2{ahead: time.Hour} }, "clock", "", ""},
		"a refused key": {func(in *Inside) { in.KMS = &service{err: hidden} }, key, "", ""},
		"swap":          {func(in *Inside) { swapOn(t, in.Root, "max") }, "", "swap", ""},
		"swap, not us":  {func(in *Inside) { swapOn(t, in.Root, "0") }, "", "", ""},
	} {
		in := inside(t)
		tt.change(&in)
		checks := in.Examine(t.Context())
		complete(t, checks)
		for status, want := range map[fault.CheckStatus]string{fault.CheckFailed: tt.failed, fault.CheckWarn: tt.warned, fault.CheckSkipped: tt.skipped} {
			if got := strings.Join(names(checks, status), " "); got != want {
				t.Errorf("%s: %s %q, want %q", name, status, got, want)
			}
		}
	}
}

func swapOn(t *testing.T, root, limit string) {
	t.Helper()
	write(t, root, "/proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n", 0o644)
	write(t, root, "/sys/fs/cgroup/system.slice/volseal.service/memory.swap.max", limit+"\n", 0o644)
}

// TestKeysTakeTurns protects the account's quota, and the patience of who asks:
// a host with many keys asks about some at a time, and names each.
func TestKeysTakeTurns(t *testing.T) {
	root := inside(t).Root
	synctest.Test(t, func(t *testing.T) {
		s := &service{slow: time.Second}
		in := Inside{Root: root, Self: here, Cloud: ec2{}, KMS: s, Volume: "vol-1"}
		for i := range 10 {
			in.Keys = append(in.Keys, envelope.Ref{KeyARN: strings.Replace(keyARN, "aaaaaaaa-", strings.Repeat(string(rune('0'+i)), 8)+"-", 1)})
		}
		checks := in.Examine(t.Context())
		if got := len(slices.Compact(names(checks, fault.CheckOK))); got != 17 {
			t.Errorf("%d lines: %v", got, names(checks, fault.CheckOK))
		}
		if n := s.together.Load(); n > keysAtOnce {
			t.Errorf("%d keys at once", n)
		}
	})
}
