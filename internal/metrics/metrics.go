// SPDX-License-Identifier: Apache-2.0

// Package metrics is what Prometheus sees of the agent: a registry of its own,
// counters that the rest of the program bumps, and gauges read from a status
// snapshot at the moment of the scrape, so that no gauge can be stale.
//
// Label values come from closed lists and from the configuration. Text from a
// disk, from AWS or from an operator's request never becomes one.
package metrics

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// Options are what the metrics are made of. A nil list means that its label
// takes only the value "other".
type Options struct {
	Version, Revision string
	Snapshot          func() volume.Snapshot // asked at each scrape; required
	CacheEntries      func() int             // asked at each scrape; required
	HeaderReasons     []string               // the names of the header rules
	Evictions         []string               // why the cache forgets
	KMSOperations     []string               // such as Decrypt
	EC2Operations     []string               // such as AttachVolume
	OperatorVerbs     []string
	OperatorResults   []string
	Now               func() time.Time // time.Now
}

// other stands for a label value that is in no list.
const other = "other"

// classOK is the class of a request that succeeded.
const classOK = "ok"

// Metrics holds every series. Its methods do not block and may be called from anywhere.
type Metrics struct {
	registry *prometheus.Registry
	now      func() time.Time
	volumes  *volumes

	kmsRequests, ec2Requests *prometheus.CounterVec // operation, class
	kmsHeld                  *prometheus.CounterVec // class
	kmsDuration              *prometheus.HistogramVec
	cacheHits, cacheMisses   prometheus.Counter
	evictions                *prometheus.CounterVec
	stepDuration             *prometheus.HistogramVec
	stepFailures             *prometheus.CounterVec // step, class
	reconciled               prometheus.Gauge
	operator                 *prometheus.CounterVec // verb, result
	reloadOK, reloadTime     prometheus.Gauge

	kmsOperations, ec2Operations, evictionReasons, verbs, results closed
}

// New makes the metrics. Every series that needs no volume exists from now on;
// Configure adds those of the volumes.
func New(o Options) *Metrics {
	if o.Now == nil {
		o.Now = time.Now
	}
	m := &Metrics{
		registry:        prometheus.NewRegistry(),
		now:             o.Now,
		volumes:         newVolumes(o.HeaderReasons),
		kmsOperations:   newClosed(o.KMSOperations),
		ec2Operations:   newClosed(o.EC2Operations),
		evictionReasons: newClosed(o.Evictions),
		verbs:           newClosed(o.OperatorVerbs),
		results:         newClosed(o.OperatorResults),
	}
	m.define()
	m.start()
	m.registry.MustRegister(m.all()...)
	m.registry.MustRegister(
		buildInfo(o.Version, o.Revision), newSnapshotCollector(o.Snapshot),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "volseal_data_key_cache_entries", Help: "Data keys held in memory.",
		}, func() float64 { return float64(o.CacheEntries()) }),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

func (m *Metrics) define() {
	// Buckets in seconds. A call to KMS takes tens of milliseconds and at most its
	// timeout; a step takes from milliseconds to the hours of a blank check.
	requestBuckets := []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}
	stepBuckets := []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800}
	m.kmsRequests = counters("volseal_kms_requests_total", "Requests to KMS by operation and by class of the answer, ok if it succeeded.", "operation", "class")
	m.kmsHeld = counters("volseal_kms_calls_held_total", "Calls to KMS not made because it had not answered, or had throttled, a moment ago; by the class that the caller got.", "class")
	m.kmsDuration = histograms("volseal_kms_request_duration_seconds", "Time from a request to KMS to its answer or its failure.", requestBuckets, "operation")
	m.ec2Requests = counters("volseal_ec2_requests_total", "Requests to EC2 by operation and by class of the answer, ok if it succeeded.", "operation", "class")
	m.cacheHits = prometheus.NewCounter(prometheus.CounterOpts{Name: "volseal_data_key_cache_hits_total", Help: "Times a data key and a live proof of it were at hand."})
	m.cacheMisses = prometheus.NewCounter(prometheus.CounterOpts{Name: "volseal_data_key_cache_misses_total", Help: "Times KMS had to be asked for a data key or for its proof."})
	m.evictions = counters("volseal_data_key_cache_evictions_total", "Data keys forgotten, by the reason.", "reason")
	m.stepDuration = histograms("volseal_step_duration_seconds", "Time taken by a step of a volume's life cycle, failed or not.", stepBuckets, "step")
	m.stepFailures = counters("volseal_step_failures_total", "Steps that failed, by class of the failure.", "step", "class")
	m.reconciled = gauge("volseal_last_reconcile_timestamp_seconds", "When a pass over any volume last ended.")
	m.operator = counters("volseal_operator_requests_total", "Verbs that operators asked for, by the result.", "verb", "result")
	m.reloadOK = gauge("volseal_config_last_reload_successful", "Whether the configuration was sound when it was last read: 1 or 0.")
	m.reloadTime = gauge("volseal_config_last_reload_success_timestamp_seconds", "When a sound configuration was last taken into use.")
}

// start creates every series at 0, so that increase() sees the first failure.
func (m *Metrics) start() {
	for _, op := range m.kmsOperations.all() {
		m.kmsDuration.WithLabelValues(op)
		for _, c := range answers() {
			m.kmsRequests.WithLabelValues(op, c)
		}
	}
	for _, c := range envelope.Holds() {
		m.kmsHeld.WithLabelValues(string(c))
	}
	for _, op := range m.ec2Operations.all() {
		for _, c := range answers() {
			m.ec2Requests.WithLabelValues(op, c)
		}
	}
	for _, reason := range m.evictionReasons.all() {
		m.evictions.WithLabelValues(reason)
	}
	for _, s := range volume.Steps() {
		m.stepDuration.WithLabelValues(string(s))
		for _, c := range fault.Classes() {
			m.stepFailures.WithLabelValues(string(s), string(c))
		}
	}
	for _, verb := range m.verbs.all() {
		for _, result := range m.results.all() {
			m.operator.WithLabelValues(verb, result)
		}
	}
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{
		m.kmsRequests, m.kmsHeld, m.kmsDuration, m.ec2Requests, m.cacheHits, m.cacheMisses, m.evictions,
		m.stepDuration, m.stepFailures, m.reconciled, m.operator, m.reloadOK, m.reloadTime,
	}
}

func buildInfo(version, revision string) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "volseal_build_info", Help: "Always 1; what this agent was built from.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "goversion": runtime.Version()},
	}, func() float64 { return 1 })
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
}
