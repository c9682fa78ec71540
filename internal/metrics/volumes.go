// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/volseal/volseal/internal/fault"
)

// volumes are the counters that exist once for each configured volume. What is
// told of a volume that has left the configuration is dropped, so that a late
// word cannot bring a removed series back.
type volumes struct {
	decryptFailures, mountRefusals *prometheus.CounterVec
	headerRejections               *steady
	reasons                        closed

	mu         sync.RWMutex
	configured map[string]bool
}

func newVolumes(headerReasons []string) *volumes {
	return &volumes{
		decryptFailures:  counters("volseal_decrypt_failures_total", "Times the data key of a volume could not be had or proved, by class.", "volume", "class"),
		mountRefusals:    counters("volseal_mount_refusals_total", "Times a volume that should be mounted was refused, by class.", "volume", "class"),
		headerRejections: newSteady("volseal_header_rejections_total", "Headers that policy or their MAC refused, by the rule."),
		reasons:          newClosed(headerReasons),
		configured:       map[string]bool{},
	}
}

func (v *volumes) collectors() []prometheus.Collector {
	return []prometheus.Collector{v.decryptFailures, v.mountRefusals}
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
	for _, c := range fault.Classes() {
		v.decryptFailures.WithLabelValues(name, string(c))
		v.mountRefusals.WithLabelValues(name, string(c))
	}
	v.headerRejections.start(name, v.reasons.all())
}

func (v *volumes) remove(name string) {
	of := prometheus.Labels{"volume": name}
	v.decryptFailures.DeletePartialMatch(of)
	v.mountRefusals.DeletePartialMatch(of)
	v.headerRejections.remove(name)
}

// reject counts a header of a configured volume.
func (v *volumes) reject(name, reason string) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.configured[name] {
		v.headerRejections.inc(name, v.reasons.of(reason))
	}
}

// count adds one to a series of a configured volume.
func (v *volumes) count(vec *prometheus.CounterVec, name, label string) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.configured[name] {
		vec.WithLabelValues(name, label).Inc()
	}
}
