// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/volseal/volseal/internal/config"
	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/doctor"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume/luks"
	"github.com/volseal/volseal/internal/volume/mount"
)

func (c *cli) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Examine this host and the agent", Args: noArguments,
		Long: `Examine everything on this host that volumes need: kernel, tools, configuration,
socket, units, what holds databases back, claims and header images; and through
the agent its clock, its metadata, its permissions in EC2 and each configured CMK.
A line for each, with a remedy. Nothing is changed.

It works without the agent too, and sees most as root. What cannot be seen is
skipped. Exit codes: 0 if nothing failed (a warning is no failure), 14 if
something must be changed, 4 if the agent is not running.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.doctor(cmd.Context()) },
	}
}

func (c *cli) doctor(ctx context.Context) error {
	client := c.client()
	defer client.Close()
	inside, err := client.Doctor(ctx)
	if err != nil && ctx.Err() != nil {
		return err
	}
	report := control.NewReport(append(append([]fault.Check{agentLine(err)}, c.host().Examine(ctx)...), inside.Checks...))
	if perr := c.print(report, func() { c.printChecks(report.Checks) }); perr != nil {
		return perr
	}
	const title = "Examine host"
	if err != nil && !denied(err) {
		return &stepError{title: title, err: err} // without the agent's part nothing is known to be well
	}
	failure := checksFailed(title, report.Checks)
	var f *fault.Error
	if errors.As(failure, &f) {
		f.Class = fault.Misconfigured // one number for all that must be changed
	}
	return failure
}

// agentLine says whether the agent could be asked.
func agentLine(err error) fault.Check {
	const name = "agent"
	switch {
	case err == nil:
		return fault.Check{Name: name, Status: fault.CheckOK, Detail: "Answers.", Who: []fault.Owner{}}
	case denied(err):
		return fault.Check{Name: name, Status: fault.CheckSkipped, Detail: "Its part is missing here. " + err.Error(), Remedy: hintOf(err), Who: []fault.Owner{}}
	}
	return fault.Check{
		Name: name, Status: fault.CheckFailed, Detail: err.Error(), Remedy: hintOf(err),
		Class: fault.Unknown, Who: []fault.Owner{fault.Platform},
	}
}

func denied(err error) bool {
	var refusal *control.Error
	return errors.As(err, &refusal) && refusal.Code == control.CodePermissionDenied
}

// host is this host as the caller sees it.
func (c *cli) host() doctor.Host {
	h := doctor.Host{
		Release: kernelRelease(), Super: os.Geteuid() == 0, Now: c.now(),
		Socket: c.socket, Readers: readerGroup, State: stateDir,
		Cryptsetup: luks.New(luks.Options{}).Version,
		Unit:       mount.New(mount.Options{}).Unit,
		UpToDate:   mount.UpToDate,
		Group: func(name string) error {
			_, err := control.NewPolicy(name, "")
			return err
		},
	}
	h.Config, h.ConfigErr = config.Load(configDir)
	return h
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}
