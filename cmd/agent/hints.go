// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// guide is what an operator is told of a class of failure when nothing nearer
// to its cause has a better hint.
type guide struct {
	meaning string
	hint    string
}

// guideTo is the one table of what to do about a class.
func guideTo(c fault.Class) guide {
	switch c {
	case fault.Revoked:
		return guide{
			"The customer's key says no.",
			"Ask the customer whether the CMK was disabled, deleted or no longer shared on purpose. It is mended on their side alone.",
		}
	case fault.Unreachable:
		return guide{
			"The service did not answer.",
			"Check the network and the VPC endpoint of this host, and the AWS Health Dashboard. It passes by itself when the service answers.",
		}
	case fault.Throttled:
		return guide{
			"AWS was asked too often.",
			"It passes by itself. If it comes back, raise the request quota of the account.",
		}
	case fault.Integrity:
		return guide{
			"What is on the disk is not what was written to it.",
			"Find out who wrote to the volume before anything else. Nothing opens it until an operator says reattach.",
		}
	case fault.Misconfigured:
		return guide{
			"It can never work as it is set up.",
			"Change the configuration of the volume, or have the customer change the CMK; waiting does not help.",
		}
	case fault.Identity:
		return guide{
			"This host could not prove who it is.",
			"Check the instance role, the metadata service and the clock of this host. It says nothing about the CMK.",
		}
	case fault.None:
		return guide{}
	default:
		return guide{
			"It is not known what this means.",
			"See `journalctl -u volseal` for the whole error, and report it.",
		}
	}
}

// hintFor is the nearest hint: that of the failure itself, else of its class.
func hintFor(hint string, c fault.Class) string {
	if hint != "" {
		return hint
	}
	return guideTo(c).hint
}

// hintOfRefusal is the hint of what the agent refused.
func hintOfRefusal(e *control.Error) string {
	switch {
	case e.Hint != "":
		return e.Hint
	case e.Code == control.CodeNotFound, e.Code == control.CodeMethodNotAllowed, e.Code == control.CodeBadRequest:
		return "The agent does not know this request. If it is of an older version, run: systemctl restart volseal.service"
	case e.Class == fault.None:
		return guideTo(fault.Unknown).hint
	}
	return guideTo(e.Class).hint
}

// What is said about more than one failure.
const (
	hintNames         = "`volseal status` lists the names."
	hintInterrupted   = "`volseal status` shows what stands."
	hintAgree         = "Agree on what is to become of it, then say it again."
	hintFiles         = "volseal.yaml(5) says what the files are like. Those that only root may read are checked by root."
	hintHeaderImage   = "The agent reads nothing but its own directory. Copy the image into /var/lib/volseal/headers/NAME first."
	hintPrincipal     = "Name the account that is to use the key, such as --principal 123456789012"
	hintKeyARN        = "It has the form arn:aws:kms:REGION:ACCOUNT:key/ID; `volseal status NAME` shows that of a volume."
	hintAll           = "It is written: volseal rotate --all --from OLD --key-arn NEW"
	hintAllOrOne      = "Leave one of the two out."
	hintReencryptEach = "It loads the disk for hours: say rotate NAME --reencrypt for each, a few at a time."
	hintAbortEach     = "`volseal status NAME` shows one that is under way; say rotate NAME --abort for each."
	hintNewKeyEach    = "For a new data key under the CMK as it is, say rotate NAME --new-data-key for each volume."
	hintRegions       = "Use a CMK in the region of the volumes: KMS and EBS do not cross regions."
	hintAgain         = "Nothing was changed about it. Say the same again: it goes on with what is left."
	hintShells        = "The shells are bash, fish and zsh."
)

// hintStands is for a wish that has neither come true nor failed in time.
func hintStands(name string) string {
	return "The wish stands; follow it with: volseal explain " + name
}

// hintOpenFirst is for a volume that must be mounted for what is asked.
func hintOpenFirst(name string) string { return "Open it first: volseal unlock " + name }

// hintNotProved is for a volume that is said to be under a CMK.
func hintNotProved(name string) string {
	return "If it was moved a moment ago, say the same again in some seconds. Else see: volseal explain " + name
}

// hintVolume is for a name that is not configured but means a volume that is.
func hintVolume(names []string) string {
	return didYouMean(names) + " " + hintNames
}

// hintVerbs lists what may follow.
func hintVerbs(cmd *cobra.Command) string {
	if !cmd.HasParent() {
		return "Begin with `volseal status`; `volseal help` lists the verbs."
	}
	return "There is " + pathsOf(leaves(cmd)) + "."
}

func hintVerbFirst(verb *cobra.Command) string {
	return "The verb comes first: `" + strings.Join(synopsis(verb), " ") + "`"
}

// hintElsewhere is for a flag that other verbs have; "" if none has it.
func hintElsewhere(cmd *cobra.Command, flag string) string {
	var with []*cobra.Command
	for _, verb := range leaves(cmd.Root()) {
		if verb.LocalFlags().Lookup(flag) != nil {
			with = append(with, verb)
		}
	}
	if len(with) == 0 {
		return ""
	}
	return "It is a flag of " + pathsOf(with) + "."
}

func pathsOf(verbs []*cobra.Command) string {
	var lines []string
	for _, verb := range verbs {
		lines = append(lines, "`"+verb.CommandPath()+"`")
	}
	return strings.Join(lines, ", ")
}

// hintFlag shows how a flag is written.
func hintFlag(f *pflag.Flag) string {
	if f == nil {
		return ""
	}
	return "It is written " + flagWord(f) + ": " + flagText(f) + "."
}

func hintEquals(flag, value string) string {
	return "A limit is given with an equals sign: --" + flag + "=" + value
}

// meaningOf says in a sentence what a phase is.
func meaningOf(s volume.Status) string {
	switch s.Phase {
	case volume.Detached:
		return "The EBS volume is not attached to this instance."
	case volume.Attached:
		return "The EBS volume is attached, and holds no encryption of ours that could be opened."
	case volume.Sealed:
		if s.Frozen() {
			return "The volume is mounted but frozen: its key is no longer in the kernel, and all I/O waits until the key is proved usable again."
		}
		return "The EBS volume is attached and sealed: no key is in the kernel."
	case volume.Unlocked:
		return "The encryption is open, but nothing is mounted."
	case volume.Mounted:
		return "The volume is open and mounted at " + s.Mountpoint + "."
	case volume.Quarantined:
		return "What was found contradicts what should be there. Nothing opens the volume until an operator decides."
	default:
		return "This volseal does not know the phase; is the agent newer?"
	}
}
