// SPDX-License-Identifier: Apache-2.0

// Package volume is the domain: what a volume should be (Spec), what it is
// found to be (Facts), the phase that follows, the one next step, and the
// worker that takes it. It speaks to the world only through the ports in
// ports.go. No AWS SDK, no process is started and no system call is made here;
// the adapters in the sub-packages do that.
package volume

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/volseal/volseal/internal/envelope"
)

// MappingPrefix begins the device-mapper name of every mapping of ours.
const MappingPrefix = "volseal-"

// Spec is one configured volume, validated. It is a value: a reload makes a new one.
type Spec struct {
	Name                 string           // [a-z0-9][a-z0-9-]{0,31}
	Database             string           // identifies the database in the encryption context
	VolumeID             string           // vol-…; "" until the claim records one
	KeyARN               string           // the pinned CMK, always a key ARN
	Mountpoint           string           // absolute, clean
	Filesystem           string           // ext4 or xfs
	MountOptions         []string         // beyond nosuid,nodev,noexec
	Context              envelope.Context // the whole encryption context, ours and the operator's pairs
	Attach               bool             // false: somebody else attaches; EC2 is still asked for facts
	RequireEBSEncryption bool
	DatabaseUnit         string        // "" or a unit such as postgresql.service
	UnlockTimeout        time.Duration // how long systemd waits for the mapping at boot
	OnRevocation         Policy        // "" is DenyNew
	RevocationGrace      time.Duration // how long revoked answers must last before a policy locks
}

// Policy is what becomes of a mounted volume whose CMK is revoked.
type Policy string

// The policies.
const (
	DenyNew      Policy = "deny-new"      // it runs on; nothing is mounted anew
	LockGraceful Policy = "lock-graceful" // the database is stopped, the volume unmounted and closed
	LockFreeze   Policy = "lock-freeze"   // all I/O is suspended and the key wiped from the kernel
)

func (p Policy) locks() bool { return p == LockGraceful || p == LockFreeze }

// Binding identifies CMK and encryption context. A claim keeps the one that the
// volume was last opened under, which tells an edited configuration from a
// header that was tampered with.
func (s Spec) Binding() string {
	sum := sha256.Sum256(append([]byte(s.KeyARN+"\n"), s.Context.Canonical()...))
	return hex.EncodeToString(sum[:])
}

// Mapping is the device-mapper name under which the opened volume is published.
func (s Spec) Mapping() string { return MappingPrefix + s.Name }

// Pending is the device-mapper name it has until its live table has been checked.
// The dot cannot occur in a volume's name, so it never meets a published mapping.
func (s Spec) Pending() string { return MappingPrefix + s.Name + ".pending" }

// keyRef is the CMK and the context under which the volume's data key is wrapped.
func (s Spec) keyRef() envelope.Ref { return envelope.Ref{KeyARN: s.KeyARN, Context: s.Context} }
