// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"sort"
	"sync"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

// KeyBook keeps the last word on each CMK, from every answer that any volume
// got. It is shared by all workers.
type KeyBook struct {
	mu   sync.Mutex
	keys map[string]KeyStatus
}

// NewKeyBook returns an empty book.
func NewKeyBook() *KeyBook { return &KeyBook{keys: map[string]KeyStatus{}} }

// Record notes an answer about a CMK. Errors that say nothing about the CMK
// (throttled, integrity, identity, unknown, and want of memory on this host)
// leave its state as it was.
func (b *KeyBook) Record(arn string, err error) {
	class := fault.ClassOf(err)
	if fault.ReasonOf(err) == "memlock" {
		class = fault.Unknown
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	states := map[fault.Class]KeyState{
		fault.None: KeyUsable, fault.Revoked: KeyRevoked,
		fault.Unreachable: KeyUnreachable, fault.Misconfigured: KeyMisconfigured,
	}
	k, known := b.keys[arn]
	state, says := states[class]
	if !says {
		state = k.State
	}
	if state == "" {
		state = KeyUnknown
	}
	if known && k.State == state {
		return
	}
	now := time.Now().UTC()
	b.keys[arn] = KeyStatus{ARN: arn, State: state, Since: &now}
}

// Keep makes the book list exactly these CMKs: new ones are unknown, others are forgotten.
func (b *KeyBook) Keep(arns []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := map[string]KeyStatus{}
	for _, a := range arns {
		k, ok := b.keys[a]
		if !ok {
			k = KeyStatus{ARN: a, State: KeyUnknown}
		}
		kept[a] = k
	}
	b.keys = kept
}

// List returns the CMKs in order of their ARNs.
func (b *KeyBook) List() []KeyStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]KeyStatus, 0, len(b.keys))
	for _, k := range b.keys {
		list = append(list, k)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].ARN < list[j].ARN })
	return list
}
