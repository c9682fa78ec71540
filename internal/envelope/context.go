// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"fmt"
	"maps"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The pairs that every context of ours has. The volume id is deliberately not
// among them: it changes when a snapshot is restored.
const (
	PurposeKey   = "volseal:purpose"
	PurposeValue = "luks2-data-key-v1"
	DatabaseKey  = "volseal:database"
)

// Limits of a context. They keep the token under MaxTokenBytes with room for
// the wrapped key, and lie well within what KMS itself takes.
const (
	maxExtraPairs   = 8
	maxPairs        = maxExtraPairs + 2
	maxContextKey   = 64
	maxContextValue = 128
)

// Context is a KMS encryption context: public, authenticated pairs without
// which the wrapped key cannot be unwrapped. Treat it as immutable.
type Context map[string]string

// NewContext returns the encryption context of a database: our two pairs and
// the operator's extra ones. It refuses empty or long text, control characters,
// more than eight extra pairs, and keys that begin with volseal: or aws:.
func NewContext(database string, extra map[string]string) (Context, error) {
	if len(extra) > maxExtraPairs {
		return nil, fmt.Errorf("encryption context has %d pairs, at most %d are possible", len(extra), maxExtraPairs)
	}
	for k := range extra {
		if reservedKey(k) {
			return nil, fmt.Errorf("encryption context key %.64q begins with a reserved prefix (volseal: or aws:)", k)
		}
	}
	c := Context{PurposeKey: PurposeValue, DatabaseKey: database}
	maps.Copy(c, extra)
	if err := c.check(); err != nil {
		return nil, err
	}
	return c, nil
}

// Canonical returns the context as canonical JSON.
func (c Context) Canonical() []byte {
	return appendObject(nil, c)
}

// Equal reports whether both hold the same pairs.
func (c Context) Equal(o Context) bool { return maps.Equal(c, o) }

// Clone returns an independent copy.
func (c Context) Clone() Context { return maps.Clone(c) }

// check enforces the bounds that hold for any context, ours or one read from a disk.
func (c Context) check() error {
	if len(c) == 0 || len(c) > maxPairs {
		return fmt.Errorf("encryption context has %d pairs, 1 to %d are possible", len(c), maxPairs)
	}
	for k, v := range c {
		if err := checkText(k, maxContextKey); err != nil {
			return fmt.Errorf("encryption context key %.64q: %w", k, err)
		}
		if err := checkText(v, maxContextValue); err != nil {
			return fmt.Errorf("encryption context value of %q: %w", k, err)
		}
	}
	return nil
}

func reservedKey(k string) bool {
	k = strings.ToLower(k)
	return strings.HasPrefix(k, "volseal:") || strings.HasPrefix(k, "aws:")
}

func checkText(s string, limit int) error {
	switch {
	case s == "":
		return fmt.Errorf("is empty")
	case len(s) > limit:
		return fmt.Errorf("is %d bytes long, at most %d are possible", len(s), limit)
	case !utf8.ValidString(s) || strings.ContainsRune(s, utf8.RuneError):
		return fmt.Errorf("is not valid UTF-8")
	case strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("holds a control character")
	}
	return nil
}
