// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"slices"
	"time"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

var (
	_ volume.Recorder   = (*Metrics)(nil)
	_ envelope.Observer = (*Metrics)(nil)
)

// Configure has series for exactly these volumes, by name; call it after each
// configuration that was taken into use.
func (m *Metrics) Configure(names []string) { m.volumes.configure(names) }

// Reloaded records that the configuration was read, and whether it was sound.
func (m *Metrics) Reloaded(sound bool) {
	if !sound {
		m.reloadOK.Set(0)
		return
	}
	m.reloadOK.Set(1)
	m.reloadTime.Set(seconds(m.now()))
}

// Step records a step of a volume's life cycle and the class of its failure.
func (m *Metrics) Step(_ string, step volume.Step, class fault.Class, took time.Duration) {
	name := string(step)
	if !slices.Contains(volume.Steps(), step) {
		name = other
	}
	m.stepDuration.WithLabelValues(name).Observe(took.Seconds())
	if class != fault.None {
		m.stepFailures.WithLabelValues(name, failure(class)).Inc()
	}
}

// DecryptFailed records that a volume's data key could not be had or proved.
func (m *Metrics) DecryptFailed(name string, class fault.Class) {
	m.volumes.count(m.volumes.decryptFailures, name, failure(class))
}

// MountRefused records that a volume was not mounted although it should be.
func (m *Metrics) MountRefused(name string, class fault.Class) {
	m.volumes.count(m.volumes.mountRefusals, name, failure(class))
}

// HeaderRejected records which rule refused a header.
func (m *Metrics) HeaderRejected(name, reason string) {
	m.volumes.count(m.volumes.headerRejections, name, m.volumes.reasons.of(reason))
}

// Reconciled records that a pass ended.
func (m *Metrics) Reconciled(string) { m.reconciled.Set(seconds(m.now())) }

// KMSRequest records a request to KMS: its operation, the class of the answer
// (None if it succeeded) and the time it took.
func (m *Metrics) KMSRequest(operation string, class fault.Class, took time.Duration) {
	operation = m.kmsOperations.of(operation)
	m.kmsRequests.WithLabelValues(operation, answer(class)).Inc()
	m.kmsDuration.WithLabelValues(operation).Observe(took.Seconds())
}

// EC2Request records a request to EC2, as KMSRequest does; its time is not kept.
func (m *Metrics) EC2Request(operation string, class fault.Class, _ time.Duration) {
	m.ec2Requests.WithLabelValues(m.ec2Operations.of(operation), answer(class)).Inc()
}

// CacheHit records that a live proof was at hand.
func (m *Metrics) CacheHit() { m.cacheHits.Inc() }

// CacheMiss records that KMS had to be asked.
func (m *Metrics) CacheMiss() { m.cacheMisses.Inc() }

// CacheEvicted records that a data key was forgotten, and why.
func (m *Metrics) CacheEvicted(reason string) {
	m.evictions.WithLabelValues(m.evictionReasons.of(reason)).Inc()
}

// CallHeld records a call to KMS that was not made, and why: Unreachable or Throttled.
func (m *Metrics) CallHeld(class fault.Class) {
	if slices.Contains(envelope.Holds(), class) {
		m.kmsHeld.WithLabelValues(string(class)).Inc()
	}
}

// OperatorRequest records a verb and what came of it.
func (m *Metrics) OperatorRequest(verb, result string) {
	m.operator.WithLabelValues(m.verbs.of(verb), m.results.of(result)).Inc()
}

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
