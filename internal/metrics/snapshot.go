// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// snapshotCollector turns one status snapshot into gauges at each scrape.
type snapshotCollector struct {
	snapshot                                        func() volume.Snapshot
	phase, class, survives, frozen, lastProof, keys *prometheus.Desc
	rotating, rotationClass, reencrypted            *prometheus.Desc
}

func newSnapshotCollector(snapshot func() volume.Snapshot) snapshotCollector {
	return snapshotCollector{
		snapshot:  snapshot,
		phase:     desc("volseal_volume_phase", "How far a volume is open: 1 for its phase, 0 for the others.", "volume", "phase"),
		class:     desc("volseal_volume_error", "The class of the error that stands for a volume: 1 for that class, 0 for the others.", "volume", "class"),
		survives:  desc("volseal_volume_would_survive_reboot", "Whether the volume would be mounted again after a reboot now: 1 or 0.", "volume"),
		frozen:    desc("volseal_volume_frozen", "Whether all I/O of the volume waits because its key was taken out of the kernel: 1 or 0.", "volume"),
		lastProof: desc("volseal_volume_last_proof_timestamp_seconds", "When the volume's key was last proved usable; 0 if not since the agent started.", "volume"),
		rotating:  desc("volseal_volume_rotation_pending", "Whether a rotation of the volume's keys is under way: 1 or 0.", "volume"),
		keys:      desc("volseal_key_state", "The state of a CMK, by its key id: 1 for that state, 0 for the others.", "key", "state"),
		rotationClass: desc("volseal_volume_rotation_error",
			"The class of the error that keeps a volume's rotation: 1 for that class, 0 for the others; only while a rotation is under way.", "volume", "class"),
		reencrypted: desc("volseal_reencrypt_progress_ratio",
			"How much of the data is under the new volume key, from 0 to 1; only while a reencryption is under way.", "volume"),
	}
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (c snapshotCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.phase, c.class, c.survives, c.frozen, c.lastProof, c.keys, c.rotating, c.rotationClass, c.reencrypted} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c snapshotCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.snapshot()
	for _, v := range s.Volumes {
		c.collectVolume(ch, v)
	}
	for id, state := range keyStates(s.Keys) {
		for _, k := range volume.KeyStates() {
			ch <- value(c.keys, boolean(k == state), id, string(k))
		}
	}
}

func (c snapshotCollector) collectVolume(ch chan<- prometheus.Metric, v volume.Status) {
	for _, p := range volume.Phases() {
		ch <- value(c.phase, boolean(p == v.Phase), v.Name, string(p))
	}
	for _, k := range fault.Classes() {
		ch <- value(c.class, boolean(k == v.Class), v.Name, string(k))
	}
	ch <- value(c.survives, boolean(v.WouldSurviveReboot), v.Name)
	ch <- value(c.frozen, boolean(v.Frozen()), v.Name)
	if r := v.Rotation; r != nil && r.TotalBytes > 0 {
		ch <- value(c.reencrypted, float64(r.DoneBytes)/float64(r.TotalBytes), v.Name)
	}
	proved := 0.0
	if v.LastProof != nil {
		proved = seconds(*v.LastProof)
	}
	ch <- value(c.lastProof, proved, v.Name)
	c.collectRotation(ch, v)
}

// collectRotation tells why one is kept only while there is one: these are as many
// series as there are classes.
func (c snapshotCollector) collectRotation(ch chan<- prometheus.Metric, v volume.Status) {
	ch <- value(c.rotating, boolean(v.Rotation != nil), v.Name)
	if v.Rotation == nil {
		return
	}
	for _, k := range fault.Classes() {
		ch <- value(c.rotationClass, boolean(k == v.Rotation.Class), v.Name, string(k))
	}
}

// keyStates are the states by key id. One id may stand for two ARNs (a
// multi-Region key); the worse news wins, because one series cannot show both
// and two of one name would end the whole scrape.
func keyStates(keys []volume.KeyStatus) map[string]volume.KeyState {
	states := make(map[string]volume.KeyState, len(keys))
	for _, k := range keys {
		id := keyID(k.ARN)
		if s, ok := states[id]; ok && s != volume.KeyUsable {
			continue
		}
		states[id] = k.State
	}
	return states
}

// keyID is what follows the last slash of a key ARN.
func keyID(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// value is a gauge. One that cannot be made fails the scrape, and not the agent.
func value(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	m, err := prometheus.NewConstMetric(d, prometheus.GaugeValue, v, labels...)
	if err != nil {
		return prometheus.NewInvalidMetric(d, err)
	}
	return m
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
