// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxDepth is generous: the deepest legitimate file nests two levels.
const maxDepth = 8

// document collects the problems of one file.
type document struct {
	file     string
	problems Problems
}

// maxProblems of one file are listed: a file with more is not one of ours.
const maxProblems = 100

func (d *document) add(line int, path, message, hint string) {
	switch n := len(d.problems); {
	case n < maxProblems:
		d.problems = append(d.problems, Problem{File: d.file, Line: line, Path: path, Message: message, Hint: hint})
	case n == maxProblems:
		d.problems = append(d.problems, Problem{File: d.file, Line: line, Message: "more problems follow; they are not listed"})
	}
}

// parse returns the root of the one document in data; ok is false, and a
// problem says why, if there is none to look into. The library's own strict
// decoder stops at the first fault, so only its parser is used.
func (d *document) parse(data []byte) (root value, ok bool) {
	tokens := lexer.Tokenize(string(data))
	if !d.plain(tokens) {
		return value{}, false
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.add(syntaxError(err))
		return value{}, false
	}
	switch {
	case len(file.Docs) > 1:
		d.add(start(file.Docs[1]), "", "a second document begins here", "use one file for each volume")
		return value{}, false
	case len(file.Docs) == 0 || file.Docs[0].Body == nil:
		return value{doc: d, line: 1, node: nil}, true
	}
	return value{doc: d, line: 1, node: file.Docs[0].Body}, true
}

func start(doc *ast.DocumentNode) (line int) {
	if doc.Start == nil {
		return 0
	}
	return doc.Start.Position.Line
}

// plain refuses, before the parser sees them, the parts of YAML that let a small
// file mean a large or surprising one, and nesting that only an attack has.
func (d *document) plain(tokens token.Tokens) bool {
	before := len(d.problems)
	nesting := nesting{}
	for _, t := range tokens {
		line := t.Position.Line
		switch t.Type {
		case token.AnchorType, token.AliasType, token.TagType, token.MergeKeyType, token.DirectiveType:
			d.add(line, "", fmt.Sprintf("%s is not supported here", feature(t.Type)), "write the value out; put text that begins with such a sign in quotes")
		case token.InvalidType:
			d.add(line, "", "not YAML: "+t.Error, "")
		default:
			if ambiguousColon(t) {
				d.add(line, "", "a colon without a space after it, within { }", "put text that holds a colon in quotes")
			}
			if nesting.next(t) > maxDepth {
				d.add(line, "", fmt.Sprintf("nested more than %d levels deep", maxDepth), "")
				return false
			}
		}
	}
	return len(d.problems) == before
}

func feature(t token.Type) string {
	switch t {
	case token.AnchorType:
		return "an anchor (&)"
	case token.AliasType:
		return "an alias (*)"
	case token.TagType:
		return "a tag (!)"
	case token.MergeKeyType:
		return "a merge key (<<)"
	default:
		return "a directive (%)"
	}
}

// ambiguousColon finds {a:b: c}. By the standard the key is a:b, but the library
// reads the key a and the text "b: c": refused, before a misread encryption
// context seals a volume. Only an unquoted key is in doubt.
func ambiguousColon(t *token.Token) bool {
	if t.Type != token.MappingValueType || t.Prev == nil || t.Prev.Type != token.StringType || t.Next == nil {
		return false
	}
	here, next := t.Position, t.Next.Position
	return next.Line == here.Line && next.Column == here.Column+1 && t.Next.CharacterType != token.CharacterTypeIndicator
}

// nesting measures depth on the flat tokens: brackets that are open, or, in
// block style, the columns in which enclosing keys and list items began.
type nesting struct {
	flow    int
	columns []int
}

func (n *nesting) next(t *token.Token) int {
	switch t.Type {
	case token.MappingStartType, token.SequenceStartType:
		n.flow++
	case token.MappingEndType, token.SequenceEndType:
		n.flow--
	default:
		if n.flow == 0 {
			n.block(t)
		}
	}
	return n.flow + len(n.columns)
}

func (n *nesting) block(t *token.Token) {
	opens := t.Type == token.SequenceEntryType || t.Type == token.MappingKeyType || (t.Next != nil && t.Next.Type == token.MappingValueType)
	if !opens {
		return
	}
	column := t.Position.Column
	for len(n.columns) > 0 && n.columns[len(n.columns)-1] >= column {
		n.columns = n.columns[:len(n.columns)-1]
	}
	n.columns = append(n.columns, column)
}

// syntaxError turns the parser's error into the arguments of add.
func syntaxError(err error) (line int, path, message, hint string) {
	hint = "indent with spaces, and put text that holds a colon or a sign in quotes"
	var y yaml.Error
	if !errors.As(err, &y) {
		return 0, "", "not YAML: " + err.Error(), hint
	}
	if t := y.GetToken(); t != nil {
		line = t.Position.Line
	}
	return line, "", "not YAML: " + y.GetMessage(), hint
}

// kind names a node's type for a message.
func kind(n ast.Node) string {
	switch n.(type) {
	case nil, *ast.NullNode:
		return "nothing"
	case *ast.StringNode:
		return "text"
	case *ast.LiteralNode:
		return "a block of text"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	default:
		return "something else"
	}
}
