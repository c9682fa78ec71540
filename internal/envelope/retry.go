// SPDX-License-Identifier: Apache-2.0

package envelope

import "maps"

// ForgetRefusals has the next Prove under a CMK ask KMS, whatever it refused,
// failed to answer or throttled a moment ago, and ends the waits of those who are
// about to ask. Data keys and proofs stay: other volumes may be about to mount.
func (k *Keyring) ForgetRefusals(keyARN string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forgetRefusals(keyARN)
}

func (k *Keyring) forgetRefusals(keyARN string) {
	k.opened(keyARN)
	maps.DeleteFunc(k.refusals, func(_ digest, r refusal) bool { return r.keyARN == keyARN })
}
