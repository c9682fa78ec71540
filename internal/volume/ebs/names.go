// SPDX-License-Identifier: Apache-2.0

package ebs

import (
	"fmt"
	"sync"
)

// AttachVolume demands a device name that is unique on the instance. On Nitro
// it means nothing more: the kernel names the disk as it likes, and we find it
// by its serial. The pool begins with the names that AWS recommends for data
// volumes and goes on with those its own CSI driver uses beyond them.
func pool() []string {
	var all []string
	add := func(prefix string, from, to rune) {
		for c := from; c <= to; c++ {
			all = append(all, fmt.Sprintf("/dev/%s%c", prefix, c))
		}
	}
	add("sd", 'f', 'p')
	add("xvdb", 'a', 'z')
	add("xvdc", 'a', 'z')
	add("xvdd", 'a', 'x')
	return all
}

// names hands out device names, so that two volumes attached at the same moment
// never ask for the same one, and prefers those not used for longest: EC2 may
// go on holding a name for a while after a detachment.
type names struct {
	mu       sync.Mutex
	order    []string // least recently used first
	reserved map[string]bool
}

func newNames() *names {
	return &names{order: pool(), reserved: map[string]bool{}}
}

// reserve picks a name that is neither in use nor reserved. The caller gives it
// back with release. ok is false when there is none left.
func (n *names) reserve(inUse map[string]bool) (name string, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, candidate := range n.order {
		if inUse[candidate] || n.reserved[candidate] {
			continue
		}
		n.order = append(append(n.order[:i:i], n.order[i+1:]...), candidate)
		n.reserved[candidate] = true
		return candidate, true
	}
	return "", false
}

func (n *names) release(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.reserved, name)
}
