// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// The image is made of what the host's own apt uses: its mirror, its keyring,
// its proxy. Third parties' sources are left out, or the guest would depend on
// whose host built it.

// aptSources copies the host's sources of the suite into dir and returns the
// files; none means that mmdebstrap's own default is used.
func aptSources(etc, suite, dir string) ([]string, error) {
	var out []string
	names, err := filepath.Glob(filepath.Join(etc, "sources.list.d", "*"))
	if err != nil {
		return nil, fmt.Errorf("list apt sources: %w", err)
	}
	for _, name := range append([]string{filepath.Join(etc, "sources.list")}, names...) {
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read apt sources: %w", err)
		}
		var kept string
		switch filepath.Ext(name) {
		case ".list":
			kept = keepLines(string(text), suite)
		case ".sources":
			kept = keepStanzas(string(text), suite)
		}
		if kept == "" {
			continue
		}
		target := filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(target, []byte(kept), 0o644); err != nil {
			return nil, fmt.Errorf("copy apt sources: %w", err)
		}
		out = append(out, target)
	}
	return out, nil
}

// keepLines picks the lines "deb [options] URI SUITE COMPONENT…" of a suite.
func keepLines(text, suite string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb ")
		if !ok {
			continue
		}
		if rest = strings.TrimSpace(rest); strings.HasPrefix(rest, "[") {
			_, rest, _ = strings.Cut(rest, "]")
		}
		fields := strings.Fields(rest)
		if len(fields) > 2 && ofSuite(fields[1], suite) && slices.Contains(fields[2:], "main") {
			kept.WriteString(strings.TrimSpace(line) + "\n")
		}
	}
	return kept.String()
}

// keepStanzas picks the deb822 stanzas of a suite, without their comments.
func keepStanzas(text, suite string) string {
	var kept []string
	for stanza := range strings.SplitSeq(text, "\n\n") {
		fields := map[string][]string{}
		var lines []string
		for line := range strings.Lines(stanza) {
			if line = strings.TrimRight(line, " \t\r\n"); line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			lines = append(lines, line)
			if name, value, ok := strings.Cut(line, ":"); ok && name == strings.TrimLeft(name, " \t") {
				fields[strings.ToLower(name)] = strings.Fields(value)
			}
		}
		isSuite := func(s string) bool { return ofSuite(s, suite) }
		if slices.Contains(fields["types"], "deb") && slices.ContainsFunc(fields["suites"], isSuite) &&
			slices.Contains(fields["components"], "main") && !slices.Contains(fields["enabled"], "no") {
			kept = append(kept, strings.Join(lines, "\n")+"\n")
		}
	}
	return strings.Join(kept, "\n")
}

func ofSuite(s, suite string) bool {
	return s == suite || s == suite+"-updates" || s == suite+"-security"
}

// aptSetting is what of the host's apt configuration a download depends on.
var aptSetting = regexp.MustCompile(`^Acquire::(https?::.+|Check-Valid-Until|Check-Date|Retries) ".+"$`)

// aptOptions are the host's settings of that kind, each as one option of apt.
func aptOptions(ctx context.Context) ([]string, error) {
	out, err := exec.CommandContext(ctx, "apt-config", "dump", "--format", "%F \"%v\"%n", "Acquire").Output()
	if err != nil {
		return nil, fmt.Errorf("read apt configuration: %w", err)
	}
	return pickOptions(string(out)), nil
}

func pickOptions(dump string) []string {
	var options []string
	for line := range strings.Lines(dump) {
		if line = strings.TrimSpace(line); aptSetting.MatchString(line) {
			options = append(options, line)
		}
	}
	return options
}
