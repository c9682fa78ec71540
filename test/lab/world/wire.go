// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// wire is the proxy in front of a service, where its faults on the way happen.
type wire struct {
	proxy *toxiproxy.Proxy
	slow  bool // answers are under way that are held back
}

// newWire starts a proxy to upstream (host:port) on a loopback port.
func newWire(name, upstream string) (*wire, error) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, name, "127.0.0.1:0", upstream)
	if err := proxy.Start(); err != nil {
		return nil, fmt.Errorf("start proxy to %s: %w", name, err)
	}
	return &wire{proxy: proxy}, nil
}

func (w *wire) addr() string { return w.proxy.Listen }

// toxic is toxiproxy's word for a fault on one direction of the wire.
type toxic struct {
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Stream     string         `json:"stream"`
	Attributes map[string]int `json:"attributes"`
}

// toxics translates a fault of the wire; ok is false for one that is none of it.
func toxics(fault string) (list []toxic, ok bool, err error) {
	name, value, _ := strings.Cut(fault, "=")
	switch name {
	case "blackhole": // both ways: what was asked before must not be answered either
		forever := map[string]int{"timeout": 0}
		return []toxic{{"ask", "timeout", "upstream", forever}, {"answer", "timeout", "downstream", forever}}, value == "", nil
	case "reset":
		return []toxic{{"reset", "reset_peer", "upstream", map[string]int{"timeout": 0}}}, value == "", nil
	case "latency":
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 {
			return nil, true, fmt.Errorf("set fault %q: want a duration such as latency=250ms", fault)
		}
		return []toxic{{"latency", "latency", "downstream", map[string]int{"latency": int(d.Milliseconds())}}}, true, nil
	default:
		return nil, false, nil
	}
}

// set replaces the faults of the wire. Answers that a slow wire held back are let
// through where all is well from then on; where broken is another fault, in the
// service maybe, they are lost with their connections: the agent was not to be
// answered, and would be after all.
func (w *wire) set(ctx context.Context, list []toxic, broken bool) (err error) {
	if w.slow && broken {
		w.proxy.Stop()
		defer func() { err = errors.Join(err, w.proxy.Start()) }()
	}
	w.slow = false
	w.proxy.Toxics.ResetToxics(ctx)
	for _, t := range list {
		w.slow = w.slow || t.Type == "latency"
		raw, err := json.Marshal(t)
		if err != nil {
			return fmt.Errorf("encode wire fault: %w", err)
		}
		if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(string(raw))); err != nil {
			return fmt.Errorf("set wire fault: %w", err)
		}
	}
	return nil
}

func (w *wire) close() error {
	w.proxy.Stop()
	return nil
}
