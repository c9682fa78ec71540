// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

// ErrNoDevice is Devices.Find's answer when no block device carries the volume's serial.
var ErrNoDevice = errors.New("no device with this volume's serial")

// Cloud is EC2 as this host sees it. Every error is a *fault.Error.
// No method waits for a state: the reconciler asks again.
type Cloud interface {
	// Volume describes one volume.
	Volume(ctx context.Context, volumeID string) (CloudVolume, error)
	// Attach asks for the volume to be attached to this instance. Already
	// attached or attaching here is success.
	Attach(ctx context.Context, volumeID string) error
	// Detach asks for it to be detached from this instance, never by force.
	// Already detached or detaching is success.
	Detach(ctx context.Context, volumeID string) error
}

// CloudVolume is EC2's word on one volume.
type CloudVolume struct {
	ID          string
	State       string // EC2's volume state: creating, available, in-use, deleting, deleted, error
	Encrypted   bool
	KeyARN      string // the CMK of the EBS layer; "" when unencrypted
	MultiAttach bool
	Zone        string
	Attachment  string    // state of the attachment to this instance: "", attaching, attached, detaching, busy
	Since       time.Time // when that attachment was asked for; zero when unknown
	Elsewhere   string    // another instance it is attached to, "" if none
}

// Maker has EC2 make volumes in this instance's zone. Every error is a
// *fault.Error. No method waits for a state, and none deletes anything. What is
// made carries the token in a tag, so that it can be found.
type Maker interface {
	// CreateVolume asks for a volume and returns its id. However often it is asked
	// for the same NewVolume, EC2 makes one. Success says nothing about the CMK:
	// EC2 finds out later, and then shows the volume in state error, or knows it
	// no longer.
	CreateVolume(ctx context.Context, v NewVolume) (volumeID string, err error)
	// FindVolume returns the volume that was made under this token, "" if EC2
	// shows none. It may lag behind.
	FindVolume(ctx context.Context, token string) (volumeID string, err error)
	// Snapshot describes one snapshot.
	Snapshot(ctx context.Context, id string) (CloudSnapshot, error)
	// CopySnapshot asks for a copy under another CMK and returns its id. Each call
	// makes one. Whether it succeeds shows only in the copy's state.
	CopySnapshot(ctx context.Context, c NewCopy) (snapshotID string, err error)
	// FindCopy returns the copy that was made under this token, "" if EC2 shows
	// none. It may lag behind.
	FindCopy(ctx context.Context, token string) (snapshotID string, err error)
}

// Reasons of a Maker's and a Cloud's errors that decide.
const (
	ReasonNoVolume   = "InvalidVolume.NotFound"      // there is no such volume, or EC2 does not show it yet
	ReasonNoSnapshot = "InvalidSnapshot.NotFound"    // nor such a snapshot
	ReasonTokenUsed  = "IdempotentParameterMismatch" // the client token stands for another volume
)

// NewVolume is a volume to be made.
type NewVolume struct {
	Token    string // client token
	Name     string // of ours, for its tags
	Database string // for its tags
	KeyARN   string // the CMK of the EBS layer
	SizeGiB  int
	Snapshot string // "" is blank
}

// NewCopy is a copy of a snapshot to be made.
type NewCopy struct {
	Token, Name, Database string // for its tags
	KeyARN                string
	Snapshot              string
}

// CloudSnapshot is EC2's word on one snapshot.
type CloudSnapshot struct {
	ID        string
	State     string // EC2's: pending, completed, error, …
	Message   string // EC2's word on a failed copy, or ""
	Progress  string // such as "42%", or ""
	Encrypted bool
	KeyARN    string // "" when unencrypted
	SizeGiB   int
	Ours      bool // it belongs to this instance's account
}

// Device is a block device found by its NVMe serial.
type Device struct {
	Path         string // /dev/nvme1n1, for messages and for cryptsetup
	Major, Minor uint32 // its identity: mappings are compared with this, never by path
	Bytes        int64
}

// Devices finds block devices. It reads sysfs afresh on each call.
type Devices interface {
	// Find returns the one device whose serial is the volume id. ErrNoDevice if
	// there is none; a *fault.Error of class Integrity on any doubt (two devices
	// of one serial, a partition table in the way, a model that is not EBS).
	Find(ctx context.Context, volumeID string) (Device, error)
}

