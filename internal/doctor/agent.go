// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

// Cloud is what is asked of EC2, as this host's role. ebs.Adapter implements it.
type Cloud interface {
	Clock(ctx context.Context) (ahead time.Duration, known bool, err error)
	MayAttach(ctx context.Context, volumeID string) error
	MayDetach(ctx context.Context, volumeID string) error
	MayCreate(ctx context.Context, zone string) error
}

// Inside is what only the agent can see: AWS through its role, and the limits
// that systemd has set it. Cloud and KMS are nil where it cannot even be asked.
type Inside struct {
	Root    string // before /proc and /sys; "" but in tests
	Self    Self
	SelfErr error
	Cloud   Cloud
	KMS     KMS
	Volume  string // one that may be attached here, "" for none
	Keys    []envelope.Ref
}

// keysAtOnce bounds the requests under way: each key takes five.
const keysAtOnce = 4

// Examine asks everything at the same time, and reports in a fixed order.
func (in Inside) Examine(ctx context.Context) []fault.Check {
	groups := make([][]fault.Check, 2+len(in.Keys))
	groups[0] = []fault.Check{in.metadata(), judgeSwap(in.mayswap())}
	var wg sync.WaitGroup
	wg.Go(func() { groups[1] = in.cloud(ctx) })
	turns := make(chan struct{}, keysAtOnce)
	for i, ref := range in.Keys {
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			groups[2+i] = []fault.Check{in.key(ctx, ref)}
		})
	}
	wg.Wait()
	var all []fault.Check
	for _, g := range groups {
		all = append(all, g...)
	}
	return all
}

func (in Inside) metadata() fault.Check {
	const name = "instance metadata"
	if in.SelfErr != nil {
		return fault.Failed(name, in.SelfErr)
	}
	return fault.Passed(name, fmt.Sprintf("%s in %s, account %s.", in.Self.Instance, in.Self.Zone, in.Self.Account))
}

// cloud asks EC2. The clock comes from its answer, also from one that refuses.
func (in Inside) cloud(ctx context.Context) []fault.Check {
	const look, attach, detach, create = "ec2:DescribeVolumes", "ec2:AttachVolume", "ec2:DetachVolume", "ec2:CreateVolume"
	if in.Cloud == nil {
		const why = "EC2 cannot be asked before this host knows who it is."
		return []fault.Check{fault.Skipped("clock", why), fault.Skipped(look, why), fault.Skipped(attach, why), fault.Skipped(detach, why), fault.Skipped(create, why)}
	}
	checks := make([]fault.Check, 5)
	var wg sync.WaitGroup
	wg.Go(func() {
		ahead, known, err := in.Cloud.Clock(ctx)
		checks[0], checks[1] = judgeClock(ahead, known), allowed(look, err)
	})
	try := func(i int, name, about, without string, ask func(context.Context, string) error) {
		if about == "" {
			checks[i] = fault.Skipped(name, without)
			return
		}
		wg.Go(func() { checks[i] = allowed(name, ask(ctx, about)) })
	}
	const noVolume = "Tried with a configured volume, and there is none."
	try(2, attach, in.Volume, noVolume, in.Cloud.MayAttach)
	try(3, detach, in.Volume, noVolume, in.Cloud.MayDetach)
	try(4, create, in.Self.Zone, "Tried for this zone, which instance metadata would tell.", in.Cloud.MayCreate)
	wg.Wait()
	return checks
}

func allowed(name string, err error) fault.Check {
	if err != nil {
		return fault.Failed(name, err)
	}
	return fault.Passed(name, "Allowed.")
}

// The signature of a request is good for five minutes before and after.
const (
	clockFine  = 30 * time.Second
	clockLimit = 4 * time.Minute
)

func judgeClock(ahead time.Duration, known bool) fault.Check {
	const name, remedy = "clock", "Mend this host's time synchronisation (timedatectl, chronyc tracking; 169.254.169.123 is Amazon's)."
	if !known {
		return fault.Skipped(name, "EC2 gave no answer to compare with.")
	}
	off := fmt.Sprintf("%s ahead of AWS's", ahead.Abs().Round(time.Second))
	if ahead < 0 {
		off = fmt.Sprintf("%s behind AWS's", ahead.Abs().Round(time.Second))
	}
	switch {
	case ahead.Abs() <= clockFine:
		return fault.Passed(name, "Within half a minute of AWS's.")
	case ahead.Abs() <= clockLimit:
		return warned(name, "It is "+off+". Beyond five minutes AWS refuses every request.", remedy)
	default:
		return failedBy(fault.Identity, fault.Platform, name, "It is "+off+": AWS refuses requests, or soon will.", remedy)
	}
}

// key is the whole check of a key in one line.
func (in Inside) key(ctx context.Context, ref envelope.Ref) fault.Check {
	name := "key " + ref.KeyARN[strings.LastIndex(ref.KeyARN, "/")+1:]
	if in.KMS == nil {
		return fault.Skipped(name, "KMS cannot be asked before this host knows who it is.")
	}
	report := Key(ctx, in.KMS, in.Self, ref.KeyARN, ref.Context)
	first := fault.FirstFailed(report.Checks)
	if first == nil {
		return fault.Passed(name, "Usable, and every permission that can be tried is there.")
	}
	c := *first
	c.Name, c.Detail = name, first.Name+": "+first.Detail
	c.Remedy = "See all of it, and the statements to paste: volseal key check " + ref.KeyARN
	return c
}

// mayswap reports whether pages of this process may go to a swap device.
func (in Inside) mayswap() (yes bool, err error) {
	swaps, err := os.ReadFile(filepath.Join(in.Root, "/proc/swaps"))
	if err != nil {
		return false, err
	}
	if strings.Count(string(swaps), "\n") <= 1 { // the heading alone
		return false, nil
	}
	groups, err := os.ReadFile(filepath.Join(in.Root, "/proc/self/cgroup"))
	if err != nil {
		return false, err
	}
	_, group, ok := strings.Cut(strings.TrimSpace(string(groups)), "0::")
	if !ok {
		return true, nil // of version 1, which knows no such limit
	}
	limit, err := os.ReadFile(filepath.Join(in.Root, "/sys/fs/cgroup", group, "memory.swap.max")) //nolint:gosec // the kernel names the group
	return strings.TrimSpace(string(limit)) != "0", err
}

func judgeSwap(yes bool, err error) fault.Check {
	const name = "swap"
	switch {
	case err != nil:
		return fault.Skipped(name, "Cannot be told: "+firstLine(err)+".")
	case yes:
		return warned(name, "This host swaps, and the agent's memory is not exempt. Keys are locked in memory; what else it handles is not.",
			"Have MemorySwapMax=0 in force again: systemctl cat "+agentService)
	}
	return fault.Passed(name, "Nothing of the agent is swapped.")
}
