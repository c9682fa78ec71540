// SPDX-License-Identifier: Apache-2.0

package config

import "fmt"

// across finds what no file shows by itself.
func across(entries []entry, region string) Problems {
	var ps Problems
	for i, e := range entries {
		for _, before := range entries[:i] {
			ps = append(ps, e.against(before)...)
		}
		if arn := e.spec.KeyARN; region != "" && arn != "" && regionOf(arn) != region {
			ps = append(ps, e.problem("key_arn",
				fmt.Sprintf("the key is in %s, this host in %s", regionOf(arn), region),
				"use a key in the region of the volume: KMS and EBS do not cross regions"))
		}
	}
	return ps
}

func (e entry) problem(key, message, hint string) Problem {
	return Problem{File: e.file, Line: e.lines[key], Path: key, Message: message, Hint: hint}
}

// against compares with an entry that was read before.
func (e entry) against(o entry) []Problem {
	var ps []Problem
	same := func(key, mine, theirs string) {
		if mine != "" && mine == theirs {
			ps = append(ps, e.problem(key, fmt.Sprintf("%s is also in %s", quote(mine), o.at(key)), "each volume needs its own"))
		}
	}
	same("name", e.spec.Name, o.spec.Name)
	same("volume_id", e.spec.VolumeID, o.spec.VolumeID)
	same("mountpoint", e.spec.Mountpoint, o.spec.Mountpoint)
	if mine, theirs := e.spec.Mountpoint, o.spec.Mountpoint; mine != "" && theirs != "" && mine != theirs && (inside(mine, theirs) || inside(theirs, mine)) {
		ps = append(ps, e.problem("mountpoint",
			fmt.Sprintf("%s and %s (%s) lie inside one another", quote(mine), quote(theirs), o.at("mountpoint")),
			"put them beside each other: whichever is locked would take the other with it"))
	}
	return ps
}

func (e entry) at(key string) string { return fmt.Sprintf("%s:%d", e.file, e.lines[key]) }
