// SPDX-License-Identifier: Apache-2.0

package dashboard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// The bounds of what Prometheus is asked.
const (
	readyWithin = time.Minute // of a machine that does much else
	queryWithin = 10 * time.Second
	maxAnswer   = 64 << 20
)

// tools are the programs of Debian's package prometheus.
type tools struct{ promtool, prometheus string }

// prometheus is a server that holds the story, and scrapes nothing.
type prometheus struct {
	url  string
	stop func()
}

// start fills a store in dir and serves it on a loopback port.
func (t tools) start(ctx context.Context, dir string) (*prometheus, error) {
	samples, store := filepath.Join(dir, "samples.txt"), filepath.Join(dir, "data")
	if err := writeSamples(samples); err != nil {
		return nil, fmt.Errorf("tell the story: %w", err)
	}
	fill := exec.CommandContext(ctx, t.promtool, "tsdb", "create-blocks-from", "openmetrics", samples, store)
	if out, err := fill.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("fill the store: %w: %s", err, out)
	}
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte("global: {}\n"), 0o600); err != nil {
		return nil, err
	}
	return t.serve(ctx, config, store)
}

func (t tools) serve(ctx context.Context, config, store string) (*prometheus, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	var log bytes.Buffer
	ctx, stop := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, t.prometheus, "--config.file="+config, "--storage.tsdb.path="+store,
		"--storage.tsdb.retention.time=100y", "--web.listen-address="+address,
		// A scrape that fails ends its series at once. What is filled in has no mark
		// for that, so each sample must have grown too old by the next scrape.
		"--query.lookback-delta="+(scrape-time.Second).String())
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		stop()
		return nil, err
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	p := &prometheus{url: "http://" + address, stop: func() { stop(); <-ended }}
	if err := p.await(ctx, ended); err != nil {
		p.stop()
		return nil, fmt.Errorf("start Prometheus: %w: %s", err, log.Bytes())
	}
	return p, nil
}

func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// await returns once it answers queries, or has ended.
func (p *prometheus) await(ctx context.Context, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		_, err := p.get(ctx, "/-/ready", nil)
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return err
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (p *prometheus) get(ctx context.Context, path string, query url.Values) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, queryWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return body, err
}

// grid are the moments that a panel's queries are evaluated at.
type grid struct {
	from, to time.Time
	step     time.Duration
}

func (g grid) moments() int { return int(g.to.Sub(g.from)/g.step) + 1 }

// series is one of a query's results: a value for each moment of the grid, or NaN.
type series struct {
	labels map[string]string
	values []float64
}

// last is the newest value, or NaN.
func (s series) last() float64 { return s.values[len(s.values)-1] }

type answer struct {
	Data struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
			Values [][2]any
		}
	}
}

// over evaluates a query at each moment.
func (p *prometheus) over(ctx context.Context, expr string, g grid) ([]series, error) {
	return p.ask(ctx, "/api/v1/query_range", g, url.Values{
		"query": {expr}, "start": {unix(g.from)}, "end": {unix(g.to)}, "step": {g.step.String()},
	})
}

// once evaluates it at the end.
func (p *prometheus) once(ctx context.Context, expr string, at time.Time) ([]series, error) {
	return p.ask(ctx, "/api/v1/query", grid{at, at, scrape}, url.Values{"query": {expr}, "time": {unix(at)}})
}

func (p *prometheus) ask(ctx context.Context, path string, g grid, query url.Values) ([]series, error) {
	body, err := p.get(ctx, path, query)
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", query.Get("query"), err)
	}
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, fmt.Errorf("query %s: %w", query.Get("query"), err)
	}
	var all []series
	for _, r := range a.Data.Result {
		s := series{r.Metric, make([]float64, g.moments())}
		for i := range s.values {
			s.values[i] = math.NaN()
		}
		if r.Values == nil {
			r.Values = [][2]any{r.Value}
		}
		for _, pair := range r.Values {
			at, _ := pair[0].(float64)
			text, _ := pair[1].(string)
			v, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return nil, fmt.Errorf("query %s: %w", query.Get("query"), err)
			}
			s.values[int(time.Unix(int64(at), 0).Sub(g.from)/g.step)] = v
		}
		all = append(all, s)
	}
	return all, nil
}

func unix(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }
