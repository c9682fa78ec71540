// SPDX-License-Identifier: Apache-2.0

// Package device finds the block device of an EBS volume by its NVMe serial,
// from sysfs alone, and tells when block devices come and go. It implements
// volume.Devices.
//
// Names such as /dev/nvme1n1 and links below /dev/disk are never looked up:
// names follow the order of appearance, and a stale link has mounted the wrong
// volume for others. Nothing here opens a device or reads what is on it.
package device
