// SPDX-License-Identifier: Apache-2.0

// Package deps asserts who may import whom. It holds no code, only the rules
// and the reason for each, so that whoever breaks one is told what it protects.
package deps

import (
	"errors"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/volseal/volseal/"

// rule forbids imports. Paths are import paths below the module, or whole ones
// of other modules; a trailing /... covers the path and all below it.
type rule struct {
	in        []string // the packages it binds
	except    []string // those among them that are free of it
	forbidden []string
	allowed   []string // exceptions to forbidden
	reason    string
}

var product = []string{"cmd/...", "internal/...", "packaging/..."}

func rules() []rule {
	return []rule{
		{
			in:        product,
			except:    []string{"internal/volume/ebs", "internal/envelope/kms", "cmd/agent"},
			forbidden: []string{"github.com/aws/...", "github.com/aws/smithy-go/..."},
			reason:    "the AWS SDK stays in the two adapters and the wiring: everywhere else an AWS error would be read without its class",
		},
		{
			in:        product,
			except:    []string{"internal/volume/luks", "internal/volume/mount"},
			forbidden: []string{"os/exec"},
			reason:    "a process is started in one place, which sets its context, environment and limits and turns its exit status into a class",
		},
		{
			in:        []string{"internal/envelope"},
			forbidden: []string{module + "..."},
			allowed:   []string{module + "internal/fault"},
			reason:    "what handles plaintext keys is read by auditors: it must be understood without the rest of the program",
		},
		{
			in:        []string{"internal/volume/ebs/...", "internal/volume/device/...", "internal/volume/luks/...", "internal/volume/mount/..."},
			forbidden: []string{module + "internal/volume/ebs/...", module + "internal/volume/device/...", module + "internal/volume/luks/...", module + "internal/volume/mount/..."},
			reason:    "adapters meet only in the domain, which decides: one that calls another takes a step that no plan shows",
		},
		{
			in:        product,
			forbidden: []string{module + "test/..."},
			reason:    "the lab's emulators and attacks must not be linked into what runs as root on a database host",
		},
		{
			in:        []string{"internal/volume"},
			forbidden: []string{"github.com/aws/...", "os/exec", "golang.org/x/sys/...", "syscall", "github.com/godbus/...", "github.com/coreos/go-systemd/..."},
			reason:    "the domain is tested over every combination of facts: it can touch the world only through its ports",
		},
		{
			in:        []string{"internal/fault"},
			forbidden: []string{module + "...", "github.com/...", "golang.org/..."},
			reason:    "every package speaks of faults, so this one may know none of them",
		},
		{
			in:        product,
			forbidden: []string{"unsafe", "C"},
			except:    []string{"internal/envelope", "internal/control/peercred", "internal/volume/luks"},
			reason:    "only the memory that holds keys and two system calls without a wrapper are handled raw, and the binary is built without cgo",
		},
	}
}

// pkg is a package and what it imports. Imports of tests are left out: a test
// may use the lab and may start a process.
type pkg struct {
	ImportPath string
	Imports    []string
}

func TestForbiddenImports(t *testing.T) {
	packages := list(t)
	if len(packages) == 0 {
		t.Fatal("no packages found: nothing was checked")
	}
	for _, r := range rules() {
		for _, p := range packages {
			for _, imported := range r.broken(p) {
				t.Errorf("%s must not import %s: %s", p.ImportPath, imported, r.reason)
			}
		}
	}
}

// TestRulesBite protects the rules themselves: one whose pattern matches nothing would pass for ever.
func TestRulesBite(t *testing.T) {
	for name, p := range map[string]pkg{
		"sdk in the domain":         {module + "internal/volume", []string{"github.com/aws/aws-sdk-go-v2/aws"}},
		"sdk in the envelope":       {module + "internal/envelope", []string{"github.com/aws/smithy-go"}},
		"exec in the agent":         {module + "cmd/agent", []string{"os/exec"}},
		"exec below an adapter":     {module + "internal/volume/luks/deep", []string{"os/exec"}},
		"config in the envelope":    {module + "internal/envelope", []string{module + "internal/config"}},
		"device in luks":            {module + "internal/volume/luks", []string{module + "internal/volume/device"}},
		"lab in the agent":          {module + "cmd/agent", []string{module + "test/lab/kms"}},
		"system call in domain":     {module + "internal/volume", []string{"golang.org/x/sys/unix"}},
		"anything of ours in fault": {module + "internal/fault", []string{module + "internal/config"}},
	} {
		found := false
		for _, r := range rules() {
			found = found || len(r.broken(p)) > 0
		}
		if !found {
			t.Errorf("%s: no rule forbids it", name)
		}
	}
}

// broken returns the imports of p that the rule forbids.
func (r rule) broken(p pkg) []string {
	path := strings.TrimPrefix(p.ImportPath, module)
	if !matchAny(r.in, path) || matchAny(r.except, path) {
		return nil
	}
	var bad []string
	for _, imported := range p.Imports {
		if matchAny(r.forbidden, imported) && !matchAny(r.allowed, imported) && !within(p, imported) {
			bad = append(bad, imported)
		}
	}
	return bad
}

// within: a package and what lies below it are one adapter.
func within(p pkg, imported string) bool {
	return strings.HasPrefix(imported, p.ImportPath+"/") || strings.HasPrefix(p.ImportPath, imported+"/")
}

func matchAny(patterns []string, path string) bool {
	for _, pattern := range patterns {
		base, tree := strings.CutSuffix(pattern, "...")
		base = strings.TrimSuffix(base, "/")
		if path == base || tree && strings.HasPrefix(path, base+"/") {
			return true
		}
	}
	return false
}

// list reads the sources itself rather than ask `go list`: it sees files of
// every build tag, and go test knows which files the result stands on, so that
// a cached pass is never a stale one.
func list(t *testing.T) []pkg {
	t.Helper()
	const root = "../.."
	imports := map[string][]string{}
	for _, pattern := range product {
		dir := strings.TrimSuffix(pattern, "/...")
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			below, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			found, err := importsOf(path)
			imports[module+below] = append(imports[module+below], found...)
			return err
		})
		if err != nil {
			t.Fatalf("read sources: %v", err)
		}
	}
	var packages []pkg
	for path, imported := range imports {
		packages = append(packages, pkg{ImportPath: path, Imports: imported})
	}
	return packages
}

func importsOf(path string) ([]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var imports []string
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		imports = append(imports, imported)
	}
	return imports, nil
}
