// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// steady is a family of counters by volume and reason that hardly ever move.
// There is one for each of some seventy rules of each volume, so nine in ten
// series of a scrape are these: making, checking and sorting them anew each
// time took most of the scrape. So the family is made after a change, and the
// same one is handed out until the next.
type steady struct {
	name, help string

	mu     sync.Mutex
	counts map[steadyKey]float64
	made   *dto.MetricFamily // of counts as they are; never changed once made; nil after a change
}

type steadyKey struct{ reason, volume string } // in the order in which series are sorted

func newSteady(name, help string) *steady {
	return &steady{name: name, help: help, counts: map[steadyKey]float64{}}
}

// start has series for a volume from now on, at 0.
func (s *steady) start(volume string, reasons []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range reasons {
		s.counts[steadyKey{r, volume}] += 0
	}
	s.made = nil
}

// remove drops a volume's series.
func (s *steady) remove(volume string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.counts, func(k steadyKey, _ float64) bool { return k.volume == volume })
	s.made = nil
}

func (s *steady) inc(volume, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[steadyKey{reason, volume}]++
	s.made = nil
}

// family is the family as it is now. The caller must not change it.
func (s *steady) family() *dto.MetricFamily {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made != nil {
		return s.made
	}
	s.made = &dto.MetricFamily{Name: &s.name, Help: &s.help, Type: dto.MetricType_COUNTER.Enum()}
	keys := slices.SortedFunc(maps.Keys(s.counts), func(a, b steadyKey) int {
		return cmp.Or(cmp.Compare(a.reason, b.reason), cmp.Compare(a.volume, b.volume))
	})
	for _, k := range keys {
		s.made.Metric = append(s.made.Metric, &dto.Metric{
			Label: []*dto.LabelPair{
				{Name: new("reason"), Value: new(k.reason)},
				{Name: new("volume"), Value: new(k.volume)},
			},
			Counter: &dto.Counter{Value: new(s.counts[k])},
		})
	}
	return s.made
}

// gatherer is a registry and a steady family beside it, in order of their names.
type gatherer struct {
	registry *prometheus.Registry
	steady   *steady
}

// Gather implements prometheus.Gatherer.
func (g gatherer) Gather() ([]*dto.MetricFamily, error) {
	families, err := g.registry.Gather()
	extra := g.steady.family()
	if len(extra.Metric) == 0 {
		return families, err
	}
	at, _ := slices.BinarySearchFunc(families, extra.GetName(), func(f *dto.MetricFamily, name string) int {
		return cmp.Compare(f.GetName(), name)
	})
	return slices.Insert(families, at, extra), err
}
