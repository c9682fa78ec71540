// SPDX-License-Identifier: Apache-2.0

package main

import (
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

// meaningOf says in a sentence what a phase is.
func meaningOf(s volume.Status) string {
	switch s.Phase {
	case volume.Detached:
		return "The EBS volume is not attached to this instance."
	case volume.Attached:
		return "The EBS volume is attached, and holds no encryption of ours that could be opened."
	case volume.Sealed:
		if frozen(s) {
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

// frozen: mounted still, without its key. No mapping of another sealed volume is left.
func frozen(s volume.Status) bool { return s.Phase == volume.Sealed && s.Mapping != "" }
