// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/volseal/volseal/internal/volume"
)

// GeneratorName is the base name of argv[0] by which systemd runs the binary
// as a generator: early in each boot and at each daemon-reload, before /var need
// be mounted and without network, D-Bus or journal.
const GeneratorName = "volseal-generator"

// maxReported bounds the lines for the kernel log, which drops more than ten at once.
const maxReported = 6

// RunGenerator does the work of a generator. args are those of systemd: the
// directories for generated units of normal, early and late priority. load
// returns what is known of the volumes even with an error; then the units of the
// last sound configuration, kept at last, stay besides. Errors go to log, and
// never to systemd: there is nobody at boot to act on them, and every unit that
// could be written protects a database.
func RunGenerator(args []string, load func() ([]volume.Spec, error), last string, log io.Writer) {
	if len(args) == 0 {
		report(log, "run by systemd, with the directory to write units to")
		return
	}
	specs, err := load()
	if err == nil {
		err = Generate(specs, args[0])
	} else {
		report(log, "the configuration is invalid, its databases will not start: run \"volseal config check\"\n"+err.Error())
		known, unknown := recall(last) // not where /var is mounted later
		err = errors.Join(unknown, generateFrom(specs, known, args[0]))
	}
	if err != nil {
		report(log, err.Error())
	}
}

// report writes one record a line, in the form that /dev/kmsg wants, at level 3 (error).
func report(log io.Writer, text string) {
	lines := strings.Split(text, "\n")
	if more := len(lines) - maxReported; more > 0 {
		lines = append(lines[:maxReported], fmt.Sprintf("and %d more", more))
	}
	for _, line := range lines {
		if len(line) > 800 {
			line = line[:800]
		}
		fmt.Fprintf(log, "<3>%s[%d]: %s\n", GeneratorName, os.Getpid(), line)
	}
}

// KernelLog is where a generator can be heard before the journal runs. It is
// standard error where there is no such log, as in a container.
func KernelLog() io.WriteCloser {
	f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return os.Stderr
	}
	return f
}
