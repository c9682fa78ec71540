// SPDX-License-Identifier: Apache-2.0

package config

import "strings"

// suggest is the hint for an unknown key: the likeliest known one, else all.
func suggest(key string, fields []field) string {
	best, distance := "", len(key)/3+2
	names := make([]string, 0, len(fields))
	for _, f := range fields {
		names = append(names, f.name)
		if d := edits(key, f.name); d < distance {
			best, distance = f.name, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	return "known keys here: " + strings.Join(names, ", ")
}

// edits is the Levenshtein distance of two short words. Overlong ones are far
// from everything: they are not worth the quadratic work.
func edits(a, b string) int {
	const longest = 64
	if len(a) > longest || len(b) > longest {
		return longest
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
