// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/volseal/volseal/internal/config"
	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// TestHintsAreInOneTable protects the one place in which hints are read and
// mended together: a hint of the command line's own is written in hints.go. The
// agent's come with their fault, which knows more.
func TestHintsAreInOneTable(t *testing.T) {
	sources, err := filepath.Glob("*.go")
	if err != nil || len(sources) < 10 {
		t.Fatalf("sources: %v %v", sources, err)
	}
	files := token.NewFileSet()
	for _, source := range sources {
		if source == "hints.go" || strings.HasSuffix(source, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(files, source, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for node := range ast.Preorder(parsed) {
			if where, own := ownHint(node); own {
				t.Errorf("%s: this hint belongs into hints.go", files.Position(where))
			}
		}
	}
}

// ownHint finds hint: "…", e.hint = "…" and item{…, …, "…"}.
func ownHint(node ast.Node) (token.Pos, bool) {
	switch n := node.(type) {
	case *ast.KeyValueExpr:
		key, ok := n.Key.(*ast.Ident)
		return n.Pos(), ok && key.Name == "hint" && isText(n.Value)
	case *ast.AssignStmt:
		field, ok := n.Lhs[0].(*ast.SelectorExpr)
		return n.Pos(), ok && field.Sel.Name == "hint" && isText(n.Rhs[0])
	case *ast.CompositeLit:
		name, ok := n.Type.(*ast.Ident)
		return n.Pos(), ok && name.Name == "item" && len(n.Elts) == 3 && isText(n.Elts[2])
	}
	return token.NoPos, false
}

func isText(e ast.Expr) bool {
	switch x := e.(type) {
	case *ast.BasicLit:
		return x.Kind == token.STRING
	case *ast.BinaryExpr:
		return isText(x.X) || isText(x.Y)
	}
	return false
}

// TestEveryFailureHasAHint protects from a summary that leaves one alone.
func TestEveryFailureHasAHint(t *testing.T) {
	failures := []error{
		errors.New("odd"), context.Canceled, &fault.Error{Cause: "c", Class: fault.Integrity},
		config.Problems{{File: "f", Message: "m"}},
		&standsError{order: volume.Order{Verb: volume.VerbLock}}, &standsError{order: volume.Order{Verb: volume.VerbLock}, outcome: control.Superseded},
	}
	for _, class := range fault.Classes() {
		failures = append(failures, &standsError{order: volume.Order{Verb: volume.VerbLock}, status: volume.Status{Class: class}})
	}
	for _, code := range []control.Code{
		control.CodeBadRequest, control.CodeNotFound, control.CodeMethodNotAllowed, control.CodeTooLarge,
		control.CodeUnsupportedMedia, control.CodeInternal, control.CodeFailed,
	} {
		failures = append(failures, &stepError{"s", &control.Error{Code: code, Message: "m"}})
	}
	for _, err := range failures {
		for _, i := range itemsOf(err) {
			if i.hint == "" || i.cause == "" || i.step == "" {
				t.Errorf("%v: %+v", err, i)
			}
		}
	}
}
