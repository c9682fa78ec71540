// SPDX-License-Identifier: Apache-2.0

// Package luks is LUKS2 and dm-crypt: it looks at headers, freezes and judges
// them, builds new ones, and opens, publishes and closes mappings. It
// implements volume.Crypt, volume.Formatter and volume.Archive.
//
// Whether a header may be trusted is decided here in three views that must
// agree: our own strict reading of the frozen bytes (binary.go, metadata.go),
// cryptsetup's reading of the same file (view.go), and policy (policy.go). What
// the MAC covers is meaning.go. Every external command goes through run.go and
// has its arguments built in commands.go; the live table is asked of the kernel
// itself (devmapper.go).
//
// Nothing here decides when to open or to format, knows about KMS, or finds
// devices. The state of mappings is read from sysfs, never from a tool's text
// meant for people.
//
// # Crash safety
//
// Each call can be repeated after a crash at any point:
//
//	Freeze       leaves at most a stale copy, public data; Sweep removes it
//	Open         leaves at most a pending mapping, which Close takes away
//	Publish      a rename is atomic; repeated, it finds the work done
//	Close        repeated, it finds nothing left to do
//	BuildHeader  leaves at most a temporary file, overwritten the next time
//	WriteHeader  leaves blocks of the image among zeros; see write.go
//	Save         leaves at most a file that nobody calls a backup yet
//	Retoken      leaves at most a temporary file; the device is only read
//	Restore      leaves a header that is refused, and never a blank one; repeated, it completes it
//	MakeFilesystem  starts anew on what was never mounted
package luks
