// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// askAddress is where questions are answered: a place that bash reaches by itself.
const askAddress = "127.0.0.1:7"

const (
	askTimeout  = 10 * time.Second // for one question with its answer
	askMaxBytes = 4 << 20          // of what the asked server says
)

// asker answers what scenarios ask again and again while they wait for it. To start
// curl and jq for each look costs most of a second under emulation, and takes the
// processor from what is waited for.
//
// A question is a line, `json WHERE PATH FIELD` or `line WHERE PATH PREFIX`: GET
// PATH of the server at WHERE, a Unix socket or host:port, and tell one field of
// the object, as `jq -r .FIELD` does, or what follows the prefix and a space on the
// first line that has both. The answer is one line: + and what was found, or - and
// why there is none.
type asker struct{ client *http.Client }

func newAsker() *asker {
	var d net.Dialer
	dial := func(ctx context.Context, _, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		if path, err := fromHost(host); err == nil {
			return d.DialContext(ctx, "unix", path)
		}
		return d.DialContext(ctx, "tcp", address)
	}
	return &asker{&http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true}}}
}

// toHost writes a socket's path as a host name, so that connections to it are kept.
func toHost(path string) string { return fmt.Sprintf("%x.unix", path) }

func fromHost(host string) (path string, err error) {
	digits, ok := strings.CutSuffix(host, ".unix")
	if !ok {
		return "", errors.New("not a socket")
	}
	var raw []byte
	_, err = fmt.Sscanf(digits, "%x", &raw)
	return string(raw), err
}

// serve answers until ctx is done.
func (a *asker) serve(ctx context.Context, l net.Listener) {
	context.AfterFunc(ctx, func() { l.Close() })
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go a.converse(ctx, conn)
	}
}

func (a *asker) converse(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	context.AfterFunc(ctx, func() { conn.Close() })
	question, err := bufio.NewReader(io.LimitReader(conn, 64<<10)).ReadString('\n')
	if err != nil {
		return
	}
	answer, err := a.answer(ctx, strings.TrimSuffix(question, "\n"))
	if err != nil {
		answer = "-" + err.Error()
	} else {
		answer = "+" + answer
	}
	fmt.Fprintln(conn, strings.ReplaceAll(answer, "\n", " "))
}

func (a *asker) answer(ctx context.Context, question string) (string, error) {
	words := strings.SplitN(question, " ", 4)
	if len(words) != 4 {
		return "", errors.New("a question has four words")
	}
	body, err := a.get(ctx, words[1], words[2])
	if err != nil {
		return "", err
	}
	switch words[0] {
	case "json":
		return field(body, words[3])
	case "line":
		return afterPrefix(body, words[3]+" "), nil
	}
	return "", fmt.Errorf("nobody knows what %q asks", words[0])
}

func (a *asker) get(ctx context.Context, where, path string) ([]byte, error) {
	address := where
	if strings.HasPrefix(where, "/") {
		address = toHost(where)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return nil, err
	}
	if where != address {
		req.Host = "socket" // one word, as of no browser
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, askMaxBytes))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return body, err
}

// field is one member of an object, a.b.c: a string as it is, all else as JSON.
func field(body []byte, path string) (string, error) {
	value := json.RawMessage(body)
	for name := range strings.SplitSeq(path, ".") {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(value, &object); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		if value = object[name]; value == nil {
			value = json.RawMessage("null")
		}
	}
	var text string
	if value[0] == '"' {
		err := json.Unmarshal(value, &text)
		return text, err
	}
	var compact bytes.Buffer
	err := json.Compact(&compact, value)
	return compact.String(), err
}

// afterPrefix is what follows on the first line that begins so, or "".
func afterPrefix(body []byte, prefix string) string {
	for line := range bytes.Lines(body) {
		if rest, ok := bytes.CutPrefix(line, []byte(prefix)); ok {
			return strings.TrimSpace(string(rest))
		}
	}
	return ""
}
