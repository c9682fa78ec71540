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

// steady is a family of counters by volume and cause that hardly ever move. With
// one for each of some seventy rules and each class of each volume, most series of
// a scrape are these: making, checking, sorting and printing them anew took most of
// its time. So their text is made after a change, and the same one is handed out
// until the next.
type steady struct {
	name, help string
	label      string // of the cause; it sorts before "volume"

	mu     sync.Mutex
	counts map[steadyKey]float64
	made   []byte // the text of counts as they are; nil after a change
}

type steadyKey struct{ cause, volume string } // in the order in which series are sorted

func newSteady(name, help, label string) *steady {
	return &steady{name: name, help: help, label: label, counts: map[steadyKey]float64{}}
}

// start has series for a volume from now on, at 0.
func (s *steady) start(volume string, causes []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range causes {
		s.counts[steadyKey{c, volume}] += 0
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

func (s *steady) inc(volume, cause string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[steadyKey{cause, volume}]++
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
		return cmp.Or(cmp.Compare(a.cause, b.cause), cmp.Compare(a.volume, b.volume))
	})
	for _, k := range keys {
		f.Metric = append(f.Metric, &dto.Metric{
			Label: []*dto.LabelPair{
				{Name: &s.label, Value: new(k.cause)},
				{Name: new("volume"), Value: new(k.volume)},
			},
			Counter: &dto.Counter{Value: new(s.counts[k])},
		})
	}
	return f
}

// followed answers as h does, which must be in the text format, and then with the
// families; where h fails, with h's failure alone.
func followed(h http.Handler, families ...*steady) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var texts [][]byte
		for _, s := range families {
			text, err := s.text()
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			texts = append(texts, text)
		}
		watched := &statusWatch{ResponseWriter: w, status: http.StatusOK}
		h.ServeHTTP(watched, r)
		if watched.status != http.StatusOK {
			return
		}
		for _, text := range texts {
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
