// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of canonical JSON. A LUKS2 metadata area with its 16 KiB fits easily.
const (
	maxCanonicalBytes = 64 << 10
	maxCanonicalDepth = 16
	maxInteger        = 1<<53 - 1 // beyond this, JSON readers disagree about numbers
)

// Canonical returns v as canonical JSON: what encoding/json makes of it, in the
// form and within the bounds of CanonicalJSON.
func Canonical(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode JSON: %w", err)
	}
	return CanonicalJSON(raw)
}

// CanonicalJSON rewrites one JSON value in its canonical form, the subset of
// RFC 8785 (JCS) that leaves readers nothing to disagree about: keys sorted by
// UTF-16 code units, no white space, shortest escapes, integers only. It refuses
// duplicate keys, floats, integers beyond ±(2⁵³−1), malformed UTF-8 and lone
// surrogates, U+FFFD (what lenient readers turn those into), trailing data, more
// than 64 KiB, and nesting beyond 16.
func CanonicalJSON(raw []byte) ([]byte, error) {
	v, err := decodeJSON(raw, maxCanonicalBytes)
	if err != nil {
		return nil, err
	}
	return appendValue(nil, v), nil
}

// decodeJSON reads one strict value: nil, bool, integer, string, []any or object.
func decodeJSON(raw []byte, limit int) (any, error) {
	if len(raw) > limit {
		return nil, fmt.Errorf("JSON is %d bytes long, at most %d are possible", len(raw), limit)
	}
	// Validity first: the token reader below is laxer about punctuation, and
	// replaces malformed UTF-8 silently.
	if !utf8.Valid(raw) {
		return nil, errors.New("JSON is not valid UTF-8")
	}
	if !json.Valid(raw) {
		return nil, errors.New("not one well-formed JSON value")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	v, err := readValue(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("data after the JSON value")
	}
	return v, nil
}

// integer is the checked text of a JSON integer.
type integer string

// object is a JSON object without duplicate keys.
type object map[string]any

func readValue(d *json.Decoder, depth int) (any, error) {
	if depth > maxCanonicalDepth {
		return nil, fmt.Errorf("JSON is nested deeper than %d", maxCanonicalDepth)
	}
	t, err := d.Token()
	if err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	switch t := t.(type) {
	case json.Delim:
		if t == '{' {
			return readObject(d, depth)
		}
		return readArray(d, depth)
	case json.Number:
		return readInteger(t)
	case string:
		return t, checkString(t)
	default: // nil, bool
		return t, nil
	}
}

func readObject(d *json.Decoder, depth int) (any, error) {
	o := object{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("read JSON key: %w", err)
		}
		k, _ := t.(string)
		if err := checkString(k); err != nil {
			return nil, err
		}
		if _, twice := o[k]; twice {
			return nil, fmt.Errorf("%w %.64q", errDuplicateKey, k)
		}
		if o[k], err = readValue(d, depth+1); err != nil {
			return nil, err
		}
	}
	_, err := d.Token()
	return o, err
}

func readArray(d *json.Decoder, depth int) (any, error) {
	a := []any{}
	for d.More() {
		v, err := readValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		a = append(a, v)
	}
	_, err := d.Token()
	return a, err
}

var (
	errDuplicateKey = errors.New("duplicate JSON key")
	errNotInteger   = errors.New("JSON number is not an integer within ±(2^53-1)")
	errReplacement  = errors.New("JSON string holds U+FFFD or a lone surrogate")
)

func readInteger(n json.Number) (any, error) {
	i, err := n.Int64()
	if err != nil || i > maxInteger || i < -maxInteger || n == "-0" {
		return nil, errNotInteger
	}
	return integer(n), nil
}

// checkString refuses the replacement character: the decoder puts it where a
// lone surrogate stood, and two different inputs must not become one.
func checkString(s string) error {
	if strings.ContainsRune(s, utf8.RuneError) {
		return errReplacement
	}
	return nil
}

func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return fmt.Append(b, v)
	case integer:
		return append(b, v...)
	case string:
		return appendString(b, v)
	case []any:
		return appendArray(b, v)
	case object:
		return appendObject(b, v)
	default:
		panic(fmt.Sprintf("canonical JSON of %T", v)) // decodeJSON makes no other type
	}
}

func appendArray(b []byte, a []any) []byte {
	b = append(b, '[')
	for i, v := range a {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendValue(b, v)
	}
	return append(b, ']')
}

func appendObject[V any](b []byte, o map[string]V) []byte {
	b = append(b, '{')
	for i, k := range sortedKeys(o) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, k), ':')
		b = appendValue(b, any(o[k]))
	}
	return append(b, '}')
}

// sortedKeys sorts as RFC 8785 says: by UTF-16 code units, which differs from
// the order of UTF-8 bytes where a surrogate pair meets U+E000 to U+FFFF.
func sortedKeys[V any](o map[string]V) []string {
	return slices.SortedFunc(maps.Keys(o), compareUTF16)
}

func compareUTF16(a, b string) int {
	for a != "" && b != "" {
		r, n := utf8.DecodeRuneInString(a)
		s, m := utf8.DecodeRuneInString(b)
		if r != s {
			return cmp.Compare(orderUTF16(r), orderUTF16(s))
		}
		a, b = a[n:], b[m:]
	}
	return cmp.Compare(len(a), len(b))
}

// orderUTF16 lifts U+E000 to U+FFFF above the runes that need a surrogate pair,
// whose first unit is below 0xE000.
func orderUTF16(r rune) rune {
	if r >= 0xE000 && r <= 0xFFFF {
		return r + utf8.MaxRune
	}
	return r
}

func appendString(b []byte, s string) []byte {
	const short = "\b\t\n\f\r\"\\"
	const names = `btnfr"\`
	b = append(b, '"')
	for i := range len(s) {
		c := s[i]
		if at := strings.IndexByte(short, c); at >= 0 {
			b = append(b, '\\', names[at])
		} else if c < 0x20 {
			b = fmt.Appendf(b, `\u%04x`, c)
		} else {
			b = append(b, c)
		}
	}
	return append(b, '"')
}
