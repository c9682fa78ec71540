// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/volseal/volseal/internal/volume"
)

// value is a node with where it stands. Each accessor either returns what it
// was asked for, or records a problem and returns false.
type value struct {
	doc  *document
	path string
	line int
	node ast.Node
}

func (v value) problem(message, hint string) { v.doc.add(v.line, v.path, message, hint) }

func (v value) wrong(want, hint string) {
	v.problem(fmt.Sprintf("must be %s, not %s", want, kind(v.node)), hint)
}

func (v value) text() (string, bool) {
	if s, ok := v.node.(*ast.StringNode); ok {
		return s.Value, true
	}
	hint := ""
	switch v.node.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		hint = fmt.Sprintf("put it in quotes: %q", v.node.GetToken().Value)
	}
	v.wrong("text", hint)
	return "", false
}

// oneOf returns text that is among the choices.
func (v value) oneOf(choices ...string) (string, bool) {
	s, ok := v.text()
	if !ok {
		return "", false
	}
	for _, c := range choices {
		if s == c {
			return s, true
		}
	}
	v.problem(fmt.Sprintf("%s is not possible", quote(s)), "use one of: "+strings.Join(choices, ", "))
	return "", false
}

func (v value) onRevocation() (volume.Policy, bool) {
	s, ok := v.oneOf(string(volume.DenyNew), string(volume.LockGraceful), string(volume.LockFreeze))
	return volume.Policy(s), ok
}

func (v value) boolean() (bool, bool) {
	if b, ok := v.node.(*ast.BoolNode); ok {
		return b.Value, true
	}
	v.wrong("true or false", "")
	return false, false
}

func (v value) integer(least, most int64) (int, bool) {
	n, ok := v.node.(*ast.IntegerNode)
	if !ok {
		v.wrong("a whole number", "")
		return 0, false
	}
	var i int64
	switch x := n.Value.(type) {
	case int64:
		i = x
	case uint64:
		i = int64(min(x, uint64(most)+1))
	}
	if i < least || i > most {
		v.problem(fmt.Sprintf("must lie between %d and %d", least, most), "")
		return 0, false
	}
	return int(i), true
}

func (v value) duration(least, most time.Duration) (time.Duration, bool) {
	const hint = "write a number with its unit, such as 500ms, 10s, 15m or 1h"
	s, ok := v.node.(*ast.StringNode)
	if !ok {
		v.wrong("a duration", hint)
		return 0, false
	}
	d, err := time.ParseDuration(s.Value)
	if err != nil {
		v.problem(fmt.Sprintf("%s is not a duration", quote(s.Value)), hint)
		return 0, false
	}
	if d < least || d > most {
		v.problem(fmt.Sprintf("must lie between %s and %s", short(least), short(most)), "")
		return 0, false
	}
	return d, true
}

// list returns the items, at most limit of them.
func (v value) list(limit int) []value {
	s, ok := v.node.(*ast.SequenceNode)
	if !ok {
		v.wrong("a list", "write it as [one, two]")
		return nil
	}
	if len(s.Values) > limit {
		v.problem(fmt.Sprintf("has %d items, at most %d are possible", len(s.Values), limit), "")
		return nil
	}
	items := make([]value, 0, len(s.Values))
	for i, n := range s.Values {
		items = append(items, value{doc: v.doc, path: fmt.Sprintf("%s[%d]", v.path, i), line: lineOf(n, v.line), node: n})
	}
	return items
}

// pair is an entry of a mapping.
type pair struct {
	key string
	value
}

// pairs returns the entries of a mapping, without those whose key occurred
// before; an absent document has none.
func (v value) pairs() []pair {
	var entries []*ast.MappingValueNode
	switch n := v.node.(type) {
	case *ast.MappingNode:
		entries = n.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{n}
	case nil:
	default:
		v.wrong("a mapping", "write it as key: value")
	}
	first := map[string]int{}
	var out []pair
	for _, e := range entries {
		p, ok := v.pair(e)
		if !ok {
			continue
		}
		if line, again := first[p.key]; again {
			p.problem(fmt.Sprintf("duplicate key, first on line %d", line), "remove one of the two")
			continue
		}
		first[p.key] = p.line
		out = append(out, p)
	}
	return out
}

func (v value) pair(e *ast.MappingValueNode) (pair, bool) {
	line := lineOf(e.Key, v.line)
	k, ok := e.Key.(*ast.StringNode)
	if !ok {
		v.doc.add(line, v.path, "keys must be text", "put the key in quotes")
		return pair{}, false
	}
	path := k.Value
	if strings.ContainsFunc(path, notPlain) || path == "" {
		path = quote(path)
	}
	if v.path != "" {
		path = v.path + "." + path
	}
	return pair{k.Value, value{doc: v.doc, path: path, line: line, node: e.Value}}, true
}

// field is a key that a mapping may have, and what to do with its value.
type field struct {
	name string
	set  func(value)
}

// object hands each entry to the field of its name, and reports entries that
// belong to none. It returns the line of each field that is present.
func (v value) object(fields []field) map[string]int {
	lines := map[string]int{}
	for _, p := range v.pairs() {
		if f := find(fields, p.key); f != nil {
			lines[p.key] = p.line
			f.set(p.value)
			continue
		}
		p.problem("unknown key", suggest(p.key, fields))
	}
	return lines
}

func find(fields []field, name string) *field {
	for i := range fields {
		if fields[i].name == name {
			return &fields[i]
		}
	}
	return nil
}

func lineOf(n ast.Node, otherwise int) int {
	if n == nil || n.GetToken() == nil {
		return otherwise
	}
	return n.GetToken().Position.Line
}

func notPlain(r rune) bool { return r <= ' ' || r > '~' || r == '.' || r == '"' }

// quote shows the operator's text, bounded and without control characters.
func quote(s string) string {
	const limit = 80
	if len(s) > limit {
		return fmt.Sprintf("%q…", s[:limit])
	}
	return fmt.Sprintf("%q", s)
}

// short prints 15m where Duration's own String prints 15m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
