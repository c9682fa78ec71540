// SPDX-License-Identifier: Apache-2.0

package metrics

import "sync"

// volumes are the counters that exist once for each configured volume. What is
// told of a volume that has left the configuration is dropped, so that a late
// word cannot bring a removed series back.
type volumes struct {
	decryptFailures, mountRefusals *steady // by class
	headerRejections               *steady // by rule
	reasons                        closed

	mu         sync.RWMutex
	configured map[string]bool
}

func newVolumes(headerReasons []string) *volumes {
	return &volumes{
		decryptFailures:  newSteady("volseal_decrypt_failures_total", "Times the data key of a volume could not be had or proved, by class.", "class"),
		mountRefusals:    newSteady("volseal_mount_refusals_total", "Times a volume that should be mounted was refused, by class.", "class"),
		headerRejections: newSteady("volseal_header_rejections_total", "Headers that policy or their MAC refused, by the rule.", "reason"),
		reasons:          newClosed(headerReasons),
		configured:       map[string]bool{},
	}
}

func (v *volumes) families() []*steady {
	return []*steady{v.decryptFailures, v.mountRefusals, v.headerRejections}
}

// configure has series for exactly these volumes. Those that stay keep their counts.
func (v *volumes) configure(names []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	next := make(map[string]bool, len(names))
	for _, name := range names {
		next[name] = true
		if !v.configured[name] {
			v.start(name)
		}
	}
	for name := range v.configured {
		if !next[name] {
			v.remove(name)
		}
	}
	v.configured = next
}

func (v *volumes) start(name string) {
	v.decryptFailures.start(name, failures())
	v.mountRefusals.start(name, failures())
	v.headerRejections.start(name, v.reasons.all())
}

func (v *volumes) remove(name string) {
	for _, s := range v.families() {
		s.remove(name)
	}
}

// count adds one to a series of a configured volume.
func (v *volumes) count(s *steady, name, cause string) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.configured[name] {
		s.inc(name, cause)
	}
}
