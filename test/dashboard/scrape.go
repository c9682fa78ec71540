// SPDX-License-Identifier: Apache-2.0

package dashboard

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"time"
)

// job is the name of the scrape job, as docs/metrics.md has it.
const job = "volseal"

// writeSamples tells the story into a file in the OpenMetrics format, with
// the time of each sample and the labels that a scrape adds.
func writeSamples(path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := bufio.NewWriter(f)
	if err := newWorld().run(func(h *host, at time.Duration) error { return sample(out, h, at) }); err != nil {
		return err
	}
	fmt.Fprintln(out, "# EOF")
	return out.Flush()
}

// sample is one scrape of one host. Of the metrics only ours: the Go runtime's
// and the process's are not the same each time.
func sample(out *bufio.Writer, h *host, at time.Duration) error {
	to := fmt.Sprintf(`instance="%s",job="%s"`, h.name, job)
	when := begin().Add(at).Unix()
	if h.down {
		fmt.Fprintf(out, "up{%s} 0 %d\n", to, when)
		return nil
	}
	fmt.Fprintf(out, "up{%s} 1 %d\n", to, when)
	w := httptest.NewRecorder()
	h.m.Handler(slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		return fmt.Errorf("scrape %s: %d %s", h.name, w.Code, w.Body)
	}
	for line := range strings.Lines(w.Body.String()) {
		if !strings.HasPrefix(line, "volseal_") {
			continue
		}
		line = strings.ReplaceAll(strings.TrimSuffix(line, "\n"), runtime.Version(), "go1.26")
		name, value, _ := strings.Cut(line, " ")
		if name, labels, ok := strings.Cut(line, "{"); ok {
			end := strings.LastIndex(labels, "} ")
			fmt.Fprintf(out, "%s{%s,%s} %s %d\n", name, to, labels[:end], labels[end+2:], when)
			continue
		}
		fmt.Fprintf(out, "%s{%s} %s %d\n", name, to, value, when)
	}
	return nil
}
