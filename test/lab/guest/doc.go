// SPDX-License-Identifier: Apache-2.0

// Package guest is how the host runs commands in the lab's guest: a protocol of
// JSON lines over a byte stream, its client, its server, and what the server
// runs in the guest. The stream is a virtio-serial port between QEMU and the
// agent (labguest), or the Unix socket of a lab that was kept up.
//
// The machine, its disks and what the scenarios do belong elsewhere, and nothing
// of the product may be known here: the guest must answer in a boot in which the
// product does not.
package guest
