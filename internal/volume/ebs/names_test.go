// SPDX-License-Identifier: Apache-2.0

package ebs

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestNamesNeverShared: over any history, no name is handed out that is in use
// or reserved, and one is found as long as there is any.
func TestNamesNeverShared(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := newNames()
		var held []string
		inUse := map[string]bool{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			if len(held) > 0 && rapid.Bool().Draw(t, "release") {
				n.release(held[0])
				held = held[1:]
				continue
			}
			name, ok := n.reserve(inUse)
			switch {
			case !ok && len(held)+len(inUse) < len(pool()):
				t.Fatalf("no name found with %d held and %d in use", len(held), len(inUse))
			case !ok:
				continue
			case slices.Contains(held, name) || inUse[name]:
				t.Fatalf("%s handed out twice", name)
			}
			if rapid.Bool().Draw(t, "attach") {
				inUse[name] = true
				n.release(name)
			} else {
				held = append(held, name)
			}
		}
		if len(n.order) != len(pool()) {
			t.Fatalf("%d names remain of %d", len(n.order), len(pool()))
		}
	})
}

// TestNamesRest: a name given back is the last to be used again, because EC2
// may hold it for a while.
func TestNamesRest(t *testing.T) {
	n := newNames()
	first, _ := n.reserve(nil)
	n.release(first)
	for range len(pool()) - 1 {
		name, _ := n.reserve(nil)
		if name == first {
			t.Fatalf("%s was used again while others rested longer", first)
		}
		n.release(name)
	}
	if again, _ := n.reserve(nil); again != first {
		t.Errorf("got %s after a whole round, want %s", again, first)
	}
}
