// SPDX-License-Identifier: Apache-2.0

// Package ec2 emulates the part of EC2 and EBS that an agent which attaches
// volumes depends on: instances, volumes, attachments, snapshots, tags, with
// their asynchronous states and failures, over the real Query protocol
// (API version 2016-11-15). What is attached is really plugged into a machine,
// through a Plugger.
//
// EBS encryption is emulated as authorisation only: data keys are asked of KMS
// and grants made, on the caller's behalf and with EBS's encryption context, and
// refusals have their real effects; but the raw images hold the bytes as the
// guest wrote them. Who reads an image plays an attacker below the hypervisor.
//
// How the machine plugs a disk, what KMS decides, and what is wrong on the wire
// do not belong here. No product code may import this package.
package ec2
