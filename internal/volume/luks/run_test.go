// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

func runFake(t *testing.T, ctx context.Context, script string, c command) ([]byte, error) {
	t.Helper()
	if c.tool == "" {
		c.tool = "cryptsetup"
	}
	if c.limit == 0 {
		c.limit = time.Minute
	}
	if len(c.args) == 0 {
		c.args = []string{"open"}
	}
	return runner{path: fakeTools(t, map[string]string{c.tool: script})}.run(ctx, c)
}

// TestRunGivesNothingAway: a tool gets a fixed environment, and the secret only
// on its standard input.
func TestRunGivesNothingAway(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "leak")
	t.Setenv("LD_PRELOAD", "")
	key := secretOf(t, 'k')
	// /proc/self is what another process of this user could see.
	script := `PATH=/usr/bin:/bin; printf '%s|' "$@"; tr '\0' '|' </proc/$$/environ; printf 'cwd=%s|' "$PWD"; printf 'stdin='; cat`
	out, err := runFake(t, t.Context(), script, command{args: []string{"open", "--", "x"}, stdin: key.Bytes()})
	if err != nil {
		t.Fatal(detail(err))
	}
	before, stdin, _ := strings.Cut(string(out), "stdin=")
	if stdin != strings.Repeat("k", secretBytes) {
		t.Errorf("standard input was %q", stdin)
	}
	if strings.Contains(before, "kkkk") || strings.Contains(before, "leak") {
		t.Errorf("given away: %q", before)
	}
	if !strings.HasPrefix(before, "open|--|x|LC_ALL=C|PATH=/") || strings.Count(before, "=") != 3 || !strings.Contains(before, "cwd=/|") {
		t.Errorf("arguments, environment, directory: %q", before)
	}
}

// TestExitCodes: each of cryptsetup's has its sentinel; other tools' have none.
func TestExitCodes(t *testing.T) {
	for code, want := range map[int]error{1: errUsage, 2: errWrongKey, 3: errMemory, 4: errDevice, 5: errExists} {
		_, err := runFake(t, t.Context(), fmt.Sprintf("echo said >&2; exit %d", code), command{})
		if !errors.Is(err, want) || !strings.Contains(err.Error(), "said") {
			t.Errorf("exit %d: %v, want %v", code, err, want)
		}
		_, err = runFake(t, t.Context(), fmt.Sprintf("exit %d", code), command{tool: "dmsetup"})
		if err == nil || errors.Is(err, want) {
			t.Errorf("dmsetup, exit %d: %v", code, err)
		}
	}
	if _, err := runFake(t, t.Context(), "exit 77", command{}); err == nil || errors.Is(err, errUsage) {
		t.Errorf("exit 77: %v", err)
	}
}

// TestOutputIsBounded: a tool that talks without end fills no memory, and its
// half answer is no answer.
func TestOutputIsBounded(t *testing.T) {
	out, err := runFake(t, t.Context(), "/usr/bin/head -c 3000000 /dev/zero", command{})
	if err == nil || len(out) > maxStdout {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	_, err = runFake(t, t.Context(), "/usr/bin/head -c 3000000 /dev/zero >&2; exit 1", command{})
	var exit *exitError
	if !errors.As(err, &exit) || len(exit.stderr) != maxStderr {
		t.Errorf("standard error: %d bytes", len(exit.stderr))
	}
}

// TestInputIsBounded: what does not fit the pipe would block before the tool starts.
func TestInputIsBounded(t *testing.T) {
	if _, err := runFake(t, t.Context(), "cat", command{stdin: bytes.Repeat([]byte{1}, maxStdin+1)}); err == nil {
		t.Error("accepted")
	}
	if _, err := runFake(t, t.Context(), "exit 0", command{stdin: bytes.Repeat([]byte{1}, maxStdin)}); err != nil {
		t.Error("a tool that reads nothing:", err)
	}
}

// TestTimeLimit: a tool that hangs is asked to end, and the caller is told what
// ended it: its own context, or the limit.
func TestTimeLimit(t *testing.T) {
	hang := `trap 'exit 0' TERM; while :; do /usr/bin/sleep 0.05; done`
	for name, script := range map[string]string{
		"ends well when asked": hang, "fails when asked": strings.Replace(hang, "exit 0", "exit 9", 1), "dies when asked": "exec /usr/bin/sleep 60",
	} {
		_, err := runFake(t, t.Context(), script, command{limit: 200 * time.Millisecond})
		if err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("limit, %s: %v", name, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := runFake(t, ctx, hang, command{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("context: %v", err)
	}
	if _, err := runFake(t, canceled(), "exit 0", command{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled before: %v", err)
	}
}

// TestFindTool: only absolute directories of ours are searched, and only for
// what can be executed.
func TestFindTool(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cryptsetup"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	real := fakeTools(t, map[string]string{"cryptsetup": "exit 0"})
	if file, err := (runner{path: dir + ":" + real}).find("cryptsetup"); err != nil || file != filepath.Join(real, "cryptsetup") {
		t.Errorf("found %q, %v", file, err)
	}
	t.Chdir(real)
	for _, path := range []string{"", ".", dir, ":"} {
		_, err := runner{path: path}.find("cryptsetup")
		wantReason(t, err, fault.Misconfigured, "tool-missing")
	}
}
