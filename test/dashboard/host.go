// SPDX-License-Identifier: Apache-2.0

package dashboard

import (
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/envelope/kms"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/metrics"
	"github.com/volseal/volseal/internal/volume"
	"github.com/volseal/volseal/internal/volume/ebs"
)

// grace is revocation_grace.
const grace = 15 * time.Minute

// host is an agent as far as its metrics show: what it does at each scrape.
type host struct {
	name  string
	disks []*disk
	m     *metrics.Metrics
	keys  *volume.KeyBook
	rand  *rand.Rand
	now   time.Duration
	down  bool
	stuck bool          // it answers, and looks at nothing
	lag   time.Duration // from the end of its last pass to the scrape

	held  map[string]time.Duration // data keys in the cache, by database: when they were proved
	waits fault.Class              // why the rest of this moment's calls are not made
	fresh bool                     // it has done nothing yet
}

// disk is a volume and what the script needs to know of it.
type disk struct {
	volume.Status
	customer string
	freezes  bool // lock-freeze
	tampered bool // its header
	revoked  time.Duration
}

// database: a volume and the one for its log share a data key.
func (d *disk) database() string { return strings.TrimSuffix(d.Name, "-wal") }

func newHost(name string, disks ...[]*disk) *host {
	h := &host{name: name, disks: slices.Concat(disks...)}
	seed := fnv.New64a()
	seed.Write([]byte(name))
	h.rand = rand.New(rand.NewPCG(seed.Sum64(), 1))
	h.now = -before
	h.boot()
	return h
}

// boot is a host that starts: nothing is attached, and all counters are at 0.
func (h *host) boot() {
	h.held, h.keys, h.down, h.fresh = map[string]time.Duration{}, volume.NewKeyBook(), false, true
	version := "0.2.0"
	if h.name == "db3" {
		version = "0.1.0"
	}
	h.m = metrics.New(metrics.Options{
		Version: version, Revision: "5ee540ebb7af",
		Snapshot: h.snapshot, CacheEntries: func() int { return len(h.held) },
		// Of some seventy reasons these: the others would stay at 0, and double the samples.
		HeaderReasons: envelope.Reasons(), Evictions: envelope.Evictions(),
		KMSOperations: kms.Operations(), EC2Operations: ebs.Operations(),
		OperatorVerbs: control.Verbs(), OperatorResults: control.Results(),
		Now: func() time.Time { return begin().Add(h.now - h.lag) },
	})
	var names, arns []string
	for _, d := range h.disks {
		names, arns = append(names, d.Name), append(arns, d.KeyARN)
		d.Phase, d.Mapping, d.WouldSurviveReboot, d.LastProof, d.Class = volume.Detached, "", false, nil, fault.None
	}
	h.m.Configure(names)
	h.m.Reloaded(true)
	h.keys.Keep(arns)
}

func (h *host) snapshot() volume.Snapshot {
	s := volume.Snapshot{Keys: h.keys.List()}
	for _, d := range h.disks {
		s.Volumes = append(s.Volumes, d.Status)
	}
	return s
}

func (h *host) named(name string) *disk {
	return h.disks[slices.IndexFunc(h.disks, func(d *disk) bool { return d.Name == name })]
}

// do lets something happen to the host at a moment.
func (h *host) do(at time.Duration, what func(*host)) {
	h.now = at
	what(h)
}

func (h *host) verb(verb, result string) { h.m.OperatorRequest(verb, result) }

func (h *host) lock(name string) {
	d := h.named(name)
	h.step(d, volume.StepUnmount, fault.None, 2*time.Second)
	h.step(d, volume.StepClose, fault.None, 200*time.Millisecond)
	d.Wish, d.Phase, d.Mapping, d.WouldSurviveReboot = volume.WishSealed, volume.Sealed, "", false
	h.forget(d.database(), "purged")
}

func (h *host) unlock(name string) { h.named(name).Wish = volume.WishMounted }

// flush forgets every data key.
func (h *host) flush(reason string) {
	for _, d := range h.disks {
		h.forget(d.database(), reason)
	}
}

func (h *host) forget(database, reason string) {
	if _, ok := h.held[database]; ok {
		delete(h.held, database)
		h.m.CacheEvicted(reason)
	}
}

func (h *host) step(d *disk, s volume.Step, class fault.Class, about time.Duration) {
	h.m.Step(d.Name, s, class, h.around(about))
}

// around is a time that differs a little each time.
func (h *host) around(t time.Duration) time.Duration {
	return time.Duration(float64(t) * (0.6 + 0.8*h.rand.Float64()))
}
