// SPDX-License-Identifier: Apache-2.0

// Package dashboard draws packaging/prometheus/volseal-dashboard.json, so that
// somebody can look at it where no Grafana is: docs/img/dashboard-*.svg.
//
// Real are the metrics (internal/metrics, as an agent answers a scrape), the
// states they are made of (volume.Status, volume.KeyBook), the Prometheus that
// holds them and evaluates each query, and the JSON. A model is what happened
// (story.go): three hours of six hosts, told by a script, in which each class of
// trouble has its turn. So is the drawing: it does what the JSON says, in simple
// shapes, and refuses what it does not know, so that nothing in the JSON is
// passed over in silence.
//
// A panel that has no data, or more than it has room for, is reported with the
// drawing, and fails the test.
//
// What must not live here: anything that the product imports.
package dashboard
