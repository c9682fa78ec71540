// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// steady is a family of counters by volume and reason that hardly ever move.
// There is one for each of some seventy rules of each volume, so nine in ten
// series of a scrape are these: making, checking, sorting and printing them anew
// took most of each scrape. So their text is made after a change, and the same
// one is handed out until the next.
type steady struct {
	name, help string

	mu     sync.Mutex
	counts map[steadyKey]float64
	made   []byte // the text of counts as they are; nil after a change
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

// text is the family as it is now, in Prometheus' text format. The caller must
// not change it.
func (s *steady) text() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made == nil && len(s.counts) > 0 {
		var b bytes.Buffer
		if _, err := expfmt.MetricFamilyToText(&b, s.family()); err != nil {
			return nil, fmt.Errorf("print %s: %w", s.name, err)
		}
		s.made = b.Bytes()
	}
	return s.made, nil
}

// family is called with s.mu held.
func (s *steady) family() *dto.MetricFamily {
	f := &dto.MetricFamily{Name: &s.name, Help: &s.help, Type: dto.MetricType_COUNTER.Enum()}
	keys := slices.SortedFunc(maps.Keys(s.counts), func(a, b steadyKey) int {
		return cmp.Or(cmp.Compare(a.reason, b.reason), cmp.Compare(a.volume, b.volume))
	})
	for _, k := range keys {
		f.Metric = append(f.Metric, &dto.Metric{
			Label: []*dto.LabelPair{
				{Name: new("reason"), Value: new(k.reason)},
				{Name: new("volume"), Value: new(k.volume)},
			},
			Counter: &dto.Counter{Value: new(s.counts[k])},
		})
	}
	return f
}

// after answers as h does, which must be in the text format, and then with the
// family; where h fails, with h's failure alone.
func (s *steady) after(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := s.text()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		watched := &statusWatch{ResponseWriter: w, status: http.StatusOK}
		h.ServeHTTP(watched, r)
		if watched.status == http.StatusOK {
			_, _ = w.Write(text) // a scraper that left is no error of ours
		}
	})
}

// statusWatch remembers the status that was answered.
type statusWatch struct {
	http.ResponseWriter
	status int
}

func (w *statusWatch) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}
