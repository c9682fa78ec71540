// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"fmt"
	"slices"

	"github.com/volseal/volseal/internal/fault"
)

// refusal says why StepRefuse refuses.
func refusal(o observed) error {
	switch {
	case o.facts.Mount == MountElsewhere:
		return misconfigured("mounted-elsewhere", fmt.Sprintf("The mapping %s is mounted at %s, not only where it belongs.", o.spec.Mapping(), o.mount.Others[0]),
			"Unmount it there; volseal does not end what it did not begin.")
	case o.facts.Mount == MountForeign:
		return misconfigured("mountpoint-occupied", fmt.Sprintf("Something else is mounted at %s.", o.spec.Mountpoint),
			"See findmnt "+o.spec.Mountpoint+", and unmount it or configure another mountpoint.")
	case o.facts.Wish == WishDetached && o.facts.Held:
		return &fault.Error{
			Class: fault.Unknown, Reason: "busy",
			Cause: fmt.Sprintf("Something on this host holds %s (%s), under another name than this volume's.", o.volumeID, o.device.Path),
			Hint:  "See lsblk and findmnt; end that use first. It is not detached from under anybody.",
		}
	case o.facts.Wish == WishDetached:
		return &ConflictError{
			Message: "attach is false for this volume: it is attached and detached by somebody else.",
			Hint:    "Use volseal lock, then detach it where it was attached.",
		}
	case o.facts.Cloud != CloudAttached:
		return refusalByCloud(o)
	case o.facts.Header == HeaderLUKS2:
		return &ConflictError{
			Message: "The volume has a LUKS2 header already; it is not formatted again.",
			Hint:    "To open it, run: volseal unlock " + o.spec.Name,
		}
	case o.facts.Header == HeaderBlank:
		return misconfigured("not-initialised", "The volume is blank: it was never initialised.",
			"If it is new, run as root: volseal init "+o.spec.Name+". If it held data, do NOT: restore its header or a snapshot.")
	}
	return misconfigured("not-ours", "The volume carries a "+o.header.What+" and no header of volseal.",
		"Check volume_id. Nothing was changed on the device.")
}

func refusalByCloud(o observed) error {
	switch o.facts.Cloud {
	case CloudElsewhere:
		return misconfigured("attached-elsewhere", fmt.Sprintf("%s is attached to instance %s.", o.volumeID, o.cloud.Elsewhere),
			"Stop the other host's database and detach it there first, or correct volume_id.")
	case CloudUnusable, CloudBroken, CloudCreating:
		return misconfigured("volume-state", fmt.Sprintf("EC2 reports %s in state %q.", o.volumeID, o.cloud.State),
			"A volume in state error was probably created under a CMK that could not be used.")
	case CloudDetaching:
		return unknown("detaching", fmt.Sprintf("EC2 is detaching %s, or was asked to.", o.volumeID),
			"Somebody asked for it outside volseal. While the volume is mounted it waits; by force it would not.")
	case CloudStuck:
		return unknown("attach-stuck", fmt.Sprintf("%s has been attaching for more than %s, yet its device is here.", o.volumeID, stuckAfter),
			"Look at the volume in EC2; detach it there if it stays so.")
	}
	return unknown("attachment-doubt", fmt.Sprintf("A device of %s is here, but EC2 does not say that it is attached to this instance.", o.volumeID),
		"Look at the volume in EC2. Nothing is opened while the two disagree.")
}

