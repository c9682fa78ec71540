// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// newTerminal is the terminal this process was started on.
func newTerminal(stdout, stderr *os.File) terminal {
	plain := os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb"
	return terminal{
		stdout: stdout, stderr: stderr, now: time.Now,
		tty: term.IsTerminal(int(stdout.Fd())), ttyErr: term.IsTerminal(int(stderr.Fd())),
		plain: plain,
	}
}

// print prints a value as JSON, or has text print it; nothing when quiet.
func (c *cli) print(value any, text func()) error {
	switch {
	case c.quiet:
		return nil
	case !c.json:
		text()
		return nil
	}
	e := json.NewEncoder(c.stdout)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return fmt.Errorf("print JSON: %w", err)
	}
	return nil
}

// colour is an SGR code; 0 is none.
type colour int

const (
	plainText colour = 0
	red       colour = 31
	green     colour = 32
	yellow    colour = 33
)

// paint colours text for stdout, if it is a terminal that likes colour.
func (c *cli) paint(text string, with colour) string {
	if with == plainText || !c.tty || c.plain {
		return text
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", with, text)
}

// shown is text as it may be printed: whoever wrote it, nothing in it moves the
// cursor, recolours the terminal or turns the reading direction.
func shown(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\ufffd'
	}, text)
}

// width is how wide text is printed. Longer words, such as an ARN, stay whole so
// that they can be copied.
const width = 80

// wrap breaks text into lines of at most width columns, the first beginning
// with head and the others with as many blanks.
func wrap(head, text string) string {
	indent := strings.Repeat(" ", utf8.RuneCountInString(head))
	var b strings.Builder
	line, empty := head, true
	for word := range strings.FieldsSeq(text) {
		word = shown(word)
		if !empty && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			b.WriteString(line + "\n")
			line, empty = indent, true
		}
		if !empty {
			line += " "
		}
		line += word
		empty = false
	}
	return b.String() + strings.TrimRight(line, " ") + "\n"
}

// ago is a time as an age of at most three characters and a unit: 45s, 12m, 3h, 20d.
func (c *cli) ago(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return age(c.now().Sub(*t))
}

func age(d time.Duration) string {
	const day = 24 * time.Hour
	switch d = max(d, 0); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", min(d/day, 9999))
}

// clock is a time in full, in UTC.
func clock(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}
