// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

// What was tried stands for what is equal to the byte, opened by the same token,
// a moment later; and for nothing else, least of all for what did not open.
func TestTriedStandsForNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newWorld()
		w := &worker{ports: Ports{Crypt: world}}
		key, err := envelope.SecretFrom(make([]byte, 32))
		if err != nil {
			t.Fatal(err)
		}
		defer key.Destroy()
		tries := func(sum, mac byte) (n int, err error) {
			before := world.tries
			err = w.try(t.Context(), &Header{Sum: [32]byte{sum}}, Candidate{Token: envelope.Token{MAC: []byte{mac}}}, key)
			return world.tries - before, err
		}
		world.slotBroken = true
		for range 2 {
			if n, err := tries(1, 1); n != 1 || err == nil {
				t.Errorf("a broken keyslot: %d tries, %v", n, err)
			}
		}
		world.slotBroken = false
		for _, c := range []struct {
			what     string
			sum, mac byte
			later    time.Duration
			want     int
		}{
			{"for the first time", 1, 1, 0, 1},
			{"the same", 1, 1, 0, 0},
			{"another token", 1, 2, 0, 1},
			{"another header", 2, 1, 0, 1},
			{"the first one still", 1, 1, triedLasts - 1, 0},
			{"the first one later", 1, 1, 1, 1},
		} {
			time.Sleep(c.later)
			if n, err := tries(c.sum, c.mac); n != c.want || err != nil {
				t.Errorf("%s: %d tries, want %d; %v", c.what, n, c.want, err)
			}
		}
		for sum := range byte(100) {
			w.opened(&Header{Sum: [32]byte{sum}}, Candidate{})
		}
		if len(w.tried) != triedKept {
			t.Errorf("%d are kept", len(w.tried))
		}
	})
}

// A re-wrap tries no header twice that did not change: the one that it finds, the
// image with both tokens, and the image with the new one.
func TestRewrapTriesEachHeaderOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := mountedWorld(t, dir)
		intend(t, dir, rewrapTo(newARN))
		w.set(func() { w.tries = 0 })
		h := startHost(t, w, dir)
		defer h.stop()
		moved(t, w, h, dir)
		tries := 0
		if w.set(func() { tries = w.tries - 1 }); tries != 3 { // one is the verification's in moved
			t.Errorf("%d keyslots tried", tries)
		}
	})
}

// A keyslot that breaks once both tokens are on the device is found before anything
// depends on the new one: what was tried was another header.
func TestKeyslotThatBreaksUnderARewrap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := mountedWorld(t, dir)
		intend(t, dir, rewrapTo(newARN))
		w.restored = func() { w.slotBroken = true } // under w.mu
		h := startHost(t, w, dir)
		defer h.stop()
		s := h.await("told", func(s Status) bool { return s.Rotation != nil && s.Rotation.Class != "" })
		if s.Rotation.Class != fault.Integrity || s.KeyARN != testARN || claimOf(t, dir).Rewrap.Moved {
			t.Errorf("status %+v", s)
		}
	})
}