// HeaderState is what a first look at the device tells, without any key and
// without starting a process. It decides nothing about trust: Freeze does.
type HeaderState int

// The states of a header.
const (
	HeaderUnread  HeaderState = iota // no device, or not looked at
	HeaderBlank                      // the header area is all zeros
	HeaderLUKS2                      // a LUKS2 magic where the first header belongs
	HeaderForeign                    // anything else: a file system, LUKS1, a damaged header
)

// HeaderFact is the first look.
type HeaderFact struct {
	State HeaderState
	UUID  string // of the primary header as written there, unverified; "" unless HeaderLUKS2
	What  string // for messages: "ext4 file system", "LUKS1 header", …; a word of ours, never text from the disk
}

// Header is a frozen, policy-checked copy of a device's LUKS2 header. All later
// decisions and cryptsetup itself use the copy, so what was checked is what is opened.
type Header struct {
	Path       string // root-only file holding the copy
	UUID       string
	Sum        [sha256.Size]byte // SHA-256 of its metadata and its keyslots' areas, all that opening it reads
	Candidates []Candidate       // at least one
	Key        string            // the digest of the volume key; "" while there are two
	Unfinished *Unfinished       // a reencryption that has not finished, or nil
}

// Unfinished is how far a reencryption is.
type Unfinished struct {
	Done, Total int64  // bytes of data under the new volume key, and in all
	Generation  int    // of the token that the volume will have
	Key         string // the digest of the volume key that it will have
}

// Fingerprint is SHA-256 of a header's metadata and of the areas of its first keyslots.
type Fingerprint [sha256.Size]byte

// Candidate is one token of ours in a frozen header, with the keyslot it is bound to.
type Candidate struct {
	Token   envelope.Token
	Keyslot int
	Meaning []byte // canonical JSON of what the MAC covers besides the token
	// Also is the token of the other volume key of an unfinished reencryption, or
	// nil. It is of the same data key, and neither counts without the other.
	Also *Candidate
}

// Mapping is what sysfs tells of a device-mapper device. The zero value means absent.
type Mapping struct {
	Present      bool
	Suspended    bool
	Major, Minor uint32    // of the mapping itself
	UUID         string    // LUKS UUID from the dm uuid; "" if it is not a LUKS2 mapping
	Backing      []Backing // devices beneath
	Holders      int       // devices stacked above it

	// While its data is being reencrypted, a mapping lies upon devices of
	// cryptsetup's; Backing is then what those lie upon.
	Layered bool
	Halted  bool // one of them is suspended, as the hot zone is now and then
}

// Backing is the identity of a device beneath a mapping.
type Backing struct{ Major, Minor uint32 }

// Crypt is LUKS2 and dm-crypt. Errors that blame the disk are *fault.Error of
// class Integrity with the name of the failed rule as Reason.
type Crypt interface {
	// Look is the cheap first look at a device.
	Look(ctx context.Context, dev Device) (HeaderFact, error)
	// Freeze copies the header once, checks it against policy, and returns the
	// copy; it starts no process. name keeps concurrent copies apart. The caller discards it.
	Freeze(ctx context.Context, dev Device, name string) (*Header, error)
	// Fingerprint tells whether what Freeze and Try look at has changed: one read
	// of 1 MiB, no process. It may wait for a device that hangs for as long as that does.
	Fingerprint(ctx context.Context, dev Device) (Fingerprint, error)
	// Try unlocks a keyslot of a frozen header and opens nothing: no mapping is
	// made, and the volume key does not reach the kernel.
	Try(ctx context.Context, h *Header, keyslot int, passphrase *envelope.Secret) error
	// Discard removes a frozen copy. Harmless on nil and when repeated.
	Discard(h *Header)
	// Mapping tells of the mapping of that name. Absence is not an error.
	Mapping(ctx context.Context, name string) (Mapping, error)
	// Open opens dev with the frozen header under the name pending, and compares
	// what cryptsetup reads in that header, and then the live table, with policy;
	// on any mismatch it closes it again.
	Open(ctx context.Context, dev Device, h *Header, keyslot int, pending string, passphrase *envelope.Secret) error
	// Suspend has the file system flushed and frozen, suspends all I/O of a
	// mapping, and wipes its key from the kernel. Repeated, it completes what was
	// cut short. It waits for the flush.
	Suspend(ctx context.Context, mapping string) error
	// Wiped reports whether a suspended mapping is without its key.
	Wiped(ctx context.Context, mapping string) (bool, error)
	// Resume gives a suspended mapping of dev its key back, from the frozen header
	// and the one keyslot, lets I/O go on, and compares the live table with policy;
	// on a mismatch it suspends it again.
	Resume(ctx context.Context, dev Device, h *Header, keyslot int, mapping string, passphrase *envelope.Secret) error
	// Abandon has all I/O of a mapping fail, what waits and what comes, and ends
	// its suspension: for the file system, a power cut.
	Abandon(ctx context.Context, mapping string) error
	// Cipher is that of the mapping's live table, as the kernel calls it.
	Cipher(ctx context.Context, mapping string) (string, error)
	// Publish renames a pending mapping to its final name and waits for udev.
	Publish(ctx context.Context, pending, mapping string) error
	// InUse reports whether anything on this host holds the device: a mapping of
	// any name, or a mount.
	InUse(ctx context.Context, dev Device) (bool, error)
	// Close removes a mapping; the key leaves the kernel. Already absent is success.
	// A mapping in use is a *fault.Error with Reason "busy".
	Close(ctx context.Context, mapping string) error
}

