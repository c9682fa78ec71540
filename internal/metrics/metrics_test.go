// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/metrics"
	"github.com/volseal/volseal/internal/volume"
)

var update = flag.Bool("update", false, "write the golden files anew")

func at(hour int) time.Time { return time.Date(2026, 1, 2, hour, 0, 0, 0, time.UTC) }

func ptr[T any](v T) *T { return &v }

func options(s volume.Snapshot) metrics.Options {
	return metrics.Options{
		Version: "1.2.3", Revision: "abcdef",
		Snapshot:        func() volume.Snapshot { return s },
		CacheEntries:    func() int { return 2 },
		HeaderReasons:   []string{"mac", "cipher"},
		Evictions:       []string{"expired", "revoked"},
		KMSOperations:   []string{"Decrypt"},
		EC2Operations:   []string{"AttachVolume"},
		OperatorVerbs:   []string{"lock"},
		OperatorResults: []string{"accepted", "denied"},
		Now:             func() time.Time { return at(5) },
	}
}

func scrape(t testing.TB, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler(slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("scrape: %d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// ours leaves out what the Go runtime and the kernel say of the process, and
// the version of Go.
func ours(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "volseal_") || strings.Contains(line, " volseal_") {
			b.WriteString(strings.ReplaceAll(line, runtime.Version(), "go1.0"))
		}
	}
	return b.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got), -update writes it anew:\n%s", name, diff)
	}
}

// TestAtStart protects increase(): every counter of a configured volume is there
// at 0 before anything has happened.
func TestAtStart(t *testing.T) {
	m := metrics.New(options(volume.Snapshot{
		Volumes: []volume.Status{{Name: "orders", Phase: volume.Detached}},
		Keys:    []volume.KeyStatus{{ARN: "arn:aws:kms:us-east-1:111111111111:key/k1", State: volume.KeyUnknown}},
	}))
	m.Configure([]string{"orders"})
	golden(t, "start.prom", ours(scrape(t, m)))
}

// TestEverything protects the names, labels and units that dashboards and alerts use.
func TestEverything(t *testing.T) {
	m := metrics.New(options(volume.Snapshot{
		Volumes: []volume.Status{
			{Name: "billing", Phase: volume.Quarantined, Class: fault.Integrity},
			{Name: "ledger", Phase: volume.Sealed, Mapping: "volseal-ledger", Class: fault.Revoked},
			{
				Name: "orders", Phase: volume.Mounted, Mapping: "volseal-orders", WouldSurviveReboot: true, LastProof: ptr(at(4)),
				Rotation: &volume.Rotation{
					Class: fault.Misconfigured, Reencrypt: true, Stage: volume.RotationReencrypting, DoneBytes: 1 << 30, TotalBytes: 4 << 30,
				},
			},
		},
		Keys: []volume.KeyStatus{{ARN: "arn:aws:kms:us-east-1:111111111111:key/k1", State: volume.KeyUsable}},
	}))
	m.Configure([]string{"orders", "billing"})
	m.Reloaded(true)
	m.Reloaded(false)
	m.Reconciled("orders")
	m.Step("orders", volume.StepMount, fault.None, 300*time.Millisecond)
	m.Step("billing", volume.StepOpen, fault.Integrity, 2*time.Second)
	m.DecryptFailed("billing", fault.Integrity)
	m.MountRefused("billing", fault.Integrity)
	m.HeaderRejected("billing", "mac")
	m.KMSRequest("Decrypt", fault.None, 20*time.Millisecond)
	m.KMSRequest("Decrypt", fault.Revoked, 30*time.Millisecond)
	m.EC2Request("AttachVolume", fault.Throttled, time.Second)
	m.CacheHit()
	m.CacheMiss()
	m.CacheEvicted("revoked")
	m.CallHeld(fault.Throttled)
	m.OperatorRequest("lock", "denied")
	golden(t, "metrics.prom", ours(scrape(t, m)))
}

