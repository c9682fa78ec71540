// SPDX-License-Identifier: Apache-2.0

// Package mount has systemd mount and unmount. It generates the units
// (Generate), starts and stops them over D-Bus and reads the mount table
// (Manager), and tells when that table changes (Watch).
//
// Nothing here calls mount(2): the sandboxed agent has a mount namespace of its
// own, and a mount made in it would not exist for the database. Nothing here
// decides whether a volume may be mounted, either: that is the domain's business.
package mount
