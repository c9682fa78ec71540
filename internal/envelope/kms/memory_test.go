// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/volseal/volseal/internal/envelope"
)

// The environment of the child that TestKeyCopies looks into.
const (
	childURL = "VOLSEAL_TEST_KMS_URL"
	childCA  = "VOLSEAL_TEST_KMS_CA"
)

func TestMain(m *testing.M) {
	url := os.Getenv(childURL)
	if url == "" {
		os.Exit(m.Run())
	}
	if err := unwrapAndWait(url, os.Getenv(childCA)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// unwrapAndWait does what the agent does to open a volume. At each point of
// interest it says so, and waits while its parent looks.
func unwrapAndWait(url, ca string) error {
	in := bufio.NewReader(os.Stdin)
	pause := func(at string) {
		fmt.Println(at)
		_, _ = in.ReadString('\n')
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(ca))
	cfg := config(url)
	cfg.HTTPClient = awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	})
	ring := envelope.NewKeyring(New(NewClient(cfg), Options{Timeout: time.Minute}), envelope.Options{ProofMaxAge: time.Minute})
	p, err := ring.Prove(context.Background(), envelope.Ref{KeyARN: testARN, Context: testContext}, blob)
	if err != nil {
		return err
	}
	pause("proved")
	passphrase, mac, err := p.Derive(make([]byte, 32))
	if err != nil {
		return err
	}
	pause("derived")
	passphrase.Destroy()
	mac.Destroy()
	p.Release()
	ring.Flush()
	for range 3 {
		runtime.GC()
	}
	pause("forgotten")
	return nil
}

// Where copies of a key are that nobody can wipe, counted from outside by a
// parent that knows the key. docs/key-lifetime.md quotes these numbers.
func TestKeyCopies(t *testing.T) {
	if raced {
		t.Skip("the race detector changes what is in memory")
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	s := httptest.NewTLSServer(good(testARN, key, nil))
	t.Cleanup(s.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self)
	child.Env = append(os.Environ(), childURL+"="+s.URL, childCA+"="+string(ca))
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		found := copies(t, child.Process.Pid, traces(t, key))
		t.Logf("%s: %v", lines.Text(), found)
		judgeCopies(t, lines.Text(), found)
		_, _ = io.WriteString(in, "\n")
	}
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
}

// judgeCopies knows what is expected, with one more allowed for what the
// scheduler may have spilled. The transport's two buffers hold the answer as
// long as the connection lives; the SDK holds nothing.
func judgeCopies(t *testing.T, at string, found map[string]int) {
	t.Helper()
	if found["answer"] > 3 {
		t.Errorf("%s: %d copies of the answer", at, found["answer"])
	}
	if at == "proved" && found["data key"] > 1 {
		t.Errorf("%s: %d copies of the data key", at, found["data key"])
	}
	if at != "forgotten" || !erases {
		return
	}
	for _, what := range []string{"data key", "PRK in HMAC", "passphrase", "MAC key"} {
		if found[what] > 1 {
			t.Errorf("%d copies of the %s in spite of runtime/secret", found[what], what)
		}
	}
}

// traces are the forms in which a key may lie about.
func traces(t *testing.T, key []byte) map[string][][]byte {
	t.Helper()
	prk, err := hkdf.Extract(sha256.New, key, make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	expand := func(info string) []byte {
		b, err := hkdf.Expand(sha256.New, prk, info, 32)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	pad := func(x byte) []byte {
		b := bytes.Clone(prk)
		for i := range b {
			b[i] ^= x
		}
		return b
	}
	return map[string][][]byte{
		"data key":    {key},
		"answer":      {[]byte(base64.StdEncoding.EncodeToString(key))},
		"PRK":         {prk},
		"PRK in HMAC": {pad(0x36), pad(0x5c)},
		"passphrase":  {expand("volseal/v1 keyslot")},
		"MAC key":     {expand("volseal/v1 header mac")},
	}
}

// copies counts where the writable memory of a process holds each trace.
func copies(t *testing.T, pid int, traces map[string][][]byte) map[string]int {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Skipf("a parent may not read its child's memory here: %v", err)
	}
	defer mem.Close()
	found := map[string]int{}
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") {
			continue
		}
		b := make([]byte, to-from)
		n, _ := mem.ReadAt(b, from) // nothing of a memfd_secret: that is its point
		for what, forms := range traces {
			for _, f := range forms {
				found[what] += bytes.Count(b[:n], f)
			}
		}
	}
	return found
}
