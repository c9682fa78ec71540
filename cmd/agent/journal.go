// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
)

// newLogger logs to the journal with one field for each attribute, where
// systemd gave us one, and otherwise as text.
func newLogger(stderr io.Writer) *slog.Logger {
	if os.Getenv("JOURNAL_STREAM") != "" && journal.Enabled() {
		return slog.New(&journalHandler{})
	}
	return slog.New(slog.NewTextHandler(stderr, nil))
}

// journalHandler sends records to journald: the message with its attributes as
// text for people, and each attribute as a field VOLSEAL_KEY for queries such
// as `journalctl -u volseal VOLSEAL_VOLUME=orders`.
type journalHandler struct {
	attrs []slog.Attr
}

func (h *journalHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journalHandler{attrs: append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

// WithGroup keeps attributes flat: the journal's fields are.
func (h *journalHandler) WithGroup(string) slog.Handler { return h }

func (h *journalHandler) Handle(_ context.Context, r slog.Record) error {
	fields := map[string]string{"SYSLOG_IDENTIFIER": "volseal"}
	text := []string{r.Message}
	add := func(a slog.Attr) bool {
		v := a.Value.Resolve().String()
		if v == "" {
			return true
		}
		fields[fieldName(a.Key)] = v
		text = append(text, a.Key+"="+quoteIfNeeded(v))
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	return journal.Send(strings.Join(text, " "), priority(r.Level), fields)
}

func priority(l slog.Level) journal.Priority {
	switch {
	case l >= slog.LevelError:
		return journal.PriErr
	case l >= slog.LevelWarn:
		return journal.PriWarning
	case l >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}

// fieldName makes a valid journal field: upper case, digits and underscores.
func fieldName(key string) string {
	return "VOLSEAL_" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
}

func quoteIfNeeded(v string) string {
	if strings.ContainsAny(v, " =\"\n") {
		return "\"" + strings.NewReplacer("\"", "'", "\n", " ").Replace(v) + "\""
	}
	return v
}