// awaitError says what EC2 or the kernel is late with.
func awaitError(o observed) error {
	switch {
	case o.facts.Cloud == CloudCreating:
		return unknown("create-slow", fmt.Sprintf("EC2 is still creating %s.", o.volumeID),
			"It goes on as soon as EC2 reports the volume as available.")
	case o.facts.Cloud == CloudDetaching:
		return unknown("detach-slow", fmt.Sprintf("EC2 is still detaching %s.", o.volumeID),
			"Something on this host may still use the device: see lsblk. volseal never detaches by force.")
	case o.facts.Cloud == CloudAttached:
		return unknown("device-missing", fmt.Sprintf("EC2 says that %s is attached, but no NVMe device carries its serial.", o.volumeID),
			"See dmesg and /sys/class/nvme; volseal release and reattach take the attachment anew.")
	case o.facts.MayAttach:
		return unknown("attach-slow", fmt.Sprintf("EC2 is still attaching %s.", o.volumeID),
			"It is taken back and tried again after "+stuckAfter.String()+".")
	}
	return unknown("device-awaited", fmt.Sprintf("%s is not attached, and attach is false for it.", o.volumeID),
		"Attach the volume to this instance.")
}

// contradictionError is the quarantine of facts that no ordinary history explains.
func contradictionError(c string, o observed) error {
	causes := map[string]string{
		"mapping-unsound":       "A mapping named " + o.spec.Mapping() + " exists that is not this volume's, or whose claim is gone.",
		"device-lost":           "The device of " + o.volumeID + " was taken away while the volume was mounted.",
		"device-hidden":         "The volume is open, but no device with the serial of " + o.volumeID + " is found.",
		"mount-without-mapping": "The mount point is in use by a mapping that no longer exists.",
		"header-gone":           "The header area of " + o.volumeID + " is blank, but the volume was initialised.",
		"header-unexpected":     "EC2 made " + o.volumeID + " blank for us, but it carries a LUKS2 header that is not ours.",
		"header-foreign":        "The volume carries a " + o.header.What + " where the header of volseal belongs.",
	}
	hints := map[string]string{
		"mapping-unsound":   "See dmsetup info " + o.spec.Mapping() + ". volseal reattach " + o.spec.Name + " closes it and opens the volume anew.",
		"device-lost":       "What was not yet on the disk is lost, as in a power cut. The database is stopped and the volume closed. See in EC2 who detached it, then run: volseal reattach " + o.spec.Name,
		"device-hidden":     "Nothing is done to the mount. See /sys/class/nvme, then run: volseal reattach " + o.spec.Name,
		"header-gone":       "Do NOT run init. Rule out tampering, then put the header back from its backup, as root: volseal header restore " + o.spec.Name + ". Without one, restore a snapshot of the volume.",
		"header-foreign":    "Check volume_id. Nothing was changed on the device. If it is right, the header is damaged: volseal header verify " + o.spec.Name + " says what is left of it.",
		"header-unexpected": "Somebody else wrote to it. Find out who; nothing was changed on the device. To be rid of it: volseal release " + o.spec.Name + ", then delete it in EC2.",
	}
	if o.facts.Making == MakingRestored {
		causes["header-gone"] = "The header area of " + o.volumeID + " is blank, but the volume was made from " + o.claim.Making.Snapshot + "."
		hints["header-gone"] = "It is never formatted. Check the snapshot, or put the header back from a backup, as root: volseal header restore " + o.spec.Name
	}
	if c == "device-lost" { // nothing was wrong with what is on the disk
		return unknown(c, causes[c], hints[c])
	}
	return integrity(c, causes[c], hints[c])
}

func misconfigured(reason, cause, hint string) error {
	return &fault.Error{Class: fault.Misconfigured, Reason: reason, Cause: cause, Hint: hint}
}

func unknown(reason, cause, hint string) error {
	return &fault.Error{Class: fault.Unknown, Reason: reason, Cause: cause, Hint: hint}
}

// filesystemError tells of a mounted file system that made itself read-only,
// as ext4 does when it cannot write its journal. Whether the next mount
// would be sound nobody knows.
func filesystemError(o observed) error {
	if !o.mount.ReadOnly || slices.Contains(o.spec.MountOptions, "ro") {
		return nil
	}
	return unknown("read-only", "The file system at "+o.spec.Mountpoint+" has become read-only.",
		"The kernel log says why. Nothing is done to it. Save what can be read, then lock the volume, check the file system of the disk's snapshot, and unlock it.")
}