// Reencryptor is what only a reencryption needs of LUKS2 and device-mapper.
type Reencryptor interface {
	// FreezeAny is Freeze that admits an unfinished reencryption: for who knows that
	// there is one of ours.
	FreezeAny(ctx context.Context, dev Device, name string) (*Header, error)
	// Progress tells how far the reencryption on the device is, nil if there is
	// none: one read, no process. It may hang as Fingerprint may.
	Progress(ctx context.Context, dev Device) (*Unfinished, error)
	// ReencryptCommand is what a Work runs that reencrypts a mapping, hotzone bytes
	// at a time; the passphrase is its standard input.
	ReencryptCommand(ctx context.Context, mapping string, hotzone int64) (Command, error)
	// FailLayers has all I/O fail that waits for a reencryption whose process is
	// gone. CloseLayers removes its devices, once the mapping does not lie upon them.
	FailLayers(ctx context.Context, mapping, uuid string) error
	CloseLayers(ctx context.Context, mapping, uuid string) error
	// JudgeAny is Judge that admits an unfinished reencryption.
	JudgeAny(dev Device, path string) (*Header, error)
	// BeginReencryption makes at path an image of the header on dev with a new volume
	// key, under which nothing is encrypted yet, and the token that seal returns for
	// it beside keep, durably; passphrase opens both. dev is only read.
	BeginReencryption(ctx context.Context, dev Device, path string, keep envelope.Token, passphrase *envelope.Secret, seal func(keyslot int, meaning []byte) (envelope.Token, error)) error
}

// Command is a program with its arguments, none of which is secret.
type Command struct {
	Path string
	Args []string
}

// Job is a command that runs in a unit of its own: neither a restart nor the death
// of the agent ends it.
type Job struct {
	Name       string // of the volume
	Command    Command
	Stdin      *envelope.Secret
	Mountpoint string // its end ends the job first
	Device     string // the limits are on it
	Rate       int64  // bytes a second that may be read, and as many written
}

// Jobs has systemd run jobs. Every call is bounded.
type Jobs interface {
	// Run starts the job. It has begun, or failed to, when Run returns.
	Run(ctx context.Context, j Job) error
	// Running reports whether the volume's job runs, or is just ending.
	Running(ctx context.Context, name string) (bool, error)
	// Halt has it end in good order and waits for that. That there is none is success.
	Halt(ctx context.Context, name string) error
}

// Formatter makes a blank volume ours. Only init uses it.
type Formatter interface {
	// CheckBlank reads the whole device and returns nil only if every byte is
	// zero, or is part of the header image at path (an interrupted WriteHeader of
	// ours); path "" allows zeros only. progress is told bytes read and total.
	CheckBlank(ctx context.Context, dev Device, path string, progress func(done, total int64)) error
	// BuildHeader writes a complete header image to path, durably: LUKS2 of this
	// uuid with one keyslot for passphrase and the token that seal returns for
	// the header's meaning (see Candidate.Meaning).
	BuildHeader(ctx context.Context, path, uuid string, dev Device, passphrase *envelope.Secret, seal func(keyslot int, meaning []byte) (envelope.Token, error)) error
	// WriteHeader restores the image onto the device, flushes, and reads it back.
	WriteHeader(ctx context.Context, dev Device, path string) error
	// MakeFilesystem makes a file system (ext4 or xfs) on a pending mapping. The
	// claim says that nothing was ever stored in it; a file system there that was
	// ever mounted says otherwise, and is an Integrity error "filesystem-present".
	MakeFilesystem(ctx context.Context, mapping, filesystem string) error
}

