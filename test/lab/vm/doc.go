// SPDX-License-Identifier: Apache-2.0

// Package vm is the lab's instance: a Debian 12 guest with Debian's kernel under
// QEMU, whose EBS volumes are NVMe disks that are plugged and unplugged while it
// runs, which can be rebooted or lose its power, and which reaches nothing but
// the emulated AWS. It builds and caches the guest's image, too.
//
// What EC2 or KMS would say, and what a scenario does, belong elsewhere. No
// product code may import this package.
package vm
