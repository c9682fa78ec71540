// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// The bounds of a scrape. Prometheus itself gives up after 10 s.
const (
	scrapesAtOnce = 4
	scrapeTimeout = 10 * time.Second
	headerTimeout = 5 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 8 << 10
)

// Handler answers GET /metrics, and nothing else.
func (m *Metrics) Handler(log *slog.Logger) http.Handler {
	registry := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		// A scrape that fails is seen by `up`; half a scrape is taken for the whole.
		ErrorHandling:       promhttp.HTTPErrorOnError,
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelError),
		MaxRequestsInFlight: scrapesAtOnce,
		Timeout:             scrapeTimeout,
		DisableCompression:  true, // the scraper is on this host, or near
	})
	all := followed(registry, m.volumes.families()...)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Accept") // every scraper reads the text format, and the steady part has no other
		all.ServeHTTP(w, r)
	})
	return mux
}

// Serve answers on ln until ctx ends; it closes ln. It may be called once for each listener.
func (m *Metrics) Serve(ctx context.Context, ln net.Listener, log *slog.Logger) error {
	h := &http.Server{
		Handler:           m.Handler(log),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       headerTimeout,
		WriteTimeout:      scrapeTimeout + headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stopped := context.AfterFunc(ctx, func() { h.Close() }) // a scrape cut short is one gap
	defer stopped()
	err := h.Serve(ln)
	if errors.Is(err, http.ErrServerClosed) && ctx.Err() != nil {
		return nil
	}
	return err
}