// HeaderCopy is one of the two copies of a header on a device, judged by itself.
type HeaderCopy struct {
	Err      error // a *fault.Error of class Integrity; nil if it is sound by itself
	Sequence uint64
	UUID     string
}

// HeaderCopies are both.
type HeaderCopies struct {
	Primary, Secondary HeaderCopy
	Differ             error // why the two together are refused, or nil
}

// Archive keeps headers in files and puts them back. An image is a file of a
// device's whole header area.
type Archive interface {
	// Save copies the header area of dev as it is to a new file at path, durably.
	// What it is worth is for Judge to say.
	Save(ctx context.Context, dev Device, path string) error
	// Judge judges an image for dev as Freeze judges a device. The Header is not
	// discarded: its Path is the image.
	Judge(dev Device, path string) (*Header, error)
	// Print is the Fingerprint of a device with this image's header.
	Print(path string) (Fingerprint, error)
	// Copies judges the two copies of the header on dev apart.
	Copies(ctx context.Context, dev Device) (HeaderCopies, error)
	// AddKeyslot makes at path an image of the header on dev with the token keep, and
	// a keyslot more for added with the token that seal returns, durably; present opens
	// keep's keyslot, and dev is only read.
	AddKeyslot(ctx context.Context, dev Device, path string, keep envelope.Token, present, added *envelope.Secret, seal func(keyslot int, meaning []byte) (envelope.Token, error)) error
	// Retoken makes at path an image of the header on dev with exactly these
	// tokens of ours, and without the keyslots that none of them opens, durably; dev
	// is only read.
	Retoken(ctx context.Context, dev Device, path string, tokens []envelope.Token) error
	// Restore writes an image over the header of dev, flushes, and reads it back.
	// dev must be unused, or, with a mapping, used by that one alone. still is asked
	// when dev is open, and nobody else can get its number any more: an error of it
	// is returned, and nothing written. Repeated after a crash Restore completes what
	// was cut short.
	Restore(ctx context.Context, dev Device, path, mapping string, still func(context.Context) error) error
}

// MountFact is what PID 1's mount table says of a mapping and a mount point.
type MountFact struct {
	Mounted  bool // the mapping is mounted at the mount point, on top but for an eCryptfs over itself
	ReadOnly bool
	Others   []string // other places where the mapping is mounted
	Occupied bool     // something that is not the mapping is mounted at the mount point

	Filesystem string     // type of what is Mounted
	Ecryptfs   []Ecryptfs // mounts that lie on what is Mounted; not all, where there are very many
}

// Ecryptfs is one eCryptfs mount. Its paths are for people: cut where they are
// very long, and whatever would not print is written as in the mount table, \ooo.
type Ecryptfs struct {
	Path  string // where it is mounted
	Lower string // the directory that it encrypts, as whoever mounted it named that
}

// Mounts has systemd mount and unmount; it never calls mount(2).
type Mounts interface {
	// Find looks the mapping (by device number; zero if absent) up in the host's mount table.
	Find(ctx context.Context, m Mapping, mountpoint string) (MountFact, error)
	// Stopping reports whether the host is shutting down: nothing is to be opened any more.
	Stopping(ctx context.Context) (bool, error)
	// Start starts the mount unit of the mount point and waits for the job.
	Start(ctx context.Context, mountpoint string) error
	// Stop stops it and waits: systemd first stops the units that require it.
	Stop(ctx context.Context, mountpoint string) error
}

// Recorder counts what happens. It must not block. The metrics package implements it.
type Recorder interface {
	// Step is told of each step taken, with the class of its failure or None.
	Step(volume string, step Step, class fault.Class, took time.Duration)
	// DecryptFailed: KMS, or the proof it stands for, said no.
	DecryptFailed(volume string, class fault.Class)
	// MountRefused: a volume that should be mounted was refused, by class.
	MountRefused(volume string, class fault.Class)
	// HeaderRejected: policy or the MAC refused a header, by the rule's name.
	HeaderRejected(volume, reason string)
	// Reconciled: a pass ended.
	Reconciled(volume string)
}
