// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Problem is one thing wrong with the configuration.
type Problem struct {
	File    string // as it was opened
	Line    int    // 1 is the first; 0 when the file as a whole is meant
	Path    string // within the document, such as kms.timeout or mount_options[2]; "" for the document
	Message string // what is wrong
	Hint    string // what to do about it; may be empty
}

// String is FILE:LINE: PATH: MESSAGE, without what is not known.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	b.WriteString(": ")
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problems is everything wrong with the configuration, in the order of files
// and lines. It is the error of Load.
type Problems []Problem

// Error is one line for each problem, without the hints.
func (ps Problems) Error() string {
	lines := make([]string, 0, len(ps))
	for _, p := range ps {
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

// Print writes each problem on a line of its own and its hint indented below.
func (ps Problems) Print(w io.Writer) {
	for _, p := range ps {
		fmt.Fprintln(w, p)
		if p.Hint != "" {
			fmt.Fprintln(w, "  hint: "+p.Hint)
		}
	}
}

func (ps Problems) sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
}