// TestLint protects Prometheus's conventions, the collectors of others included.
func TestLint(t *testing.T) {
	m := metrics.New(options(volume.Snapshot{Volumes: []volume.Status{{Name: "orders"}}, Keys: []volume.KeyStatus{{ARN: "k"}}}))
	m.Configure([]string{"orders"})
	problems, err := promlint.New(strings.NewReader(scrape(t, m))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestLabelsAreClosed protects against an attacker who writes a header, and
// against anybody else whose words could become label values.
func TestLabelsAreClosed(t *testing.T) {
	m := metrics.New(options(volume.Snapshot{}))
	m.Configure([]string{"orders"})
	before := strings.Count(ours(scrape(t, m)), "\n")
	const hostile = "hostile\xff\"} 1\n"
	for i := range 100 {
		word := fmt.Sprint(hostile, i)
		m.HeaderRejected("orders", word)
		m.HeaderRejected(word, "mac")
		m.DecryptFailed("orders", fault.Class(word))
		m.DecryptFailed(word, fault.Revoked)
		m.MountRefused(word, fault.Class(word))
		m.Step("orders", volume.StepOpen, fault.Class(word), 0)
		m.KMSRequest(word, fault.Class(word), 0)
		m.EC2Request(word, fault.Class(word), 0)
		m.CacheEvicted(word)
		m.CallHeld(fault.Class(word))
		m.OperatorRequest(word, word)
	}
	text := scrape(t, m)
	if strings.Contains(text, "hostile") {
		t.Error("a stranger's word became a label")
	}
	if after := strings.Count(ours(text), "\n"); after != before {
		t.Errorf("%d lines grew to %d", before, after)
	}
	if !strings.Contains(text, `volseal_header_rejections_total{reason="other",volume="orders"} 100`) {
		t.Error("rejections for unlisted reasons were not counted")
	}
}

// TestVolumesComeAndGo protects a reload: new volumes start at 0, those that
// stay keep their counts, and a late word brings nobody back.
func TestVolumesComeAndGo(t *testing.T) {
	m := metrics.New(options(volume.Snapshot{}))
	m.Configure([]string{"orders", "billing"})
	m.DecryptFailed("orders", fault.Revoked)
	m.Configure([]string{"orders", "audit"})
	m.DecryptFailed("billing", fault.Revoked)
	text := scrape(t, m)
	for line, want := range map[string]bool{
		`volseal_decrypt_failures_total{class="revoked",volume="orders"} 1`: true,
		`volseal_decrypt_failures_total{class="revoked",volume="audit"} 0`:  true,
		`volume="billing"`: false,
	} {
		if got := strings.Contains(text, line); got != want {
			t.Errorf("%s: present %v, want %v", line, got, want)
		}
	}
}

// TestCountsMove protects the counts that page: a family that was handed out
// before is not handed out again after a failure or a reload.
func TestCountsMove(t *testing.T) {
	m := metrics.New(options(volume.Snapshot{}))
	m.Configure([]string{"orders", "billing"})
	for _, want := range []string{"0", "1", "2"} {
		for range 2 {
			text := scrape(t, m)
			for _, series := range []string{
				`volseal_header_rejections_total{reason="mac",volume="orders"} `,
				`volseal_decrypt_failures_total{class="revoked",volume="orders"} `,
				`volseal_mount_refusals_total{class="revoked",volume="orders"} `,
			} {
				if !strings.Contains(text, series+want+"\n") {
					t.Errorf("no %s%s", series, want)
				}
			}
		}
		m.HeaderRejected("orders", "mac")
		m.DecryptFailed("orders", fault.Revoked)
		m.MountRefused("orders", fault.Revoked)
	}
	m.Configure([]string{"billing"})
	if strings.Contains(scrape(t, m), `volume="orders"`) {
		t.Error("series of a volume that left the configuration")
	}
	m.Configure(nil)
	scrape(t, m)
}

// TestOneKeyInTwoRegions protects the scrape: two ARNs of one key id are one
// series, and the worse news wins.
func TestOneKeyInTwoRegions(t *testing.T) {
	m := metrics.New(options(volume.Snapshot{Keys: []volume.KeyStatus{
		{ARN: "arn:aws:kms:us-east-1:111111111111:key/mrk-1", State: volume.KeyUsable},
		{ARN: "arn:aws:kms:us-west-2:111111111111:key/mrk-1", State: volume.KeyRevoked},
	}}))
	if text := scrape(t, m); !strings.Contains(text, `volseal_key_state{key="mrk-1",state="revoked"} 1`) {
		t.Error("the revoked key does not show")
	}
}

// TestBadLabelFailsTheScrape protects the agent: Prometheus's library panics on
// a value that is no UTF-8, and a scrape may not end what keeps databases open.
func TestBadLabelFailsTheScrape(t *testing.T) {
	m := metrics.New(options(volume.Snapshot{Volumes: []volume.Status{{Name: "\xff"}}}))
	w := httptest.NewRecorder()
	m.Handler(slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusInternalServerError {
		t.Errorf("status %d", w.Code)
	}
}

// TestServe protects the listener's life: it answers, knows only /metrics, and ends with its context.
func TestServe(t *testing.T) {
	m := metrics.New(options(volume.Snapshot{}))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Serve(ctx, ln, slog.New(slog.DiscardHandler)) }()
	for path, want := range map[string]int{"/metrics": 200, "/": 404, "/debug/pprof/": 404} {
		resp, err := http.Get("http://" + ln.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// BenchmarkScrape is a scrape of a host with 64 volumes, compared with one of none.
func BenchmarkScrape(b *testing.B) {
	for _, n := range []int{0, 64} {
		b.Run(fmt.Sprintf("volumes=%d", n), func(b *testing.B) {
			var s volume.Snapshot
			var names []string
			for i := range n {
				name := fmt.Sprintf("volume-%d", i)
				names = append(names, name)
				s.Volumes = append(s.Volumes, volume.Status{Name: name, Phase: volume.Mounted})
				s.Keys = append(s.Keys, volume.KeyStatus{ARN: "key/" + name, State: volume.KeyUsable})
			}
			o := options(s)
			for i := range 70 { // about as many as there are
				o.HeaderReasons = append(o.HeaderReasons, fmt.Sprintf("reason-%d", i))
			}
			m := metrics.New(o)
			m.Configure(names)
			h := m.Handler(slog.New(slog.DiscardHandler))
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
				b.ReportMetric(float64(w.Body.Len()), "bytes/scrape")
			}
		})
	}
}

// TestFailedScrapeIsNoHalfScrape: what is appended to a scrape must not turn its
// failure into an answer with some of the series.
func TestFailedScrapeIsNoHalfScrape(t *testing.T) {
	o := options(volume.Snapshot{})
	o.Snapshot = func() volume.Snapshot { // no label value: the registry refuses the scrape
		return volume.Snapshot{Keys: []volume.KeyStatus{{ARN: "key/\xff", State: volume.KeyUsable}}}
	}
	m := metrics.New(o)
	m.Configure([]string{"orders"})
	w := httptest.NewRecorder()
	m.Handler(slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "volseal_header_rejections_total{") {
		t.Errorf("%d: %.200s", w.Code, w.Body)
	}
}
